/*
 * Turns.  Without that lock everybody is alone: that is not fair, but SQLite's
 * own still keeps the database whole.
 */
#include "policy/store_sqlite_turn.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static bool
is_open(struct sqlite_turn *turn)
{
	const char *slash = strrchr(turn->path, '/');
	char path[PATH_MAX];

	if (turn->fd == -1 && slash != NULL && snprintf(path, sizeof(path),
	    "%.*s/", (int)(slash - turn->path), turn->path) <
	    (int)sizeof(path))
		turn->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return turn->fd != -1;
}

bool
sqlite_turn_take(struct sqlite_turn *turn)
{
	if (!turn->taken && is_open(turn) &&
	    flock(turn->fd, LOCK_EX | LOCK_NB) == -1)
		return false;
	turn->taken = true;
	return true;
}

void
sqlite_turn_give(struct sqlite_turn *turn)
{
	if (turn->taken && turn->fd != -1)
		flock(turn->fd, LOCK_UN);
	turn->taken = false;
}

bool
sqlite_turn_wanted(struct sqlite_turn *turn)
{
	bool wanted = !sqlite_turn_take(turn);

	sqlite_turn_give(turn);
	return wanted;
}

void
sqlite_turn_release(struct sqlite_turn *turn)
{
	if (turn->fd != -1)
		close(turn->fd);
	turn->fd = -1;
	turn->taken = false;
}
