/*
 * What rules*.c share: rules.c (the filter), rules_config.c (its options),
 * rules_names.c (what conditions can ask), rules_score.c (what a score means).
 */
#ifndef FILTERS_RULES_PRIVATE_H
#define FILTERS_RULES_PRIVATE_H

#include "filters/from.h"
#include "filters/lua_box.h"
#include "filters/rules.h"

struct arena;
struct counter;

/* What a condition is about, and what its evaluation came across. */
struct rules_subject {
	const struct session *session;
	const struct mail *mail;
	struct arena *scratch;
	struct from from;
	bool from_read;
	int64_t score, own;		/* so far; own: without the policy's */
	bool policy_seen;		/* it read what policy services know */
};

extern const struct lua_name rules_names[];

/*
 * The points of a finding in thousandths, which policy services give as the
 * property policy.score; false: it has none.
 */
bool rules_points(const struct finding *, int64_t *points);

/* At most a million points: no sum overflows. */
#define RULES_POINTS_MAX (INT64_C(1000000) * 1000)

/* In thousandths; 0: never. */
struct rules_thresholds {
	int64_t reject, quarantine, defer, add_header;
};

/* From the mildest to what keeps the message out the longest. */
enum rules_fate { RULES_PASS, RULES_MARK, RULES_HOLD, RULES_DEFER,
	RULES_REJECT };

/* The first of reject, quarantine, defer, add_header that is reached. */
enum rules_fate rules_fate(const struct rules_thresholds *, int64_t score);

/*
 * Of recipients of one message.  What all agree on is done; where some are to
 * get it and others not, it is held.
 */
enum rules_fate rules_fate_join(enum rules_fate, enum rules_fate);

/*
 * What a score without the policy's points says to those that learn from it:
 * "spam", "ham" or "unsure".
 */
const char *rules_opinion(const struct rules_thresholds *, int64_t own);

#define RULE_OPTIONS(ROW, o)						\
	ROW(o, when, string, NULL, NULL, NULL,				\
	    "The condition, an expression in Lua; see CONDITIONS.")	\
	ROW(o, score, decimal, "0", "-1000", "1000",			\
	    "The points that a message gets if the condition is true. Of a "	\
	    "condition that is a number, such as a scanner's score, each "	\
	    "counts as often as that.")					\
	ROW(o, action, choice, "none",					\
	    "none|accept|defer|quarantine|reject", NULL,		\
	    "What becomes of the message whatever its score; the rules "	\
	    "behind are not asked then. accept: nothing more is done to it.") \
	ROW(o, text, string, NULL, NULL, NULL,				\
	    "What the client hears if the action refuses, or why it is "	\
	    "held.")

struct rule_options { RULE_OPTIONS(OPTION_FIELD, rule_options) };

enum rule_action { RULE_NONE, RULE_ACCEPT, RULE_DEFER, RULE_QUARANTINE,
	RULE_REJECT };

/* fallback and min of each: 0 and up, or -1 for as elsewhere. */
#define THRESHOLDS(ROW, o, least, reject_at, quarantine_at, defer_at, add_at) \
	ROW(o, reject, decimal, reject_at, least, "1000000",		\
	    "From this score on the message is refused; 0: never.")	\
	ROW(o, quarantine, decimal, quarantine_at, least, "1000000",	\
	    "From this score on it is held for the operator; 0: never.")	\
	ROW(o, defer, decimal, defer_at, least, "1000000",		\
	    "From this score on the client is to come again; 0: never.")	\
	ROW(o, add_header, decimal, add_at, least, "1000000",		\
	    "From this score on it gets the fields X-Spam-Flag: YES, "	\
	    "X-Spam-Score and X-Spam-Status; 0: never.")

#define SCORING_OPTIONS(ROW, o)						\
	THRESHOLDS(ROW, o, "0", "15", "0", "0", "6")			\
	ROW(o, mixed, choice, "together", "together|apart", NULL,	\
	    "For recipients of different scoring_class. together: the message " \
	    "is refused if all would refuse it, and held if only some would. " \
	    "apart: 452 for recipients of another class than the first, whom " \
	    "the client then sends the message anew.")

struct scoring_options { SCORING_OPTIONS(OPTION_FIELD, scoring_options) };

enum { MIXED_TOGETHER, MIXED_APART };

#define CLASS_OPTIONS(ROW, o)						\
	ROW(o, recipients, table, NULL, NULL, NULL,			\
	    "The addresses or domains that belong to the class; unset, all.") \
	ROW(o, listeners, strings, NULL, NULL, NULL,			\
	    "The listeners that it is for; unset, all.")		\
	THRESHOLDS(ROW, o, "-1", "-1", "-1", "-1", "-1")

struct class_options { CLASS_OPTIONS(OPTION_FIELD, class_options) };

struct rule {
	const char *name;
	const struct rule_options *options;
	int expression;
	struct counter *matches, *errors;
	bool complained;		/* once in the log is enough */
};

/* The rules at work; one per process. */
struct rules {
	const struct scoring_options *options;
	const struct conf_section *classes;
	size_t class_count;
	struct lua_box *box;
	struct rule *rules;
	size_t rule_count;
	struct arena *scratch;		/* of the message under way */
};

/* Of the section that a struct rules is set up from. */
extern const struct section_kind rules_scoring;
void *rules_setup(const struct conf *, const struct conf_section *,
    const char **why);
void rules_release(void *rules);

/* A recipient's class; NULL: none. */
const struct class_options *rules_class_of(const struct rules *,
    const char *listener, const char *recipient);
struct rules_thresholds rules_thresholds_of(const struct scoring_options *,
    const struct class_options *);

#endif
