#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/task.h"
#include "filters/arc.h"
#include "filters/arc_set.h"
#include "filters/authres.h"
#include "filters/dkim_engine.h"
#include "filters/dkim_key.h"
#include "t/unit/filters/arc_vectors.h"
#include "t/unit/filters/dkim_vectors.h"
#include "t/unit/filters/zone.h"
#include "t/unit/unit.h"

static const struct dkim_rules rules = { .clock_skew = 300 };

#define NOW 1795500000

/* Sets whose signatures are none: for their structure alone. */
#define AAR(i)	"ARC-Authentication-Results: i=" i "; mx.test; none\r\n"
#define AMS(i)	"ARC-Message-Signature: i=" i "; a=rsa-sha256; s=r;\r\n" \
	"\td=x.test; h=from; bh=YQ==; b=YQ==\r\n"
#define AS(i, cv)							\
	"ARC-Seal: i=" i "; cv=" cv "; a=rsa-sha256; s=r; d=x.test; b=YQ==\r\n"
#define SET(i, cv)	AS(i, cv) AMS(i) AAR(i)

static const struct {
	const char *name, *header;
	size_t count;
	const char *why;
	bool ended;
} structures[] = {
	{ "nothing", "From: a@b\r\n", 0, NULL, false },
	{ "one set", SET("1", "none"), 1, NULL, false },
	{ "two sets", SET("2", "pass") SET("1", "none"), 2, NULL, false },
	{ "the order of fields", AAR("1") AMS("2") AS("1", "none") AAR("2")
	    AMS("1") AS("2", "pass"), 2, NULL, false },
	{ "leading zero", AS("01", "none") AMS("1") AAR("1"), 1, NULL, false },
	{ "white space and comments", AS(" 1 ", " None ") AMS("\r\n 1")
	    "ARC-Authentication-Results: (a;b) i (c) = (d)\r\n 1 (e) ; x\r\n",
	    1, NULL, false },
	{ "capitals", "arc-SEAL: i=1; cv=NONE\r\n" AMS("1") AAR("1"), 1, NULL,
	    false },
	{ "a gap", SET("3", "pass") SET("1", "none"), 3,
	    "set 2 is not complete", false },
	{ "no first", SET("2", "pass"), 2, "set 1 is not complete", false },
	{ "no results", AS("1", "none") AMS("1"), 1, "set 1 is not complete",
	    false },
	{ "no signature", AS("1", "none") AAR("1"), 1,
	    "set 1 is not complete", false },
	{ "no seal", AMS("1") AAR("1"), 1, "set 1 is not complete", false },
	{ "two results", SET("1", "none") AAR("1"), 1,
	    "a set with two ARC-Authentication-Results", false },
	{ "two signatures", SET("1", "none") AMS("1"), 1,
	    "a set with two ARC-Message-Signatures", false },
	{ "two seals", SET("1", "none") AS("1", "none"), 1,
	    "a set with two ARC-Seals", false },
	{ "i=0", SET("1", "none") AAR("0"), 1,
	    "ARC-Authentication-Results without a valid i=", false },
	{ "i=51", SET("1", "none") AS("51", "pass"), 1,
	    "a set without a valid i=", false },
	{ "i=100", SET("1", "none") AMS("100"), 1,
	    "a set without a valid i=", false },
	{ "i=-1", SET("-1", "none"), 0, "a set without a valid i=", false },
	{ "i=1x", SET("1x", "none"), 0, "a set without a valid i=", false },
	{ "no i=", "ARC-Seal: cv=none\r\n", 0, "a set without a valid i=",
	    false },
	{ "i= twice", "ARC-Seal: i=1; i=2; cv=none\r\n", 0,
	    "a tag that stands twice", false },
	{ "results without i=", "ARC-Authentication-Results: mx; i=1;\r\n", 0,
	    "ARC-Authentication-Results without a valid i=", false },
	{ "results with nothing behind i=",
	    "ARC-Authentication-Results: i=1\r\n", 0,
	    "ARC-Authentication-Results without a valid i=", false },
	{ "pass in the first", SET("1", "pass"), 1, "set 1 says cv=pass",
	    false },
	{ "none in the second", SET("2", "none") SET("1", "none"), 2,
	    "set 2 says cv=none", false },
	{ "fail in the last", SET("2", "fail") SET("1", "none"), 2,
	    "the chain has ended with cv=fail", true },
	{ "fail in the first", SET("1", "fail"), 1,
	    "the chain has ended with cv=fail", true },
	{ "fail in between", SET("3", "pass") SET("2", "fail")
	    SET("1", "none"), 3, "set 2 says cv=fail", false },
	{ "fail with other faults", AS("2", "fail") AAR("0"), 2,
	    "the chain has ended with cv=fail", true },
	{ "an unknown cv=", SET("1", "maybe"), 1,
	    "a seal with an unknown cv=", false },
	{ "no cv=", "ARC-Seal: i=1\r\n", 1, "a seal without cv=", false },
};

