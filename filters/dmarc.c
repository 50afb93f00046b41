/*
 * DMARC (RFC 9989): whether a domain that SPF or DKIM has authenticated is the
 * author's, and if not, what the author's domain asks for.
 *
 * It stands behind "spf", "dkim" and "arc" in the chain and reads their
 * findings.
 */
#include "filters/dmarc.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/task.h"
#include "filters/dmarc_override.h"
#include "filters/dmarc_policy.h"
#include "filters/dmarc_report.h"
#include "filters/domain.h"
#include "filters/from.h"
#include "filters/trace.h"

#define IDENTIFIERS_MAX 64		/* whose alignment is looked up */

#define DMARC_OPTIONS(ROW, o)						\
	ROW(o, reject, flag, "yes", NULL, NULL,				\
	    "Refuse mail that fails under p=reject; no: as quarantine.") \
	ROW(o, quarantine, choice, "hold", "hold|mark", NULL,		\
	    "What p=quarantine does: hold the mail, or only report it.") \
	ROW(o, override, strings, NULL, NULL, NULL,			\
	    "Rules for mail that fails, whatever the policy says; the first " \
	    "that matches applies: \"example.org = none\" lets it pass for " \
	    "that author's domain, \".example.org = quarantine\" is for all " \
	    "domains below it, \"192.0.2.0/24 = reject\" for clients of a " \
	    "network. They go before a trusted seal of ARC.")		\
	ROW(o, temperror, choice, "defer", "defer|accept", NULL,	\
	    "When DNS failed, so that mail might have to be refused or "	\
	    "held: 451, or let pass.")					\
	ROW(o, no_author, choice, "reject", "reject|accept", NULL,	\
	    "What becomes of mail whose From field names no domain at "	\
	    "all (RFC 5322 demands one), so that no policy applies.")	\
	ROW(o, discovery, choice, "treewalk", "treewalk|psl", NULL,	\
	    "Find organizational domains by RFC 9989's walk or by the "	\
	    "Public Suffix List (RFC 7489).")				\
	ROW(o, psl_file, string,					\
	    "/usr/share/publicsuffix/public_suffix_list.dafsa", NULL, NULL, \
	    "The Public Suffix List, for discovery = psl.")		\
	ROW(o, check_trusted, flag, "no", NULL, NULL,			\
	    "Check mail of trusted clients and authenticated users, too.") \
	ROW(o, timeout, duration, "20s", "1s", "2m",			\
	    "How long the check may take, all look-ups together.")

struct dmarc_options { DMARC_OPTIONS(OPTION_FIELD, dmarc_options) };

enum quarantine { QUARANTINE_HOLD, QUARANTINE_MARK };
enum temperror { TEMPERROR_DEFER, TEMPERROR_ACCEPT };
enum no_author { NO_AUTHOR_REJECT, NO_AUTHOR_ACCEPT };
enum discovery { DISCOVERY_TREEWALK, DISCOVERY_PSL };

static const struct option_row dmarc_rows[] = {
	DMARC_OPTIONS(OPTION_ROW, dmarc_options)
};

static const struct section_kind dmarc_section = {
	.name = "dmarc",
	.doc = "DMARC: what the author's domain asks for. Goes behind spf "
	    "and dkim.",
	.rows = dmarc_rows,
	.row_count = OPTION_COUNT(dmarc_rows),
	.size = sizeof(struct dmarc_options),
};

struct instance {
	const struct dmarc_options *options;
	struct domain_suffixes *suffixes;
	struct dmarc_reporter *reporter;	/* NULL: no reports */
	struct dmarc_overrides *overrides;	/* NULL: none */
};

static void
dmarc_release(void *argument)
{
	struct instance *instance = argument;

	if (instance == NULL)
		return;
	domain_suffixes_free(&instance->suffixes);
	dmarc_reporter_free(&instance->reporter);
	dmarc_overrides_free(&instance->overrides);
	free(instance);
}

static void *
dmarc_setup(const struct conf *conf, const struct conf_section *section,
    const char **why)
{
	struct instance *instance = calloc(1, sizeof(*instance));

	if (instance == NULL) {
		*why = "out of memory";
		return NULL;
	}
	instance->options = section->values;
	instance->reporter = dmarc_reporter_new(conf, why);
	if (instance->reporter == NULL && *why != NULL)
		goto bad;
	if (dmarc_overrides_new(instance->options->override,
	    &instance->overrides, why) == -1)
		goto bad;
	if (instance->options->discovery == DISCOVERY_PSL &&
	    (instance->suffixes = domain_suffixes_load(
	    instance->options->psl_file, why)) == NULL)
		goto bad;
	return instance;
bad:
	dmarc_release(instance);
	return NULL;
}

