/* Tables: each type's text, errors with their line, and ways to look up. */
#include "base/table.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "t/unit/unit.h"

static struct table *
parse(const char *type, const char *text)
{
	struct buf errors = BUF_INIT;
	struct table *table = table_parse(type, "name", text, strlen(text),
	    &errors);

	if (table == NULL)
		fprintf(stderr, "%s", errors.data);
	buf_release(&errors);
	return table;
}

#define DIRECTORY "server 127.0.0.1:389\nbase dc=x\nfilter (mail=%s)\n"

static void
errors(void)
{
	static const struct {
		const char *name, *type, *text, *want;
	} cases[] = {
		{ "unknown type", "cdb", "", "name:1: no such type of table: "
		    "cdb\n" },
		{ "two values", "file", "a 1\n\nA 2\n", "name:3: \"a\": stands "
		    "here with another value than before\n" },
		{ "host bits", "file", "# x\n10.0.0.1/8\n", "name:2: "
		    "\"10.0.0.1/8\": bits are set behind the prefix length\n" },
		{ "prefix length", "inline", "10.0.0.0/33", "name:1: "
		    "\"10.0.0.0/33\": the prefix length is wrong\n" },
		{ "sign in the length", "inline", "10.0.0.0/+8", "name:1: "
		    "\"10.0.0.0/+8\": the prefix length is wrong\n" },
		{ "short network", "inline", "10.0/8", "name:1: \"10.0/8\": "
		    "not a network (192.0.2.0/24, 2001:db8::/32)\n" },
		{ "no network", "cidr", "10.0.0.0/8 ok\nexample.org\na/b\n",
		    "name:2: \"example.org\": not a network (192.0.2.0/24, "
		    "2001:db8::/32)\nname:3: \"a/b\": not a network "
		    "(192.0.2.0/24, 2001:db8::/32)\n" },
		{ "network twice", "cidr", "::/0\n::/0\n", "name:2: \"::/0\": "
		    "stands here a second time\n" },
		{ "no slash", "pcre", "abc x\n", "name:1: \"abc x\": a line "
		    "must begin with /pattern/\n" },
		{ "no closing slash", "pcre", "/abc\\/\n", "name:1: "
		    "\"/abc\\/\": the pattern has no closing /\n" },
		{ "unknown flag", "pcre", "/a/q\n", "name:1: \"a\": unknown "
		    "flag behind the pattern (i, m, s, x)\n" },
		{ "bad pattern", "pcre", "/a(/\n", "name:1: \"a(\": pattern, "
		    "at character 2: missing closing parenthesis\n" },
		{ "no directory", "ldap", "\n", "name:2: server: is required "
		    "(192.0.2.1:389)\nname:2: base: is required "
		    "(ou=people,dc=example)\nname:2: filter: is required "
		    "((mail=%s))\n" },
		{ "words of a directory", "ldap", DIRECTORY "colour red\n"
		    "timeout 1y\nvalue\n", "name:4: colour: not one of "
		    "server, base, filter, value, user, password, tls, "
		    "timeout\nname:5: 1y: not a duration (90s; ms, s, m, h, "
		    "d)\nname:6: value: has no value\n" },
		{ "a directory's servers", "ldap", DIRECTORY
		    "server ldap.example:389\nserver unix:/x\n",
		    "name:4: ldap.example:389: not an IPv4 address (IPv6 goes "
		    "in brackets)\nname:5: "
		    "unix:/x: not an address and port\n" },
		{ "a filter without a key", "ldap", "server 127.0.0.1:389\n"
		    "base dc=x\nfilter (mail=joe)", "name:3: (mail=joe): not "
		    "a filter with %s, %u or %d\n" },
		{ "a filter's parentheses", "ldap", "server 127.0.0.1:389\n"
		    "base dc=x\nfilter (&(mail=%s)", "name:3: (&(mail=%s): "
		    "not a filter with %s, %u or %d\n" },
		{ "a filter's parentheses", "ldap", "server 127.0.0.1:389\n"
		    "base dc=x\nfilter mail=%s", "name:3: mail=%s: not a "
		    "filter with %s, %u or %d\n" },
		{ "a password for nobody", "ldap", DIRECTORY "password x\n",
		    "name:5: password: needs a user, too\n" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf out = BUF_INIT;
		struct table *table = table_parse(cases[i].type, "name",
		    cases[i].text, strlen(cases[i].text), &out);

		CASE_ASSERT(cases[i].name, table == NULL && out.data != NULL &&
		    strcmp(out.data, cases[i].want) == 0);
		table_free(&table);
		buf_release(&out);
	}
}

static void
limits(void)
{
	struct buf out = BUF_INIT, text = BUF_INIT;
	struct table *table;
	size_t lines = 0;

	CU_ASSERT_PTR_NULL(table_parse("file", "n", "a\0b\n", 4, &out));
	CU_ASSERT_STRING_EQUAL(out.data,
	    "n:1: there is a NUL byte in the line\n");
	buf_reset(&out);
	memset(buf_reserve(&text, 1025), 'a', 1025);
	text.len = 1025;
	CU_ASSERT_PTR_NULL(table_parse("file", "n", text.data, 1025, &out));
	CU_ASSERT_PTR_NOT_NULL(strstr(out.data, "the key is too long\n"));
	table = table_parse("file", "n", text.data, 1024, &out);
	CU_ASSERT_EQUAL(table_count(table), 1);
	text.data[1024] = '\0';
	CU_ASSERT_EQUAL(table_find(table, text.data, NULL, NULL), ANSWER_YES);
	text.data[1024] = 'a';
	text.data[1025] = '\0';
	CU_ASSERT_EQUAL(table_find(table, text.data, NULL, NULL), ANSWER_NO);
	CU_ASSERT_EQUAL(table_find_domain(table, text.data, NULL, NULL),
	    ANSWER_NO);
	CU_ASSERT_EQUAL(table_find_address(table, text.data, NULL, NULL),
	    ANSWER_NO);
	table_free(&table);
	buf_reset(&out);
	buf_reset(&text);
	for (int i = 0; i < 100; i++)
		buf_puts(&text, "x\n");
	CU_ASSERT_PTR_NULL(table_parse("cidr", "n", text.data, text.len,
	    &out));
	for (const char *p = out.data; (p = strchr(p, '\n')) != NULL; p++)
		lines++;
	CU_ASSERT_EQUAL(lines, 20);
	buf_release(&out);
	buf_release(&text);
}

struct lookup {
	const char *key;
	enum answer want;
	const char *value;
};

static void
check(enum answer (*look)(const struct table *, const char *, const char **,
    const char **), const struct table *table, const struct lookup *cases,
    size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const char *value = NULL, *why = NULL;
		enum answer answer = look(table, cases[i].key, &value, &why);

		CASE_ASSERT(cases[i].key, answer == cases[i].want);
		if (cases[i].value != NULL && answer == ANSWER_YES)
			CASE_ASSERT(cases[i].key,
			    strcmp(value, cases[i].value) == 0);
	}
}

