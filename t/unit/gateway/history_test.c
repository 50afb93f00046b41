#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "gateway/event.h"
#include "gateway/history.h"
#include "t/unit/unit.h"

#define DAY_MS ((int64_t)24 * 3600 * 1000)
#define NOW ((int64_t)1795489200123)

static char directory[64], path[128];

static void
make_directory(void)
{
	snprintf(directory, sizeof(directory), "/tmp/history-XXXXXX");
	CU_ASSERT_FATAL(mkdtemp(directory) != NULL);
	snprintf(path, sizeof(path), "%s/history.db", directory);
}

static void
remove_directory(void)
{
	static const char *const endings[] = { "", "-wal", "-journal",
		".corrupt" };
	char name[160];

	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		snprintf(name, sizeof(name), "%s%s", path, endings[i]);
		unlink(name);
	}
	CU_ASSERT(rmdir(directory) == 0);
}

static struct history *
open_with(int64_t keep_ms, int64_t max_size)
{
	const char *why = NULL;
	struct history *history;

	history = history_open(&(struct history_settings){ .path = path,
	    .keep_ms = keep_ms, .max_size = max_size }, &why);
	if (history == NULL)
		fprintf(stderr, "\n%s\n", why);
	CU_ASSERT_FATAL(history != NULL);
	return history;
}

static struct history *
open_usual(void)
{
	return open_with(30 * DAY_MS, 1 << 30);
}

static void
add(struct history *history, const char *id, const char *kind,
    const char *outcome, int64_t time_ms)
{
	bool message = strcmp(kind, "message") == 0;

	history_add(history, &(struct event){
	    .time_ms = time_ms, .id = id, .kind = kind,
	    .client = message ? "mail.test[192.0.2.1]" : "",
	    .sender = message ? "Alice@sender.test" : "",
	    .recipients = message ? "bob@example.test carol@example.test" :
	    "bob@example.test",
	    .outcome = outcome, .text = message ? "+0.1ms spf: pass\n" :
	    strcmp(outcome, "removed") == 0 ? "" : "250 2.0.0 taken",
	});
}

/* What was found: the last message, and the ids of all. */
struct found {
	int64_t number;
	char client[64], sender[64], recipients[64], outcome[32];
	struct buf ids;
};

static void
note_message(const struct history_message *message, void *argument)
{
	struct found *found = argument;

	found->number = message->number;
	snprintf(found->client, sizeof(found->client), "%s", message->client);
	snprintf(found->sender, sizeof(found->sender), "%s", message->sender);
	snprintf(found->recipients, sizeof(found->recipients), "%s",
	    message->recipients);
	snprintf(found->outcome, sizeof(found->outcome), "%s",
	    message->outcome);
	buf_printf(&found->ids, "%s ", message->id);
}

static void
note_event(const struct event *event, void *argument)
{
	buf_printf(argument, "%s:%s ", event->kind, event->outcome);
}

static enum answer
find(struct history *history, const char *id, struct found *found)
{
	enum answer answer;

	memset(found, 0, sizeof(*found));
	answer = history_find(history, id, note_message, found);
	buf_release(&found->ids);
	return answer;
}

static void
check_events(struct history *history, const char *id, const char *want)
{
	struct buf text = BUF_INIT;
	struct found found;
	int64_t next = 0;

	CU_ASSERT_FATAL(find(history, id, &found) == ANSWER_YES);
	buf_puts(&text, "");
	while (history_events(history, found.number, &next, note_event,
	    &text))
		;
	CASE_ASSERT(id, strcmp(text.data, want) == 0);
	buf_release(&text);
}

