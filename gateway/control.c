/* Requests of the control protocol.  Pure. */
#include "gateway/control.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "filters/envelope.h"

#define HISTORY_LIMIT 20
#define HISTORY_LIMIT_MAX 10000

int
control_parse(const char *line, size_t len, struct control_request *request,
    const char **why)
{
	char *rest = request->text, *word;

	request->count = 0;
	if (len > 0 && line[len - 1] == '\n')
		len--;
	if (len >= sizeof(request->text)) {
		*why = "the request is too long";
		return -1;
	}
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f) {
			*why = "the request holds control characters";
			return -1;
		}
	memcpy(request->text, line, len);
	request->text[len] = '\0';
	while ((word = strsep(&rest, " ")) != NULL) {
		if (*word == '\0')
			continue;
		if (request->count == CONTROL_WORDS_MAX) {
			*why = "the request has too many words";
			return -1;
		}
		request->words[request->count++] = word;
	}
	if (request->count == 0) {
		*why = "the request is empty";
		return -1;
	}
	return 0;
}

bool
control_is_id(const char *text)
{
	size_t len = strlen(text);

	if (len == 0 || len >= ENVELOPE_ID_SIZE)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)text[i]))
			return false;
	return true;
}

static int
parse_limit(const char *text, size_t *limit)
{
	unsigned long number;
	char *end;

	if (!isdigit((unsigned char)*text))
		return -1;
	errno = 0;
	number = strtoul(text, &end, 10);
	if (errno != 0 || *end != '\0' || number == 0 ||
	    number > HISTORY_LIMIT_MAX)
		return -1;
	*limit = number;
	return 0;
}

int
control_parse_history(const struct control_request *request,
    char text[CONTROL_LINE_MAX], size_t *limit, const char **why)
{
	const char *const *word = request->words + 1;
	const char *const *end = request->words + request->count;
	bool search = false;
	size_t len = 0;

	*limit = HISTORY_LIMIT;
	text[0] = '\0';
	for (; word < end; word++) {
		if (strcmp(*word, "-n") == 0) {
			if (++word == end || parse_limit(*word, limit) != 0) {
				*why = "-n takes a number from 1 to 10000";
				return -1;
			}
		} else if (!search && strcmp(*word, "search") == 0) {
			search = true;
		} else if (!search) {
			*why = "usage: history [search text] [-n number]";
			return -1;
		} else {
			/* No longer than the line that it comes from. */
			if (len > 0)
				text[len++] = ' ';
			memcpy(text + len, *word, strlen(*word) + 1);
			len += strlen(*word);
		}
	}
	if (search && len == 0) {
		*why = "search for what?";
		return -1;
	}
	return 0;
}