static void
read_sets(struct arc_sets *sets, struct arena *arena, const char *header)
{
	struct headers headers = { 0 };

	headers_parse(&headers, arena, header, strlen(header));
	arc_sets_read(sets, arena, &headers, &rules, NOW);
}

static void
structure(void)
{
	struct arena *arena = arena_new(0);
	struct arc_sets *sets = arena_alloc(arena, sizeof(*sets));

	for (size_t i = 0; i < sizeof(structures) / sizeof(structures[0]);
	    i++) {
		const char *name = structures[i].name;
		const char *want = structures[i].why;

		read_sets(sets, arena, structures[i].header);
		CASE_ASSERT(name, sets->count == structures[i].count);
		CASE_ASSERT(name, sets->ended == structures[i].ended);
		CASE_ASSERT(name, (want == NULL) == (sets->why == NULL) &&
		    (want == NULL || strcmp(sets->why, want) == 0));
	}
	arena_free(&arena);
}

/* Fifty are a chain, 51 are none, and thousands are not read to the end. */
static void
limits(void)
{
	static const struct { size_t sets; bool good; } counts[] = {
		{ 49, true }, { 50, true }, { 51, false }, { 5000, false } };
	struct arena *arena = arena_new(0);
	struct arc_sets *sets = arena_alloc(arena, sizeof(*sets));

	for (size_t c = 0; c < 4; c++) {
		struct buf text = BUF_INIT;

		for (size_t i = 1; i <= counts[c].sets; i++)
			buf_printf(&text, "ARC-Seal: i=%zu; cv=%s\r\n"
			    "ARC-Message-Signature: i=%zu\r\n"
			    "ARC-Authentication-Results: i=%zu; x\r\n", i,
			    i == 1 ? "none" : "pass", i, i);
		read_sets(sets, arena, text.data);
		CU_ASSERT_EQUAL(sets->why == NULL, counts[c].good);
		CU_ASSERT(sets->count <= ARC_SETS_MAX);
		buf_release(&text);
	}
	arena_free(&arena);
}

/* What a signature must not say: its result is set by its text alone. */
static void
signatures(void)
{
	static const struct {
		const char *name, *message, *seal, *want;
	} cases[] = {
		{ "good", "h=from; bh=YQ==", "", NULL },
		{ "seal in h=", "h=from:arc-seal; bh=YQ==", "",
		    "ARC-Seal in h=" },
		{ "no From in h=", "h=to; bh=YQ==", "",
		    "From is not signed" },
		{ "l=", "h=from; bh=YQ==; l=1", "", "l= in ARC" },
		{ "c=", "h=from; bh=YQ==; c=loose", "",
		    "unknown canonicalization" },
		{ "no bh=", "h=from", "", "bh= is no hash" },
		{ "h= in the seal", "h=from; bh=YQ==", "h=from;",
		    "h= in a seal" },
	};
	struct arena *arena = arena_new(0);
	struct arc_sets *sets = arena_alloc(arena, sizeof(*sets));

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *reason;

		read_sets(sets, arena, arena_printf(arena, AAR("1")
		    "ARC-Message-Signature: i=1; a=rsa-sha256; s=r; d=x.test;"
		    " b=YQ==; %s\r\nARC-Seal: i=1; cv=none; a=rsa-sha256;"
		    " s=r; d=x.test; %s b=YQ==\r\n", cases[i].message,
		    cases[i].seal));
		CASE_ASSERT(cases[i].name, sets->why == NULL);
		reason = sets->sets[0].message_signature.reason;
		if (reason == NULL)
			reason = sets->sets[0].seal_signature.reason;
		CASE_ASSERT(cases[i].name, reason == NULL ?
		    cases[i].want == NULL : cases[i].want != NULL &&
		    strcmp(reason, cases[i].want) == 0);
	}
	arena_free(&arena);
}

/* The filter, on chains that dkimpy made */

struct arc_case {
	const char *name, *from, *to;	/* what is replaced in two_hops */
	const char *key;		/* NULL: the right one */
	const char *trusted;
	const char *want;
};

#define OLDEST(n)	" header.oldest-pass=" n
#define TAIL	" policy.sets=2 policy.sealer=example.org"

