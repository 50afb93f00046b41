/*
 * Who may send as whom: a table of addresses, or "@domain", and the logins that
 * own each, parted by commas or blanks.  As a service, for MTAs that have no
 * such table; our own listeners have sender_login.
 */
#ifndef POLICY_SENDER_OWNER_H
#define POLICY_SENDER_OWNER_H

#include "base/answer.h"
#include "base/option.h"

struct policy_service;
struct table;

/*
 * May this user send as that address?  Without a user (NULL), only as one that
 * nobody owns.  UNKNOWN: the table did not answer, *why.
 */
enum answer sender_owner_allows(const struct table *owners,
    const char *address, const char *user, const char **why);

#define SENDER_OWNER_OPTIONS(ROW, o)					\
	ROW(o, owners, table, NULL, NULL, NULL,				\
	    "Addresses or \"@domain\", and the logins that own each, as in "	\
	    "sender_login of a listener. Required.")

struct sender_owner_options { SENDER_OWNER_OPTIONS(OPTION_FIELD,
	sender_owner_options) };

extern const struct section_kind sender_owner_section;
extern const struct policy_service sender_owner_service;

#endif
