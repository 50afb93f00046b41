/*
 * What a limit is kept by: one or more of the things that a request tells,
 * such as the user, or the client's network with the recipient's domain.
 */
#ifndef POLICY_LIMIT_KEY_H
#define POLICY_LIMIT_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/answer.h"

struct arena;
struct policy_request;
struct table;

#define LIMIT_KEY_MAX	4

/* In the order of limit_key.c's names. */
enum limit_part { LIMIT_USER, LIMIT_CLIENT, LIMIT_NETWORK, LIMIT_SENDER,
	LIMIT_SENDER_DOMAIN, LIMIT_RECIPIENT, LIMIT_RECIPIENT_DOMAIN,
	LIMIT_AUTH_DOMAIN, LIMIT_PARTS };

struct limit_key {
	enum limit_part parts[LIMIT_KEY_MAX];
	size_t count;
	bool has_recipient;		/* or its domain */
	bool has_authentic;		/* known at the end of a message only */
};

/* From the option, NULL-ended.  0; -1: *why. */
int limit_key_parse(const char *const *words, struct limit_key *,
    const char **why);

/* One that is limited, and what of the request falls to it. */
struct limit_subject {
	const char *text;		/* the parts, a blank between them */
	const char *parts[LIMIT_KEY_MAX];
	const char *recipient;		/* the first; "" if it is not known */
	int64_t recipients;
};

/*
 * Whom the request is about: one for each recipient (list: the attribute is a
 * list of them), together if they are the same by the key; none if a part is
 * not known.
 */
struct limit_subject *limit_key_subjects(struct arena *,
    const struct limit_key *, const struct policy_request *, bool list,
    size_t *count);

/* What the message is known by; one that is unknown is like no other. */
const char *limit_key_message(struct arena *, const struct policy_request *);

/*
 * Looks for the subject's parts in the table (NULL: NO) until one is there, as
 * is fit for each: clients by network, domains with those above them, addresses
 * with their domains.  YES: *value.
 */
enum answer limit_key_find(const struct limit_key *, const struct table *,
    const struct limit_subject *, const char **value);

#endif