#define CHECK(look, table, cases) \
	check(look, table, cases, sizeof(cases) / sizeof((cases)[0]))

static void
exact(void)
{
	static const struct lookup cases[] = {
		{ "one", ANSWER_YES, "1" }, { "ONE", ANSWER_YES, "1" },
		{ "two", ANSWER_YES, "two  words # no comment" },
		{ "three", ANSWER_YES, "" }, { "four", ANSWER_NO, NULL },
		{ "", ANSWER_NO, NULL }, { "#", ANSWER_NO, NULL },
		{ "gr\xc3\xbc", ANSWER_YES, "" },
	};
	struct table *table = parse("file", "# comment\r\n\n One\t1 \r\n"
	    "two two  words # no comment\nthree\nthree\n  # x\n"
	    "GR\xc3\xbc");

	CU_ASSERT_EQUAL(table_count(table), 4);
	CHECK(table_find, table, cases);
	table_free(&table);
}

static void
inline_entries(void)
{
	static const struct lookup cases[] = {
		{ "a@example.org", ANSWER_YES, "b@example.org" },
		{ "a=b@example.org", ANSWER_YES, "" },
		{ "#c@example.org", ANSWER_YES, "" },
		{ "empty", ANSWER_YES, "" }, { "=", ANSWER_NO, NULL },
	};
	struct table *table = parse("inline", "A@example.org = b@example.org\n"
	    "a=b@example.org\n#c@example.org\nempty =\n");

	CHECK(table_find, table, cases);
	table_free(&table);
}

