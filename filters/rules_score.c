/* What a score means. */
#include "filters/rules_private.h"

enum rules_fate
rules_fate(const struct rules_thresholds *t, int64_t score)
{
	const struct {
		int64_t threshold;
		enum rules_fate fate;
	} steps[] = {
		{ t->reject, RULES_REJECT },
		{ t->quarantine, RULES_HOLD },
		{ t->defer, RULES_DEFER },
		{ t->add_header, RULES_MARK }
	};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		if (steps[i].threshold > 0 && score >= steps[i].threshold)
			return steps[i].fate;
	return RULES_PASS;
}

enum rules_fate
rules_fate_join(enum rules_fate a, enum rules_fate b)
{
	if (a == b)
		return a;
	/* Neither is to get it now: it may come again. */
	if (a >= RULES_DEFER && b >= RULES_DEFER)
		return RULES_DEFER;
	if (a >= RULES_HOLD || b >= RULES_HOLD)
		return RULES_HOLD;
	return RULES_MARK;
}

const char *
rules_opinion(const struct rules_thresholds *t, int64_t own)
{
	int64_t bad = t->quarantine, good = t->add_header;

	if (bad == 0 || (t->reject != 0 && t->reject < bad))
		bad = t->reject;
	if (bad == 0)
		bad = good;
	if (good == 0)
		good = bad;
	if (bad == 0)
		return "unsure";
	return own >= bad ? "spam" : own < good ? "ham" : "unsure";
}