/* --- authenticated domains --- */

static const char *
address_part(struct arena *arena, const char *address)
{
	const char *at = address == NULL ? NULL : strrchr(address, '@');

	at = at == NULL ? address : at + 1;
	return at == NULL ? NULL : domain_normalize(arena, at, strlen(at));
}

/*
 * The domain that a finding vouches for, or NULL.  RFC 9989, 4.4.2: SPF's is
 * the sender's, and HELO's only if the sender is null.
 */
static const char *
identifier(const struct mail *mail, const struct finding *finding)
{
	const char *sender = mail->envelope.sender;

	if (strcmp(finding->method, "dkim") == 0)
		return address_part(mail->arena,
		    finding_value(finding, "header", "d"));
	if (sender != NULL && *sender != '\0')
		return address_part(mail->arena,
		    finding_value(finding, "smtp", "mailfrom"));
	return address_part(mail->arena,
	    finding_value(finding, "smtp", "helo"));
}

struct alignment {
	enum answer answer;
	const char *by;			/* for humans */
};

/*
 * What a finding contributes.  A temperror that names nothing is a filter that
 * had no result in time: it might have found anything.
 */
static enum answer
finding_aligned(const struct mail *mail, const struct dmarc_lookup *lookup,
    const struct dmarc_policy *policy, const struct finding *finding)
{
	bool dkim = strcmp(finding->method, "dkim") == 0;
	bool pass = strcmp(finding->result, "pass") == 0;
	const char *domain;
	enum answer answer;

	if (!pass && strcmp(finding->result, "temperror") != 0)
		return ANSWER_NO;
	if (!pass && finding->properties == NULL)
		return ANSWER_UNKNOWN;
	domain = identifier(mail, finding);
	if (domain == NULL)
		return ANSWER_NO;
	answer = dmarc_aligned(lookup, policy, domain, dkim ?
	    policy->record.strict_dkim : policy->record.strict_spf);
	return pass || answer == ANSWER_NO ? answer : ANSWER_UNKNOWN;
}

/* YES if one is aligned; UNKNOWN if one may be, had DNS answered. */
static struct alignment
find_alignment(const struct mail *mail, const struct dmarc_lookup *lookup,
    const struct dmarc_policy *policy)
{
	struct alignment alignment = { ANSWER_NO, "no aligned domain" };
	const struct finding *finding = mail->findings;
	size_t count = 0;

	for (; finding != NULL && count < IDENTIFIERS_MAX;
	    finding = finding->next) {
		enum answer answer;

		if (strcmp(finding->method, "dkim") != 0 &&
		    strcmp(finding->method, "spf") != 0)
			continue;
		count++;
		answer = finding_aligned(mail, lookup, policy, finding);
		if (answer == ANSWER_NO)
			continue;
		alignment.answer = answer;
		alignment.by = arena_printf(mail->arena, "%s %s",
		    finding->method, answer == ANSWER_YES ?
		    "aligned" : "cannot be told");
		if (answer == ANSWER_YES)
			break;
	}
	return alignment;
}

/* --- what is done about it --- */

static struct finding *
report(struct filter_run *run, const char *result, const char *why,
    const char *author)
{
	struct finding *finding = finding_add(run, "dmarc", result, why);

	finding_property(run, finding, "header", "from", author);
	finding->report = true;
	trace_add(run->mail->trace, run->name, "%s for %s: %s", result,
	    author == NULL ? "no domain" : author, why);
	return finding;
}

static void
report_policy(struct filter_run *run, struct finding *finding,
    const struct dmarc_policy *policy, enum dmarc_action action)
{
	finding_property(run, finding, "policy", "dmarc",
	    dmarc_action_name(action));
	finding_property(run, finding, "polrec", "p",
	    dmarc_action_name(policy->record.p));
	finding_property(run, finding, "polrec", "domain", policy->domain);
}

/* Whether something of that method passed and is aligned. */
static bool
method_aligned(const struct mail *mail, const struct dmarc_lookup *lookup,
    const struct dmarc_policy *policy, const char *method)
{
	const struct finding *finding = NULL;
	size_t count = 0;

	for (finding = mail->findings; finding != NULL &&
	    count < IDENTIFIERS_MAX; finding = finding->next) {
		if (strcmp(finding->method, method) != 0)
			continue;
		count++;
		if (strcmp(finding->result, "pass") == 0 && finding_aligned(
		    mail, lookup, policy, finding) == ANSWER_YES)
			return true;
	}
	return false;
}

