/* The policy service "dnsbl". */
#include "policy/dnsbl.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "policy/dnsbl_site.h"
#include "policy/protocol.h"
#include "policy/service.h"

static const struct option_row dnsbl_rows[] = {
	DNSBL_OPTIONS(OPTION_ROW, dnsbl_options)
};

const struct section_kind dnsbl_section = {
	.name = "dnsbl",
	.doc = "DNS lists of bad and good addresses and domains.",
	.rows = dnsbl_rows,
	.row_count = OPTION_COUNT(dnsbl_rows),
	.size = sizeof(struct dnsbl_options),
};

/* --- deciding --- */

static void
refuse(struct dnsbl *dnsbl, struct arena *arena,
    const struct dnsbl_result *result, struct policy_decision *decision)
{
	bool defer = dnsbl_options(dnsbl)->action == DNSBL_DEFER;

	policy_decide(decision, defer ? POLICY_DEFER : POLICY_REJECT, "dnsbl",
	    "%s", dnsbl_reply(arena, result));
	decision->code = defer ? 450 : 554;
	strcpy(decision->enhanced, defer ? "4.7.1" : "5.7.1");
}

bool
dnsbl_decide(struct dnsbl *dnsbl, struct arena *arena,
    const struct dnsbl_question *question, struct policy_decision *decision)
{
	const struct dnsbl_options *o = dnsbl_options(dnsbl);
	struct dnsbl_result result;

	dnsbl_ask(dnsbl, arena, question, &result);
	if (result.why[0] != '\0')
		snprintf(decision->why, sizeof(decision->why), "%lld points, "
		    "%s", (long long)result.score, result.why);
	if (o->pass_threshold < 0 && result.score <= o->pass_threshold) {
		policy_decide(decision, POLICY_PASS, "dnsbl", " ");
		decision->text[0] = '\0';
		return true;
	}
	if (result.score < o->threshold || result.site == NULL)
		return false;
	decision->reason = "dnsbl";
	if (o->action == DNSBL_WARN)
		return false;
	refuse(dnsbl, arena, &result, decision);
	return true;
}

/* "dkim=example.org spf=example.net" */
static void
add_authenticated(struct dnsbl_question *question, struct arena *arena,
    const char *domains)
{
	char *list = arena_strdup(arena, domains), *one, *rest;

	for (one = strtok_r(list, " ", &rest); one != NULL;
	    one = strtok_r(NULL, " ", &rest))
		if (strchr(one, '=') != NULL)
			dnsbl_add_domain(question, arena, strchr(one, '=') +
			    1);
}

/*
 * At CONNECT our own client may yet prove to be a user: what it sends is asked
 * about at RCPT.  At the end only authenticated domains are new.
 */
static void
decide(void *instance, const struct policy_query *query,
    struct policy_decision *decision)
{
	const struct policy_request *request = query->request;
	const char *sender = policy_value(request, POLICY_SENDER);
	const char *authenticated = query->ours ? policy_value(request,
	    POLICY_AUTH_DOMAINS) : "";
	struct dnsbl *dnsbl = instance;
	struct dnsbl_question question = {
		.address = policy_known(request, POLICY_CLIENT_ADDRESS) };
	struct arena *arena;

	if ((query->ours && query->state == POLICY_AT_CONNECT) ||
	    (query->state == POLICY_AT_END && (*authenticated == '\0' ||
	    dnsbl_options(dnsbl)->domain_sites[0] == NULL)))
		return;
	arena = arena_new(0);
	if (strchr(sender, '@') != NULL)
		dnsbl_add_domain(&question, arena, strrchr(sender, '@') + 1);
	dnsbl_add_domain(&question, arena, policy_known(request,
	    POLICY_HELO_NAME));
	add_authenticated(&question, arena, authenticated);
	dnsbl_decide(dnsbl, arena, &question, decision);
	arena_free(&arena);
}

/* --- for operators --- */

static int
command(const struct policy_instance *instances, size_t count,
    struct store *store, const char *const *words, size_t word_count,
    struct buf *out, const char **why)
{
	(void)store, (void)count;
	if (word_count > 2) {
		*why = "dnsbl [ADDRESS | DOMAIN]";
		return -2;
	}
	if (word_count == 1)
		dnsbl_show(instances->instance, out);
	else
		dnsbl_show_of(instances->instance, words[1], out);
	return 0;
}

/* --- options --- */

static size_t
check_sites(const struct conf *conf, const struct conf_section *section,
    const char *option, const char *const *texts, struct buf *errors)
{
	struct dnsbl_site site;
	const char *why;
	size_t count = 0;

	for (; texts[count] != NULL; count++)
		if (dnsbl_site_parse(texts[count], &site, &why) != 0)
			conf_error(errors, conf, section, option, "%s: %s",
			    texts[count], why);
	return count;
}

static void
check_options(const struct conf *conf, struct buf *errors)
{
	const struct dnsbl_options *o = conf_get(conf, dnsbl_section.name);
	const struct conf_section *section;
	size_t count, all;

	section = conf_sections(conf, dnsbl_section.name, &count);
	all = check_sites(conf, section, "sites", o->sites, errors);
	all += check_sites(conf, section, "domain_sites", o->domain_sites,
	    errors);
	if (all > DNSBL_SITES_MAX)
		conf_error(errors, conf, section, "sites",
		    "more than %d lists", DNSBL_SITES_MAX);
}

static void *
setup(const struct conf *conf, const struct conf_section *section,
    struct store *store, const char **why)
{
	(void)section, (void)store, (void)why;
	return dnsbl_open(conf);
}

static void
release(void *instance)
{
	struct dnsbl *dnsbl = instance;

	dnsbl_close(&dnsbl);
}

const struct policy_service dnsbl_service = {
	.options = &dnsbl_section,
	.states = POLICY_AT_CONNECT | POLICY_AT_RCPT | POLICY_AT_END,
	.strangers_only = true, .answer_ms = DNSBL_ANSWER_MS,
	.setup = setup, .release = release, .decide = decide,
	.command_word = "dnsbl", .command = command,
	.check = check_options,
};
