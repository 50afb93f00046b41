/* What the commands of reputation share. */
#ifndef POLICY_REPUTATION_COMMAND_H
#define POLICY_REPUTATION_COMMAND_H

#include <stddef.h>

struct buf;
struct store;

struct rep_words {
	struct store *store;
	const char *const *words;	/* behind "rep show" */
	size_t count;
	struct buf *out;
	const char **why;
};

/* As a policy_command_f (reputation_transfer.c). */
int rep_export(const struct rep_words *);
int rep_import(const struct rep_words *);

#endif
