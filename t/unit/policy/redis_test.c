/*
 * The store on a Redis that errs: a fake that greets as told, and answers each
 * call by the next of its texts.  Behind its last one it is silent.
 */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/io.h"
#include "base/net.h"
#include "base/task.h"
#include "policy/store.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

#define REPLIES_MAX 8
#define GOOD(call) "*3\r\n:" call "\r\n:1\r\n:7\r\n"
#define CLOSE "close"
#define ECHO "echo"			/* good, with the number of the call */

struct fake {
	const char *greeting;		/* what all before the call hear */
	const char *const *replies;	/* to calls, NULL-ended */
	size_t replied;
	int listener;
	int connections;
	struct io *io;
	struct buf words;		/* of all commands, by blanks */
	struct net_endpoint endpoint;
};

static enum answer
seven_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	(void)records, (void)keys, (void)a, (void)texts;
	results[0] = 7;
	return ANSWER_YES;
}

static const struct store_step seven = {
	.name = "seven", .keys = 1, .arguments = 1, .results = 1,
	.run = seven_run, .script = "return 1, 7\n",
};

/* One command that came; false: the connection is to be closed. */
static bool
react(struct fake *fake, const redisReply *command)
{
	const char *reply = fake->greeting;

	for (size_t i = 0; i < command->elements; i++) {
		const redisReply *word = command->element[i];

		if (word->len > 100)
			buf_puts(&fake->words, "SCRIPT");
		else
			buf_append(&fake->words, word->str, word->len);
		buf_putc(&fake->words, i + 1 < command->elements ? ' ' : '|');
	}
	if (strncmp(command->element[0]->str, "EVAL", 4) == 0 ||
	    strcmp(command->element[0]->str, "FCALL") == 0) {
		reply = fake->replies[fake->replied];
		if (reply != NULL)
			fake->replied++;
	}
	if (reply == NULL)
		return true;
	if (strcmp(reply, CLOSE) == 0)
		return false;
	if (strcmp(reply, ECHO) == 0)
		io_printf(fake->io, "*3\r\n:%s\r\n:1\r\n:7\r\n",
		    command->element[4]->str);
	else
		io_puts(fake->io, reply);
	return io_flush(fake->io, task_deadline(1000)) == 0;
}

static void
serve_one(struct fake *fake)
{
	redisReader *reader = redisReaderCreate();
	const char *bytes;
	void *command;
	bool open = true;
	size_t len;

	while (open && io_fill(fake->io, DEADLINE_NEVER) > 0) {
		bytes = io_input(fake->io, &len);
		redisReaderFeed(reader, bytes, len);
		io_consume(fake->io, len);
		while (open && redisReaderGetReply(reader, &command) ==
		    REDIS_OK && command != NULL) {
			open = react(fake, command);
			freeReplyObject(command);
		}
	}
	redisReaderFree(reader);
	io_free(&fake->io);
}

static void
serve(void *argument)
{
	struct fake *fake = argument;
	int fd;

	while (task_wait_fd(fake->listener, TASK_READ, DEADLINE_NEVER) == 0) {
		if ((fd = accept(fake->listener, NULL, NULL)) == -1)
			continue;
		fake->connections++;
		fake->io = io_new(fd);
		serve_one(fake);
	}
}

static struct task *
fake_start(struct fake *fake)
{
	const char *why;

	CU_ASSERT_FATAL(net_endpoint_parse("127.0.0.1:0", &fake->endpoint,
	    &why) == 0);
	fake->listener = net_listen(&fake->endpoint, 5, 0, &why);
	CU_ASSERT_FATAL(fake->listener != -1);
	fake->endpoint.len = sizeof(fake->endpoint.address);
	getsockname(fake->listener,
	    (struct sockaddr *)&fake->endpoint.address, &fake->endpoint.len);
	return task_start("fake", serve, fake);
}

static void
fake_stop(struct fake *fake, struct task *task)
{
	task_reap(&task);
	io_free(&fake->io);
	close(fake->listener);
	buf_release(&fake->words);
}

