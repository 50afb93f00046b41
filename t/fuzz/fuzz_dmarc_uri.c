/* The list of URIs in a DMARC record's rua. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "filters/dmarc_uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *at = (const char *)data, *end = at + size;
	struct dmarc_uri uri;
	int rc;

	while ((rc = dmarc_uri_next(&at, end, &uri)) != 0)
		/* What comes out can stand in an envelope and in a header. */
		if (rc == 1 && (strpbrk(uri.address, " \r\n<>,;\"") != NULL ||
		    strchr(uri.address, '@') != uri.domain - 1))
			abort();
	return 0;
}
