/*
 * A filter host: offers the filters of a plan as a milter, to our own gateway
 * (which must not see a signer's keys) or to another MTA.  Each connection is
 * a task; the messages go through a chain as in the gateway.
 */
#ifndef FILTERS_MILTER_HOST_H
#define FILTERS_MILTER_HOST_H

#include <stddef.h>
#include <stdint.h>

struct chain_plan;
struct table;

struct milter_host_settings {
	const char *hostname;		/* ours, if the MTA doesn't say */
	size_t memory_limit;		/* of a body; then in a file */
	const char *temporary_directory;
	int64_t idle_timeout_ms;	/* for the MTA's next command */
	int64_t message_timeout_ms;	/* for the filters, per message */
	/*
	 * Whose mail is trusted; NULL: ask the MTA, which is our own gateway
	 * then.
	 */
	const struct table *trusted_networks;
	int64_t progress_ms;		/* between signs of life; 0: 10 s */
};

/* One conversation, over a connected socket, which it takes. */
void milter_host_talk(int fd, const struct chain_plan *,
    const struct milter_host_settings *);

#endif
