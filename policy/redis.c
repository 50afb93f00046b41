/*
 * Redis: hiredis writes commands and reads replies, sockets and deadlines are
 * ours (RESP2).
 */
#include "policy/redis.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "base/net.h"
#include "base/task.h"

#define CONNECT_MS	1000		/* until the probe is answered */
#define RETRY_FIRST_MS	250
#define RETRY_MAX_MS	2000
#define REPLY_MAX	1048576		/* bytes; a page of a scan */
#define ELEMENTS_MAX	1000
#define LATE_MAX	3		/* replies in a row, then it is away */
#define WHY_SIZE	256

/* A command whose reply is to come; of an abandoned one nobody waits. */
struct waiter {
	redisReply *reply;
	bool done, abandoned;
	struct task_cond answered;
	struct waiter *next;
};

enum redis_state { REDIS_STATE_NEW, REDIS_STATE_UP, REDIS_STATE_AWAY };

struct redis {
	struct redis_settings settings;
	struct net_endpoint *servers;
	size_t server_count, server;	/* the one in use */
	enum redis_state state;
	struct task_cond changed;	/* of the state, from NEW */
	struct task *task;
	struct io *io;			/* NULL: no connection */
	redisReader *reader;
	struct waiter *first, **last;
	struct task_cond output;
	bool lost;			/* the connection is to be reset */
	bool unproven;			/* only a good reply shows it works */
	bool closing;
	unsigned late;
	int64_t retry_ms;
	char why[WHY_SIZE];
};

/* --- replies --- */

static redisReplyObjectFunctions reply_functions;

/* "*100000000" must not make hiredis allocate that many pointers. */
static void *
create_small_array(const redisReadTask *task, int elements)
{
	static const redisReplyObjectFunctions *defaults;

	if (elements > ELEMENTS_MAX)
		return NULL;
	if (defaults == NULL) {
		redisReader *reader = redisReaderCreate();

		if (reader == NULL)
			return NULL;
		defaults = reader->fn;
		redisReaderFree(reader);
	}
	return defaults->createArray(task, elements);
}

static redisReader *
reader_new(void)
{
	redisReader *reader = redisReaderCreate();

	if (reader == NULL)
		fatal("out of memory (redis)");
	if (reply_functions.createString == NULL) {
		reply_functions = *reader->fn;
		reply_functions.createArray = create_small_array;
	}
	reader->fn = &reply_functions;
	return reader;
}

static void
note(struct redis *redis, const char *why)
{
	if (why == redis->why)
		return;
	snprintf(redis->why, sizeof(redis->why), "%s", why);
}

/* 1: a reply; 0: none is complete; -1: garbage, noted. */
static int
next_reply(struct redis *redis, redisReply **reply)
{
	void *object = NULL;

	if (redisReaderGetReply(redis->reader, &object) != REDIS_OK) {
		note(redis, "a reply that is none");
		return -1;
	}
	*reply = object;
	if (object != NULL)
		return 1;
	if (redis->reader->len - redis->reader->pos <= REPLY_MAX)
		return 0;
	note(redis, "a reply that is too long");
	return -1;
}

/* 0, or -1 and noted. */
static int
read_more(struct redis *redis, int64_t deadline)
{
	const char *bytes;
	ssize_t n;
	size_t len;

	if ((n = io_fill(redis->io, deadline)) <= 0) {
		if (!redis->lost)
			note(redis, n == 0 ? "the connection was closed" :
			    io_why(redis->io));
		return -1;
	}
	bytes = io_input(redis->io, &len);
	if (redisReaderFeed(redis->reader, bytes, len) != REDIS_OK) {
		note(redis, "a reply that is none");
		return -1;
	}
	io_consume(redis->io, len);
	return 0;
}

/* --- connecting --- */

static void
put_command(struct redis *redis, int count, const char *const *words,
    const size_t *lengths)
{
	char *bytes = NULL;
	int len;

	len = redisFormatCommandArgv(&bytes, count,
	    (const char **)(uintptr_t)words, lengths);
	if (len < 0)
		fatal("out of memory (redis)");
	io_put(redis->io, bytes, (size_t)len);
	redisFreeCommand(bytes);
}

