/* What was taken already: a table of fixed size, with a few places a hash. */
#include "policy/limit_past.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/task.h"
#include "policy/limit_count.h"
#include "policy/subject.h"

#define SETS		4096		/* at most 65536 */
#define WAYS		4

struct taken {
	struct limit_past_key key;
	int64_t taken;
	int64_t until;			/* task.h; 0: nothing is here */
};

struct limit_past {
	struct taken sets[SETS][WAYS];
};

struct limit_past *
limit_past_new(void)
{
	struct limit_past *past = calloc(1, sizeof(*past));

	if (past == NULL)
		fatal("out of memory (limit)");
	return past;
}

void
limit_past_free(struct limit_past **past)
{
	free(*past);
	*past = NULL;
}

struct limit_past_key
limit_past_key(const char *subject, const char *message,
    const char *recipient)
{
	const char *const texts[] = { subject, message, recipient };
	struct limit_past_key key = { { 0 } };

	subject_bytes(texts, 3, false, key.digest);
	return key;
}

static size_t
set_of(const struct limit_past_key *key)
{
	return (size_t)(key->digest[0] | key->digest[1] << 8) % SETS;
}

static bool
is_of(const struct taken *taken, const struct limit_past_key *key)
{
	return taken->until > task_now() &&
	    memcmp(&taken->key, key, sizeof(*key)) == 0;
}

int64_t
limit_past_get(const struct limit_past *past,
    const struct limit_past_key *key)
{
	const struct taken *set = past->sets[set_of(key)];

	for (size_t i = 0; i < WAYS; i++)
		if (is_of(&set[i], key))
			return set[i].taken;
	return 0;
}

/* In place of what it was, or of the oldest. */
void
limit_past_put(struct limit_past *past, const struct limit_past_key *key,
    int64_t taken)
{
	struct taken *set = past->sets[set_of(key)], *place = set;

	for (size_t i = 0; i < WAYS; i++) {
		if (is_of(&set[i], key)) {
			place = &set[i];
			break;
		}
		if (set[i].until < place->until)
			place = &set[i];
	}
	*place = (struct taken){ *key, taken, task_deadline(LIMIT_LEASE_MS) };
}
