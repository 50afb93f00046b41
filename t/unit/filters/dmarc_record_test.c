#include <stdio.h>
#include <string.h>

#include "filters/dmarc_record.h"
#include "t/unit/unit.h"

/* "p sp np psd testing adkim aspf"; NULL: unusable. */
static const struct {
	const char *record, *want;
} cases[] = {
	{ "v=DMARC1", "none - - u 0 r r" },
	{ "v=DMARC1; p=reject", "reject - - u 0 r r" },
	{ "v=DMARC1;p=quarantine;sp=none;np=reject",
	    "quarantine none reject u 0 r r" },
	{ " v=DMARC1;p=reject", NULL },
	{ "v = DMARC1 ; p = reject ;", "reject - - u 0 r r" },
	{ "v=DMARC1;;p=reject", "reject - - u 0 r r" },
	{ "v=DMARC1; p=REJECT; adkim=S; aspf=s", "reject - - u 0 s s" },
	{ "v=DMARC1; p=reject; adkim=x; aspf=strict", "reject - - u 0 r r" },
	{ "v=DMARC1; p=reject; psd=y; t=y", "reject - - y 1 r r" },
	{ "v=DMARC1; p=reject; psd=n; t=n", "reject - - n 0 r r" },
	{ "v=DMARC1; p=reject; psd=x; t=x", "reject - - u 0 r r" },
	{ "v=DMARC1; p=reject; pct=0", "reject - - u 0 r r" },
	{ "v=DMARC1; p=reject; pct=x; ri=-1; rf=iodef; fo=?",
	    "reject - - u 0 r r" },
	{ "v=DMARC1; p=reject; foo=bar; x", "reject - - u 0 r r" },
	{ "v=DMARC1; sp=reject; p=none", "none reject - u 0 r r" },
	{ "v=DMARC1; rua=mailto:a@x.test", "none - - u 0 r r" },
	{ "v=DMARC1; p=bob; rua=mailto:a@x.test", "none - - u 0 r r" },
	{ "v=DMARC1; p=r; rua=mailto:a@x.test!10m", "none - - u 0 r r" },
	{ "v=DMARC1; p=reject; sp=x; rua=https://x, mailto:a@x.test",
	    "none - - u 0 r r" },
	{ "v=DMARC1; p=bob", NULL },
	{ "v=DMARC1; p=r", NULL },
	{ "v=DMARC1; p=", NULL },
	{ "v=DMARC1; p=reject; sp=x", NULL },
	{ "v=DMARC1; p=reject; np=x; rua=", NULL },
	{ "v=DMARC1; p=bob; rua=mailto:", NULL },
	{ "v=DMARC1; p=bob; rua=mailto:@x, a@x", NULL },
	{ "v=DMARC1; p=reject; p=none", NULL },
	{ "v=DMARC1; p=reject; P=none", NULL },
	{ "p=reject", NULL },
	{ "p=reject; v=DMARC1", NULL },
	{ "v=DMARC2; p=reject", NULL },
	{ "v=DMARC10; p=reject", NULL },
	{ "v=dmarc1; p=reject", NULL },
	{ "V=DMARC1; p=reject", NULL },
	{ "v=DMARC1 p=reject", NULL },
	{ "v", NULL }, { "=", NULL }, { "", NULL }, { ";", NULL },
};

static const char *
text(const struct dmarc_record *r)
{
	static char line[80];

	snprintf(line, sizeof(line), "%s %s %s %c %d %c %c",
	    dmarc_action_name(r->p),
	    r->sp == DMARC_UNSET ? "-" : dmarc_action_name(r->sp),
	    r->np == DMARC_UNSET ? "-" : dmarc_action_name(r->np), r->psd,
	    r->testing, r->strict_dkim ? 's' : 'r',
	    r->strict_spf ? 's' : 'r');
	return line;
}

static void
parses(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dmarc_record record;
		const char *why = NULL;
		int rc = dmarc_record_parse(cases[i].record,
		    strlen(cases[i].record), &record, &why);

		CASE_ASSERT(cases[i].record,
		    (rc == 0) == (cases[i].want != NULL));
		CASE_ASSERT(cases[i].record, (rc == 0) == (why == NULL));
		if (rc == 0 && cases[i].want != NULL)
			CASE_ASSERT(cases[i].record,
			    strcmp(text(&record), cases[i].want) == 0);
	}
}

static void
bounds(void)
{
	static char record[6000] = "v=DMARC1; p=reject;";
	struct dmarc_record parsed;
	const char *why = NULL;
	size_t len = strlen(record);

	for (int i = 0; i < 40; i++)
		len += (size_t)snprintf(record + len, sizeof(record) - len,
		    "a%d=b;", i);
	CU_ASSERT(dmarc_record_parse(record, len, &parsed, &why) == -1);
	len = strlen("v=DMARC1; p=reject;");
	memset(record + len, ';', sizeof(record) - len);
	CU_ASSERT(dmarc_record_parse(record, 4096, &parsed, &why) == 0);
	CU_ASSERT(dmarc_record_parse(record, 4097, &parsed, &why) == -1);
	/* A NUL ends nothing. */
	CU_ASSERT(dmarc_record_parse("v=DMARC1\0; p=reject", 19, &parsed,
	    &why) == -1);
}

SUITE(dmarc_record, { "parses", parses }, { "bounds", bounds })
