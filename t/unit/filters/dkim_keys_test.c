#define _GNU_SOURCE			/* memmem */
#include "filters/dkim_keys.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/key_table.h"
#include "filters/dkim_engine.h"
#include "filters/dkim_key.h"
#include "filters/dkim_sign.h"
#include "t/unit/filters/dkim_vectors.h"
#include "t/unit/unit.h"

static const struct section_kind top = { .name = "", .doc = "All.",
    .size = 1 };
static const struct section_kind *kinds[2] = { &top };
static char directory[64];

static void
put(const char *name, const char *text)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	fputs(text, file);
	fclose(file);
}

/* The configuration m.conf, and what is wrong with it. */
static struct conf *
load(struct buf *errors)
{
	char path[128];

	kinds[1] = filter_dkim_sign.options;
	snprintf(path, sizeof(path), "%s/m.conf", directory);
	return conf_load(path, NULL, kinds, 2, errors);
}

static void
begin(void)
{
	strcpy(directory, "/tmp/dkim_keys_test.XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(directory));
	put("one.pem", rsa_private);
	put("two.pem", rsa_private);
	put("small.pem", small_private);
	put("m.conf", "dkim_sign main { keys = table }\n");
}

static void
end(void)
{
	static const char *const names[] = { "one.pem", "two.pem", "small.pem",
		"m.conf", "table", "other" };
	char path[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
		unlink(path);
	}
	CU_ASSERT_EQUAL(rmdir(directory), 0);
}

static const struct conf_section *
section_of(const struct conf *conf)
{
	size_t count;

	return conf_sections(conf, "dkim_sign", &count);
}

static const char table[] =
    "example.org      example.org  old one.pem until 2026-12-31\n"
    "example.org      example.org  new two.pem from 2026-12-31\n"
    ".example.org     example.org  old one.pem\n"
    ".deep.example.org deep.example.org d one.pem\n"
    "news@example.org news.example.org n1 one.pem\n"
    "news@example.org news.example.org n2 two.pem\n"
    "late@example.org late.example.org l one.pem from 2030-01-01\n"
    "user:Ann         ann.example.org a one.pem\n"
    "user:bob@x.test  bob.example.org b one.pem\n";

struct find_case {
	const char *name, *user, *author, *sender;
	int day;
	const char *want;		/* selector@domain, in order */
};

static const struct find_case cases[] = {
	{ "a domain", NULL, "a@example.org", "", 20260101,
	    "old@example.org " },
	{ "the day of both", NULL, "a@example.org", "", 20261231,
	    "old@example.org new@example.org " },
	{ "afterwards", NULL, "a@example.org", "", 20270101,
	    "new@example.org " },
	{ "letters' case", NULL, "A@Example.ORG", "", 20270101,
	    "new@example.org " },
	{ "below", NULL, "a@x.example.org", "", 20270101, "old@example.org " },
	{ "further below", NULL, "a@x.deep.example.org", "", 20270101,
	    "d@deep.example.org " },
	{ "the parent of a pattern", NULL, "a@deep.example.org", "", 20270101,
	    "old@example.org " },
	{ "one sender", NULL, "News@example.org", "", 20260101,
	    "n1@news.example.org n2@news.example.org " },
	{ "no local part", NULL, "@example.org", "", 20260101,
	    "old@example.org " },
	{ "no key today", NULL, "late@example.org", "", 20270101,
	    "new@example.org " },
	{ "a key since today", NULL, "late@example.org", "", 20300101,
	    "l@late.example.org " },
	{ "a user", "Ann", "news@example.org", "", 20260101,
	    "a@ann.example.org " },
	{ "a user in other letters", "aNN", "a@example.org", "", 20260101,
	    "a@ann.example.org " },
	{ "another user", "anna", "a@example.org", "", 20260101,
	    "old@example.org " },
	{ "a user with a domain", "Bob@x.test", "a@example.org", "", 20260101,
	    "b@bob.example.org " },
	{ "a sender called user:bob", NULL, NULL, "user:bob@x.test", 20260101,
	    "" },
	{ "an author called user:Ann", NULL, "user:Ann@x.test", "", 20260101,
	    "" },
	{ "a domain like ours", NULL, "a@anexample.org", "", 20260101, "" },
	{ "nobody", NULL, NULL, "", 20260101, "" },
	{ "our sender", NULL, "a@x.test", "b@example.org", 20260101,
	    "old@example.org " },
	{ "author and sender", NULL, "a@example.org", "news@example.org",
	    20260101, "old@example.org " },
};

static void
finds_keys(void)
{
	struct buf errors = BUF_INIT;
	struct conf *conf;
	struct dkim_keys *keys;
	const struct key_table *parsed;
	struct arena *arena = arena_new(0);
	const char *why = NULL;

	begin();
	put("table", table);
	conf = load(&errors);
	CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
	parsed = key_table_parse(arena, arena_printf(arena, "%s/table",
	    directory), table, strlen(table), &errors);
	CU_ASSERT_PTR_NOT_NULL_FATAL(parsed);
	keys = dkim_keys_new(conf, parsed, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(keys);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct find_case *c = &cases[i];
		const struct dkim_keys_from from = { c->user, c->author,
			c->sender, c->day };
		struct buf found = BUF_INIT;
		size_t count;
		const struct dkim_signing_key *key = dkim_keys_find(keys,
		    arena, &from, &count);

		CASE_ASSERT(c->name, (key == NULL) == (count == 0));
		buf_puts(&found, "");
		for (; count > 0; key++, count--) {
			CASE_ASSERT(c->name, key->key != NULL);
			buf_printf(&found, "%s@%s ", key->selector,
			    key->domain);
		}
		CASE_ASSERT(c->name, strcmp(found.data == NULL ? "" :
		    found.data, c->want) == 0);
		buf_release(&found);
	}
	dkim_keys_free(&keys);
	conf_free(&conf);
	buf_release(&errors);
	arena_free(&arena);
	end();
}

static void
tells_bad_keys(void)
{
	static const struct {
		const char *name, *line, *want;
	} bad[] = {
		{ "small", "small.pem",
		    "the RSA key has less than 1024 bits" },
		{ "no key", "table", "the key is not a private key in PEM" },
	};

	begin();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct buf text = BUF_INIT, errors = BUF_INIT;
		char want[256];
		const char *why = NULL;
		struct conf *conf;

		buf_printf(&text, "\na.org a.org s %s\n", bad[i].line);
		put("table", text.data);
		conf = load(&errors);
		CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
		CASE_ASSERT(bad[i].name, filter_dkim_sign.setup(conf,
		    section_of(conf), &why) == NULL);
		snprintf(want, sizeof(want), "%s/table:2: %s/%s: %s",
		    directory, directory, bad[i].line, bad[i].want);
		CU_ASSERT_STRING_EQUAL(why, want);
		conf_free(&conf);
		buf_release(&text);
		buf_release(&errors);
	}
	end();
}

