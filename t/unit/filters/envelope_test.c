#include <string.h>

#include "base/arena.h"
#include "filters/envelope.h"
#include "t/unit/unit.h"

static void
ids_are_unique_and_in_order(void)
{
	char before[ENVELOPE_ID_SIZE], id[ENVELOPE_ID_SIZE];

	envelope_id_make(before);
	for (int i = 0; i < 10000; i++) {
		envelope_id_make(id);
		CU_ASSERT(strcmp(before, id) < 0);
		strcpy(before, id);
	}
	CU_ASSERT_EQUAL(strlen(id), 16);
	CU_ASSERT_EQUAL(strspn(id, "0123456789ABCDEFGHJKMNPQRSTVWXYZ"), 16);
}

static void
addresses_compare(void)
{
	static const struct {
		const char *name, *a, *b;
		bool want;
	} cases[] = {
		{ "the same", "a@b.example", "a@b.example", true },
		{ "the domain's case", "a@b.example", "a@B.Example", true },
		{ "the local part's case", "a@b.example", "A@b.example",
		    false },
		{ "null", "", "", true },
		{ "null and some", "", "a@b.example", false },
		{ "no domain", "root", "root", true },
		{ "an @ in quotes", "\"a@b\"@c.example", "\"a@b\"@C.example",
		    true },
		{ "a prefix", "a@b.example", "a@b.example.org", false },
		{ "a longer local part", "aa@b.example", "a@b.example",
		    false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CASE_ASSERT(cases[i].name,
		    address_equal(cases[i].a, cases[i].b) == cases[i].want);
	CU_ASSERT_STRING_EQUAL(address_domain("\"a@b\"@c.example"),
	    "c.example");
	CU_ASSERT_PTR_NULL(address_domain("root"));
}

static void
recipients_come_and_go(void)
{
	struct arena *arena = arena_new(0);
	struct envelope envelope = { .sender = "" };
	char address[] = "a@one.example";

	CU_ASSERT_EQUAL(envelope_count(&envelope), 0);
	envelope_add_recipient(&envelope, arena, address);
	address[0] = 'x';	/* it was copied */
	envelope_add_recipient(&envelope, arena, "b@two.example");
	envelope_add_recipient(&envelope, arena, "a@ONE.example");
	envelope_add_recipient(&envelope, arena, "c@two.example");
	CU_ASSERT_EQUAL(envelope_count(&envelope), 4);
	CU_ASSERT_EQUAL(envelope_delete_recipient(&envelope,
	    "a@one.EXAMPLE"), 2);
	CU_ASSERT_EQUAL(envelope_delete_recipient(&envelope, "A@one.example"),
	    0);
	CU_ASSERT_EQUAL(envelope_count(&envelope), 2);
	CU_ASSERT_STRING_EQUAL(envelope.recipients->address, "b@two.example");
	CU_ASSERT_EQUAL(envelope_delete_recipient(&envelope, "c@two.example"),
	    1);
	envelope_add_recipient(&envelope, arena, "d@two.example");
	CU_ASSERT_STRING_EQUAL(envelope.recipients->next->address,
	    "d@two.example");
	arena_free(&arena);
}

static void
xtext(void)
{
	static const struct { const char *name, *text, *want; } cases[] = {
		{ "plain", "a@b.org", "a@b.org" },
		{ "a plus", "a+2Bb", "a+b" },
		{ "at the end", "a+3D", "a=" },
		{ "cut off", "a+3", "a+3" },
		{ "small letters", "a+3d", "a+3d" },
		{ "half of it", "+3G+2B", "+3G+" },
		{ "nothing", "", "" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char plain[20];
		size_t len = xtext_decode(cases[i].text,
		    strlen(cases[i].text), plain);

		CASE_ASSERT(cases[i].name, len == strlen(cases[i].want) &&
		    memcmp(plain, cases[i].want, len) == 0);
	}
}

SUITE(envelope,
    { "ids are unique and in order", ids_are_unique_and_in_order },
    { "addresses compare", addresses_compare },
    { "recipients come and go", recipients_come_and_go },
    { "xtext", xtext })
