/* What the parts of the chain share; for chain*.c only. */
#ifndef FILTERS_CHAIN_RUN_H
#define FILTERS_CHAIN_RUN_H

#include "base/task.h"
#include "filters/chain.h"

struct chain_shared;
struct counter;
struct histogram;

#define CHAIN_ACTIONS (ACTION_DISCONNECT + 1)

/* A filter of a plan. */
struct chain_entry {
	const struct filter *filter;
	const char *name;
	void *instance;
	struct chain_shared *shared;	/* owner of the instance */
	const char *group;		/* or NULL */
	bool streams;			/* nothing before it changes content */
	struct histogram *seconds;
	struct counter *outcomes[CHAIN_ACTIONS];
	struct counter *late;		/* gave up at the deadline */
};

typedef struct verdict chain_event_f(struct filter_run *);

struct chain_plan {
	size_t count;
	struct chain_entry *entries;
};

/* A filter at work on this session, and how far it is with the message. */
struct chain_run {
	struct filter_run run;
	const struct chain_entry *entry;
	struct chain *chain;
	bool left;			/* the session */
	bool began, finished;		/* the message */
	int64_t spent_us;		/* on the message */
	struct task *task;		/* a looker's, or of a question */
	bool looked;			/* the task came to its end */
	chain_event_f *asked;		/* the question, NULL: none */
	struct verdict verdict;		/* the answer */
};

struct chain {
	const struct chain_plan *plan;
	struct session *session;
	struct mail *mail;		/* NULL between messages */
	int64_t complete_us;		/* when the message was; 0: not yet */
	bool judged;			/* but nobody knows what came of it */
	struct verdict held;		/* for the session */
	struct verdict discarded;	/* for the message */
	struct chain_run runs[];
};

/* A name for each action, for log and metrics. */
extern const char *const chain_action_names[CHAIN_ACTIONS];

/* Ends the session, transaction, message or recipient. */
bool chain_is_final(struct verdict);

bool chain_looks(const struct chain_run *);

/* Takes part in the message, and is to be called in order. */
bool chain_is_serial(const struct chain_run *);

/* Filters [from, end) are of one group, or from stands alone. */
size_t chain_group_end(const struct chain_plan *, size_t from);

/*
 * Puts the questions in asked to the filters [from, to), at the same time if
 * they are several; the answers are in verdict.  Those behind a final one are
 * given up, and CONTINUE.  At the deadline all are.
 */
void chain_ask(struct chain *, size_t from, size_t to, int64_t deadline);

/* Puts the question in asked without waiting for the answer. */
void chain_ask_start(struct chain_run *);

/* Lets filters that can be consulted see the message while it arrives. */
void chain_consult_early(struct chain *);
void chain_consult_header(struct chain *);

/* Consults the filters [from, to); the answers are in verdict. */
void chain_consult(struct chain *, size_t from, size_t to);

/* What came of the message, for those that want to know. */
void chain_tell_end(struct chain *, const struct verdict *);

/* Starts the task of a looker; ends it, at the latest at the deadline. */
void chain_looker_start(struct chain_run *);
void chain_looker_finish(struct chain_run *, int64_t deadline);

/*
 * Gives the body to f, from *offset on to its present end, in pieces; stops
 * when f gives a verdict.  -1: read error.
 */
typedef struct verdict chain_piece_f(struct filter_run *, const char *bytes,
    size_t len);
int chain_body_feed(struct filter_run *, chain_piece_f *, size_t *offset,
    char *scratch, struct verdict *);

#endif
