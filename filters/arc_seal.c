/* The filter "arc_seal" (RFC 8617, 5.1). */
#include "filters/arc_seal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/net.h"
#include "filters/arc_set.h"
#include "filters/authres.h"
#include "filters/dkim_engine.h"
#include "filters/dkim_fields.h"
#include "filters/dkim_key.h"
#include "filters/trace.h"

enum seal_for { SEAL_FOR_ALL, SEAL_FOR_STRANGERS };

#define ARC_SEAL_OPTIONS(ROW, o)					\
	ROW(o, domain, string, NULL, NULL, NULL,			\
	    "Domain that seals.")					\
	ROW(o, selector, string, NULL, NULL, NULL,			\
	    "Selector of the key, published at "			\
	    "<selector>._domainkey.<domain>.")				\
	ROW(o, key, file, NULL, NULL, NULL,				\
	    "Private key in PEM: RSA of 1024 bits and more.")		\
	ROW(o, id, string, NULL, NULL, NULL,				\
	    "The id of our Authentication-Results; not set: our host name.") \
	ROW(o, headers, strings, "From, Sender, Reply-To, To, Cc, "	\
	    "Subject, Date, Message-ID, In-Reply-To, References, "	\
	    "MIME-Version, Content-Type, Content-Transfer-Encoding, "	\
	    "Content-Disposition, List-Id, List-Post, List-Help, "	\
	    "List-Unsubscribe, List-Unsubscribe-Post, DKIM-Signature",	\
	    NULL, NULL, "Fields to sign if they are there.")		\
	ROW(o, seal_for, choice, "all", "all|strangers", NULL,		\
	    "Whose mail to seal: everybody's, or not that of trusted "	\
	    "networks and authenticated users.")

struct arc_seal_options { ARC_SEAL_OPTIONS(OPTION_FIELD, arc_seal_options) };

static const struct option_row arc_seal_rows[] = {
	ARC_SEAL_OPTIONS(OPTION_ROW, arc_seal_options)
};

static const struct section_kind arc_seal_kind = {
	.name = "arc_seal",
	.titled = true,
	.doc = "Seals messages with ARC, in a process of its own. Goes behind "
	    "arc and authres.",
	.rows = arc_seal_rows,
	.row_count = OPTION_COUNT(arc_seal_rows),
	.size = sizeof(struct arc_seal_options),
};

struct instance {
	const struct arc_seal_options *options;
	struct dkim_signer *signer;
};

/* The set to make. */
struct seal {
	const struct instance *instance;
	struct mail *mail;
	const char *id;			/* of our Authentication-Results */
	const char *results;		/* the value of ours, or NULL */
	unsigned number;
	enum arc_status status;
	struct arc_sets *sets;		/* those before it */
};

static const char *
options_check(const struct arc_seal_options *options)
{
	if (options->domain == NULL)
		return "domain is not set";
	if (!net_is_host_name(options->domain))
		return "domain is no domain";
	if (options->selector == NULL)
		return "selector is not set";
	if (!net_is_host_name(options->selector))
		return "selector is no host name";
	if (options->key == NULL)
		return "key is not set";
	/* RFC 8617, 4.1.2: never seals; and what each hop may take away. */
	for (size_t i = 0; options->headers[i] != NULL; i++)
		if (strncasecmp(options->headers[i], "ARC-", 4) == 0 ||
		    strcasecmp(options->headers[i],
		    "Authentication-Results") == 0)
			return "headers names a field that ARC must not sign";
	return NULL;
}

