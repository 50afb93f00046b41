/* Look-ups of public keys (RFC 6376, 6.1.2), each in a task of its own. */
#include "filters/key_lookup.h"

#include <string.h>

#include "base/arena.h"
#include "base/dns.h"
#include "base/task.h"
#include "filters/dkim_signature.h"

/* Whoever lets go last, the owner or a task, frees them. */
struct key_lookups {
	struct arena *arena;
	size_t holders;
	size_t running;
	struct task_cond done;
	int64_t deadline;
	struct key_lookup *first;
	struct asker *askers, **last_asker;
};

struct asker {
	struct dkim_signature *signature;
	const struct key_lookup *lookup;
	struct asker *next;
};

struct key_lookup {
	struct key_lookups *all;
	const char *name;
	const struct dns_answer *answer;	/* NULL: not yet */
	struct key_lookup *next;
};

struct key_lookups *
key_lookups_new(int64_t deadline)
{
	struct arena *arena = arena_new(0);
	struct key_lookups *lookups = arena_alloc(arena, sizeof(*lookups));

	lookups->arena = arena;
	lookups->holders = 1;
	lookups->deadline = deadline;
	lookups->last_asker = &lookups->askers;
	return lookups;
}

void
key_lookups_free(struct key_lookups **lookupsp)
{
	struct key_lookups *lookups = *lookupsp;
	struct arena *arena;

	*lookupsp = NULL;
	if (lookups == NULL || --lookups->holders > 0)
		return;
	arena = lookups->arena;
	arena_free(&arena);	/* holds lookups, too */
}

static void
look_up(void *argument)
{
	struct key_lookup *lookup = argument;
	struct key_lookups *all = lookup->all;

	lookup->answer = dns_query(all->arena, lookup->name, DNS_TXT,
	    all->deadline);
	all->running--;
	task_cond_broadcast(&all->done);
	key_lookups_free(&all);
}

static struct key_lookup *
start(struct key_lookups *all, const struct dkim_signature *signature)
{
	const char *name = arena_printf(all->arena, "%s._domainkey.%s",
	    signature->selector, signature->domain);
	struct key_lookup *lookup;

	for (lookup = all->first; lookup != NULL; lookup = lookup->next)
		if (strcmp(lookup->name, name) == 0)
			return lookup;
	lookup = arena_alloc(all->arena, sizeof(*lookup));
	lookup->all = all;
	lookup->name = name;
	lookup->next = all->first;
	all->first = lookup;
	all->holders++;
	all->running++;
	task_detach("key", look_up, lookup);
	return lookup;
}

void
key_lookups_ask(struct key_lookups *all, struct dkim_signature *signature)
{
	struct asker *asker;

	if (signature->result != NULL)
		return;
	asker = arena_alloc(all->arena, sizeof(*asker));
	asker->signature = signature;
	asker->lookup = start(all, signature);
	*all->last_asker = asker;
	all->last_asker = &asker->next;
}

/* RFC 6376, 6.1.2: no key, or several records, is final; silence is not. */
static const char *
result(const struct key_lookup *lookup, const char **record,
    size_t *len, const char **why)
{
	const struct dns_answer *answer = lookup->answer;

	if (answer == NULL || answer->status == DNS_FAILED) {
		*why = "the key's look-up failed";
		return "temperror";
	}
	if (answer->status != DNS_FOUND || answer->count == 0) {
		*why = "no key for signature";
		return "permerror";
	}
	if (answer->count > 1) {
		*why = "several key records";
		return "permerror";
	}
	*record = answer->records[0].text;
	*len = answer->records[0].text_len;
	return NULL;
}

void
key_lookups_take(struct key_lookups *all, int64_t deadline,
    key_lookups_give_f *give, void *argument)
{
	const char *record;
	size_t len;

	while (all->running > 0)
		if (task_cond_wait(&all->done, deadline) == -1)
			break;
	for (const struct asker *a = all->askers; a != NULL; a = a->next) {
		a->signature->result = result(a->lookup, &record, &len,
		    &a->signature->reason);
		if (a->signature->result == NULL)
			give(argument, a->signature, record, len);
	}
}
