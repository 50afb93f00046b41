/* Files of large messages, as the relay sees them. */
#include "config.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/task.h"
#include "gateway/queue_internal.h"

/*
 * A gateway syncs a file before the record that speaks of it.  By the
 * monotonic clock, as the wall clock may jump.
 */
#define ORPHAN_MS (3600 * 1000)

void
large_remove(struct queue *q, struct segment *s, const char *id,
    uint64_t position)
{
	struct removal *removal = calloc(1, sizeof(*removal));

	assert(removal != NULL);
	removal->segment = s;
	removal->position = position;
	large_name_print(removal->name, id);
	s->users++;
	*q->last_removal = removal;
	q->last_removal = &removal->next;
}

/*
 * Not before the journal says for sure that the message is done: else a
 * restart would miss the file.
 */
void
large_remove_due(struct queue *q)
{
	struct removal *removal;

	while ((removal = q->removals) != NULL &&
	    removal->position <= journal_synced(q->journal)) {
		if (spool_unlink(q->dir.large, removal->name, -1) == -1)
			log_error(NULL, "queue: cannot unlink large/%s: %s",
			    removal->name, strerror(errno));
		removal->segment->users--;
		q->removals = removal->next;
		if (q->removals == NULL)
			q->last_removal = &q->removals;
		free(removal);
	}
}

bool
large_exists(struct queue *q, const char *id, uint64_t size)
{
	char name[SPOOL_NAME_SIZE];
	struct stat st;

	large_name_print(name, id);
	return fstatat(q->dir.large, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode) && (uint64_t)st.st_size == size;
}

void
large_set_aside(struct queue *q, const char *id)
{
	char name[SPOOL_NAME_SIZE];

	large_name_print(name, id);
	if (renameat(q->dir.large, name, q->dir.corrupt, name) == 0)
		log_error(NULL, "queue: large/%s set aside in corrupt/", name);
	else if (errno != ENOENT)
		log_error(NULL, "queue: large/%s cannot be set aside: %s",
		    name, strerror(errno));
}

static bool
is_known(struct queue *q, const char *id)
{
	char name[SPOOL_NAME_SIZE];

	if (entry_find(q, id) != NULL)
		return true;
	large_name_print(name, id);
	for (struct removal *r = q->removals; r != NULL; r = r->next)
		if (strcmp(r->name, name) == 0)
			return true;
	return false;
}

static void
orphans_list(struct queue *q)
{
	int fd = openat(q->dir.large, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd == -1 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (dir == NULL) {
		if (fd != -1)
			close(fd);
		return;
	}
	while ((entry = readdir(dir)) != NULL) {
		size_t len = strlen(entry->d_name);
		struct orphan *orphan;

		if (len < 5 || len - 4 >= ENVELOPE_ID_SIZE ||
		    strcmp(entry->d_name + len - 4, ".msg") != 0)
			continue;
		orphan = calloc(1, sizeof(*orphan));
		assert(orphan != NULL);
		memcpy(orphan->id, entry->d_name, len - 4);
		if (is_known(q, orphan->id)) {
			free(orphan);
			continue;
		}
		orphan->next = q->orphans;
		q->orphans = orphan;
	}
	closedir(dir);
}

void
large_orphans(struct queue *q)
{
	struct orphan *orphan;

	if (task_now() < q->orphans_after)
		return;
	q->orphans_after = task_now() + ORPHAN_MS;
	while ((orphan = q->orphans) != NULL) {
		if (!is_known(q, orphan->id))
			large_set_aside(q, orphan->id);
		q->orphans = orphan->next;
		free(orphan);
	}
	orphans_list(q);
}

void
large_free(struct queue *q)
{
	struct removal *removal;
	struct orphan *orphan;

	while ((removal = q->removals) != NULL) {
		q->removals = removal->next;
		free(removal);
	}
	while ((orphan = q->orphans) != NULL) {
		q->orphans = orphan->next;
		free(orphan);
	}
}
