/*
 * Relay control (RFC 5321, 7.8; RFC 2505, 2.11).
 */
#include "gateway/access.h"

#include <idn2.h>
#include <string.h>

#include "base/arena.h"
#include "base/table.h"
#include "filters/envelope.h"

/*
 * A local part that asks the next hop to route on: user%other@ours,
 * other!user@ours, "user@other"@ours; and the characters that some software
 * folds to these (full-width and small commercial at, full-width percent).
 */
static bool
asks_for_routing(const char *address, const char *domain)
{
	static const char *const folded[] = { "\xEF\xBC\xA0", "\xEF\xB9\xAB",
	    "\xEF\xBC\x85", "\xEF\xBC\x81" };
	size_t len = (size_t)(domain - 1 - address);

	for (size_t i = 0; i < len; i++)
		if (strchr("@%!:", address[i]) != NULL)
			return true;
	for (size_t i = 0; i < sizeof folded / sizeof *folded; i++) {
		const char *at = strstr(address, folded[i]);

		if (at != NULL && at < domain)
			return true;
	}
	return false;
}

static bool
is_ascii(const char *text)
{
	while (*text > 0)
		text++;
	return *text == '\0';
}

/* Is the domain one of ours?  An U-label is looked up as its A-label. */
static enum answer
is_ours(const struct access_rules *rules, const char *domain, bool *bad,
    const char **why)
{
	enum answer answer;
	const char *value;
	char *ascii = NULL;

	*bad = false;
	if (is_ascii(domain))
		return table_find_domain(rules->relay_domains, domain, &value,
		    why);
	if (idn2_lookup_u8((const uint8_t *)domain, (uint8_t **)&ascii,
	    IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK) {
		*bad = true;
		return ANSWER_NO;
	}
	answer = table_find_domain(rules->relay_domains, ascii, &value, why);
	idn2_free(ascii);
	return answer;
}

enum access_result
access_check(const struct access_rules *rules, enum answer trusted,
    const char *address, const char **why)
{
	const char *domain = address_domain(address), *value;
	enum answer ours;
	bool bad;

	if (domain == NULL)
		return ACCESS_RELAY_DENIED;
	ours = is_ours(rules, domain, &bad, why);
	if (bad)
		return ACCESS_BAD_DOMAIN;
	if (ours == ANSWER_UNKNOWN)
		return trusted == ANSWER_YES ? ACCESS_OK : ACCESS_TRY_LATER;
	if (ours == ANSWER_NO) {
		if (trusted == ANSWER_UNKNOWN) {
			*why = "trusted_networks did not answer";
			return ACCESS_TRY_LATER;
		}
		return trusted == ANSWER_YES ? ACCESS_OK : ACCESS_RELAY_DENIED;
	}
	if (trusted != ANSWER_YES && asks_for_routing(address, domain))
		return ACCESS_ROUTING;
	if (rules->recipients == NULL)
		return ACCESS_OK;
	switch (table_find_address(rules->recipients, address, &value, why)) {
	case ANSWER_YES:	return ACCESS_OK;
	case ANSWER_NO:		return ACCESS_NO_USER;
	case ANSWER_UNKNOWN:	break;
	}
	return ACCESS_TRY_LATER;
}

static void
first_name(const char *key, const char *value, void *argument)
{
	const char **first = argument;

	(void)value;
	if (*first == NULL && key[0] != '.' && key[0] != '*')
		*first = key;
}

const char *
access_postmaster(const struct access_rules *rules, struct arena *arena,
    const char *hostname)
{
	const char *domain = NULL;

	if (rules->relay_domains != NULL)
		table_each(rules->relay_domains, first_name, &domain);
	return arena_printf(arena, "postmaster@%s",
	    domain != NULL ? domain : hostname);
}
