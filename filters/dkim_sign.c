/* The filter "dkim_sign" (RFC 6376, 5). */
#include "filters/dkim_sign.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/key_table.h"
#include "base/log.h"
#include "base/net.h"
#include "base/task.h"
#include "filters/convert.h"
#include "filters/dkim_engine.h"
#include "filters/dkim_key.h"
#include "filters/dkim_keys.h"
#include "filters/trace.h"

enum sign_for { SIGN_FOR_TRUSTED, SIGN_FOR_ALL };

enum convert_choice { CONVERT_ALL, CONVERT_LONG_LINES, CONVERT_NO };

enum canonicalization { RELAXED_RELAXED, RELAXED_SIMPLE, SIMPLE_SIMPLE };

#define DKIM_SIGN_OPTIONS(ROW, o)					\
	ROW(o, domains, strings, NULL, NULL, NULL,			\
	    "Domains to sign for: that of From, or one below.")		\
	ROW(o, selector, string, NULL, NULL, NULL,			\
	    "Selector of the key, published at "			\
	    "<selector>._domainkey.<domain>.")				\
	ROW(o, key, file, NULL, NULL, NULL,				\
	    "Private key in PEM: RSA of 1024 bits and more, or Ed25519.") \
	ROW(o, keys, key_table, NULL, NULL, NULL,			\
	    "Instead of those three: a file with a key a line: pattern, "\
	    "domain, selector, file, days; see SIGNING TABLES.")		\
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
	    "Listeners whose clients are all trusted.")			\
	ROW(o, convert, choice, "all", CONVERT_CHOICES "|no", NULL,	\
	    "What is encoded before it's signed, lest a later server "	\
	    "does it and breaks the signature: 8-bit text and lines "	\
	    "of more than 998 octets, such lines alone, or nothing.")

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
	struct dkim_keys *keys;		/* or one: */
	EVP_PKEY *key;
};

