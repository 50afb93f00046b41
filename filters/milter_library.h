/*
 * The other front of a filter host: Sendmail's libmilter.  Its threads speak
 * with the MTA, nothing more: each of their conversations goes on over a socket
 * pair, in our own packets, with milter_host_talk() on the loop.
 */
#ifndef FILTERS_MILTER_LIBRARY_H
#define FILTERS_MILTER_LIBRARY_H

#include <stddef.h>
#include <stdint.h>

struct milter_library_settings {
	int listener;			/* a socket that listens; is taken */
	/* Called on the loop with the socket of a new conversation, to take. */
	void (*begin)(int fd, void *argument);
	void *argument;
	int64_t timeout_ms;		/* for the answer to a command */
};

/* Starts the threads; once in a process, as libmilter serves one milter. */
int milter_library_start(const struct milter_library_settings *,
    const char **why);

/* Accepts no more; conversations that are under way go on. */
void milter_library_drain(void);

#endif