static void *
setup(const struct conf *conf, const struct conf_section *section,
    const char **why)
{
	static const char *const nothing[] = { NULL };
	const struct arc_seal_options *options = section->values;
	struct dkim_signer_settings settings = { .oversign = nothing,
		.relaxed_header = true, .relaxed_body = true };
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
	if ((signer = dkim_signer_new(&settings, why)) == NULL)
		return NULL;
	/* RFC 8617 knows rsa-sha256 alone, and so do most validators. */
	if (strcmp(dkim_signer_algorithm(signer), "rsa-sha256") != 0) {
		dkim_signer_free(&signer);
		*why = "the key is not RSA, which ARC needs";
		return NULL;
	}
	if ((instance = calloc(1, sizeof(*instance))) == NULL)
		fatal("arc_seal: out of memory");
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

/*
 * The value of our topmost Authentication-Results.  Those below it that claim
 * our id are not ours; "authres" takes them away.
 */
static const char *
our_results(const struct mail *mail, const char *id)
{
	const struct header *header;
	const char *value, *theirs;

	for (size_t n = 1; (header = headers_find(&mail->headers,
	    "Authentication-Results", n)) != NULL; n++) {
		value = header_value(header, mail->arena, false);
		value += strspn(value, " \t\r\n");
		theirs = authres_id(mail->arena, value, strlen(value));
		if (theirs != NULL && authres_id_equal(theirs, id))
			return value;
	}
	return NULL;
}

/*
 * Which set to make (5.1): NULL, or why none can be made.  That a chain passes
 * is never taken for granted: either we have found so, or there is none.
 */
static const char *
choose(struct seal *seal)
{
	const struct arc_sets *sets = seal->sets;
	const char *found = NULL;

	seal->number = (unsigned)sets->count + 1;
	seal->status = ARC_NONE;
	if (sets->count == 0 && sets->why == NULL)
		return NULL;
	if (sets->ended)
		return "the chain has ended";
	if (sets->count == 0)
		return "a chain without numbers";
	if (sets->count >= ARC_SETS_MAX)
		return "the chain is full";
	seal->status = ARC_FAIL;
	if (sets->why != NULL)
		return NULL;
	if (seal->results != NULL)
		found = authres_result(seal->mail->arena, seal->results,
		    strlen(seal->results), "arc");
	if (found == NULL)
		return "nobody has validated the chain";
	if (strcasecmp(found, "fail") == 0)
		return NULL;
	seal->status = ARC_PASS;
	return strcasecmp(found, "pass") == 0 ? NULL :
	    "whether the chain passes cannot be told";
}

static struct header *
add(struct seal *seal, const char *name, const char *value)
{
	struct headers *headers = &seal->mail->headers;
	struct header *top = headers->first;

	while (top != NULL && top->hidden)
		top = top->next;
	return headers_add(headers, seal->mail->arena, top, name, value, true);
}

static const struct header *
add_results(struct seal *seal)
{
	const char *results = seal->results;

	if (results == NULL)
		results = authres_print(seal->mail->arena, seal->id, NULL,
		    false);
	return add(seal, "ARC-Authentication-Results", arena_printf(
	    seal->mail->arena, "i=%u; %s", seal->number, results));
}

/* The value of ARC-Message-Signature. */
static const char *
sign_message(struct seal *seal, const char **why)
{
	struct mail *mail = seal->mail;
	struct dkim_signing *signing = dkim_signing_new(seal->instance->signer,
	    mail->arena, &mail->headers, seal->instance->options->domain,
	    mail->envelope.id, why);
	const char *value = NULL;

	if (signing == NULL)
		return NULL;
	dkim_signing_arc(signing, seal->number);
	if (dkim_signing_feed(signing, mail->body, why) == 0)
		value = dkim_signing_eom(signing, why);
	dkim_signing_free(&signing);
	return value;
}

/* 5.1.2: what is broken is not sealed again, only that we found it so. */
static void
hash_sets(const struct seal *seal, EVP_MD_CTX *hash)
{
	if (seal->status == ARC_FAIL)
		return;
	for (size_t i = 0; i < seal->sets->count; i++) {
		const struct arc_set *set = &seal->sets->sets[i];

		dkim_field_hash(hash, true, set->results);
		dkim_field_hash(hash, true, set->message);
		dkim_field_hash(hash, true, set->seal);
	}
}

/* The value of ARC-Seal, which signs all sets up to this one. */
static const char *
sign_sets(const struct seal *seal, const struct header *results,
    const struct header *message, const char **why)
{
	const struct arc_seal_options *options = seal->instance->options;
	const struct dkim_signer *signer = seal->instance->signer;
	struct arena *arena = seal->mail->arena;
	struct dkim_signature empty = { 0 };
	unsigned char digest[DKIM_HASH_SIZE];
	struct header own = { .name_len = strlen("ARC-Seal") };
	EVP_MD_CTX *hash = dkim_hash_new(false);
	const char *value = arena_printf(arena,
	    "i=%u; a=%s; cv=%s;\r\n\td=%s;\r\n\ts=%s; t=%lld;\r\n\tb=",
	    seal->number, dkim_signer_algorithm(signer),
	    arc_status_name(seal->status), options->domain,
	    options->selector, (long long)time(NULL));
	const char *b;

	own.raw = arena_printf(arena, "ARC-Seal: %s", value);
	own.len = strlen(own.raw);
	empty.b_value = own.raw + own.len;
	hash_sets(seal, hash);
	dkim_field_hash(hash, true, results);
	dkim_field_hash(hash, true, message);
	dkim_field_hash_own(hash, true, &own, &empty);
	EVP_DigestFinal_ex(hash, digest, NULL);
	EVP_MD_CTX_free(hash);
	b = dkim_signer_seal(signer, arena, digest, why);
	return b == NULL ? NULL : arena_printf(arena, "%s%s", value, b);
}

/* Adds the set; of one that cannot be completed nothing stays. */
static int
seal_message(struct seal *seal, const char **why)
{
	struct headers *headers = &seal->mail->headers;
	const char *value = sign_message(seal, why);
	const struct header *results, *message;

	if (value == NULL)
		return -1;
	results = add_results(seal);
	message = add(seal, "ARC-Message-Signature", value);
	value = sign_sets(seal, results, message, why);
	if (value != NULL) {
		add(seal, "ARC-Seal", value);
		return 0;
	}
	headers_delete(headers, headers_find(headers,
	    "ARC-Message-Signature", 1));
	headers_delete(headers, headers_find(headers,
	    "ARC-Authentication-Results", 1));
	return -1;
}

static struct verdict
eom(struct filter_run *run)
{
	static const struct dkim_rules rules = { .clock_skew = 0 };
	const struct instance *instance = run->instance;
	const struct arc_seal_options *options = instance->options;
	const struct session *session = run->session;
	struct mail *mail = run->mail;
	struct seal seal = { .instance = instance, .mail = mail };
	const char *why;

	if (options->seal_for == SEAL_FOR_STRANGERS &&
	    (session->trusted || session->user != NULL))
		return VERDICT_CONTINUE;
	seal.id = options->id != NULL ? options->id : session->hostname;
	seal.results = our_results(mail, seal.id);
	seal.sets = arena_alloc(mail->arena, sizeof(*seal.sets));
	arc_sets_read(seal.sets, mail->arena, &mail->headers, &rules,
	    time(NULL));
	if ((why = choose(&seal)) != NULL)
		trace_add(mail->trace, run->name, "not sealed: %s", why);
	else if (seal_message(&seal, &why) == -1)
		log_warn(&mail->log, "arc_seal=%s why=\"%s\"", run->name, why);
	else
		trace_add(mail->trace, run->name, "sealed: i=%u cv=%s",
		    seal.number, arc_status_name(seal.status));
	return VERDICT_CONTINUE;
}

const struct filter filter_arc_seal = {
	.name = "arc_seal",
	.options = &arc_seal_kind,
	.traits = FILTER_ISOLATED,
	.setup = setup,
	.release = release,
	.eom = eom,
};
