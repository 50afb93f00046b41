/*
 * What is remembered of clients for screening: offences, which get a client
 * banned for a while, each time for twice as long; and that it has shown itself
 * to be good.  A client is an IPv4 address or IPv6 /64; an operator may also ban
 * its network, an IPv4 /24 or IPv6 /48.
 */
#ifndef POLICY_BAN_H
#define POLICY_BAN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/answer.h"

struct buf;
struct store;

#define BAN_FOREVER_MS	(INT64_C(3650) * 86400000)

struct ban_limits {
	int64_t offences;		/* so many in the window; 0: never */
	int64_t window_ms;
	int64_t first_ms, longest_ms;	/* how long the bans are */
};

struct ban_state {
	int64_t banned_ms;		/* for so long yet */
	int64_t passed_ms;		/* good for so long yet */
	bool by_operator;
};

/* YES: it is banned. */
enum answer ban_check(struct store *, const struct sockaddr_storage *client,
    struct ban_state *, const char **why);

/*
 * Notes offences.  YES: that made it banned.  One that has a pass loses that
 * first: who sends much good mail sends some that is refused.
 */
enum answer ban_offend(struct store *, const struct sockaddr_storage *client,
    const struct ban_limits *, int64_t offences, const char *note,
    struct ban_state *, const char **why);

/* Notes that it is good, for that time.  NO: it is banned. */
enum answer ban_pass(struct store *, const struct sockaddr_storage *client,
    int64_t pass_ms, const char **why);

/*
 * Bans or frees "192.0.2.1", "192.0.2.0/24", "2001:db8::1", "2001:db8::/48",
 * for an operator.  NO: it is none of these; ban_remove: or it was not banned.
 */
enum answer ban_add(struct store *, const char *subject, int64_t ms,
    const char *note, const char **why);
enum answer ban_remove(struct store *, const char *subject,
    const char **why);

/* Appends a line for each, at most some thousand. */
enum answer ban_show(struct store *, struct buf *, const char **why);

#endif
