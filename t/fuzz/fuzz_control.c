/* Requests to the console, and lines that it makes readable. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "gateway/control.h"
#include "gateway/control_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct control_request request;
	struct buf out = BUF_INIT;
	char text[CONTROL_LINE_MAX], *copy;
	const char *why = NULL;
	size_t limit;

	if (control_parse((const char *)data, size, &request, &why) == 0) {
		assert(request.count > 0 &&
		    request.count <= CONTROL_WORDS_MAX);
		for (size_t i = 0; i < request.count; i++)
			assert(request.words[i][0] != '\0' &&
			    strpbrk(request.words[i], " \n\t") == NULL);
		if (control_parse_history(&request, text, &limit, &why) == 0)
			assert(limit > 0 && strlen(text) < sizeof(text));
		control_is_id(request.words[0]);
	} else {
		assert(why != NULL);
	}
	if ((copy = strndup((const char *)data, size)) == NULL)
		abort();
	control_format_queue_line(&out, copy);
	control_format_counters(&out, copy);
	free(copy);
	buf_release(&out);
	return 0;
}
