/* Entities of reputation and their keys: "rep:{n192.0.2.0/24}a192.0.2.1". */
#include "policy/reputation_entity.h"

#include <libpsl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "policy/geo.h"
#include "policy/subject.h"

/* Who has an IPv6 address has at least a /64 of them. */
#define ADDRESS_PREFIX_4	32
#define ADDRESS_PREFIX_6	64
#define NETWORK_PREFIX_4	24
#define NETWORK_PREFIX_6	48

static const struct {
	const char *name;
	char letter;
	enum rep_dimension group;
} dimensions[REP_DIMENSIONS] = {
#define DIMENSION(upper, name, letter, group)				\
	[REP_##upper] = { name, letter, REP_##group },
	REP_DIMENSIONS_LIST(DIMENSION)
};

const char *
rep_dimension_name(enum rep_dimension dimension)
{
	return dimensions[dimension].name;
}

enum rep_dimension
rep_dimension_group(enum rep_dimension dimension)
{
	return dimensions[dimension].group;
}

enum rep_dimension
rep_dimension_find(const char *name, size_t len)
{
	int i;

	for (i = 0; i < REP_DIMENSIONS; i++)
		if (strlen(dimensions[i].name) == len &&
		    memcmp(dimensions[i].name, name, len) == 0)
			break;
	return i;
}

/* Printable, no blanks: it becomes a word of a command's answer. */
static bool
lower_copy(const char *text, char id[REP_ID_MAX + 1])
{
	size_t i;

	for (i = 0; text[i] != '\0'; i++) {
		unsigned char c = (unsigned char)text[i];

		if (i == REP_ID_MAX || c <= ' ' || c == 0x7f)
			return false;
		id[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
	}
	id[i] = '\0';
	return i > 0;
}

/* "192.0.2.1", "192.0.2.0/24": an address or a network of ours. */
static bool
make_address(const char *id, struct rep_entity *entity)
{
	struct sockaddr_storage client;
	char text[SUBJECT_NETWORK_SIZE];

	snprintf(text, sizeof(text), "%.*s", (int)strcspn(id, "/"), id);
	if (!subject_client(text, &client))
		return false;
	subject_network(&client, NETWORK_PREFIX_4, NETWORK_PREFIX_6,
	    entity->group);
	if (entity->dimension == REP_NETWORK) {
		strcpy(entity->id, entity->group);
		return true;
	}
	subject_network(&client, ADDRESS_PREFIX_4, ADDRESS_PREFIX_6,
	    entity->id);
	if (client.ss_family == AF_INET)
		entity->id[strcspn(entity->id, "/")] = '\0';
	return true;
}

/* "AS64500", or the number alone; its group, all mail, has no id. */
static bool
make_as(const char *id, struct rep_entity *entity)
{
	const char *digits = strncasecmp(id, "AS", 2) == 0 ? id + 2 : id;
	unsigned long long number;
	char *end;

	if (*digits < '1' || *digits > '9')
		return false;
	number = strtoull(digits, &end, 10);
	if (*end != '\0' || number > UINT32_MAX)
		return false;
	snprintf(entity->id, sizeof(entity->id), "AS%llu", number);
	return true;
}

/* A suffix, such as "co.uk", is its own. */
static bool
make_domain(const char *id, struct rep_entity *entity)
{
	const char *domain = entity->id, *found = NULL;
	const psl_ctx_t *psl = psl_builtin();

	if (!lower_copy(id, entity->id))
		return false;
	if (entity->dimension == REP_SELECTOR) {
		domain = strstr(entity->id, "._domainkey.");
		if (domain == NULL)
			return false;
		domain += strlen("._domainkey.");
	}
	if (psl != NULL)
		found = psl_registrable_domain(psl, domain);
	snprintf(entity->group, sizeof(entity->group), "%s",
	    found != NULL ? found : domain);
	if (entity->dimension == REP_ORGANIZATION)
		snprintf(entity->id, sizeof(entity->id), "%s", entity->group);
	return true;
}

bool
rep_entity_make(enum rep_dimension dimension, const char *id,
    struct rep_entity *entity)
{
	*entity = (struct rep_entity){ .dimension = dimension };
	if (dimension == REP_ALL)
		return true;
	if (dimension == REP_AS)
		return make_as(id, entity);
	if (dimensions[dimension].group == REP_NETWORK)
		return make_address(id, entity);
	if (dimensions[dimension].group == REP_ORGANIZATION)
		return make_domain(id, entity);
	if (!lower_copy(id, entity->id))
		return false;
	strcpy(entity->group, entity->id);
	return true;
}

int
rep_entity_parse(const char *text, struct rep_entity *entity,
    const char **why)
{
	size_t len = strcspn(text, ":");
	enum rep_dimension dimension = rep_dimension_find(text, len);

	*why = "an entity is DIMENSION:ID, such as address:192.0.2.1, "
	    "network:192.0.2.0/24, as:AS64500, domain:example.org, "
	    "user:joe, or all";
	if (dimension == REP_DIMENSIONS ||
	    (text[len] == '\0') != (dimension == REP_ALL))
		return -1;
	*why = "there can be no entity of this dimension by that id";
	return rep_entity_make(dimension, text + len + (text[len] != '\0'),
	    entity) ? 0 : -1;
}

const char *
rep_entity_print(const struct rep_entity *entity, char text[REP_TEXT_SIZE])
{
	snprintf(text, REP_TEXT_SIZE, "%s%s%s",
	    dimensions[entity->dimension].name,
	    entity->dimension == REP_ALL ? "" : ":", entity->id);
	return text;
}

bool
rep_entity_is_group(const struct rep_entity *entity)
{
	return dimensions[entity->dimension].group == entity->dimension;
}

void
rep_entity_group(const struct rep_entity *entity, struct rep_entity *group)
{
	struct rep_entity result = {
		.dimension = dimensions[entity->dimension].group };

	strcpy(result.id, entity->group);
	strcpy(result.group, entity->group);
	*group = result;
}

/* By the network's first address, so that it is one for all of its addresses. */
void
rep_entity_above(const struct rep_entity *entity, struct rep_entity *above)
{
	char text[SUBJECT_NETWORK_SIZE];
	uint32_t number = 0;

	if (dimensions[entity->dimension].group == REP_NETWORK) {
		snprintf(text, sizeof(text), "%.*s",
		    (int)strcspn(entity->group, "/"), entity->group);
		number = geo_as(text);
	}
	snprintf(text, sizeof(text), "%u", (unsigned)number);
	rep_entity_make(number != 0 ? REP_AS : REP_ALL, text, above);
}

static int
print_group(const struct rep_entity *entity, const char *prefix,
    char key[REP_KEY_SIZE])
{
	enum rep_dimension group = dimensions[entity->dimension].group;

	return snprintf(key, REP_KEY_SIZE, "%s{%c%s}", prefix,
	    dimensions[group].letter, entity->group);
}

void
rep_entity_key(const struct rep_entity *entity, char key[REP_KEY_SIZE])
{
	int len = print_group(entity, REP_KEYS, key);

	if (!rep_entity_is_group(entity))
		snprintf(key + len, (size_t)(REP_KEY_SIZE - len), "%c%s",
		    dimensions[entity->dimension].letter, entity->id);
}

void
rep_entity_event_prefix(const struct rep_entity *entity,
    char key[REP_KEY_SIZE])
{
	print_group(entity, REP_EVENT_KEYS, key);
}

void
rep_entity_event_key(const struct rep_entity *entity, const char *event_id,
    const char *kind, char key[REP_KEY_SIZE])
{
	char exact[2 * REP_EVENT_ID_MAX + 1] = "";
	char hex[SUBJECT_DIGEST_HEX + 1];
	const char *const texts[] = { exact, kind,
		dimensions[entity->dimension].name, entity->id };
	int len = print_group(entity, REP_EVENT_KEYS, key);

	/* Ids of messages differ by letters' case, which a digest ignores. */
	for (size_t i = 0; i < REP_EVENT_ID_MAX && event_id[i] != '\0'; i++)
		snprintf(exact + 2 * i, 3, "%02x", (unsigned char)event_id[i]);
	subject_digest(texts, 4, hex);
	/* 80 bits are enough among a week's events of one group. */
	snprintf(key + len, (size_t)(REP_KEY_SIZE - len), "%.20s", hex);
}

bool
rep_entity_from_key(const char *key, struct rep_entity *entity)
{
	char again[REP_KEY_SIZE], id[REP_ID_MAX + 1];
	const char *end = strrchr(key, '}');
	size_t len;

	if (strncmp(key, REP_KEYS "{", strlen(REP_KEYS) + 1) != 0 ||
	    end == NULL)
		return false;
	/* Its id stands last, and may hold braces: whichever fits. */
	for (key += strlen(REP_KEYS) + 1; end > key; end--) {
		const char *letter = end[1] == '\0' ? key : end + 1;

		if (*end != '}')
			continue;
		len = end[1] == '\0' ? (size_t)(end - key) - 1 :
		    strlen(letter + 1);
		if (len > REP_ID_MAX)
			return false;
		memcpy(id, letter + 1, len);
		id[len] = '\0';
		for (int i = 0; i < REP_DIMENSIONS; i++) {
			if (dimensions[i].letter != *letter ||
			    !rep_entity_make(i, id, entity))
				continue;
			rep_entity_key(entity, again);
			if (strcmp(again + strlen(REP_KEYS) + 1, key) == 0)
				return true;
		}
	}
	return false;
}
