/*
 * A policy service: one way to judge what an MTA asks about, such as
 * greylisting or a rate limit.  Each section of its kind is an instance, known
 * by the section's name.  Profiles list them ("services"), for other MTAs; our
 * own listeners list them among their filters.
 *
 * All calls are made in tasks of the policy process and may wait for the store
 * or DNS; an instance serves many requests at a time.  Whatever it cannot find
 * out, it leaves the decision as it was: mail never fails for it.
 */
#ifndef POLICY_SERVICE_H
#define POLICY_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/option.h"
#include "policy/protocol.h"

struct buf;
struct conf;
struct conf_section;
struct store;

/* protocol_state, as bits.  RCPT comes once a recipient. */
enum policy_state {
	POLICY_AT_CONNECT = 1, POLICY_AT_HELO = 2, POLICY_AT_MAIL = 4,
	POLICY_AT_RCPT = 8, POLICY_AT_DATA = 16, POLICY_AT_END = 32,
	POLICY_AT_CLOSE = 64		/* not asked, but told: OUTCOME_CLOSED */
};

struct policy_query {
	const struct policy_request *request;
	enum policy_state state;
	bool ours;			/* of our own gateway */
	bool trusted;			/* it says: of a trusted network */
};

/*
 * What is to be done.  DUNNO, the beginning: nothing is known against it, the
 * next service is asked.  PASS: nor need others be asked.  DEFER, REJECT and
 * HOLD end the matter.
 */
struct policy_decision {
	enum policy_verb verb;
	int code;			/* 450; 0: the MTA's own */
	char enhanced[12];		/* "4.7.1", or "" */
	char text[256];			/* what the client hears */
	const char *reason;		/* reason code, static */
	int64_t wait_ms;		/* of a DEFER: how long at least; or 0 */
	char score[24];			/* of reputation, "" if none */
	char by[64];			/* the instance; the server sets it */
	char why[256];			/* what only the log says, or "" */
};

/*
 * What became of a message, for services that learn.  An outcome is told once,
 * or, after trouble, twice with the same id.
 */
enum policy_outcome_kind {
	OUTCOME_ACCEPTED,		/* by us: nothing spoke against it */
	OUTCOME_REFUSED,		/* by a filter or rule; see reason */
	OUTCOME_SPAM, OUTCOME_HAM,	/* a scanner's own verdict, no policy */
	OUTCOME_MALWARE,
	OUTCOME_TRAP,			/* it went to a spam trap */
	OUTCOME_BOUNCED,		/* a recipient downstream: hard bounce */
	OUTCOME_REPORTED_SPAM,		/* by its receiver */
	OUTCOME_RELEASED,		/* by the operator: was no spam */
	OUTCOME_KINDS,
	/* Of a session, for who has POLICY_AT_CLOSE: it ended. */
	OUTCOME_CLOSED = OUTCOME_KINDS
};

struct policy_outcome {
	const char *id;			/* of the message: an event happens once */
	enum policy_outcome_kind kind;
	bool undo;			/* it was told by mistake: take it back */
	/*
	 * The attributes of the message as at END-OF-MESSAGE, as far as known:
	 * client_address, helo_name, sender, recipient (one LF-free list, parted
	 * by blanks), sasl_username, auth_domains, and so on.
	 */
	const struct policy_request *request;
};

/* The names of outcomes, as in "accepted", "refused", ...; -1: none such. */
const char *policy_outcome_name(enum policy_outcome_kind);
int policy_outcome_find(const char *name);

struct policy_instance {
	const char *name;
	void *instance;			/* from setup */
};

/*
 * Does a command of millgatectl, such as "limit show NAME KEY"; words[0] is
 * the first word.  Appends lines to out.  0; -1: *why (static, or lasts until
 * the next call); -2: there is no such command, *why tells the usage.
 */
typedef int policy_command_f(const struct policy_instance *, size_t count,
    struct store *, const char *const *words, size_t word_count,
    struct buf *out, const char **why);

struct policy_service {
	const struct section_kind *options;
	unsigned states;		/* when it is asked */
	/* When our own filter needs to ask it; NULL: at all of its states. */
	unsigned (*filter_states)(const struct conf_section *);
	bool strangers_only;		/* not about trusted clients and users */
	int64_t answer_ms;		/* what it may take; 0: a second */

	/* NULL: *why.  conf and store outlive the instance. */
	void *(*setup)(const struct conf *, const struct conf_section *,
	    struct store *, const char **why);
	void (*release)(void *instance);

	/* *decision is DUNNO; text fields may be set as they are needed. */
	void (*decide)(void *instance, const struct policy_query *,
	    struct policy_decision *);
	/* NULL: it does not learn. */
	void (*outcome)(void *instance, const struct policy_outcome *);
	bool reserves;			/* learns of what it was asked about */

	/* "limit": the first word of its commands; NULL: it has none. */
	const char *command_word;
	policy_command_f *command;

	/* Errors between its options, added to errors; or NULL. */
	void (*check)(const struct conf *, struct buf *errors);
};

/* All of them, NULL-ended; the only place that knows them all (service.c). */
extern const struct policy_service *const policy_services[];

/* The service of a section's kind, or NULL. */
const struct policy_service *policy_service_find(const struct section_kind *);

/* Sets a decision, its text made as by printf. */
void policy_decide(struct policy_decision *, enum policy_verb,
    const char *reason, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Checks the option "message", which becomes part of a reply line. */
void policy_check_message(const struct conf *, const struct conf_section *,
    const char *message, struct buf *errors);

/* Checks an option's mail address, to which or from which mail is made. */
void policy_check_address(const struct conf *, const struct conf_section *,
    const char *option, const char *address, struct buf *errors);

#endif