static void
life_of_a_message(void)
{
	struct history *history;
	struct found found;

	make_directory();
	history = open_usual();
	add(history, "A1", "message", "accepted", NOW);
	add(history, "B2", "message", "rejected", NOW + 1);
	add(history, "A1", "delivery", "deferred", NOW + 2);
	add(history, "A1", "delivery", "sent", NOW + 3);
	add(history, "A1", "delivery", "removed", NOW + 4);
	CU_ASSERT(find(history, "A1", &found) == ANSWER_YES);
	CU_ASSERT_STRING_EQUAL(found.outcome, "sent");
	CU_ASSERT_STRING_EQUAL(found.client, "mail.test[192.0.2.1]");
	CU_ASSERT(find(history, "C3", &found) == ANSWER_NO);
	check_events(history, "A1", "message:accepted delivery:deferred "
	    "delivery:sent delivery:removed ");
	/* All of it is there after a restart, and goes on. */
	history_close(&history);
	CU_ASSERT_PTR_NULL(history);
	history = open_usual();
	add(history, "A1", "delivery", "again", NOW + 5);
	check_events(history, "A1", "message:accepted delivery:deferred "
	    "delivery:sent delivery:removed delivery:again ");
	check_events(history, "B2", "message:rejected ");
	history_close(&history);
	remove_directory();
}

/* The relay may be faster to tell than the gateway. */
static void
delivery_told_first(void)
{
	struct history *history;
	struct found found;

	make_directory();
	history = open_usual();
	add(history, "A1", "delivery", "sent", NOW);
	add(history, "A1", "message", "accepted", NOW);
	CU_ASSERT(find(history, "A1", &found) == ANSWER_YES);
	CU_ASSERT_STRING_EQUAL(found.outcome, "sent");
	CU_ASSERT_STRING_EQUAL(found.sender, "Alice@sender.test");
	CU_ASSERT_STRING_EQUAL(found.recipients,
	    "bob@example.test carol@example.test");
	check_events(history, "A1", "message:accepted delivery:sent ");
	/* Nor does the order depend on what is remembered. */
	add(history, "B2", "delivery", "deferred", NOW);
	history_close(&history);
	history = open_usual();
	add(history, "B2", "delivery", "sent", NOW);
	add(history, "B2", "message", "accepted", NOW);
	add(history, "B2", "message", "again", NOW);
	check_events(history, "B2", "message:accepted delivery:deferred "
	    "delivery:sent message:again ");
	history_close(&history);
	remove_directory();
}

static void
ids_that_are_none(void)
{
	struct history_statistics statistics;
	struct history *history;

	make_directory();
	history = open_usual();
	add(history, "", "message", "accepted", NOW);
	add(history, "x123456789012345678901234567890123", "message",
	    "accepted", NOW);
	history_statistics(history, &statistics);
	CU_ASSERT_EQUAL(statistics.messages, 0);
	CU_ASSERT_EQUAL(statistics.lost, 2);
	history_close(&history);
	remove_directory();
}

static void
search(void)
{
	static const struct { const char *name, *text, *want; } cases[] = {
		{ "all, newest first", NULL, "C3 B2 A1 " },
		{ "an id", "B2", "B2 " },
		{ "a sender, in another case", "alice@SENDER", "C3 B2 A1 " },
		{ "the second recipient", "carol@", "C3 B2 A1 " },
		{ "a client's address", "[192.0.2.1]", "C3 B2 A1 " },
		{ "nothing of the kind", "nobody@", "" },
		{ "% is no wildcard", "%", "" },
		{ "_ is no wildcard", "A_", "" },
		{ "nor does \\ escape", "\\", "" },
	};
	struct history *history;

	make_directory();
	history = open_usual();
	add(history, "A1", "message", "accepted", NOW);
	add(history, "B2", "message", "accepted", NOW);
	add(history, "C3", "message", "accepted", NOW);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct found found = { .ids = BUF_INIT };
		int64_t before = INT64_MAX;
		size_t left = 10;

		buf_puts(&found.ids, "");
		while (history_search(history, cases[i].text, &before, &left,
		    note_message, &found))
			;
		CASE_ASSERT(cases[i].name,
		    strcmp(found.ids.data, cases[i].want) == 0);
		buf_release(&found.ids);
	}
	history_close(&history);
	remove_directory();
}

