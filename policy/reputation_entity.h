/*
 * Entities: whom or what reputation is about, "address:192.0.2.1" for people
 * to read, and the keys of their records.
 *
 * An entity and the sum of its kind (an address and its network, a domain and
 * its organization, an autonomous system and all mail) are of one group, so that
 * a step changes both.
 */
#ifndef POLICY_REPUTATION_ENTITY_H
#define POLICY_REPUTATION_ENTITY_H

#include <stdbool.h>
#include <stddef.h>

/*
 * name, letter in keys, its group's entity, what it is.  A user is of no
 * public: other mail says nothing about it.
 */
#define REP_DIMENSIONS_LIST(ROW)					\
	ROW(ALL, "all", '*', ALL)		/* mail */		\
	ROW(AS, "as", 'i', ALL)			/* AS64500, of networks */ \
	ROW(NETWORK, "network", 'n', NETWORK)	/* IPv4 /24, IPv6 /48 */ \
	ROW(ADDRESS, "address", 'a', NETWORK)	/* IPv6: its /64 */	\
	ROW(ORGANIZATION, "organization", 'o', ORGANIZATION)		\
	ROW(DOMAIN, "domain", 'd', ORGANIZATION) /* by SPF or DKIM */	\
	ROW(SELECTOR, "selector", 's', ORGANIZATION)			\
	ROW(HELO, "helo", 'h', HELO)		/* anybody's word */	\
	ROW(SENDER, "sender", 'f', SENDER)	/* its domain; the same */ \
	ROW(USER, "user", 'u', USER)					\
	ROW(PAIR, "pair", 'p', PAIR)		/* SENDER>RECIPIENT */

#define REP_DIMENSION_ENUM(upper, name, letter, group) REP_##upper,
enum rep_dimension { REP_DIMENSIONS_LIST(REP_DIMENSION_ENUM) REP_DIMENSIONS };

#define REP_ID_MAX	200
#define REP_EVENT_ID_MAX 60		/* more of an event's id is cut off */
#define REP_KEY_SIZE	(2 * REP_ID_MAX + 48)
#define REP_TEXT_SIZE	(REP_ID_MAX + 16)
#define REP_KEYS	"rep:"		/* what keys begin with */
#define REP_EVENT_KEYS	"repe:"		/* those of events */

struct rep_entity {
	enum rep_dimension dimension;
	char id[REP_ID_MAX + 1];
	char group[REP_ID_MAX + 1];	/* the id of the group's entity */
};

const char *rep_dimension_name(enum rep_dimension);
enum rep_dimension rep_dimension_group(enum rep_dimension);

/* REP_DIMENSIONS: there is none of that name. */
enum rep_dimension rep_dimension_find(const char *name, size_t len);

/*
 * The entity of that id, in letters of one case, an address masked.  False: the
 * id is none, too long, or not printable.
 */
bool rep_entity_make(enum rep_dimension, const char *id, struct rep_entity *);

/* "address:192.0.2.1", "all"; -1 and *why. */
int rep_entity_parse(const char *text, struct rep_entity *, const char **why);
const char *rep_entity_print(const struct rep_entity *,
    char text[REP_TEXT_SIZE]);

/* Is it its group's? */
bool rep_entity_is_group(const struct rep_entity *);
void rep_entity_group(const struct rep_entity *, struct rep_entity *group);

/*
 * What its group is a part of: of a network its autonomous system, if that is
 * known; of everybody else all mail.
 */
void rep_entity_above(const struct rep_entity *, struct rep_entity *above);

/* Keys of its record, of its group's, of an event that it had part in. */
void rep_entity_key(const struct rep_entity *, char key[REP_KEY_SIZE]);
void rep_entity_event_key(const struct rep_entity *, const char *event_id,
    const char *kind, char key[REP_KEY_SIZE]);

/* What the keys of its group's events begin with. */
void rep_entity_event_prefix(const struct rep_entity *,
    char key[REP_KEY_SIZE]);

/* The entity of such a key; false: it is none. */
bool rep_entity_from_key(const char *key, struct rep_entity *);

#endif
