#include "policy/redis.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/task.h"
#include "policy/redis_link.h"
#include "policy/redis_sentinel.h"
#include "policy/redis_topology.h"

#define NODES_MAX	256		/* of a cluster: those that own slots */
#define NOBODY		NODES_MAX
#define HOPS_MAX	5		/* redirections of a command */
#define TRY_AGAIN_MS	2
#define MAP_MS		1000		/* until a node has sent its map */
#define MAP_EVERY_MS	30000
#define MAP_PAUSE_MS	250		/* while something is wrong */
#define MASTER_EVERY_MS	1000		/* who it is, by Sentinel */

struct node {
	struct redis *redis;
	struct net_endpoint endpoint;
	char name[NET_TEXT_SIZE];
	struct redis_link *link;
	bool away, owner;		/* of slots; all of them, if alone */
	unsigned users;			/* commands under way */
	char why[REDIS_WHY_SIZE + NET_TEXT_SIZE];
};

struct redis {
	struct redis_settings settings;
	struct net_endpoint *servers;
	size_t server_count;
	struct redis_sentinel *sentinel, *watched;
	struct node *nodes[NODES_MAX];	/* with gaps */
	struct node *last;		/* whose reply was returned last */
	bool down;

	/* Of a cluster. */
	uint16_t owners[REDIS_SLOTS];	/* index of a node, or NOBODY */
	bool mapped, stale;
	struct task_cond changed;	/* mapped or stale */
	struct task *task;
	char why[REDIS_WHY_SIZE + NET_TEXT_SIZE];
};

/* --- servers and their health --- */

/* Down: a server that is needed is away; without a map, all are. */
static bool
is_down(const struct redis *redis, const struct node **culprit)
{
	bool all = !redis->mapped, any = false;

	for (size_t i = 0; i < NODES_MAX; i++) {
		const struct node *node = redis->nodes[i];

		if (node == NULL)
			continue;
		if (node->away && (node->owner || *culprit == NULL))
			*culprit = node;
		if (node->away && node->owner)
			any = true;
		all = all && node->away;
	}
	return any || (all && *culprit != NULL);
}

/* Tells about a change. */
static void
judge(struct redis *redis)
{
	const struct node *culprit = NULL;
	bool down = is_down(redis, &culprit);

	if (down == redis->down)
		return;
	redis->down = down;
	if (down)
		redis->settings.away(redis->settings.argument, culprit->why);
	else
		redis->settings.back(redis->settings.argument);
}

static void
want_map(struct redis *redis)
{
	redis->stale = true;
	task_cond_broadcast(&redis->changed);
}

static void
node_away(void *argument, const char *why)
{
	struct node *node = argument;

	snprintf(node->why, sizeof(node->why), "%s", why);
	node->away = true;
	judge(node->redis);
	want_map(node->redis);
}

static void
node_back(void *argument)
{
	struct node *node = argument;

	node->away = false;
	judge(node->redis);
}

static int
locate_master(void *argument, struct net_endpoint *master, int64_t deadline,
    const char **why)
{
	const struct node *node = argument;

	return redis_sentinel_locate(node->redis->sentinel, master, deadline,
	    why);
}

/* The server, or any of all if it is NULL. */
static struct node *
node_new(struct redis *redis, const struct net_endpoint *server)
{
	const struct redis_settings *s = &redis->settings;
	struct node *node = calloc(1, sizeof(*node));

	if (node == NULL)
		fatal("out of memory (redis)");
	node->redis = redis;
	node->owner = server == NULL;
	if (server != NULL) {
		node->endpoint = *server;
		net_endpoint_print((const struct sockaddr *)&server->address,
		    node->name);
	}
	node->link = redis_link_new(&(struct redis_link_settings){
	    .access = &redis->settings.access,
	    .servers = server != NULL ? &node->endpoint : redis->servers,
	    .server_count = server != NULL ? 1 : redis->server_count,
	    .locate = s->sentinel != NULL ? locate_master : NULL,
	    .clustered = s->cluster,
	    .database = s->database,
	    .probe_key = s->probe_key,
	    .away = node_away,
	    .back = node_back,
	    .argument = node,
	});
	return node;
}

