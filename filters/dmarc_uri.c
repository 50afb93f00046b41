/* The list of URIs in rua. */
#include "filters/dmarc_uri.h"

#include <string.h>
#include <strings.h>

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "10m": RFC 7489, 6.2; RFC 9990 has dropped it, records still hold it. */
static int
parse_limit(const char *at, const char *end, uint64_t *limit)
{
	uint64_t value = 0;
	int shift = 0;

	for (; at < end && *at >= '0' && *at <= '9'; at++)
		if ((value = value * 10 + (uint64_t)(*at - '0')) >
		    UINT64_C(1) << 40)
			return -1;
	if (at < end) {
		const char *unit = strchr("kmgt", *at | 0x20);

		if (unit == NULL || *unit == '\0' || end - at != 1)
			return -1;
		shift = 10 * (*at == 'k' || *at == 'K' ? 1 : *at == 'm' ||
		    *at == 'M' ? 2 : *at == 'g' || *at == 'G' ? 3 : 4);
	}
	*limit = shift < 64 && value <= UINT64_MAX >> shift ?
	    value << shift : UINT64_MAX;
	return 0;
}

/* Percent-encoding undone; nothing that could leave an address. */
static int
decode(const char *at, const char *end, char *address)
{
	size_t n = 0;

	for (; at < end; at++) {
		int byte = (unsigned char)*at;

		if (byte == '%') {
			if (end - at < 3 || hex(at[1]) < 0 || hex(at[2]) < 0)
				return -1;
			byte = hex(at[1]) * 16 + hex(at[2]);
			at += 2;
		}
		if (byte <= ' ' || byte >= 0x7f || strchr("<>\",;:\\()[]",
		    byte) != NULL || n == DMARC_ADDRESS_MAX - 1)
			return -1;
		address[n++] = (char)byte;
	}
	address[n] = '\0';
	return 0;
}

static int
parse(const char *at, const char *end, struct dmarc_uri *uri)
{
	static const char scheme[] = "mailto:";
	const char *mark, *sign;

	if ((size_t)(end - at) <= strlen(scheme) ||
	    strncasecmp(at, scheme, strlen(scheme)) != 0)
		return -1;
	at += strlen(scheme);
	uri->limit = 0;
	if ((mark = memchr(at, '!', (size_t)(end - at))) != NULL) {
		if (parse_limit(mark + 1, end, &uri->limit) != 0)
			return -1;
		end = mark;
	}
	if ((mark = memchr(at, '?', (size_t)(end - at))) != NULL)
		end = mark;
	if (decode(at, end, uri->address) != 0)
		return -1;
	sign = strchr(uri->address, '@');
	if (sign == NULL || sign == uri->address || sign[1] == '\0' ||
	    strchr(sign + 1, '@') != NULL)
		return -1;
	uri->domain = sign + 1;
	return 1;
}

int
dmarc_uri_next(const char **at, const char *end, struct dmarc_uri *uri)
{
	const char *begin = *at, *comma;

	while (begin < end && (*begin == ' ' || *begin == '\t' ||
	    *begin == ','))
		begin++;
	*at = end;
	if (begin >= end)
		return 0;
	comma = memchr(begin, ',', (size_t)(end - begin));
	if (comma != NULL) {
		*at = comma + 1;
		end = comma;
	}
	while (end > begin && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	return parse(begin, end, uri);
}