/*
 * Keeps what the owner's report is to say until the chain has decided; reason:
 * why the disposition is not what the policy says (RFC 9990, 3.1.1.8).
 */
static void
note(struct filter_run *run, const struct dmarc_lookup *lookup,
    const struct dmarc_policy *policy, const char *disposition,
    const char *reason, const char *comment)
{
	const struct instance *instance = run->instance;
	const struct finding *spf = finding_find(run->mail, "spf", NULL);
	struct dmarc_facts facts = { .disposition = disposition,
		.reason = reason, .comment = comment };

	if (instance->reporter == NULL || policy->record.rua_len == 0 ||
	    !dmarc_reporter_wants(instance->reporter, run->mail))
		return;
	facts.dkim = method_aligned(run->mail, lookup, policy, "dkim");
	facts.spf = method_aligned(run->mail, lookup, policy, "spf");
	facts.spf_domain = spf != NULL ? identifier(run->mail, spf) : NULL;
	run->mail_state = dmarc_report_row(run->mail, lookup, policy, &facts);
}

/* What is done here where the policy asks for an action. */
static enum dmarc_action
permitted(const struct filter_run *run, enum dmarc_action action)
{
	const struct dmarc_options *options =
	    ((const struct instance *)run->instance)->options;

	if (action == DMARC_REJECT && !options->reject)
		action = DMARC_QUARANTINE;
	if (action == DMARC_QUARANTINE &&
	    options->quarantine != QUARANTINE_HOLD)
		action = DMARC_NONE;
	return action;
}

/* A rule's "reject" holds, whatever the option reject makes of policies. */
static enum dmarc_action
permitted_by(const struct filter_run *run, const struct dmarc_override *rule)
{
	return rule->action == DMARC_REJECT ? DMARC_REJECT :
	    permitted(run, rule->action);
}

static const struct dmarc_override *
find_rule(const struct filter_run *run, const char *author)
{
	const struct instance *instance = run->instance;

	return dmarc_override_find(instance->overrides, author,
	    (const struct sockaddr *)&run->session->client);
}

/*
 * What a failing message's report says of what is done, by a rule of ours or
 * without one (NULL).  A forwarder is trusted where its network's rule is the
 * milder.
 */
static void
note_failure(struct filter_run *run, const struct dmarc_lookup *lookup,
    const struct dmarc_policy *policy, enum dmarc_action action,
    enum dmarc_action taken, const struct dmarc_override *rule)
{
	const char *reason = NULL, *comment = NULL;

	if (policy->record.testing && policy->record.p != DMARC_NONE)
		reason = "policy_test_mode";
	if (taken != action) {
		reason = "local_policy";
		comment = rule == NULL ? "not enforced here" :
		    arena_printf(run->mail->arena, "rule for %s", rule->what);
		if (rule != NULL && rule->network != NULL && taken < action)
			reason = "trusted_forwarder";
	}
	note(run, lookup, policy, dmarc_action_name(taken), reason, comment);
}

/* whose: "DMARC policy of example.org" */
static struct verdict
enforce(struct filter_run *run, const char *whose, enum dmarc_action taken)
{
	struct envelope *envelope = &run->mail->envelope;

	if (taken == DMARC_REJECT)
		return (struct verdict){ .action = ACTION_REJECT, .code = 550,
			.enhanced = "5.7.1", .reason = "dmarc-reject",
			.text = arena_printf(run->mail->arena,
			"%s rejects this message", whose) };
	if (taken == DMARC_QUARANTINE) {
		envelope->hold = true;
		envelope->hold_reason = whose;
	}
	return VERDICT_CONTINUE;
}

static struct verdict
enforce_policy(struct filter_run *run, const struct dmarc_policy *policy,
    enum dmarc_action action)
{
	return enforce(run, arena_printf(run->mail->arena,
	    "DMARC policy of %s", policy->domain), permitted(run, action));
}

/*
 * A forger who can make DNS fail (by the choice of a selector, say, or of a
 * victim) must not get past the policy, so the message has to wait, unless the
 * answer could not matter.  worst: what may come of the message.
 */
static struct verdict
cannot_tell(const struct filter_run *run, enum dmarc_action worst)
{
	const struct instance *instance = run->instance;

	if (worst < DMARC_QUARANTINE ||
	    instance->options->temperror != TEMPERROR_DEFER)
		return VERDICT_CONTINUE;
	return (struct verdict){ .action = ACTION_TEMPFAIL, .code = 451,
		.enhanced = "4.7.0", .reason = "dmarc-temperror",
		.text = "DMARC cannot be checked now" };
}

