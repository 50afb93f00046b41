#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libxml/parser.h>
#include <libxml/xmlschemas.h>
#include <libxml/xmlschemastypes.h>
#include <libxml/xpath.h>
#include <libxml/xpathInternals.h>
#define ZLIB_CONST
#include <zlib.h>

#include "base/buf.h"
#include "gateway/report.h"
#include "t/unit/unit.h"

static const struct report_facts facts = {
	.organization = "Example Mail", .email = "dmarc@mx.test",
	.extra_contact = "https://mx.test/dmarc", .report_id = "1780012800x7",
	.domain = "bank.test", .p = "reject", .sp = "quarantine",
	.np = "none", .adkim = "s", .aspf = "r", .fo = "1:d:s",
	.testing = true, .treewalk = true, .begin = 1780012800,
	.end = 1780099200,
};

static const struct report_facts bare = {
	.organization = "Example Mail", .email = "dmarc@mx.test",
	.report_id = "1", .domain = "bank.test", .p = "none",
};

static const struct report_reason reasons[] = {
	{ "policy_test_mode", NULL },
	{ "trusted_forwarder", "arc=pass" },
	{ "sampled_out", "of RFC 7489" },
};

static const struct report_dkim signatures[] = {
	{ "bank.test", "s1", "pass" },
	{ "list.test", NULL, "permerror" },
	{ NULL, "s", "pass" },
	{ "odd.test", "s", "skipped" },
};

#define FULL {								\
	.source_ip = "2001:db8::25", .count = 12,			\
	.disposition = "quarantine", .dkim_aligned = true,		\
	.reasons = reasons, .reason_count = 3,				\
	.header_from = "mail.bank.test", .envelope_from = "list.test",	\
	.dkim = signatures, .dkim_count = 4,				\
	.spf = { "list.test", "softfail" } }

static const struct report_row full = FULL;

/* The least there is, but for what the case is about. */
#define ROW(from, what, ...) {						\
	.source_ip = "192.0.2.1", .disposition = what,			\
	.header_from = from, .count = 1, __VA_ARGS__ }
#define PLAIN	ROW("bank.test", "none", .spf_aligned = false)
#define FROM(from) ROW(from, "none", .spf_aligned = false)
#define DONE(what) ROW("bank.test", what, .spf_aligned = false)
#define WITH(field) ROW("bank.test", "none", field)

