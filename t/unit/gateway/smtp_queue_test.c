/* What a session queues: on stable storage before 250, or not at all. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/task.h"
#include "gateway/smtp_session.h"
#include "gateway/spool.h"
#include "t/unit/gateway/smtp_talk.h"
#include "t/unit/unit.h"

#define ENVELOPE { "MAIL FROM:<a@b.org>\r\n", "250" }, \
	{ "RCPT TO:<r@ours.example>\r\n", "250" }, { "DATA\r\n", "354" }

static char directory[64];

static struct spool *
open_spool(int64_t minimum_free)
{
	const struct spool_settings settings = { .directory = directory,
	    .writer = "g0", .segment_size = 1 << 20, .large_size = 1 << 18,
	    .minimum_free = minimum_free, .doorbell_fd = -1 };
	const char *why = "";
	struct spool *spool;

	strcpy(directory, "/tmp/smtp_queue.XXXXXX");
	CU_ASSERT_FATAL(mkdtemp(directory) != NULL);
	CU_ASSERT_FATAL(spool_prepare(directory, &why) == 0);
	spool = spool_open(&settings, &why);
	CU_ASSERT_FATAL(spool != NULL);
	return spool;
}

/* Two levels deep, as the spool is. */
static void
remove_tree(const char *path, int depth)
{
	struct dirent *entry;
	DIR *dir = opendir(path);
	char name[512];

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
		if (unlink(name) != 0 && depth > 0)
			remove_tree(name, depth - 1);
	}
	if (dir != NULL)
		closedir(dir);
	rmdir(path);
}

static void
talk_over(struct talk *talk, const char *name, const struct talk_step *steps,
    size_t count)
{
	for (size_t i = 0; i < count; i++)
		CU_ASSERT(talk_step(talk, name, &steps[i]));
}

static void
with_spool(int64_t minimum_free, const struct talk_step *steps, size_t count,
    uint64_t want)
{
	struct spool *spool = open_spool(minimum_free);
	uint64_t syncs = 0, messages = 0;
	struct talk talk;

	talk_begin(&talk, "", "");
	smtp_server_set_cut_through(talk.server, NULL, NULL);
	talk.server->spool = spool;
	talk_connect(&talk, "192.0.2.1");
	talk_over(&talk, "spool", steps, count);
	spool_statistics(spool, &syncs, &messages);
	CU_ASSERT(messages == want);
	if (want > 0)
		CU_ASSERT_STRING_EQUAL(talk.traces.data, "accepted,");
	talk_end(&talk);
	spool_close(&spool);
	remove_tree(directory, 2);
}

static void
queued_run(void)
{
	static const struct talk_step steps[] = { HELLO, ENVELOPE,
	    { "A: b\r\n\r\n.\r\n", "250" }, { "QUIT\r\n", "221 EOF" } };

	with_spool(0, steps, sizeof steps / sizeof *steps, 1);
}

static void
queued(void)
{
	talk_run(queued_run);
}

/* RFC 3463, X.3.1: said at MAIL, before the client sends all of it. */
static void
no_room_run(void)
{
	static const struct talk_step steps[] = { HELLO,
	    { "MAIL FROM:<a@b.org>\r\n", "452" }, { "QUIT\r\n", "221 EOF" } };

	with_spool(INT64_MAX / 4, steps, sizeof steps / sizeof *steps, 0);
}

static void
no_room(void)
{
	talk_run(no_room_run);
}

/* Nothing to queue it in: the client keeps it. */
static void
no_spool_run(void)
{
	static const struct talk_step steps[] = { HELLO, ENVELOPE,
	    { "A: b\r\n\r\n.\r\n", "451" },
	    { "RCPT TO:<r@ours.example>\r\n", "503" },
	    { "QUIT\r\n", "221 EOF" } };
	struct talk talk;

	talk_begin(&talk, "", "");
	smtp_server_set_cut_through(talk.server, NULL, NULL);
	talk_connect(&talk, "192.0.2.1");
	log_open(&(struct log_settings){ .program = "test", .role = "smtp",
	    .target = LOG_TO_FD, .fd = -1 });
	talk_over(&talk, "no spool", steps, sizeof steps / sizeof *steps);
	CU_ASSERT_STRING_EQUAL(talk.traces.data, "deferred,");
	talk_end(&talk);
}

static void
no_spool(void)
{
	talk_run(no_spool_run);
}

SUITE(smtp_queue,
	{ "queued", queued },
	{ "no room", no_room },
	{ "no spool", no_spool })
