/*
 * Tallies on Redis.  The texts of a subject are in one hash slot, {subject}: a
 * hash that is open, and one that was claimed.  Which tallies there are, when
 * they are due and who has one, is in another, {tallies}: two sorted sets of
 * "subject begin".  Each step is one script, with the server's clock.
 */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "policy/redis_script.h"
#include "policy/store_tally.h"

#define DUE	"tally:{tallies}:due"
#define LEASE	"tally:{tallies}:lease"
#define PART	25			/* names and values: twice as many */
#define NAME_SIZE 512
#define NUMBER_SIZE 24

/* The whole of a script is its function. */
#define RUN	"local function run(KEYS, ARGV)\n"
#define END	"end\n"

#define NOW "local t = redis.call('TIME')\n"				\
	"local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

/* Keys: due.  Name, when, how many there may be. */
static const struct redis_script enter_script = { "tally_enter", RUN,
    "if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 1 end\n"
    "if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end\n"
    "redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])\n"
    "return 1\n", END };

/* Keys: open.  Head, row, count, most fields, lifetime. */
static const struct redis_script add_script = { "tally_add", RUN,
    "local new = redis.call('EXISTS', KEYS[1]) == 0\n"
    "redis.call('HSET', KEYS[1], 'head', ARGV[1])\n"
    "redis.call('PEXPIRE', KEYS[1], ARGV[5])\n"
    "local row = 'r' .. ARGV[2]\n"
    "if redis.call('HEXISTS', KEYS[1], row) == 0 and\n"
    "  redis.call('HLEN', KEYS[1]) - redis.call('HEXISTS', KEYS[1], 'lost')\n"
    "  > tonumber(ARGV[4]) then\n"
    "  redis.call('HINCRBY', KEYS[1], 'lost', ARGV[3])\n"
    "  return 0\n"
    "end\n"
    "redis.call('HINCRBY', KEYS[1], row, ARGV[3])\n"
    "return new and 2 or 1\n", END };

/* Keys: due, lease.  Subject or "", 1 if even what is not due, lease, keep,
 * shift of the clock. */
static const struct redis_script pick_script = { "tally_pick", RUN,
    NOW
    "now = now + ARGV[5]\n"
    "local subject = ARGV[1]\n"
    "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[4])\n"
    "redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)\n"
    "local limit = ARGV[2] == '1' and '+inf' or now\n"
    "for _, m in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', limit)) do\n"
    "  if (subject == '' or m:sub(1, #subject + 1) == subject .. ' ') and\n"
    "    not redis.call('ZSCORE', KEYS[2], m) then\n"
    "    redis.call('ZADD', KEYS[2], now + ARGV[3], m)\n"
    "    return m\n"
    "  end\n"
    "end\n"
    "return ''\n", END };

/*
 * Keys: open, claimed.  How many fields there are; a reply may have but few
 * elements (redis.c), so that they are read in parts.
 */
static const struct redis_script close_script = { "tally_close", RUN,
    NOW
    "if redis.call('EXISTS', KEYS[2]) == 0 then\n"
    "  if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end\n"
    "  redis.call('RENAME', KEYS[1], KEYS[2])\n"
    "  redis.call('HSET', KEYS[2], 'id', string.format('%.0f', now))\n"
    "end\n"
    "return redis.call('HLEN', KEYS[2])\n", END };

/* Keys: claimed.  From which field on, how many; in order of their names. */
static const struct redis_script read_script = { "tally_read", RUN,
    "local names, some = redis.call('HKEYS', KEYS[1]), {}\n"
    "table.sort(names)\n"
    "for i = ARGV[1] + 1, math.min(ARGV[1] + ARGV[2], #names) do\n"
    "  some[#some + 1] = names[i]\n"
    "  some[#some + 1] = redis.call('HGET', KEYS[1], names[i])\n"
    "end\n"
    "return some\n", END };

/* Keys: open, claimed.  Id.  1 if the open one has begun again. */
static const struct redis_script done_script = { "tally_done", RUN,
    "if redis.call('HGET', KEYS[2], 'id') == ARGV[1] then\n"
    "  redis.call('DEL', KEYS[2])\n"
    "end\n"
    "return redis.call('EXISTS', KEYS[1])\n", END };

/* Keys: due, lease.  Name, 1 if it stays. */
static const struct redis_script leave_script = { "tally_leave", RUN,
    "redis.call('ZREM', KEYS[2], ARGV[1])\n"
    "if ARGV[2] ~= '1' then redis.call('ZREM', KEYS[1], ARGV[1]) end\n"
    "return 1\n", END };

