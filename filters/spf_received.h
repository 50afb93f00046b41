/* Received-SPF (RFC 7208, 9.1). */
#ifndef FILTERS_SPF_RECEIVED_H
#define FILTERS_SPF_RECEIVED_H

struct arena;

struct spf_received {
	const char *result, *why;
	const char *receiver;		/* our host name */
	const char *client;		/* its address as text */
	const char *identity;		/* "mailfrom" or "helo" */
	const char *sender, *helo;	/* as the client gave them; or NULL */
};

/*
 * The field's value, folded with LF TAB, in the arena.  Whatever octets the
 * client gave, it holds printable ASCII only, and its words stay words.
 */
const char *spf_received_print(struct arena *, const struct spf_received *);

#endif