static void
domains(void)
{
	static const struct lookup cases[] = {
		{ "example.org", ANSWER_YES, "exact" },
		{ "Example.ORG.", ANSWER_YES, "exact" },
		{ "a.example.org", ANSWER_YES, "below" },
		{ "b.a.example.org", ANSWER_YES, "below" },
		{ "x.b.example.org", ANSWER_YES, "deeper" },
		{ "example.net", ANSWER_NO, NULL },
		{ "a.example.net", ANSWER_YES, "net" },
		{ "notexample.org", ANSWER_NO, NULL },
		{ "", ANSWER_NO, NULL }, { ".", ANSWER_NO, NULL },
		{ "..", ANSWER_NO, NULL }, { "org", ANSWER_NO, NULL },
	};
	static const struct lookup all[] = {
		{ "example.org", ANSWER_YES, "all" },
		{ "own", ANSWER_YES, "mine" },
	};
	struct table *table = parse("file", "example.org exact\n"
	    ".example.org below\n.b.example.org deeper\n.example.net net\n");

	CHECK(table_find_domain, table, cases);
	CU_ASSERT_EQUAL(table_find_domain(NULL, "a", NULL, NULL), ANSWER_NO);
	table_free(&table);
	table = parse("inline", "* = all\nown = mine\n");
	CHECK(table_find_domain, table, all);
	table_free(&table);
}

static void
addresses(void)
{
	static const struct lookup cases[] = {
		{ "user@example.org", ANSWER_YES, "user" },
		{ "User+x@Example.org", ANSWER_YES, "user" },
		{ "user+full@example.org", ANSWER_YES, "full" },
		{ "+x@example.org", ANSWER_YES, "at" },
		{ "other@example.org", ANSWER_YES, "at" },
		{ "x@a.example.org", ANSWER_YES, "below at" },
		{ "x@example.net", ANSWER_YES, "net" },
		{ "x@a.example.com", ANSWER_YES, "below" },
		{ "\"a@b\"@example.net", ANSWER_YES, "net" },
		{ "x@example.edu", ANSWER_NO, NULL },
		{ "postmaster", ANSWER_YES, "pm" }, { "", ANSWER_NO, NULL },
		{ "@", ANSWER_NO, NULL },
	};
	static const struct lookup all[] = {
		{ "x@example.org", ANSWER_YES, "any" },
		{ "", ANSWER_NO, NULL }, { "postmaster", ANSWER_NO, NULL },
	};
	struct table *table = parse("file", "user@example.org user\n"
	    "user+full@example.org full\n@example.org at\n"
	    "example.org domain\n@.example.org below at\nexample.net net\n"
	    ".example.com below\npostmaster pm\n");

	CHECK(table_find_address, table, cases);
	CU_ASSERT_EQUAL(table_find_address(NULL, "a@b", NULL, NULL),
	    ANSWER_NO);
	table_free(&table);
	table = parse("file", "@* any\n");
	CHECK(table_find_address, table, all);
	table_free(&table);
}

static enum answer
find_text(const struct table *table, const char *text, const char **value,
    const char **why)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return table_find_network(table, (struct sockaddr *)&v4, value,
		    why);
	CU_ASSERT_EQUAL(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
	return table_find_network(table, (struct sockaddr *)&v6, value, why);
}

static void
networks(void)
{
	static const struct lookup cases[] = {
		{ "10.1.2.3", ANSWER_YES, "host" },
		{ "10.1.2.4", ANSWER_YES, "24" },
		{ "10.1.3.4", ANSWER_YES, "8" },
		{ "::ffff:10.1.2.4", ANSWER_YES, "24" },
		{ "11.0.0.1", ANSWER_NO, NULL },
		{ "192.0.2.5", ANSWER_YES, "mapped" },
		{ "2001:db8::1", ANSWER_YES, "db8" },
		{ "2001:db9::1", ANSWER_YES, "all v6" },
		{ "255.255.255.255", ANSWER_NO, NULL },
		{ "10.129.0.1", ANSWER_YES, "9" },
	};
	struct table *table = parse("cidr", "10.0.0.0/8 8\n10.1.2.0/24 24\n"
	    "10.1.2.3 host\n10.128.0.0/9 9\n2001:db8::/32 db8\n::/0 all v6\n"
	    "::ffff:192.0.2.0/120 mapped\n");

	CHECK(find_text, table, cases);
	CHECK(table_find, table, cases);
	CU_ASSERT_EQUAL(table_find(table, "example.org", NULL, NULL),
	    ANSWER_NO);
	CU_ASSERT_EQUAL(table_count(table), 7);
	table_free(&table);
	table = parse("inline", "127.0.0.0/8\n[::1]\nlocalhost\n");
	CU_ASSERT_EQUAL(find_text(table, "127.9.9.9", NULL, NULL),
	    ANSWER_YES);
	CU_ASSERT_EQUAL(find_text(table, "::1", NULL, NULL), ANSWER_YES);
	CU_ASSERT_EQUAL(find_text(table, "::2", NULL, NULL), ANSWER_NO);
	CU_ASSERT_EQUAL(table_find(table, "localhost", NULL, NULL),
	    ANSWER_YES);
	CU_ASSERT_EQUAL(find_text(NULL, "::1", NULL, NULL), ANSWER_NO);
	table_free(&table);
	table = parse("cidr", "0.0.0.0/0 any\n");
	CU_ASSERT_EQUAL(find_text(table, "1.2.3.4", NULL, NULL), ANSWER_YES);
	CU_ASSERT_EQUAL(find_text(table, "::1", NULL, NULL), ANSWER_NO);
	table_free(&table);
}

