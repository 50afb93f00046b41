#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "filters/authres.h"
#include "t/unit/unit.h"

static void
ids_are_found(void)
{
	static const struct {
		const char *name, *value, *want;	/* NULL: none */
	} cases[] = {
		{ "plain", " mx.example; none", "mx.example" },
		{ "no space", "mx.example;none", "mx.example" },
		{ "a version", " mx.example 1; spf=pass", "mx.example" },
		{ "a version and comments", " mx.example (x) 1 (y); spf=pass",
		    "mx.example" },
		{ "an old version", " mx.example/1; spf=pass", "mx.example" },
		{ "a comment", " (hello) mx.example; none", "mx.example" },
		{ "nested comments", "((a(b)) c)(d)mx.example; none",
		    "mx.example" },
		{ "a quoted parenthesis", "(a\\)b)mx.example; none",
		    "mx.example" },
		{ "a comment behind", "mx.example(c); none", "mx.example" },
		{ "folds", "\r\n\t(a\r\n b)\r\n mx.example\r\n ;none",
		    "mx.example" },
		{ "quotes", " \"mx.example\"; none", "mx.example" },
		{ "quotes and escapes", " \"m\\x.ex\\ample\" 1; none",
		    "mx.example" },
		{ "quotes and spaces", " \" mx.example \"; none",
		    "mx.example" },
		{ "a fold in quotes", " \"mx\r\n.example\"; none",
		    "mx.example" },
		{ "upper case", " MX.Example; none", "MX.Example" },
		{ "no result", " mx.example", "mx.example" },
		{ "an @", "mx.example@evil.example; none", "mx.example" },
		{ "empty", "", NULL },
		{ "white space", " \r\n ", NULL },
		{ "only results", " ; spf=pass", NULL },
		{ "an open comment", " (mx.example; none", NULL },
		{ "an open quote", " \"mx.example", "mx.example" },
		{ "a backslash at the end", " \"mx.example\\",
		    "mx.example\\" },
		{ "8-bit", " m\xc3\xbc.example; none", "m\xc3\xbc.example" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		const char *id = authres_id(arena, cases[i].value,
		    strlen(cases[i].value));

		CASE_ASSERT(cases[i].name, (id == NULL) ==
		    (cases[i].want == NULL));
		CASE_ASSERT(cases[i].name, id == NULL ||
		    cases[i].want == NULL || strcmp(id, cases[i].want) == 0);
		arena_free(&arena);
	}
	CU_ASSERT(authres_id_equal("MX.example.", "mx.Example"));
	CU_ASSERT(!authres_id_equal("mx.example", "mx.example.org"));
	CU_ASSERT(!authres_id_equal("amx.example", "mx.example"));
	CU_ASSERT(authres_id_equal("mx.b\xc3\x9c" "cher.example.",
	    "mx.xn--bcher-kva.example"));
	CU_ASSERT(authres_id_equal("mx\xef\xbc\x8e" "example", "mx.example"));
	CU_ASSERT(!authres_id_equal("mx.b\xc3\xbc" "cher.example",
	    "mx.bucher.example"));
}

static void
forged_fields_go(void)
{
	static const char text[] =
	    "Received: x\r\n"
	    "Authentication-Results: mx.example; dkim=pass\r\n"
	    "AUTHENTICATION-RESULTS : (a) \"MX.EXAMPLE\" 1; dkim=pass\r\n"
	    "Authentication-Results: other.example; dkim=pass\r\n"
	    "Received-SPF: pass\r\n"
	    "Authentication-Results:\r\n\tmx.example.; dkim=pass\r\n"
	    "X-Authentication-Results: mx.example; dkim=pass\r\n";
	struct arena *arena = arena_new(0);
	struct headers headers = { 0 };

	headers_parse(&headers, arena, text, sizeof(text) - 1);
	CU_ASSERT_EQUAL(authres_remove(&headers, arena, "mx.example"), 3);
	CU_ASSERT_EQUAL(headers.count, 4);
	CU_ASSERT_STRING_EQUAL(header_value(headers_find(&headers,
	    "Authentication-Results", 1), arena, true),
	    "other.example; dkim=pass");
	CU_ASSERT_PTR_NULL(headers_find(&headers, "Authentication-Results",
	    2));
	arena_free(&arena);
}

static void
claims_are_seen(void)
{
	static const struct {
		const char *name, *value;
		bool removed;
	} cases[] = {
		{ "behind another id", " other.example mx.example; a=b", true },
		{ "behind a version", " other.example 1 mx.example;", true },
		{ "behind a comma", " other.example,mx.example; a=b", true },
		{ "in brackets", " <mx.example>; a=b", true },
		{ "behind an empty part", " ;mx.example; a=b", true },
		{ "behind an empty string", " \"\" mx.example; a=b", true },
		{ "parted by a comment", " mx(x).exa(y)mple; a=b", true },
		{ "parted by a fold", " mx.\r\n example; a=b", true },
		{ "partly quoted", " mx.\"example\" 1; a=b", true },
		{ "quoted twice", " \"o\"\"mx.example\"; a=b", true },
		{ "a slash in front", " /mx.example; a=b", true },
		{ "without semicolon", " x mx.example", true },
		{ "in a result", " other.example; a=b mx.example", false },
		{ "as a second part", " other.example; mx.example; a=b",
		    false },
		{ "in a comment", " other.example (mx.example); a=b", false },
		{ "a part of it", " mx; example", false },
		{ "with more behind", " mx.example.org; a=b", false },
		{ "nothing", "", false },
		{ "a quote", " \"", false },
		{ "semicolons", " ;;", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		struct headers headers = { 0 };
		const char *text = arena_printf(arena,
		    "Authentication-Results:%s\r\n", cases[i].value);

		headers_parse(&headers, arena, text, strlen(text));
		CASE_ASSERT(cases[i].name, (authres_remove(&headers, arena,
		    "mx.example") == 1) == cases[i].removed);
		arena_free(&arena);
	}
}

/* In time and memory that grow with its length. */
static void
long_claims(void)
{
	static const char *const units[] = { ",", "x ", "\"\"", ";", "()",
	    "\xc3\xbc ", "\\" };

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		struct arena *arena = arena_new(0);
		struct headers headers = { 0 };
		struct buf text = BUF_INIT;

		buf_puts(&text, "Authentication-Results:");
		while (text.len < 250000)
			buf_puts(&text, units[i]);
		buf_puts(&text, "mx.example; a=b\r\n");
		headers_parse(&headers, arena, text.data, text.len);
		CASE_ASSERT(units[i], authres_remove(&headers, arena,
		    "mx.example") == 1);
		buf_release(&text);
		arena_free(&arena);
	}
}

/* The field for one finding with one property. */
static const char *
print_one(struct arena *arena, const char *reason, const char *value,
    bool utf8)
{
	struct property property = { "smtp", "mailfrom", value, NULL };
	struct finding finding = { .method = "spf", .result = "fail",
	    .reason = reason, .properties = value != NULL ? &property : NULL,
	    .report = true };

	return authres_print(arena, "mx.example", &finding, utf8);
}

static void
values_are_quoted(void)
{
	static const struct {
		const char *name, *reason, *value;
		bool utf8;
		const char *want;
	} cases[] = {
		{ "a domain", NULL, "example.org", false,
		    " smtp.mailfrom=example.org" },
		{ "an address", NULL, "a.b+c@example.org", false,
		    " smtp.mailfrom=a.b+c@example.org" },
		{ "an address without local part", NULL, "@example.org",
		    false, " smtp.mailfrom=@example.org" },
		{ "empty", NULL, "", false, " smtp.mailfrom=\"\"" },
		{ "a comment", NULL, "x@evil.example(.bank.example", false,
		    " smtp.mailfrom=\"x@evil.example(.bank.example\"" },
		{ "another method", NULL, "a@b; dkim=pass", false,
		    " smtp.mailfrom=\"a@b; dkim=pass\"" },
		{ "a quote", NULL, "\"a b\\\"@example.org", false,
		    " smtp.mailfrom=\"\\\"a b\\\\\\\"@example.org\"" },
		{ "a line break", NULL, "a\r\nBcc: b", false,
		    " smtp.mailfrom=\"a??Bcc: b\"" },
		{ "a slash and an equal sign", NULL, "a/b=", false,
		    " smtp.mailfrom=\"a/b=\"" },
		{ "two dots", NULL, "a..b@example.org", false,
		    " smtp.mailfrom=\"a..b@example.org\"" },
		{ "8-bit", NULL, "\xc3\xbc@example.org", false,
		    " smtp.mailfrom=\"??@example.org\"" },
		{ "UTF-8", NULL, "\xc3\xbc@example.org", true,
		    " smtp.mailfrom=\"\xc3\xbc@example.org\"" },
		{ "a reason", "bad signature", NULL, false,
		    " (bad signature)" },
		{ "a reason that ends the comment", "a) ; dkim=pass (", NULL,
		    false, " (a\\) ; dkim=pass \\()" },
		{ "a reason in lines", "a\r\nb\\", NULL, false,
		    " (a??b\\\\)" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		const char *got = print_one(arena, cases[i].reason,
		    cases[i].value, cases[i].utf8);
		const char *want = arena_printf(arena,
		    "mx.example;\r\n\tspf=fail%s", cases[i].want);

		CASE_ASSERT(cases[i].name, strcmp(got, want) == 0);
		if (strcmp(got, want) != 0)
			fprintf(stderr, ": %s", got);
		arena_free(&arena);
	}
}

static void
fields_are_whole(void)
{
	struct property s = { "header", "s", "a-long-selector-2026", NULL };
	struct property i = { "header", "i", "@mail.news.example.org", &s };
	struct property d = { "header", "d", "news.example.org", &i };
	struct property bad = { "header", "d;x", "y", NULL };
	struct finding hidden = { .method = "policy", .result = "pass" };
	struct finding malformed = { .method = "a b", .result = "pass",
	    .report = true, .next = &hidden };
	struct finding dkim = { .method = "dkim", .result = "pass",
	    .properties = &d, .report = true, .next = &malformed };
	struct finding spf = { .method = "spf", .result = "none",
	    .properties = &bad, .report = true, .next = &dkim };
	struct arena *arena = arena_new(0);
	struct buf longest = BUF_INIT;
	const char *text;

	CU_ASSERT_STRING_EQUAL(authres_print(arena, "mx.example", &spf,
	    false), "mx.example;\r\n\tspf=none;\r\n\tdkim=pass "
	    "header.d=news.example.org header.i=@mail.news.example.org"
	    "\r\n\theader.s=a-long-selector-2026");
	CU_ASSERT_STRING_EQUAL(authres_print(arena, "mx.example", NULL,
	    false), "mx.example; none");
	CU_ASSERT_STRING_EQUAL(authres_print(arena, "mx.example", &hidden,
	    false), "mx.example; none");
	CU_ASSERT_STRING_EQUAL(authres_print(arena, "mx example", NULL,
	    false), "\"mx example\"; none");

	for (int n = 0; n < 100000; n++)
		buf_putc(&longest, '(');
	d.value = longest.data;
	spf.reason = longest.data;
	text = authres_print(arena, "mx.example", &spf, false);
	CU_ASSERT(strlen(text) < 2000);
	CU_ASSERT_STRING_EQUAL(authres_id(arena, text, strlen(text)),
	    "mx.example");
	buf_release(&longest);
	arena_free(&arena);
}

static void
run_filter(struct session *session, struct mail *mail, const char *options)
{
	const struct section_kind top = { .name = "", .doc = "All.",
	    .size = 1 };
	const struct section_kind *kinds[] = { &top, filter_authres.options };
	struct filter_run run = { .filter = &filter_authres,
	    .name = "authres", .session = session, .mail = mail };
	struct buf errors = BUF_INIT;
	struct conf *conf = conf_load(NULL, options, kinds, 2, &errors);
	struct conf_section section = { .kind = kinds[1] };
	const char *why = NULL;

	CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
	section.values = conf_get(conf, "authres");
	run.instance = filter_authres.setup(conf, &section, &why);
	filter_authres.clean(&run);
	filter_authres.eom(&run);
	filter_authres.release(run.instance);
	conf_free(&conf);
	buf_release(&errors);
}

/* The filter: forged fields go, ours stands below the hidden Received. */
static void
the_filter_adds_its_field(void)
{
	static const struct {
		const char *name, *options, *want;
	} cases[] = {
		{ "defaults", "", "Authentication-Results: mx.example; none" },
		{ "an id of its own",
		    "authres {\nid = \"other\"\nremove = { \"MX.example\" }\n}\n",
		    "Authentication-Results: other; none" },
	};
	static const char text[] = "Received: ours\r\n"
	    "Authentication-Results: mx.example; spf=pass\r\nFrom: x\r\n"
	    "Authentication-Results: mx.example; dkim=pass\r\n";

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct session session = { .hostname = "mx.example" };
		struct mail *mail = mail_new(&session, 1000, "/tmp");

		headers_parse(&mail->headers, mail->arena, text,
		    sizeof(text) - 1);
		mail->headers.first->hidden = true;
		run_filter(&session, mail, cases[i].options);
		CU_ASSERT_EQUAL(mail->headers.count, 3);
		CASE_ASSERT(cases[i].name, strncmp(
		    headers_at(&mail->headers, 1)->raw, cases[i].want,
		    strlen(cases[i].want)) == 0);
		mail_free(&mail);
	}
}

/* What the filter adds of the session. */
static void
the_session_is_reported(void)
{
	static const struct {
		const char *name;
		struct session session;
		const char *want;
	} cases[] = {
		{ "not looked up", { .client_address = "192.0.2.1" },
		    "; none" },
		{ "confirmed", { .client_address = "192.0.2.1",
		    .client_name_asked = true, .client_name = "c.example",
		    .client_ptr = "c.example" },
		    ";\r\n\tiprev=pass policy.iprev=192.0.2.1" },
		{ "not confirmed", { .client_address = "2001:db8::1",
		    .client_name_asked = true, .client_ptr = "c.example" },
		    ";\r\n\tiprev=fail policy.iprev=\"2001:db8::1\"" },
		{ "no PTR", { .client_address = "192.0.2.1",
		    .client_name_asked = true },
		    ";\r\n\tiprev=permerror policy.iprev=192.0.2.1" },
		{ "no answer", { .client_address = "192.0.2.1",
		    .client_name_asked = true, .client_ptr = "c.example",
		    .client_name_unknown = true },
		    ";\r\n\tiprev=temperror policy.iprev=192.0.2.1" },
		{ "a user", { .client_address = "192.0.2.1",
		    .user = "ann@x.test" },
		    ";\r\n\tauth=pass smtp.auth=ann@x.test" },
		{ "both", { .client_address = "192.0.2.1",
		    .client_name_asked = true, .user = "a (b" },
		    ";\r\n\tiprev=permerror policy.iprev=192.0.2.1"
		    ";\r\n\tauth=pass smtp.auth=\"a (b\"" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct session session = cases[i].session;
		const char *want;
		struct mail *mail;

		session.hostname = "mx.example";
		mail = mail_new(&session, 1000, "/tmp");
		want = arena_printf(mail->arena,
		    "Authentication-Results: mx.example%s\r\n",
		    cases[i].want);
		run_filter(&session, mail, "");
		CASE_ASSERT(cases[i].name, strcmp(arena_strndup(mail->arena,
		    mail->headers.first->raw, mail->headers.first->len),
		    want) == 0);
		mail_free(&mail);
	}
}

SUITE(authres,
    { "ids are found", ids_are_found },
    { "forged fields go", forged_fields_go },
    { "claims are seen", claims_are_seen },
    { "long claims", long_claims },
    { "values are quoted", values_are_quoted },
    { "fields are whole", fields_are_whole },
    { "the filter adds its field", the_filter_adds_its_field },
    { "the session is reported", the_session_is_reported })
