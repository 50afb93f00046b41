/* Domain names: A-labels by libidn2, public suffixes by libpsl. */
#include "filters/domain.h"

#include <stdlib.h>
#include <string.h>

#include <idn2.h>
#include <libpsl.h>

#include "base/arena.h"

#define LABEL_MAX	63
#define INPUT_MAX	1024		/* octets of a name in UTF-8 */

struct domain_suffixes {
	psl_ctx_t *psl;
};

static bool
is_ascii(const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)bytes[i] > 0x7f)
			return false;
	return true;
}

/* Lower-cases in place; whether it is a domain name. */
static bool
check_labels(char *name)
{
	size_t label = 0;

	for (char *p = name; *p != '\0'; p++) {
		if (*p >= 'A' && *p <= 'Z')
			*p += 'a' - 'A';
		if (*p == '.') {
			if (label == 0)
				return false;
			label = 0;
			continue;
		}
		if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') ||
		    *p == '-' || *p == '_') || ++label > LABEL_MAX)
			return false;
	}
	return label > 0;
}

/* A-labels (RFC 5891); NULL: it has none. */
static char *
to_ascii(struct arena *arena, const char *name)
{
	char *encoded = NULL, *copy;

	if (idn2_lookup_u8((const uint8_t *)name, (uint8_t **)&encoded,
	    IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
		return NULL;
	copy = arena_strdup(arena, encoded);
	idn2_free(encoded);
	return copy;
}

const char *
domain_normalize(struct arena *arena, const char *bytes, size_t len)
{
	char *name;

	if (len > 0 && bytes[len - 1] == '.')
		len--;
	if (len == 0 || len > INPUT_MAX || memchr(bytes, '\0', len) != NULL)
		return NULL;
	name = arena_strndup(arena, bytes, len);
	if (!is_ascii(bytes, len) && (name = to_ascii(arena, name)) == NULL)
		return NULL;
	if (strlen(name) > DOMAIN_MAX || !check_labels(name))
		return NULL;
	return name;
}

size_t
domain_labels(const char *domain)
{
	size_t count = 1;

	for (; *domain != '\0'; domain++)
		count += *domain == '.';
	return count;
}

const char *
domain_parent(const char *domain)
{
	const char *dot = strchr(domain, '.');

	return dot == NULL ? NULL : dot + 1;
}

bool
domain_is_within(const char *name, const char *domain)
{
	size_t n = strlen(name), d = strlen(domain);

	return n >= d && strcmp(name + n - d, domain) == 0 &&
	    (n == d || name[n - d - 1] == '.');
}

struct domain_suffixes *
domain_suffixes_load(const char *path, const char **why)
{
	psl_ctx_t *psl = psl_latest(path);
	struct domain_suffixes *suffixes;

	if (psl == NULL) {
		*why = "no Public Suffix List";
		return NULL;
	}
	suffixes = malloc(sizeof(*suffixes));
	if (suffixes == NULL) {
		psl_free(psl);
		*why = "out of memory";
		return NULL;
	}
	suffixes->psl = psl;
	return suffixes;
}

void
domain_suffixes_free(struct domain_suffixes **suffixesp)
{
	if (*suffixesp == NULL)
		return;
	psl_free((*suffixesp)->psl);
	free(*suffixesp);
	*suffixesp = NULL;
}

const char *
domain_organizational(const struct domain_suffixes *suffixes,
    const char *domain)
{
	const char *found = psl_registrable_domain(suffixes->psl, domain);

	return found == NULL ? domain : found;
}
