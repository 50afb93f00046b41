/* Keys of limits. */
#include "policy/limit_key.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/table.h"
#include "policy/protocol.h"
#include "policy/subject.h"

#define IPV4_PREFIX	24
#define IPV6_PREFIX	64
#define RECIPIENTS_MAX	1000000

static const char *const names[LIMIT_PARTS] = {
	[LIMIT_USER] = "user", [LIMIT_CLIENT] = "client",
	[LIMIT_NETWORK] = "network", [LIMIT_SENDER] = "sender",
	[LIMIT_SENDER_DOMAIN] = "sender_domain",
	[LIMIT_RECIPIENT] = "recipient",
	[LIMIT_RECIPIENT_DOMAIN] = "recipient_domain",
	[LIMIT_AUTH_DOMAIN] = "auth_domain",
};

static int
find_part(const char *word)
{
	for (int i = 0; i < LIMIT_PARTS; i++)
		if (strcmp(names[i], word) == 0)
			return i;
	return -1;
}

int
limit_key_parse(const char *const *words, struct limit_key *key,
    const char **why)
{
	int part;

	memset(key, 0, sizeof(*key));
	for (; *words != NULL; words++) {
		if ((part = find_part(*words)) == -1) {
			*why = "a key is made of user, client, network, "
			    "sender, sender_domain, recipient, "
			    "recipient_domain and auth_domain";
			return -1;
		}
		if (key->count == LIMIT_KEY_MAX) {
			*why = "has too many parts";
			return -1;
		}
		key->parts[key->count++] = (enum limit_part)part;
		key->has_recipient |= part == LIMIT_RECIPIENT ||
		    part == LIMIT_RECIPIENT_DOMAIN;
		key->has_authentic |= part == LIMIT_AUTH_DOMAIN;
	}
	*why = "is required";
	return key->count > 0 ? 0 : -1;
}

/* NULL or the text behind the last of that character. */
static const char *
behind(const char *text, char c)
{
	const char *at = text == NULL ? NULL : strrchr(text, c);

	return at == NULL ? NULL : at + 1;
}

static const char *
network_text(struct arena *arena, const char *address, bool whole)
{
	char text[SUBJECT_NETWORK_SIZE];
	struct sockaddr_storage client;

	if (!subject_client(address, &client))
		return NULL;
	subject_network(&client, whole ? 32 : IPV4_PREFIX, whole ? 128 :
	    IPV6_PREFIX, text);
	if (whole)
		*strchr(text, '/') = '\0';
	return arena_strdup(arena, text);
}

/* "dkim=example.org spf=example.net": the first. */
static const char *
authentic_domain(struct arena *arena, const char *list)
{
	const char *value = list == NULL ? NULL : strchr(list, '=');

	return value == NULL ? NULL : arena_strndup(arena, value + 1,
	    strcspn(value + 1, " "));
}

/* NULL: it is not known.  A bounce has no sender whom one could limit. */
static const char *
part_text(struct arena *arena, enum limit_part part,
    const struct policy_request *request, const char *recipient)
{
	switch (part) {
	case LIMIT_USER:
		return policy_known(request, POLICY_SASL_USERNAME);
	case LIMIT_CLIENT:
	case LIMIT_NETWORK:
		return network_text(arena, policy_known(request,
		    POLICY_CLIENT_ADDRESS), part == LIMIT_CLIENT);
	case LIMIT_SENDER:
		return policy_known(request, POLICY_SENDER);
	case LIMIT_SENDER_DOMAIN:
		return behind(policy_known(request, POLICY_SENDER), '@');
	case LIMIT_RECIPIENT:
		return *recipient != '\0' ? recipient : NULL;
	case LIMIT_RECIPIENT_DOMAIN:
		return behind(recipient, '@');
	case LIMIT_AUTH_DOMAIN:
		return authentic_domain(arena, policy_known(request,
		    POLICY_AUTH_DOMAINS));
	case LIMIT_PARTS:
		break;
	}
	return NULL;
}