/* A command of the greeting, whose reply must be OK. */
static int
greet(struct redis *redis, int count, const char *const *words,
    int64_t deadline)
{
	redisReply *reply = NULL;
	int rc;

	put_command(redis, count, words, NULL);
	if (io_flush(redis->io, deadline) != 0) {
		note(redis, io_why(redis->io));
		return -1;
	}
	while ((rc = next_reply(redis, &reply)) == 0)
		if (read_more(redis, deadline) != 0)
			return -1;
	if (rc == -1)
		return -1;
	rc = reply->type == REDIS_REPLY_STATUS &&
	    strcmp(reply->str, "OK") == 0 ? 0 : -1;
	if (rc != 0)
		note(redis, reply->type == REDIS_REPLY_ERROR ? reply->str :
		    "a greeting that is none");
	freeReplyObject(reply);
	return rc;
}

/*
 * The probe writes, so that a server that is loading, a replica, full, or not
 * for us, does not count as one that is back.
 */
static int
greet_all(struct redis *redis, int64_t deadline)
{
	const struct redis_settings *s = &redis->settings;
	const char *const probe[] = { "SET", s->probe_key, "1", "PX",
		"60000" };
	const char *auth[3] = { "AUTH" }, *select[2] = { "SELECT" };
	char number[24];
	int count = 1;

	if (s->password != NULL) {
		if (s->user != NULL)
			auth[count++] = s->user;
		auth[count++] = s->password;
		if (greet(redis, count, auth, deadline) != 0)
			return -1;
	}
	if (s->database != 0) {
		snprintf(number, sizeof(number), "%lld",
		    (long long)s->database);
		select[1] = number;
		if (greet(redis, 2, select, deadline) != 0)
			return -1;
	}
	return greet(redis, 5, probe, deadline);
}

static void
hang_up(struct redis *redis)
{
	io_free(&redis->io);
	if (redis->reader != NULL)
		redisReaderFree(redis->reader);
	redis->reader = NULL;
}

static int
connect_server(struct redis *redis)
{
	const struct net_endpoint *server = &redis->servers[redis->server];
	int64_t deadline = task_deadline(CONNECT_MS);
	const char *why = "";

	redis->lost = false;
	redis->io = io_connect((const struct sockaddr *)&server->address,
	    server->len, NULL, 0, deadline, &why);
	if (redis->io == NULL) {
		note(redis, why);
		return -1;
	}
	redis->reader = reader_new();
	if (greet_all(redis, deadline) == 0)
		return 0;
	hang_up(redis);
	return -1;
}

static void
set_state(struct redis *redis, enum redis_state state)
{
	redis->state = state;
	task_cond_broadcast(&redis->changed);
}

static void
go_away(struct redis *redis)
{
	char why[WHY_SIZE + NET_TEXT_SIZE], server[NET_TEXT_SIZE];

	if (redis->closing)
		return;
	set_state(redis, REDIS_STATE_AWAY);
	snprintf(why, sizeof(why), "%s: %s", net_endpoint_print(
	    (const struct sockaddr *)&redis->servers[redis->server].address,
	    server), redis->why);
	redis->settings.away(redis->settings.argument, why);
}

/* Works again; after bad or missing replies only a good one proves it. */
static void
come_back(struct redis *redis)
{
	redis->unproven = false;
	redis->retry_ms = RETRY_FIRST_MS;
	redis->settings.back(redis->settings.argument);
}

/* One attempt at each server. */
static int
connect_any(struct redis *redis)
{
	for (size_t i = 0; i < redis->server_count; i++) {
		if (connect_server(redis) == 0)
			return 0;
		redis->server = (redis->server + 1) % redis->server_count;
	}
	return -1;
}

/* --- a connection at work --- */

/* The connection is of no more use: wakes its reader, who ends it. */
static void
lose(struct redis *redis, const char *why)
{
	if (redis->io == NULL || redis->lost)
		return;
	note(redis, why);
	redis->lost = true;
	go_away(redis);
	shutdown(io_fd(redis->io), SHUT_RDWR);
}

/* As a task: sends what was put, all of a turn of the loop at once. */
static void
write_commands(void *argument)
{
	struct redis *redis = argument;

	for (;;) {
		if (io_pending(redis->io) == 0 && task_cond_wait(
		    &redis->output, DEADLINE_NEVER) != 0)
			return;
		if (io_flush(redis->io, task_deadline(CONNECT_MS)) == 0)
			continue;
		if (errno != ECANCELED)
			lose(redis, io_why(redis->io));
		return;
	}
}

static struct waiter *
pop_waiter(struct redis *redis)
{
	struct waiter *waiter = redis->first;

	if (waiter == NULL)
		return NULL;
	redis->first = waiter->next;
	if (redis->first == NULL)
		redis->last = &redis->first;
	return waiter;
}

/* Gives the first waiter its reply, or NULL for none. */
static void
settle(struct waiter *waiter, redisReply *reply)
{
	if (waiter->abandoned) {
		if (reply != NULL)
			freeReplyObject(reply);
		free(waiter);
		return;
	}
	waiter->reply = reply;
	waiter->done = true;
	task_cond_broadcast(&waiter->answered);
}

