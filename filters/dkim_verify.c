/* The filter "dkim" (RFC 6376, RFC 8601, 2.7.1). */
#include "filters/dkim_verify.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/dkim_engine.h"
#include "filters/key_lookup.h"

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

/* A message being verified. */
struct state {
	struct dkim_verifier *verifier;
	struct key_lookups *lookups;
	struct key_lookup **of;		/* for each signature, or NULL */
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
	state->of = arena_alloc(arena, count * sizeof(struct key_lookup *));
	for (size_t i = 0; i < count; i++) {
		if (signatures[i].result != NULL)
			continue;
		if (state->lookups == NULL)
			state->lookups = key_lookups_new(deadline);
		state->of[i] = key_lookup_start(state->lookups,
		    signatures[i].selector, signatures[i].domain);
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

static void
key_take(struct state *state, struct dkim_signature *signature,
    const struct key_lookup *lookup)
{
	const char *record;
	size_t len;

	signature->result = key_lookup_result(lookup, &record, &len,
	    &signature->reason);
	if (signature->result == NULL)
		dkim_verifier_key(state->verifier, signature, record, len);
}

static void
keys_take(struct filter_run *run, struct state *state)
{
	size_t count;
	struct dkim_signature *signatures =
	    dkim_verifier_signatures(state->verifier, &count);

	if (state->lookups != NULL)
		key_lookups_wait(state->lookups, run->mail->deadline);
	for (size_t i = 0; i < count; i++)
		if (state->of[i] != NULL)
			key_take(state, &signatures[i], state->of[i]);
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
	key_lookups_free(&state->lookups);
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
