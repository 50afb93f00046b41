/* Answers of the milter protocol, as calls of libmilter's. */
#include "config.h"

#include "filters/milter_answer.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "filters/milter_codec.h"

#define REPLY_LINES	32		/* of smfi_setmlreply() */

/* Our own lines, without what smfi_setmlreply() puts in front itself. */
static size_t
split_text(char *text, char code[4], char enhanced[16], char *lines[])
{
	size_t count = 0, skip;
	char *next;

	snprintf(code, 4, "%.3s", text);
	for (; text != NULL && count < REPLY_LINES; text = next) {
		if ((next = strstr(text, "\r\n")) != NULL) {
			*next = '\0';
			next += 2;
		}
		text += strlen(text) < 4 ? strlen(text) : 4;
		skip = strspn(text, "0123456789.");
		if (skip >= 5 && skip < 16 && text[skip] == ' ' &&
		    text[0] == code[0]) {
			snprintf(enhanced, 16, "%.*s", (int)skip, text);
			text += skip + 1;
		}
		lines[count++] = text;
	}
	return count;
}

/* Those behind the last one are NULL, which ends the list. */
#define FOUR(l, i) l[i], l[i + 1], l[i + 2], l[i + 3]
#define SIXTEEN(l, i) FOUR(l, i), FOUR(l, i + 4), FOUR(l, i + 8),	\
	FOUR(l, i + 12)

static sfsistat
set_text(SMFICTX *context, const struct milter_reply *reply)
{
	char *lines[REPLY_LINES + 1] = { NULL };
	char code[4], enhanced[16] = "";
	char *text = strndup(reply->bytes, reply->len);
	size_t count;

	if (text == NULL)
		fatal("out of memory (libmilter)");
	count = split_text(text, code, enhanced, lines);
	/* With a text that it refuses, the library says its own. */
	if (count == 1)
		smfi_setreply(context, code, enhanced[0] != '\0' ? enhanced :
		    NULL, lines[0]);
	else
		smfi_setmlreply(context, code, enhanced[0] != '\0' ?
		    enhanced : NULL, SIXTEEN(lines, 0), SIXTEEN(lines, 16),
		    NULL);
	free(text);
	return code[0] == '5' ? SMFIS_REJECT : SMFIS_TEMPFAIL;
}

static char *
text_of(const char *text)
{
	return (char *)(uintptr_t)text;	/* the library does not change it */
}

int
milter_answer_replay(SMFICTX *context, const struct milter_reply *r)
{
	char *first = text_of(r->first), *second = text_of(r->second);

	switch (r->code) {
	case MILTER_ADDHEADER:
		return smfi_addheader(context, first, second);
	case MILTER_INSHEADER:
		return smfi_insheader(context, (int)r->index, first, second);
	case MILTER_CHGHEADER:
		return smfi_chgheader(context, first, (int)r->index, second);
	case MILTER_CHGFROM:
		return smfi_chgfrom(context, first, NULL);
	case MILTER_ADDRCPT:
		return smfi_addrcpt(context, first);
	case MILTER_DELRCPT:
		return smfi_delrcpt(context, first);
	case MILTER_QUARANTINE:
		return smfi_quarantine(context, first);
	case MILTER_REPLBODY:
		return smfi_replacebody(context,
		    (unsigned char *)text_of(r->bytes), (int)r->len);
	case MILTER_PROGRESS:
		smfi_progress(context);
		return MI_SUCCESS;
	default:
		return MI_FAILURE;
	}
}

sfsistat
milter_answer_verdict(SMFICTX *context, const struct milter_reply *reply)
{
	switch (reply->code) {
	case MILTER_CONTINUE:
		return SMFIS_CONTINUE;
	case MILTER_ACCEPT:
		return SMFIS_ACCEPT;
	case MILTER_DISCARD:
		return SMFIS_DISCARD;
	case MILTER_REJECT:
		return SMFIS_REJECT;
	case MILTER_REPLYCODE:
		return set_text(context, reply);
	default:
		return SMFIS_TEMPFAIL;
	}
}
