/*
 * Look-up tables.  An answer is yes (with a value, which may be ""), no, or
 * cannot tell.  In the configuration:
 *
 *	{ "example.org", "example.net" }	inline, keys only
 *	{ "a@example.org = b@example.org" }	inline, key = value
 *	"file:/etc/millgate/relay_domains"	lines: key [value], # comments
 *	"cidr:/etc/millgate/networks"		lines: network[/length] [value]
 *	"pcre:/etc/millgate/checks"		lines: /pattern/flags [value]
 *	"ldap:/etc/millgate/directory"		lines: word value (below)
 *
 * A directory is described by server (192.0.2.1:389; several lines: the first
 * that answers), base, filter ("(mail=%s)"; %s is the whole key, %u and %d what
 * is before and behind its @), value (the attribute that is the value; none:
 * ""), user and password, tls (the name that the server's certificate bears;
 * TLS from the first byte) and timeout (2s).  It is asked for whole keys, once.
 *
 * Networks stand in inline lists too where addresses are looked up.
 */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H

#include <stddef.h>
#include <sys/socket.h>

#include "base/answer.h"

struct buf;
struct table;

/*
 * Parses table text.  type is "inline" (one entry a line), "file", "cidr" or
 * "pcre"; name is used in errors (name:line: text), which go to errors.
 * NULL on error.
 */
struct table *table_parse(const char *type, const char *name,
    const char *text, size_t len, struct buf *errors);
void table_free(struct table **);

/* A table whose text this process may not see: it cannot tell. */
struct table *table_unseen(void);

/* Exact key, letters' case ignored.  *value belongs to the table. */
enum answer table_find(const struct table *, const char *key,
    const char **value, const char **why);

/*
 * A domain: the name itself, then ".parent" entries, which match all names
 * below parent, then "*".  NULL table: NO.
 */
enum answer table_find_domain(const struct table *, const char *domain,
    const char **value, const char **why);

/*
 * A mail address: "user+ext@domain", "user@domain", then the domain as above
 * with a leading "@", then as above without it.  NULL table: NO.
 */
enum answer table_find_address(const struct table *, const char *address,
    const char **value, const char **why);

/* A network address: the longest prefix that holds it (IPv4-mapped as IPv4). */
enum answer table_find_network(const struct table *, const struct sockaddr *,
    const char **value, const char **why);

size_t table_count(const struct table *);

/* Calls f for each key and value, in file order. */
void table_each(const struct table *,
    void (*f)(const char *key, const char *value, void *), void *argument);

#endif
