/* The filter "arc" (RFC 8617, 5.2). */
#include "filters/arc.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/net.h"
#include "base/task.h"
#include "filters/arc_check.h"
#include "filters/arc_set.h"
#include "filters/authres.h"
#include "filters/dkim_key.h"
#include "filters/key_lookup.h"
#include "filters/trace.h"

/* More at once, and others get their turn in between. */
#define PIECE_MAX 32768

#define ARC_OPTIONS(ROW, o)						\
	ROW(o, trusted_sealers, strings, "", NULL, NULL,		\
	    "Domains whose seals are believed: if one says that DMARC "	\
	    "passed when the mail came to it, dmarc does not enforce.")	\
	ROW(o, minimum_key_bits, number, "1024", "512", "4096",		\
	    "RSA keys with fewer bits let no chain pass.")		\
	ROW(o, clock_skew, duration, "5m", "0s", "1d",			\
	    "How far a sealer's clock may be off.")			\
	ROW(o, timeout, duration, "10s", "1s", "1m",			\
	    "How long the look-up of the keys may take.")

struct arc_options { ARC_OPTIONS(OPTION_FIELD, arc_options) };

static const struct option_row arc_rows[] = {
	ARC_OPTIONS(OPTION_ROW, arc_options)
};

static const struct section_kind arc_kind = {
	.name = "arc",
	.doc = "Validates ARC: what those found who forwarded a message. "
	    "Goes before dmarc.",
	.rows = arc_rows,
	.row_count = OPTION_COUNT(arc_rows),
	.size = sizeof(struct arc_options),
};

struct instance {
	const struct arc_options *options;
	struct dkim_key_cache *cache;
};

/* A message being validated. */
struct state {
	struct arc_sets *sets;
	struct arc_check *check;
	struct key_lookups *lookups;
	const char *trust;		/* value of policy.trust, or NULL */
};

static void *
setup(const struct conf *conf, const struct conf_section *section,
    const char **why)
{
	const struct arc_options *options = section->values;
	struct instance *instance;

	(void)conf;
	for (size_t i = 0; options->trusted_sealers[i] != NULL; i++)
		if (!net_is_host_name(options->trusted_sealers[i])) {
			*why = "trusted_sealers holds what is no domain";
			return NULL;
		}
	if ((instance = calloc(1, sizeof(*instance))) == NULL)
		fatal("arc: out of memory");
	instance->options = options;
	instance->cache = dkim_key_cache_new();
	return instance;
}

static void
release(void *argument)
{
	struct instance *instance = argument;

	dkim_key_cache_free(&instance->cache);
	free(instance);
}

static bool
is_trusted(const struct arc_options *options, const struct arc_set *set)
{
	const char *domain = set->seal_signature.domain;

	for (size_t i = 0; options->trusted_sealers[i] != NULL; i++)
		if (domain != NULL &&
		    strcasecmp(options->trusted_sealers[i], domain) == 0)
			return true;
	return false;
}

/*
 * "sealer" if the last sealer is trusted; "dmarc" if it, or one before it with
 * none but trusted ones behind, says that DMARC passed.  What others say is
 * worth nothing: whoever makes the first set writes into it what he likes, and
 * a trusted forwarder seals that, too.
 */
static const char *
find_trust(const struct arc_options *options, struct arena *arena,
    const struct arc_sets *sets)
{
	const char *trust = NULL, *dmarc;

	for (size_t i = sets->count; i-- > 0 && sets->why == NULL;) {
		const struct arc_set *set = &sets->sets[i];

		if (!is_trusted(options, set))
			break;
		trust = "sealer";
		dmarc = authres_result(arena, set->payload, set->payload_len,
		    "dmarc");
		if (dmarc != NULL && strcasecmp(dmarc, "pass") == 0)
			return "dmarc";
	}
	return trust;
}

static struct verdict
eoh(struct filter_run *run)
{
	const struct instance *instance = run->instance;
	const struct arc_options *options = instance->options;
	struct mail *mail = run->mail;
	struct dkim_rules rules = { .clock_skew = options->clock_skew / 1000 };
	struct state *state = arena_alloc(mail->arena, sizeof(*state));
	int64_t deadline = task_deadline(options->timeout);
	struct dkim_signature *signature;

	state->sets = arena_alloc(mail->arena, sizeof(*state->sets));
	arc_sets_read(state->sets, mail->arena, &mail->headers, &rules,
	    time(NULL));
	state->check = arc_check_new(mail->arena, state->sets, &mail->headers,
	    instance->cache, options->minimum_key_bits);
	state->trust = find_trust(options, mail->arena, state->sets);
	run->mail_state = state;
	state->lookups = key_lookups_new(deadline < mail->deadline ?
	    deadline : mail->deadline);
	for (size_t n = 0; (signature = arc_check_signature(state->check,
	    n)) != NULL; n++)
		key_lookups_ask(state->lookups, signature);
	return VERDICT_CONTINUE;
}

static struct verdict
body(struct filter_run *run, const char *bytes, size_t len)
{
	struct state *state = run->mail_state;

	if (state != NULL)
		arc_check_body(state->check, bytes, len);
	if (len > PIECE_MAX)
		task_yield();
	return VERDICT_CONTINUE;
}

static void
give_key(void *check, struct dkim_signature *signature, const char *record,
    size_t len)
{
	arc_check_key(check, signature, record, len);
}

/* RFC 8617, 10.1: header.oldest-pass, smtp.remote-ip; the others are ours. */
static void
report(struct filter_run *run, const struct state *state)
{
	const struct arc_verdict verdict = arc_check_verdict(state->check);
	const struct arc_sets *sets = state->sets;
	struct arena *arena = run->mail->arena;
	struct finding *finding = finding_add(run, "arc", verdict.result,
	    verdict.why);
	bool pass = strcmp(verdict.result, "pass") == 0;

	finding->report = true;
	if (pass)
		finding_property(run, finding, "header", "oldest-pass",
		    arena_printf(arena, "%zu", verdict.oldest));
	finding_property(run, finding, "smtp", "remote-ip",
	    run->session->client_address);
	if (sets->count > 0)
		finding_property(run, finding, "policy", "sets",
		    arena_printf(arena, "%zu", sets->count));
	if (pass || strcmp(verdict.result, "temperror") == 0) {
		finding_property(run, finding, "policy", "sealer",
		    sets->sets[sets->count - 1].seal_signature.domain);
		finding_property(run, finding, "policy", "trust",
		    state->trust);
	}
}

static void
state_end(struct filter_run *run)
{
	struct state *state = run->mail_state;

	run->mail_state = NULL;
	if (state == NULL)
		return;
	arc_check_free(&state->check);
	key_lookups_free(&state->lookups);
}

static struct verdict
eom(struct filter_run *run)
{
	struct state *state = run->mail_state;

	if (state == NULL)
		return VERDICT_CONTINUE;
	key_lookups_take(state->lookups, run->mail->deadline, give_key,
	    state->check);
	while (arc_check_step(state->check))
		task_yield();
	report(run, state);
	state_end(run);
	return VERDICT_CONTINUE;
}

const struct filter filter_arc = {
	.name = "arc",
	.options = &arc_kind,
	.traits = FILTER_LOOKS,
	.setup = setup,
	.release = release,
	.eoh = eoh,
	.body = body,
	.eom = eom,
	.abort = state_end,
};
