/* Who may send as whom. */
#include "gateway/sender_login.h"

#include <stddef.h>

#include "base/arena.h"
#include "filters/from.h"
#include "filters/mail.h"
#include "policy/sender_owner.h"

static enum sender_login
check_normal(const struct table *owners, const char *address,
    const char *user, const char **why)
{
	switch (sender_owner_allows(owners, address, user, why)) {
	case ANSWER_YES:
		return SENDER_LOGIN_OK;
	case ANSWER_NO:
		return SENDER_LOGIN_DENIED;
	case ANSWER_UNKNOWN:
		break;
	}
	return SENDER_LOGIN_UNKNOWN;
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
