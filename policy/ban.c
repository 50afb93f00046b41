/*
 * Bans and passes.
 *
 * One record for a client, one for its network, in the group of the network, so
 * that one step sees both.
 */
#include "policy/ban.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "policy/store.h"
#include "policy/subject.h"

#define PREFIX		"ban:{"
#define KEY_SIZE	(2 * SUBJECT_NETWORK_SIZE + 8)
#define SHOW_MAX	5000

/* Of a record; in the scripts by their numbers. */
enum { VALUE_WINDOW, VALUE_OFFENCES, VALUE_UNTIL, VALUE_BANS, VALUE_PASS,
	VALUE_OPERATOR };

struct keys {
	char client[KEY_SIZE], network[KEY_SIZE];
	const char *list[2];
};

static int64_t
larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* --- is it banned? --- */

enum { CHECK_BANNED, CHECK_PASSED, CHECK_OPERATOR, CHECK_RESULTS };

static enum answer
check_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *t, int64_t *results)
{
	struct store_record client, network, *by = &client;
	int64_t now = store_now(records);

	(void)a, (void)t;
	store_get(records, keys[0], &client);
	store_get(records, keys[1], &network);
	if (network.values[VALUE_UNTIL] > client.values[VALUE_UNTIL])
		by = &network;
	results[CHECK_BANNED] = larger(by->values[VALUE_UNTIL] - now, 0);
	results[CHECK_PASSED] = larger(client.values[VALUE_PASS] - now, 0);
	results[CHECK_OPERATOR] = by->values[VALUE_OPERATOR];
	return results[CHECK_BANNED] > 0 ? ANSWER_YES : ANSWER_NO;
}

static const struct store_step check_step = {
	.name = "ban-check",
	.keys = 2, .results = CHECK_RESULTS,
	.run = check_run,
	.script =
	    "local none = {0, 0, 0, 0, 0, 0}\n"
	    "local client, network = get(k[1]) or none, get(k[2]) or none\n"
	    "local by = client\n"
	    "if network[3] > client[3] then by = network end\n"
	    "local banned = math.max(by[3] - now, 0)\n"
	    "return banned > 0 and 1 or 0, banned,\n"
	    "  math.max(client[5] - now, 0), by[6]\n",
};

/* --- offences --- */

enum { OFFEND_COUNT, OFFEND_LIMIT, OFFEND_WINDOW, OFFEND_FIRST,
	OFFEND_LONGEST, OFFEND_ARGUMENTS };

/* How long ban number bans is. */
static int64_t
ban_length(const int64_t *a, int64_t bans)
{
	int64_t ms = a[OFFEND_FIRST];

	for (; bans > 1 && ms < a[OFFEND_LONGEST]; bans--)
		ms *= 2;
	return ms < a[OFFEND_LONGEST] ? ms : a[OFFEND_LONGEST];
}

/* How often it was banned is forgotten when it was good for the longest. */
static enum answer
offend_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *t, int64_t *results)
{
	int64_t now = store_now(records);
	struct store_record r;

	store_get(records, keys[0], &r);
	results[0] = larger(r.values[VALUE_UNTIL] - now, 0);
	if (results[0] > 0)
		return ANSWER_NO;
	if (now - r.values[VALUE_WINDOW] >= a[OFFEND_WINDOW]) {
		r.values[VALUE_WINDOW] = now;
		r.values[VALUE_OFFENCES] = 0;
	}
	r.values[VALUE_OFFENCES] += a[OFFEND_COUNT];
	r.note = t[0];
	r.expires_ms = larger(r.expires_ms, now + a[OFFEND_WINDOW]);
	if (r.values[VALUE_OFFENCES] >= a[OFFEND_LIMIT] &&
	    r.values[VALUE_PASS] > now) {
		r.values[VALUE_OFFENCES] = r.values[VALUE_PASS] = 0;
	} else if (r.values[VALUE_OFFENCES] >= a[OFFEND_LIMIT]) {
		r.values[VALUE_OFFENCES] = r.values[VALUE_OPERATOR] = 0;
		results[0] = ban_length(a, ++r.values[VALUE_BANS]);
		r.values[VALUE_UNTIL] = now + results[0];
		r.expires_ms = now + results[0] + a[OFFEND_LONGEST];
	}
	store_put(records, keys[0], &r);
	return results[0] > 0 ? ANSWER_YES : ANSWER_NO;
}

