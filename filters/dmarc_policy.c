/* DMARC's policy discovery, alignment and evaluation (RFC 9989). */
#include "filters/dmarc_policy.h"

#include <stdio.h>
#include <string.h>

#include <opendmarc/dmarc.h>

#include "base/arena.h"
#include "base/dns.h"
#include "base/log.h"
#include "filters/domain.h"

/* --- looking for records --- */

/* The record of one domain. */
struct step {
	const char *domain;
	enum dmarc_found found;
	struct dmarc_record record;
	const char *why;
};

struct walk {
	size_t count;
	struct step steps[DMARC_QUESTIONS_MAX];
	const struct step *failed;	/* the first that DNS did not answer */
};

static void
step_take(const struct dmarc_lookup *lookup, const char *domain,
    struct step *step)
{
	const struct dns_record *found = NULL;
	const struct dns_answer *answer;

	*step = (struct step){ .domain = domain, .found = DMARC_ABSENT };
	answer = dns_query(lookup->arena, arena_printf(lookup->arena,
	    "_dmarc.%s", domain), DNS_TXT, lookup->deadline);
	if (answer->status == DNS_FAILED) {
		step->found = DMARC_UNKNOWN;
		step->why = answer->why == NULL ? "no answer" : answer->why;
		return;
	}
	for (size_t i = 0; i < answer->count; i++) {
		const struct dns_record *r = &answer->records[i];

		if (!dmarc_is_record(r->text, r->text_len))
			continue;
		/* RFC 9989, 4.10: of several none counts. */
		if (found != NULL)
			return;
		found = r;
	}
	if (found == NULL)
		return;
	step->found = dmarc_record_parse(found->text, found->text_len,
	    &step->record, &step->why) == 0 ? DMARC_FOUND : DMARC_UNUSABLE;
}

/* RFC 9989, 4.10: from eight labels on, the walk goes on at seven. */
static const char *
walk_second(const char *domain)
{
	size_t labels = domain_labels(domain);

	if (labels < DMARC_QUESTIONS_MAX)
		return domain_parent(domain);
	for (; labels >= DMARC_QUESTIONS_MAX; labels--)
		domain = domain_parent(domain);
	return domain;
}

static void
walk_up(const struct dmarc_lookup *lookup, const char *domain,
    struct walk *walk)
{
	const char *next = walk_second(domain);

	walk->count = 0;
	walk->failed = NULL;
	while (domain != NULL && walk->count < DMARC_QUESTIONS_MAX) {
		struct step *step = &walk->steps[walk->count++];

		step_take(lookup, domain, step);
		if (step->found == DMARC_UNKNOWN && walk->failed == NULL)
			walk->failed = step;
		if (step->found == DMARC_FOUND && (step->record.psd == 'n' ||
		    (step->record.psd == 'y' && walk->count > 1)))
			return;
		domain = next;
		next = domain == NULL ? NULL : domain_parent(domain);
	}
}

/* What remains of a domain when only that many labels stay. */
static const char *
last_labels(const char *domain, size_t labels)
{
	for (size_t have = domain_labels(domain); have > labels; have--)
		domain = domain_parent(domain);
	return domain;
}

/* RFC 9989, 4.10.2; a walk ends at psd=n, so that is the shortest then. */
static const char *
walk_organizational(const struct walk *walk)
{
	const char *start = walk->steps[0].domain, *shortest = start;

	for (size_t i = 0; i < walk->count; i++) {
		const struct step *step = &walk->steps[i];

		if (step->found != DMARC_FOUND)
			continue;
		if (step->record.psd == 'y' && i > 0)
			return last_labels(start,
			    domain_labels(step->domain) + 1);
		shortest = step->domain;
	}
	return shortest;
}

static const struct step *
walk_step(const struct walk *walk, const char *domain)
{
	for (size_t i = 0; i < walk->count; i++)
		if (strcmp(walk->steps[i].domain, domain) == 0)
			return &walk->steps[i];
	return NULL;
}

