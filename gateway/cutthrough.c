/* Cut-through: delivery before the answer. */
#include "gateway/cutthrough.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/task.h"
#include "base/tls.h"
#include "gateway/relay_private.h"

#define KEPT_MAX 100			/* idle connections */
#define RECIPIENTS_MAX 100

/* An idle connection. */
struct kept {
	struct kept *next;
	struct client *client;
	int64_t since;			/* task_now() */
	char key[];
};

struct cutthrough {
	struct routes *routes;
	struct nexthop_settings nexthop;
	int64_t idle_ms;
	struct kept *kept;		/* the latest first */
	size_t kept_count;
	struct task *sweeper;
	struct task_cond stop;
	bool stopping;
};

/* The recipients of one next hop. */
struct group {
	struct group *next;
	struct cutthrough *cutthrough;
	const struct route *route;
	const char *key, *domain;
	const struct envelope *envelope;
	const struct slice *content;
	size_t content_count, size;
	struct delivery *results;	/* its own, copied back */
	size_t *index;			/* where in the caller's */
	size_t count;
	int64_t deadline;
	struct arena *arena;
	struct task *task;
};

struct cutthrough *
cutthrough_new(const struct conf *conf, const char *hostname,
    const char **why)
{
	struct cutthrough *c = calloc(1, sizeof(*c));
	const struct relay_options *options = conf_get(conf, "relay");

	if (c == NULL)
		fatal("out of memory");
	relay_nexthop(options, hostname, &c->nexthop);
	c->idle_ms = options->connection_idle;
	if ((c->routes = routes_new(conf, why)) == NULL ||
	    nexthop_tls(&c->nexthop, c->routes, why) == -1)
		cutthrough_free(&c);
	return c;
}

/* --- kept connections --- */

static void
kept_free(struct cutthrough *c, struct kept **keptp)
{
	struct kept *kept = *keptp;

	*keptp = kept->next;
	c->kept_count--;
	client_close(&kept->client);
	free(kept);
}

void
cutthrough_free(struct cutthrough **cp)
{
	struct cutthrough *c = *cp;

	if (c == NULL)
		return;
	*cp = NULL;
	c->stopping = true;
	task_cond_broadcast(&c->stop);
	task_join(&c->sweeper, DEADLINE_NEVER);
	while (c->kept != NULL)
		kept_free(c, &c->kept);
	routes_free(&c->routes);
	tls_context_free(&c->nexthop.tls_any);
	tls_context_free(&c->nexthop.tls_verify);
	free(c);
}

static struct client *
kept_take(struct cutthrough *c, const char *key)
{
	struct kept **k = &c->kept;
	struct client *client;

	while (*k != NULL) {
		if (strcmp((*k)->key, key) != 0) {
			k = &(*k)->next;
			continue;
		}
		client = (*k)->client;
		(*k)->client = NULL;
		kept_free(c, k);
		if (client_alive(client))
			return client;
		client_close(&client);
	}
	return NULL;
}

/* Closes what has been idle too long, while there is anything. */
static void
sweep(void *argument)
{
	struct cutthrough *c = argument;

	while (!c->stopping) {
		if (c->kept == NULL) {
			task_cond_wait(&c->stop, DEADLINE_NEVER);
			continue;
		}
		task_cond_wait(&c->stop, task_deadline(c->idle_ms / 2 + 10));
		for (struct kept **k = &c->kept; *k != NULL; ) {
			if (task_now() - (*k)->since >= c->idle_ms)
				kept_free(c, k);
			else
				k = &(*k)->next;
		}
	}
}

static void
kept_put(struct cutthrough *c, const char *key, struct client *client)
{
	size_t len = strlen(key) + 1;
	struct kept *kept;

	if (c->idle_ms == 0 || c->kept_count >= KEPT_MAX || c->stopping) {
		client_close(&client);
		return;
	}
	if ((kept = malloc(sizeof(*kept) + len)) == NULL)
		fatal("out of memory");
	memcpy(kept->key, key, len);
	kept->client = client;
	kept->since = task_now();
	kept->next = c->kept;
	c->kept = kept;
	c->kept_count++;
	if (c->sweeper == NULL)
		c->sweeper = task_start("cut-through idle", sweep, c);
	else
		task_cond_signal(&c->stop);
}

/* --- delivery --- */

static int64_t
left_ms(int64_t deadline)
{
	int64_t left = deadline - task_now();

	return left > 1 ? left : 1;
}