static void
node_free(struct redis *redis, size_t i)
{
	struct node *node = redis->nodes[i];

	if (node == NULL)
		return;
	redis->nodes[i] = NULL;
	if (redis->last == node)
		redis->last = NULL;
	redis_link_free(&node->link);
	free(node);
}

/* The index of that server's node, which is made if need be; or NOBODY. */
static size_t
node_at(struct redis *redis, const struct net_endpoint *server)
{
	size_t gap = NOBODY;

	for (size_t i = NODES_MAX; i-- > 0;)
		if (redis->nodes[i] == NULL)
			gap = i;
		else if (redis_same_server(&redis->nodes[i]->endpoint, server))
			return i;
	if (gap != NOBODY)
		redis->nodes[gap] = node_new(redis, server);
	return gap;
}

/* --- the map of a cluster --- */

struct map {
	struct redis *redis;
	uint16_t owners[REDIS_SLOTS];
};

static void
map_range(void *argument, unsigned first, unsigned last,
    const struct net_endpoint *master)
{
	struct map *map = argument;
	size_t owner = node_at(map->redis, master);

	for (unsigned slot = first; slot <= last; slot++)
		map->owners[slot] = (uint16_t)owner;
}

/* Who owns nothing any more goes. */
static void
use_map(struct redis *redis, const struct map *map)
{
	memcpy(redis->owners, map->owners, sizeof(redis->owners));
	for (size_t i = 0; i < NODES_MAX; i++)
		if (redis->nodes[i] != NULL)
			redis->nodes[i]->owner = false;
	for (size_t slot = 0; slot < REDIS_SLOTS; slot++)
		if (redis->owners[slot] != NOBODY)
			redis->nodes[redis->owners[slot]]->owner = true;
	redis->mapped = true;
	for (size_t i = 0; i < NODES_MAX; i++)
		if (redis->nodes[i] != NULL && !redis->nodes[i]->owner &&
		    redis->nodes[i]->users == 0)
			node_free(redis, i);
	judge(redis);
	task_cond_broadcast(&redis->changed);
}

/* Whether that node has told where all slots are. */
static bool
ask_map(struct redis *redis, struct node *node)
{
	const char *const words[] = { "CLUSTER", "SLOTS" };
	const char *why;
	redisReply *reply;
	struct map *map;
	bool good;

	node->users++;
	reply = redis_link_command(node->link, false, 2, words, NULL,
	    task_deadline(MAP_MS), &why);
	node->users--;
	if (reply == NULL)
		return false;
	if ((map = malloc(sizeof(*map))) == NULL)
		fatal("out of memory (redis)");
	map->redis = redis;
	for (size_t i = 0; i < REDIS_SLOTS; i++)
		map->owners[i] = NOBODY;
	good = redis_slots_parse(reply, &node->endpoint, map_range, map, &why);
	if (good)
		use_map(redis, map);
	else
		redis_link_reset(node->link, reply->type ==
		    REDIS_REPLY_ERROR ? reply->str : why);
	freeReplyObject(reply);
	free(map);
	return good;
}

/* From any node; from the configured servers if all others are gone. */
static bool
get_map(struct redis *redis)
{
	for (size_t i = 0; i < NODES_MAX; i++)
		if (redis->nodes[i] != NULL && ask_map(redis,
		    redis->nodes[i]))
			return true;
	for (size_t i = 0; i < redis->server_count; i++)
		node_at(redis, &redis->servers[i]);
	return false;
}