/*
 * Whether that record is known whatever DNS did not answer: the failures are
 * all above it.  Those below it share it then, and so an organization.
 */
static bool
walk_knows(const struct walk *walk, const struct step *step)
{
	return walk->failed == NULL || (step != NULL &&
	    step->found == DMARC_FOUND && walk->failed > step);
}

/* --- the policy that applies --- */

static void
take_step(struct dmarc_policy *policy, const struct step *step)
{
	policy->found = step->found;
	policy->domain = step->domain;
	policy->record = step->record;
	policy->why = step->why;
}

/*
 * RFC 9989, 4.10.1: the author's own record, or its organizational domain's, or
 * that of the public suffix above.
 */
static void
find_by_walk(const struct dmarc_lookup *lookup, struct dmarc_policy *policy)
{
	const struct step *step;
	struct walk walk;

	walk_up(lookup, policy->author, &walk);
	policy->organizational = walk_organizational(&walk);
	policy->organizational_unknown = walk.failed != NULL;
	if (walk.steps[0].found != DMARC_ABSENT) {
		take_step(policy, &walk.steps[0]);
		return;
	}
	/*
	 * A step that is not known may be the one that decides.  But who makes
	 * DNS fail for a registry must not get past what its domains ask for.
	 */
	step = walk_step(&walk, policy->organizational);
	if (!walk_knows(&walk, step)) {
		take_step(policy, walk.failed);
		return;
	}
	if (step != NULL && step->found != DMARC_ABSENT) {
		take_step(policy, step);
		return;
	}
	step = &walk.steps[walk.count - 1];
	if (step->found == DMARC_FOUND && step->record.psd == 'y')
		take_step(policy, step);
}

/* RFC 7489, 6.6.3 */
static void
find_by_list(const struct dmarc_lookup *lookup, struct dmarc_policy *policy)
{
	struct step step;

	policy->organizational = domain_organizational(lookup->suffixes,
	    policy->author);
	step_take(lookup, policy->author, &step);
	if (step.found == DMARC_ABSENT &&
	    strcmp(policy->organizational, policy->author) != 0)
		step_take(lookup, policy->organizational, &step);
	if (step.found != DMARC_ABSENT)
		take_step(policy, &step);
}

/* RFC 9989, 3.2: a name that does not exist has no names below either. */
static void
check_existence(const struct dmarc_lookup *lookup, struct dmarc_policy *policy)
{
	const struct dns_answer *answer;

	policy->exists = true;
	if (policy->record.np == DMARC_UNSET ||
	    strcmp(policy->domain, policy->author) == 0)
		return;
	answer = dns_query(lookup->arena, policy->author, DNS_A,
	    lookup->deadline);
	if (answer->status == DNS_NXDOMAIN)
		policy->exists = false;
	if (answer->status == DNS_FAILED) {
		policy->found = DMARC_UNKNOWN;
		policy->why = answer->why == NULL ? "no answer" : answer->why;
	}
}

/* The tag for this author: p, or sp or np below the record's domain. */
static enum dmarc_action
subdomain_action(const struct dmarc_policy *policy)
{
	if (!policy->exists && policy->record.np != DMARC_UNSET)
		return policy->record.np;
	if (policy->record.sp != DMARC_UNSET)
		return policy->record.sp;
	return policy->record.p;
}

void
dmarc_policy_find(const struct dmarc_lookup *lookup, const char *author,
    struct dmarc_policy *policy)
{
	*policy = (struct dmarc_policy){ .found = DMARC_ABSENT,
		.author = author };
	if (lookup->suffixes == NULL)
		find_by_walk(lookup, policy);
	else
		find_by_list(lookup, policy);
	if (policy->found == DMARC_FOUND)
		check_existence(lookup, policy);
	if (policy->found == DMARC_FOUND)
		dmarc_evaluate(policy, false, &policy->action);
}

/* --- alignment (RFC 9989, 4.4) --- */

/*
 * libopendmarc's own check takes evil-target.org for aligned with x.org, so it
 * is done here, and the library hears only of domains that are aligned.
 */
