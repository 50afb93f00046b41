/* Fuzzes the replies of a next hop: lines parted by LF. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "policy/smtp_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data, *end = p + size, *why = NULL;
	struct reply reply;

	reply_init(&reply);
	while (p < end) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		size_t len = lf != NULL ? (size_t)(lf - p) + 1 :
		    (size_t)(end - p);
		enum reply_state state = reply_line(&reply, p, len, &why);

		if (state == REPLY_BAD)
			return 0;
		assert(reply.code >= 200 && reply.code <= 599);
		assert(strlen(reply.text) == reply.text_len);
		assert(reply.enhanced[1] == '.');
		for (size_t i = 0; i < reply.text_len; i++)
			assert((unsigned char)reply.text[i] >= ' ' &&
			    reply.text[i] != 0x7f);
		reply_line_text(p, &len);
		if (state == REPLY_DONE)
			reply_init(&reply);
		p = lf != NULL ? lf + 1 : end;
	}
	return 0;
}
