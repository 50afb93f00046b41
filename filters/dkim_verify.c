/* The filter "dkim" (RFC 6376, RFC 8601, 2.7.1). */
#include "filters/dkim_verify.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/dns.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/dkim_engine.h"

enum partial_body { PARTIAL_BODY_NEUTRAL, PARTIAL_BODY_PASS };

#define DKIM_OPTIONS(ROW, o)						\
	ROW(o, minimum_key_bits, number, "1024", "512", "4096",		\
	    "RSA keys with fewer bits give policy, not pass.")		\
	ROW(o, rsa_sha1, flag, "no", NULL, NULL,			\
	    "Let rsa-sha1 pass, which RFC 8301 forbids.")		\
	ROW(o, max_signatures, number, "8", "1", "50",			\
	    "How many signatures of a message are looked at.")		\
	ROW(o, partial_body, choice, "neutral", "neutral|pass", NULL,	\
	    "What a good signature gives whose l= leaves out a part of "	\
	    "the body.")						\
	ROW(o, clock_skew, duration, "5m", "0s", "1d",			\
	    "How far the signer's clock may be off.")			\
	ROW(o, timeout, duration, "10s", "1s", "1m",			\
	    "How long the look-up of the keys may take.")

struct dkim_options { DKIM_OPTIONS(OPTION_FIELD, dkim_options) };

static const struct option_row dkim_rows[] = {
	DKIM_OPTIONS(OPTION_ROW, dkim_options)
};

static const struct section_kind dkim_kind = {
	.name = "dkim",
	.doc = "Verifies DKIM signatures.",
	.rows = dkim_rows,
	.row_count = OPTION_COUNT(dkim_rows),
	.size = sizeof(struct dkim_options),
};

struct instance {
	struct dkim_engine *engine;
	int64_t timeout_ms;
	size_t max_signatures;
};

/*
 * The look-ups of one message.  They outlive it if it ends early, since abort
 * must not wait: whoever lets go last frees them.
 */
struct lookups {
	struct arena *arena;
	size_t holders;
	size_t running;
	struct task_cond done;
	int64_t deadline;
};

struct lookup {
	struct lookups *all;
	const char *name;
	const struct dns_answer *answer;	/* NULL: not yet */
	struct lookup *next;
};

/* A message being verified. */
struct state {
	struct dkim_verifier *verifier;
	struct lookups *lookups;
	struct lookup *first;		/* one for each name */
	struct lookup **of;		/* for each signature, or NULL */
};

static void *
setup(const struct conf *conf, const struct conf_section *section,
    const char **why)
{
	const struct dkim_options *options = section->values;
	struct dkim_rules rules = {
		.minimum_key_bits = options->minimum_key_bits,
		.clock_skew = options->clock_skew / 1000,
		.max_signatures = (size_t)options->max_signatures,
		.sha1 = options->rsa_sha1,
		.partial_body = options->partial_body == PARTIAL_BODY_PASS,
	};
	struct dkim_engine *engine = dkim_engine_new(&rules, why);
	struct instance *instance;

	(void)conf;
	if (engine == NULL)
		return NULL;
	if ((instance = calloc(1, sizeof(*instance))) == NULL)
		fatal("dkim: out of memory");
	instance->engine = engine;
	instance->timeout_ms = options->timeout;
	instance->max_signatures = rules.max_signatures;
	return instance;
}

static void
release(void *argument)
{
	struct instance *instance = argument;

	dkim_engine_free(&instance->engine);
	free(instance);
}

static void
lookups_let_go(struct lookups *lookups)
{
	struct arena *arena = lookups->arena;

	if (--lookups->holders == 0)
		arena_free(&arena);	/* holds lookups, too */
}

static void
look_up(void *argument)
{
	struct lookup *lookup = argument;
	struct lookups *all = lookup->all;

	lookup->answer = dns_query(all->arena, lookup->name, DNS_TXT,
	    all->deadline);
	all->running--;
	task_cond_broadcast(&all->done);
	lookups_let_go(all);
}

static struct lookup *
lookup_start(struct state *state, const char *name)
{
	struct lookups *all = state->lookups;
	struct lookup *lookup;

	for (lookup = state->first; lookup != NULL; lookup = lookup->next)
		if (strcmp(lookup->name, name) == 0)
			return lookup;
	lookup = arena_alloc(all->arena, sizeof(*lookup));
	lookup->all = all;
	lookup->name = arena_strdup(all->arena, name);
	lookup->next = state->first;
	state->first = lookup;
	all->holders++;
	all->running++;
	task_detach("dkim key", look_up, lookup);
	return lookup;
}

