#include "policy/redis_script.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "policy/redis.h"

#define SCRIPTS_MAX	64
#define NAME_SIZE	64
#define SHA1_HEX	40
#define DIGEST_HEX	16		/* of it in a function's name */

struct script {
	const char *body;
	struct buf text, function_text;
	char sha1[SHA1_HEX + 1];
	char function[NAME_SIZE];
};

struct redis_scripts {
	struct redis *redis;
	bool no_functions;
	struct script list[SCRIPTS_MAX];
	size_t count;
};

struct redis_scripts *
redis_scripts_new(struct redis *redis)
{
	struct redis_scripts *scripts;

	if ((scripts = calloc(1, sizeof(*scripts))) == NULL)
		fatal("out of memory (redis)");
	scripts->redis = redis;
	return scripts;
}

void
redis_scripts_free(struct redis_scripts **scriptsp)
{
	struct redis_scripts *scripts = *scriptsp;

	*scriptsp = NULL;
	if (scripts == NULL)
		return;
	for (size_t i = 0; i < scripts->count; i++) {
		buf_release(&scripts->list[i].text);
		buf_release(&scripts->list[i].function_text);
	}
	free(scripts);
}

static void
hash(struct script *script)
{
	unsigned char digest[EVP_MAX_MD_SIZE];

	if (EVP_Digest(script->text.data, script->text.len, digest, NULL,
	    EVP_sha1(), NULL) != 1)
		fatal("redis: no SHA-1");
	for (size_t i = 0; i < SHA1_HEX / 2; i++)
		snprintf(script->sha1 + 2 * i, 3, "%02x", digest[i]);
}

/*
 * A name of letters, digits and "_".  What has no keys looks at a node's own
 * keys, of whatever slots.
 */
static void
wrap(struct script *script, const char *name, size_t defined, bool keys)
{
	char digest[DIGEST_HEX + 1];

	memcpy(digest, script->sha1, DIGEST_HEX);
	digest[DIGEST_HEX] = '\0';
	snprintf(script->function, NAME_SIZE, "millgate_%.32s_%s", name,
	    digest);
	for (char *c = script->function; *c != '\0'; c++)
		if (strchr("-.: ", *c) != NULL)
			*c = '_';
	buf_printf(&script->function_text, "#!lua name=%s\n%.*s"
	    "redis.register_function{function_name='%s',\n"
	    "%scallback=run}\n", script->function, (int)defined,
	    script->text.data, script->function, keys ? "" :
	    "flags={'no-writes', 'allow-cross-slot-keys'},\n");
}

static const struct script *
find(struct redis_scripts *scripts, const struct redis_script *wanted,
    bool keys)
{
	struct script *script;
	size_t defined;

	for (size_t i = 0; i < scripts->count; i++)
		if (scripts->list[i].body == wanted->body)
			return &scripts->list[i];
	if (scripts->count == SCRIPTS_MAX)
		fatal("redis: more than %d scripts", SCRIPTS_MAX);
	script = &scripts->list[scripts->count++];
	script->body = wanted->body;
	buf_puts(&script->text, wanted->head);
	buf_puts(&script->text, wanted->body);
	buf_puts(&script->text, wanted->tail);
	defined = script->text.len;
	buf_puts(&script->text, "return run(KEYS, ARGV)\n");
	hash(script);
	wrap(script, wanted->name, defined, keys);
	return script;
}

/* Redis before 7, or an access list without FCALL and FUNCTION LOAD. */
static bool
cannot(const redisReply *reply)
{
	return redis_says(reply, "NOPERM") ||
	    redis_says(reply, "ERR unknown command");
}

/* NULL if the function is there now; else what became of it instead. */
static redisReply *
load(struct redis_scripts *scripts, const struct script *script,
    struct redis_request request, const char **why, bool *loaded)
{
	redisReply *reply;

	request.words = (const char *[]){ "FUNCTION", "LOAD",
		script->function_text.data };
	request.count = 3;
	reply = redis_command(scripts->redis, &request, why);
	/* Another process of ours may have been faster. */
	*loaded = reply != NULL && (reply->type != REDIS_REPLY_ERROR ||
	    strstr(reply->str, "already exists") != NULL);
	if (!*loaded)
		return reply;
	freeReplyObject(reply);
	return NULL;
}

static redisReply *
call_function(struct redis_scripts *scripts, const struct script *script,
    struct redis_request *request, const char **words, const char **why)
{
	redisReply *reply;
	bool loaded;

	words[0] = "FCALL";
	words[1] = script->function;
	reply = redis_command(scripts->redis, request, why);
	if (!redis_says(reply, "ERR Function not found"))
		return reply;
	freeReplyObject(reply);
	reply = load(scripts, script, *request, why, &loaded);
	return loaded ? redis_command(scripts->redis, request, why) : reply;
}

static redisReply *
call_script(struct redis_scripts *scripts, const struct script *script,
    struct redis_request *request, const char **words, const char **why)
{
	redisReply *reply;

	words[0] = "EVALSHA";
	words[1] = script->sha1;
	reply = redis_command(scripts->redis, request, why);
	if (!redis_says(reply, "NOSCRIPT"))
		return reply;
	freeReplyObject(reply);
	words[0] = "EVAL";
	words[1] = script->text.data;
	return redis_command(scripts->redis, request, why);
}

struct redisReply *
redis_script_run(struct redis_scripts *scripts,
    const struct redis_script *wanted, const char *node, size_t keys,
    const char *const *words, size_t count, int64_t deadline,
    const char **why)
{
	const struct script *script = find(scripts, wanted, keys > 0);
	const char *all[3 + REDIS_SCRIPT_WORDS];
	struct redis_request request = { .key = keys > 0 ? words[0] : NULL,
		.node = node, .words = all, .count = (int)count + 3,
		.deadline = deadline };
	char number[24];
	redisReply *reply;

	assert(count <= REDIS_SCRIPT_WORDS);
	snprintf(number, sizeof(number), "%zu", keys);
	all[2] = number;
	memcpy(&all[3], words, count * sizeof(words[0]));
	if (!scripts->no_functions) {
		reply = call_function(scripts, script, &request, all, why);
		if (!cannot(reply))
			return reply;
		if (!scripts->no_functions)
			log_warn(NULL, "store=redis: without functions, by "
			    "EVALSHA: %s", reply->str);
		scripts->no_functions = true;
		freeReplyObject(reply);
	}
	return call_script(scripts, script, &request, all, why);
}
