/* What the table_ldap*.c files share. */
#ifndef BASE_TABLE_LDAP_H
#define BASE_TABLE_LDAP_H

#include <lber.h>
#include <ldap.h>

#include "base/net.h"
#include "base/table_impl.h"
#include "base/task.h"

#define LDAP_SERVERS_MAX	8
#define LDAP_CONNECTIONS_MAX	16
#define LDAP_WHY_SIZE		256

struct ldap_link {
	struct io *io;
	LDAP *ldap;
	size_t server;			/* of the table's */
};

struct table_ldap {
	char *text;			/* the strings are in here */
	struct net_endpoint servers[LDAP_SERVERS_MAX];
	size_t server_count, first_server;	/* that is tried */
	const char *base, *filter, *user, *password, *tls;
	char *attributes[2];		/* the value's, or LDAP_NO_ATTRS */
	int64_t timeout_ms;
	struct tls_context *tls_context;

	struct ldap_link *idle[LDAP_CONNECTIONS_MAX];
	size_t idle_count, open_count;
	struct task_cond room;		/* a connection was given back */
	int64_t not_before;
	bool away;			/* that was logged */
	char **values;			/* all that were found; see intern() */
	struct table_hash values_by_text;
	char why[LDAP_WHY_SIZE];
};

/*
 * table_ldap_link.c: a connection that has logged in, for one look-up at a
 * time.  *fresh: it was made for this one.  NULL: *why.
 */
struct ldap_link *ldap_link_take(struct table_ldap *, int64_t deadline,
    bool *fresh, const char **why);
void ldap_link_give_back(struct table_ldap *, struct ldap_link *);

/* It is of no more use. */
void ldap_link_hang_up(struct table_ldap *, struct ldap_link **);

/* Closes those that are idle. */
void ldap_links_close(struct table_ldap *);

/* The result of a request that was made; NULL: *why. */
LDAPMessage *ldap_link_wait(struct ldap_link *, int id, int64_t deadline,
    const char **why);

/* 0, or -1: *why.  Frees the result. */
int ldap_link_check(struct table_ldap *, struct ldap_link *,
    LDAPMessage *result, const char *what, const char **why);

#endif
