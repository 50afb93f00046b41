/* millgatectl greylist show|forget. */
#include "policy/greylist_command.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "policy/greylist.h"
#include "policy/lifetime.h"
#include "policy/store.h"

#define FORGET_MAX	100000	/* records of a network at a time */

/* In a record of either kind, greylist.h. */
enum { SINCE, PASSED, COUNT = SINCE };

static const char usage[] =
    "greylist show [CLIENT [SENDER RECIPIENT]], or greylist forget CLIENT "
    "[SENDER RECIPIENT]; CLIENT: an address or user:NAME";

/* --- show --- */

struct counts {
	size_t waiting, passed, networks;
};

/* A triplet's key has something behind its group. */
static int
count_record(void *argument, const char *key,
    const struct store_record *record)
{
	struct counts *counts = argument;

	if (strstr(key, "}:") == NULL)
		counts->networks++;
	else if (record->values[PASSED] == 0)
		counts->waiting++;
	else
		counts->passed++;
	return 0;
}

static int
show_counts(struct store *store, struct buf *out, const char **why)
{
	struct counts counts = { 0 };

	if (store_scan(store, "grey:", count_record, &counts, why) ==
	    ANSWER_UNKNOWN)
		return -1;
	buf_printf(out, "%zu wait or did not come back\n%zu have passed\n"
	    "%zu networks have passed\n", counts.waiting, counts.passed,
	    counts.networks);
	return 0;
}

static void
show_network(struct buf *out, const struct greylist_options *o,
    const struct store_record *record, enum answer known)
{
	int64_t count = known == ANSWER_YES ? record->values[COUNT] : 0;

	buf_printf(out, "network: %" PRId64 " passed", count);
	if (o->auto_whitelist > 0 && count >= o->auto_whitelist)
		buf_puts(out, ", which is enough to be let through");
	else if (o->auto_whitelist > 0)
		buf_printf(out, ", is let through from %" PRId64 " on",
		    o->auto_whitelist);
	buf_putc(out, '\n');
}

static void
show_triplet(struct buf *out, const struct greylist_options *o,
    const struct store_record *record, enum answer known)
{
	int64_t now = clock_wall_ms();

	if (known == ANSWER_NO) {
		buf_puts(out, "sender and recipient: not seen\n");
		return;
	}
	if (record->values[PASSED] != 0) {
		buf_puts(out, "sender and recipient: passed ");
		lifetime_print(out, now - record->values[PASSED]);
		buf_puts(out, " ago");
	} else if (record->values[SINCE] + o->delay > now) {
		buf_puts(out, "sender and recipient: has to wait ");
		lifetime_print(out, record->values[SINCE] + o->delay - now);
	} else {
		buf_puts(out, "sender and recipient: may come back");
	}
	buf_puts(out, ", known for ");
	lifetime_print(out, record->expires_ms - now);
	buf_putc(out, '\n');
}

static int
show(const struct greylist *greylist, struct store *store,
    const struct greylist_keys *keys, bool triplet, struct buf *out,
    const char **why)
{
	const struct greylist_options *o = greylist_options(greylist);
	char note[STORE_NOTE_MAX + 1];
	struct store_record record;
	enum answer known;

	known = store_read(store, keys->network, &record, note, why);
	if (known == ANSWER_UNKNOWN)
		return -1;
	show_network(out, o, &record, known);
	if (!triplet)
		return 0;
	known = store_read(store, keys->triplet, &record, note, why);
	if (known == ANSWER_UNKNOWN)
		return -1;
	show_triplet(out, o, &record, known);
	return 0;
}

/* --- forget --- */

struct found {
	struct buf keys;		/* each ended by NUL */
	size_t count;
};

static int
find_record(void *argument, const char *key,
    const struct store_record *record)
{
	struct found *found = argument;

	(void)record;
	buf_append(&found->keys, key, strlen(key) + 1);
	return ++found->count == FORGET_MAX;
}

/* -1, or how many there were. */
static int
forget_one(struct store *store, const char *key, const char **why)
{
	switch (store_forget(store, key, why)) {
	case ANSWER_YES:
		return 1;
	case ANSWER_NO:
		return 0;
	case ANSWER_UNKNOWN:
		break;
	}
	return -1;
}

static int
forget_network(struct store *store, const char *network, const char **why)
{
	struct found found = { BUF_INIT, 0 };
	int rc = 0, total = 0;

	if (store_scan(store, network, find_record, &found, why) ==
	    ANSWER_UNKNOWN)
		rc = -1;
	for (size_t at = 0; at < found.keys.len && rc >= 0;
	    at += strlen(found.keys.data + at) + 1) {
		rc = forget_one(store, found.keys.data + at, why);
		total += rc;
	}
	buf_release(&found.keys);
	return rc < 0 ? -1 : total;
}

static int
forget(struct store *store, const struct greylist_keys *keys, bool triplet,
    struct buf *out, const char **why)
{
	int count = triplet ? forget_one(store, keys->triplet, why) :
	    forget_network(store, keys->network, why);

	if (count < 0)
		return -1;
	buf_printf(out, "%d forgotten\n", count);
	return 0;
}

/* --- both --- */

static struct greylist_request
make_request(const char *const *words, size_t count)
{
	struct greylist_request request = { 0 };

	if (strncmp(words[2], "user:", 5) == 0)
		request.identity = words[2] + 5;
	else
		request.client_address = words[2];
	if (count == 5) {
		request.sender = strcmp(words[3], "<>") == 0 ? "" : words[3];
		request.recipient = words[4];
	}
	return request;
}

int
greylist_command(const struct policy_instance *instances, size_t count,
    struct store *store, const char *const *words, size_t word_count,
    struct buf *out, const char **why)
{
	const char *word = word_count > 1 ? words[1] : "";
	bool shows = strcmp(word, "show") == 0;
	struct greylist_request request;
	struct greylist_keys keys;

	*why = usage;
	if (shows && word_count == 2)
		return show_counts(store, out, why);
	if ((!shows && strcmp(word, "forget") != 0) || count == 0 ||
	    (word_count != 3 && word_count != 5))
		return -2;
	request = make_request(words, word_count);
	if (!greylist_keys_find(instances[0].instance, &request, &keys)) {
		*why = "the client is neither an address nor user:NAME";
		return -1;
	}
	return shows ? show(instances[0].instance, store, &keys,
	    word_count == 5, out, why) : forget(store, &keys,
	    word_count == 5, out, why);
}