static int
take_replies(struct redis *redis)
{
	redisReply *reply = NULL;
	int rc;

	while ((rc = next_reply(redis, &reply)) == 1) {
		struct waiter *waiter = pop_waiter(redis);

		if (waiter == NULL) {
			freeReplyObject(reply);
			note(redis, "a reply to no command");
			return -1;
		}
		if (!waiter->abandoned)
			redis->late = 0;
		settle(waiter, reply);
	}
	return rc;
}

static void
work(struct redis *redis)
{
	struct task *writer;
	struct waiter *waiter;

	redis->late = 0;
	set_state(redis, REDIS_STATE_UP);
	if (!redis->unproven)
		come_back(redis);
	writer = task_start("redis-write", write_commands, redis);
	while (!redis->lost && read_more(redis, DEADLINE_NEVER) == 0)
		if (take_replies(redis) != 0)
			break;
	if (!redis->lost)
		go_away(redis);
	redis->lost = true;
	task_reap(&writer);
	while ((waiter = pop_waiter(redis)) != NULL)
		settle(waiter, NULL);
}

/* As a task: keeps the connection, or tries to. */
static void
keep_connected(void *argument)
{
	struct redis *redis = argument;

	for (;;) {
		if (connect_any(redis) == 0) {
			work(redis);
			hang_up(redis);
		} else {
			go_away(redis);
		}
		if (task_sleep(redis->retry_ms) != 0)
			break;
		redis->retry_ms *= 2;
		if (redis->retry_ms > RETRY_MAX_MS)
			redis->retry_ms = RETRY_MAX_MS;
	}
}

/* --- for others --- */

struct redis *
redis_new(const struct redis_settings *settings, const char **why)
{
	struct redis *redis;
	size_t count = 0;

	while (settings->servers[count] != NULL)
		count++;
	if (count == 0) {
		*why = "no server is given";
		return NULL;
	}
	if ((redis = calloc(1, sizeof(*redis))) == NULL ||
	    (redis->servers = calloc(count, sizeof(*redis->servers))) == NULL)
		fatal("out of memory (redis)");
	redis->settings = *settings;
	redis->last = &redis->first;
	redis->server_count = count;
	redis->retry_ms = RETRY_FIRST_MS;
	for (size_t i = 0; i < count; i++)
		if (net_endpoint_parse(settings->servers[i],
		    &redis->servers[i], why) != 0) {
			redis_free(&redis);
			return NULL;
		}
	redis->task = task_start("redis", keep_connected, redis);
	return redis;
}

void
redis_free(struct redis **redisp)
{
	struct redis *redis = *redisp;

	*redisp = NULL;
	if (redis == NULL)
		return;
	redis->closing = true;
	if (redis->task != NULL)
		task_reap(&redis->task);
	free(redis->servers);
	free(redis);
}

void
redis_distrust(struct redis *redis, const char *why)
{
	redis->unproven = true;
	lose(redis, why);
}

/* A reply that is late stays due: it is dropped when it comes. */
static void
give_up(struct redis *redis, struct waiter *waiter, const char **why)
{
	bool cancelled = errno == ECANCELED;

	waiter->abandoned = true;
	*why = "no reply in time";
	if (!cancelled && ++redis->late >= LATE_MAX)
		redis_distrust(redis, *why);
}

struct redisReply *
redis_command(struct redis *redis, int count, const char *const *words,
    const size_t *lengths, int64_t deadline, const char **why)
{
	struct waiter *waiter;
	redisReply *reply;

	*why = redis->why;
	while (redis->state == REDIS_STATE_NEW)
		if (task_cond_wait(&redis->changed, deadline) != 0) {
			*why = "not connected yet";
			return NULL;
		}
	if (redis->state != REDIS_STATE_UP)
		return NULL;
	if ((waiter = calloc(1, sizeof(*waiter))) == NULL)
		fatal("out of memory (redis)");
	*redis->last = waiter;
	redis->last = &waiter->next;
	put_command(redis, count, words, lengths);
	task_cond_signal(&redis->output);
	while (!waiter->done)
		if (task_cond_wait(&waiter->answered, deadline) != 0 &&
		    !waiter->done) {
			give_up(redis, waiter, why);
			return NULL;
		}
	reply = waiter->reply;
	free(waiter);
	if (reply != NULL && reply->type != REDIS_REPLY_ERROR &&
	    redis->unproven)
		come_back(redis);
	return reply;
}