static const struct {
	const char *name;
	const struct report_facts *facts;
	struct report_row row;
	const char *path, *value;	/* XPath; NULL: there is none */
} cases[] = {
	{ "version", &bare, PLAIN, "/d:feedback/d:version", "1.0" },
	{ "organization", &facts, PLAIN, "//d:org_name", "Example Mail" },
	{ "email", &facts, PLAIN, "//d:report_metadata/d:email",
	    "dmarc@mx.test" },
	{ "contact", &facts, PLAIN, "//d:extra_contact_info",
	    "https://mx.test/dmarc" },
	{ "no contact", &bare, PLAIN, "//d:extra_contact_info", NULL },
	{ "id", &facts, PLAIN, "//d:report_id", "1780012800x7" },
	{ "begin", &facts, PLAIN, "//d:date_range/d:begin", "1780012800" },
	{ "end", &facts, PLAIN, "//d:date_range/d:end", "1780099200" },
	{ "domain", &facts, PLAIN, "//d:policy_published/d:domain",
	    "bank.test" },
	{ "tree walk", &facts, PLAIN, "//d:discovery_method", "treewalk" },
	{ "list", &bare, PLAIN, "//d:discovery_method", "psl" },
	{ "p", &facts, PLAIN, "//d:policy_published/d:p", "reject" },
	{ "sp", &facts, PLAIN, "//d:policy_published/d:sp", "quarantine" },
	{ "np", &facts, PLAIN, "//d:policy_published/d:np", "none" },
	{ "no sp", &bare, PLAIN, "//d:policy_published/d:sp", NULL },
	{ "adkim", &facts, PLAIN, "//d:adkim", "s" },
	{ "aspf", &facts, PLAIN, "//d:aspf", "r" },
	{ "fo", &facts, PLAIN, "//d:fo", "1:d:s" },
	{ "no fo", &bare, PLAIN, "//d:fo", NULL },
	{ "t=y", &facts, PLAIN, "//d:testing", "y" },
	{ "no t", &bare, PLAIN, "//d:testing", "n" },
	{ "IPv6", &facts, FULL, "//d:row/d:source_ip", "2001:db8::25" },
	{ "IPv4", &facts, PLAIN, "//d:row/d:source_ip", "192.0.2.1" },
	{ "count", &facts, FULL, "//d:row/d:count", "12" },
	{ "disposition", &facts, FULL, "//d:disposition", "quarantine" },
	{ "passed", &facts, DONE("pass"), "//d:disposition",
	    "pass" },
	{ "an odd disposition", &facts, DONE("hold"),
	    "//d:disposition", "none" },
	{ "DKIM aligned", &facts, FULL, "//d:policy_evaluated/d:dkim",
	    "pass" },
	{ "SPF not aligned", &facts, FULL, "//d:policy_evaluated/d:spf",
	    "fail" },
	{ "SPF aligned", &facts, WITH(.spf_aligned = true),
	    "//d:policy_evaluated/d:spf", "pass" },
	{ "reason", &facts, FULL, "//d:reason[1]/d:type",
	    "policy_test_mode" },
	{ "reason without comment", &facts, FULL,
	    "//d:reason[1]/d:comment", NULL },
	{ "comment", &facts, FULL, "//d:reason[2]/d:comment", "arc=pass" },
	{ "reason that is none", &facts, FULL, "//d:reason[3]/d:type",
	    "other" },
	{ "header_from", &facts, FULL, "//d:identifiers/d:header_from",
	    "mail.bank.test" },
	{ "envelope_from", &facts, FULL, "//d:identifiers/d:envelope_from",
	    "list.test" },
	{ "null sender", &facts, WITH(.envelope_from = ""),
	    "//d:identifiers/d:envelope_from", "" },
	{ "no sender", &facts, PLAIN, "//d:identifiers/d:envelope_from",
	    NULL },
	{ "DKIM's domain", &facts, FULL, "//d:auth_results/d:dkim/d:domain",
	    "bank.test" },
	{ "DKIM's selector", &facts, FULL,
	    "//d:auth_results/d:dkim/d:selector", "s1" },
	{ "DKIM's result", &facts, FULL, "//d:auth_results/d:dkim/d:result",
	    "pass" },
	{ "no selector", &facts, FULL,
	    "//d:auth_results/d:dkim[2]/d:selector", "" },
	{ "signatures that tell nothing", &facts, FULL,
	    "//d:auth_results/d:dkim[3]", NULL },
	{ "SPF's domain", &facts, FULL, "//d:auth_results/d:spf/d:domain",
	    "list.test" },
	{ "SPF's scope", &facts, FULL, "//d:auth_results/d:spf/d:scope",
	    "mfrom" },
	{ "SPF's result", &facts, FULL, "//d:auth_results/d:spf/d:result",
	    "softfail" },
	{ "no SPF", &facts, PLAIN, "//d:auth_results/d:spf", NULL },
	{ "SPF's odd result", &facts, ROW("bank.test", "none",
	    .spf = { "bank.test", "?" }),
	    "//d:auth_results/d:spf", NULL },
	{ "markup", &facts, FROM("<a>&amp;]]>\"'"),
	    "//d:header_from", "<a>&amp;]]>\"'" },
	{ "controls", &facts, FROM("a\r\nb\tc\x01\x7f"),
	    "//d:header_from", "a??b c??" },
	{ "UTF-8", &facts, FROM("b\xc3\xbc\xc3\x9f.test"),
	    "//d:header_from", "b\xc3\xbc\xc3\x9f.test" },
	{ "not UTF-8", &facts, FROM("b\xfc.test\xc3"),
	    "//d:header_from", "b?.test?" },
	{ "a surrogate", &facts, FROM("\xed\xa0\x80"),
	    "//d:header_from", "???" },
	{ "no character", &facts,
	    FROM("\xef\xbf\xbd\xef\xbf\xbe\xef\xbf\xbf."),
	    "//d:header_from", "\xef\xbf\xbd??????." },
};

