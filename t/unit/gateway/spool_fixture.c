#include "config.h"

#include "t/unit/gateway/spool_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/task.h"
#include "t/unit/unit.h"

static const char *const directories[] = { "segments", "large", "journal",
	"corrupt" };

struct call {
	void (*f)(struct fixture *);
	struct fixture *fixture;
};

static void
path_print(char *path, size_t size, const struct fixture *x,
    const char *directory, const char *name)
{
	snprintf(path, size, "%s/%s/%s", x->directory, directory, name);
}

static void
remove_all(const struct fixture *x)
{
	char path[512];

	for (size_t i = 0; i < 4; i++) {
		struct dirent *entry;
		DIR *dir;

		path_print(path, sizeof(path), x, directories[i], "");
		if ((dir = opendir(path)) == NULL)
			continue;
		while ((entry = readdir(dir)) != NULL) {
			path_print(path, sizeof(path), x, directories[i],
			    entry->d_name);
			unlink(path);
		}
		closedir(dir);
		path_print(path, sizeof(path), x, directories[i], "");
		rmdir(path);
	}
	rmdir(x->directory);
}

static void
run(void *argument)
{
	struct call *call = argument;

	call->f(call->fixture);
	fixture_close(call->fixture);
	task_stop();
}

void
fixture_init(struct fixture *x)
{
	const char *why = "";

	*x = (struct fixture){ .directory = "/tmp/spool.XXXXXX",
		.segment_size = 1 << 20, .large_size = 200000 };
	CU_ASSERT_FATAL(mkdtemp(x->directory) != NULL);
	CU_ASSERT_FATAL(spool_prepare(x->directory, &why) == 0);
}

/* What is logged here is expected; UNIT_LOG=1 shows it. */
void
fixture_loop(struct fixture *x, void (*f)(struct fixture *))
{
	struct call call = { f, x };
	struct log_settings log = { .program = "t", .role = "t",
		.target = LOG_TO_FD, .fd = open("/dev/null", O_WRONLY |
		O_CLOEXEC), .level = LOG_LEVEL_INFO };

	if (getenv("UNIT_LOG") == NULL)
		log_open(&log);
	task_init();
	task_detach("test", run, &call);
	task_loop();
	task_shutdown();
	log.target = LOG_TO_STDERR;
	log_open(&log);
	close(log.fd);
}

void
fixture_release(struct fixture *x)
{
	remove_all(x);
}

void
fixture_run(void (*f)(struct fixture *))
{
	struct fixture x;

	fixture_init(&x);
	fixture_loop(&x, f);
	fixture_release(&x);
}

static struct spool *
open_spool(struct fixture *x, const char *writer, struct spool_tail *tail)
{
	struct spool_settings settings = { .directory = x->directory,
		.writer = writer, .segment_size = x->segment_size,
		.minimum_free = x->minimum_free,
		.large_size = x->large_size, .tail = tail,
		.doorbell_fd = -1 };
	const char *why = "";
	struct spool *spool = spool_open(&settings, &why);

	if (spool == NULL)
		fprintf(stderr, "spool_open: %s\n", why);
	CU_ASSERT_FATAL(spool != NULL);
	return spool;
}

void
fixture_open_spools(struct fixture *x)
{
	x->spool = open_spool(x, "g0", &x->tails[0]);
	x->relay = open_spool(x, "relay", &x->tails[1]);
}

static void
found(struct queue_entry *entry, void *argument)
{
	struct fixture *x = argument;

	if (x->found < 256)
		x->entries[x->found] = entry;
	x->found++;
}

void
fixture_open_queue(struct fixture *x)
{
	struct queue_settings settings = { .directory = x->directory,
		.tails = x->tails, .tail_count = 2, .compaction = x->relay };
	const char *why = "";

	x->found = 0;
	x->queue = queue_open(&settings, found, x, &why);
	if (x->queue == NULL)
		fprintf(stderr, "queue_open: %s\n", why);
	CU_ASSERT_FATAL(x->queue != NULL);
}

void
fixture_close(struct fixture *x)
{
	queue_close(&x->queue);
	spool_close(&x->spool);
	spool_close(&x->relay);
}

