/* Verifying DKIM: what does not depend on who does the cryptography. */
#include "filters/dkim_engine.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/log.h"
#include "filters/dkim_backend.h"
#include "filters/mail.h"

/* A back end in use; the second one takes what the first does not. */
struct part {
	const struct dkim_backend *backend;
	void *opened;
};

#define PARTS 2

struct dkim_engine {
	struct part parts[PARTS];	/* none: backend NULL */
	struct dkim_rules rules;
};

struct dkim_verifier {
	struct dkim_engine *engine;
	struct dkim_message message;
	void *works[PARTS];		/* of the parts; NULL: nothing to do */
};

static const struct part engines[][PARTS] = {
	[DKIM_ENGINE_OPENSSL] = { { &dkim_openssl, NULL } },
	[DKIM_ENGINE_LIBOPENDKIM] = { { &dkim_libopendkim, NULL },
	    { &dkim_openssl, NULL } },
};

struct dkim_engine *
dkim_engine_new(const struct dkim_rules *rules, const char **why)
{
	struct dkim_engine *engine = calloc(1, sizeof(*engine));

	if (engine == NULL)
		fatal("dkim: out of memory");
	engine->rules = *rules;
	memcpy(engine->parts, engines[rules->engine], sizeof(engine->parts));
	for (size_t p = 0; p < PARTS && engine != NULL; p++) {
		struct part *part = &engine->parts[p];

		if (part->backend == NULL)
			continue;
		part->opened = part->backend->open(&engine->rules, why);
		if (part->opened == NULL)
			dkim_engine_free(&engine);
	}
	return engine;
}

void
dkim_engine_free(struct dkim_engine **enginep)
{
	struct dkim_engine *engine = *enginep;

	*enginep = NULL;
	if (engine == NULL)
		return;
	for (size_t p = 0; p < PARTS; p++)
		if (engine->parts[p].opened != NULL)
			engine->parts[p].backend->close(
			    engine->parts[p].opened);
	free(engine);
}

static void
decide(struct dkim_signature *signature, const char *result,
    const char *reason)
{
	signature->result = result;
	signature->reason = reason;
}

bool
dkim_message_wants(const struct dkim_message *message,
    const struct dkim_backend *backend, size_t number)
{
	return message->backends[number] == backend &&
	    message->signatures[number].result == NULL;
}

bool
dkim_message_is_signature(const struct header *header)
{
	return !header->hidden && header_is(header, "DKIM-Signature");
}

/* Parses the signature fields, up to as many as the rules allow. */
static void
parse_signatures(struct dkim_message *message,
    const struct headers *headers)
{
	int64_t now = time(NULL);
	size_t n = 0, seen = 0;

	for (const struct header *h = headers->first; h != NULL; h = h->next) {
		struct dkim_signature *signature = &message->signatures[n];
		const char *value;

		if (!dkim_message_is_signature(h))
			continue;
		message->fields[n++] = h;
		if (seen++ >= message->rules->max_signatures) {
			decide(signature, "neutral", "too many signatures");
			continue;
		}
		value = (const char *)memchr(h->raw, ':', h->len) + 1;
		dkim_signature_parse(signature, message->arena,
		    message->rules, value,
		    h->len - (size_t)(value - h->raw), now);
	}
}

static const char *const singles[] = { "From", "Sender", "Reply-To", "To",
	"Cc", "Subject", "Date", "Message-ID", "In-Reply-To", "References",
	"MIME-Version", "Content-Type", "Content-Transfer-Encoding" };
#define SINGLES (sizeof(singles) / sizeof(singles[0]))

/*
 * RFC 6376, 8.15: a second field of a kind that may stand once, put above the
 * signed one, is what a reader would be shown.
 */
static void
check_singles(struct dkim_message *message, const struct headers *headers)
{
	size_t there[SINGLES] = { 0 };

	for (const struct header *h = headers->first; h != NULL; h = h->next)
		for (size_t n = 0; n < SINGLES; n++)
			if (header_is(h, singles[n]))
				there[n]++;
	for (size_t i = 0; i < message->count; i++) {
		struct dkim_signature *s = &message->signatures[i];

		for (size_t n = 0; n < SINGLES && s->result == NULL; n++) {
			size_t covered = dkim_signature_covers(s, singles[n]);

			if (covered > 0 && covered < there[n])
				decide(s, "policy", arena_printf(
				    message->arena,
				    "a second %s is not signed", singles[n]));
		}
	}
}

