/* The filter "dkim_sign" (RFC 6376, 5). */
#include "filters/dkim_sign.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/net.h"
#include "filters/dkim_engine.h"
#include "filters/trace.h"

enum sign_for { SIGN_FOR_TRUSTED, SIGN_FOR_ALL };

enum canonicalization { RELAXED_RELAXED, RELAXED_SIMPLE, SIMPLE_SIMPLE };

#define DKIM_SIGN_OPTIONS(ROW, o)					\
	ROW(o, domains, strings, NULL, NULL, NULL,			\
	    "Domains to sign for: that of From, or one below.")		\
	ROW(o, selector, string, NULL, NULL, NULL,			\
	    "Selector of the key, published at "			\
	    "<selector>._domainkey.<domain>.")				\
	ROW(o, key, file, NULL, NULL, NULL,				\
	    "Private key in PEM: RSA of 1024 bits and more, or Ed25519.") \
	ROW(o, canonicalization, choice, "relaxed/relaxed",		\
	    "relaxed/relaxed|relaxed/simple|simple/simple", NULL,	\
	    "What changes on the way a signature survives.")		\
	ROW(o, headers, strings, "From, Sender, Reply-To, To, Cc, "	\
	    "Subject, Date, Message-ID, In-Reply-To, References, "	\
	    "MIME-Version, Content-Type, Content-Transfer-Encoding, "	\
	    "Content-Disposition, List-Id, List-Post, List-Help, "	\
	    "List-Unsubscribe, List-Unsubscribe-Post", NULL, NULL,	\
	    "Fields to sign if they are there.")			\
	ROW(o, oversign, strings, "From", NULL, NULL,			\
	    "Fields that nobody may add to a signed message.")		\
	ROW(o, expire, duration, "0s", "0s", "365d",			\
	    "How long a signature holds; 0: for ever.")			\
	ROW(o, sign_for, choice, "trusted", "trusted|all", NULL,	\
	    "Whom to sign for: trusted networks and authenticated "	\
	    "users, or everybody.")					\
	ROW(o, listeners, strings, "", NULL, NULL,			\
	    "Listeners whose clients are all trusted.")

struct dkim_sign_options {
	DKIM_SIGN_OPTIONS(OPTION_FIELD, dkim_sign_options)
};

static const struct option_row dkim_sign_rows[] = {
	DKIM_SIGN_OPTIONS(OPTION_ROW, dkim_sign_options)
};

static const struct section_kind dkim_sign_kind = {
	.name = "dkim_sign",
	.titled = true,
	.doc = "Signs messages with DKIM, in a process of its own.",
	.rows = dkim_sign_rows,
	.row_count = OPTION_COUNT(dkim_sign_rows),
	.size = sizeof(struct dkim_sign_options),
};

struct instance {
	const struct dkim_sign_options *options;
	struct dkim_signer *signer;
};

static const char *
options_check(const struct dkim_sign_options *options)
{
	if (options->domains[0] == NULL)
		return "domains is not set";
	for (size_t i = 0; options->domains[i] != NULL; i++)
		if (!net_is_host_name(options->domains[i]))
			return "domains holds what is no domain";
	if (options->selector == NULL)
		return "selector is not set";
	if (!net_is_host_name(options->selector))
		return "selector is no host name";
	if (options->key == NULL)
		return "key is not set";
	return NULL;
}

static void *
setup(const struct conf *conf, const struct conf_section *section,
    const char **why)
{
	const struct dkim_sign_options *options = section->values;
	struct dkim_signer_settings settings = { 0 };
	struct dkim_signer *signer;
	struct instance *instance;

	if ((*why = options_check(options)) != NULL)
		return NULL;
	if (!conf_file(conf, options->key, &settings.key,
	    &settings.key_len)) {
		*why = "key not available in this process";
		return NULL;
	}
	settings.selector = options->selector;
	settings.fields = options->headers;
	settings.oversign = options->oversign;
	settings.relaxed_header = options->canonicalization != SIMPLE_SIMPLE;
	settings.relaxed_body = options->canonicalization == RELAXED_RELAXED;
	settings.expire = options->expire / 1000;
	if ((signer = dkim_signer_new(&settings, why)) == NULL)
		return NULL;
	if ((instance = calloc(1, sizeof(*instance))) == NULL)
		fatal("dkim_sign: out of memory");
	instance->options = options;
	instance->signer = signer;
	return instance;
}