/*
 * RFC 9989, 5.4, lets a receiver depart from the policy by what it knows: a
 * trusted sealer of an ARC chain tells that DMARC passed before the message was
 * forwarded (RFC 8617, 7.2).  UNKNOWN: its seal cannot be verified now.
 */
static enum answer
vouched(const struct filter_run *run)
{
	const struct finding *arc = finding_find(run->mail, "arc", NULL);
	const char *trust = arc == NULL ? NULL :
	    finding_value(arc, "policy", "trust");

	if (trust == NULL || strcmp(trust, "dmarc") != 0)
		return ANSWER_NO;
	if (strcmp(arc->result, "pass") == 0)
		return ANSWER_YES;
	return strcmp(arc->result, "temperror") == 0 ? ANSWER_UNKNOWN :
	    ANSWER_NO;
}

/* What becomes of a message that fails, where the policy asks for an action. */
static enum dmarc_action
on_failure(const struct filter_run *run, const char *author,
    enum dmarc_action action)
{
	const struct dmarc_override *rule = find_rule(run, author);

	if (rule != NULL)
		return permitted_by(run, rule);
	return vouched(run) == ANSWER_YES ? DMARC_NONE :
	    permitted(run, action);
}

/* RFC 9989, 4.4: the author's own domain is aligned under any policy. */
static struct verdict
policy_unknown(struct filter_run *run, const struct dmarc_lookup *lookup,
    struct dmarc_policy *policy)
{
	report(run, "temperror", policy->why, policy->author);
	policy->record.strict_dkim = policy->record.strict_spf = true;
	if (find_alignment(run->mail, lookup, policy).answer == ANSWER_YES)
		return VERDICT_CONTINUE;
	return cannot_tell(run, on_failure(run, policy->author, DMARC_REJECT));
}

static struct verdict
override(struct filter_run *run, const struct dmarc_lookup *lookup,
    const struct dmarc_policy *policy, const char *why,
    enum dmarc_action action, const struct dmarc_override *rule)
{
	struct arena *arena = run->mail->arena;
	enum dmarc_action taken = permitted_by(run, rule);
	struct finding *finding;

	finding = report(run, "fail", arena_printf(arena,
	    "%s; local policy: %s = %s", why, rule->what,
	    dmarc_action_name(rule->action)), policy->author);
	report_policy(run, finding, policy, rule->action);
	finding_property(run, finding, "policy", "override",
	    rule->network != NULL ? "network" : "domain");
	note_failure(run, lookup, policy, action, taken, rule);
	return enforce(run, arena_printf(arena, "Local DMARC policy for %s",
	    policy->author), taken);
}

static struct verdict
fail(struct filter_run *run, const struct dmarc_lookup *lookup,
    const struct dmarc_policy *policy, const char *author, const char *why,
    enum dmarc_action action)
{
	const struct dmarc_override *rule = find_rule(run, author);
	const struct finding *arc;
	struct finding *finding;
	const char *sealer;

	if (rule != NULL)
		return override(run, lookup, policy, why, action, rule);
	switch (vouched(run)) {
	case ANSWER_NO:
		break;
	case ANSWER_UNKNOWN:
		report_policy(run, report(run, "fail", why, author), policy,
		    action);
		return cannot_tell(run, permitted(run, action));
	case ANSWER_YES:
		arc = finding_find(run->mail, "arc", NULL);
		sealer = finding_value(arc, "policy", "sealer");
		finding = report(run, "fail", arena_printf(run->mail->arena,
		    "%s; local policy: arc sealed by %s", why, sealer),
		    author);
		report_policy(run, finding, policy, DMARC_NONE);
		finding_property(run, finding, "policy", "override", "arc");
		note(run, lookup, policy, "none", "trusted_forwarder",
		    arena_printf(run->mail->arena, "arc=pass, sealed by %s",
		    sealer));
		return VERDICT_CONTINUE;
	}
	report_policy(run, report(run, "fail", why, author), policy, action);
	note_failure(run, lookup, policy, action, permitted(run, action), NULL);
	return enforce_policy(run, policy, action);
}

