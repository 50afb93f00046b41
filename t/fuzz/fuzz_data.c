/*
 * Fuzzes content on its way out: whatever goes in, only whole CRLFs and no NUL
 * come out, and the dot ends it nowhere but at the end.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/client_data.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* Appends the vectors; returns the new length. */
static size_t
collect(char *out, size_t len, const struct iovec *iov, int count)
{
	for (int i = 0; i < count; i++) {
		memcpy(out + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	return len;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct data_state state = DATA_STATE_INIT;
	struct iovec iov[16];
	size_t piece, done = 0, len = 0;
	char *out;
	int count = 0;

	if (size < 1)
		return 0;
	piece = data[0] % 16 + 1;
	data++;
	size--;
	out = malloc(2 * size + 16);
	while (done < size) {
		size_t n = size - done < piece ? size - done : piece;
		ssize_t used = data_stuff(&state, (const char *)data + done, n,
		    iov, 16, &count);

		if (used == -1)
			goto end;
		done += (size_t)used;
		len = collect(out, len, iov, count);
		count = 0;
	}
	if (data_end(&state, iov, &count) == -1)
		goto end;
	len = collect(out, len, iov, count);
	assert(len >= 3 && memcmp(out + len - 3, ".\r\n", 3) == 0);
	for (size_t i = 0; i < len; i++) {
		assert(out[i] != '\0');
		assert(out[i] != '\n' || (i > 0 && out[i - 1] == '\r'));
		assert(out[i] != '\r' || (i + 1 < len && out[i + 1] == '\n'));
		if (out[i] == '.' && (i == 0 || out[i - 1] == '\n') &&
		    i + 3 < len)
			assert(out[i + 1] == '.');
	}
end:
	free(out);
	return 0;
}