static const struct arc_case cases[] = {
	{ "two hops", NULL, NULL, NULL, NULL, "pass" OLDEST("0") TAIL },
	{ "a trusted sealer", NULL, NULL, NULL, "Example.ORG",
	    "pass" OLDEST("0") TAIL " policy.trust=dmarc" },
	{ "another trusted sealer", NULL, NULL, NULL, "sub.example.org",
	    "pass" OLDEST("0") TAIL },
	{ "trusted, and DMARC did not pass", "dmarc=pass", "dmarc=fail", NULL,
	    "example.org",
	    "fail (seal 2: signature did not verify) policy.sets=2" },
	{ "a word of the body", "Hello", "Holla", NULL, NULL,
	    "fail (signature 2: body hash did not verify) policy.sets=2" },
	{ "a signed field", "Subject: a", "Subject: b", NULL, NULL,
	    "fail (signature 2: signature did not verify) policy.sets=2" },
	{ "white space in it", "Subject: a", "SUBJECT:  a", NULL, NULL,
	    "pass" OLDEST("0") TAIL },
	{ "the results of the first", "i=1; mx1.test", "i=1; mx9.test", NULL,
	    NULL, "fail (seal 2: signature did not verify) policy.sets=2" },
	{ "the seal of the first", "cv=none", "cv= none", NULL, NULL,
	    "fail (seal 2: signature did not verify) policy.sets=2" },
	{ "a field that nobody signed", "Received: from", "Received: by",
	    NULL, NULL, "pass" OLDEST("0") TAIL },
	{ "no key", NULL, NULL, "-", NULL, "fail (signature 2: "
	    "no key for signature) policy.sets=2" },
	{ "DNS is down", NULL, NULL, "!", NULL, "temperror (signature 2: "
	    "the key's look-up failed)" TAIL },
	{ "DNS is down, and the sealer would be trusted", NULL, NULL, "!",
	    "example.org", "temperror (signature 2: the key's look-up failed)"
	    TAIL " policy.trust=dmarc" },
	{ "another key", NULL, NULL, "p=AAAA", NULL, "fail (signature 2: "
	    "malformed key) policy.sets=2" },
};

struct passage {
	const struct arc_case *c;
	const char *message;
	struct mail *mail;
	struct filter_run run;
	bool abort;
};

static void
go(void *argument)
{
	struct passage *passage = argument;
	struct filter_run *run = &passage->run;
	struct conf_section section = { .kind = filter_arc.options };
	const char *const trusted[] = { passage->c->trusted, NULL };
	/* As the option rows have it. */
	struct {
		const char *const *trusted_sealers;
		int64_t minimum_key_bits, clock_skew, timeout;
	} values = { trusted, 1024, (int64_t)1 << 40, 1000 };
	const char *why = NULL;
	size_t at;

	CU_ASSERT_EQUAL_FATAL(sizeof(values), filter_arc.options->size);
	section.values = &values;
	run->filter = &filter_arc;
	run->name = "arc";
	run->mail = passage->mail;
	run->session = passage->mail->session;
	run->instance = filter_arc.setup(NULL, &section, &why);
	CU_ASSERT_FATAL(run->instance != NULL);
	at = headers_parse(&run->mail->headers, run->mail->arena,
	    passage->message, strlen(passage->message)) + 2;
	filter_arc.eoh(run);
	filter_arc.body(run, passage->message + at, 3);
	filter_arc.body(run, passage->message + at + 3,
	    strlen(passage->message + at + 3));
	if (!passage->abort)
		filter_arc.eom(run);
	filter_arc.abort(run);
	CU_ASSERT_PTR_NULL(run->mail_state);
	filter_arc.release(run->instance);
	task_stop();
}

static const char *
text_of(const struct filter_run *run)
{
	struct arena *arena = run->mail->arena;
	const struct finding *f = run->findings;
	const char *text;

	CU_ASSERT(f->report && strcmp(f->method, "arc") == 0);
	text = f->result;
	if (f->reason != NULL)
		text = arena_printf(arena, "%s (%s)", text, f->reason);
	for (const struct property *p = f->properties; p != NULL; p = p->next)
		text = arena_printf(arena, "%s %s.%s=%s", text, p->type,
		    p->name, p->value);
	return text;
}

/* The message with the first of one text replaced. */
static const char *
replaced(struct arena *arena, const char *from, const char *to)
{
	const char *at = from == NULL ? NULL : strstr(two_hops, from);

	CU_ASSERT_FATAL(from == NULL || at != NULL);
	return at == NULL ? two_hops : arena_printf(arena, "%.*s%s%s",
	    (int)(at - two_hops), two_hops, to, at + strlen(from));
}

