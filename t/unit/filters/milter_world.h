/* A gateway in small, for tests of the milter client: the milter is "m". */
#ifndef T_UNIT_FILTERS_MILTER_WORLD_H
#define T_UNIT_FILTERS_MILTER_WORLD_H

#include "base/conf.h"
#include "base/task.h"
#include "filters/chain.h"

struct buf;

struct world {
	struct conf *conf;
	struct chain_plan *plan;
	struct session session;
	struct chain *chain;
	struct mail *mail;
	unsigned messages;		/* begun; the ids are ID1, ID2, ... */
	const char *body;
	size_t body_len;
};

/* options: lines for the milter's section.  names NULL: the milter alone. */
void world_init(struct world *, const char *options, const char *const *names);
void world_release(struct world *);

struct verdict world_begin_mail(struct world *);
void world_fill_mail(struct world *, const char *header);

/*
 * Events by their letters: CHMDE, R and r recipients, S a refused one, U an
 * unknown command, X abort.  The last one's verdict.
 */
struct verdict world_play_all(struct world *, const char *events);

void world_print_header(const struct world *, struct buf *);
void world_print_body(const struct world *, struct buf *);
void world_print_recipients(const struct world *, struct buf *);

/* Runs f as a task of a loop of its own. */
void world_task(task_f *, void *argument);

#endif
