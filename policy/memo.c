/*
 * Recent answers, in a table of fixed size with one place for each hash.  A
 * deferral holds no longer than its wait; nothing holds longer than a minute.
 */
#include "policy/memo.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "policy/protocol.h"

#define PLACES		4096
#define KEPT_MS		60000
#define DIGEST_SIZE	16

struct answered {
	unsigned char digest[DIGEST_SIZE];
	enum answer answer;
	int64_t until;			/* 0: nothing is here */
	int64_t wait_until;
};

struct memo {
	struct answered places[PLACES];
};

/* False: the request has no instance. */
static bool
digest_request(const struct policy_request *request,
    unsigned char digest[DIGEST_SIZE])
{
	static const enum policy_attribute parts[] = { POLICY_INSTANCE,
		POLICY_CLIENT_ADDRESS, POLICY_SASL_USERNAME, POLICY_SENDER,
		POLICY_RECIPIENT };
	unsigned char bytes[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *context;

	if (*policy_value(request, POLICY_INSTANCE) == '\0')
		return false;
	context = EVP_MD_CTX_new();
	if (context == NULL || EVP_DigestInit_ex(context, EVP_sha256(),
	    NULL) != 1)
		fatal("policy: no SHA-256");
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		const char *value = policy_value(request, parts[i]);

		EVP_DigestUpdate(context, value, strlen(value) + 1);
	}
	EVP_DigestFinal_ex(context, bytes, NULL);
	EVP_MD_CTX_free(context);
	memcpy(digest, bytes, DIGEST_SIZE);
	return true;
}

static size_t
place(const unsigned char digest[DIGEST_SIZE])
{
	return (size_t)(digest[0] | digest[1] << 8) % PLACES;
}

struct memo *
memo_new(void)
{
	struct memo *memo = calloc(1, sizeof(*memo));

	if (memo == NULL)
		fatal("out of memory (policy)");
	return memo;
}

void
memo_free(struct memo **memo)
{
	free(*memo);
	*memo = NULL;
}

bool
memo_get(const struct memo *memo, const struct policy_request *request,
    int64_t now_ms, enum answer *answer, int64_t *wait_ms)
{
	const struct answered *old;
	unsigned char digest[DIGEST_SIZE];

	if (!digest_request(request, digest))
		return false;
	old = &memo->places[place(digest)];
	if (old->until <= now_ms ||
	    memcmp(old->digest, digest, DIGEST_SIZE) != 0)
		return false;
	*answer = old->answer;
	*wait_ms = old->answer == ANSWER_NO ? old->wait_until - now_ms : 0;
	return true;
}

void
memo_put(struct memo *memo, const struct policy_request *request,
    int64_t now_ms, enum answer answer, int64_t wait_ms)
{
	struct answered *new;
	unsigned char digest[DIGEST_SIZE];

	if (answer == ANSWER_UNKNOWN || !digest_request(request, digest))
		return;
	new = &memo->places[place(digest)];
	memcpy(new->digest, digest, DIGEST_SIZE);
	new->answer = answer;
	new->wait_until = now_ms + wait_ms;
	new->until = now_ms + KEPT_MS;
	if (answer == ANSWER_NO && new->wait_until < new->until)
		new->until = new->wait_until;
}
