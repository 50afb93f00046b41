/*
 * Aggregate reports as XML (RFC 9990, 3.1.1), compressed on the way: a report
 * is never in memory uncompressed.
 */
#include "config.h"
#include "gateway/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <libxml/xmlwriter.h>
#define ZLIB_CONST
#include <zlib.h>

#include "base/buf.h"
#include "base/task.h"
#include "policy/smtp_reply.h"

#define NAMESPACE	"urn:ietf:params:xml:ns:dmarc-2.0"
#define VALUE_SIZE	1024
#define SIGNATURES_MAX	100		/* RFC 9990, 3.1.3 */
#define CHUNK		4096
#define ROWS_A_TURN	32		/* well under a millisecond */

/* Words that a value may be; ended by NULL. */
static const char *const actions[] = { "none", "quarantine", "reject", NULL };
static const char *const dispositions[] = { "none", "pass", "quarantine",
	"reject", NULL };
static const char *const modes[] = { "r", "s", NULL };
static const char *const reason_types[] = { "local_policy", "mailing_list",
	"other", "policy_test_mode", "trusted_forwarder", NULL };
/* RFC 8601, 2.7.1 and 2.7.2 */
static const char *const dkim_results[] = { "none", "pass", "fail", "policy",
	"neutral", "temperror", "permerror", NULL };
static const char *const spf_results[] = { "none", "pass", "fail", "softfail",
	"policy", "neutral", "temperror", "permerror", NULL };

/* --- compressed text --- */

struct sink {
	z_stream stream;
	struct buf *out;
	size_t start;			/* where in out it begins */
	const char *why;		/* it failed */
};

static int
sink_deflate(struct sink *sink, const char *bytes, size_t len, int flush)
{
	z_stream *stream = &sink->stream;
	unsigned char chunk[CHUNK];

	stream->next_in = (const unsigned char *)bytes;
	stream->avail_in = (unsigned)len;
	do {
		stream->next_out = chunk;
		stream->avail_out = sizeof(chunk);
		if (deflate(stream, flush) == Z_STREAM_ERROR) {
			sink->why = "cannot compress";
			return -1;
		}
		buf_append(sink->out, chunk, sizeof(chunk) - stream->avail_out);
		if (sink->out->len - sink->start > REPORT_SIZE_MAX) {
			sink->why = "report too large";
			return -1;
		}
	} while (stream->avail_out == 0);
	return 0;
}

/* Takes all, as libxml2 would tell stderr of an error. */
static int
sink_write(void *argument, const char *bytes, int len)
{
	struct sink *sink = argument;

	if (sink->why == NULL)
		sink_deflate(sink, bytes, (size_t)len, Z_NO_FLUSH);
	return len;
}

static xmlTextWriterPtr
writer_open(struct sink *sink)
{
	xmlOutputBufferPtr buffer;
	xmlTextWriterPtr xml;

	buffer = xmlOutputBufferCreateIO(sink_write, NULL, sink, NULL);
	if (buffer == NULL)
		return NULL;
	xml = xmlNewTextWriter(buffer);
	if (xml == NULL)
		xmlOutputBufferClose(buffer);
	return xml;
}

/* --- elements --- */

static void
open_element(xmlTextWriterPtr xml, const char *name)
{
	xmlTextWriterStartElement(xml, BAD_CAST name);
}

static void
close_element(xmlTextWriterPtr xml)
{
	xmlTextWriterEndElement(xml);
}

/* An element with text; NULL: none.  Errors show at the end. */
static void
put(xmlTextWriterPtr xml, const char *name, const char *value)
{
	char text[VALUE_SIZE], *at = text;

	if (value == NULL)
		return;
	reply_sanitize(text, sizeof(text), value, strlen(value));
	/* U+FFFE and U+FFFF are fine UTF-8, but no characters of XML. */
	while ((at = strstr(at, "\xef\xbf")) != NULL) {
		if ((unsigned char)at[2] >= 0xbe)
			memcpy(at, "???", 3);
		at += 3;
	}
	xmlTextWriterWriteElement(xml, BAD_CAST name, BAD_CAST text);
}

static void
put_number(xmlTextWriterPtr xml, const char *name, int64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRId64, value);
	put(xml, name, text);
}

/* The value if it is one of those words, else the other one. */
static const char *
one_of(const char *const *words, const char *value, const char *otherwise)
{
	for (; value != NULL && *words != NULL; words++)
		if (strcmp(*words, value) == 0)
			return value;
	return otherwise;
}

static void
put_metadata(xmlTextWriterPtr xml, const struct report_facts *facts)
{
	open_element(xml, "report_metadata");
	put(xml, "org_name", facts->organization);
	put(xml, "email", facts->email);
	put(xml, "extra_contact_info", facts->extra_contact);
	put(xml, "report_id", facts->report_id);
	open_element(xml, "date_range");
	put_number(xml, "begin", facts->begin);
	put_number(xml, "end", facts->end);
	close_element(xml);
	put(xml, "generator", "Millgate " PACKAGE_VERSION);
	close_element(xml);
}

