/* A file of recorded conversations: any bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "filters/milter_codec.h"
#include "filters/milter_print.h"
#include "filters/milter_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct milter_record *records;
	struct buf text = BUF_INIT;
	const char *why;
	size_t count;

	if (milter_records_load((const char *)bytes, len, &records, &count,
	    &why) != 0)
		return 0;
	for (size_t i = 0; i < count; i++) {
		const struct milter_packet packet = { records[i].len > 0 ?
		    records[i].bytes[0] : '\0', records[i].bytes + 1,
		    records[i].len > 0 ? records[i].len - 1 : 0, 0 };

		if (records[i].kind != '<' && records[i].kind != '>')
			continue;
		buf_reset(&text);
		milter_print_packet(&text, records[i].kind == '<', &packet,
		    records[i].full - 1);
	}
	buf_release(&text);
	free(records);
	return 0;
}