static struct store *
fake_open(const struct fake *fake, const char *options, struct conf **conf)
{
	char server[NET_TEXT_SIZE], text[512];
	struct store *store;
	const char *why = "";

	net_endpoint_print((const struct sockaddr *)&fake->endpoint.address,
	    server);
	snprintf(text, sizeof(text), "store { type = redis "
	    "server = { \"%s\" } %s }", server, options);
	*conf = rig_conf(text);
	store = store_open(*conf, NULL, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(store);
	return store;
}

static enum answer
call(struct store *store, int64_t *result)
{
	const char *key = "a\r\nFLUSHALL\r\n", *why = NULL;
	const int64_t argument = 42;
	enum answer answer;

	*result = 0;
	answer = store_run(store, &seven, &key, &argument, NULL, result,
	    &why);
	if (answer == ANSWER_UNKNOWN)
		CU_ASSERT(why != NULL && *why != '\0');
	return answer;
}

static const struct fault {
	const char *name;
	const char *replies[REPLIES_MAX];
	const char *answers;		/* y, n, ? for each call */
	const char *log;		/* why it went away; NULL: it did not */
} faults[] = {
	{ "good",	{ GOOD("1"), GOOD("2") }, "yy", NULL },
	{ "no",		{ "*3\r\n:1\r\n:0\r\n:7\r\n" }, "n", NULL },
	{ "a new function", { "-ERR Function not found\r\n", GOOD("1") },
	    "y", NULL },
	{ "no functions", { "-ERR unknown command `FCALL`\r\n", GOOD("1"),
	    GOOD("2") }, "yy", NULL },
	{ "functions are not for us", { "-NOPERM no 'fcall'\r\n",
	    "-NOSCRIPT No matching script.\r\n", GOOD("1") }, "y", NULL },
	{ "in pieces",	{ "*3\r\n:1\r\n:1\r\n:7\r\n*3\r\n:2\r\n:1\r", "\n:7\r\n" },
	    "yy", NULL },
	{ "LOADING",	{ "-LOADING Redis is loading\r\n" }, "??",
	    "LOADING" },
	{ "READONLY",	{ "-READONLY You can't write\r\n" }, "??",
	    "READONLY" },
	{ "MOVED",	{ "-MOVED 1 127.0.0.1:1\r\n" }, "??", "MOVED" },
	{ "OOM",	{ "-OOM command not allowed\r\n" }, "??", "OOM" },
	{ "another error", { "-ERR what\r\n" }, "??", "ERR what" },
	{ "a status",	{ "+OK\r\n" }, "??", "something else" },
	{ "a number",	{ ":1\r\n" }, "??", "something else" },
	{ "nil",	{ "$-1\r\n" }, "??", "something else" },
	{ "a nil list",	{ "*-1\r\n" }, "??", "something else" },
	{ "texts",	{ "*3\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n7\r\n" }, "??",
	    "something else" },
	{ "too few",	{ "*2\r\n:1\r\n:1\r\n" }, "??", "something else" },
	{ "to another call", { GOOD("9") }, "??", "something else" },
	{ "neither yes nor no", { "*3\r\n:1\r\n:5\r\n:7\r\n" }, "??",
	    "something else" },
	{ "a huge list", { "*100000000\r\n" }, "??", "is none" },
	{ "RESP3",	{ "%1\r\n:1\r\n:2\r\n" }, "??", "is none" },
	{ "HTTP",	{ "HTTP/1.1 400 Bad Request\r\n\r\n" }, "??",
	    "is none" },
	{ "closed",	{ CLOSE }, "??", "closed" },
	{ "half a reply, then closed", { "*3\r\n:1\r\n", CLOSE }, "??",
	    NULL },
	{ "one too many", { GOOD("1") GOOD("2") }, "y?", "no command" },
	{ "silence",	{ NULL }, "????", "no reply in time" },
	{ "a huge text", { "$536870912\r\nabc" }, "????",
	    "no reply in time" },
};

static void
run_fault(const struct rig *rig, const struct fault *fault)
{
	struct fake fake = { .greeting = "+OK\r\n",
		.replies = fault->replies, .words = BUF_INIT };
	int before = rig_log_count(rig, "no answer");
	struct task *task = fake_start(&fake);
	struct conf *conf;
	struct store *store = fake_open(&fake, "budget = 300ms", &conf);
	int64_t result;

	if (strchr(fault->answers, '?') != NULL &&
	    strlen(fault->answers) > 2) {
		store_close(&store);
		conf_free(&conf);
		store = fake_open(&fake, "budget = 20ms", &conf);
	}
	for (const char *want = fault->answers; *want != '\0'; want++) {
		enum answer answer = call(store, &result);

		CASE_ASSERT(fault->name, answer == (*want == 'y' ?
		    ANSWER_YES : *want == 'n' ? ANSWER_NO : ANSWER_UNKNOWN));
		CASE_ASSERT(fault->name, *want == '?' || result == 7);
		for (int i = 0; i < 10; i++)
			task_yield();
	}
	if (fault->log != NULL) {
		CASE_ASSERT(fault->name, rig_log_count(rig, "no answer") ==
		    before + 1);
		CASE_ASSERT(fault->name, rig_log_count(rig, fault->log) > 0);
	}
	store_close(&store);
	conf_free(&conf);
	fake_stop(&fake, task);
}

static void
fail_in_turn(struct rig *rig)
{
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		run_fault(rig, &faults[i]);
}

static void
replies(void)
{
	rig_alone(fail_in_turn);
}

static void
refuse(struct rig *rig)
{
	static const struct { const char *name, *greeting; } cases[] = {
		{ "NOAUTH", "-NOAUTH Authentication required.\r\n" },
		{ "LOADING", "-LOADING\r\n" },
		{ "READONLY", "-READONLY\r\n" },
		{ "garbage", "220 mx ESMTP\r\n" },
		{ "closes", CLOSE },
	};
	static const char *const none[] = { NULL };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fake fake = { .greeting = cases[i].greeting,
			.replies = none, .words = BUF_INIT };
		int before = rig_log_count(rig, "no answer");
		struct task *task = fake_start(&fake);
		struct conf *conf;
		struct store *store = fake_open(&fake, "budget = 5s", &conf);
		int64_t result, begin = task_now();

		for (int j = 0; j < 100; j++)
			CASE_ASSERT(cases[i].name, call(store, &result) ==
			    ANSWER_UNKNOWN);
		CASE_ASSERT(cases[i].name, task_now() - begin < 3000);
		CASE_ASSERT(cases[i].name, rig_log_count(rig,
		    "no answer") == before + 1);
		CASE_ASSERT(cases[i].name, fake.connections < 5);
		store_close(&store);
		conf_free(&conf);
		fake_stop(&fake, task);
	}
}