static void
tells_missing_files(void)
{
	struct buf errors = BUF_INIT;
	char want[512];

	begin();
	put("table", "a.org a.org s none.pem\na.org a.org t one.pem\n"
	    ".a.org a.org s none.pem\n.a.org a.org u nil.pem\n");
	CU_ASSERT_PTR_NULL(load(&errors));
	snprintf(want, sizeof(want), "%s/table:4: %s/nil.pem: No such file or "
	    "directory\n%s/table:1: %s/none.pem: No such file or directory\n",
	    directory, directory, directory, directory);
	CU_ASSERT_STRING_EQUAL(errors.data, want);
	buf_reset(&errors);
	put("m.conf", "\ndkim_sign main {\nkeys = gone\n}\n");
	CU_ASSERT_PTR_NULL(load(&errors));
	snprintf(want, sizeof(want), "%s/m.conf:3: keys: %s/gone: No such "
	    "file or directory\n", directory, directory);
	CU_ASSERT_STRING_EQUAL(errors.data, want);
	buf_release(&errors);
	end();
}

static bool
sees_main(const struct conf_section *section, const char *option,
    void *argument)
{
	(void)option;
	(void)argument;
	return strcmp(section->title, "main") == 0;
}

/* A table and its keys reach the one section's process alone. */
static void
hides_others_keys(void)
{
	struct buf errors = BUF_INIT;
	const char *why = NULL;
	FILE *file = tmpfile();
	static char stream[65536];
	struct conf *conf, *copy;
	void *instance;
	ssize_t n;

	begin();
	put("m.conf", "dkim_sign main { keys = table }\n"
	    "dkim_sign second { keys = other }\n");
	put("table", "a.org a.org s one.pem\n");
	put("other", "b.org b.org OTHER two.pem\n");
	put("two.pem", "SECRETSECRET");
	conf = load(&errors);
	CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
	CU_ASSERT_EQUAL(conf_snapshot_write(conf, fileno(file), sees_main,
	    NULL, &why), 0);
	n = pread(fileno(file), stream, sizeof(stream), 0);
	CU_ASSERT(n > 0 && n < (ssize_t)sizeof(stream));
	CU_ASSERT_PTR_NOT_NULL(memmem(stream, (size_t)n, "PRIVATE KEY", 11));
	CU_ASSERT_PTR_NULL(memmem(stream, (size_t)n, "SECRETSECRET", 12));
	CU_ASSERT_PTR_NULL(memmem(stream, (size_t)n, "OTHER", 5));
	end();
	lseek(fileno(file), 0, SEEK_SET);
	copy = conf_snapshot_read(fileno(file), kinds, 2, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(copy);
	instance = filter_dkim_sign.setup(copy, section_of(copy), &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(instance);
	filter_dkim_sign.release(instance);
	CU_ASSERT_PTR_NULL(filter_dkim_sign.setup(copy, section_of(copy) + 1,
	    &why));
	conf_free(&copy);
	conf_free(&conf);
	buf_release(&errors);
	fclose(file);
}

/* The same hashes for all keys: b= and selector alone differ. */
static void
signs_more_than_once(void)
{
	static const char *const from[] = { "From", NULL };
	const struct dkim_signer_settings settings = { .fields = from,
		.oversign = from, .relaxed_header = true };
	static const struct dkim_rules rules = { .minimum_key_bits = 1024,
	    .clock_skew = 300, .max_signatures = 8 };
	struct arena *arena = arena_new(0);
	const char *why, *record = arena_printf(arena, "p=%s", rsa_public);
	EVP_PKEY *key = dkim_key_private(rsa_private, strlen(rsa_private),
	    &why);
	const struct dkim_signing_key keys[] = { { "a.org", "one", key },
		{ "b.org", "two", key }, { "c.org", "three", key } };
	struct dkim_signer *signer = dkim_signer_new(&settings, &why);
	struct dkim_engine *engine = dkim_engine_new(&rules, &why);
	struct headers headers = { 0 };
	struct dkim_signing *signing;
	struct dkim_verifier *verifier;
	struct dkim_signature *signatures;
	size_t count;

	headers_parse(&headers, arena, "From: a@a.org\r\n", 15);
	signing = dkim_signing_new(signer, arena, &headers, NULL, "t", &why);
	dkim_signing_body(signing, plain_body, sizeof(plain_body) - 1);
	for (size_t i = 0; i < 3; i++) {
		const char *value = dkim_signing_by(signing, &keys[i], &why);

		CU_ASSERT_PTR_NOT_NULL_FATAL(value);
		headers_add(&headers, arena, headers.first, "DKIM-Signature",
		    value, true);
	}
	verifier = dkim_verifier_new(engine, arena, &headers, "t");
	signatures = dkim_verifier_signatures(verifier, &count);
	CU_ASSERT_EQUAL_FATAL(count, 3);
	for (size_t i = 0; i < 3; i++)
		dkim_verifier_key(verifier, &signatures[i], record,
		    strlen(record));
	dkim_verifier_body(verifier, plain_body, sizeof(plain_body) - 1);
	dkim_verifier_eom(verifier);
	for (size_t i = 0; i < 3; i++) {
		CU_ASSERT_STRING_EQUAL(signatures[i].result, "pass");
		CU_ASSERT_STRING_EQUAL(signatures[i].domain,
		    keys[2 - i].domain);
	}
	dkim_verifier_free(&verifier);
	dkim_engine_free(&engine);
	dkim_signing_free(&signing);
	dkim_signer_free(&signer);
	EVP_PKEY_free(key);
	arena_free(&arena);
}

SUITE(dkim_keys, { "finds keys", finds_keys },
    { "tells bad keys", tells_bad_keys },
    { "tells missing files", tells_missing_files },
    { "hides others' keys", hides_others_keys },
    { "signs more than once", signs_more_than_once })
