/*
 * A child process: what the master hands over to it, and the four steps that
 * each takes: prepare what needs the outside, enter the sandbox, announce
 * ready, loop.
 */
#ifndef GATEWAY_PROCESS_H
#define GATEWAY_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/spool.h"

struct conf;
struct conf_section;
struct counter_block;
struct process;

/* Descriptors at fixed numbers in every child; listening sockets follow. */
enum process_fd {
	PROCESS_FD_MASTER = 3,		/* link to the master */
	PROCESS_FD_SNAPSHOT,		/* the configuration, conf.h */
	PROCESS_FD_SHARED,		/* shared memory: tails and counters */
	PROCESS_FD_DOORBELL,		/* eventfd: new mail in the spool */
	PROCESS_FD_EVENTS,		/* what happened, to the console */
	PROCESS_FD_QUEUE,		/* link between console and relay */
	PROCESS_FD_LISTEN		/* first listening socket */
};

/* How many children there can be at a time, old and new ones of a reload. */
#define PROCESS_SLOTS 160

struct process_listener {
	const char *name;		/* "listener:smtp", "control" */
	int fd;
};

/* Whose snapshot of which configuration is being made. */
struct process_view {
	const struct conf *conf;
	const char *instance;
};

/* Where a role's root directory is. */
enum process_root { ROOT_SPOOL, ROOT_STATE, ROOT_EMPTY };

/* One row per role. */
struct role {
	const char *name;
	const char *log_name;		/* NULL: the same */
	const char *user;
	enum process_root root;
	unsigned promises;		/* sandbox.h */
	/*
	 * Only one may run: in a reload the old one ends before the new one
	 * starts.
	 */
	bool alone;
	int stop_order;			/* the lowest are stopped first */

	/* Names of the children wanted, i from 0; NULL: no more. */
	const char *(*instance)(const struct conf *, size_t i);

	/* Which file options its snapshot carries; NULL: none. */
	bool (*may_see)(const struct conf_section *, const char *option,
	    void *view);

	/* Whether it is handed the listening socket of that name. */
	bool (*wants_listener)(const char *name, const char *instance);

	/* Before the sandbox, after it, at the end.  -1 and *why: give up. */
	int (*prepare)(struct process *, const char **why);
	int (*start)(struct process *, const char **why);
	/* Finishes what runs within the deadline, then calls task_stop(). */
	void (*drain)(struct process *, int64_t deadline);
	/* A message from the master beside the common ones; or NULL. */
	void (*message)(struct process *, const char *text);
};

struct process {
	const struct role *role;
	const char *instance;
	unsigned slot;
	struct conf *conf;
	unsigned promises;		/* the role's; prepare may add some */
	bool locked_in;			/* started as root: chrooted */
	struct spool_tail *tails;	/* PROCESS_SLOTS */
	struct counter_block *counters;	/* of slot 0; see process_counters() */
	struct process_listener *listeners;
	size_t listener_count;
	bool draining;
	void *own;			/* the role's own state */
};

/* All roles, in the order in which they are started; ended by a NULL name. */
extern const struct role roles[];
const struct role *role_find(const char *name);

/* The child's main function; does not return until it ends.  Exit status. */
int process_main(const struct role *, const char *instance, unsigned slot,
    struct process_listener *listeners, size_t listener_count);

/* The spool, state or run directory as this process sees it. */
const char *process_spool_directory(const struct process *);
const char *process_state_directory(const struct process *);

/* The counters of a slot. */
struct counter_block *process_counters(const struct process *, unsigned slot);

/* Bytes of the shared memory. */
size_t process_shared_size(void);

/* Asks the master for something: "reload", "stop".  -1 with errno. */
int process_ask_master(const char *text);

/* Resolves names from dns_* options; for prepare functions. */
int process_open_dns(const struct process *, const char **why);

#endif