/* Keys: due.  From which on, how many. */
static const struct redis_script list_script = { "tally_list", RUN,
    "return redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[1] + ARGV[2] - 1,\n"
    "  'WITHSCORES')\n", END };

struct names {
	char open[NAME_SIZE], claimed[NAME_SIZE], member[NAME_SIZE];
};

static void
name(struct names *names, const char *subject, int64_t begin_ms)
{
	long long begin = (long long)begin_ms;

	/* cppcheck-suppress ctuuninitvar ; it is set here */
	snprintf(names->open, NAME_SIZE, "tally:{%.300s}:%lld", subject,
	    begin);
	snprintf(names->claimed, NAME_SIZE, "tally:{%.300s}:%lld:claimed",
	    subject, begin);
	snprintf(names->member, NAME_SIZE, "%.300s %lld", subject, begin);
}

static const char *
number(int64_t value, char text[NUMBER_SIZE])
{
	snprintf(text, NUMBER_SIZE, "%lld", (long long)value);
	return text;
}

/* A script that returns a number; -1: *why. */
static long long
eval_number(void *state, const struct redis_script *script, size_t keys,
    const char *const *words, size_t count, const char **why)
{
	redisReply *reply = store_redis_eval(state, script, keys, words, count,
	    why);
	long long value = -1;

	if (reply == NULL)
		return -1;
	if (reply->type == REDIS_REPLY_INTEGER)
		value = reply->integer;
	else
		*why = "a reply that makes no sense";
	freeReplyObject(reply);
	return value;
}

static long long
enter(void *state, const struct names *names, int64_t due_ms, int64_t most,
    const char **why)
{
	char due[NUMBER_SIZE], max[NUMBER_SIZE];

	return eval_number(state, &enter_script, 1, (const char *[]){ DUE,
	    names->member, number(due_ms, due), number(most, max) }, 4, why);
}

/*
 * The list is told first, so that no text is kept that nobody would find.  One
 * that another process has just finished and taken off it is entered again.
 */
enum answer
tally_redis_add(void *state, const struct store_tally *t, const char **why)
{
	char count[NUMBER_SIZE], most[NUMBER_SIZE], life[NUMBER_SIZE];
	struct names names;
	long long rc;

	name(&names, t->subject, t->begin_ms);
	rc = enter(state, &names, t->due_ms, STORE_TALLIES, why);
	if (rc == 0)
		*why = "too many subjects";
	if (rc != 1)
		return rc == 0 ? ANSWER_NO : ANSWER_UNKNOWN;
	rc = eval_number(state, &add_script, 1, (const char *[]){ names.open,
	    t->head, t->row, number(t->count, count),
	    number(STORE_TALLY_ROWS, most), number(t->due_ms - t->begin_ms +
	    STORE_TALLY_KEEP_MS, life) }, 6, why);
	if (rc == 2 && enter(state, &names, t->due_ms, INT64_MAX, why) < 0)
		return ANSWER_UNKNOWN;
	return rc > 0 ? ANSWER_YES : rc == 0 ? ANSWER_NO : ANSWER_UNKNOWN;
}

/* What a claimed hash holds, as far as it was read. */
struct claimed {
	struct buf head, id, lost, rows;
};

static void
put_fields(struct claimed *claimed, const redisReply *reply)
{
	for (size_t i = 0; i + 1 < reply->elements; i += 2) {
		const char *field = reply->element[i]->str;
		const char *value = reply->element[i + 1]->str;

		if (field == NULL || value == NULL)
			continue;
		if (field[0] == 'r')
			buf_printf(&claimed->rows, "%s\t%s\n", value,
			    field + 1);
		else if (strcmp(field, "head") == 0)
			buf_puts(&claimed->head, value);
		else if (strcmp(field, "id") == 0)
			buf_puts(&claimed->id, value);
		else if (strcmp(field, "lost") == 0)
			buf_puts(&claimed->lost, value);
	}
}

static enum answer
read_fields(void *state, const struct names *names, long long count,
    struct claimed *claimed, const char **why)
{
	char from[NUMBER_SIZE], most[NUMBER_SIZE];
	redisReply *reply;

	for (long long i = 0; i < count; i += PART) {
		reply = store_redis_eval(state, &read_script, 1,
		    (const char *[]){ names->claimed, number(i, from),
		    number(PART, most) }, 3, why);
		if (reply == NULL)
			return ANSWER_UNKNOWN;
		if (reply->type == REDIS_REPLY_ARRAY)
			put_fields(claimed, reply);
		freeReplyObject(reply);
	}
	*why = "a claimed tally is not whole";
	return claimed->id.len > 0 && claimed->head.data != NULL ?
	    ANSWER_YES : ANSWER_UNKNOWN;
}

