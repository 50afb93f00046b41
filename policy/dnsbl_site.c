/* What is to be counted of a DNS list. */
#include "policy/dnsbl_site.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <sys/socket.h>

#include "base/arena.h"
#include "base/dns.h"
#include "base/net.h"

#define WEIGHT_MAX	1000000

static int
wrong(const char *what, const char **why)
{
	*why = what;
	return -1;
}

/* A decimal number of 0 to max; -1: it is none. */
static int
number(const char **text, int max)
{
	int value = 0;

	if (!isdigit((unsigned char)**text))
		return -1;
	for (; isdigit((unsigned char)**text); (*text)++) {
		value = 10 * value + (**text - '0');
		if (value > max)
			return -1;
	}
	return value;
}

static void
allow(uint32_t bytes[8], int first, int last)
{
	for (int i = first; i <= last; i++)
		bytes[i / 32] |= UINT32_C(1) << i % 32;
}

/* "2", or "[2;4..11]". */
static int
parse_place(const char **text, uint32_t bytes[8])
{
	bool many = **text == '[';
	int first, last;

	if (many)
		(*text)++;
	do {
		if ((first = last = number(text, 255)) == -1)
			return -1;
		if (many && strncmp(*text, "..", 2) == 0) {
			*text += 2;
			if ((last = number(text, 255)) < first)
				return -1;
		}
		allow(bytes, first, last);
	} while (many && **text == ';' && *(*text)++ == ';');
	return !many || *(*text)++ == ']' ? 0 : -1;
}

static int
parse_filter(const char **text, struct dnsbl_site *site, const char **why)
{
	for (int i = 0; i < 4; i++) {
		if (i > 0 && *(*text)++ != '.')
			return wrong("an answer has four numbers", why);
		if (parse_place(text, site->bytes[i]) != 0)
			return wrong("each number of an answer is like 2, or "
			    "[2;4..11], up to 255", why);
	}
	if ((site->bytes[0][127 / 32] & UINT32_C(1) << 127 % 32) == 0)
		return wrong("lists answer within 127.0.0.0/8", why);
	return 0;
}

/* "*3", "*-2". */
static int
parse_weight(const char **text, struct dnsbl_site *site, const char **why)
{
	bool negative = **text == '-';

	if (negative)
		(*text)++;
	if ((site->weight = number(text, WEIGHT_MAX)) <= 0)
		return wrong("a weight is a number such as 3 or -2", why);
	if (negative)
		site->weight = -site->weight;
	return 0;
}

static int
parse_zone(const char **text, struct dnsbl_site *site, const char **why)
{
	size_t len = strcspn(*text, "=*"), i;

	if (len > DNSBL_ZONE_MAX)
		return wrong("the domain is too long", why);
	for (i = 0; i < len; i++)
		site->zone[i] = (char)tolower((unsigned char)(*text)[i]);
	if (len > 0 && site->zone[len - 1] == '.')
		i--;
	site->zone[i] = '\0';
	*text += len;
	if (!net_is_host_name(site->zone))
		return wrong("the list is no domain name", why);
	return 0;
}

int
dnsbl_site_parse(const char *text, struct dnsbl_site *site, const char **why)
{
	memset(site, 0, sizeof(*site));
	site->weight = 1;
	if (parse_zone(&text, site, why) != 0)
		return -1;
	if (*text != '=')
		memset(site->bytes, 0xff, sizeof(site->bytes));
	else if (text++, parse_filter(&text, site, why) != 0)
		return -1;
	if (*text == '*' && (text++, parse_weight(&text, site, why)) != 0)
		return -1;
	return *text == '\0' ? 0 : wrong("something is left over behind it",
	    why);
}

bool
dnsbl_site_counts(const struct dnsbl_site *site, struct in_addr answer)
{
	uint32_t address = ntohl(answer.s_addr);

	if (dnsbl_code(answer) != DNSBL_LISTED)
		return false;
	for (int i = 0; i < 4; i++) {
		uint32_t byte = address >> (24 - 8 * i) & 0xff;

		if ((site->bytes[i][byte / 32] & UINT32_C(1) << byte % 32) ==
		    0)
			return false;
	}
	return true;
}

enum dnsbl_code
dnsbl_code(struct in_addr answer)
{
	uint32_t address = ntohl(answer.s_addr);

	if (address >> 24 != 127)
		return DNSBL_FOREIGN;
	if (address == INADDR_LOOPBACK || address >> 8 == 0x7fffff)
		return DNSBL_ERROR;
	return DNSBL_LISTED;
}

const char *
dnsbl_address_name(struct arena *arena, const struct sockaddr *address,
    const char *zone)
{
	const char *name = dns_reverse_name(arena, address);
	const char *arpa;

	if (name == NULL)
		return NULL;
	if ((arpa = strstr(name, "in-addr.arpa")) == NULL &&
	    (arpa = strstr(name, "ip6.arpa")) == NULL)
		return NULL;
	return arena_printf(arena, "%.*s%s", (int)(arpa - name), name, zone);
}
