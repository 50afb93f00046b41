/* Entries of access lists, and which of them speak of a request. */
#include "policy/access_list_entry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/authentic.h"
#include "policy/protocol.h"
#include "policy/service.h"
#include "policy/subject.h"

#define PARENTS_MAX	4		/* domains above one */
#define SEPARATORS	" ,\t"

/* The lengths of networks in the store: each costs a look-up of each mail. */
static const int lengths4[] = { 32, 24, 16, 8 };
static const int lengths6[] = { 128, 64, 48, 32 };

#define LENGTHS (sizeof(lengths4) / sizeof(lengths4[0]))

static void
lower(char *text)
{
	for (; *text != '\0'; text++)
		if (*text >= 'A' && *text <= 'Z')
			*text = (char)(*text | 0x20);
}

/* --- networks --- */

/* An address, perhaps with /length.  -1: it is none. */
static int
network_parse(const char *text, struct sockaddr_storage *address, int *length)
{
	const char *slash = strchr(text, '/');
	size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
	char host[INET6_ADDRSTRLEN], *end;
	int max;

	if (len >= sizeof(host))
		return -1;
	memcpy(host, text, len);
	host[len] = '\0';
	if (!subject_client(host, address))
		return -1;
	*length = max = address->ss_family == AF_INET ? 32 : 128;
	if (slash == NULL)
		return 0;
	*length = (int)strtol(slash + 1, &end, 10);
	return slash[1] >= '0' && slash[1] <= '9' && *end == '\0' &&
	    *length >= 0 && *length <= max ? 0 : -1;
}

int
access_network_normalize(const char *text, char normal[ACCESS_ENTRY_SIZE],
    const char **why)
{
	struct sockaddr_storage address;
	int length;

	if (network_parse(text, &address, &length) != 0) {
		*why = "not a network (192.0.2.0/24, 2001:db8::/32)";
		return -1;
	}
	subject_network(&address, length, length, normal);
	return 0;
}

static bool
network_holds(const char *network, const struct sockaddr_storage *client)
{
	char normal[SUBJECT_NETWORK_SIZE], theirs[SUBJECT_NETWORK_SIZE];
	struct sockaddr_storage address;
	int length;

	if (network_parse(network, &address, &length) != 0 ||
	    address.ss_family != client->ss_family)
		return false;
	subject_network(&address, length, length, normal);
	subject_network(client, length, length, theirs);
	return strcmp(normal, theirs) == 0;
}

bool
access_networks_hold(const char *networks,
    const struct sockaddr_storage *client)
{
	char one[SUBJECT_NETWORK_SIZE];
	size_t len;

	while (*(networks += strspn(networks, SEPARATORS)) != '\0') {
		len = strcspn(networks, SEPARATORS);
		if (len < sizeof(one)) {
			memcpy(one, networks, len);
			one[len] = '\0';
			if (network_holds(one, client))
				return true;
		}
		networks += len;
	}
	return false;
}

/* --- entries --- */

/* No top-level domain is a number: that is an address, mistyped. */
static bool
is_domain(const char *text)
{
	const char *last = strrchr(text, '.');

	if (last != NULL && last[1 + strspn(last + 1, "0123456789")] == '\0')
		return false;
	if (*text == '.')
		text++;
	return *text != '\0' && *text != '.' && strchr(text, '.') != NULL &&
	    strpbrk(text, "@/:, \t") == NULL && strstr(text, "..") == NULL &&
	    text[strlen(text) - 1] != '.';
}

static bool
is_address_or_domain(const char *text)
{
	const char *at = strrchr(text, '@');

	return at == NULL ? is_domain(text) : at > text && at[1] != '.' &&
	    is_domain(at + 1);
}

static int
check_length(const char *network, const char **why)
{
	const char *slash = strchr(network, '/');
	const int *lengths = strchr(network, ':') != NULL ? lengths6 :
	    lengths4;

	for (size_t i = 0; i < LENGTHS; i++)
		if (atoi(slash + 1) == lengths[i])
			return 0;
	*why = lengths == lengths4 ?
	    "a network here is a /32, /24, /16 or /8" :
	    "a network here is a /128, /64, /48 or /32";
	return -1;
}

