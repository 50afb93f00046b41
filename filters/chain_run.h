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
	struct histogram *seconds;
	struct counter *outcomes[CHAIN_ACTIONS];
	struct counter *late;		/* gave up at the deadline */
};

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
	struct task *task;		/* a looker's */
	bool looked;			/* the task came to its end */
};

struct chain {
	const struct chain_plan *plan;
	struct session *session;
	struct mail *mail;		/* NULL between messages */
	struct task_cond progress;
	bool header_done, complete;
	struct verdict held;		/* for the session */
	struct verdict discarded;	/* for the message */
	struct chain_run runs[];
};

/* A name for each action, for log and metrics. */
extern const char *const chain_action_names[CHAIN_ACTIONS];

bool chain_looks(const struct chain_run *);

/* Starts the task of a looker; ends it, at the latest at the deadline. */
void chain_looker_start(struct chain_run *);
void chain_looker_finish(struct chain_run *, int64_t deadline);
void chain_looker_cancel(struct chain_run *);

/*
 * Gives the body to f, from *offset on to its present end, in pieces; stops
 * when f gives a verdict.  -1: read error.
 */
typedef struct verdict chain_piece_f(struct filter_run *, const char *bytes,
    size_t len);
int chain_body_feed(struct filter_run *, chain_piece_f *, size_t *offset,
    char *scratch, struct verdict *);

#endif