static struct lookups *
lookups_new(int64_t deadline)
{
	struct arena *arena = arena_new(0);
	struct lookups *lookups = arena_alloc(arena, sizeof(*lookups));

	lookups->arena = arena;
	lookups->holders = 1;
	lookups->deadline = deadline;
	return lookups;
}

static void
keys_ask(struct filter_run *run, struct state *state)
{
	const struct instance *instance = run->instance;
	struct arena *arena = run->mail->arena;
	int64_t deadline = task_deadline(instance->timeout_ms);
	size_t count;
	struct dkim_signature *signatures =
	    dkim_verifier_signatures(state->verifier, &count);

	if (deadline > run->mail->deadline)
		deadline = run->mail->deadline;
	state->of = arena_alloc(arena, count * sizeof(struct lookup *));
	for (size_t i = 0; i < count; i++) {
		if (signatures[i].result != NULL)
			continue;
		if (state->lookups == NULL)
			state->lookups = lookups_new(deadline);
		state->of[i] = lookup_start(state, arena_printf(arena,
		    "%s._domainkey.%s", signatures[i].selector,
		    signatures[i].domain));
	}
}

static struct verdict
eoh(struct filter_run *run)
{
	const struct instance *instance = run->instance;
	struct state *state = arena_alloc(run->mail->arena, sizeof(*state));

	state->verifier = dkim_verifier_new(instance->engine,
	    run->mail->arena, &run->mail->headers, run->mail->envelope.id);
	run->mail_state = state;
	keys_ask(run, state);
	return VERDICT_CONTINUE;
}

static struct verdict
body(struct filter_run *run, const char *bytes, size_t len)
{
	struct state *state = run->mail_state;

	if (state != NULL)
		dkim_verifier_body(state->verifier, bytes, len);
	return VERDICT_CONTINUE;
}

/* RFC 6376, 6.1.2: no key, or several records, is final; silence is not. */
static void
key_take(struct state *state, struct dkim_signature *signature,
    const struct dns_answer *answer)
{
	if (answer == NULL || answer->status == DNS_FAILED) {
		signature->result = "temperror";
		signature->reason = "the key's look-up failed";
	} else if (answer->status != DNS_FOUND || answer->count == 0) {
		signature->result = "permerror";
		signature->reason = "no key for signature";
	} else if (answer->count > 1) {
		signature->result = "permerror";
		signature->reason = "several key records";
	} else
		dkim_verifier_key(state->verifier, signature,
		    answer->records[0].text, answer->records[0].text_len);
}

static void
keys_take(struct filter_run *run, struct state *state)
{
	size_t count;
	struct dkim_signature *signatures =
	    dkim_verifier_signatures(state->verifier, &count);

	while (state->lookups != NULL && state->lookups->running > 0)
		if (task_cond_wait(&state->lookups->done,
		    run->mail->deadline) == -1)
			break;
	for (size_t i = 0; i < count; i++)
		if (state->of[i] != NULL)
			key_take(state, &signatures[i], state->of[i]->answer);
}

static void
report(struct filter_run *run, const struct dkim_signature *signature)
{
	struct finding *finding = finding_add(run, "dkim", signature->result,
	    signature->reason);

	finding->report = true;
	finding_property(run, finding, "header", "d", signature->domain);
	finding_property(run, finding, "header", "i", signature->identity);
	finding_property(run, finding, "header", "s", signature->selector);
	finding_property(run, finding, "header", "a", signature->algorithm);
	if (signature->b[0] != '\0')
		finding_property(run, finding, "header", "b", signature->b);
}

static void
state_end(struct filter_run *run)
{
	struct state *state = run->mail_state;

	run->mail_state = NULL;
	if (state == NULL)
		return;
	dkim_verifier_free(&state->verifier);
	if (state->lookups != NULL)
		lookups_let_go(state->lookups);
}

static struct verdict
eom(struct filter_run *run)
{
	const struct instance *instance = run->instance;
	struct state *state = run->mail_state;
	struct dkim_signature *signatures;
	size_t count;

	if (state == NULL)
		return VERDICT_CONTINUE;
	keys_take(run, state);
	dkim_verifier_eom(state->verifier);
	signatures = dkim_verifier_signatures(state->verifier, &count);
	/* One more than were looked at says that there were more. */
	for (size_t i = 0; i < count && i <= instance->max_signatures; i++)
		report(run, &signatures[i]);
	if (count == 0)
		finding_add(run, "dkim", "none", NULL)->report = true;
	state_end(run);
	return VERDICT_CONTINUE;
}

const struct filter filter_dkim = {
	.name = "dkim",
	.options = &dkim_kind,
	.traits = FILTER_LOOKS,
	.setup = setup,
	.release = release,
	.eoh = eoh,
	.body = body,
	.eom = eom,
	.abort = state_end,
};
