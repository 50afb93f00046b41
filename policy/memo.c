/*
 * Recent answers, in a table of fixed size with one place for each hash.  A
 * deferral holds no longer than its wait; nothing holds longer than a minute.
 */
#include "policy/memo.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "policy/service.h"

#define PLACES		4096
#define KEPT_MS		60000

struct answered {
	unsigned char digest[SUBJECT_BYTES];
	int64_t until;			/* 0: nothing is here */
	struct policy_decision *decision;	/* NULL: DUNNO, and no more */
};

struct memo {
	struct answered places[PLACES];
};

struct memo_key
memo_key(const struct policy_request *request)
{
	static const enum policy_attribute parts[] = { POLICY_INSTANCE,
		POLICY_PROTOCOL_STATE, POLICY_POLICY_CONTEXT, POLICY_SERVICE,
		POLICY_CLIENT_ADDRESS, POLICY_SASL_USERNAME, POLICY_SENDER,
		POLICY_RECIPIENT };
	enum { PARTS = sizeof(parts) / sizeof(parts[0]) };
	struct memo_key key = { .kept = false };
	const char *values[PARTS];

	if (*policy_value(request, POLICY_INSTANCE) == '\0')
		return key;
	for (size_t i = 0; i < PARTS; i++)
		values[i] = policy_value(request, parts[i]);
	subject_bytes(values, PARTS, true, key.digest);
	key.kept = true;
	return key;
}

static size_t
place(const unsigned char digest[SUBJECT_BYTES])
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
	for (size_t i = 0; *memo != NULL && i < PLACES; i++)
		free((*memo)->places[i].decision);
	free(*memo);
	*memo = NULL;
}

bool
memo_get(const struct memo *memo, const struct memo_key *key,
    int64_t now_ms, struct policy_decision *decision)
{
	const struct answered *old = &memo->places[place(key->digest)];

	if (!key->kept || old->until <= now_ms ||
	    memcmp(old->digest, key->digest, SUBJECT_BYTES) != 0)
		return false;
	if (old->decision != NULL)
		*decision = *old->decision;
	else
		memset(decision, 0, sizeof(*decision));
	return true;
}

/* Most decisions say nothing, and take no room. */
static bool
says_something(const struct policy_decision *decision)
{
	return decision->verb != POLICY_DUNNO || decision->reason != NULL ||
	    decision->score[0] != '\0';
}

void
memo_put(struct memo *memo, const struct memo_key *key, int64_t now_ms,
    const struct policy_decision *decision)
{
	struct answered *new = &memo->places[place(key->digest)];
	int64_t kept = KEPT_MS;

	if (!key->kept)
		return;
	memcpy(new->digest, key->digest, SUBJECT_BYTES);
	free(new->decision);
	new->decision = NULL;
	if (says_something(decision)) {
		if ((new->decision = malloc(sizeof(*decision))) == NULL)
			fatal("out of memory (policy)");
		*new->decision = *decision;
	}
	if (decision->verb == POLICY_DEFER && decision->wait_ms > 0 &&
	    decision->wait_ms < kept)
		kept = decision->wait_ms;
	new->until = now_ms + kept;
}
