#include "policy/redis_link.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "base/task.h"

#define CONNECT_MS	1000		/* until the probe is answered */
#define RETRY_FIRST_MS	250
#define RETRY_MAX_MS	2000
#define LATE_MAX	3		/* replies in a row, then it is away */

/* A command whose reply is to come; of an abandoned one nobody waits. */
struct waiter {
	redisReply *reply;
	bool done, abandoned;
	struct task_cond answered;
	struct waiter *next;
};

enum link_state { LINK_STATE_NEW, LINK_STATE_UP, LINK_STATE_AWAY };

struct redis_link {
	struct redis_link_settings settings;
	struct net_endpoint located;
	size_t server;			/* the one in use */
	enum link_state state;
	struct task_cond changed;	/* of the state, from NEW */
	struct task *task;
	struct redis_wire wire;
	struct waiter *first, **last;
	struct task_cond output;
	bool lost;			/* the connection is to be reset */
	bool unproven;			/* only a good reply shows it works */
	bool closing;
	unsigned late;
	int64_t retry_ms;
	char why[REDIS_WHY_SIZE];
};

static void
note(struct redis_link *link, const char *why)
{
	if (why != link->why)
		snprintf(link->why, sizeof(link->why), "%s", why);
}

/* --- connecting --- */

/* In the greeting: a reply, or NULL and noted. */
static redisReply *
ask(struct redis_link *link, int count, const char *const *words,
    int64_t deadline)
{
	redisReply *reply = redis_wire_ask(&link->wire, count, words, deadline);

	if (reply == NULL)
		note(link, link->wire.why);
	return reply;
}

/* A node that sends us elsewhere works: the key is another's. */
static bool
is_fine(const struct redis_link *link, const redisReply *reply)
{
	if (reply->type == REDIS_REPLY_STATUS)
		return strcmp(reply->str, "OK") == 0;
	return link->settings.clustered && (redis_says(reply, "MOVED ") ||
	    redis_says(reply, "ASK "));
}

static int
greet(struct redis_link *link, int count, const char *const *words,
    int64_t deadline)
{
	redisReply *reply = ask(link, count, words, deadline);
	int rc;

	if (reply == NULL)
		return -1;
	rc = is_fine(link, reply) ? 0 : -1;
	if (rc != 0)
		note(link, reply->type == REDIS_REPLY_ERROR ? reply->str :
		    "a greeting that is none");
	freeReplyObject(reply);
	return rc;
}

/* What Sentinel names may have been demoted meanwhile, and take writes. */
static int
check_role(struct redis_link *link, int64_t deadline)
{
	redisReply *reply = ask(link, 1, (const char *[]){ "ROLE" }, deadline);
	bool master;

	if (reply == NULL)
		return -1;
	master = reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 &&
	    reply->element[0]->type == REDIS_REPLY_STRING &&
	    strcmp(reply->element[0]->str, "master") == 0;
	if (!master)
		note(link, reply->type == REDIS_REPLY_ERROR ? reply->str :
		    "not the master");
	freeReplyObject(reply);
	return master ? 0 : -1;
}

/*
 * The probe writes, so that a server that is loading, a replica, full, or not
 * for us, does not count as one that is back.
 */
static int
greet_all(struct redis_link *link, int64_t deadline)
{
	const struct redis_link_settings *s = &link->settings;
	const char *const probe[] = { "SET", s->probe_key, "1", "PX",
		"60000" };
	const char *auth[3], *select[2] = { "SELECT" };
	char number[24];
	int count = redis_wire_auth(s->access, auth);

	if (count > 0 && greet(link, count, auth, deadline) != 0)
		return -1;
	if (s->database != 0) {
		snprintf(number, sizeof(number), "%lld",
		    (long long)s->database);
		select[1] = number;
		if (greet(link, 2, select, deadline) != 0)
			return -1;
	}
	if (s->locate != NULL && check_role(link, deadline) != 0)
		return -1;
	return greet(link, 5, probe, deadline);
}

