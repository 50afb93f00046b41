/* The entities of a policy request. */
#include "policy/reputation_request.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "policy/authentic.h"
#include "policy/service.h"

struct taker {
	const struct policy_query *query;
	unsigned dimensions;
	struct rep_senders *senders;
};

static bool
add(const struct taker *taker, enum rep_dimension dimension, const char *id)
{
	struct rep_senders *senders = taker->senders;
	struct rep_entity *entity = &senders->entities[senders->count];

	if ((taker->dimensions & (1u << dimension)) == 0 || id == NULL ||
	    senders->count == REP_SENDERS_MAX ||
	    !rep_entity_make(dimension, id, entity))
		return false;
	/* Signed twice by a domain, or SPF and DKIM say the same. */
	for (size_t i = 0; i < senders->count; i++)
		if (senders->entities[i].dimension == dimension &&
		    strcmp(senders->entities[i].id, entity->id) == 0)
			return false;
	senders->count++;
	return true;
}

/* The next word of a list that is parted by blanks; false: that was all. */
static bool
next_word(const char **list, char word[REP_ID_MAX + 1])
{
	size_t len;

	*list += strspn(*list, " ");
	len = strcspn(*list, " ");
	snprintf(word, REP_ID_MAX + 1, "%.*s", (int)(len <= REP_ID_MAX ? len :
	    0), *list);
	*list += len;
	return len > 0;
}

static void
add_authentic(const struct taker *taker)
{
	const char *list = policy_value(taker->query->request,
	    POLICY_AUTH_SELECTORS);
	char domain[AUTHENTIC_DOMAIN_MAX + 1], word[REP_ID_MAX + 1];
	int left = REP_DOMAINS_MAX;
	size_t at = 0;

	while (left > 0 && authentic_domain(taker->query, &at, domain))
		if (add(taker, REP_DOMAIN, domain))
			left--;
	left = REP_DOMAINS_MAX;
	while (taker->query->ours && left > 0 && next_word(&list, word))
		if (add(taker, REP_SELECTOR, word))
			left--;
}

/* Of a sender that is what it says, to one recipient. */
static void
add_pair(const struct taker *taker)
{
	const struct policy_request *request = taker->query->request;
	const char *list = policy_value(request, POLICY_RECIPIENT);
	char recipient[REP_ID_MAX + 1], more[REP_ID_MAX + 1];
	struct buf pair = BUF_INIT;

	if (!authentic_sender(taker->query))
		return;
	if (next_word(&list, recipient) && !next_word(&list, more)) {
		buf_printf(&pair, "%s>%s", policy_value(request,
		    POLICY_SENDER), recipient);
		add(taker, REP_PAIR, pair.data);
	}
	buf_release(&pair);
}

void
rep_senders_of(const struct policy_query *query, unsigned dimensions,
    struct rep_senders *senders)
{
	const struct policy_request *request = query->request;
	const struct taker taker = { query, dimensions, senders };
	const char *user = policy_known(request, POLICY_SASL_USERNAME);
	const char *sender = policy_known(request, POLICY_SENDER);
	const char *at = sender != NULL ? strrchr(sender, '@') : NULL;

	if (user != NULL) {
		add(&taker, REP_USER, user);
		add_pair(&taker);
		return;
	}
	if (query->trusted)
		return;
	add(&taker, REP_ADDRESS, policy_known(request,
	    POLICY_CLIENT_ADDRESS));
	add(&taker, REP_HELO, policy_known(request, POLICY_HELO_NAME));
	if (at != NULL)
		add(&taker, REP_SENDER, at + 1);
	add_authentic(&taker);
	add_pair(&taker);
}
