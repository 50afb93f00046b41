/* Who may send as whom. */
#include "gateway/sender_login.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/table.h"
#include "filters/from.h"
#include "filters/mail.h"

#define SEPARATORS ", \t"

/* Letters' case does not matter, as it does not to Dovecot. */
static bool
is_among(const char *user, const char *logins)
{
	size_t len = strlen(user), n;

	for (logins += strspn(logins, SEPARATORS); *logins != '\0';
	    logins += n, logins += strspn(logins, SEPARATORS)) {
		n = strcspn(logins, SEPARATORS);
		if (n == len && strncasecmp(user, logins, n) == 0)
			return true;
	}
	return false;
}

static enum sender_login
check_normal(const struct table *owners, const char *address,
    const char *user, const char **why)
{
	const char *logins = "";
	bool owned = false;

	switch (table_find_address(owners, address, &logins, why)) {
	case ANSWER_YES:
		owned = true;
		break;
	case ANSWER_NO:
		break;
	case ANSWER_UNKNOWN:
		return SENDER_LOGIN_UNKNOWN;
	}
	if (user == NULL)
		return owned ? SENDER_LOGIN_DENIED : SENDER_LOGIN_OK;
	return is_among(user, logins) ? SENDER_LOGIN_OK : SENDER_LOGIN_DENIED;
}

enum sender_login
sender_login_check(const struct table *owners, struct arena *arena,
    const char *address, const char *user, const char **why)
{
	const char *normal = from_normalize_address(arena, address);

	return check_normal(owners, normal != NULL ? normal : address, user,
	    why);
}

enum sender_login
sender_login_check_from(const struct table *owners, struct arena *arena,
    const struct headers *headers, const char *user, const char **address,
    const char **why)
{
	struct from from = { 0 };
	enum sender_login result = SENDER_LOGIN_OK;

	*address = NULL;
	from_add_all(&from, arena, headers);
	if (from.broken || from.address_count == 0) {
		*why = from.fields == 0 ? "there is none" :
		    from.why != NULL ? from.why : "too many addresses";
		return SENDER_LOGIN_DENIED;
	}
	for (size_t i = 0; i < from.address_count &&
	    result == SENDER_LOGIN_OK; i++) {
		*address = from.addresses[i];
		result = check_normal(owners, *address, user, why);
	}
	return result;
}