static const struct net_endpoint *
chosen(const struct redis_link *link)
{
	return link->settings.locate != NULL ? &link->located :
	    &link->settings.servers[link->server];
}

static int
connect_server(struct redis_link *link)
{
	int64_t deadline = task_deadline(CONNECT_MS);

	link->lost = false;
	if (redis_wire_connect(&link->wire, link->settings.access,
	    chosen(link), deadline) != 0) {
		note(link, link->wire.why);
		return -1;
	}
	if (greet_all(link, deadline) == 0)
		return 0;
	redis_wire_close(&link->wire);
	return -1;
}

static void
set_state(struct redis_link *link, enum link_state state)
{
	link->state = state;
	task_cond_broadcast(&link->changed);
}

static void
go_away(struct redis_link *link)
{
	char why[REDIS_WHY_SIZE + NET_TEXT_SIZE + 2], server[NET_TEXT_SIZE];

	if (link->closing)
		return;
	set_state(link, LINK_STATE_AWAY);
	if (chosen(link)->len == 0)	/* nobody could say which */
		snprintf(why, sizeof(why), "%s", link->why);
	else
		snprintf(why, sizeof(why), "%s: %s", net_endpoint_print(
		    (const struct sockaddr *)&chosen(link)->address, server),
		    link->why);
	link->settings.away(link->settings.argument, why);
}

/* Works again; after bad or missing replies only a good one proves it. */
static void
come_back(struct redis_link *link)
{
	link->unproven = false;
	link->retry_ms = RETRY_FIRST_MS;
	link->settings.back(link->settings.argument);
}

/* One attempt at each server, or at the one that is the master now. */
static int
connect_any(struct redis_link *link)
{
	const struct redis_link_settings *s = &link->settings;
	const char *why;

	if (s->locate != NULL) {
		link->located.len = 0;
		if (s->locate(s->argument, &link->located,
		    task_deadline(CONNECT_MS), &why) == 0)
			return connect_server(link);
		note(link, why);
		return -1;
	}
	for (size_t i = 0; i < s->server_count; i++) {
		if (connect_server(link) == 0)
			return 0;
		link->server = (link->server + 1) % s->server_count;
	}
	return -1;
}

/* --- a connection at work --- */

/* The connection is of no more use: wakes its reader, who ends it. */
static void
lose(struct redis_link *link, const char *why)
{
	if (link->wire.io == NULL || link->lost)
		return;
	note(link, why);
	link->lost = true;
	go_away(link);
	shutdown(io_fd(link->wire.io), SHUT_RDWR);
}

/* As a task: sends what was put, all of a turn of the loop at once. */
static void
write_commands(void *argument)
{
	struct redis_link *link = argument;

	for (;;) {
		if (io_pending(link->wire.io) == 0 && task_cond_wait(
		    &link->output, DEADLINE_NEVER) != 0)
			return;
		if (io_flush(link->wire.io, task_deadline(CONNECT_MS)) == 0)
			continue;
		if (errno != ECANCELED)
			lose(link, io_why(link->wire.io));
		return;
	}
}