static void
deliver_part(struct group *group, struct delivery *results, size_t count)
{
	struct cutthrough *c = group->cutthrough;
	struct delivery failure = { 0 };
	struct client *client = kept_take(c, group->key);
	bool reused = client != NULL, alive;

again:
	if (client == NULL)
		client = nexthop_connect(&c->nexthop, group->route,
		    group->domain, group->deadline, group->arena, &failure);
	if (client == NULL) {
		for (size_t i = 0; i < count; i++) {
			failure.recipient = results[i].recipient;
			results[i] = failure;
		}
		return;
	}
	if (group->deadline != DEADLINE_NEVER)
		client_limit(client, left_ms(group->deadline));
	alive = client_deliver(client, group->envelope, group->content,
	    group->content_count, group->size, results, count, group->arena);
	if (alive) {
		kept_put(c, group->key, client);
		return;
	}
	client_close(&client);
	if (reused && client_was_stale(results, count)) {
		reused = false;
		goto again;
	}
}

static void
group_run(void *argument)
{
	struct group *group = argument;
	const char *relay;
	size_t part;

	if (nexthop_is_local(group->route)) {
		nexthop_local(group->route, group->envelope, group->content,
		    group->content_count, group->results, group->count,
		    group->arena, &relay);
		return;
	}
	for (size_t done = 0; done < group->count; done += part) {
		part = group->count - done;
		part = part < RECIPIENTS_MAX ? part : RECIPIENTS_MAX;
		deliver_part(group, group->results + done, part);
	}
}

static struct group *
group_find(struct cutthrough *c, struct mail *mail, struct group **groups,
    const struct delivery *result)
{
	const char *address = result->recipient->address;
	const struct route *route = routes_find(c->routes, address);
	struct buf key = BUF_INIT;
	struct group *group;

	nexthop_key(route, address, &key);
	for (group = *groups; group != NULL; group = group->next)
		if (strcmp(group->key, key.data) == 0)
			break;
	if (group == NULL) {
		group = arena_alloc(mail->arena, sizeof(*group));
		group->cutthrough = c;
		group->route = route;
		group->key = arena_strdup(mail->arena, key.data);
		if (route->hops[0].kind == ROUTE_MX)
			group->domain = address_domain(address);
		group->envelope = &mail->envelope;
		group->arena = mail->arena;
		group->next = *groups;
		*groups = group;
	}
	buf_release(&key);
	return group;
}

/* One group runs right here, several as a task each. */
static void
run_groups(struct group *groups)
{
	if (groups->next == NULL) {
		group_run(groups);
		return;
	}
	for (struct group *g = groups; g != NULL; g = g->next)
		g->task = task_start("cut-through", group_run, g);
	/* Each ends by its deadline; they use our arena. */
	for (struct group *g = groups; g != NULL; g = g->next)
		while (task_join(&g->task, DEADLINE_NEVER) == -1) {
			/* We are cancelled, and so are they. */
			task_cancel(g->task);
			task_yield();
		}
}

/* Sorts the recipients into groups. */
static struct group *
make_groups(struct cutthrough *c, struct mail *mail,
    const struct delivery *results, size_t count)
{
	struct group *groups = NULL, *group;
	struct group **of = arena_alloc(mail->arena, count * sizeof(*of));

	for (size_t i = 0; i < count; i++) {
		of[i] = group_find(c, mail, &groups, &results[i]);
		of[i]->count++;
	}
	for (group = groups; group != NULL; group = group->next) {
		group->results = arena_alloc(mail->arena,
		    group->count * sizeof(*group->results));
		group->index = arena_alloc(mail->arena,
		    group->count * sizeof(*group->index));
		group->count = 0;
	}
	for (size_t i = 0; i < count; i++) {
		size_t n = of[i]->count++;

		of[i]->results[n].recipient = results[i].recipient;
		of[i]->index[n] = i;
	}
	return groups;
}

enum delivery_status
cutthrough_deliver(struct cutthrough *c, struct mail *mail,
    struct delivery *results, size_t count, int64_t deadline)
{
	enum delivery_status status = DELIVERY_OK;
	size_t content_count, size;
	struct slice *content;
	struct group *groups;

	if (count == 0)
		return DELIVERY_OK;
	content = mail_slices(mail, &content_count, &size);
	groups = make_groups(c, mail, results, count);
	for (struct group *g = groups; g != NULL; g = g->next) {
		g->content = content;
		g->content_count = content_count;
		g->size = size;
		g->deadline = deadline;
	}
	run_groups(groups);
	for (struct group *g = groups; g != NULL; g = g->next)
		for (size_t i = 0; i < g->count; i++)
			results[g->index[i]] = g->results[i];
	for (size_t i = 0; i < count; i++) {
		if (results[i].status == DELIVERY_TEMPORARY)
			return DELIVERY_TEMPORARY;
		if (results[i].status == DELIVERY_PERMANENT)
			status = DELIVERY_PERMANENT;
	}
	return status;
}
