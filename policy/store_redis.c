/*
 * The store on Redis: each step is a script that runs there, as a Function or
 * by EVALSHA (redis_script.c), with the server's clock.  Keys and numbers go as
 * arguments; a script's text never depends on them.  Each call has a number
 * that its reply repeats, so that a reply to another call is noticed.
 */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/task.h"
#include "policy/redis.h"
#include "policy/redis_script.h"
#include "policy/store_backend.h"
#include "policy/store_tally.h"

#define KEY_SIZE	512
#define NUMBER_SIZE	24
#define WORDS_MAX	(STORE_KEYS + 3 + STORE_ARGUMENTS + STORE_TEXTS)
_Static_assert(WORDS_MAX <= REDIS_SCRIPT_WORDS, "words of a call");
#define PAGE_KEYS	100
#define WHY_SIZE	256

/*
 * ARGV: number of the call, shift of the clock, how many arguments there are,
 * arguments, texts.  A record is a string, the numbers, the note and when it
 * expires one after the other in MessagePack: a command of a script costs more
 * than what it works on.  A key that holds something else, such as a hash by an
 * earlier version, holds no record.
 */
static const char script_head[] =
    "local now, k, a, t\n"
    "local function get(key)\n"
    "  local s = redis.pcall('GET', key)\n"
    "  if not s then return nil end\n"
    "  if s.err then\n"
    "    if string.find(s.err, '^WRONGTYPE') then return nil end\n"
    "    error(s.err)\n"
    "  end\n"
    "  local v = { cmsgpack.unpack(s) }\n"
    "  v.note, v.expires = v[9], v[10]\n"
    "  return v.expires > now and v or nil\n"
    "end\n"
    "local function del(key) redis.call('DEL', key) end\n"
    "local function put(key, v, expires)\n"
    "  redis.call('SET', key, cmsgpack.pack(v[1] or 0, v[2] or 0, v[3] or 0,\n"
    "    v[4] or 0, v[5] or 0, v[6] or 0, v[7] or 0, v[8] or 0,\n"
    "    v.note or '', expires), 'PX', math.max(expires - now, 1))\n"
    "end\n"
    "local function step()\n";

static const char script_tail[] =
    "\nend\n"
    "local function run(KEYS, ARGV)\n"
    "  local time = redis.call('TIME')\n"
    "  now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]\n"
    "  k, a, t = KEYS, {}, {}\n"
    "  local texts = 4 + ARGV[3]\n"
    "  for i = 4, #ARGV do\n"
    "    if i < texts then a[i - 3] = tonumber(ARGV[i])\n"
    "    else t[i - texts + 1] = ARGV[i] end\n"
    "  end\n"
    "  return { tonumber(ARGV[1]), step() }\n"
    "end\n";

#define RECORD "v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v.expires,"	\
	" v.note"
enum { RECORD_EXPIRES = STORE_VALUES, RECORD_NOTE, RECORD_FIELDS };

static const struct store_step read_step = {
	.name = "read", .keys = 1,
	.script = "local v = get(k[1])\n"
	    "if not v then return 0 end\n"
	    "return 1, " RECORD "\n",
};

/*
 * Where the scan is, what the keys match, how many to look at.  Keys that hold
 * something else than a record are of no interest.
 */
static const struct store_step scan_step = {
	.name = "scan", .arguments = 1, .texts = 2,
	.script = "local page = redis.call('SCAN', t[1], 'MATCH', t[2],\n"
	    "  'COUNT', a[1])\n"
	    "local rows = {}\n"
	    "for _, key in ipairs(page[2]) do\n"
	    "  local ok, v = pcall(get, key)\n"
	    "  if ok and v then rows[#rows + 1] = { key, " RECORD " } end\n"
	    "end\n"
	    "return page[1] ~= '0' and 1 or 0, page[1], rows\n",
};

struct redis_store {
	struct redis *redis;
	struct redis_scripts *scripts;
	struct store *store;
	const char *prefix;
	char *probe_key;
	struct redis_access access;
	int64_t calls;
	char why[WHY_SIZE];
};

/* A call as words; they point into the texts beside them. */
struct command {
	size_t count;
	const char *words[WORDS_MAX];
	char keys[STORE_KEYS][KEY_SIZE];
	char numbers[3 + STORE_ARGUMENTS][NUMBER_SIZE];
	size_t number_count;
};

static void
add_number(struct command *command, int64_t value)
{
	char *text = command->numbers[command->number_count++];

	snprintf(text, NUMBER_SIZE, "%lld", (long long)value);
	command->words[command->count++] = text;
}

static void
build(struct command *command, const struct redis_store *s,
    const struct store_call *call)
{
	const struct store_step *step = call->step;

	command->count = 0;
	command->number_count = 0;
	for (size_t i = 0; i < step->keys; i++) {
		snprintf(command->keys[i], KEY_SIZE, "%s%s", s->prefix,
		    call->keys[i]);
		command->words[command->count++] = command->keys[i];
	}
	add_number(command, s->calls);
	add_number(command, call->shift_ms);
	add_number(command, (int64_t)step->arguments);
	for (size_t i = 0; i < step->arguments; i++)
		add_number(command, call->arguments[i]);
	for (size_t i = 0; i < step->texts; i++)
		command->words[command->count++] = call->texts[i];
}