static struct waiter *
pop_waiter(struct redis_link *link)
{
	struct waiter *waiter = link->first;

	if (waiter == NULL)
		return NULL;
	link->first = waiter->next;
	if (link->first == NULL)
		link->last = &link->first;
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
take_replies(struct redis_link *link)
{
	redisReply *reply = NULL;
	int rc;

	while ((rc = redis_wire_next(&link->wire, &reply)) == 1) {
		struct waiter *waiter = pop_waiter(link);

		if (waiter == NULL) {
			freeReplyObject(reply);
			redis_wire_note(&link->wire, "a reply to no command");
			return -1;
		}
		if (!waiter->abandoned)
			link->late = 0;
		settle(waiter, reply);
	}
	return rc;
}

static void
work(struct redis_link *link)
{
	struct task *writer;
	struct waiter *waiter;

	link->late = 0;
	set_state(link, LINK_STATE_UP);
	if (!link->unproven)
		come_back(link);
	writer = task_start("redis-write", write_commands, link);
	while (!link->lost && redis_wire_read(&link->wire,
	    DEADLINE_NEVER) == 0)
		if (take_replies(link) != 0)
			break;
	if (!link->lost) {
		note(link, link->wire.why);
		go_away(link);
	}
	link->lost = true;
	task_reap(&writer);
	while ((waiter = pop_waiter(link)) != NULL)
		settle(waiter, NULL);
}

/* As a task: keeps the connection, or tries to. */
static void
keep_connected(void *argument)
{
	struct redis_link *link = argument;

	for (;;) {
		if (connect_any(link) == 0) {
			work(link);
			redis_wire_close(&link->wire);
		} else {
			go_away(link);
		}
		if (task_sleep(link->retry_ms) != 0)
			break;
		link->retry_ms *= 2;
		if (link->retry_ms > RETRY_MAX_MS)
			link->retry_ms = RETRY_MAX_MS;
	}
}

/* --- for others --- */

struct redis_link *
redis_link_new(const struct redis_link_settings *settings)
{
	struct redis_link *link;

	if ((link = calloc(1, sizeof(*link))) == NULL)
		fatal("out of memory (redis)");
	link->settings = *settings;
	link->last = &link->first;
	link->retry_ms = RETRY_FIRST_MS;
	link->task = task_start("redis", keep_connected, link);
	return link;
}

void
redis_link_free(struct redis_link **linkp)
{
	struct redis_link *link = *linkp;

	*linkp = NULL;
	if (link == NULL)
		return;
	link->closing = true;
	task_reap(&link->task);
	free(link);
}

void
redis_link_reset(struct redis_link *link, const char *why)
{
	lose(link, why);
}

void
redis_link_distrust(struct redis_link *link, const char *why)
{
	link->unproven = true;
	lose(link, why);
}

const struct net_endpoint *
redis_link_server(const struct redis_link *link)
{
	return link->state == LINK_STATE_UP ? chosen(link) : NULL;
}

/* A reply that is late stays due: it is dropped when it comes. */
static void
give_up(struct redis_link *link, struct waiter *waiter, const char **why)
{
	bool cancelled = errno == ECANCELED;

	waiter->abandoned = true;
	*why = "no reply in time";
	if (!cancelled && ++link->late >= LATE_MAX)
		redis_link_distrust(link, *why);
}

/* Nobody waits for a reply that is only to be "OK". */
static struct waiter *
put_command(struct redis_link *link, bool abandoned, int count,
    const char *const *words, const size_t *lengths)
{
	struct waiter *waiter = calloc(1, sizeof(*waiter));

	if (waiter == NULL)
		fatal("out of memory (redis)");
	waiter->abandoned = abandoned;
	*link->last = waiter;
	link->last = &waiter->next;
	redis_wire_put(&link->wire, count, words, lengths);
	return waiter;
}

struct redisReply *
redis_link_command(struct redis_link *link, bool asking, int count,
    const char *const *words, const size_t *lengths, int64_t deadline,
    const char **why)
{
	struct waiter *waiter;
	redisReply *reply;

	*why = link->why;
	while (link->state == LINK_STATE_NEW)
		if (task_cond_wait(&link->changed, deadline) != 0) {
			*why = "not connected yet";
			return NULL;
		}
	if (link->state != LINK_STATE_UP)
		return NULL;
	if (asking)
		put_command(link, true, 1, (const char *[]){ "ASKING" }, NULL);
	waiter = put_command(link, false, count, words, lengths);
	task_cond_signal(&link->output);
	while (!waiter->done)
		if (task_cond_wait(&waiter->answered, deadline) != 0 &&
		    !waiter->done) {
			give_up(link, waiter, why);
			return NULL;
		}
	reply = waiter->reply;
	free(waiter);
	if (reply != NULL && reply->type != REDIS_REPLY_ERROR &&
	    link->unproven)
		come_back(link);
	return reply;
}