static const struct store_step offend_step = {
	.name = "ban-offend",
	.keys = 1, .arguments = OFFEND_ARGUMENTS, .texts = 1, .results = 1,
	.run = offend_run,
	.script =
	    "local count, limit, window, first, longest =\n"
	    "  a[1], a[2], a[3], a[4], a[5]\n"
	    "local r = get(k[1]) or {0, 0, 0, 0, 0, 0, expires = 0}\n"
	    "if r[3] > now then return 0, r[3] - now end\n"
	    "if now - r[1] >= window then\n"
	    "  r[1], r[2] = now, 0\n"
	    "end\n"
	    "r[2] = r[2] + count\n"
	    "r.note = t[1]\n"
	    "local expires = math.max(r.expires, now + window)\n"
	    "local banned = 0\n"
	    "if r[2] >= limit and r[5] > now then\n"
	    "  r[2], r[5] = 0, 0\n"
	    "elseif r[2] >= limit then\n"
	    "  r[2], r[6] = 0, 0\n"
	    "  r[4] = r[4] + 1\n"
	    "  local bans = r[4]\n"
	    "  banned = first\n"
	    "  while bans > 1 and banned < longest do\n"
	    "    banned = banned * 2\n"
	    "    bans = bans - 1\n"
	    "  end\n"
	    "  banned = math.min(banned, longest)\n"
	    "  r[3] = now + banned\n"
	    "  expires = now + banned + longest\n"
	    "end\n"
	    "put(k[1], r, expires)\n"
	    "return banned > 0 and 1 or 0, banned\n",
};

/* --- a pass; written again only when 1/8 of it is over --- */

static enum answer
pass_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *t, int64_t *results)
{
	int64_t now = store_now(records);
	struct store_record r;

	(void)t, (void)results;
	store_get(records, keys[0], &r);
	if (r.values[VALUE_UNTIL] > now)
		return ANSWER_NO;
	if (r.values[VALUE_PASS] >= now + a[0] - a[0] / 8)
		return ANSWER_YES;
	r.values[VALUE_PASS] = now + a[0];
	r.expires_ms = larger(r.expires_ms, now + a[0]);
	store_put(records, keys[0], &r);
	return ANSWER_YES;
}

static const struct store_step pass_step = {
	.name = "ban-pass",
	.keys = 1, .arguments = 1,
	.run = pass_run,
	.script =
	    "local r = get(k[1]) or {0, 0, 0, 0, 0, 0, expires = 0}\n"
	    "if r[3] > now then return 0 end\n"
	    "if r[5] >= now + a[1] - math.floor(a[1] / 8) then return 1 end\n"
	    "r[5] = now + a[1]\n"
	    "put(k[1], r, math.max(r.expires, now + a[1]))\n"
	    "return 1\n",
};

/* --- an operator's --- */

static enum answer
add_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *t, int64_t *results)
{
	int64_t now = store_now(records);
	struct store_record r;

	(void)results;
	store_get(records, keys[0], &r);
	r.values[VALUE_UNTIL] = now + a[0];
	r.values[VALUE_OPERATOR] = 1;
	r.values[VALUE_PASS] = 0;
	r.note = t[0];
	r.expires_ms = larger(r.expires_ms, now + a[0]);
	store_put(records, keys[0], &r);
	return ANSWER_YES;
}

static const struct store_step add_step = {
	.name = "ban-add",
	.keys = 1, .arguments = 1, .texts = 1,
	.run = add_run,
	.script =
	    "local r = get(k[1]) or {0, 0, 0, 0, 0, 0, expires = 0}\n"
	    "r[3], r[5], r[6], r.note = now + a[1], 0, 1, t[1]\n"
	    "put(k[1], r, math.max(r.expires, now + a[1]))\n"
	    "return 1\n",
};

static enum answer
remove_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *t, int64_t *results)
{
	struct store_record r;

	(void)a, (void)t, (void)results;
	store_get(records, keys[0], &r);
	store_delete(records, keys[0]);
	return r.values[VALUE_UNTIL] > store_now(records) ? ANSWER_YES :
	    ANSWER_NO;
}

static const struct store_step remove_step = {
	.name = "ban-remove",
	.keys = 1,
	.run = remove_run,
	.script =
	    "local r = get(k[1])\n"
	    "del(k[1])\n"
	    "return r and r[3] > now and 1 or 0\n",
};

/* --- keys --- */

static void
keys_of(struct keys *keys, const struct sockaddr_storage *client)
{
	char network[SUBJECT_NETWORK_SIZE], text[SUBJECT_NETWORK_SIZE];

	subject_network(client, 24, 48, network);
	subject_network(client, 32, 64, text);
	snprintf(keys->client, KEY_SIZE, PREFIX "%s}:%s", network, text);
	snprintf(keys->network, KEY_SIZE, PREFIX "%s}", network);
	keys->list[0] = keys->client;
	keys->list[1] = keys->network;
}