static void
distrust(struct redis_store *s, const redisReply *reply, const char **why)
{
	snprintf(s->why, sizeof(s->why), "%s",
	    reply->type == REDIS_REPLY_ERROR ? reply->str :
	    "a reply to something else");
	redis_distrust(s->redis, s->why);
	*why = s->why;
}

static bool
are_integers(const redisReply *reply, size_t from, size_t count)
{
	if (reply == NULL || reply->type != REDIS_REPLY_ARRAY ||
	    reply->elements < from + count)
		return false;
	for (size_t i = from; i < from + count; i++)
		if (reply->element[i] == NULL ||
		    reply->element[i]->type != REDIS_REPLY_INTEGER)
			return false;
	return true;
}

static bool
is_string(const redisReply *reply)
{
	return reply != NULL && reply->type == REDIS_REPLY_STRING;
}

/*
 * The reply: number of the call, 1 or 0, what else there is; nothing else will
 * do.  YES and NO: the caller frees it.
 */
static enum answer
run_script(struct redis_store *s, const struct store_call *call,
    const char *node, redisReply **reply, const char **why)
{
	const struct redis_script script = { call->step->name, script_head,
		call->step->script, script_tail };
	struct command command;
	int64_t number = ++s->calls;
	long long answer;

	build(&command, s, call);
	*reply = redis_script_run(s->scripts, &script, node,
	    call->step->keys, command.words, command.count, call->deadline,
	    why);
	if (*reply == NULL)
		return ANSWER_UNKNOWN;
	if (are_integers(*reply, 0, 2) &&
	    (*reply)->element[0]->integer == number) {
		answer = (*reply)->element[1]->integer;
		if (answer == 0 || answer == 1)
			return answer == 1 ? ANSWER_YES : ANSWER_NO;
	}
	distrust(s, *reply, why);
	freeReplyObject(*reply);
	return ANSWER_UNKNOWN;
}

static enum answer
redis_store_run(void *state, const struct store_call *call, int64_t *results,
    const char **why)
{
	size_t count = call->step->results;
	enum answer answer;
	redisReply *reply;

	answer = run_script(state, call, NULL, &reply, why);
	if (answer == ANSWER_UNKNOWN)
		return ANSWER_UNKNOWN;
	if (reply->elements == 2 + count && are_integers(reply, 2, count)) {
		for (size_t i = 0; i < count; i++)
			results[i] = reply->element[2 + i]->integer;
	} else {
		distrust(state, reply, why);
		answer = ANSWER_UNKNOWN;
	}
	freeReplyObject(reply);
	return answer;
}

/* The fields of RECORD; the note is the reply's. */
static bool
take_record(const redisReply *reply, size_t from, struct store_record *record)
{
	if (!are_integers(reply, from, RECORD_NOTE) ||
	    reply->elements != from + RECORD_FIELDS ||
	    !is_string(reply->element[from + RECORD_NOTE]))
		return false;
	for (size_t i = 0; i < STORE_VALUES; i++)
		record->values[i] = reply->element[from + i]->integer;
	record->expires_ms = reply->element[from + RECORD_EXPIRES]->integer;
	record->note = reply->element[from + RECORD_NOTE]->str;
	return true;
}

static enum answer
redis_store_read(void *state, const char *key, int64_t shift_ms,
    int64_t deadline, struct store_record *record, char note[],
    const char **why)
{
	const struct store_call call = { .step = &read_step, .keys = &key,
		.shift_ms = shift_ms, .deadline = deadline };
	enum answer answer;
	redisReply *reply;

	answer = run_script(state, &call, NULL, &reply, why);
	if (answer == ANSWER_UNKNOWN)
		return ANSWER_UNKNOWN;
	if (answer == ANSWER_YES && take_record(reply, 2, record)) {
		snprintf(note, STORE_NOTE_MAX + 1, "%s", record->note);
	} else if (answer == ANSWER_YES) {
		distrust(state, reply, why);
		answer = ANSWER_UNKNOWN;
	}
	freeReplyObject(reply);
	return answer;
}

/* The prefix and anything: what a pattern knows of is quoted. */
static void
put_pattern(struct buf *pattern, const char *prefix)
{
	for (; *prefix != '\0'; prefix++) {
		if (strchr("*?[]^\\", *prefix) != NULL)
			buf_putc(pattern, '\\');
		buf_putc(pattern, *prefix);
	}
}

static void
put_row(const struct redis_store *s, const redisReply *fields,
    struct store_page *page)
{
	struct store_page_row *row = &page->rows[page->count];
	size_t skip = strlen(s->prefix);

	if (page->count == STORE_PAGE_ROWS ||
	    !take_record(fields, 1, &row->record) ||
	    !is_string(fields->element[0]) || fields->element[0]->len < skip)
		return;
	row->key = arena_strdup(page->arena, fields->element[0]->str + skip);
	row->record.note = arena_strdup(page->arena, row->record.note);
	page->count++;
}