/* As a task. */
static void
keep_map(void *argument)
{
	struct redis *redis = argument;

	for (;;) {
		redis->stale = false;
		if (!get_map(redis) || redis->down || redis->stale) {
			if (task_sleep(MAP_PAUSE_MS) != 0)
				return;
			continue;
		}
		if (task_cond_wait(&redis->changed,
		    task_deadline(MAP_EVERY_MS)) != 0 && errno == ECANCELED)
			return;
	}
}

/* --- the master that Sentinel names --- */

/*
 * As a task.  A master that was replaced may work on for seconds, and what is
 * written to it then is lost.
 */
static void
watch_master(void *argument)
{
	struct redis *redis = argument;
	struct redis_link *link = redis->nodes[0]->link;
	const struct net_endpoint *now;
	struct net_endpoint master;
	const char *why;

	while (task_sleep(MASTER_EVERY_MS) == 0)
		if (redis_link_server(link) != NULL &&
		    redis_sentinel_locate(redis->watched, &master,
		    task_deadline(MASTER_EVERY_MS), &why) == 0 &&
		    (now = redis_link_server(link)) != NULL &&
		    !redis_same_server(now, &master))
			redis_link_reset(link,
			    "Sentinel names another master");
}

/* --- for others --- */

static int
read_servers(struct redis *redis, const char **why)
{
	const char *const *servers = redis->settings.servers;
	size_t count = 0;

	while (servers[count] != NULL)
		count++;
	*why = "no server is given";
	if (count == 0)
		return -1;
	redis->servers = calloc(count, sizeof(*redis->servers));
	if (redis->servers == NULL)
		fatal("out of memory (redis)");
	redis->server_count = count;
	for (size_t i = 0; i < count; i++)
		if (net_endpoint_parse(servers[i], &redis->servers[i],
		    why) != 0)
			return -1;
	return 0;
}

struct redis *
redis_new(const struct redis_settings *settings, const char **why)
{
	struct redis *redis;

	if ((redis = calloc(1, sizeof(*redis))) == NULL)
		fatal("out of memory (redis)");
	redis->settings = *settings;
	if (read_servers(redis, why) != 0) {
		redis_free(&redis);
		return NULL;
	}
	if (settings->cluster) {
		for (size_t i = 0; i < redis->server_count; i++)
			node_at(redis, &redis->servers[i]);
		redis->task = task_start("redis-map", keep_map, redis);
		return redis;
	}
	if (settings->sentinel != NULL) {
		redis->sentinel = redis_sentinel_new(&redis->settings.access,
		    redis->servers, redis->server_count, settings->sentinel);
		redis->watched = redis_sentinel_new(&redis->settings.access,
		    redis->servers, redis->server_count, settings->sentinel);
	}
	redis->nodes[0] = node_new(redis, NULL);
	if (settings->sentinel != NULL)
		redis->task = task_start("redis-master", watch_master, redis);
	return redis;
}

void
redis_free(struct redis **redisp)
{
	struct redis *redis = *redisp;

	*redisp = NULL;
	if (redis == NULL)
		return;
	if (redis->task != NULL)
		task_reap(&redis->task);
	for (size_t i = 0; i < NODES_MAX; i++)
		node_free(redis, i);
	redis_sentinel_free(&redis->sentinel);
	redis_sentinel_free(&redis->watched);
	free(redis->servers);
	free(redis);
}

void
redis_distrust(struct redis *redis, const char *why)
{
	if (redis->last != NULL)
		redis_link_distrust(redis->last->link, why);
}

const char *
redis_next_node(struct redis *redis, const char *name, int64_t deadline)
{
	const struct node *next = NULL;

	while (redis->settings.cluster && !redis->mapped)
		if (task_cond_wait(&redis->changed, deadline) != 0)
			return NULL;
	for (size_t i = 0; i < NODES_MAX; i++) {
		const struct node *node = redis->nodes[i];

		if (node != NULL && node->owner &&
		    (name == NULL || strcmp(node->name, name) > 0) &&
		    (next == NULL || strcmp(node->name, next->name) < 0))
			next = node;
	}
	return next != NULL ? next->name : NULL;
}

