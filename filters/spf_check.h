/* check_host() of RFC 7208, 4. */
#ifndef FILTERS_SPF_CHECK_H
#define FILTERS_SPF_CHECK_H

#include <stdint.h>
#include <sys/socket.h>

struct arena;

enum spf_result { SPF_NONE, SPF_NEUTRAL, SPF_PASS, SPF_FAIL, SPF_SOFTFAIL,
	SPF_TEMPERROR, SPF_PERMERROR };

struct spf_question {
	const struct sockaddr *client;
	const char *sender;		/* with local part */
	const char *helo;		/* for the h macro; may be NULL */
	const char *receiver;		/* us, in explanations; may be NULL */
	int64_t deadline;		/* for all look-ups together */
};

struct spf_answer {
	enum spf_result result;
	const char *why;		/* one line for humans */
	unsigned terms, voids;		/* that the limits count */

	/*
	 * On fail: what the domain says of it, printable ASCII, and whose
	 * record it is; or NULL.
	 */
	const char *explanation, *explainer;
};

/* Sets libspf2's global handlers; once per process, before any check. */
void spf_check_setup(void);

/* Evaluates the record of the sender's domain.  May wait for DNS. */
struct spf_answer spf_check(struct arena *, const struct spf_question *);

/* "none", "pass" and so on, as in RFC 8601, 2.7.2. */
const char *spf_result_name(enum spf_result);

#endif
