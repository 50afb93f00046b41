/* DMARC policy records. */
#include <stddef.h>
#include <stdint.h>

#include "filters/dmarc_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dmarc_record record;
	const char *why;

	dmarc_record_parse((const char *)data, size, &record, &why);
	return 0;
}
