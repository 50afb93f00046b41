/*
 * Lists of those who are let through, refused, put off or held: clients,
 * senders, their domains, recipients, users.  Entries stand in the
 * configuration, or in the store, where commands put them, for a time or for
 * good.
 *
 * What is granted never hangs on a sender's address alone (authentic.h): an
 * entry of a domain or an address lets mail through if the message proves it,
 * or if it comes from the networks that the entry names.
 */
#ifndef POLICY_ACCESS_LIST_H
#define POLICY_ACCESS_LIST_H

#include <stdint.h>

#include "base/answer.h"
#include "base/option.h"

struct policy_service;
struct store;

enum access_action { ACCESS_ALLOW, ACCESS_REJECT, ACCESS_DEFER, ACCESS_HOLD };

#define ACCESS_LIST_OPTIONS(ROW, o)					\
	ROW(o, action, choice, "reject", "allow|reject|defer|hold", NULL,	\
	    "What becomes of mail that an entry speaks of; allow: nothing "	\
	    "that comes behind it in the list of services is asked.")	\
	ROW(o, entries, table, NULL, NULL, NULL,			\
	    "Entries beside those that millgatectl list adds: \"192.0.2.7\", "	\
	    "\"192.0.2.0/24\", \"joe@example.org\", \"example.org\", "	\
	    "\".example.org\" (all below), \"to:joe@example.org\" (a "	\
	    "recipient), \"user:joe\". To allow a sender, a value may name "	\
	    "the networks it comes from: \"example.org = 192.0.2.0/24\".")	\
	ROW(o, message, string, "Access denied", NULL, NULL,		\
	    "What the client hears.")

struct access_list_options { ACCESS_LIST_OPTIONS(OPTION_FIELD,
	access_list_options) };

extern const struct section_kind access_list_section;
extern const struct policy_service access_list_service;

/* What a list of the configuration (an instance of the service) does. */
enum access_action access_list_action(const void *instance);

/*
 * Puts an entry (access_list_entry.h) in the store, for so long (0: for good),
 * or takes it out: NO if it is not there.  networks, normalized, may be "", and
 * so may comment.
 */
enum answer access_list_add(struct store *, const char *list,
    const char *entry, int64_t lifetime_ms, const char *networks,
    const char *comment, const char **why);
enum answer access_list_remove(struct store *, const char *list,
    const char *entry, const char **why);

#endif