static void
pass_through(struct passage *passage)
{
	static struct session session = { .hostname = "mx.example" };
	struct zone_row rows[2] = { { NULL, DNS_TXT, NULL } };
	struct zone zone = { rows, 0 };
	const struct arc_case *c = passage->c;
	struct task *task;

	passage->mail = mail_new(&session, 1 << 20, "/tmp");
	passage->message = replaced(passage->mail->arena, c->from, c->to);
	rows[0] = (struct zone_row){ "r._domainkey.example.org", DNS_TXT,
	    c->key != NULL ? c->key : arena_printf(passage->mail->arena,
	    "v=DKIM1; p=%s", rsa_public) };
	dns_set_source(zone_answer, &zone);
	task = task_start("test", go, passage);
	task_loop();
	CU_ASSERT_EQUAL(task_join(&task, 0), 0);
	CU_ASSERT(zone.asked <= 1);	/* four signatures, one name */
	dns_set_source(NULL, NULL);
}

static void
findings(void)
{
	task_init();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct passage passage = { .c = &cases[i] };
		const char *text;

		pass_through(&passage);
		text = text_of(&passage.run);
		CASE_ASSERT(cases[i].name, strcmp(text, cases[i].want) == 0);
		if (strcmp(text, cases[i].want) != 0)
			fprintf(stderr, ": %s", text);
		mail_free(&passage.mail);
	}
	task_shutdown();
}

static void
results(void)
{
	static const struct {
		const char *name, *value, *want;
	} values[] = {
		{ "plain", "mx; dmarc=pass", "pass" },
		{ "others before", "mx; spf=fail x.y=z; dmarc = pass a.b=c",
		    "pass" },
		{ "comments", "mx (;dmarc=fail); (a) dmarc (b) = (c) pass(d)",
		    "pass" },
		{ "quotes", "mx; spf=fail reason=\"; dmarc=pass\"", NULL },
		{ "a quote in quotes",
		    "mx; spf=fail reason=\"\\\"; dmarc=pass\"", NULL },
		{ "a comment", "mx; spf=fail (; dmarc=pass)", NULL },
		{ "in the id's place", "dmarc=pass", NULL },
		{ "longer names", "mx; xdmarc=pass; dmarcx=pass", NULL },
		{ "several", "mx; dmarc=pass; dmarc=fail", "" },
		{ "a version", "mx; dmarc/1=pass", NULL },
		{ "nothing", "", NULL },
		{ "no end of comment", "mx; (((", NULL },
		{ "no value", "mx; dmarc=", "" },
	};
	struct arena *arena = arena_new(0);

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		const char *got = authres_result(arena, values[i].value,
		    strlen(values[i].value), "dmarc");

		CASE_ASSERT(values[i].name, got == NULL ?
		    values[i].want == NULL : values[i].want != NULL &&
		    strcmp(got, values[i].want) == 0);
	}
	arena_free(&arena);
}

/* Parsed once, and more of them than the cache holds do no harm. */
static void
keys(void)
{
	struct dkim_key_cache *cache = dkim_key_cache_new();
	struct arena *arena = arena_new(0);
	const char *why, *record = arena_printf(arena, "p=%s", rsa_public);
	EVP_PKEY *first = dkim_key_public(cache, record, strlen(record), &why);
	EVP_PKEY *key = dkim_key_public(cache, record, strlen(record), &why);

	CU_ASSERT_PTR_NOT_NULL(first);
	CU_ASSERT_PTR_EQUAL(first, key);
	EVP_PKEY_free(key);
	for (int i = 0; i < 5000; i++) {
		const char *other = arena_printf(arena,
		    "k=ed25519; n=%d; p=%s", i, ed25519_public);

		key = dkim_key_public(cache, other, strlen(other), &why);
		CU_ASSERT_PTR_NOT_NULL(key);
		EVP_PKEY_free(key);
	}
	key = dkim_key_public(cache, record, strlen(record), &why);
	CU_ASSERT_PTR_NOT_NULL(key);
	CU_ASSERT_PTR_NOT_EQUAL(first, key);
	EVP_PKEY_free(key);
	EVP_PKEY_free(first);
	CU_ASSERT_PTR_NULL(dkim_key_public(cache, "p=YQ==", 6, &why));
	CU_ASSERT_PTR_NULL(dkim_key_public(cache, "p=Y", 3, &why));
	CU_ASSERT_PTR_NULL(dkim_key_public(cache, "x", 1, &why));
	dkim_key_cache_free(&cache);
	arena_free(&arena);
}

SUITE(arc, { "structure", structure }, { "limits", limits },
    { "signatures", signatures }, { "findings", findings },
    { "results", results }, { "keys", keys })
