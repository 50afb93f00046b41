#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "filters/dkim_engine.h"
#include "filters/dkim_sign.h"
#include "t/unit/filters/dkim_vectors.h"
#include "t/unit/unit.h"

static const struct section_kind top = { .name = "", .doc = "All.",
    .size = 1 };
static const struct section_kind *kinds[2] = { &top };

/* A configuration whose key is the file of that name. */
static struct conf *
configure(const char *path, const char *more)
{
	struct buf text = BUF_INIT, errors = BUF_INIT;
	struct conf *conf;

	kinds[1] = filter_dkim_sign.options;
	buf_printf(&text, "dkim_sign main {\n%s", more);
	if (path != NULL)
		buf_printf(&text, "key = \"%s\"\n", path);
	buf_puts(&text, "}\n");
	conf = conf_load(NULL, text.data, kinds, 2, &errors);
	if (conf == NULL)
		fprintf(stderr, "\n%s", errors.data);
	buf_release(&text);
	buf_release(&errors);
	return conf;
}

static void
key_file(char *path, const char *key)
{
	int fd = mkstemp(strcpy(path, "/tmp/dkim_sign_test.XXXXXX"));

	CU_ASSERT_FATAL(fd != -1);
	CU_ASSERT_EQUAL(write(fd, key, strlen(key)), (ssize_t)strlen(key));
	close(fd);
}

static const struct conf_section *
section_of(const struct conf *conf)
{
	size_t count;

	return conf_sections(conf, "dkim_sign", &count);
}

#define BASICS "domains = { \"example.org\", \"sub.example.org\" }\n"	\
	"selector = \"r\"\n"

struct sign_case {
	const char *name, *options;
	const char *from, *sender, *user, *listener;
	bool trusted;
	const char *domain;		/* NULL: not signed */
};

static const struct sign_case cases[] = {
	{ "a stranger", "", "a@example.org", "", NULL, "smtp", false, NULL },
	{ "a trusted host", "", "a@example.org", "", NULL, "smtp", true,
	    "example.org" },
	{ "a user", "", "a@example.org", "", "ann", "smtp", false,
	    "example.org" },
	{ "a trusted listener", "listeners = { \"x\", \"submission\" }\n",
	    "a@example.org", "", NULL, "submission", false, "example.org" },
	{ "everybody", "sign_for = \"all\"\n", "a@example.org", "", NULL,
	    "smtp", false, "example.org" },
	{ "a name and a comment", "", "Ann (me@x) <a@Example.ORG> (hi)", "",
	    "ann", "smtp", false, "example.org" },
	{ "a subdomain", "", "a@mail.example.org", "", "ann", "smtp", false,
	    "example.org" },
	{ "a subdomain of its own", "", "a@x.sub.example.org", "", "ann",
	    "smtp", false, "sub.example.org" },
	{ "another domain", "", "a@anexample.org", "", "ann", "smtp", false,
	    NULL },
	{ "another domain, but our sender", "", "a@example.net",
	    "b@example.org", "ann", "smtp", false, "example.org" },
	{ "no address", "", "undisclosed:;", "", "ann", "smtp", false, NULL },
	{ "two From", "", "a@example.org\r\nFrom: b@example.org",
	    "b@example.org", "ann", "smtp", false, NULL },
	{ "simple", "canonicalization = \"simple/simple\"\n", "a@example.org",
	    "", "ann", "smtp", false, "example.org" },
};

/* What the verifier says of the first signature of a mail. */
static const char *
verified(struct mail *mail)
{
	static const struct dkim_rules rules = { .minimum_key_bits = 1024,
	    .clock_skew = 300, .max_signatures = 8 };
	const char *why, *key = arena_printf(mail->arena, "p=%s", rsa_public);
	struct dkim_engine *engine = dkim_engine_new(&rules, &why);
	struct dkim_verifier *verifier = dkim_verifier_new(engine,
	    mail->arena, &mail->headers, "test");
	size_t count;
	struct dkim_signature *signature =
	    dkim_verifier_signatures(verifier, &count);
	const char *result;

	CU_ASSERT_EQUAL_FATAL(count, 1);
	dkim_verifier_key(verifier, signature, key, strlen(key));
	dkim_verifier_body(verifier, plain_body, sizeof(plain_body) - 1);
	dkim_verifier_eom(verifier);
	result = arena_printf(mail->arena, "%s %s", signature->result,
	    signature->domain);
	dkim_verifier_free(&verifier);
	dkim_engine_free(&engine);
	return result;
}

