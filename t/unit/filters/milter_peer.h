/*
 * Scripted peers for tests of the milter client: each connection that the
 * client makes becomes a task that answers as its script says, and writes
 * down what it was sent.
 */
#ifndef T_UNIT_FILTERS_MILTER_PEER_H
#define T_UNIT_FILTERS_MILTER_PEER_H

#include <stddef.h>
#include <stdint.h>

/* A string literal's bytes without its last NUL, and their number. */
#define BYTES(s) (s), sizeof(s) - 1

enum peer_flag {
	PEER_CLOSE = 1,			/* hang up behind it */
	PEER_NOTHING = 2,		/* send nothing at all */
	PEER_RAW = 4,			/* the payload is all */
	PEER_ONCE = 8,			/* on the first connection only */
	PEER_LATER = 16			/* on all but the first */
};

/* One of the replies to the nth (0: each) command of that code. */
struct peer_reply {
	char on;
	unsigned nth;
	char code;
	const char *payload;
	size_t len;
	unsigned flags;
};

#define PEER_REPLIES_MAX 12

struct peer_script {
	uint32_t version, actions, protocol;	/* 0, 0, 0: 6, all, none */
	const char *lists;		/* of macros, behind those */
	size_t lists_len;
	struct peer_reply replies[PEER_REPLIES_MAX];
};

struct peer_log {
	char commands[4096];		/* "|OCHMRTLNBEQ", | per connection */
	char macros[8192];		/* "C j=mx,C _=..." */
	char payloads[8192];		/* "M<a@b>;..." NUL as '^' */
	char body[262144];
	size_t body_len;
	unsigned connections;
	int refuse;			/* so many connects fail */
	int bytewise;			/* replies go out byte by byte */
};

extern struct peer_log peer_log;

/* From now on UNIX connections lead to such a peer. */
void peer_begin(const struct peer_script *);
void peer_end(void);

#endif