/* Steps join without a gap, and the limit holds over all of them. */
static void
search_in_steps(void)
{
	struct history *history;
	char id[16];

	make_directory();
	history = open_usual();
	for (int i = 1; i <= 5000; i++) {
		snprintf(id, sizeof(id), "%s%d", i % 1000 == 0 ? "K" : "L",
		    i);
		add(history, id, "message", "accepted", NOW);
	}
	for (size_t limit = 3; limit <= 10; limit += 7) {
		struct found found = { .ids = BUF_INIT };
		int64_t before = INT64_MAX;
		size_t left = limit;

		while (history_search(history, "K", &before, &left,
		    note_message, &found))
			;
		CU_ASSERT_STRING_EQUAL(found.ids.data, limit == 3 ?
		    "K5000 K4000 K3000 " : "K5000 K4000 K3000 K2000 K1000 ");
		buf_release(&found.ids);
	}
	history_close(&history);
	remove_directory();
}

static void
old_goes_first(void)
{
	struct history *history;
	struct found found;
	char id[16];

	make_directory();
	history = open_with(DAY_MS, 1 << 30);
	for (int i = 0; i < 300; i++) {
		snprintf(id, sizeof(id), "M%d", i);
		add(history, id, "message", "accepted",
		    i < 200 ? NOW - 2 * DAY_MS : NOW);
		add(history, id, "delivery", "sent", NOW);
	}
	while (history_trim(history, NOW))
		;
	CU_ASSERT(find(history, "M199", &found) == ANSWER_NO);
	CU_ASSERT(find(history, "M200", &found) == ANSWER_YES);
	check_events(history, "M200", "message:accepted delivery:sent ");
	/* What is told of a message that is gone begins anew. */
	add(history, "M199", "delivery", "sent", NOW);
	check_events(history, "M199", "delivery:sent ");
	while (history_trim(history, NOW + 2 * DAY_MS))
		;
	CU_ASSERT(find(history, "M299", &found) == ANSWER_NO);
	history_close(&history);
	remove_directory();
}

/* A wrong clock must not keep messages for ever. */
static void
from_the_future(void)
{
	struct history *history;
	struct found found;

	make_directory();
	history = open_usual();
	add(history, "A1", "message", "accepted", NOW + 4000 * DAY_MS);
	add(history, "B2", "message", "accepted", NOW);
	while (history_trim(history, NOW))
		;
	CU_ASSERT(find(history, "A1", &found) == ANSWER_NO);
	CU_ASSERT(find(history, "B2", &found) == ANSWER_YES);
	history_close(&history);
	remove_directory();
}

static void
fill(struct history *history, int from, int to)
{
	static char text[4000];
	char id[16];

	memset(text, 'x', sizeof(text) - 1);
	for (int i = from; i < to; i++) {
		snprintf(id, sizeof(id), "F%d", i);
		history_add(history, &(struct event){ .time_ms = NOW, .id = id,
		    .kind = "message", .client = "c", .sender = "s",
		    .recipients = "r", .outcome = "accepted", .text = text });
		if (i % 100 == 0)
			while (history_trim(history, NOW))
				;
	}
	history_commit(history);
	while (history_trim(history, NOW))
		;
}

static void
size_is_bounded(void)
{
	struct history_statistics statistics;
	struct history *history;
	struct found found;
	struct stat status;

	make_directory();
	history = open_with(30 * DAY_MS, 4 << 20);
	fill(history, 0, 3000);
	history_statistics(history, &statistics);
	CU_ASSERT(statistics.size <= 4 << 20);
	CU_ASSERT(statistics.size >= 3 << 20);
	CU_ASSERT(find(history, "F0", &found) == ANSWER_NO);
	CU_ASSERT(find(history, "F2999", &found) == ANSWER_YES);
	history_close(&history);
	CU_ASSERT(stat(path, &status) == 0 && status.st_size < 6 << 20);
	/* A lower limit makes the file smaller. */
	history = open_with(30 * DAY_MS, 1 << 20);
	while (history_trim(history, NOW))
		;
	CU_ASSERT(find(history, "F2999", &found) == ANSWER_YES);
	history_close(&history);
	CU_ASSERT(stat(path, &status) == 0 && status.st_size <= 1 << 20);
	remove_directory();
}