static void
greetings(void)
{
	rig_alone(refuse);
}

/* What it is told, word for word: no input becomes a command. */
static void
tell(struct rig *rig)
{
	static const char *const good[] = { GOOD("1"), NULL };
	struct fake fake = { .greeting = "+OK\r\n", .replies = good,
		.words = BUF_INIT };
	struct task *task = fake_start(&fake);
	struct conf *conf;
	struct store *store;
	char options[300], path[128];
	const char *at;
	int64_t result;
	FILE *file;

	snprintf(path, sizeof(path), "%s/password", rig->directory);
	file = fopen(path, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	fputs("p w\n", file);
	fclose(file);
	snprintf(options, sizeof(options), "budget = 5s user = \"u\" "
	    "password = \"%s\" database = 3 prefix = \"x:\"", path);
	store = fake_open(&fake, options, &conf);
	CU_ASSERT(call(store, &result) == ANSWER_YES);
	at = strstr(fake.words.data, "FCALL ");
	CU_ASSERT_PTR_NOT_NULL_FATAL(at);
	CU_ASSERT(strncmp(fake.words.data, "AUTH u p w|SELECT 3|"
	    "SET x:probe 1 PX 60000|FCALL millgate_seven_", 64) == 0);
	CU_ASSERT_STRING_EQUAL(strstr(at + 6, " "),
	    " 1 x:a\r\nFLUSHALL\r\n 1 0 1 42|");
	store_close(&store);
	conf_free(&conf);
	fake_stop(&fake, task);
	unlink(path);
}

static void
words(void)
{
	rig_alone(tell);
}

/* After an error the log says that it is back only when a call worked. */
static void
recover(struct rig *rig)
{
	static const char *const script[] = { ECHO, "-READONLY\r\n",
		"-READONLY\r\n", ECHO, NULL };
	struct fake fake = { .greeting = "+OK\r\n", .replies = script,
		.words = BUF_INIT };
	struct task *task = fake_start(&fake);
	struct conf *conf;
	struct store *store = fake_open(&fake, "budget = 5s", &conf);
	int64_t result, end = task_deadline(10000);
	enum answer answer;

	CU_ASSERT(call(store, &result) == ANSWER_YES);
	while (fake.replied < 3 && task_now() < end) {
		CU_ASSERT(call(store, &result) == ANSWER_UNKNOWN);
		task_sleep(10);
	}
	CU_ASSERT_EQUAL(rig_log_count(rig, "no answer"), 1);
	CU_ASSERT_EQUAL(rig_log_count(rig, "answers again"), 0);
	while ((answer = call(store, &result)) == ANSWER_UNKNOWN &&
	    task_now() < end)
		task_sleep(10);
	CU_ASSERT(answer == ANSWER_YES);
	CU_ASSERT_EQUAL(rig_log_count(rig, "no answer"), 1);
	CU_ASSERT_EQUAL(rig_log_count(rig, "answers again"), 1);
	store_close(&store);
	conf_free(&conf);
	fake_stop(&fake, task);
}

static void
recovery(void)
{
	rig_alone(recover);
}

SUITE(redis,
    { "replies", replies },
    { "greetings", greetings },
    { "words", words },
    { "recovery", recovery })
