/* Reason codes: what the list must be so that it can be searched and shown. */
#include "policy/reason.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "t/unit/unit.h"

static bool
is_code(const char *code)
{
	if (!islower((unsigned char)code[0]) || strlen(code) > 30)
		return false;
	return code[strspn(code, "abcdefghijklmnopqrstuvwxyz-")] == '\0';
}

/* Sentences, for the manual. */
static bool
is_text(const char *text)
{
	size_t len = strlen(text);

	return len > 10 && text[len - 1] == '.' && strchr(text, '\n') == NULL;
}

static void
rows(void)
{
	for (const struct reason *r = reasons; r->code != NULL; r++) {
		CASE_ASSERT(r->code, is_code(r->code));
		CASE_ASSERT(r->code, is_text(r->meaning));
		CASE_ASSERT(r->code, is_text(r->advice));
		CASE_ASSERT(r->code, reason_find(r->code) == r);
		if (r != reasons)
			CASE_ASSERT(r->code, strcmp(r[-1].code, r->code) < 0);
	}
}

static void
finds(void)
{
	CU_ASSERT_PTR_NOT_NULL(reason_find("user-unknown"));
	CU_ASSERT_PTR_NULL(reason_find("user-unknow"));
	CU_ASSERT_PTR_NULL(reason_find("User-Unknown"));
	CU_ASSERT_PTR_NULL(reason_find(""));
}

SUITE(reason, { "rows", rows }, { "finds", finds })
