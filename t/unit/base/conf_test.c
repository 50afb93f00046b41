/* The configuration: values, origins, errors, snapshots, printing. */
#define _GNU_SOURCE			/* memmem */
#include "base/conf.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/table.h"
#include "t/unit/unit.h"

#define TOP_OPTIONS(ROW, o)						\
	ROW(o, hostname, string, NULL, NULL, NULL, "Our name.")		\
	ROW(o, relay_domains, table, NULL, NULL, NULL, "Our domains.")	\
	ROW(o, trusted_networks, table, "127.0.0.0/8, ::1", NULL, NULL,	\
	    "Networks whose clients may relay. Any text is possible here, "	\
	    "and it may be long enough to be broken into several lines.")	\
	ROW(o, message_size_limit, size, "50M", "1K", "2G", "The limit.") \
	ROW(o, tls_certificate, file, NULL, NULL, NULL, "PEM file.")	\
	ROW(o, tls_key, file, NULL, NULL, NULL, "PEM file of the key.")	\
	ROW(o, forwarders, strings, "a, b", NULL, NULL, "DNS servers.")	\
	ROW(o, stubs, strings, NULL, NULL, NULL, "DNS zones.")		\
	ROW(o, format, choice, "text", "text|json", NULL, "Lines.")
struct top_options { TOP_OPTIONS(OPTION_FIELD, top_options) };
static const struct option_row top_rows[] = {
	TOP_OPTIONS(OPTION_ROW, top_options)
};

#define LISTENER_OPTIONS(ROW, o)					\
	ROW(o, port, number, "25", "1", "65535", "The port.")		\
	ROW(o, tls, flag, "no", NULL, NULL, "TLS at once.")		\
	ROW(o, timeout, duration, "5m", "1s", "1h", "How long.")	\
	ROW(o, map, path, NULL, NULL, NULL, "Opened by others.")
struct listener_options { LISTENER_OPTIONS(OPTION_FIELD, listener_options) };
static const struct option_row listener_rows[] = {
	LISTENER_OPTIONS(OPTION_ROW, listener_options)
};

#define SPF_OPTIONS(ROW, o)						\
	ROW(o, lookups, number, "10", "1", "100", "How many.")
struct spf_options { SPF_OPTIONS(OPTION_FIELD, spf_options) };
static const struct option_row spf_rows[] = {
	SPF_OPTIONS(OPTION_ROW, spf_options)
};

static const struct section_kind top_kind = { "", false, "All of it.",
	top_rows, OPTION_COUNT(top_rows), sizeof(struct top_options) };
static const struct section_kind listener_kind = { "listener", true,
	"Where clients connect.", listener_rows, OPTION_COUNT(listener_rows),
	sizeof(struct listener_options) };
static const struct section_kind spf_kind = { "spf", false, "SPF.", spf_rows,
	OPTION_COUNT(spf_rows), sizeof(struct spf_options) };
static const struct section_kind *const kinds[] = { &listener_kind, &top_kind,
	&spf_kind };
#define KIND_COUNT 3

/* --- a directory of files for one test --- */

static char directory[64];

static void
make_directory(void)
{
	strcpy(directory, "/tmp/conf_test.XXXXXX");
	if (mkdtemp(directory) == NULL)
		abort();
}