char
fixture_byte(const char *id, size_t offset)
{
	return (char)(offset * 31 + offset / 251 + (unsigned char)id[0]);
}

int
fixture_commit(struct fixture *x, const char *id, unsigned recipients,
    size_t size)
{
	struct arena *arena = arena_new(0);
	char *content = arena_alloc(arena, size + 1);
	struct slice slices[2] = { { .data = content, .len = size / 3 },
		{ .data = content + size / 3, .len = size - size / 3 } };
	struct envelope envelope = { .arrived_ms = 1000, .sender = "s" };
	struct recipient **last = &envelope.recipients;
	const char *why = "";
	int rc;

	for (size_t i = 0; i < size; i++)
		content[i] = fixture_byte(id, i);
	snprintf(envelope.id, sizeof(envelope.id), "%s", id);
	for (unsigned i = 0; i < recipients; i++) {
		*last = arena_alloc(arena, sizeof(**last));
		(*last)->address = arena_printf(arena, "r%u@example.org", i);
		last = &(*last)->next;
	}
	rc = spool_commit(x->spool, &envelope, slices, 2, &why);
	arena_free(&arena);
	return rc;
}

static size_t
list(const struct fixture *x, const char *directory, char *first, size_t size)
{
	char path[512];
	struct dirent *entry;
	size_t count = 0;
	DIR *dir;

	path_print(path, sizeof(path), x, directory, "");
	if ((dir = opendir(path)) == NULL)
		return 0;
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		if (count++ == 0 && first != NULL)
			path_print(first, size, x, directory, entry->d_name);
	}
	closedir(dir);
	return count;
}

size_t
fixture_files(const struct fixture *x, const char *directory)
{
	return list(x, directory, NULL, 0);
}

const char *
fixture_path(const struct fixture *x, const char *directory)
{
	static char path[512];

	path[0] = '\0';
	list(x, directory, path, sizeof(path));
	return path;
}

void
fixture_empty(const struct fixture *x, const char *directory)
{
	while (fixture_files(x, directory) > 0)
		unlink(fixture_path(x, directory));
}

void
fixture_put(const struct fixture *x, const char *path, const void *bytes,
    size_t len)
{
	int fd;

	fixture_empty(x, "corrupt");
	unlink(path);		/* ext4 writes out what is truncated */
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	CU_ASSERT_FATAL(write(fd, bytes, len) == (ssize_t)len);
	close(fd);
}

static bool
is_content(const struct queue_message *m, const char *id, size_t size)
{
	size_t at = 0;

	for (size_t i = 0; i < m->content_count; i++) {
		const struct slice *slice = &m->content[i];
		char *bytes = malloc(slice->len + 1);
		bool same = true;

		if (slice->data != NULL)
			memcpy(bytes, slice->data, slice->len);
		else
			same = pread(slice->fd, bytes, slice->len,
			    slice->offset) == (ssize_t)slice->len;
		for (size_t k = 0; k < slice->len && same; k++)
			same = bytes[k] == fixture_byte(id, at++);
		free(bytes);
		if (!same)
			return false;
	}
	return at == size && m->size == size;
}

static int
get(struct fixture *x, const char *id, size_t size, bool *whole)
{
	struct queue_entry *entry = queue_find(x->queue, id);
	struct arena *arena = arena_new(0);
	struct queue_message *m = NULL;
	const char *why;
	int count = -1;

	if (entry != NULL && (m = queue_get(x->queue, entry, arena, &why)) !=
	    NULL) {
		count = 0;
		for (struct recipient *r = m->envelope.recipients; r != NULL;
		    r = r->next)
			count++;
		*whole = is_content(m, id, size) &&
		    strcmp(m->envelope.id, id) == 0;
		queue_put(x->queue, &m);
	}
	arena_free(&arena);
	return count;
}

bool
fixture_is_whole(struct fixture *x, const char *id, unsigned recipients,
    size_t size)
{
	bool whole = false;

	return get(x, id, size, &whole) == (int)recipients && whole;
}

int
fixture_recipients(struct fixture *x, const char *id)
{
	bool whole;

	return get(x, id, 0, &whole);
}
