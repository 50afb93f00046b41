/* Fuzzes requests of the policy protocol: lines parted by LF. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "policy/memo.h"
#include "policy/service.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
look(const struct policy_request *request)
{
	static struct memo *memo;
	const struct policy_decision pass = { .verb = POLICY_PASS };
	struct policy_decision decision;
	struct memo_key key = memo_key(request);

	if (memo == NULL)
		memo = memo_new();
	assert(request->lines <= POLICY_LINES_MAX);
	assert(request->size <= POLICY_REQUEST_MAX);
	for (int i = 0; i < POLICY_ATTRIBUTE_COUNT; i++)
		assert(strchr(policy_value(request,
		    (enum policy_attribute)i), '\n') == NULL);
	memo_put(memo, &key, 0, &pass);
	if (*policy_value(request, POLICY_INSTANCE) != '\0')
		assert(memo_get(memo, &key, 0, &decision) &&
		    decision.verb == POLICY_PASS);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data, *end = p + size, *why = NULL;
	struct policy_request request = POLICY_REQUEST_INIT;
	int rc = 0;

	while (p < end && rc != -1) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		size_t len = lf != NULL ? (size_t)(lf - p) + 1 :
		    (size_t)(end - p);

		rc = policy_request_line(&request, p, len, &why);
		if (rc == 1) {
			look(&request);
			policy_request_reset(&request);
		}
		p += len;
	}
	assert(rc != -1 || why != NULL);
	policy_request_release(&request);
	return 0;
}
