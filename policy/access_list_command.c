/* millgatectl list add|remove|show. */
#include "policy/access_list_command.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "policy/access_list.h"
#include "policy/access_list_entry.h"
#include "policy/lifetime.h"
#include "policy/store.h"

#define SHOWN_MAX	10000

static const char usage[] =
    "list show [NAME], list remove NAME ENTRY, or list add NAME ENTRY "
    "[for DURATION] [from NETWORK] [because TEXT]";

/* NULL: there is none of that name. */
static const struct policy_instance *
find_list(const struct policy_instance *instances, size_t count,
    const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(instances[i].name, name) == 0)
			return &instances[i];
	return NULL;
}

/* --- add, remove --- */

struct addition {
	int64_t lifetime_ms;
	char networks[ACCESS_ENTRY_SIZE];
	struct buf comment;
};

/* The words behind the entry. */
static int
parse_addition(struct addition *addition, const char *const *words,
    size_t count, const char **why)
{
	for (size_t i = 0; i < count; i += 2) {
		if (strcmp(words[i], "because") == 0) {
			while (++i < count)
				buf_printf(&addition->comment, "%s%s",
				    addition->comment.len > 0 ? " " : "",
				    words[i]);
			return 0;
		}
		*why = usage;
		if (i + 1 == count)
			return -2;
		if (strcmp(words[i], "for") == 0) {
			if (lifetime_parse(words[i + 1],
			    &addition->lifetime_ms, why) != 0)
				return -1;
		} else if (strcmp(words[i], "from") == 0) {
			if (access_network_normalize(words[i + 1],
			    addition->networks, why) != 0)
				return -1;
		} else {
			return -2;
		}
	}
	return 0;
}

/* Control characters have no place in a log line or on a terminal. */
static const char *
comment_text(struct buf *comment)
{
	for (size_t i = 0; i < comment->len; i++)
		if ((unsigned char)comment->data[i] < ' ' ||
		    comment->data[i] == '\x7f')
			comment->data[i] = ' ';
	if (comment->len > STORE_NOTE_MAX - ACCESS_ENTRY_SIZE)
		comment->data[STORE_NOTE_MAX - ACCESS_ENTRY_SIZE] = '\0';
	return comment->len > 0 ? comment->data : "";
}

/* Else the entry would speak of more than its author means. */
static int
check_addition(const struct policy_instance *list,
    const struct addition *addition, const char **why)
{
	if (addition->networks[0] == '\0' ||
	    access_list_action(list->instance) == ACCESS_ALLOW)
		return 0;
	*why = "from NETWORK is for lists with action = allow";
	return -1;
}

static int
add(const struct policy_instance *list, struct store *store,
    const char *const *words, size_t count, struct buf *out, const char **why)
{
	struct addition addition = { .comment = BUF_INIT };
	char entry[ACCESS_ENTRY_SIZE];
	int rc;

	if ((rc = access_entry_normalize(words[3], entry, why)) == 0 &&
	    (rc = parse_addition(&addition, words + 4, count - 4, why)) == 0)
		rc = check_addition(list, &addition, why);
	if (rc == 0 && access_list_add(store, words[2], entry,
	    addition.lifetime_ms, addition.networks,
	    comment_text(&addition.comment), why) != ANSWER_YES)
		rc = -1;
	if (rc == 0)
		buf_printf(out, "%s: %s added\n", words[2], entry);
	buf_release(&addition.comment);
	return rc;
}

static int
remove_entry(struct store *store, const char *const *words, struct buf *out,
    const char **why)
{
	char entry[ACCESS_ENTRY_SIZE];

	if (access_entry_normalize(words[3], entry, why) != 0)
		return -1;
	switch (access_list_remove(store, words[2], entry, why)) {
	case ANSWER_YES:
		buf_printf(out, "%s: %s removed\n", words[2], entry);
		return 0;
	case ANSWER_NO:
		*why = "it is not there; those of the configuration stay";
		return -1;
	case ANSWER_UNKNOWN:
		break;
	}
	return -1;
}

/* --- show --- */

struct listing {
	struct buf *out;
	size_t count;
};

/* list:{NAME}:entry */
static int
show_record(void *argument, const char *key, const struct store_record *record)
{
	struct listing *listing = argument;
	const char *name = strchr(key, '{'), *entry = strstr(key, "}:");
	const char *end = strchr(record->note, '\n');

	if (name == NULL || entry == NULL || end == NULL)
		return 0;
	if (listing->count++ == SHOWN_MAX) {
		buf_puts(listing->out, "and more\n");
		return 1;
	}
	buf_printf(listing->out, "%.*s %s", (int)(entry - name - 1), name + 1,
	    entry + 2);
	if (record->expires_ms - clock_wall_ms() < LIFETIME_SHOWN_MS) {
		buf_puts(listing->out, " for ");
		lifetime_print(listing->out,
		    record->expires_ms - clock_wall_ms());
	}
	if (end > record->note)
		buf_printf(listing->out, " from %.*s",
		    (int)(end - record->note), record->note);
	if (end[1] != '\0')
		buf_printf(listing->out, " because %s", end + 1);
	buf_putc(listing->out, '\n');
	return 0;
}

static int
show(struct store *store, const char *name, struct buf *out, const char **why)
{
	struct listing listing = { .out = out };
	char prefix[ACCESS_KEY_SIZE];

	snprintf(prefix, sizeof(prefix), "list:%s%s%s", name != NULL ? "{" : "",
	    name != NULL ? name : "", name != NULL ? "}:" : "");
	if (store_scan(store, prefix, show_record, &listing, why) ==
	    ANSWER_UNKNOWN)
		return -1;
	if (listing.count == 0)
		buf_puts(out, "no entries but those of the configuration\n");
	return 0;
}

int
access_list_command(const struct policy_instance *instances, size_t count,
    struct store *store, const char *const *words, size_t word_count,
    struct buf *out, const char **why)
{
	const char *word = word_count > 1 ? words[1] : "";
	const char *name = word_count > 2 ? words[2] : NULL;
	const struct policy_instance *list = name == NULL ? NULL :
	    find_list(instances, count, name);

	*why = usage;
	if (strcmp(word, "show") == 0 && word_count <= 3) {
		if (name == NULL || list != NULL)
			return show(store, name, out, why);
	} else if ((strcmp(word, "remove") != 0 || word_count != 4) &&
	    (strcmp(word, "add") != 0 || word_count < 4)) {
		return -2;
	}
	if (list == NULL) {
		*why = "there is no access_list of that name";
		return -1;
	}
	return *word == 'a' ? add(list, store, words, word_count, out, why) :
	    remove_entry(store, words, out, why);
}
