/*
 * What the store knows of an entity of reputation: good and bad evidence, each
 * three times, decaying with half-lives of an hour, a day and fourteen days;
 * and the steps that change it.
 *
 * Weights are whole millionths of a message, so that the store's two languages
 * reckon the same: never more than one millionth and one part in 2,000,000 is
 * lost in a decay, however often there is one.  Time counts in ticks of 1/3,600
 * of a half-life on the store's clock.
 */
#ifndef POLICY_REPUTATION_STATE_H
#define POLICY_REPUTATION_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/answer.h"
#include "policy/service.h"
#include "policy/store.h"

/* Half-lives. */
enum rep_span { REP_HOUR, REP_DAY, REP_FORTNIGHT, REP_SPANS };

#define REP_MESSAGE INT64_C(1000000)	/* the weight of one */
#define REP_LIFETIME_MS (56 * INT64_C(86400000))	/* without news */
#define REP_EVENT_MS (7 * INT64_C(86400000))	/* known, may be undone */

struct rep_state {
	int64_t good[REP_SPANS], bad[REP_SPANS];
	int64_t updated_ms;		/* as of then */
	int64_t pin;			/* rep_pin_make() */
};

/* How the numbers of a record, and of an event's, are laid out. */
void rep_state_unpack(const int64_t values[STORE_VALUES], struct rep_state *);
void rep_state_pack(const struct rep_state *, int64_t values[STORE_VALUES]);

/* A weight some time later; earlier: as it is. */
int64_t rep_decay(int64_t weight, enum rep_span, int64_t from_ms,
    int64_t to_ms);
void rep_state_decay(struct rep_state *, int64_t to_ms);

/*
 * An estimate that holds whatever is learnt: spam in thousandths; until when,
 * 0: for ever.  Of a pin: its score, or -1 if there is none any more.
 */
int64_t rep_pin_make(int spam, int64_t until_ms);
int rep_pin_score(int64_t pin, int64_t now_ms);
int64_t rep_pin_until_ms(int64_t pin);

/* How often it heard of each kind, as in a record's note: "0,0,12,3". */
void rep_counts_parse(const char *note, int64_t counts[OUTCOME_KINDS]);
#define REP_COUNTS_SIZE (21 * OUTCOME_KINDS)
void rep_counts_print(const int64_t counts[OUTCOME_KINDS],
    char text[REP_COUNTS_SIZE]);

/*
 * Adds to the first entity and, if whole, to the second, which keeps the sum of
 * its kind; or takes back what the same event added, decayed as that has.  NO:
 * the event is known, or there is nothing to take back.
 */
struct rep_change {
	const char *first, *second, *event;	/* keys, of one group */
	const char *id;			/* of the event, for its record's note */
	enum policy_outcome_kind kind;
	int64_t good, bad;
	bool whole, undo;
};

enum answer rep_learn(struct store *, const struct rep_change *,
    const char **why);

/* Reads both, decayed to *now_ms.  NO: neither is known; they are zeroed. */
enum answer rep_read(struct store *, const char *first, const char *second,
    struct rep_state states[2], int64_t *now_ms, const char **why);

/* Sets all of it, as of its time or, if that is to come, of now. */
enum answer rep_set(struct store *, const char *key, const struct rep_state *,
    const char *note, const char **why);

/* pin 0: none. */
enum answer rep_pin(struct store *, const char *key, int64_t pin,
    const char **why);

/* The layout of an event's record. */
enum { REP_EVENT_STATE, REP_EVENT_KIND, REP_EVENT_GOOD, REP_EVENT_BAD,
	REP_EVENT_AT, REP_EVENT_WHOLE };
enum { REP_EVENT_UNDONE = 1, REP_EVENT_COUNTS = 2 };

#endif