/* In a buffer that the next call but four uses again. */
static const char *
path_of(const char *name)
{
	static char paths[4][128];
	static unsigned n;
	char *path = paths[n++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

static void
put(const char *name, const char *text)
{
	const char *path = path_of(name);
	char *slash = strrchr(path, '/');
	FILE *f;

	if (strchr(name, '/') != NULL) {
		*slash = '\0';
		mkdir(path, 0700);
		*slash = '/';
	}
	if ((f = fopen(path, "w")) == NULL)
		abort();
	fputs(text, f);
	fclose(f);
}

static void
remove_directory(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", directory);
	CU_ASSERT_EQUAL(system(command), 0);
}

static struct conf *
load(void)
{
	struct buf errors = BUF_INIT;
	struct conf *conf = conf_load(path_of("m.conf"), NULL, kinds,
	    KIND_COUNT, &errors);

	if (conf == NULL)
		fprintf(stderr, "%s", errors.data);
	CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
	buf_release(&errors);
	return conf;
}

static struct conf *
embedded(const char *text)
{
	struct buf errors = BUF_INIT;
	struct conf *conf = conf_load(NULL, text, kinds, KIND_COUNT, &errors);

	if (conf == NULL)
		fprintf(stderr, "%s", errors.data);
	CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
	buf_release(&errors);
	return conf;
}

/* --- tests --- */

static void
defaults(void)
{
	struct conf *conf = embedded("");
	const struct top_options *top = conf_get(conf, "");
	const struct spf_options *spf = conf_get(conf, "spf");
	size_t count;

	CU_ASSERT_PTR_NULL(top->hostname);
	CU_ASSERT_PTR_NULL(top->relay_domains);
	CU_ASSERT_EQUAL(table_count(top->trusted_networks), 2);
	CU_ASSERT_EQUAL(top->message_size_limit, 50 << 20);
	CU_ASSERT_PTR_NULL(top->tls_key);
	CU_ASSERT_STRING_EQUAL(top->forwarders[0], "a");
	CU_ASSERT_STRING_EQUAL(top->forwarders[1], "b");
	CU_ASSERT_PTR_NULL(top->forwarders[2]);
	CU_ASSERT_PTR_NOT_NULL_FATAL(top->stubs);
	CU_ASSERT_PTR_NULL(top->stubs[0]);
	CU_ASSERT_EQUAL(top->format, 0);
	CU_ASSERT_EQUAL(spf->lookups, 10);
	conf_sections(conf, "listener", &count);
	CU_ASSERT_EQUAL(count, 0);
	CU_ASSERT_EQUAL(conf_sections(conf, "spf", &count)->line, 0);
	CU_ASSERT_STRING_EQUAL(conf_sections(conf, "spf", &count)->file,
	    "default");
	conf_free(&conf);
	CU_ASSERT_PTR_NULL(conf);
	conf_free(&conf);
}

static void
given(void)
{
	struct conf *conf = embedded(
	    "# comment\n"
	    "hostname = mx.example.org\n"
	    "relay_domains = { \"example.org\", \"a@b = c\" }\n"
	    "trusted_networks = {}\n"
	    "message_size_limit = 1M\n"
	    "stubs = \"one\"\n"
	    "stubs += { two, three }\n"
	    "format = json\n"
	    "listener smtp {\n"
	    "	port = 2525\n"
	    "}\n"
	    "spf { lookups = 5 }\n"
	    "listener \"submission\" { port = 587 tls = on timeout = 30s }\n");
	const struct top_options *top = conf_get(conf, "");
	const struct conf_section *sections;
	const struct listener_options *listener;
	const char *value = "";
	size_t count;

	CU_ASSERT_STRING_EQUAL(top->hostname, "mx.example.org");
	CU_ASSERT_EQUAL(table_find(top->relay_domains, "a@b", &value, NULL),
	    ANSWER_YES);
	CU_ASSERT_STRING_EQUAL(value, "c");
	CU_ASSERT_PTR_NOT_NULL(top->trusted_networks);
	CU_ASSERT_EQUAL(table_count(top->trusted_networks), 0);
	CU_ASSERT_EQUAL(top->message_size_limit, 1 << 20);
	CU_ASSERT_STRING_EQUAL(top->stubs[2], "three");
	CU_ASSERT_PTR_NULL(top->stubs[3]);
	CU_ASSERT_EQUAL(top->format, 1);
	CU_ASSERT_EQUAL(((const struct spf_options *)conf_get(conf,
	    "spf"))->lookups, 5);
	sections = conf_sections(conf, "listener", &count);
	CU_ASSERT_EQUAL_FATAL(count, 2);
	CU_ASSERT_STRING_EQUAL(sections[0].title, "smtp");
	CU_ASSERT_EQUAL(sections[0].line, 9);
	listener = sections[0].values;
	CU_ASSERT_EQUAL(listener->port, 2525);
	CU_ASSERT_EQUAL(listener->timeout, 300000);
	CU_ASSERT_STRING_EQUAL(sections[1].title, "submission");
	CU_ASSERT_EQUAL(sections[1].line, 13);
	listener = sections[1].values;
	CU_ASSERT_EQUAL(listener->port, 587);
	CU_ASSERT(listener->tls);
	CU_ASSERT_EQUAL(listener->timeout, 30000);
	conf_free(&conf);
}

static const struct {
	const char *name, *text, *want;
} wrong[] = {
	{ "not a size", "\nmessage_size_limit = 50X\n",
	    "built-in:2: message_size_limit: \"50X\": not a size (10M; "
	    "K, M, G)\n" },
	{ "range", "message_size_limit = 3G",
	    "built-in:1: message_size_limit: \"3G\": must be between "
	    "1K and 2G\n" },
	{ "choice", "format = xml",
	    "built-in:1: format: \"xml\": must be one of text, json\n"
	},
	{ "flag", "listener a { tls = maybe }",
	    "built-in:1: tls: \"maybe\": not a flag (yes, no)\n" },
	{ "unknown, near", "\n\nrelay_domain = x\n",
	    "built-in:3: relay_domain: unknown option (did you mean "
	    "relay_domains?)\n" },
	{ "unknown section, near", "lisener smtp {\n port = 1\n}\n",
	    "built-in:1: lisener: unknown option (did you mean "
	    "listener?)\n" },
	{ "unknown, far", "quite_other = x",
	    "built-in:1: quite_other: unknown option\n" },
	{ "in the wrong section", "timeout = 5s",
	    "built-in:1: timeout: unknown option here (it stands in a "
	    "section listener)\n" },
	{ "below the top", "spf {\n\nhostname = x }",
	    "built-in:3: hostname: unknown option here (it stands at "
	    "the top level)\n" },
	{ "section in a section", "spf { listener a { } }",
	    "built-in:1: listener: unknown option here (the section "
	    "stands at the top level)\n" },
	{ "several at once", "relay_domain = x\nhostnam = { a, b }\n"
	    "listener a {\n prt = 5\n port = x\n}\nformat = xml",
	    "built-in:1: relay_domain: unknown option (did you mean "
	    "relay_domains?)\n"
	    "built-in:2: hostnam: unknown option (did you mean "
	    "hostname?)\n"
	    "built-in:4: prt: unknown option (did you mean port?)\n"
	    "built-in:5: port: \"x\": not a number\n"
	    "built-in:7: format: \"xml\": must be one of text, json\n"
	},
	{ "list for a value", "\nhostname = { a, b }",
	    "built-in:2: hostname: one value wanted, not a list\n" },
	{ "list of one for a value", "hostname = { a }",
	    "built-in:1: hostname: one value wanted, not a list\n" },
	{ "empty list for a value", "listener a {\nport = {} }",
	    "built-in:1: port: one value wanted, not a list\n" },
	{ "more for a value", "hostname = a\nhostname += b",
	    "built-in:1: hostname: one value wanted, not a list\n" },
	{ "section for an option", "hostname { a = b }",
	    "built-in:1: missing equal sign after option 'hostname'\n"
	},
	{ "option for a section", "listener = 5",
	    "built-in:1: missing title for section 'listener'\n" },
	{ "no title", "listener { port = 5 }",
	    "built-in:1: missing title for section 'listener'\n" },
	{ "option twice", "hostname = a\n\nhostname = b",
	    "built-in:3: hostname: given a second time; first at "
	    "built-in:1\n" },
	{ "list twice", "stubs = { a }\nstubs = { b, c }",
	    "built-in:2: stubs: given a second time; first at "
	    "built-in:1\n" },
	{ "title twice", "listener a { port = 1 }\nlistener b { }\n"
	    "listener a { port = 2 }",
	    "built-in:3: listener a: stands here a second time; first "
	    "at built-in:1\n" },
	{ "section twice", "spf {\n}\nspf { lookups = 3 }",
	    "built-in:3: spf: stands here a second time; first at "
	    "built-in:1\n" },
	{ "no end", "\nlistener a {\nport = 5\n",
	    "built-in:2: section listener has no closing brace\n" },
	{ "no end, two files", "\nspf {",
	    "built-in:2: section spf has no closing brace\n" },
	{ "no value", "\nhostname =",
	    "built-in:3: premature end of file\n" },
	{ "no end of a list", "stubs = { a, ",
	    "built-in:2: premature end of file\n" },
	{ "no end of a list either", "stubs = { a",
	    "built-in:2: premature end of file\n" },
	{ "no end of a comment", "spf { }\n/* x\n",
	    "built-in:2: a comment has no end\n" },
	{ "lines behind comments", "# x\n// y\n/* a\n */ spf { # \" {\n"
	    "lookups = 'a#//' /* } */ }\nformat = http://x // z",
	    "built-in:6: format: \"http://x\": must be one of text, "
	    "json\nbuilt-in:5: lookups: \"a#//\": not a number\n" },
	{ "open string behind an escape", "\nhostname = \"\\\"\n",
	    "built-in:2: a string has no closing quote\n" },
	{ "stray brace", "hostname = a\n}\n",
	    "built-in:2: unexpected closing brace\n" },
	{ "open string", "hostname = \"a\n",
	    "built-in:1: a string has no closing quote\n" },
	{ "no file", "\ntls_key = /no/such.pem",
	    "built-in:2: tls_key: /no/such.pem: No such file or "
	    "directory\n" },
	{ "no table file", "relay_domains = \"file:/no/such\"",
	    "built-in:1: relay_domains: /no/such: No such file or "
	    "directory\n" },
	{ "table not alone", "relay_domains = { a,\n\"file:/x\" }",
	    "built-in:1: relay_domains: \"file:\" must stand alone\n"
	},
	{ "table of no type we have", "relay_domains = \"redis:/x\"",
	    "built-in:1: relay_domains: \"redis:/x\": no such type of "
	    "table (file, cidr, pcre, ldap)\n" },
	{ "inline network", "trusted_networks = { \"::1\",\n"
	    "\"10.0.0.1/8\" }",
	    "built-in:2: trusted_networks: \"10.0.0.1/8\": bits are "
	    "set behind the prefix length\n" },
	{ "no included file", "\ninclude(\"/no/such.conf\")",
	    "built-in:2: include: /no/such.conf: No such file or "
	    "directory\n" },
	{ "hidden option", "spf { \"\\x01begin\" = x }",
	    "built-in:1: spf: stands here a second time; first at "
	    "built-in:1\n" },
	{ "path into a section", "spf { }\n\"spf|lookups\" = 5",
	    "built-in:2: lookups: unknown option\n" },
	{ "path into nothing", "\"spf|lookups\" = 5", NULL },
	{ "empty name", "\"\" = 5", NULL },
	{ "just an equal sign", "=", NULL },
};

static void
errors(void)
{
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct buf out = BUF_INIT;
		struct conf *conf = conf_load(NULL, wrong[i].text, kinds,
		    KIND_COUNT, &out);

		CASE_ASSERT(wrong[i].name, conf == NULL && out.len > 0);
		if (wrong[i].want != NULL && out.len > 0 &&
		    strcmp(out.data, wrong[i].want) != 0)
			fprintf(stderr, "\ngot: %s", out.data);
		if (wrong[i].want != NULL && out.len > 0)
			CASE_ASSERT(wrong[i].name,
			    strcmp(out.data, wrong[i].want) == 0);
		conf_free(&conf);
		buf_release(&out);
	}
}

static void
errors_in_files(void)
{
	struct buf out = BUF_INIT, want = BUF_INIT;

	make_directory();
	put("m.conf", "include(\"a.conf\")\nrelay_domains = \"file:domains\"\n"
	    "format = xml\n");
	put("a.conf", "hostname = a\nmessage_size_limit = 1\n");
	put("conf.d/b.conf", "\nhostname = b\n");
	put("conf.d/a.conf", "listener x { port = 0 }\n");
	put("conf.d/ignored", "nonsense");
	put("domains", "ok\n10.0.0.0/99\n");
	CU_ASSERT_PTR_NULL(conf_load(path_of("m.conf"), NULL, kinds,
	    KIND_COUNT, &out));
	buf_printf(&want, "%1$s/conf.d/b.conf:2: hostname: given a second "
	    "time; first at %1$s/a.conf:1\n"
	    "%1$s/conf.d/a.conf:1: port: \"0\": must be between 1 and 65535\n"
	    "%1$s/domains:2: \"10.0.0.0/99\": the prefix length is wrong\n"
	    "%1$s/a.conf:2: message_size_limit: \"1\": must be between 1K and "
	    "2G\n"
	    "%1$s/m.conf:3: format: \"xml\": must be one of text, json\n",
	    directory);
	CU_ASSERT_STRING_EQUAL(out.data, want.data);
	buf_reset(&out);
	CU_ASSERT_PTR_NULL(conf_load(path_of("none.conf"), NULL, kinds,
	    KIND_COUNT, &out));
	buf_reset(&want);
	buf_printf(&want, "%s/none.conf: No such file or directory\n",
	    directory);
	CU_ASSERT_STRING_EQUAL(out.data, want.data);
	buf_release(&want);
	buf_release(&out);
	remove_directory();
}

static void
include_cycle(void)
{
	struct buf out = BUF_INIT;
	struct conf *conf;

	make_directory();
	put("m.conf", "include(\"a.conf\")\n");
	put("a.conf", "\ninclude(\"m.conf\")\n");
	CU_ASSERT_PTR_NULL(conf_load(path_of("m.conf"), NULL, kinds,
	    KIND_COUNT, &out));
	CU_ASSERT_PTR_NOT_NULL(strstr(out.data, "included too deeply\n"));
	buf_release(&out);
	/* After a failure inside an include all must work again. */
	put("a.conf", "hostname = \"x\n");
	CU_ASSERT_PTR_NULL(conf_load(path_of("m.conf"), NULL, kinds,
	    KIND_COUNT, &out));
	buf_release(&out);
	put("a.conf", "hostname = a # no new line");
	put("m.conf", "include(\"a.conf\") listener x {\ninclude(\"p.conf\")\n"
	    "tls = yes\n}\n");
	put("p.conf", "port = 26\n");
	conf = load();
	CU_ASSERT_STRING_EQUAL(((const struct top_options *)conf_get(conf,
	    ""))->hostname, "a");
	conf_free(&conf);
	remove_directory();
}

static void
error_of_a_caller(void)
{
	struct conf *conf = embedded("\nhostname = x\nlistener a {\n"
	    "tls = yes }\n");
	const struct conf_section *section;
	struct buf out = BUF_INIT;
	size_t count;

	section = conf_sections(conf, "", &count);
	conf_error(&out, conf, section, "hostname", "not %s", "good");
	conf_error(&out, conf, section, "tls_key", "is needed");
	section = conf_sections(conf, "listener", &count);
	conf_error(&out, conf, section, "tls", "no key");
	conf_error(&out, conf, section, "port", "taken");
	section = conf_sections(conf, "spf", &count);
	conf_error(&out, conf, section, "lookups", "few");
	CU_ASSERT_STRING_EQUAL(out.data,
	    "built-in:2: hostname: not good\nbuilt-in:1: tls_key: is needed\n"
	    "built-in:4: tls: no key\nbuilt-in:3: port: taken\n"
	    "built-in: lookups: few\n");
	buf_release(&out);
	conf_free(&conf);
}

static bool
not_the_key(const struct conf_section *section, const char *option,
    void *argument)
{
	CU_ASSERT_STRING_EQUAL(section->kind->name, "");
	++*(int *)argument;
	return strcmp(option, "tls_key") != 0 &&
	    strcmp(option, "trusted_networks") != 0;
}

/* What conf_print says, to be freed. */
static char *
printed(const struct conf *conf)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	conf_print(conf, f);
	fclose(f);
	return text;
}

