/*
 * The master: reads the configuration, binds, starts a process per row of the
 * table of roles, watches them, reloads.  It reads no byte from the network.
 *
 * proc_master.c	the loop: signals, messages, reload, stop
 * master_children.c	starting, watching and restarting children
 * master_listen.c	binding listening sockets and keeping them in a reload
 * master_connect.c	UNIX sockets connected for chrooted children
 */
#ifndef GATEWAY_MASTER_H
#define GATEWAY_MASTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "gateway/process.h"

struct buf;
struct conf;

enum child_state { CHILD_NONE, CHILD_WAITING, CHILD_STARTING, CHILD_READY,
	CHILD_DRAINING };

struct child {
	enum child_state state;
	const struct role *role;
	char instance[64];
	unsigned generation;		/* of the configuration */
	pid_t pid;
	int link;
	int64_t started_ms;
	int64_t due_ms;			/* WAITING: start; DRAINING: kill */
	unsigned failures;		/* deaths in a row soon after a start */
};

struct bound {
	char *name;			/* "listener:smtp" */
	char *address;
	int fd;
	unsigned generation;		/* that it was bound for */
	bool wanted;			/* by the newest configuration */
};

struct master {
	const char *path;		/* of the configuration, or NULL */
	const char *embedded;		/* its text if there is no path */
	const char *machine;		/* its name, for the children */
	struct conf *conf;
	unsigned generation;
	/*
	 * What ran before, until all children of the newest generation have
	 * been ready; if they can't start it is taken again.  Or NULL.
	 */
	struct conf *previous;
	unsigned previous_generation;
	bool reloading;			/* the old ones serve still */
	pid_t asker;			/* who waits for the outcome, or 0 */
	struct child children[PROCESS_SLOTS];	/* index: slot */
	struct bound *bound;
	size_t bound_count;
	int shared_fd, doorbell_fd, null_fd;
	int events[2], queue[2];	/* [0] the console's, [1] the others' */
	bool stopping, announced;
	bool failed;			/* the newest generation can't start */
	char why[1024];			/* as the child said */
};

/* Runs until it is told to stop; exit status. */
int master_run(const char *path, const char *embedded);

/* Checks a loaded configuration in depth; errors are added.  0 or -1. */
int settings_check(const struct conf *, struct buf *errors);

/* The monotonic clock in milliseconds. */
int64_t master_now(void);

/* --- master_children.c --- */

/* Slots for what the configuration wants and no slot of this generation has. */
void children_want(struct master *);
/* Starts what is due.  Returns when something is due next (ms) or -1. */
int64_t children_start(struct master *);
struct child *child_by_pid(struct master *, pid_t);
/* A child has ended. */
void child_ended(struct master *, pid_t pid, int status);
/* Asks children to end: those of older generations, or (all) of a stop order. */
void children_drain_old(struct master *);
void children_stop(struct master *);
/* Kills those that did not end in time. */
int64_t children_kill_late(struct master *);
size_t children_alive(const struct master *);
/* Those of the newest generation are ready, or wait for an old one to end. */
bool children_ready(const struct master *);
/* Each of them has been ready. */
bool children_settled(const struct master *);
/* Those of that generation that still serve belong to the newest from now on. */
void children_adopt(struct master *, unsigned generation);

/* --- master_listen.c --- */

/* Binds what conf wants and is not bound yet.  -1: errors say what. */
int listeners_bind(struct master *, const struct conf *, struct buf *errors);
/* Closes what is no longer wanted. */
void listeners_close_unwanted(struct master *);

/* --- master_connect.c --- */

/* Answers "NUMBER PATH" of a child with a connected socket, if conf has it. */
void master_connect(struct master *, const struct child *, const char *text);

#endif
