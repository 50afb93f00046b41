/* Who vouches for an envelope's sender. */
#include "policy/authentic.h"

#include <string.h>
#include <strings.h>

#include "policy/protocol.h"
#include "policy/service.h"

bool
authentic_is_within(const char *name, const char *domain)
{
	size_t len = strlen(name), below = strlen(domain);

	if (below == 0 || len < below ||
	    strcasecmp(name + len - below, domain) != 0)
		return false;
	return len == below || name[len - below - 1] == '.';
}

bool
authentic_domain(const struct policy_query *query, size_t *at,
    char domain[AUTHENTIC_DOMAIN_MAX + 1])
{
	const char *text, *word, *equals;
	size_t len;

	if (!query->ours)
		return false;
	text = policy_value(query->request, POLICY_AUTH_DOMAINS);
	while (text[*at] != '\0') {
		word = text + *at + strspn(text + *at, " ");
		len = strcspn(word, " ");
		*at = (size_t)(word + len - text);
		equals = memchr(word, '=', len);
		if (equals == NULL)
			continue;
		len -= (size_t)(equals + 1 - word);
		if (len == 0 || len > AUTHENTIC_DOMAIN_MAX)
			continue;
		memcpy(domain, equals + 1, len);
		domain[len] = '\0';
		return true;
	}
	return false;
}

bool
authentic_sender(const struct policy_query *query)
{
	const char *sender = policy_value(query->request, POLICY_SENDER);
	const char *user = policy_known(query->request, POLICY_SASL_USERNAME);
	const char *name = policy_known(query->request, POLICY_CLIENT_NAME);
	const char *at = strrchr(sender, '@');
	char domain[AUTHENTIC_DOMAIN_MAX + 1];
	size_t next = 0;

	if (at == NULL || at[1] == '\0')
		return false;
	if (user != NULL && strcasecmp(user, sender) == 0)
		return true;
	/* No host is named like a whole top-level domain's. */
	if (name != NULL && strchr(at, '.') != NULL &&
	    authentic_is_within(name, at + 1))
		return true;
	while (authentic_domain(query, &next, domain))
		if (strchr(domain, '.') != NULL &&
		    authentic_is_within(at + 1, domain))
			return true;
	return false;
}