static struct conf *
through_snapshot(const struct conf *conf, int *asked)
{
	char name[] = "/tmp/conf_snapshot.XXXXXX";
	int fd = mkstemp(name);
	const char *why = NULL;
	struct conf *copy;

	unlink(name);
	CU_ASSERT_EQUAL(conf_snapshot_write(conf, fd, not_the_key, asked,
	    &why), 0);
	copy = conf_snapshot_read(fd, kinds, KIND_COUNT, &why);
	if (copy == NULL)
		fprintf(stderr, "%s\n", why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(copy);
	close(fd);
	return copy;
}

static void
snapshot(void)
{
	const struct listener_options *listener;
	const struct top_options *top;
	struct conf *conf, *copy;
	const char *bytes;
	char *a, *b;
	size_t len;
	int asked = 0;

	make_directory();
	put("m.conf", "include(\"sub/a.conf\")\ntls_key = key.pem\n"
	    "tls_certificate = cert.pem\nrelay_domains = \"file:domains\"\n"
	    "listener x { port = 26 map = \"maps/a\" }\n");
	put("sub/a.conf", "hostname = \"${CONF_TEST_NAME}\"\n"
	    "stubs = \"${CONF_TEST_OTHER:-other}\"\n");
	put("conf.d/z.conf", "message_size_limit = 2M");
	put("domains", "example.org yes\n");
	put("key.pem", "KEY");
	put("cert.pem", "CERT");
	setenv("CONF_TEST_NAME", "of-environment", 1);
	conf = load();
	unsetenv("CONF_TEST_NAME");
	top = conf_get(conf, "");
	CU_ASSERT(conf_file(conf, top->tls_key, &bytes, &len) && len == 3);
	listener = conf_sections(conf, "listener", &len)->values;
	CU_ASSERT_STRING_EQUAL(listener->map, path_of("maps/a"));
	remove_directory();
	copy = through_snapshot(conf, &asked);
	CU_ASSERT(asked > 0);
	a = printed(conf);
	b = printed(copy);
	CU_ASSERT_STRING_EQUAL(a, b);
	CU_ASSERT_PTR_NOT_NULL(strstr(a, "hostname = of-environment"));
	top = conf_get(copy, "");
	CU_ASSERT_STRING_EQUAL(top->hostname, "of-environment");
	CU_ASSERT_STRING_EQUAL(top->stubs[0], "other");
	CU_ASSERT_EQUAL(top->message_size_limit, 2 << 20);
	CU_ASSERT_EQUAL(table_find(top->relay_domains, "example.org", NULL,
	    NULL), ANSWER_YES);
	CU_ASSERT_STRING_EQUAL(strrchr(top->tls_key, '/'), "/key.pem");
	CU_ASSERT(!conf_file(copy, top->tls_key, &bytes, &len));
	CU_ASSERT(conf_file(copy, top->tls_certificate, &bytes, &len));
	CU_ASSERT_NSTRING_EQUAL(bytes, "CERT", 5);
	listener = conf_sections(copy, "listener", &len)->values;
	CU_ASSERT_STRING_EQUAL(listener->map, path_of("maps/a"));
	CU_ASSERT(!conf_changed_on_disk(copy));
	free(a);
	free(b);
	conf_free(&conf);
	conf_free(&copy);
	unsetenv("CONF_TEST_NAME");
}

/* A directory's password is for those who ask it; others cannot tell. */
static void
snapshot_hides_directory(void)
{
	static const char text[] = "server 127.0.0.1:1\nbase dc=x\n"
	    "filter (mail=%s)\nuser cn=x\n";
	const struct top_options *top;
	struct conf *conf, *copy;
	const char *why = NULL;
	int asked = 0;

	make_directory();
	put("m.conf", "trusted_networks = \"ldap:hidden\"\n"
	    "relay_domains = \"ldap:seen\"\n");
	put("hidden", text);
	put("seen", text);
	conf = load();
	copy = through_snapshot(conf, &asked);
	top = conf_get(copy, "");
	CU_ASSERT_PTR_NOT_NULL_FATAL(top->trusted_networks);
	CU_ASSERT(table_find(top->trusted_networks, "a", NULL,
	    &why) == ANSWER_UNKNOWN);
	CU_ASSERT_STRING_EQUAL(why, "this process does not know the directory");
	CU_ASSERT(table_find(top->relay_domains, "a", NULL,
	    &why) == ANSWER_UNKNOWN);
	CU_ASSERT_STRING_NOT_EQUAL(why,
	    "this process does not know the directory");
	conf_free(&conf);
	conf_free(&copy);
	remove_directory();
}

/* The bytes of a key that may not be seen are nowhere in the stream. */
static void
snapshot_hides_key(void)
{
	char name[] = "/tmp/conf_snapshot.XXXXXX", stream[8192];
	int fd = mkstemp(name), asked = 0;
	const char *why;
	struct conf *conf;
	ssize_t n;

	unlink(name);
	make_directory();
	put("m.conf", "tls_key = key.pem\ntls_certificate = cert.pem\n");
	put("key.pem", "SECRETSECRET");
	put("cert.pem", "PUBLICPUBLIC");
	conf = load();
	CU_ASSERT_EQUAL(conf_snapshot_write(conf, fd, not_the_key, &asked,
	    &why), 0);
	n = pread(fd, stream, sizeof(stream), 0);
	CU_ASSERT(n > 0);
	CU_ASSERT_PTR_NOT_NULL(memmem(stream, (size_t)n, "PUBLICPUBLIC", 12));
	CU_ASSERT_PTR_NULL(memmem(stream, (size_t)n, "SECRETSECRET", 12));
	/* Cut anywhere, it is refused, not misread. */
	for (ssize_t cut = 0; cut < n; cut += 7) {
		CU_ASSERT_EQUAL(ftruncate(fd, cut), 0);
		CU_ASSERT_PTR_NULL(conf_snapshot_read(fd, kinds, KIND_COUNT,
		    &why));
		CU_ASSERT_STRING_EQUAL(why, "the snapshot is broken");
		CU_ASSERT_EQUAL(pwrite(fd, stream, (size_t)n, 0), n);
	}
	close(fd);
	conf_free(&conf);
	remove_directory();
}

static void
changes(void)
{
	struct conf *conf;

	make_directory();
	put("m.conf", "relay_domains = \"file:domains\"\n");
	put("domains", "example.org\n");
	conf = load();
	CU_ASSERT(!conf_changed_on_disk(conf));
	put("domains", "example.org\nexample.net\n");
	CU_ASSERT(conf_changed_on_disk(conf));
	conf_free(&conf);
	conf = load();
	CU_ASSERT(!conf_changed_on_disk(conf));
	put("conf.d/new.conf", "hostname = a\n");
	CU_ASSERT(conf_changed_on_disk(conf));
	conf_free(&conf);
	conf = load();
	unlink(path_of("m.conf"));
	CU_ASSERT(conf_changed_on_disk(conf));
	conf_free(&conf);
	remove_directory();
}

static void
prints(void)
{
	struct conf *conf = embedded("hostname = \"a b\\\"\\${x}\"\n"
	    "stubs = { a, \"b,c\" }\nlistener x {\nport = 26 }\n"
	    "relay_domains = {}\n");
	char *text = printed(conf), *again;
	struct conf *copy;

	CU_ASSERT_STRING_EQUAL(text,
	    "hostname = \"a b\\\"\\${x}\"\t# built-in:1\n"
	    "relay_domains = {}\t# built-in:1\n"
	    "trusted_networks = { \"127.0.0.0/8\", \"::1\" }\t# default\n"
	    "message_size_limit = 50M\t# default\n"
	    "# tls_certificate is not set\n"
	    "# tls_key is not set\n"
	    "forwarders = { a, b }\t# default\n"
	    "stubs = { a, \"b,c\" }\t# built-in:2\n"
	    "format = text\t# default\n"
	    "\nlistener x {\t# built-in:3\n"
	    "\tport = 26\t# built-in:4\n"
	    "\ttls = no\t# default\n"
	    "\ttimeout = 5m\t# default\n"
	    "\t# map is not set\n"
	    "}\n"
	    "\nspf {\t# default\n"
	    "\tlookups = 10\t# default\n"
	    "}\n");
	/* What is printed can be read. */
	copy = embedded(text);
	again = printed(copy);
	CU_ASSERT_STRING_EQUAL(((const struct top_options *)conf_get(copy,
	    ""))->hostname, "a b\"${x}");
	free(text);
	free(again);
	conf_free(&conf);
	conf_free(&copy);
}

/* With its marks removed, the sample gives the defaults. */
static void
sample(void)
{
	char *text = NULL, *line, *rest;
	struct buf bare = BUF_INIT;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	struct conf *conf;

	conf_print_sample(f, kinds, KIND_COUNT);
	fclose(f);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "\n# The limit.\n# Type: size. "
	    "From 1K to 2G. Default: 50M.\n#message_size_limit = 50M\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "\n#listener name {\n\n"
	    "#\t# The port.\n"));
	for (rest = text; (line = strsep(&rest, "\n")) != NULL;) {
		CASE_ASSERT(line, strlen(line) <= 80);
		buf_printf(&bare, "%s\n", line[0] == '#' && line[1] != ' ' ?
		    line + 1 : line);
	}
	conf = embedded(bare.data);
	CU_ASSERT_EQUAL(((const struct top_options *)conf_get(conf,
	    ""))->message_size_limit, 50 << 20);
	conf_sections(conf, "listener", &len);
	CU_ASSERT_EQUAL(len, 1);
	conf_free(&conf);
	buf_release(&bare);
	free(text);
}

static void
mdoc(void)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	conf_print_mdoc(f, kinds, KIND_COUNT);
	fclose(f);
	CU_ASSERT_NSTRING_EQUAL(text, ".Ss The top level\nAll of it.\n.Bl ",
	    30);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, ".It Ic message_size_limit No = "
	    "Ar size\nThe limit.\nFrom 1K to 2G.\nDefault: 50M.\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, ".Ss Section listener name\n"));
	free(text);
}

SUITE(conf,
    { "defaults", defaults },
    { "what is given", given },
    { "errors name file and line", errors },
    { "errors in several files", errors_in_files },
    { "includes are bounded", include_cycle },
    { "a caller's errors have their place", error_of_a_caller },
    { "a snapshot is equal", snapshot },
    { "a snapshot hides keys", snapshot_hides_key },
    { "a snapshot hides directories", snapshot_hides_directory },
    { "changes on disk are seen", changes },
    { "prints origins", prints },
    { "the sample parses", sample },
    { "the manual's list", mdoc })