/* What the report says once more, uncompressed. */
static void
inflate_all(const struct buf *in, struct buf *out)
{
	z_stream stream = { 0 };
	char chunk[4096];
	int rc;

	CU_ASSERT_FATAL(inflateInit2(&stream, 15 + 16) == Z_OK);
	stream.next_in = (const unsigned char *)in->data;
	stream.avail_in = (unsigned)in->len;
	do {
		stream.next_out = (unsigned char *)chunk;
		stream.avail_out = sizeof(chunk);
		rc = inflate(&stream, Z_NO_FLUSH);
		buf_append(out, chunk, sizeof(chunk) - stream.avail_out);
	} while (rc == Z_OK);
	CU_ASSERT(rc == Z_STREAM_END && stream.avail_in == 0);
	inflateEnd(&stream);
}

static xmlDocPtr
make(const struct report_facts *what, const struct report_row *rows,
    size_t count)
{
	struct buf gzip = BUF_INIT, text = BUF_INIT;
	const char *why = NULL;
	xmlDocPtr doc;

	CU_ASSERT_FATAL(report_xml(what, rows, count, &gzip, &why) ==
	    (int64_t)gzip.len && gzip.len > 0);
	inflate_all(&gzip, &text);
	doc = xmlReadMemory(text.data, (int)text.len, "report", NULL,
	    XML_PARSE_NONET | XML_PARSE_HUGE);
	CU_ASSERT_FATAL(doc != NULL);
	buf_release(&gzip);
	buf_release(&text);
	return doc;
}

struct schema {
	xmlSchemaParserCtxtPtr parser;
	xmlSchemaPtr schema;
	xmlSchemaValidCtxtPtr valid;
};

static void
schema_load(struct schema *s)
{
	s->parser = xmlSchemaNewParserCtxt(unit_path(
	    "t/lib/dmarc-2.0.xsd"));
	CU_ASSERT_FATAL(s->parser != NULL);
	s->schema = xmlSchemaParse(s->parser);
	CU_ASSERT_FATAL(s->schema != NULL);
	s->valid = xmlSchemaNewValidCtxt(s->schema);
	CU_ASSERT_FATAL(s->valid != NULL);
}

static void
schema_release(struct schema *s)
{
	xmlSchemaFreeValidCtxt(s->valid);
	xmlSchemaFree(s->schema);
	xmlSchemaFreeParserCtxt(s->parser);
	xmlSchemaCleanupTypes();
	xmlCleanupParser();
}

/* The text of the first such element, for the caller to free; NULL: none. */
static xmlChar *
value_at(xmlDocPtr doc, const char *path)
{
	xmlXPathContextPtr context = xmlXPathNewContext(doc);
	xmlXPathObjectPtr found;
	xmlChar *value = NULL;

	xmlXPathRegisterNs(context, BAD_CAST "d",
	    BAD_CAST "urn:ietf:params:xml:ns:dmarc-2.0");
	found = xmlXPathEval(BAD_CAST path, context);
	CU_ASSERT_FATAL(found != NULL && found->type == XPATH_NODESET);
	if (!xmlXPathNodeSetIsEmpty(found->nodesetval))
		value = xmlNodeGetContent(found->nodesetval->nodeTab[0]);
	xmlXPathFreeObject(found);
	xmlXPathFreeContext(context);
	return value;
}

