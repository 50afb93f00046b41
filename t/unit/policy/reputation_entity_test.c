/* Entities: what they are called, what they belong to, their keys. */
#include "policy/reputation_entity.h"

#include <stdio.h>
#include <string.h>

#include "t/unit/unit.h"

#define LONG "a234567890123456789012345678901234567890" \
	"a234567890123456789012345678901234567890" \
	"a234567890123456789012345678901234567890" \
	"a234567890123456789012345678901234567890" \
	"a234567890123456789012345678901234567890"

static const struct {
	const char *text, *printed, *key;
} good[] = {
	{ "address:192.0.2.1", "address:192.0.2.1",
	    "rep:{n192.0.2.0/24}a192.0.2.1" },
	{ "address:::ffff:192.0.2.1", "address:192.0.2.1",
	    "rep:{n192.0.2.0/24}a192.0.2.1" },
	{ "address:2001:DB8:1:2:3::4", "address:2001:db8:1:2::/64",
	    "rep:{n2001:db8:1::/48}a2001:db8:1:2::/64" },
	{ "network:192.0.2.77", "network:192.0.2.0/24", "rep:{n192.0.2.0/24}" },
	{ "network:192.0.2.0/24", "network:192.0.2.0/24",
	    "rep:{n192.0.2.0/24}" },
	{ "network:2001:db8:1:2::/64", "network:2001:db8:1::/48",
	    "rep:{n2001:db8:1::/48}" },
	{ "domain:Mail.Example.ORG", "domain:mail.example.org",
	    "rep:{oexample.org}dmail.example.org" },
	{ "domain:a.b.example.co.uk", "domain:a.b.example.co.uk",
	    "rep:{oexample.co.uk}da.b.example.co.uk" },
	{ "domain:co.uk", "domain:co.uk", "rep:{oco.uk}dco.uk" },
	{ "organization:mail.example.org", "organization:example.org",
	    "rep:{oexample.org}" },
	{ "selector:S1._domainkey.mail.example.org",
	    "selector:s1._domainkey.mail.example.org",
	    "rep:{oexample.org}ss1._domainkey.mail.example.org" },
	{ "helo:mx.example.org", "helo:mx.example.org",
	    "rep:{hmx.example.org}" },
	{ "user:Joe", "user:joe", "rep:{ujoe}" },
	{ "user:a}b{c", "user:a}b{c", "rep:{ua}b{c}" },
	{ "user:a}u", "user:a}u", "rep:{ua}u}" },
	{ "pair:a@x.test>b@y.test", "pair:a@x.test>b@y.test",
	    "rep:{pa@x.test>b@y.test}" },
	{ "domain:a}d.example.org", "domain:a}d.example.org",
	    "rep:{oexample.org}da}d.example.org" },
	{ "all", "all", "rep:{*}" },
	{ "as:as64500", "as:AS64500", "rep:{*}iAS64500" },
	{ "as:4200000001", "as:AS4200000001", "rep:{*}iAS4200000001" },
	{ "user:" LONG, "user:" LONG, "rep:{u" LONG "}" },
};

static void
keys(void)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct rep_entity entity, again;
		char key[REP_KEY_SIZE], text[REP_TEXT_SIZE];
		const char *why;

		CASE_ASSERT(good[i].text, rep_entity_parse(good[i].text,
		    &entity, &why) == 0);
		CASE_ASSERT(good[i].text, strcmp(rep_entity_print(&entity,
		    text), good[i].printed) == 0);
		rep_entity_key(&entity, key);
		CASE_ASSERT(good[i].text, strcmp(key, good[i].key) == 0);
		CASE_ASSERT(good[i].text, rep_entity_from_key(key, &again) &&
		    strcmp(rep_entity_print(&again, text),
		    good[i].printed) == 0);
	}
}

static void
nonsense(void)
{
	static const char *const texts[] = { "", ":", "address", "address:",
		"address:1.2.3", "address:mx.example.org", "planet:earth",
		"all:", "all:x", "user:a b", "user:", "user:\x01",
		"selector:example.org", "user:" LONG "x", "network:x/24",
		"as:", "as:AS", "as:AS0", "as:AS-1", "as:64500x",
		"as:AS4294967296" };
	static const char *const broken[] = { "", "rep:", "rep:{", "rep:{}",
		"rep:{a192.0.2.1}", "rep:{n192.0.2.1}", "rep:{n192.0.2.0/24}x",
		"rep:{n192.0.2.0/24}a192.0.3.1", "rep:{ujoe}u", "rep:{uJoe}",
		"repe:{ujoe}", "grey:{ujoe}", "rep:{*}x", "rep:{uj oe}" };
	struct rep_entity entity;
	const char *why;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		CASE_ASSERT(texts[i], rep_entity_parse(texts[i], &entity,
		    &why) == -1);
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		CASE_ASSERT(broken[i], !rep_entity_from_key(broken[i],
		    &entity));
}

static void
events(void)
{
	struct rep_entity a, b;
	char one[REP_KEY_SIZE], two[REP_KEY_SIZE];

	CU_ASSERT(rep_entity_make(REP_ADDRESS, "192.0.2.1", &a));
	CU_ASSERT(rep_entity_make(REP_ADDRESS, "192.0.2.2", &b));
	rep_entity_event_key(&a, "4bXk2w", "spam", one);
	rep_entity_event_key(&a, "4bXk2w", "spam", two);
	CU_ASSERT_STRING_EQUAL(one, two);
	CU_ASSERT(strncmp(one, "repe:{n192.0.2.0/24}", 20) == 0);
	CU_ASSERT(strlen(one) == 40);
	rep_entity_event_key(&b, "4bXk2w", "spam", two);
	CU_ASSERT_STRING_NOT_EQUAL(one, two);
	rep_entity_event_key(&a, "4bXk2W", "spam", two);
	CU_ASSERT_STRING_NOT_EQUAL(one, two);
	rep_entity_event_key(&a, "4bXk2w", "trap", two);
	CU_ASSERT_STRING_NOT_EQUAL(one, two);
}

SUITE(reputation_entity,
    { "keys", keys },
    { "nonsense", nonsense },
    { "events", events })
