/* Tallies: one contract for all back ends. */
#include "policy/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

#define BEGIN INT64_C(1700000000000)

static enum answer
put(struct rig *rig, const char *subject, const char *row, int64_t due)
{
	const struct store_tally tally = { subject, BEGIN, due, "h\t1", row,
		2 };
	const char *why;

	return store_tally_add(rig->store, &tally, &why);
}

static enum answer
claim(struct rig *rig, const char *subject, bool now, struct buf *text)
{
	const char *why;

	buf_reset(text);
	return store_tally_claim(rig->store, subject, now, 1000, text, &why);
}

static int64_t
id_of(const struct buf *text)
{
	int64_t begin = 0, id = 0;

	sscanf(text->data, "%*s %" SCNd64 " %" SCNd64, &begin, &id);
	CU_ASSERT_EQUAL(begin, BEGIN);
	return id;
}

#define FAR INT64_C(9000000000000)

static void
contract(struct rig *rig)
{
	struct buf text = BUF_INIT;
	const char *why;
	int64_t id;

	CU_ASSERT_EQUAL(claim(rig, NULL, true, &text), ANSWER_NO);
	CU_ASSERT_EQUAL(put(rig, "a.test", "x", FAR), ANSWER_YES);
	CU_ASSERT_EQUAL(put(rig, "a.test", "x", FAR), ANSWER_YES);
	CU_ASSERT_EQUAL(put(rig, "a.test", "y'\"\t{}", FAR), ANSWER_YES);
	CU_ASSERT_EQUAL(put(rig, "b.test", "z", FAR), ANSWER_YES);
	CU_ASSERT_EQUAL(claim(rig, NULL, false, &text), ANSWER_NO);
	CU_ASSERT_EQUAL(claim(rig, "c.test", true, &text), ANSWER_NO);
	CU_ASSERT_EQUAL_FATAL(claim(rig, "a.test", true, &text), ANSWER_YES);
	CU_ASSERT(strncmp(text.data, "a.test\t1700000000000\t", 21) == 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "\nh\t1\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "\n4\tx\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "\n2\ty'\"\t{}\n"));
	CU_ASSERT_PTR_NULL(strstr(text.data, "\tz"));
	id = id_of(&text);
	/* Nobody else gets it; what comes meanwhile is another report's. */
	CU_ASSERT_EQUAL(claim(rig, "a.test", true, &text), ANSWER_NO);
	CU_ASSERT_EQUAL(put(rig, "a.test", "later", FAR), ANSWER_YES);
	/* The claim ends, and whoever comes next finds the same. */
	store_shift_clock(rig->store, 2000);
	CU_ASSERT_EQUAL_FATAL(claim(rig, "a.test", true, &text), ANSWER_YES);
	if (strstr(text.data, "later") != NULL)
		CU_ASSERT_EQUAL_FATAL(claim(rig, "a.test", true, &text),
		    ANSWER_YES);
	CU_ASSERT_EQUAL(id_of(&text), id);
	CU_ASSERT_PTR_NULL(strstr(text.data, "later"));
	CU_ASSERT_EQUAL(store_tally_done(rig->store, "a.test", BEGIN, id,
	    &why), ANSWER_YES);
	store_shift_clock(rig->store, 2000);
	CU_ASSERT_EQUAL_FATAL(claim(rig, "a.test", true, &text), ANSWER_YES);
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "\n2\tlater\n"));
	CU_ASSERT_NOT_EQUAL(id_of(&text), id);
	CU_ASSERT_EQUAL(store_tally_done(rig->store, "a.test", BEGIN,
	    id_of(&text), &why), ANSWER_YES);
	buf_reset(&text);
	CU_ASSERT_EQUAL(store_tally_list(rig->store, &text, &why), ANSWER_YES);
	CU_ASSERT_STRING_EQUAL(text.data,
	    "b.test\t1700000000000\t9000000000000\n");
	/* Seven days after it was due nobody wants it any more. */
	store_shift_clock(rig->store, FAR);
	CU_ASSERT_EQUAL(claim(rig, NULL, false, &text), ANSWER_NO);
	buf_release(&text);
}

static void
tally_contract(void)
{
	rig_all("", contract);
}

static void
fill(struct rig *rig)
{
	struct buf text = BUF_INIT;
	char row[32];
	int i;

	for (i = 0; i < STORE_TALLY_ROWS; i++) {
		snprintf(row, sizeof(row), "row %d", i);
		if (put(rig, "big.test", row, FAR) != ANSWER_YES)
			break;
	}
	CU_ASSERT_EQUAL(i, STORE_TALLY_ROWS);
	CU_ASSERT_EQUAL(put(rig, "big.test", "one more", FAR), ANSWER_NO);
	CU_ASSERT_EQUAL(put(rig, "big.test", "row 1", FAR), ANSWER_YES);
	CU_ASSERT_EQUAL_FATAL(claim(rig, NULL, true, &text), ANSWER_YES);
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "\t2\nh\t1\n"));
	buf_release(&text);
}

static void
bounded(void)
{
	rig_each("", fill);
}

SUITE(tally,
    { "tallies are claimed once", tally_contract },
    { "tallies are bounded", bounded })
