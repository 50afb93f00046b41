/*
 * The store on Redis: each step is a script that runs there, with the server's
 * clock.  Keys and numbers go as arguments; a script's text never depends on
 * them.  Each call has a number that its reply repeats, so that a reply to
 * another call is noticed.
 */
#include <hiredis/hiredis.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/task.h"
#include "policy/redis.h"
#include "policy/store_backend.h"
#include "policy/store_tally.h"

#define SCRIPTS_MAX	32
#define KEY_SIZE	512
#define NUMBER_SIZE	24
#define WORDS_MAX	(3 + STORE_KEYS + 2 + STORE_ARGUMENTS)
#define WHY_SIZE	256

/* ARGV: number of the call, shift of the clock, arguments. */
static const char script_head[] =
    "local t = redis.call('TIME')\n"
    "local now = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[2]\n"
    "local k, a = KEYS, {}\n"
    "for i = 3, #ARGV do a[i - 2] = tonumber(ARGV[i]) end\n"
    "local function get(key)\n"
    "  local v = redis.call('HMGET', key, '1', '2', '3', '4', 'x')\n"
    "  if not v[5] or tonumber(v[5]) <= now then return nil end\n"
    "  for i = 1, 4 do v[i] = tonumber(v[i]) end\n"
    "  return v\n"
    "end\n"
    "local function put(key, v, expires)\n"
    "  local function n(x) return string.format('%.0f', x or 0) end\n"
    "  redis.call('HSET', key, '1', n(v[1]), '2', n(v[2]), '3', n(v[3]),\n"
    "    '4', n(v[4]), 'x', n(expires))\n"
    "  redis.call('PEXPIRE', key, n(math.max(expires - now, 1)))\n"
    "end\n"
    "local function step()\n";

static const char script_tail[] =
    "\nend\n"
    "local r = { step() }\n"
    "table.insert(r, 1, tonumber(ARGV[1]))\n"
    "return r\n";

struct script {
	const struct store_step *step;
	char *text;
	char sha1[41];
};

struct redis_store {
	struct redis *redis;
	struct store *store;
	const char *prefix;
	char *probe_key;
	char *password;			/* or NULL */
	struct script scripts[SCRIPTS_MAX];
	size_t script_count;
	int64_t calls;
	char why[WHY_SIZE];
};

/* A call as words; they point into the texts beside them. */
struct command {
	int count;
	const char *words[WORDS_MAX];
	char keys[STORE_KEYS][KEY_SIZE];
	char numbers[3 + STORE_ARGUMENTS][NUMBER_SIZE];
	size_t number_count;
};

static const struct script *
script_for(struct redis_store *s, const struct store_step *step)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	struct buf text = BUF_INIT;
	struct script *script;

	for (size_t i = 0; i < s->script_count; i++)
		if (s->scripts[i].step == step)
			return &s->scripts[i];
	if (s->script_count == SCRIPTS_MAX)
		fatal("redis: more than %d steps", SCRIPTS_MAX);
	script = &s->scripts[s->script_count++];
	buf_puts(&text, script_head);
	buf_puts(&text, step->script);
	buf_puts(&text, script_tail);
	script->step = step;
	script->text = text.data;
	if (EVP_Digest(text.data, text.len, digest, NULL, EVP_sha1(),
	    NULL) != 1)
		fatal("redis: no SHA-1");
	for (size_t i = 0; i < 20; i++)
		snprintf(script->sha1 + 2 * i, 3, "%02x", digest[i]);
	return script;
}

static void
add_number(struct command *command, int64_t value)
{
	char *text = command->numbers[command->number_count++];

	snprintf(text, NUMBER_SIZE, "%lld", (long long)value);
	command->words[command->count++] = text;
}

/* Everything but the script's name and whether it is named or given. */
static void
build(struct command *command, const struct redis_store *s,
    const struct store_call *call)
{
	const struct store_step *step = call->step;

	command->count = 2;
	command->number_count = 0;
	add_number(command, (int64_t)step->keys);
	for (size_t i = 0; i < step->keys; i++) {
		snprintf(command->keys[i], KEY_SIZE, "%s%s", s->prefix,
		    call->keys[i]);
		command->words[command->count++] = command->keys[i];
	}
	add_number(command, s->calls);
	add_number(command, call->shift_ms);
	for (size_t i = 0; i < step->arguments; i++)
		add_number(command, call->arguments[i]);
}

static bool
is_error(const redisReply *reply, const char *kind)
{
	return reply->type == REDIS_REPLY_ERROR &&
	    strncmp(reply->str, kind, strlen(kind)) == 0;
}

/* A server that does not know the script yet is given its text. */
static redisReply *
send_call(struct redis_store *s, const struct store_call *call,
    struct command *command, const char **why)
{
	const struct script *script = script_for(s, call->step);
	redisReply *reply;

	command->words[0] = "EVALSHA";
	command->words[1] = script->sha1;
	reply = redis_command(s->redis, command->count, command->words, NULL,
	    call->deadline, why);
	if (reply == NULL || !is_error(reply, "NOSCRIPT"))
		return reply;
	freeReplyObject(reply);
	command->words[0] = "EVAL";
	command->words[1] = script->text;
	return redis_command(s->redis, command->count, command->words, NULL,
	    call->deadline, why);
}