/* A node may go before its text is read. */
static const char *
keep_why(struct redis *redis, const char *why)
{
	snprintf(redis->why, sizeof(redis->why), "%s", why);
	return redis->why;
}

/* The node to ask first; NULL: *why. */
static struct node *
choose(struct redis *redis, const struct redis_request *request,
    const char **why)
{
	const struct node *culprit = NULL;
	size_t i;

	if (!redis->settings.cluster)
		return redis->nodes[0];
	while (!redis->mapped) {
		if (is_down(redis, &culprit)) {
			*why = keep_why(redis, culprit->why);
			return NULL;
		}
		*why = "the cluster's map is not known yet";
		if (task_cond_wait(&redis->changed, request->deadline) != 0)
			return NULL;
	}
	for (i = 0; request->node != NULL && i < NODES_MAX; i++)
		if (redis->nodes[i] != NULL &&
		    strcmp(redis->nodes[i]->name, request->node) == 0)
			return redis->nodes[i];
	*why = "that node of the cluster is gone";
	if (request->key == NULL)
		return NULL;
	i = redis->owners[redis_slot(request->key)];
	if (i != NOBODY && redis->nodes[i] != NULL)
		return redis->nodes[i];
	want_map(redis);
	*why = "no node of the cluster has that key";
	return NULL;
}

/*
 * What a node of a cluster says when it is not, or not now, the one to ask;
 * true: another attempt is to be made, at *node.  TRYAGAIN: some keys of the
 * slot have moved, others have not.
 */
static bool
redirect(struct redis *redis, const redisReply *reply, struct node **node,
    bool *asking, int *hops, int64_t deadline)
{
	struct redis_redirect to;
	size_t i;

	if (redis_says(reply, "TRYAGAIN"))
		return task_now() < deadline && task_sleep(TRY_AGAIN_MS) == 0;
	if (++*hops > HOPS_MAX)
		return false;
	*asking = false;
	if (!redis_redirect_parse(reply->str, &(*node)->endpoint, &to))
		return false;
	*asking = to.ask;
	i = node_at(redis, &to.to);
	if (i == NOBODY)
		return false;
	*node = redis->nodes[i];
	if (!to.ask) {
		redis->nodes[i]->owner = true;
		redis->owners[to.slot] = (uint16_t)i;
		want_map(redis);
	}
	return true;
}

/* A cluster's own, of which the connection is not to blame; frees the reply. */
static bool
is_trouble(struct redis *redis, redisReply *reply, const char **why)
{
	bool down = redis_says(reply, "CLUSTERDOWN");

	if (!redis->settings.cluster ||
	    (!down && !redis_says(reply, "TRYAGAIN")))
		return false;
	*why = keep_why(redis, reply->str);
	if (down)
		redis_link_reset(redis->last->link, *why);
	freeReplyObject(reply);
	return true;
}

struct redisReply *
redis_command(struct redis *redis, const struct redis_request *request,
    const char **why)
{
	struct node *node = choose(redis, request, why), *next;
	bool asking = false, again = true;
	redisReply *reply = NULL;
	int hops = 0;

	if (node == NULL)
		return NULL;
	while (again) {
		node->users++;
		reply = redis_link_command(node->link, asking, request->count,
		    request->words, NULL, request->deadline, why);
		next = node;
		again = reply != NULL && reply->type == REDIS_REPLY_ERROR &&
		    redis->settings.cluster && redirect(redis, reply,
		    &next, &asking, &hops, request->deadline);
		node->users--;
		redis->last = node;
		node = next;
		if (again)
			freeReplyObject(reply);
	}
	if (reply == NULL) {
		*why = keep_why(redis, *why);
		return NULL;
	}
	return is_trouble(redis, reply, why) ? NULL : reply;
}