/* False: a part is not known. */
static bool
fill_subject(struct arena *arena, const struct limit_key *key,
    const struct policy_request *request, struct limit_subject *subject)
{
	for (size_t i = 0; i < key->count; i++) {
		subject->parts[i] = part_text(arena, key->parts[i], request,
		    subject->recipient);
		if (subject->parts[i] == NULL)
			return false;
		subject->text = i == 0 ? subject->parts[i] : arena_printf(
		    arena, "%s %s", subject->text, subject->parts[i]);
	}
	return true;
}

static int
compare(const void *a, const void *b)
{
	const struct limit_subject *x = a, *y = b;

	return strcasecmp(x->text, y->text);
}

/* Puts those of the same text together; returns how many are left. */
static size_t
unite(struct limit_subject *subjects, size_t count)
{
	size_t left = 0;

	qsort(subjects, count, sizeof(*subjects), compare);
	for (size_t i = 0; i < count; i++)
		if (left > 0 && compare(&subjects[left - 1],
		    &subjects[i]) == 0)
			subjects[left - 1].recipients +=
			    subjects[i].recipients;
		else
			subjects[left++] = subjects[i];
	return left;
}

static int64_t
count_recipients(const struct policy_request *request, int64_t listed)
{
	int64_t told = strtol(policy_value(request, POLICY_RECIPIENT_COUNT),
	    NULL, 10);

	if (told > RECIPIENTS_MAX)
		told = RECIPIENTS_MAX;
	return told > listed ? told : listed > 0 ? listed : 1;
}

struct limit_subject *
limit_key_subjects(struct arena *arena, const struct limit_key *key,
    const struct policy_request *request, bool list, size_t *count)
{
	char *rest, *recipient = arena_strdup(arena, policy_value(request,
	    POLICY_RECIPIENT));
	size_t words = *recipient != '\0', found = 0;
	struct limit_subject *subjects;

	for (const char *c = recipient; *c != '\0'; c++)
		words += *c == ' ';
	subjects = arena_alloc(arena, (words + 1) * sizeof(*subjects));
	if (!list || !key->has_recipient) {
		subjects[0].recipient = recipient;
		subjects[0].recipients = list ? count_recipients(request,
		    (int64_t)words) : 1;
		*count = fill_subject(arena, key, request, &subjects[0]);
		return subjects;
	}
	for (char *word = strtok_r(recipient, " ", &rest); word != NULL;
	    word = strtok_r(NULL, " ", &rest)) {
		subjects[found].recipient = word;
		subjects[found].recipients = 1;
		if (fill_subject(arena, key, request, &subjects[found]))
			found++;
	}
	*count = unite(subjects, found);
	return subjects;
}

const char *
limit_key_message(struct arena *arena, const struct policy_request *request)
{
	static unsigned unknown;
	const char *id = policy_known(request, POLICY_INSTANCE);

	return id != NULL ? id : arena_printf(arena, "?%lld.%u",
	    (long long)clock_wall_us(), unknown++);
}

static enum answer
find_client(const struct table *table, const char *text, const char **value)
{
	char address[SUBJECT_NETWORK_SIZE];
	struct sockaddr_storage client;
	const char *why;

	snprintf(address, sizeof(address), "%.*s", (int)strcspn(text, "/"),
	    text);
	if (!subject_client(address, &client))
		return ANSWER_NO;
	return table_find_network(table, (struct sockaddr *)&client, value,
	    &why);
}

static enum answer
find_part_in(const struct table *table, enum limit_part part,
    const char *text, const char **value)
{
	const char *why;

	switch (part) {
	case LIMIT_CLIENT:
	case LIMIT_NETWORK:
		return find_client(table, text, value);
	case LIMIT_SENDER_DOMAIN:
	case LIMIT_RECIPIENT_DOMAIN:
	case LIMIT_AUTH_DOMAIN:
		return table_find_domain(table, text, value, &why);
	default:
		return strchr(text, '@') != NULL ? table_find_address(table,
		    text, value, &why) : table_find(table, text, value, &why);
	}
}

enum answer
limit_key_find(const struct limit_key *key, const struct table *table,
    const struct limit_subject *subject, const char **value)
{
	enum answer answer = ANSWER_NO;

	for (size_t i = 0; i < key->count && table != NULL &&
	    answer == ANSWER_NO; i++)
		answer = find_part_in(table, key->parts[i],
		    subject->parts[i], value);
	return answer;
}
