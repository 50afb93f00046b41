/*
 * Entries of access lists, as text:
 *
 *	192.0.2.7, 192.0.2.0/24		a client
 *	joe@example.org			a sender
 *	example.org, .example.org	a sender's domain; all domains below it
 *	to:joe@example.org, to:example.org	a recipient
 *	user:joe			who logged in by that name
 */
#ifndef POLICY_ACCESS_LIST_ENTRY_H
#define POLICY_ACCESS_LIST_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct policy_query;

#define ACCESS_ENTRY_SIZE	336	/* of a text with its NUL */
#define ACCESS_CANDIDATES	16	/* those of a request, as they fit a step */

/*
 * Brings an entry into the form in which it is kept: lower case, networks
 * masked.  0; -1: it is none, *why.
 */
int access_entry_normalize(const char *text, char normal[ACCESS_ENTRY_SIZE],
    const char **why);

/* The same of a network of any length. */
int access_network_normalize(const char *text, char normal[ACCESS_ENTRY_SIZE],
    const char **why);

/* Whether one of the networks, parted by blanks or commas, holds the client. */
bool access_networks_hold(const char *networks,
    const struct sockaddr_storage *client);

/* A text that an entry must be to speak of a request. */
struct access_candidate {
	char text[ACCESS_ENTRY_SIZE];
	/*
	 * Nobody can have forged it.  Else what is granted to it hangs on the
	 * client's network.
	 */
	bool vouched;
};

struct access_candidates {
	struct access_candidate items[ACCESS_CANDIDATES];
	size_t count;
	bool has_client;
	struct sockaddr_storage client;
};

/*
 * What entries could speak of a request, the most specific first.  proven_only:
 * only the domains that the message proved, for who has been asked about the
 * rest.  What does not fit in is left out.
 */
void access_candidates_find(struct access_candidates *,
    const struct policy_query *, bool proven_only);

#endif