enum answer
dmarc_aligned(const struct dmarc_lookup *lookup,
    const struct dmarc_policy *policy, const char *identifier, bool strict)
{
	const char *author = policy->author, *organizational;
	struct walk walk;

	if (strcmp(identifier, author) == 0)
		return ANSWER_YES;
	if (strict)
		return ANSWER_NO;
	if (lookup->suffixes != NULL)
		return strcmp(domain_organizational(lookup->suffixes,
		    identifier), policy->organizational) == 0 ?
		    ANSWER_YES : ANSWER_NO;
	if (policy->organizational_unknown &&
	    !domain_is_within(identifier, policy->organizational))
		return domain_is_within(identifier, last_labels(author, 1)) ?
		    ANSWER_UNKNOWN : ANSWER_NO;
	/* Saves the walk: its result is the identifier or stands above it. */
	if (!domain_is_within(identifier, policy->organizational))
		return ANSWER_NO;
	walk_up(lookup, identifier, &walk);
	if (!walk_knows(&walk, walk_step(&walk, policy->organizational)))
		return ANSWER_UNKNOWN;
	organizational = walk_organizational(&walk);
	return strcmp(organizational, policy->organizational) == 0 ?
	    ANSWER_YES : ANSWER_NO;
}

/* --- evaluation, by libopendmarc --- */

/*
 * The record as the library may read it: its parser takes p=r for reject, the
 * last of several tags, and drops all for one bad value, so it gets our words.
 */
static void
library_record(const struct dmarc_policy *policy, char *text, size_t size)
{
	snprintf(text, size, "v=DMARC1; p=%s; sp=%s; adkim=s; aspf=s",
	    dmarc_action_name(policy->record.p),
	    dmarc_action_name(subdomain_action(policy)));
}

static int
library_evaluate(const struct dmarc_policy *policy, bool aligned)
{
	char author[DOMAIN_MAX + 1], domain[DOMAIN_MAX + 1], record[128];
	unsigned char address[] = "192.0.2.1", none[] = "";
	bool below = strcmp(policy->author, policy->domain) != 0;
	DMARC_POLICY_T *context;
	int result;

	snprintf(author, sizeof(author), "%s", policy->author);
	snprintf(domain, sizeof(domain), "%s", policy->domain);
	library_record(policy, record, sizeof(record));
	context = opendmarc_policy_connect_init(address, 0);
	if (context == NULL)
		fatal("out of memory");
	opendmarc_policy_store_from_domain(context, (unsigned char *)author);
	/* An aligned domain is the author's as far as the library knows. */
	if (aligned)
		opendmarc_policy_store_spf(context, (unsigned char *)author,
		    DMARC_POLICY_SPF_OUTCOME_PASS,
		    DMARC_POLICY_SPF_ORIGIN_MAILFROM, none);
	opendmarc_policy_store_dmarc(context, (unsigned char *)record,
	    (unsigned char *)author, below ? (unsigned char *)domain : NULL);
	result = opendmarc_get_policy_to_enforce(context);
	opendmarc_policy_connect_shutdown(context);
	return result;
}

/* RFC 9989, 4.7, t=y: one level below what the record says. */
static enum dmarc_action
one_level_below(enum dmarc_action action)
{
	return action == DMARC_REJECT ? DMARC_QUARANTINE : DMARC_NONE;
}

bool
dmarc_evaluate(const struct dmarc_policy *policy, bool aligned,
    enum dmarc_action *action)
{
	*action = DMARC_NONE;
	switch (library_evaluate(policy, aligned)) {
	case DMARC_POLICY_PASS:
		return true;
	case DMARC_POLICY_REJECT:
		*action = DMARC_REJECT;
		break;
	case DMARC_POLICY_QUARANTINE:
		*action = DMARC_QUARANTINE;
		break;
	default:
		break;
	}
	if (policy->record.testing)
		*action = one_level_below(*action);
	return false;
}