static void
release(void *argument)
{
	struct instance *instance = argument;

	dkim_signer_free(&instance->signer);
	free(instance);
}

static bool
is_ours(const struct dkim_sign_options *options, const struct session *session)
{
	if (options->sign_for == SIGN_FOR_ALL || session->trusted ||
	    session->user != NULL)
		return true;
	for (size_t i = 0; options->listeners[i] != NULL; i++)
		if (session->listener != NULL &&
		    strcmp(options->listeners[i], session->listener) == 0)
			return true;
	return false;
}

/*
 * The domain behind the last '@' of a From field.  Comments, quotes and groups
 * may hold others, but what is taken must be one of ours, and is signed as it
 * stands: no reader can take it for somebody else's.
 */
static const char *
from_domain(struct arena *arena, const struct header *from)
{
	const char *value = header_value(from, arena, true);
	const char *at = strrchr(value, '@');

	if (at == NULL)
		return NULL;
	at++;
	at += strspn(at, " \t");
	return arena_strndup(arena, at, strcspn(at, "> \t(),;"));
}

/* The longest of our domains that is the one given or above it. */
static const char *
signing_domain(const struct dkim_sign_options *options, const char *domain)
{
	const char *found = NULL;
	size_t len = strlen(domain), longest = 0;

	for (size_t i = 0; options->domains[i] != NULL; i++) {
		size_t ours = strlen(options->domains[i]);

		if (ours > len || ours <= longest || strcasecmp(domain + len -
		    ours, options->domains[i]) != 0 ||
		    (ours < len && domain[len - ours - 1] != '.'))
			continue;
		longest = ours;
		found = options->domains[i];
	}
	return found;
}

/* By the author, else by the sender; NULL: nobody of ours. */
static const char *
choose_domain(const struct dkim_sign_options *options, const struct mail *mail)
{
	const struct header *from = headers_find(&mail->headers, "From", 1);
	const char *domain, *found = NULL;

	/* RFC 5322, 3.6: From stands once.  Of several, who is the author? */
	if (from == NULL || headers_find(&mail->headers, "From", 2) != NULL)
		return NULL;
	if ((domain = from_domain(mail->arena, from)) != NULL)
		found = signing_domain(options, domain);
	if (found == NULL &&
	    (domain = address_domain(mail->envelope.sender)) != NULL)
		found = signing_domain(options, domain);
	return found;
}

static const char *
sign(const struct instance *instance, struct mail *mail, const char *domain,
    const char **why)
{
	struct dkim_signing *signing = dkim_signing_new(instance->signer,
	    mail->arena, &mail->headers, domain, mail->envelope.id, why);
	const char *value = NULL;

	if (signing == NULL)
		return NULL;
	if (dkim_signing_feed(signing, mail->body, why) == 0)
		value = dkim_signing_eom(signing, why);
	dkim_signing_free(&signing);
	return value;
}

static struct verdict
eom(struct filter_run *run)
{
	const struct instance *instance = run->instance;
	struct mail *mail = run->mail;
	const char *domain, *value, *why = NULL;

	if (!is_ours(instance->options, run->session))
		return VERDICT_CONTINUE;
	domain = choose_domain(instance->options, mail);
	if (domain == NULL) {
		trace_add(mail->trace, run->name, "not a domain of ours");
		return VERDICT_CONTINUE;
	}
	value = sign(instance, mail, domain, &why);
	if (value == NULL) {
		log_warn(&mail->log, "dkim_sign=%s domain=%s why=\"%s\"",
		    run->name, domain, why);
		return VERDICT_CONTINUE;
	}
	headers_add(&mail->headers, mail->arena, mail->headers.first,
	    "DKIM-Signature", value, true);
	trace_add(mail->trace, run->name, "signed for %s", domain);
	return VERDICT_CONTINUE;
}

const struct filter filter_dkim_sign = {
	.name = "dkim_sign",
	.options = &dkim_sign_kind,
	.traits = FILTER_ISOLATED,
	.setup = setup,
	.release = release,
	.eom = eom,
};
