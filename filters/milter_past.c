/* Connections of libmilter, by their contexts. */
#include "filters/milter_past.h"

#include <pthread.h>
#include <stddef.h>

#define SETS 512
#define WAYS 8

static struct entry {
	const void *context;
	struct milter_past past;
	uint64_t used;			/* later is more */
} sets[SETS][WAYS];
static uint64_t clock_ticks;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct entry *
set_of(const void *context)
{
	uint64_t hash = (uint64_t)(uintptr_t)context *
	    UINT64_C(0x9e3779b97f4a7c15);

	return sets[(hash >> 32) % SETS];
}

/* Its entry; or, to be made its, the one that is used the least. */
static struct entry *
entry_of(const void *context)
{
	struct entry *set = set_of(context), *entry = set;

	for (size_t i = 0; i < WAYS; i++) {
		if (set[i].context == context)
			return &set[i];
		if (set[i].used < entry->used)
			entry = &set[i];
	}
	return entry;
}

void
milter_past_keep(const void *context, struct milter_past past)
{
	struct entry *entry;

	pthread_mutex_lock(&lock);
	entry = entry_of(context);
	*entry = (struct entry){ context, past, ++clock_ticks };
	pthread_mutex_unlock(&lock);
}

bool
milter_past_find(const void *context, struct milter_past *past)
{
	struct entry *entry;
	bool found;

	pthread_mutex_lock(&lock);
	entry = entry_of(context);
	found = entry->context == context;
	if (found) {
		*past = entry->past;
		entry->used = ++clock_ticks;
	}
	pthread_mutex_unlock(&lock);
	return found;
}