static void
values(void)
{
	struct schema schema;

	schema_load(&schema);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		xmlDocPtr doc = make(cases[i].facts, &cases[i].row, 1);
		const char *want = cases[i].value;
		xmlChar *value;

		CASE_ASSERT(cases[i].name,
		    xmlSchemaValidateDoc(schema.valid, doc) == 0);
		value = value_at(doc, cases[i].path);
		CASE_ASSERT(cases[i].name, want == NULL ? value == NULL :
		    value != NULL && strcmp((char *)value, want) == 0);
		xmlFree(value);
		xmlFreeDoc(doc);
	}
	schema_release(&schema);
}

/* The same report makes the same bytes: it can be sent again. */
static void
repeats(void)
{
	struct buf first = BUF_INIT, second = BUF_INIT;
	const char *why;

	CU_ASSERT(report_xml(&facts, &full, 1, &first, &why) > 0);
	CU_ASSERT(report_xml(&facts, &full, 1, &second, &why) > 0);
	CU_ASSERT(first.len == second.len &&
	    memcmp(first.data, second.data, first.len) == 0);
	buf_release(&first);
	buf_release(&second);
}

static void
many(void)
{
	static struct report_row rows[1000];
	static struct report_dkim dkim[200];
	struct schema schema;
	xmlDocPtr doc;
	xmlChar *value;

	for (size_t i = 0; i < 200; i++)
		dkim[i] = signatures[0];
	for (size_t i = 0; i < 1000; i++) {
		rows[i] = full;
		rows[i].count = i + 1;
	}
	rows[0].dkim = dkim;
	rows[0].dkim_count = 200;
	schema_load(&schema);
	doc = make(&facts, rows, 1000);
	CU_ASSERT(xmlSchemaValidateDoc(schema.valid, doc) == 0);
	value = value_at(doc, "//d:record[1000]/d:row/d:count");
	CU_ASSERT(value != NULL && strcmp((char *)value, "1000") == 0);
	xmlFree(value);
	value = value_at(doc, "//d:record[1001]");
	CU_ASSERT(value == NULL);
	/* RFC 9990, 3.1.3 */
	value = value_at(doc, "//d:record[1]//d:auth_results/d:dkim[100]");
	CU_ASSERT(value != NULL);
	xmlFree(value);
	value = value_at(doc, "//d:record[1]//d:auth_results/d:dkim[101]");
	CU_ASSERT(value == NULL);
	xmlFreeDoc(doc);
	schema_release(&schema);
}

/* Long values are cut, and what cannot be compressed enough is refused. */
static void
limits(void)
{
	static char noise[6000][1024];
	static struct report_row rows[6000];
	struct buf out = BUF_INIT;
	const char *why = NULL;
	uint32_t state = 1;
	xmlDocPtr doc;
	xmlChar *value;

	for (size_t i = 0; i < 6000; i++) {
		for (size_t j = 0; j < sizeof(noise[i]) - 1; j++) {
			state = state * 1664525 + 1013904223;
			noise[i][j] = (char)('!' + (state >> 24) % 94);
		}
		rows[i] = full;
		rows[i].header_from = noise[i];
	}
	buf_puts(&out, "before");
	CU_ASSERT(report_xml(&facts, rows, 6000, &out, &why) == -1);
	CU_ASSERT_STRING_EQUAL(why, "report too large");
	CU_ASSERT_STRING_EQUAL(out.data, "before");
	buf_release(&out);

	memset(noise, 'x', sizeof(noise));
	noise[5999][1023] = '\0';
	rows[0].header_from = noise[0];
	doc = make(&facts, rows, 1);
	value = value_at(doc, "//d:header_from");
	CU_ASSERT(value != NULL && strlen((char *)value) == 1023);
	xmlFree(value);
	xmlFreeDoc(doc);
	xmlCleanupParser();
}

SUITE(report_xml,
	{ "values, valid by the schema", values },
	{ "the same again", repeats },
	{ "many rows and signatures", many },
	{ "limits", limits })
