/*
 * Whose turn it is to write SQLite's file: who waits for it stands in line by
 * a lock on its directory, so that who has it, and would soon have it again,
 * knows to let the other in.
 */
#ifndef POLICY_STORE_SQLITE_TURN_H
#define POLICY_STORE_SQLITE_TURN_H

#include <stdbool.h>

struct sqlite_turn {
	const char *path;		/* of the database; borrowed */
	int fd;				/* -1: not open yet */
	bool taken;			/* by us, many of whom may wait */
};

#define SQLITE_TURN_INIT(path) { path, -1, false }

/* Stands in line.  False: another process does. */
bool sqlite_turn_take(struct sqlite_turn *);

/* Leaves it, with the file or without. */
void sqlite_turn_give(struct sqlite_turn *);

/* Whether another process waits. */
bool sqlite_turn_wanted(struct sqlite_turn *);

void sqlite_turn_release(struct sqlite_turn *);

#endif