int
access_entry_normalize(const char *text, char normal[ACCESS_ENTRY_SIZE],
    const char **why)
{
	const char *unused;

	if (strlen(text) >= ACCESS_ENTRY_SIZE) {
		*why = "it is too long";
		return -1;
	}
	for (const char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || *p == '\x7f') {
			*why = "there is a blank in it";
			return -1;
		}
	if (access_network_normalize(text, normal, &unused) == 0)
		return check_length(normal, why);
	strcpy(normal, text);
	lower(normal);
	if (strncmp(normal, "user:", 5) == 0 && normal[5] != '\0')
		return 0;
	if (is_address_or_domain(strncmp(normal, "to:", 3) == 0 ?
	    normal + 3 : normal))
		return 0;
	*why = "not a network, domain, address, to:address or user:name";
	return -1;
}

/* --- candidates --- */

static void __attribute__((format(printf, 3, 4)))
add(struct access_candidates *found, bool vouched, const char *format, ...)
{
	struct access_candidate *candidate = &found->items[found->count];
	va_list arguments;
	int len;

	if (found->count == ACCESS_CANDIDATES)
		return;
	va_start(arguments, format);
	len = vsnprintf(candidate->text, sizeof(candidate->text), format,
	    arguments);
	va_end(arguments);
	if (len < 0 || (size_t)len >= sizeof(candidate->text))
		return;
	lower(candidate->text);
	candidate->vouched = vouched;
	for (size_t i = 0; i < found->count; i++)
		if (strcmp(found->items[i].text, candidate->text) == 0) {
			found->items[i].vouched |= vouched;
			return;
		}
	found->count++;
}

static void
add_domain(struct access_candidates *found, bool vouched, const char *prefix,
    const char *domain)
{
	const char *dot = domain;

	add(found, vouched, "%s%s", prefix, domain);
	for (int i = 0; i < PARENTS_MAX; i++) {
		if ((dot = strchr(dot + (i > 0), '.')) == NULL)
			return;
		add(found, vouched, "%s%s", prefix, dot);
	}
}

static void
add_networks(struct access_candidates *found)
{
	char text[SUBJECT_NETWORK_SIZE];

	for (size_t i = 0; i < LENGTHS; i++) {
		subject_network(&found->client, lengths4[i], lengths6[i],
		    text);
		add(found, true, "%s", text);
	}
}

/* Only one: at the end of a message there may be a list of them. */
static void
add_recipient(struct access_candidates *found,
    const struct policy_query *query)
{
	const char *recipient = policy_value(query->request,
	    POLICY_RECIPIENT);
	const char *at = strrchr(recipient, '@');

	if (at == NULL || strchr(recipient, ' ') != NULL)
		return;
	add(found, true, "to:%s", recipient);
	add(found, true, "to:%s", at + 1);
}

void
access_candidates_find(struct access_candidates *found,
    const struct policy_query *query, bool proven_only)
{
	const struct policy_request *request = query->request;
	const char *sender = policy_value(request, POLICY_SENDER);
	const char *user = policy_known(request, POLICY_SASL_USERNAME);
	const char *at = strrchr(sender, '@');
	char domain[AUTHENTIC_DOMAIN_MAX + 1];
	bool vouched = authentic_sender(query);
	size_t next = 0;

	found->count = 0;
	found->has_client = subject_client(policy_value(request,
	    POLICY_CLIENT_ADDRESS), &found->client);
	if (!proven_only) {
		if (at != NULL)
			add(found, vouched, "%s", sender);
		if (user != NULL)
			add(found, true, "user:%s", user);
		if (found->has_client)
			add_networks(found);
		add_recipient(found, query);
		if (at != NULL)
			add_domain(found, vouched, "", at + 1);
	}
	while (authentic_domain(query, &next, domain))
		add_domain(found, true, "", domain);
}