/* Who is to verify each signature; whether there is something to verify. */
static bool
assign(struct dkim_message *message, const struct dkim_backend *backend)
{
	bool any = false;

	for (size_t i = 0; i < message->count; i++) {
		if (message->backends[i] == NULL && (backend->takes == NULL ||
		    backend->takes(message->fields[i])))
			message->backends[i] = backend;
		if (dkim_message_wants(message, backend, i))
			any = true;
	}
	return any;
}

struct dkim_verifier *
dkim_verifier_new(struct dkim_engine *engine, struct arena *arena,
    const struct headers *headers, const char *id)
{
	struct dkim_verifier *verifier = arena_alloc(arena, sizeof(*verifier));
	struct dkim_message *m = &verifier->message;

	for (const struct header *h = headers->first; h != NULL; h = h->next)
		if (dkim_message_is_signature(h))
			m->count++;
	verifier->engine = engine;
	m->arena = arena;
	m->rules = &engine->rules;
	m->id = id;
	m->signatures = arena_alloc(arena, m->count * sizeof(*m->signatures));
	m->fields = arena_alloc(arena, m->count * sizeof(*m->fields));
	m->backends = arena_alloc(arena, m->count * sizeof(*m->backends));
	parse_signatures(m, headers);
	check_singles(m, headers);
	for (size_t p = 0; p < PARTS; p++) {
		const struct part *part = &engine->parts[p];

		if (part->backend != NULL && assign(m, part->backend))
			verifier->works[p] = part->backend->begin(part->opened,
			    m, headers);
	}
	return verifier;
}

void
dkim_verifier_free(struct dkim_verifier **verifierp)
{
	struct dkim_verifier *verifier = *verifierp;

	*verifierp = NULL;
	for (size_t p = 0; verifier != NULL && p < PARTS; p++)
		if (verifier->works[p] != NULL)
			verifier->engine->parts[p].backend->end(
			    verifier->works[p]);
}

struct dkim_signature *
dkim_verifier_signatures(struct dkim_verifier *verifier, size_t *count)
{
	*count = verifier->message.count;
	return verifier->message.signatures;
}

void
dkim_verifier_key(struct dkim_verifier *verifier,
    struct dkim_signature *signature, const char *record, size_t len)
{
	size_t number = (size_t)(signature - verifier->message.signatures);

	if (signature->result == NULL)
		dkim_signature_check_key(signature, record, len);
	for (size_t p = 0; p < PARTS; p++)
		if (verifier->works[p] != NULL &&
		    dkim_message_wants(&verifier->message,
		    verifier->engine->parts[p].backend, number))
			verifier->engine->parts[p].backend->key(
			    verifier->works[p], number, record, len);
}

void
dkim_verifier_body(struct dkim_verifier *verifier, const char *bytes,
    size_t len)
{
	for (size_t p = 0; p < PARTS && len > 0; p++)
		if (verifier->works[p] != NULL)
			verifier->engine->parts[p].backend->body(
			    verifier->works[p], bytes, len);
}

/* A good signature whose l= ends before the body does. */
static void
judge_partial(const struct dkim_rules *rules, struct dkim_signature *signature)
{
	if (signature->result != NULL && !rules->partial_body &&
	    signature->reason == DKIM_PARTIAL_BODY)
		signature->result = "neutral";
}

bool
dkim_verifier_step(struct dkim_verifier *verifier)
{
	for (size_t p = 0; p < PARTS; p++)
		if (verifier->works[p] != NULL &&
		    verifier->engine->parts[p].backend->step(
		    verifier->works[p]))
			return true;
	for (size_t i = 0; i < verifier->message.count; i++)
		judge_partial(&verifier->engine->rules,
		    &verifier->message.signatures[i]);
	return false;
}

void
dkim_verifier_eom(struct dkim_verifier *verifier)
{
	while (dkim_verifier_step(verifier))
		continue;
}
