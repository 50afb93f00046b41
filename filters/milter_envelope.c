/*
 * What milters change in the envelope.  What they say is checked: it goes to
 * the next hop in commands.
 */
#include "filters/milter_envelope.h"

#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/log.h"
#include "filters/mail.h"
#include "filters/milter_codec.h"

#define REASON_MAX	100
#define XTEXT_MAX	500		/* RFC 3461, 4.2 */

/* Without <>; a route or anything behind the > is not the address. */
static const char *
bare(struct arena *arena, const char *address)
{
	size_t len = strlen(address);

	if (len >= 2 && address[0] == '<' && address[len - 1] == '>')
		return arena_strndup(arena, address + 1, len - 2);
	return address;
}

/*
 * Whether it stays one address between <> in a command to the next hop: no
 * control characters, and outside of quotes no blank and no bracket.
 */
static bool
is_address(const char *text)
{
	bool quoted = false;

	for (; *text != '\0'; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return false;
		if (*text == '"')
			quoted = !quoted;
		else if (quoted && *text == '\\' && text[1] != '\0')
			text++;
		else if (!quoted && strchr(" <>", *text) != NULL)
			return false;
	}
	return !quoted;
}

/* RFC 3461, 4: xtext; its hexadecimal digits are the reader's to check. */
static bool
is_xtext(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (text[i] < 33 || text[i] > 126 || text[i] == '=')
			return false;
	return len > 0 && len <= XTEXT_MAX;
}

/* RFC 3461, 4.1; 0 if the value is wrong. */
static unsigned
parse_notify(const char *value, size_t len)
{
	static const struct {
		const char *name;
		unsigned bit;
	} words[] = {
		{ "NEVER", NOTIFY_NEVER }, { "SUCCESS", NOTIFY_SUCCESS },
		{ "FAILURE", NOTIFY_FAILURE }, { "DELAY", NOTIFY_DELAY },
	};
	unsigned bits = 0;

	while (len > 0) {
		const char *comma = memchr(value, ',', len);
		size_t n = comma != NULL ? (size_t)(comma - value) : len, i;

		for (i = 0; i < 4; i++)
			if (strlen(words[i].name) == n &&
			    strncasecmp(value, words[i].name, n) == 0)
				break;
		if (i == 4)
			return 0;
		bits |= words[i].bit;
		len -= n;
		value += n;
		if (len > 0) {
			len--;
			value++;
		}
	}
	return (bits & NOTIFY_NEVER) && bits != NOTIFY_NEVER ? 0 : bits;
}

static bool
argument_is(const char *argument, size_t len, const char *name)
{
	return len > strlen(name) &&
	    strncasecmp(argument, name, strlen(name)) == 0;
}

/* A wrong argument is ignored, the recipient stays. */
static bool
rcpt_argument(struct mail *mail, struct recipient *recipient,
    const char *argument, size_t len)
{
	if (argument_is(argument, len, "NOTIFY=")) {
		recipient->notify = parse_notify(argument + 7, len - 7);
		return recipient->notify != 0;
	}
	if (argument_is(argument, len, "ORCPT=") &&
	    is_xtext(argument + 6, len - 6)) {
		recipient->orcpt = arena_strndup(mail->arena, argument + 6,
		    len - 6);
		return true;
	}
	return false;
}

static bool
mail_argument(struct mail *mail, const char *argument, size_t len)
{
	struct envelope *envelope = &mail->envelope;

	if (argument_is(argument, len, "RET=")) {
		bool full = len == 8 && strncasecmp(argument + 4, "FULL",
		    4) == 0;

		if (!full && (len != 8 || strncasecmp(argument + 4, "HDRS",
		    4) != 0))
			return false;
		envelope->ret = full ? "FULL" : "HDRS";
		return true;
	}
	if (argument_is(argument, len, "ENVID=") &&
	    is_xtext(argument + 6, len - 6)) {
		envelope->envid = arena_strndup(mail->arena, argument + 6,
		    len - 6);
		return true;
	}
	return false;
}

static void
arguments(struct mail *mail, const char *filter, struct recipient *recipient,
    const char *text)
{
	while (text != NULL && *(text += strspn(text, " ")) != '\0') {
		size_t len = strcspn(text, " ");
		bool good = recipient != NULL ?
		    rcpt_argument(mail, recipient, text, len) :
		    mail_argument(mail, text, len);

		if (!good)
			log_warn(&mail->log, "filter=%s: argument \"%.*s\" "
			    "is ignored", filter, (int)len, text);
		text += len;
	}
}

static void
add_recipient(struct mail *mail, const char *filter, const char *address,
    const char *args)
{
	struct envelope *envelope = &mail->envelope;
	struct recipient *r;

	address = bare(mail->arena, address);
	if (*address == '\0' || !is_address(address)) {
		log_warn(&mail->log, "filter=%s: bad recipient \"%s\": "
		    "ignored", filter, address);
		return;
	}
	for (r = envelope->recipients; r != NULL; r = r->next)
		if (address_equal(r->address, address))
			return;
	r = envelope_add_recipient(envelope, mail->arena, address);
	r->by_filter = true;
	arguments(mail, filter, r, args);
}

static void
change_sender(struct mail *mail, const char *filter, const char *address,
    const char *args)
{
	address = bare(mail->arena, address);
	if (!is_address(address)) {
		log_warn(&mail->log, "filter=%s: bad sender: ignored", filter);
		return;
	}
	mail->envelope.sender = address;
	arguments(mail, filter, NULL, args);
}

static void
quarantine(struct mail *mail, const char *reason)
{
	char *text = arena_strndup(mail->arena, reason,
	    strnlen(reason, REASON_MAX));

	for (char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	mail->envelope.hold = true;
	mail->envelope.hold_reason = text;
}

void
milter_envelope_edit(struct mail *mail, const char *filter, char code,
    const char *first, const char *second)
{
	switch (code) {
	case MILTER_ADDRCPT:
	case MILTER_ADDRCPT_PAR:
		add_recipient(mail, filter, first, second);
		break;
	case MILTER_DELRCPT:
		envelope_delete_recipient(&mail->envelope,
		    bare(mail->arena, first));
		break;
	case MILTER_CHGFROM:
		change_sender(mail, filter, first, second);
		break;
	case MILTER_QUARANTINE:
		quarantine(mail, first);
		break;
	default:
		break;
	}
}
