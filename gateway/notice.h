/*
 * Mail of our own: notifications of the relay and whatever else this host
 * writes itself.  It passes the filters that sign, then goes to the spool as
 * any other message.
 *
 *	notices = notices_new(&settings, &why);		before the sandbox
 *	notices_set_spool(notices, spool);
 *	notices_send(notices, &envelope, slices, count, &why);
 *	notices_free(&notices);
 */
#ifndef GATEWAY_NOTICE_H
#define GATEWAY_NOTICE_H

#include <stddef.h>
#include <stdint.h>

struct conf;
struct envelope;
struct notices;
struct slice;
struct spool;

struct notices_settings {
	const struct conf *conf;	/* with the kind dkim_sign */
	const char *hostname;		/* ours */
	/* Where filter hosts listen; NULL: filters run here. */
	const char *host_directory;
	int64_t patience_ms;		/* 0: NOTICE_PATIENCE_MS */
};

/*
 * How long messages wait for a filter host that is away: the master starts it
 * again within a second or so.  After that they leave with the signatures of
 * those that answered, as they are worth more than one, and at once as long as
 * that host stays away.
 */
#define NOTICE_PATIENCE_MS 10000

/*
 * The filters are all sections dkim_sign: each signs what comes from a domain
 * that it covers.  NULL: *why.
 */
struct notices *notices_new(const struct notices_settings *,
    const char **why);
void notices_free(struct notices **);

/* Where mail goes; none can be sent before. */
void notices_set_spool(struct notices *, struct spool *);

/*
 * Sends a message, envelope and content complete, the content in memory.
 * Waits as a task until it is on stable storage: 0.  -1 and *why: it is not
 * sent.
 */
int notices_send(struct notices *, const struct envelope *,
    const struct slice *content, size_t count, const char **why);

#endif