/* The reply: number of the call, 1 or 0, results; nothing else will do. */
static enum answer
understand(const struct store_step *step, int64_t number,
    const redisReply *reply, int64_t *results)
{
	if (reply->type != REDIS_REPLY_ARRAY ||
	    reply->elements != 2 + step->results)
		return ANSWER_UNKNOWN;
	for (size_t i = 0; i < reply->elements; i++)
		if (reply->element[i] == NULL ||
		    reply->element[i]->type != REDIS_REPLY_INTEGER)
			return ANSWER_UNKNOWN;
	if (reply->element[0]->integer != number)
		return ANSWER_UNKNOWN;
	for (size_t i = 0; i < step->results; i++)
		results[i] = reply->element[2 + i]->integer;
	switch (reply->element[1]->integer) {
	case 0:
		return ANSWER_NO;
	case 1:
		return ANSWER_YES;
	default:
		return ANSWER_UNKNOWN;
	}
}

static enum answer
redis_store_run(void *state, const struct store_call *call, int64_t *results,
    const char **why)
{
	struct redis_store *s = state;
	struct command command;
	enum answer answer;
	redisReply *reply;
	int64_t number = ++s->calls;

	build(&command, s, call);
	reply = send_call(s, call, &command, why);
	if (reply == NULL)
		return ANSWER_UNKNOWN;
	answer = understand(call->step, number, reply, results);
	if (answer == ANSWER_UNKNOWN) {
		snprintf(s->why, sizeof(s->why), "%s",
		    reply->type == REDIS_REPLY_ERROR ? reply->str :
		    "a reply to something else");
		redis_distrust(s->redis, s->why);
		*why = s->why;
	}
	freeReplyObject(reply);
	return answer;
}

struct redisReply *
store_redis_eval(void *state, const char *script, size_t keys,
    const char *const *words, size_t count, const char **why)
{
	struct redis_store *s = state;
	const char *all[3 + TALLY_WORDS_MAX] = { "EVAL", script };
	struct buf names = BUF_INIT;
	size_t at[TALLY_WORDS_MAX];
	char number[NUMBER_SIZE];
	redisReply *reply;

	snprintf(number, sizeof(number), "%zu", keys);
	all[2] = number;
	for (size_t i = 0; i < count; i++) {
		at[i] = names.len;
		buf_printf(&names, "%s%s", i < keys ? s->prefix : "",
		    words[i]);
		buf_putc(&names, '\0');
	}
	for (size_t i = 0; i < count; i++)
		all[3 + i] = names.data + at[i];
	reply = redis_command(s->redis, (int)count + 3, all, NULL,
	    task_deadline(STORE_TALLY_MS), why);
	buf_release(&names);
	if (reply == NULL || reply->type != REDIS_REPLY_ERROR)
		return reply;
	snprintf(s->why, sizeof(s->why), "%s", reply->str);
	redis_distrust(s->redis, s->why);
	*why = s->why;
	freeReplyObject(reply);
	return NULL;
}

static void
went_away(void *argument, const char *why)
{
	const struct redis_store *s = argument;

	store_away(s->store, why);
}

static void
came_back(void *argument)
{
	const struct redis_store *s = argument;

	store_back(s->store);
}

static void
redis_store_close(void *state)
{
	struct redis_store *s = state;

	redis_free(&s->redis);
	for (size_t i = 0; i < s->script_count; i++)
		free(s->scripts[i].text);
	free(s->probe_key);
	free(s->password);
	free(s);
}

/* The file's text without the line's end that editors put there. */
static int
read_password(struct redis_store *s, const struct conf *conf, const char *path,
    const char **why)
{
	const char *bytes;
	size_t len;

	if (path == NULL)
		return 0;
	if (!conf_file(conf, path, &bytes, &len)) {
		*why = "the password is not available in this process";
		return -1;
	}
	while (len > 0 && (bytes[len - 1] == '\n' || bytes[len - 1] == '\r'))
		len--;
	if (len == 0 || memchr(bytes, '\0', len) != NULL) {
		*why = "the password's file is empty or holds a NUL";
		return -1;
	}
	if ((s->password = strndup(bytes, len)) == NULL)
		fatal("out of memory (redis)");
	return 0;
}

static void *
redis_store_open(struct store *store, const struct conf *conf,
    const char *path, const char **why)
{
	const struct store_options *options = conf_get(conf,
	    store_section.name);
	const char *prefix = options->prefix != NULL ? options->prefix : "";
	struct buf key = BUF_INIT;
	struct redis_store *s;

	(void)path;
	if ((s = calloc(1, sizeof(*s))) == NULL)
		fatal("out of memory (redis)");
	buf_printf(&key, "%sprobe", prefix);
	s->store = store;
	s->prefix = prefix;
	s->probe_key = key.data;
	if (read_password(s, conf, options->password, why) == 0)
		s->redis = redis_new(&(struct redis_settings){
		    .servers = options->server,
		    .user = options->user,
		    .password = s->password,
		    .database = options->database,
		    .probe_key = s->probe_key,
		    .away = went_away,
		    .back = came_back,
		    .argument = s,
		}, why);
	if (s->redis != NULL)
		return s;
	redis_store_close(s);
	return NULL;
}

const struct store_backend store_redis = {
	.name = "redis",
	.open = redis_store_open,
	.close = redis_store_close,
	.run = redis_store_run,
	.tally_add = tally_redis_add,
	.tally_claim = tally_redis_claim,
	.tally_done = tally_redis_done,
	.tally_list = tally_redis_list,
};