static enum answer
leave(void *state, const struct names *names, bool stays, const char **why)
{
	return eval_number(state, &leave_script, 2, (const char *[]){ DUE,
	    LEASE, names->member, stays ? "1" : "0" }, 4, why) == 1 ?
	    ANSWER_YES : ANSWER_UNKNOWN;
}

/* NO: there was nothing under that name any more. */
static enum answer
take(void *state, const char *subject, int64_t begin_ms, struct buf *text,
    const char **why)
{
	struct claimed claimed = { BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT };
	struct names names;
	enum answer answer;
	long long count;

	name(&names, subject, begin_ms);
	count = eval_number(state, &close_script, 2, (const char *[]){
	    names.open, names.claimed }, 2, why);
	if (count < 0)
		return ANSWER_UNKNOWN;
	if (count == 0)
		return leave(state, &names, false, why) == ANSWER_YES ?
		    ANSWER_NO : ANSWER_UNKNOWN;
	answer = read_fields(state, &names, count, &claimed, why);
	if (answer == ANSWER_YES)
		buf_printf(text, "%s\t%lld\t%s\t%s\n%s\n%s", subject,
		    (long long)begin_ms, claimed.id.data,
		    claimed.lost.len > 0 ? claimed.lost.data : "0",
		    claimed.head.data,
		    claimed.rows.len > 0 ? claimed.rows.data : "");
	buf_release(&claimed.head);
	buf_release(&claimed.id);
	buf_release(&claimed.lost);
	buf_release(&claimed.rows);
	return answer;
}

enum answer
tally_redis_claim(void *state, const char *subject, bool now,
    int64_t lease_ms, int64_t shift_ms, struct buf *text, const char **why)
{
	char lease[NUMBER_SIZE], keep[NUMBER_SIZE], shift[NUMBER_SIZE];
	enum answer answer = ANSWER_NO;
	redisReply *reply;
	char *blank;

	while (answer == ANSWER_NO) {
		reply = store_redis_eval(state, &pick_script, 2,
		    (const char *[]){ DUE, LEASE,
		    subject != NULL ? subject : "", now ? "1" : "0",
		    number(lease_ms, lease), number(STORE_TALLY_KEEP_MS, keep),
		    number(shift_ms, shift) }, 7, why);
		if (reply == NULL)
			return ANSWER_UNKNOWN;
		blank = reply->str != NULL ? strchr(reply->str, ' ') : NULL;
		if (blank == NULL) {
			freeReplyObject(reply);
			return ANSWER_NO;
		}
		*blank = '\0';
		answer = take(state, reply->str, strtoll(blank + 1, NULL, 10),
		    text, why);
		freeReplyObject(reply);
	}
	return answer;
}

enum answer
tally_redis_done(void *state, const char *subject, int64_t begin_ms,
    int64_t id, const char **why)
{
	struct names names;
	char text[NUMBER_SIZE];
	long long again;

	name(&names, subject, begin_ms);
	again = eval_number(state, &done_script, 2, (const char *[]){
	    names.open, names.claimed, number(id, text) }, 3, why);
	return again < 0 ? ANSWER_UNKNOWN :
	    leave(state, &names, again == 1, why);
}

static void
put_members(struct buf *text, const redisReply *reply)
{
	for (size_t i = 0; i + 1 < reply->elements; i += 2) {
		char *member = reply->element[i]->str, *blank;

		if (member == NULL || (blank = strchr(member, ' ')) == NULL)
			continue;
		*blank = '\t';
		buf_printf(text, "%s\t%.0f\n", member,
		    strtod(reply->element[i + 1]->str, NULL));
	}
}

enum answer
tally_redis_list(void *state, struct buf *text, const char **why)
{
	char from[NUMBER_SIZE], most[NUMBER_SIZE];
	redisReply *reply;
	bool more = true;

	for (int i = 0; more && i < TALLY_LIST_MAX; i += PART) {
		reply = store_redis_eval(state, &list_script, 1,
		    (const char *[]){ DUE, number(i, from),
		    number(PART, most) }, 3, why);
		if (reply == NULL)
			return ANSWER_UNKNOWN;
		put_members(text, reply);
		more = reply->elements == 2 * PART;
		freeReplyObject(reply);
	}
	return ANSWER_YES;
}