static struct verdict
check_author(struct filter_run *run, const struct dmarc_lookup *lookup,
    const char *author)
{
	enum dmarc_action action;
	struct alignment alignment;
	struct dmarc_policy policy;

	dmarc_policy_find(lookup, author, &policy);
	switch (policy.found) {
	case DMARC_ABSENT:
		report(run, "none", "no policy", author);
		return VERDICT_CONTINUE;
	case DMARC_UNUSABLE:
		report(run, "permerror", policy.why, author);
		return VERDICT_CONTINUE;
	case DMARC_UNKNOWN:
		return policy_unknown(run, lookup, &policy);
	case DMARC_FOUND:
		break;
	}
	alignment = find_alignment(run->mail, lookup, &policy);
	if (dmarc_evaluate(&policy, alignment.answer == ANSWER_YES, &action)) {
		report_policy(run, report(run, "pass", alignment.by, author),
		    &policy, DMARC_NONE);
		note(run, lookup, &policy, policy.action == DMARC_NONE ?
		    "none" : "pass", NULL, NULL);
		return VERDICT_CONTINUE;
	}
	if (alignment.answer == ANSWER_UNKNOWN) {
		report_policy(run, report(run, "temperror", alignment.by,
		    author), &policy, DMARC_NONE);
		note(run, lookup, &policy, "none", "other", "temperror");
		return cannot_tell(run, on_failure(run, author, action));
	}
	return fail(run, lookup, &policy, author, alignment.by, action);
}

/*
 * What an author's domain cannot be read from may still show one: some readers
 * decode an encoded word that holds an address.
 */
static struct verdict
no_author(const struct filter_run *run)
{
	const struct instance *instance = run->instance;

	if (instance->options->no_author == NO_AUTHOR_ACCEPT)
		return VERDICT_CONTINUE;
	return (struct verdict){ .action = ACTION_REJECT, .code = 550,
		.enhanced = "5.7.1", .reason = "dmarc-from",
		.text = "The From field names no domain" };
}

/*
 * RFC 9989, 5.3.1: a From field that may mean several authors gets the
 * strictest policy of all of them, whatever was authenticated.
 */
static struct verdict
check_malformed(struct filter_run *run, const struct dmarc_lookup *lookup,
    const struct from *from)
{
	struct dmarc_policy policy, strictest = { .found = DMARC_ABSENT };
	bool unknown = false;
	struct finding *finding;

	for (size_t i = 0; i < from->count; i++) {
		dmarc_policy_find(lookup, from->domains[i], &policy);
		unknown |= policy.found == DMARC_UNKNOWN;
		if (policy.found == DMARC_FOUND &&
		    (strictest.found != DMARC_FOUND ||
		    policy.action > strictest.action))
			strictest = policy;
	}
	finding = report(run, "permerror",
	    from->why == NULL ? "no From field" : from->why, strictest.author);
	if (from->too_many)
		return (struct verdict){ .action = ACTION_REJECT, .code = 550,
			.enhanced = "5.7.1", .reason = "dmarc-from",
			.text = "The From field names too many domains" };
	if (from->count == 0)
		return no_author(run);
	if (strictest.found == DMARC_FOUND)
		report_policy(run, finding, &strictest, strictest.action);
	if (unknown && strictest.action < DMARC_REJECT) {
		struct verdict wait = cannot_tell(run,
		    permitted(run, DMARC_REJECT));

		if (wait.action != ACTION_CONTINUE)
			return wait;
	}
	if (strictest.found != DMARC_FOUND)
		return VERDICT_CONTINUE;
	return enforce_policy(run, &strictest, strictest.action);
}

static struct verdict
dmarc_eom(struct filter_run *run)
{
	const struct instance *instance = run->instance;
	struct session *session = run->session;
	struct mail *mail = run->mail;
	struct dmarc_lookup lookup = { .arena = mail->arena,
		.suffixes = instance->suffixes,
		.deadline = task_deadline(instance->options->timeout) };
	struct from from = { 0 };

	if ((session->trusted || session->user != NULL) &&
	    !instance->options->check_trusted)
		return VERDICT_CONTINUE;
	if (mail->deadline != 0 && mail->deadline < lookup.deadline)
		lookup.deadline = mail->deadline;
	from_add_all(&from, mail->arena, &mail->headers);
	if (from_domain(&from) == NULL)
		return check_malformed(run, &lookup, &from);
	return check_author(run, &lookup, from_domain(&from));
}

/* One that is to come again is not counted yet. */
static void
dmarc_ended(struct filter_run *run, const struct verdict *verdict)
{
	const struct instance *instance = run->instance;

	if (run->mail_state != NULL && verdict->action != ACTION_TEMPFAIL &&
	    verdict->action != ACTION_DISCONNECT)
		dmarc_reporter_add(instance->reporter, run->mail_state);
}

const struct filter filter_dmarc = {
	.name = "dmarc",
	.options = &dmarc_section,
	.traits = FILTER_KEEPS,
	.setup = dmarc_setup,
	.release = dmarc_release,
	.eom = dmarc_eom,
	.ended = dmarc_ended,
};
