/*
 * Networks: one hash look-up for each prefix length that occurs, from the
 * longest to the shortest.  Lists rarely hold more than a handful of lengths.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/table_impl.h"

static void
mask(struct table_network *net, unsigned length)
{
	unsigned bytes = net->family == 4 ? 4 : 16;

	net->length = (unsigned char)length;
	for (unsigned i = 0; i < bytes; i++) {
		if (length >= 8 * (i + 1))
			continue;
		if (length <= 8 * i)
			net->address[i] = 0;
		else
			net->address[i] &= (unsigned char)
			    (0xff00 >> (length - 8 * i));
	}
}

static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };

/* Sets family, length and address; false if it's no address. */
static bool
address_parse(const char *text, struct table_network *net)
{
	char bare[INET6_ADDRSTRLEN];
	size_t len = strlen(text);

	if (len > 2 && text[0] == '[' && text[len - 1] == ']' &&
	    len - 2 < sizeof(bare)) {
		memcpy(bare, text + 1, len - 2);
		bare[len - 2] = '\0';
		text = bare;
	}
	memset(net, 0, sizeof(*net));
	if (inet_pton(AF_INET, text, net->address) == 1) {
		net->family = 4;
		net->length = 32;
		return true;
	}
	if (inet_pton(AF_INET6, text, net->address) == 1) {
		net->family = 6;
		net->length = 128;
		return true;
	}
	return false;
}

/* ::ffff:192.0.2.0/120 is 192.0.2.0/24. */
static void
unmap(struct table_network *net)
{
	if (net->family != 6 || net->length < 96 ||
	    memcmp(net->address, mapped, sizeof(mapped)) != 0)
		return;
	memmove(net->address, net->address + 12, 4);
	memset(net->address + 4, 0, 12);
	net->family = 4;
	net->length = (unsigned char)(net->length - 96);
}

enum table_network_text
table_network_parse(const char *text, struct table_network *net,
    const char **why)
{
	struct table_network whole;
	const char *slash = strchr(text, '/');
	char address[INET6_ADDRSTRLEN + 2];
	size_t len = slash == NULL ? strlen(text) : (size_t)(slash - text);
	unsigned long length;
	char *end;

	*why = "not a network (192.0.2.0/24, 2001:db8::/32)";
	if (slash != NULL && (strcspn(text, ".:") > len ||
	    strspn(text, "0123456789abcdefABCDEF.:[]") != len))
		return TABLE_TEXT_OTHER;
	if (len < 2 || len >= sizeof(address))
		return slash == NULL ? TABLE_TEXT_OTHER : TABLE_TEXT_BROKEN;
	memcpy(address, text, len);
	address[len] = '\0';
	if (!address_parse(address, net))
		return slash == NULL ? TABLE_TEXT_OTHER : TABLE_TEXT_BROKEN;
	if (slash == NULL) {
		unmap(net);
		return TABLE_TEXT_NETWORK;
	}
	length = strtoul(slash + 1, &end, 10);
	if (slash[1] < '0' || slash[1] > '9' || *end != '\0' ||
	    length > net->length) {
		*why = "the prefix length is wrong";
		return TABLE_TEXT_BROKEN;
	}
	whole = *net;
	mask(net, (unsigned)length);
	if (memcmp(whole.address, net->address, sizeof(net->address)) != 0) {
		*why = "bits are set behind the prefix length";
		return TABLE_TEXT_BROKEN;
	}
	unmap(net);
	return TABLE_TEXT_NETWORK;
}

static bool
same(const void *holder, uint32_t number, const void *key, size_t len)
{
	const struct table_networks *networks = holder;

	return memcmp(&networks->nets[number - 1], key, len) == 0;
}

static uint32_t
hash_of(const void *holder, uint32_t number)
{
	const struct table_networks *networks = holder;

	return table_hash_bytes(&networks->nets[number - 1],
	    sizeof(struct table_network));
}

/* The number of that very network, or 0. */
static uint32_t
find(const struct table_networks *networks, const struct table_network *net)
{
	return table_hash_find(&networks->hash,
	    table_hash_bytes(net, sizeof(*net)), same, networks, net,
	    sizeof(*net));
}

bool
table_networks_add(struct table_networks *networks,
    const struct table_network *net, uint32_t entry)
{
	if (find(networks, net) != 0)
		return false;
	if (networks->count == networks->size) {
		networks->size = networks->size == 0 ? 16 : networks->size * 2;
		networks->nets = reallocarray(networks->nets, networks->size,
		    sizeof(*networks->nets));
		networks->entries = reallocarray(networks->entries,
		    networks->size, sizeof(*networks->entries));
		if (networks->nets == NULL || networks->entries == NULL)
			fatal("out of memory");
	}
	networks->nets[networks->count] = *net;
	networks->entries[networks->count++] = entry;
	table_hash_add(&networks->hash, table_hash_bytes(net, sizeof(*net)),
	    (uint32_t)networks->count, hash_of, networks);
	if (net->family == 4)
		networks->v4[net->length] = true;
	else
		networks->v6[net->length] = true;
	return true;
}

static uint32_t
find_longest(const struct table_networks *networks, struct table_network *net)
{
	const bool *lengths = net->family == 4 ? networks->v4 : networks->v6;
	uint32_t number;

	for (int length = net->length; length >= 0; length--) {
		if (!lengths[length])
			continue;
		mask(net, (unsigned)length);
		if ((number = find(networks, net)) != 0)
			return networks->entries[number - 1];
	}
	return UINT32_MAX;
}

uint32_t
table_networks_find(const struct table_networks *networks,
    const struct sockaddr *address)
{
	struct table_network net = { .family = 0 };

	if (networks->count == 0)
		return UINT32_MAX;
	if (address->sa_family == AF_INET) {
		net.family = 4;
		net.length = 32;
		memcpy(net.address,
		    &((const struct sockaddr_in *)address)->sin_addr, 4);
	} else if (address->sa_family == AF_INET6) {
		net.family = 6;
		net.length = 128;
		memcpy(net.address,
		    &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
		unmap(&net);
	} else {
		return UINT32_MAX;
	}
	return find_longest(networks, &net);
}

uint32_t
table_networks_find_text(const struct table_networks *networks,
    const char *address)
{
	struct table_network net;

	if (networks->count == 0 || !address_parse(address, &net))
		return UINT32_MAX;
	unmap(&net);
	return find_longest(networks, &net);
}

void
table_networks_release(struct table_networks *networks)
{
	free(networks->nets);
	free(networks->entries);
	free(networks->hash.slots);
}