/* A page of one node; false: that was no page. */
static bool
take_page(const struct redis_store *s, const redisReply *reply,
    struct store_page *page)
{
	const redisReply *rows;

	if (reply->elements != 4 || !is_string(reply->element[2]) ||
	    reply->element[3] == NULL ||
	    reply->element[3]->type != REDIS_REPLY_ARRAY)
		return false;
	rows = reply->element[3];
	for (size_t i = 0; i < rows->elements; i++)
		put_row(s, rows->element[i], page);
	return true;
}

/* from is the name of the node to ask, a NUL, and its cursor. */
static enum answer
scan_node(struct redis_store *s, const char *pattern, int64_t shift_ms,
    struct buf *from, struct store_page *page, const char **why)
{
	const char *node = from->data, *cursor = node + strlen(node) + 1;
	const int64_t count = PAGE_KEYS;
	const char *const texts[] = { cursor, pattern };
	const struct store_call call = { .step = &scan_step,
		.arguments = &count, .texts = texts, .shift_ms = shift_ms,
		.deadline = task_deadline(STORE_SLOW_MS) };
	enum answer answer;
	redisReply *reply;

	answer = run_script(s, &call, node, &reply, why);
	if (answer == ANSWER_UNKNOWN)
		return ANSWER_UNKNOWN;
	if (take_page(s, reply, page)) {
		from->len = strlen(node) + 1;
		buf_puts(from, reply->element[2]->str);
	} else {
		distrust(s, reply, why);
		answer = ANSWER_UNKNOWN;
	}
	freeReplyObject(reply);
	return answer;
}

/* Where to begin with the node behind that one; false: there is none. */
static bool
next_node(struct redis_store *s, struct buf *from)
{
	const char *name = redis_next_node(s->redis, from->len > 0 ?
	    from->data : NULL, task_deadline(STORE_SLOW_MS));

	if (name == NULL)
		return false;
	buf_reset(from);
	buf_append(from, name, strlen(name) + 1);
	buf_puts(from, "0");
	return true;
}

static enum answer
redis_store_scan(void *state, const char *prefix, int64_t shift_ms,
    struct buf *from, struct store_page *page, const char **why)
{
	struct redis_store *s = state;
	struct buf pattern = BUF_INIT;
	enum answer answer;

	*why = "no server is known";
	if (from->len == 0 && !next_node(s, from))
		return ANSWER_UNKNOWN;
	put_pattern(&pattern, s->prefix);
	put_pattern(&pattern, prefix);
	buf_putc(&pattern, '*');
	answer = scan_node(s, pattern.data, shift_ms, from, page, why);
	buf_release(&pattern);
	if (answer != ANSWER_NO)
		return answer;
	return next_node(s, from) ? ANSWER_YES : ANSWER_NO;
}

struct redisReply *
store_redis_eval(void *state, const struct redis_script *script, size_t keys,
    const char *const *words, size_t count, const char **why)
{
	struct redis_store *s = state;
	const char *all[TALLY_WORDS_MAX];
	struct buf names = BUF_INIT;
	size_t at[TALLY_WORDS_MAX];
	redisReply *reply;

	for (size_t i = 0; i < count; i++) {
		at[i] = names.len;
		buf_printf(&names, "%s%s", i < keys ? s->prefix : "",
		    words[i]);
		buf_putc(&names, '\0');
	}
	for (size_t i = 0; i < count; i++)
		all[i] = names.data + at[i];
	reply = redis_script_run(s->scripts, script, NULL, keys, all, count,
	    task_deadline(STORE_SLOW_MS), why);
	buf_release(&names);
	if (reply == NULL || reply->type != REDIS_REPLY_ERROR)
		return reply;
	distrust(s, reply, why);
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
	redis_scripts_free(&s->scripts);
	store_access_release(&s->access);
	free(s->probe_key);
	free(s);
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
	const char *option;

	(void)path;
	if ((s = calloc(1, sizeof(*s))) == NULL)
		fatal("out of memory (redis)");
	buf_printf(&key, "%sprobe", prefix);
	s->store = store;
	s->prefix = prefix;
	s->probe_key = key.data;
	if (store_access_load(conf, &s->access, &option, why) == 0)
		s->redis = redis_new(&(struct redis_settings){
		    .servers = options->server,
		    .sentinel = options->sentinel,
		    .cluster = options->cluster,
		    .access = s->access,
		    .database = options->database,
		    .probe_key = s->probe_key,
		    .away = went_away,
		    .back = came_back,
		    .argument = s,
		}, why);
	if (s->redis != NULL) {
		s->scripts = redis_scripts_new(s->redis);
		return s;
	}
	redis_store_close(s);
	return NULL;
}

const struct store_backend store_redis = {
	.name = "redis",
	.open = redis_store_open,
	.close = redis_store_close,
	.run = redis_store_run,
	.read = redis_store_read,
	.scan = redis_store_scan,
	.tally_add = tally_redis_add,
	.tally_claim = tally_redis_claim,
	.tally_done = tally_redis_done,
	.tally_list = tally_redis_list,
};
