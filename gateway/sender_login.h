/*
 * Who may send as whom: a table of addresses, or "@domain", and the logins that
 * own each, parted by commas or blanks.
 */
#ifndef GATEWAY_SENDER_LOGIN_H
#define GATEWAY_SENDER_LOGIN_H

struct arena;
struct headers;
struct table;

enum sender_login {
	SENDER_LOGIN_OK,
	SENDER_LOGIN_DENIED,
	SENDER_LOGIN_UNKNOWN		/* the table did not answer */
};

/*
 * May this user send as that address?  Without a user (NULL), only as one that
 * nobody owns.  The address is looked up without needless quotes, its domain in
 * A-labels.  *why is set for SENDER_LOGIN_UNKNOWN.
 */
enum sender_login sender_login_check(const struct table *owners,
    struct arena *, const char *address, const char *user, const char **why);

/*
 * The same of all addresses in From.  Not SENDER_LOGIN_OK: *address is the one
 * at fault, or NULL: From tells no authors, and *why says what is wrong.
 */
enum sender_login sender_login_check_from(const struct table *owners,
    struct arena *, const struct headers *, const char *user,
    const char **address, const char **why);

#endif
