/* Commands about what is counted. */
#include "policy/limit_command.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "policy/limit_count.h"

/* The subject as it is kept: the words, a blank between them. */
static void
join(struct buf *subject, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		buf_printf(subject, "%s%s", i > 0 ? " " : "", words[i]);
}

static int
show_all(const char *kind, const struct policy_instance *instances,
    size_t count, struct store *store, struct buf *out, const char **why)
{
	for (size_t i = 0; i < count; i++) {
		const struct limit_scope scope = { kind, instances[i].name };

		buf_printf(out, "%s:\n", scope.name);
		if (limit_count_show(store, &scope, NULL, out, why) ==
		    ANSWER_UNKNOWN)
			return -1;
	}
	return 0;
}

static int
do_subject(const struct limit_scope *scope, bool reset, const char *subject,
    struct store *store, struct buf *out, const char **why)
{
	enum answer answer;

	answer = reset ? limit_count_reset(store, scope, subject, why) :
	    limit_count_show(store, scope, subject, out, why);
	if (answer == ANSWER_NO)
		*why = "nothing is counted for that key";
	return answer == ANSWER_YES ? 0 : -1;
}

int
limit_command(const struct policy_instance *instances, size_t count,
    struct store *store, const char *const *words, size_t word_count,
    struct buf *out, const char **why)
{
	static char usage[96];
	bool reset = word_count > 1 && strcmp(words[1], "reset") == 0;
	struct limit_scope scope = { words[0], NULL };
	struct buf subject = BUF_INIT;
	int rc;

	snprintf(usage, sizeof(usage), "%s show [NAME [KEY]], %s reset NAME "
	    "KEY", words[0], words[0]);
	*why = usage;
	if (word_count < (reset ? 4 : 2) || (!reset &&
	    strcmp(words[1], "show") != 0))
		return -2;
	if (word_count == 2)
		return show_all(words[0], instances, count, store, out, why);
	for (size_t i = 0; i < count; i++)
		if (strcmp(instances[i].name, words[2]) == 0)
			scope.name = words[2];
	*why = "there is no limit of that name";
	if (scope.name == NULL)
		return -1;
	join(&subject, words + 3, word_count - 3);
	rc = do_subject(&scope, reset, word_count > 3 ? subject.data : NULL,
	    store, out, why);
	buf_release(&subject);
	return rc;
}