static void
overwrite(off_t from, size_t len)
{
	static char noise[1 << 20];
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	memset(noise, 0x5a, sizeof(noise));
	CU_ASSERT_FATAL(fd != -1 && len <= sizeof(noise));
	CU_ASSERT(pwrite(fd, noise, len, from) == (ssize_t)len);
	close(fd);
}

static void
corrupt_at_start(void)
{
	struct history *history;
	struct found found;
	char aside[160];

	make_directory();
	overwrite(0, 8192);
	history = open_usual();
	add(history, "A1", "message", "accepted", NOW);
	CU_ASSERT(find(history, "A1", &found) == ANSWER_YES);
	history_close(&history);
	snprintf(aside, sizeof(aside), "%s.corrupt", path);
	CU_ASSERT(access(aside, F_OK) == 0);
	remove_directory();
}

/* Found while it is used: events after that go to a new database. */
static void
corrupt_later(void)
{
	struct history_statistics statistics;
	struct history *history;
	struct found found;
	struct stat status;
	char aside[160];

	make_directory();
	history = open_usual();
	fill(history, 0, 100);
	history_close(&history);
	CU_ASSERT_FATAL(stat(path, &status) == 0);
	overwrite(4096 * 4, (size_t)status.st_size - 4096 * 4);
	history = open_usual();
	for (int i = 0; i < 5; i++) {
		char id[16];

		snprintf(id, sizeof(id), "N%d", i);
		add(history, id, "message", "accepted", NOW);
	}
	history_commit(history);
	add(history, "Z1", "message", "accepted", NOW);
	history_commit(history);
	CU_ASSERT(find(history, "Z1", &found) == ANSWER_YES);
	history_statistics(history, &statistics);
	CU_ASSERT(statistics.lost >= 1);
	history_close(&history);
	snprintf(aside, sizeof(aside), "%s.corrupt", path);
	CU_ASSERT(access(aside, F_OK) == 0);
	remove_directory();
}

static void
no_such_directory(void)
{
	const char *why = NULL;

	CU_ASSERT_PTR_NULL(history_open(&(struct history_settings){
	    .path = "/nonexistent/history.db", .keep_ms = DAY_MS,
	    .max_size = 1 << 20 }, &why));
	CU_ASSERT(why != NULL && strstr(why, "/nonexistent") != NULL);
}

/* A milter in the shadow decides nothing, and may be the first to be heard. */
static void
shadow_told_first(void)
{
	struct history *history;
	struct found found;

	make_directory();
	history = open_usual();
	add(history, "A1", "shadow", "differ", NOW);
	CU_ASSERT_EQUAL(find(history, "A1", &found), ANSWER_YES);
	CU_ASSERT_STRING_EQUAL(found.outcome, "");
	add(history, "A1", "message", "accepted", NOW + 1);
	add(history, "A1", "shadow", "agree", NOW + 2);
	CU_ASSERT_EQUAL(find(history, "A1", &found), ANSWER_YES);
	CU_ASSERT_STRING_EQUAL(found.outcome, "accepted");
	CU_ASSERT_STRING_EQUAL(found.client, "mail.test[192.0.2.1]");
	check_events(history, "A1", "message:accepted shadow:differ "
	    "shadow:agree ");
	history_close(&history);
	remove_directory();
}

SUITE(history,
	{ "life of a message", life_of_a_message },
	{ "delivery told first", delivery_told_first },
	{ "shadow told first", shadow_told_first },
	{ "ids that are none", ids_that_are_none },
	{ "search", search },
	{ "search in steps", search_in_steps },
	{ "old goes first", old_goes_first },
	{ "from the future", from_the_future },
	{ "size is bounded", size_is_bounded },
	{ "corrupt at start", corrupt_at_start },
	{ "corrupt later", corrupt_later },
	{ "no such directory", no_such_directory })
