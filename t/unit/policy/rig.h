/*
 * A directory, a configuration, and each back end of the store in turn: SQLite
 * in a file, Redis as a server of our own on a UNIX socket.  Log lines go to a
 * file of the directory.
 */
#ifndef T_UNIT_POLICY_RIG_H
#define T_UNIT_POLICY_RIG_H

#include <stddef.h>

struct conf;
struct store;

struct rig {
	char directory[64];
	const char *back_end;		/* "sqlite", "redis" and so on */
	struct conf *conf;
	struct store *store;
};

/* A configuration from text; must be good. */
struct conf *rig_conf(const char *text);

/* Runs that function in a task for each back end; text is added to the conf. */
void rig_each(const char *text, void (*)(struct rig *));

/* The same also over TLS, without Functions, with Sentinel, on a Cluster. */
void rig_all(const char *text, void (*)(struct rig *));

/* Runs it in a task, with a directory but no store. */
void rig_alone(void (*)(struct rig *));

/* Options and what -n says of them; NULL: nothing. */
struct rig_check {
	const char *name, *text, *error;
};

void rig_check_options(const struct rig_check *, size_t count);

/* How often the log holds that text. */
int rig_log_count(const struct rig *, const char *text);

#endif
