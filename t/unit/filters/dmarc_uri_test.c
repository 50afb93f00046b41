#include "filters/dmarc_uri.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "t/unit/unit.h"

/* What comes out: "address!limit" parted by blanks, "-" for what is no use. */
static const struct {
	const char *name, *rua, *want;
} cases[] = {
	{ "nothing", "", "" },
	{ "blanks and commas", " , ,\t", "" },
	{ "one", "mailto:a@b.test", "a@b.test!0" },
	{ "two", "mailto:a@b.test,mailto:c@d.test", "a@b.test!0 c@d.test!0" },
	{ "with blanks", " mailto:a@b.test , mailto:c@d.test ",
	    "a@b.test!0 c@d.test!0" },
	{ "case", "MailTo:A@B.test", "A@B.test!0" },
	{ "limits", "mailto:a@b.test!10,mailto:a@b.test!1k,mailto:a@b.test!2M",
	    "a@b.test!10 a@b.test!1024 a@b.test!2097152" },
	{ "bad limits", "mailto:a@b.test!x,mailto:a@b.test!1kk,"
	    "mailto:a@b.test!99999999999999", "- - -" },
	{ "a huge limit", "mailto:a@b.test!1099511627776t",
	    "a@b.test!18446744073709551615" },
	{ "parameters", "mailto:a@b.test?subject=x", "a@b.test!0" },
	{ "encoded", "mailto:a%2bb@c%2Etest", "a+b@c.test!0" },
	{ "encoded badly", "mailto:a%2@b.test,mailto:a%zz@b.test,"
	    "mailto:a@b%", "- - -" },
	{ "a line break", "mailto:a%0d%0a@b.test", "-" },
	{ "an encoded comma", "mailto:a%2cb@c.test", "-" },
	{ "other schemes", "https://b.test/,mailto:a@b.test,a@b.test",
	    "- a@b.test!0 -" },
	{ "no address", "mailto:,mailto:a,mailto:@b.test,mailto:a@,"
	    "mailto:a@b@c.test", "- - - - -" },
	{ "brackets", "mailto:<a@b.test>", "-" },
};

static void
lists(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *at = cases[i].rua, *end = at + strlen(at);
		struct buf text = BUF_INIT;
		struct dmarc_uri uri;
		int rc;

		buf_puts(&text, "");
		while ((rc = dmarc_uri_next(&at, end, &uri)) != 0) {
			if (text.len > 0)
				buf_putc(&text, ' ');
			if (rc == -1)
				buf_putc(&text, '-');
			else
				buf_printf(&text, "%s!%llu", uri.address,
				    (unsigned long long)uri.limit);
			CASE_ASSERT(cases[i].name, rc == -1 || uri.domain ==
			    strchr(uri.address, '@') + 1);
		}
		CASE_ASSERT(cases[i].name, strcmp(text.len > 0 ? text.data :
		    "", cases[i].want) == 0);
		buf_release(&text);
	}
}

/* An address that is too long is none; one that just fits is whole. */
static void
bounds(void)
{
	for (size_t len = DMARC_ADDRESS_MAX - 2; len <= DMARC_ADDRESS_MAX + 2;
	    len++) {
		char text[DMARC_ADDRESS_MAX + 16] = "mailto:";
		const char *at = text, *end = text + 7 + len;
		struct dmarc_uri uri;
		int rc;

		memset(text + 7, 'a', len);
		text[7 + 5] = '@';
		rc = dmarc_uri_next(&at, end, &uri);
		CU_ASSERT_EQUAL(rc, len < DMARC_ADDRESS_MAX ? 1 : -1);
		CU_ASSERT(rc == -1 || strlen(uri.address) == len);
	}
}

SUITE(dmarc_uri, { "lists", lists }, { "bounds", bounds })