/* The key of a client, or of a network; NULL: it is neither. */
static const char *
key_of(struct keys *keys, const char *subject)
{
	const char *slash = strchr(subject, '/');
	struct sockaddr_storage client;
	char address[SUBJECT_NETWORK_SIZE];
	bool v4;

	if (snprintf(address, sizeof(address), "%.*s", slash == NULL ?
	    (int)strlen(subject) : (int)(slash - subject), subject) >=
	    (int)sizeof(address) || !subject_client(address, &client))
		return NULL;
	v4 = client.ss_family == AF_INET;
	keys_of(keys, &client);
	if (slash == NULL || strcmp(slash, v4 ? "/32" : "/64") == 0)
		return keys->client;
	return strcmp(slash, v4 ? "/24" : "/48") == 0 ? keys->network : NULL;
}

/* --- for others --- */

enum answer
ban_check(struct store *store, const struct sockaddr_storage *client,
    struct ban_state *state, const char **why)
{
	int64_t results[CHECK_RESULTS] = { 0 };
	enum answer answer;
	struct keys keys = { .list = { NULL } };

	keys_of(&keys, client);
	answer = store_run(store, &check_step, keys.list, NULL, NULL, results,
	    why);
	*state = (struct ban_state){ results[CHECK_BANNED],
		results[CHECK_PASSED], results[CHECK_OPERATOR] != 0 };
	return answer;
}

enum answer
ban_offend(struct store *store, const struct sockaddr_storage *client,
    const struct ban_limits *limits, int64_t offences, const char *note,
    struct ban_state *state, const char **why)
{
	const int64_t arguments[OFFEND_ARGUMENTS] = { offences,
		limits->offences, limits->window_ms, limits->first_ms,
		limits->longest_ms };
	int64_t banned_ms = 0;
	enum answer answer;
	struct keys keys = { .list = { NULL } };

	*state = (struct ban_state){ .banned_ms = 0 };
	if (limits->offences == 0)
		return ANSWER_NO;
	keys_of(&keys, client);
	answer = store_run(store, &offend_step, keys.list, arguments, &note,
	    &banned_ms, why);
	state->banned_ms = banned_ms;
	return answer;
}

enum answer
ban_pass(struct store *store, const struct sockaddr_storage *client,
    int64_t pass_ms, const char **why)
{
	struct keys keys = { .list = { NULL } };

	keys_of(&keys, client);
	return store_run(store, &pass_step, keys.list, &pass_ms, NULL, NULL,
	    why);
}

enum answer
ban_add(struct store *store, const char *subject, int64_t ms,
    const char *note, const char **why)
{
	struct keys keys = { .list = { NULL } };
	const char *key = key_of(&keys, subject);

	*why = "that is no address, no IPv4 /24 and no IPv6 /48";
	if (key == NULL)
		return ANSWER_NO;
	return store_run(store, &add_step, &key, &ms, &note, NULL, why);
}

enum answer
ban_remove(struct store *store, const char *subject, const char **why)
{
	struct keys keys = { .list = { NULL } };
	const char *key = key_of(&keys, subject);
	enum answer answer;

	*why = "that is no address, no IPv4 /24 and no IPv6 /48";
	if (key == NULL)
		return ANSWER_NO;
	answer = store_run(store, &remove_step, &key, NULL, NULL, NULL, why);
	if (answer == ANSWER_NO)
		*why = "it is not banned";
	return answer;
}

/* --- showing --- */

struct shown {
	struct buf *out;
	size_t count;
};

static int
show_one(void *argument, const char *key, const struct store_record *record)
{
	int64_t left = record->values[VALUE_UNTIL] - clock_wall_ms();
	struct shown *shown = argument;
	const char *subject = strstr(key, "}:");

	if (left <= 0)
		return 0;
	if (subject != NULL)
		buf_puts(shown->out, subject + 2);
	else
		buf_printf(shown->out, "%.*s", (int)strcspn(key +
		    strlen(PREFIX), "}"), key + strlen(PREFIX));
	buf_printf(shown->out, " %lld s, %s: %s\n", (long long)(left / 1000),
	    record->values[VALUE_OPERATOR] != 0 ? "by an operator" :
	    record->values[VALUE_BANS] > 1 ? "again" : "for the first time",
	    record->note);
	return ++shown->count >= SHOW_MAX;
}

enum answer
ban_show(struct store *store, struct buf *out, const char **why)
{
	struct shown shown = { out, 0 };

	return store_scan(store, PREFIX, show_one, &shown, why);
}