static void
put_policy(xmlTextWriterPtr xml, const struct report_facts *facts)
{
	open_element(xml, "policy_published");
	put(xml, "domain", facts->domain);
	put(xml, "discovery_method", facts->treewalk ? "treewalk" : "psl");
	put(xml, "p", one_of(actions, facts->p, "none"));
	put(xml, "sp", one_of(actions, facts->sp, NULL));
	put(xml, "np", one_of(actions, facts->np, NULL));
	put(xml, "fo", facts->fo);
	put(xml, "adkim", one_of(modes, facts->adkim, NULL));
	put(xml, "aspf", one_of(modes, facts->aspf, NULL));
	put(xml, "testing", facts->testing ? "y" : "n");
	close_element(xml);
}

static void
put_evaluated(xmlTextWriterPtr xml, const struct report_row *row)
{
	open_element(xml, "policy_evaluated");
	put(xml, "disposition", one_of(dispositions, row->disposition,
	    "none"));
	put(xml, "dkim", row->dkim_aligned ? "pass" : "fail");
	put(xml, "spf", row->spf_aligned ? "pass" : "fail");
	for (size_t i = 0; i < row->reason_count; i++) {
		const struct report_reason *reason = &row->reasons[i];

		open_element(xml, "reason");
		put(xml, "type", one_of(reason_types, reason->type, "other"));
		put(xml, "comment", reason->comment);
		close_element(xml);
	}
	close_element(xml);
}

static void
put_results(xmlTextWriterPtr xml, const struct report_row *row)
{
	const struct report_spf *spf = &row->spf;
	size_t left = SIGNATURES_MAX;

	open_element(xml, "auth_results");
	for (size_t i = 0; i < row->dkim_count && left > 0; i++) {
		const struct report_dkim *dkim = &row->dkim[i];

		if (dkim->domain == NULL ||
		    one_of(dkim_results, dkim->result, NULL) == NULL)
			continue;
		open_element(xml, "dkim");
		put(xml, "domain", dkim->domain);
		put(xml, "selector", dkim->selector == NULL ? "" :
		    dkim->selector);
		put(xml, "result", dkim->result);
		close_element(xml);
		left--;
	}
	if (spf->domain != NULL &&
	    one_of(spf_results, spf->result, NULL) != NULL) {
		open_element(xml, "spf");
		put(xml, "domain", spf->domain);
		put(xml, "scope", "mfrom");
		put(xml, "result", spf->result);
		close_element(xml);
	}
	close_element(xml);
}

static void
put_row(xmlTextWriterPtr xml, const struct report_row *row)
{
	open_element(xml, "record");
	open_element(xml, "row");
	put(xml, "source_ip", row->source_ip);
	put_number(xml, "count", (int64_t)row->count);
	put_evaluated(xml, row);
	close_element(xml);
	open_element(xml, "identifiers");
	put(xml, "header_from", row->header_from);
	put(xml, "envelope_from", row->envelope_from);
	close_element(xml);
	put_results(xml, row);
	close_element(xml);
}

/* --- the report --- */

static int
put_report(xmlTextWriterPtr xml, const struct sink *sink,
    const struct report_facts *facts, const struct report_row *rows,
    size_t count)
{
	xmlTextWriterSetIndent(xml, 1);
	xmlTextWriterStartDocument(xml, NULL, "UTF-8", NULL);
	xmlTextWriterStartElementNS(xml, NULL, BAD_CAST "feedback",
	    BAD_CAST NAMESPACE);
	put(xml, "version", "1.0");
	put_metadata(xml, facts);
	put_policy(xml, facts);
	for (size_t i = 0; i < count && sink->why == NULL; i++) {
		put_row(xml, &rows[i]);
		if (i % ROWS_A_TURN == ROWS_A_TURN - 1 && task_self() != NULL)
			task_yield();
	}
	if (xmlTextWriterEndDocument(xml) < 0)
		return -1;
	return xmlTextWriterFlush(xml) < 0 ? -1 : 0;
}

int64_t
report_xml(const struct report_facts *facts, const struct report_row *rows,
    size_t count, struct buf *out, const char **why)
{
	struct sink sink = { .out = out, .start = out->len };
	xmlTextWriterPtr xml;
	int rc = -1;

	/* 16 more than the window's size: with a header of gzip. */
	if (deflateInit2(&sink.stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED,
	    15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
		*why = "cannot compress";
		return -1;
	}
	if ((xml = writer_open(&sink)) != NULL)
		rc = put_report(xml, &sink, facts, rows, count);
	xmlFreeTextWriter(xml);
	if (rc == 0 && sink.why == NULL)
		rc = sink_deflate(&sink, NULL, 0, Z_FINISH);
	deflateEnd(&sink.stream);
	if (rc != 0 || sink.why != NULL) {
		if (out->data != NULL)
			out->data[out->len = sink.start] = '\0';
		*why = sink.why != NULL ? sink.why : "cannot write XML";
		return -1;
	}
	return (int64_t)(out->len - sink.start);
}
