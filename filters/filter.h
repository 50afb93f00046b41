/*
 * A filter: a table of functions for the events of an SMTP transaction, the
 * same as milter's.  It reads the session and the message, and records findings
 * and edits.  A filter finds; the rules decide: only a third-party milter and
 * an explicit policy option give a verdict other than CONTINUE.
 *
 * A filter keeps no static variable that changes.  Its memory is the instance
 * (one per process and configured filter), the session's state, and arenas.
 */
#ifndef FILTERS_FILTER_H
#define FILTERS_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/option.h"
#include "filters/mail.h"

struct conf;
struct conf_section;
struct view;

enum action {
	ACTION_CONTINUE,
	ACTION_ACCEPT,		/* this filter has seen enough */
	ACTION_DISCARD,		/* tell the client 250, deliver nothing */
	ACTION_TEMPFAIL,
	ACTION_REJECT,
	ACTION_DISCONNECT	/* 421 and close */
};

/*
 * What a filter wants done.  code 0: the default reply of the action.  text may
 * hold several lines, parted by \n.  Strings: static or in the mail's (before
 * MAIL: the session's) arena.
 */
struct verdict {
	enum action action;
	int code;			/* 550 */
	const char *enhanced;		/* "5.7.1", or NULL */
	const char *text;		/* or NULL */
	const char *reason;		/* reason code for the log: "dmarc-reject" */
	const char *filter;		/* who; the chain sets it */
	const char *hold;		/* put it into quarantine: why */
};

#define VERDICT_CONTINUE ((struct verdict){ .action = ACTION_CONTINUE })

/* What was found, in the words of RFC 8601. */
struct property {
	const char *type, *name;	/* "smtp", "mailfrom" */
	const char *value;
	struct property *next;
};

struct finding {
	const char *filter;		/* name in the configuration */
	const char *method;		/* "spf" */
	const char *result;		/* "pass" */
	const char *reason;		/* for humans, or NULL */
	struct property *properties;
	bool report;			/* goes into Authentication-Results */
	struct finding *next;
};

/* One filter at work on one session; made by the chain. */
struct filter_run {
	const struct filter *filter;
	const char *name;
	void *instance;			/* from setup */
	void *state;			/* the session's, the filter's own */
	void *mail_state;		/* the message's, cleared at MAIL */
	struct session *session;
	struct mail *mail;		/* NULL before MAIL */
	struct finding *findings;	/* of this message, not yet merged */
	struct view *view;		/* for consult; NULL: not there yet */
	bool turn;			/* consult may come to its end */
};

enum filter_trait {
	/*
	 * Only looks: changes nothing, gives no verdict, reads no findings.
	 * Runs in a task of its own from MAIL on, beside the others; its events
	 * are mail, eoh, body and eom.
	 */
	FILTER_LOOKS = 1,
	/*
	 * Holds secrets: runs in a filter host of its own, and the gateway
	 * reaches it there as a milter.
	 */
	FILTER_ISOLATED = 2,
	/*
	 * Leaves header and body as they are: what comes behind it can be shown
	 * them before it has seen them.
	 */
	FILTER_KEEPS = 4
};

struct filter {
	const char *name;		/* of its section kind: "spf" */
	const struct section_kind *options;
	unsigned traits;

	/* Once per process and section.  NULL: *why.  (NULL: no instance.) */
	void *(*setup)(const struct conf *, const struct conf_section *,
	    const char **why);
	void (*release)(void *instance);

	/* Events; NULL: not wanted.  close, abort, ended must not wait. */
	struct verdict (*connect)(struct filter_run *);
	struct verdict (*helo)(struct filter_run *);
	struct verdict (*mail)(struct filter_run *);
	struct verdict (*rcpt)(struct filter_run *, struct recipient *);
	struct verdict (*data)(struct filter_run *);
	/* A recipient that was refused without asking; an unknown command. */
	void (*rcpt_refused)(struct filter_run *, struct recipient *, int code,
	    const char *text);
	struct verdict (*unknown)(struct filter_run *, const char *line);
	/*
	 * The message is complete, and none that may change it has seen it yet,
	 * wherever this filter stands: takes away what forgers put there.
	 */
	void (*clean)(struct filter_run *);
	struct verdict (*eoh)(struct filter_run *);
	struct verdict (*body)(struct filter_run *, const char *bytes,
	    size_t len);
	struct verdict (*eom)(struct filter_run *);
	/*
	 * Instead of eoh, body and eom, for a filter that can work while the
	 * message arrives, and beside others.  consult runs in a task of its
	 * own, or in the chain's: it reads run->view and the body, waiting on
	 * mail->progress for what is not there yet, and for run->turn before it
	 * tells anyone that the message is complete.  It comes to a verdict and
	 * changes nothing.  apply, called on CONTINUE, makes its changes.
	 */
	struct verdict (*consult)(struct filter_run *);
	void (*apply)(struct filter_run *);
	/* The message ended otherwise, by this filter's own verdict or not. */
	void (*abort)(struct filter_run *);
	/* What came of a complete message, after the disk's or next hop's word. */
	void (*ended)(struct filter_run *, const struct verdict *);
	void (*close)(struct filter_run *);	/* session ended */
};

/* Records a finding of this run; strings are copied to the mail's arena. */
struct finding *finding_add(struct filter_run *, const char *method,
    const char *result, const char *reason);
void finding_property(struct filter_run *, struct finding *, const char *type,
    const char *name, const char *value);

/* What the run found joins what those before it did; the trace tells it. */
void findings_merge(struct filter_run *);

/* The first merged finding of that method from *after on; NULL: none. */
const struct finding *finding_find(const struct mail *, const char *method,
    const struct finding *after);
const char *finding_value(const struct finding *, const char *type,
    const char *name);

#endif
