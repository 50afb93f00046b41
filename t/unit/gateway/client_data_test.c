/* Content on its way out: dots, line ends, what must never leave. */
#include "gateway/client_data.h"

#include <string.h>

#include "base/buf.h"
#include "t/unit/unit.h"

#define BYTES(text) text, sizeof(text) - 1

static const struct {
	const char *name, *in;
	size_t len;
	const char *want;		/* NULL: refused */
} cases[] = {
	{ "empty", BYTES(""), ".\r\n" },
	{ "a line", BYTES("a\r\n"), "a\r\n.\r\n" },
	{ "no end of line", BYTES("a"), "a\r\n.\r\n" },
	{ "leading dot", BYTES(".a\r\n"), "..a\r\n.\r\n" },
	{ "lone dot", BYTES("a\r\n.\r\nb\r\n"), "a\r\n..\r\nb\r\n.\r\n" },
	{ "only a dot", BYTES("."), "..\r\n.\r\n" },
	{ "two dots", BYTES("\r\n..\r\n"), "\r\n...\r\n.\r\n" },
	{ "dot inside", BYTES("a.b\r\n"), "a.b\r\n.\r\n" },
	{ "blank lines", BYTES("\r\n\r\n"), "\r\n\r\n.\r\n" },
	{ "bare LF", BYTES("a\nb\n"), "a\r\nb\r\n.\r\n" },
	{ "LF.LF", BYTES("a\n.\nb\n"), "a\r\n..\r\nb\r\n.\r\n" },
	{ "LF.CRLF", BYTES("a\n.\r\nb\n"), "a\r\n..\r\nb\r\n.\r\n" },
	{ "CRLF.LF", BYTES("a\r\n.\nb"), "a\r\n..\r\nb\r\n.\r\n" },
	{ "LFLF.CRLF", BYTES("a\n\n.\r\n"), "a\r\n\r\n..\r\n.\r\n" },
	{ "LF.CR", BYTES("a\n.\rb"), NULL },
	{ "CR.LF", BYTES("a\r.\nb"), NULL },
	{ "CR.CR", BYTES("a\r.\rb"), NULL },
	{ "CR.CRLF", BYTES("a\r.\r\nb"), NULL },
	{ "CRLF.CR", BYTES("a\r\n.\rb"), NULL },
	{ "CRLF.CRCRLF", BYTES("a\r\n.\r\r\nb"), NULL },
	{ "CRCRLF.CRCRLF", BYTES("a\r\r\n.\r\r\nb"), NULL },
	{ "CRCRLF.CRLF", BYTES("a\r\r\n.\r\nb"), NULL },
	{ "CRLF NUL.CRLF", BYTES("a\r\n\0.\r\nb"), NULL },
	{ "CRLF.NUL CRLF", BYTES("a\r\n.\0\r\nb"), NULL },
	{ "NUL", BYTES("a\0b\r\n"), NULL },
	{ "CR at the end", BYTES("a\r"), NULL },
	{ "VT and FF stay", BYTES("a\v.\f\r\n"), "a\v.\f\r\n.\r\n" },
};

/* Feeds pieces of that size with room for that many vectors. */
static int
run(const char *in, size_t len, size_t piece, int max, struct buf *out)
{
	struct data_state state = DATA_STATE_INIT;
	struct iovec iov[64];
	int count = 0, rc = 0;
	size_t done = 0;

	buf_reset(out);
	while (rc == 0) {
		size_t n = len - done < piece ? len - done : piece;

		if (n > 0) {
			ssize_t used = data_stuff(&state, in + done, n, iov,
			    max, &count);

			if (used == -1)
				return -1;
			done += (size_t)used;
		} else if ((rc = data_end(&state, iov, &count)) == -1) {
			return -1;
		} else {
			rc = 1;
		}
		for (int i = 0; i < count; i++)
			buf_append(out, iov[i].iov_base, iov[i].iov_len);
		count = 0;
	}
	return 0;
}

static void
table(void)
{
	static const size_t pieces[] = { 1, 2, 3, 1000 };
	static const int rooms[] = { DATA_IOV_MIN, 5, 60 };
	struct buf out = BUF_INIT;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t j = 0; j < 12; j++) {
			int rc = run(cases[i].in, cases[i].len, pieces[j % 4],
			    rooms[j / 4], &out);

			if (cases[i].want == NULL) {
				CASE_ASSERT(cases[i].name, rc == -1);
				continue;
			}
			CASE_ASSERT(cases[i].name, rc == 0);
			CASE_ASSERT(cases[i].name, rc == 0 &&
			    out.len == strlen(cases[i].want) &&
			    memcmp(out.data, cases[i].want, out.len) == 0);
		}
	buf_release(&out);
}

/* What needs no dot goes out as one piece, where it is. */
static void
no_copy(void)
{
	static const char text[] = "Subject: x\r\n\r\none\r\ntwo\r\n";
	struct data_state state = DATA_STATE_INIT;
	struct iovec iov[8];
	int count = 0;

	CU_ASSERT(data_stuff(&state, text, sizeof(text) - 1, iov, 8, &count)
	    == (ssize_t)sizeof(text) - 1);
	CU_ASSERT(count == 1);
	CU_ASSERT(iov[0].iov_base == text);
	CU_ASSERT(iov[0].iov_len == sizeof(text) - 1);
}

SUITE(client_data, { "table", table }, { "nothing is copied", no_copy })
