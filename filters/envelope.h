/*
 * The envelope: who sent a message to whom (RFC 5321), and what the way to the
 * next hop must know of it (RFC 1870, 3461, 6152, 6531).  Made by the gateway,
 * written to the spool, read by the relay.  Addresses stand without <>; "" is
 * the null reverse-path.
 */
#ifndef FILTERS_ENVELOPE_H
#define FILTERS_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;

#define ENVELOPE_ID_SIZE 24

enum notify {			/* RFC 3461, 4.1; 0: not given */
	NOTIFY_NEVER = 1, NOTIFY_SUCCESS = 2, NOTIFY_FAILURE = 4,
	NOTIFY_DELAY = 8
};

struct recipient {
	const char *address;
	const char *orcpt;		/* xtext as given, or NULL */
	unsigned notify;		/* enum notify */
	const char *const *arguments;	/* ESMTP as given, NULL-ended, or NULL */
	bool by_filter;			/* a filter added it */
	bool welcome;			/* policy wants no more questions */
	struct recipient *next;
};

struct envelope {
	char id[ENVELOPE_ID_SIZE];	/* letters and digits, unique for ever */
	int64_t arrived_ms;		/* wall clock, Unix epoch */
	const char *sender;
	const char *const *arguments;	/* of MAIL as given, NULL-ended, or NULL */
	const char *ret;		/* "FULL", "HDRS" or NULL */
	const char *envid;		/* xtext as given, or NULL */
	const char *submitter;		/* RFC 4954, 5: xtext, believed; or NULL */
	bool eight_bit;			/* BODY=8BITMIME */
	bool smtputf8;
	bool hold;			/* keep until the operator releases it */
	const char *hold_reason;
	const char *client;		/* name[address], for the log */
	const char *user;		/* authenticated as, or NULL */
	struct recipient *recipients;	/* in order of arrival */
};

/* Sets id: time, process and counter in base 32; call once per message. */
void envelope_id_make(char id[ENVELOPE_ID_SIZE]);

/* Appends a recipient; strings are copied into the arena. */
struct recipient *envelope_add_recipient(struct envelope *, struct arena *,
    const char *address);

/* Removes all recipients of that address (domain's case ignored). Number. */
size_t envelope_delete_recipient(struct envelope *, const char *address);

size_t envelope_count(const struct envelope *);

/* Local parts must be equal, domains equal but for case. */
bool address_equal(const char *, const char *);

/*
 * Plain text of xtext (RFC 3461, 4), into as many bytes; what is not well-formed
 * stays as it is.  Returns the length.
 */
size_t xtext_decode(const char *xtext, size_t len, char *plain);

/* The domain behind the last '@', or NULL. */
const char *address_domain(const char *);

#endif
