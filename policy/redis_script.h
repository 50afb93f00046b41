/*
 * Scripts that run in Redis: as Functions (Redis 7), else by EVALSHA.  A
 * function's name has a digest of its text, so that the versions of a fleet do
 * not overwrite each other's; a server that does not know it, or the script,
 * is given the text and asked again.
 */
#ifndef POLICY_REDIS_SCRIPT_H
#define POLICY_REDIS_SCRIPT_H

#include <stddef.h>
#include <stdint.h>

struct redis;
struct redisReply;
struct redis_scripts;

struct redis_scripts *redis_scripts_new(struct redis *);
void redis_scripts_free(struct redis_scripts **);

/*
 * Lua that defines local function run(KEYS, ARGV).  What stands outside of it is
 * done once where there are Functions, and at each call else.  The texts are
 * static: a body tells it from others.
 */
struct redis_script {
	const char *name;
	const char *head, *body, *tail;
};

#define REDIS_SCRIPT_WORDS 40

/*
 * Runs it: the first words are keys, at the node that has the first one, or,
 * if it has no keys and only reads, at the node of that name.  The reply and
 * *why are redis_command()'s.
 */
struct redisReply *redis_script_run(struct redis_scripts *,
    const struct redis_script *, const char *node, size_t keys,
    const char *const *words, size_t count, int64_t deadline,
    const char **why);

#endif
