/* The filter "dkim" (RFC 6376, RFC 8601, 2.7.1). */
#include "filters/dkim_verify.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/dkim_engine.h"
#include "filters/key_lookup.h"

/* More at once, and others get their turn in between. */
#define PIECE_MAX 32768

enum partial_body { PARTIAL_BODY_NEUTRAL, PARTIAL_BODY_PASS };

#define DKIM_OPTIONS(ROW, o)						\
	ROW(o, engine, choice, "openssl", "openssl|libopendkim", NULL,	\
	    "What verifies: our own code on OpenSSL, or libopendkim, "	\
	    "which takes several times as long.")			\
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
};

static void *
setup(const struct conf *conf, const struct conf_section *section,
    const char **why)
{
	const struct dkim_options *options = section->values;
	struct dkim_rules rules = {
		.engine = (enum dkim_engine_kind)options->engine,
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

static struct verdict
eoh(struct filter_run *run)
{
	const struct instance *instance = run->instance;
	struct state *state = arena_alloc(run->mail->arena, sizeof(*state));
	int64_t deadline = task_deadline(instance->timeout_ms);
	struct dkim_signature *signatures;
	size_t count;

	state->verifier = dkim_verifier_new(instance->engine,
	    run->mail->arena, &run->mail->headers, run->mail->envelope.id);
	run->mail_state = state;
	signatures = dkim_verifier_signatures(state->verifier, &count);
	state->lookups = key_lookups_new(deadline < run->mail->deadline ?
	    deadline : run->mail->deadline);
	for (size_t i = 0; i < count; i++)
		key_lookups_ask(state->lookups, &signatures[i]);
	return VERDICT_CONTINUE;
}

static struct verdict
body(struct filter_run *run, const char *bytes, size_t len)
{
	struct state *state = run->mail_state;

	if (state != NULL)
		dkim_verifier_body(state->verifier, bytes, len);
	if (len > PIECE_MAX)
		task_yield();
	return VERDICT_CONTINUE;
}

static void
give_key(void *verifier, struct dkim_signature *signature, const char *record,
    size_t len)
{
	dkim_verifier_key(verifier, signature, record, len);
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
	key_lookups_take(state->lookups, run->mail->deadline, give_key,
	    state->verifier);
	while (dkim_verifier_step(state->verifier))
		task_yield();
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