static const char *
options_check(const struct dkim_sign_options *options)
{
	if (options->keys != NULL)
		return options->domains[0] == NULL &&
		    options->selector == NULL && options->key == NULL ? NULL :
		    "keys stands for domains, selector and key: have either";
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

static int
read_keys(struct instance *instance, const struct conf *conf,
    const char **why)
{
	const struct dkim_sign_options *options = instance->options;
	const char *pem;
	size_t len;

	if (options->keys != NULL) {
		instance->keys = dkim_keys_new(conf, options->keys, why);
		return instance->keys == NULL ? -1 : 0;
	}
	if (!conf_file(conf, options->key, &pem, &len)) {
		*why = "key not available in this process";
		return -1;
	}
	instance->key = dkim_key_private(pem, len, why);
	return instance->key == NULL ? -1 : 0;
}

static void
release(void *argument)
{
	struct instance *instance = argument;

	dkim_signer_free(&instance->signer);
	dkim_keys_free(&instance->keys);
	EVP_PKEY_free(instance->key);
	free(instance);
}

static void *
setup(const struct conf *conf, const struct conf_section *section,
    const char **why)
{
	const struct dkim_sign_options *options = section->values;
	struct dkim_signer_settings settings = { 0 };
	struct instance *instance;

	if ((*why = options_check(options)) != NULL)
		return NULL;
	if ((instance = calloc(1, sizeof(*instance))) == NULL)
		fatal("dkim_sign: out of memory");
	instance->options = options;
	if (read_keys(instance, conf, why) == -1) {
		release(instance);
		return NULL;
	}
	settings.fields = options->headers;
	settings.oversign = options->oversign;
	settings.relaxed_header = options->canonicalization != SIMPLE_SIMPLE;
	settings.relaxed_body = options->canonicalization == RELAXED_RELAXED;
	settings.expire = options->expire / 1000;
	instance->signer = dkim_signer_new(&settings, why);
	return instance;
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
 * The address around the last '@' of a From field.  Comments, quotes and groups
 * may hold others, but what is taken must be one of ours, and is signed as it
 * stands: no reader can take it for somebody else's.  A local part in quotes is
 * left out.
 */
static const char *
from_address(struct arena *arena, const struct header *from)
{
	const char *value = header_value(from, arena, true);
	const char *at = strrchr(value, '@'), *local = at, *domain;

	if (at == NULL)
		return NULL;
	while (local > value && strchr("<> \t(),;:\"", local[-1]) == NULL)
		local--;
	domain = at + 1;
	domain += strspn(domain, " \t");
	return arena_printf(arena, "%.*s@%.*s", (int)(at - local), local,
	    (int)strcspn(domain, "> \t(),;"), domain);
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

/* The key of the simple form, by the author, else by the sender. */
static const struct dkim_signing_key *
own_key(const struct instance *instance, struct arena *arena,
    const struct dkim_keys_from *from, size_t *count)
{
	struct dkim_signing_key key = { NULL, instance->options->selector,
		instance->key };

	if (from->author != NULL)
		key.domain = signing_domain(instance->options,
		    address_domain(from->author));
	if (key.domain == NULL && address_domain(from->sender) != NULL)
		key.domain = signing_domain(instance->options,
		    address_domain(from->sender));
	*count = 1;
	return key.domain == NULL ? NULL :
	    arena_memdup(arena, &key, sizeof(key));
}

/* The keys that sign the message; NULL: it's from nobody of ours. */
static const struct dkim_signing_key *
choose_keys(const struct filter_run *run, size_t *count)
{
	const struct instance *instance = run->instance;
	struct mail *mail = run->mail;
	const struct header *author = headers_find(&mail->headers, "From", 1);
	struct dkim_keys_from from = { .user = run->session->user,
		.sender = mail->envelope.sender,
		.day = key_table_day(time(NULL)) };

	/* RFC 5322, 3.6: From stands once.  Of several, who is the author? */
	if (author == NULL ||
	    headers_find(&mail->headers, "From", 2) != NULL)
		return NULL;
	from.author = from_address(mail->arena, author);
	return instance->keys == NULL ?
	    own_key(instance, mail->arena, &from, count) :
	    dkim_keys_find(instance->keys, mail->arena, &from, count);
}

static void
add_signature(struct filter_run *run, struct dkim_signing *signing,
    const struct dkim_signing_key *key)
{
	struct mail *mail = run->mail;
	const char *why, *value = dkim_signing_by(signing, key, &why);

	if (value == NULL) {
		log_warn(&mail->log, "dkim_sign=%s domain=%s selector=%s "
		    "why=\"%s\"", run->name, key->domain, key->selector, why);
		return;
	}
	headers_add(&mail->headers, mail->arena, mail->headers.first,
	    "DKIM-Signature", value, true);
	trace_add(mail->trace, run->name, "signed for %s, selector %s",
	    key->domain, key->selector);
}

/* Hashes the message once for all keys. */
static int
sign(struct filter_run *run, const struct dkim_signing_key *keys, size_t count,
    const char **why)
{
	const struct instance *instance = run->instance;
	struct mail *mail = run->mail;
	struct dkim_signing *signing = dkim_signing_new(instance->signer,
	    mail->arena, &mail->headers, NULL, mail->envelope.id, why);
	int rc;

	if (signing == NULL)
		return -1;
	rc = dkim_signing_feed(signing, mail->body, why);
	/* The first line's stands on top. */
	while (rc == 0 && count > 0) {
		add_signature(run, signing, &keys[--count]);
		if (count > 0)
			task_yield();
	}
	dkim_signing_free(&signing);
	return rc;
}

static struct verdict
eom(struct filter_run *run)
{
	const struct instance *instance = run->instance;
	struct mail *mail = run->mail;
	const struct dkim_signing_key *keys;
	const char *why = NULL;
	size_t count;

	if (!is_ours(instance->options, run->session))
		return VERDICT_CONTINUE;
	keys = choose_keys(run, &count);
	if (keys == NULL) {
		trace_add(mail->trace, run->name, "not a domain of ours");
		return VERDICT_CONTINUE;
	}
	if (instance->options->convert != CONVERT_NO)
		convert_mail(run, CONVERT_WANT(instance->options->convert));
	if (sign(run, keys, count, &why) == -1)
		log_warn(&mail->log, "dkim_sign=%s domain=%s why=\"%s\"",
		    run->name, keys[0].domain, why);
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
