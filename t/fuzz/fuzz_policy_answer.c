/* Fuzzes the first line of an answer of the policy protocol. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "policy/protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_action action, again;
	struct buf out = BUF_INIT;
	const char *why = NULL, *lf;

	if (policy_answer_parse((const char *)data, size, &action,
	    &why) != 0) {
		assert(why != NULL);
		return 0;
	}
	for (const char *c = action.text; *c != '\0'; c++)
		assert(*c >= ' ' && *c <= '~');
	assert(action.enhanced[0] == '\0' || action.enhanced[0] == '4' ||
	    action.enhanced[0] == '5');
	policy_answer_more((const char *)data, size, &action, &why);
	policy_answer_put(&out, &action, true);
	lf = memchr(out.data, '\n', out.len);
	assert(lf != NULL && out.data[out.len - 2] == '\n');
	assert(policy_answer_parse(out.data, (size_t)(lf - out.data), &again,
	    &why) == 0);
	assert(action.verb == POLICY_OTHER || action.verb == again.verb);
	buf_release(&out);
	return 0;
}