static void
patterns(void)
{
	static const struct lookup cases[] = {
		{ "spam@example.org", ANSWER_YES, "first" },
		{ "SPAM@example.org", ANSWER_YES, "second one" },
		{ "a/b", ANSWER_YES, "" }, { "a.b", ANSWER_NO, NULL },
	};
	struct table *table = parse("pcre", "# checks\n/^spam@/\tfirst\n"
	    "/^spam@/i second one\n/a\\/b/\n");

	CHECK(table_find, table, cases);
	CHECK(table_find_address, table, cases);
	CHECK(table_find_domain, table, cases);
	CU_ASSERT_EQUAL(table_count(table), 3);
	table_free(&table);
}

static void
slow_pattern_cannot_tell(void)
{
	struct table *table = parse("pcre", "/^(a+)+$/ x\n");
	const char *why = NULL;

	CU_ASSERT_EQUAL(table_find(table, "aaa", NULL, &why), ANSWER_YES);
	CU_ASSERT_EQUAL(table_find(table,
	    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", NULL,
	    &why), ANSWER_UNKNOWN);
	CU_ASSERT_STRING_EQUAL(why, "a pattern took too long");
	table_free(&table);
}

static void
collect(const char *key, const char *value, void *argument)
{
	buf_printf(argument, "%s=%s;", key, value);
}

static void
each(void)
{
	struct table *table = parse("inline", "b = 2\nA = 1\nc\n");
	struct buf out = BUF_INIT;

	table_each(table, collect, &out);
	CU_ASSERT_STRING_EQUAL(out.data, "b=2;a=1;c=;");
	table_each(NULL, collect, &out);
	buf_release(&out);
	table_free(&table);
}

static void
many(void)
{
	struct buf text = BUF_INIT, out = BUF_INIT;
	struct table *table;
	char key[64];

	for (int i = 0; i < 100000; i++)
		buf_printf(&text, "user%d@example.org\n", i);
	table = table_parse("file", "many", text.data, text.len, &out);
	CU_ASSERT_EQUAL(table_count(table), 100000);
	for (int i = 0; i < 100000; i += 77) {
		snprintf(key, sizeof(key), "user%d@example.org", i);
		CU_ASSERT_EQUAL(table_find(table, key, NULL, NULL),
		    ANSWER_YES);
		snprintf(key, sizeof(key), "user%d@example.net", i);
		CU_ASSERT_EQUAL(table_find(table, key, NULL, NULL),
		    ANSWER_NO);
	}
	table_free(&table);
	buf_release(&text);
	buf_release(&out);
}

/* Nobody waits for a directory where nobody can. */
static void
directory(void)
{
	struct table *table = parse("ldap", "# x\n" DIRECTORY
	    "user cn=x\npassword a b\n value  uid \r\ntimeout 1s\n");
	const char *value = NULL, *why = NULL;

	CU_ASSERT_PTR_NOT_NULL_FATAL(table);
	CU_ASSERT(table_find_address(table, "a@x", &value,
	    &why) == ANSWER_UNKNOWN);
	CU_ASSERT_PTR_NOT_NULL(why);
	table_free(&table);
}

SUITE(table,
    { "errors name the line", errors },
    { "limits hold", limits },
    { "exact keys", exact },
    { "inline entries", inline_entries },
    { "domains and their parents", domains },
    { "addresses", addresses },
    { "the longest prefix wins", networks },
    { "patterns in order", patterns },
    { "a slow pattern cannot tell", slow_pattern_cannot_tell },
    { "entries in file order", each },
    { "many entries", many },
    { "a directory outside a task", directory })