static void
signs(void)
{
	char path[64];

	key_file(path, rsa_private);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct sign_case *c = &cases[i];
		struct session session = { .hostname = "mx.example",
		    .listener = c->listener, .user = c->user,
		    .trusted = c->trusted };
		struct mail *mail = mail_new(&session, 1 << 20, "/tmp");
		struct filter_run run = { .filter = &filter_dkim_sign,
		    .name = "main", .session = &session, .mail = mail };
		struct conf *conf = configure(path, arena_printf(mail->arena,
		    "%s%s", BASICS, c->options));
		const char *why = NULL, *header = arena_printf(mail->arena,
		    "Received: x\r\nFrom: %s\r\nSubject: y\r\n", c->from);

		mail->envelope.sender = c->sender;
		headers_parse(&mail->headers, mail->arena, header,
		    strlen(header));
		body_append(mail->body, plain_body, sizeof(plain_body) - 1);
		run.instance = filter_dkim_sign.setup(conf, section_of(conf),
		    &why);
		CU_ASSERT_PTR_NOT_NULL_FATAL(run.instance);
		CU_ASSERT_EQUAL(filter_dkim_sign.eom(&run).action,
		    ACTION_CONTINUE);
		CASE_ASSERT(c->name, header_is(mail->headers.first,
		    "DKIM-Signature") == (c->domain != NULL));
		if (c->domain != NULL)
			CASE_ASSERT(c->name, strcmp(verified(mail),
			    arena_printf(mail->arena, "pass %s",
			    c->domain)) == 0);
		filter_dkim_sign.release(run.instance);
		conf_free(&conf);
		mail_free(&mail);
	}
	unlink(path);
}

static bool
sees_nothing(const struct conf_section *section, const char *option,
    void *argument)
{
	(void)section;
	(void)option;
	(void)argument;
	return false;
}

/* The gateway gets a snapshot without the key. */
static void
fails_without_its_key(void)
{
	char path[64];
	FILE *file = tmpfile();
	const char *why = NULL;
	struct conf *conf, *snapshot;

	key_file(path, rsa_private);
	conf = configure(path, BASICS);
	CU_ASSERT_EQUAL(conf_snapshot_write(conf, fileno(file), sees_nothing,
	    NULL, &why), 0);
	lseek(fileno(file), 0, SEEK_SET);
	snapshot = conf_snapshot_read(fileno(file), kinds, 2, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(snapshot);
	CU_ASSERT_PTR_NULL(filter_dkim_sign.setup(snapshot,
	    section_of(snapshot), &why));
	CU_ASSERT_STRING_EQUAL(why, "key not available in this process");
	conf_free(&snapshot);
	conf_free(&conf);
	fclose(file);
	unlink(path);
}

static void
wants_its_options(void)
{
	static const struct {
		const char *name, *options, *key, *want;
	} bad[] = {
		{ "nothing", "", NULL, "domains is not set" },
		{ "no domain", "domains = { \"a b\" }\n", NULL,
		    "domains holds what is no domain" },
		{ "no selector", "domains = { \"example.org\" }\n", NULL,
		    "selector is not set" },
		{ "a bad selector", "domains = { \"example.org\" }\n"
		    "selector = \"a/b\"\n", NULL, "selector is no host name" },
		{ "no key", BASICS, NULL, "key is not set" },
		{ "a small key", BASICS, small_private,
		    "the RSA key has less than 1024 bits" },
		{ "rubbish", BASICS, "x",
		    "the key is not a private key in PEM" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char path[64];
		struct conf *conf;
		const char *why = NULL;

		if (bad[i].key != NULL)
			key_file(path, bad[i].key);
		conf = configure(bad[i].key != NULL ? path : NULL,
		    bad[i].options);
		CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
		CASE_ASSERT(bad[i].name, filter_dkim_sign.setup(conf,
		    section_of(conf), &why) == NULL);
		CASE_ASSERT(bad[i].name, why != NULL &&
		    strcmp(why, bad[i].want) == 0);
		conf_free(&conf);
		if (bad[i].key != NULL)
			unlink(path);
	}
}

SUITE(dkim_sign, { "signs", signs },
    { "fails without its key", fails_without_its_key },
    { "wants its options", wants_its_options })
