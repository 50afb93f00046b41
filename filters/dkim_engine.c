/*
 * Verifying on libopendkim 2.11, with what its defects ask for:
 *
 * - the strict parser of dkim_signature.c comes first, and the library only
 *   decides on signatures and keys that passed it;
 * - its allocations are padded, because dkim_canon_selecthdrs() writes one
 *   pointer behind its array when h= names every field and more;
 * - it gives the l= of one signature to all that follow without l=, so those
 *   without are handed over first;
 * - it wants a CRLF at the end of the body;
 * - it does not find every b=, and dkim_proof.c verifies such signatures;
 * - its DNS, cache and chunk interfaces are not used.
 */
#include "filters/dkim_engine.h"

#include <opendkim/dkim.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/log.h"
#include "filters/dkim_proof.h"
#include "filters/mail.h"

#define PADDING 64
#define FIELD_COMPARISONS_MAX 2000000	/* names in h= times fields: ~10 ms */

struct dkim_engine {
	DKIM_LIB *library;
	struct dkim_rules rules;
};

/* Counts the body's canonical bytes, to know what l= leaves out. */
struct line_count {
	uint64_t total, canonical, line;
};

struct dkim_verifier {
	struct dkim_engine *engine;
	struct arena *arena;
	DKIM *handle;			/* NULL: nothing to verify */
	struct dkim_signature *signatures;
	DKIM_SIGINFO **infos;		/* the library's, or NULL, for each */
	const char **keys;
	const struct header **fields;
	struct dkim_proof **proofs;	/* NULL where the library will do */
	size_t count;
	bool failed;			/* the library would not go on */
	bool count_lines;
	struct line_count simple, relaxed;
	bool cr, blank;			/* of the line counts */
	bool begun;			/* there is a body */
	char last[2];			/* of it */
};

static void *
padded_malloc(void *closure, size_t size)
{
	(void)closure;
	return malloc(size + PADDING);
}

static void
padded_free(void *closure, void *memory)
{
	(void)closure;
	free(memory);
}

static DKIM_CBSTAT
key_lookup(DKIM *handle, DKIM_SIGINFO *info, u_char *record, size_t size)
{
	struct dkim_verifier *verifier = dkim_get_user_context(handle);

	for (size_t i = 0; i < verifier->count; i++) {
		if (verifier->infos[i] != info || verifier->keys[i] == NULL ||
		    strlen(verifier->keys[i]) >= size)
			continue;
		memcpy(record, verifier->keys[i], strlen(verifier->keys[i]) +
		    1);
		return DKIM_CBSTAT_CONTINUE;
	}
	return DKIM_CBSTAT_NOTFOUND;
}

static int
set_option(DKIM_LIB *library, dkim_opts_t option, void *value, size_t size)
{
	return dkim_options(library, DKIM_OP_SETOPT, option, value, size) ==
	    DKIM_STAT_OK ? 0 : -1;
}

struct dkim_engine *
dkim_engine_new(const struct dkim_rules *rules, const char **why)
{
	struct dkim_engine *engine = calloc(1, sizeof(*engine));
	unsigned flags = DKIM_LIBFLAGS_DELAYSIGPROC |
	    DKIM_LIBFLAGS_BADSIGHANDLES;
	unsigned bits = (unsigned)rules->minimum_key_bits;
	uint64_t drift = (uint64_t)rules->clock_skew;

	if (engine == NULL)
		fatal("dkim: out of memory");
	engine->rules = *rules;
	engine->library = dkim_init(padded_malloc, padded_free);
	if (engine->library == NULL ||
	    set_option(engine->library, DKIM_OPTS_FLAGS, &flags,
	    sizeof(flags)) == -1 ||
	    set_option(engine->library, DKIM_OPTS_MINKEYBITS, &bits,
	    sizeof(bits)) == -1 ||
	    set_option(engine->library, DKIM_OPTS_CLOCKDRIFT, &drift,
	    sizeof(drift)) == -1 ||
	    dkim_set_key_lookup(engine->library, key_lookup) != DKIM_STAT_OK) {
		*why = "libopendkim cannot be set up";
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
	if (engine->library != NULL)
		dkim_close(engine->library);
	free(engine);
}

static void
decide(struct dkim_signature *signature, const char *result,
    const char *reason)
{
	signature->result = result;
	signature->reason = reason;
}

static void
decide_rest(struct dkim_verifier *verifier, const char *result,
    const char *reason)
{
	for (size_t i = 0; i < verifier->count; i++)
		if (verifier->signatures[i].result == NULL)
			decide(&verifier->signatures[i], result, reason);
}

static bool
is_signature(const struct header *header)
{
	return !header->hidden && header_is(header, "DKIM-Signature");
}

/* Parses the signature fields, up to as many as the rules allow. */
static void
parse_signatures(struct dkim_verifier *verifier,
    const struct headers *headers)
{
	int64_t now = time(NULL);
	size_t n = 0, seen = 0;

	for (const struct header *h = headers->first; h != NULL; h = h->next) {
		struct dkim_signature *signature = &verifier->signatures[n];
		const char *value;

		if (!is_signature(h))
			continue;
		verifier->fields[n++] = h;
		if (seen++ >= verifier->engine->rules.max_signatures) {
			decide(signature, "neutral", "too many signatures");
			continue;
		}
		value = (const char *)memchr(h->raw, ':', h->len) + 1;
		dkim_signature_parse(signature, verifier->arena,
		    &verifier->engine->rules, value,
		    h->len - (size_t)(value - h->raw), now);
	}
}

/*
 * The library compares each name in h= with each field, and drops what is
 * behind a NUL.
 */
static void
check_header(struct dkim_verifier *verifier, const struct headers *headers)
{
	size_t names = 0;

	for (const struct header *h = headers->first; h != NULL; h = h->next)
		if (memchr(h->raw, '\0', h->len) != NULL)
			decide_rest(verifier, "permerror",
			    "a NUL in the header");
	for (size_t i = 0; i < verifier->count; i++) {
		struct dkim_signature *signature = &verifier->signatures[i];
		const char *at = signature->signed_fields;

		if (signature->result != NULL)
			continue;
		for (names++; (at = strchr(at, ':')) != NULL; at++)
			names++;
		if (names * headers->count > FIELD_COMPARISONS_MAX)
			decide(signature, "neutral", "too many fields");
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
check_singles(struct dkim_verifier *verifier, const struct headers *headers)
{
	size_t there[SINGLES] = { 0 };

	for (const struct header *h = headers->first; h != NULL; h = h->next)
		for (size_t n = 0; n < SINGLES; n++)
			if (header_is(h, singles[n]))
				there[n]++;
	for (size_t i = 0; i < verifier->count; i++) {
		struct dkim_signature *s = &verifier->signatures[i];

		for (size_t n = 0; n < SINGLES && s->result == NULL; n++) {
			size_t covered = dkim_signature_covers(s, singles[n]);

			if (covered > 0 && covered < there[n])
				decide(s, "policy", arena_printf(
				    verifier->arena,
				    "a second %s is not signed", singles[n]));
		}
	}
}

/* Hands a field over, without its CRLF. */
static void
feed(struct dkim_verifier *verifier, const struct header *header)
{
	/* A signature field's syntax error shows in its own result. */
	dkim_header(verifier->handle,
	    (u_char *)(uintptr_t)header->raw, header->len - 2);
}

/* The order in which signatures are handed over; -1: not at all. */
static int
turn(const struct dkim_verifier *verifier, size_t i)
{
	const struct dkim_signature *signature = &verifier->signatures[i];

	if (i >= verifier->engine->rules.max_signatures)
		return -1;
	if (signature->result != NULL)
		return 2;
	return signature->has_length ? 1 : 0;
}

/*
 * Gives the library the header and finds out which of its signatures is which.
 * Those that need not be verified are there too, for others may sign them.
 */
static int
feed_header(struct dkim_verifier *verifier, const struct headers *headers)
{
	size_t *fed = arena_alloc(verifier->arena,
	    verifier->count * sizeof(*fed));
	DKIM_SIGINFO **infos;
	size_t n = 0;
	int count;

	for (const struct header *h = headers->first; h != NULL; h = h->next)
		if (!h->hidden && !is_signature(h))
			feed(verifier, h);
	for (int now = 0; now < 3; now++)
		for (size_t i = 0; i < verifier->count; i++)
			if (turn(verifier, i) == now) {
				feed(verifier, verifier->fields[i]);
				fed[n++] = i;
			}
	if (dkim_eoh(verifier->handle) != DKIM_STAT_OK ||
	    dkim_getsiglist(verifier->handle, &infos, &count) !=
	    DKIM_STAT_OK || (size_t)count != n)
		return -1;
	for (size_t i = 0; i < n; i++) {
		const struct dkim_signature *signature =
		    &verifier->signatures[fed[i]];

		if (signature->result != NULL) {
			dkim_sig_ignore(infos[i]);
			continue;
		}
		if (strcasecmp((char *)dkim_sig_getdomain(infos[i]),
		    signature->domain) != 0 ||
		    strcasecmp((char *)dkim_sig_getselector(infos[i]),
		    signature->selector) != 0)
			return -1;
		verifier->infos[fed[i]] = infos[i];
	}
	return 0;
}

static bool
anything_left(const struct dkim_verifier *verifier)
{
	for (size_t i = 0; i < verifier->count; i++)
		if (verifier->signatures[i].result == NULL)
			return true;
	return false;
}

struct dkim_verifier *
dkim_verifier_new(struct dkim_engine *engine, struct arena *arena,
    const struct headers *headers, const char *id)
{
	struct dkim_verifier *verifier = arena_alloc(arena, sizeof(*verifier));
	size_t count = 0;
	DKIM_STAT status;

	for (const struct header *h = headers->first; h != NULL; h = h->next)
		if (is_signature(h))
			count++;
	verifier->engine = engine;
	verifier->arena = arena;
	verifier->count = count;
	verifier->signatures = arena_alloc(arena,
	    count * sizeof(*verifier->signatures));
	verifier->infos = arena_alloc(arena, count * sizeof(*verifier->infos));
	verifier->keys = arena_alloc(arena, count * sizeof(*verifier->keys));
	verifier->fields = arena_alloc(arena,
	    count * sizeof(*verifier->fields));
	verifier->proofs = arena_alloc(arena,
	    count * sizeof(*verifier->proofs));
	parse_signatures(verifier, headers);
	if (!anything_left(verifier))
		return verifier;
	check_header(verifier, headers);
	check_singles(verifier, headers);
	for (size_t i = 0; i < count; i++)
		if (verifier->signatures[i].has_length)
			verifier->count_lines = true;
	if (!anything_left(verifier))
		return verifier;
	for (size_t i = 0; i < count; i++)
		if (verifier->signatures[i].result == NULL)
			verifier->proofs[i] = dkim_proof_new(arena, headers,
			    verifier->fields[i], &verifier->signatures[i]);

	verifier->handle = dkim_verify(engine->library,
	    (u_char *)arena_strdup(arena, id), NULL, &status);
	if (verifier->handle == NULL)
		fatal("dkim: out of memory");
	dkim_set_user_context(verifier->handle, verifier);
	if (feed_header(verifier, headers) == -1)
		decide_rest(verifier, "neutral",
		    "the header could not be processed");
	return verifier;
}

void
dkim_verifier_free(struct dkim_verifier **verifierp)
{
	struct dkim_verifier *verifier = *verifierp;

	*verifierp = NULL;
	if (verifier != NULL && verifier->handle != NULL)
		dkim_free(verifier->handle);
}

struct dkim_signature *
dkim_verifier_signatures(struct dkim_verifier *verifier, size_t *count)
{
	*count = verifier->count;
	return verifier->signatures;
}

void
dkim_verifier_key(struct dkim_verifier *verifier,
    struct dkim_signature *signature, const char *record, size_t len)
{
	if (signature->result != NULL)
		return;
	dkim_signature_check_key(signature, record, len);
	if (signature->result == NULL)
		verifier->keys[signature - verifier->signatures] =
		    arena_strndup(verifier->arena, record, len);
}

static void
line_ends(struct line_count *count)
{
	count->total += count->line + 2;
	if (count->line > 0)
		count->canonical = count->total;
	count->line = 0;
}

/* RFC 6376, 3.4.3 and 3.4.4. */
static void
count_bytes(struct dkim_verifier *v, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		char c = bytes[i];

		if (v->cr && c == '\n') {
			line_ends(&v->simple);
			line_ends(&v->relaxed);
			v->cr = v->blank = false;
			continue;
		}
		if (v->cr) {
			v->simple.line++;
			v->relaxed.line++;
		}
		if ((v->cr = c == '\r'))
			continue;
		v->simple.line++;
		if (c == ' ' || c == '\t') {
			v->blank = true;
			continue;
		}
		v->relaxed.line += v->blank ? 2 : 1;
		v->blank = false;
	}
}

static void
feed_body(struct dkim_verifier *verifier, const char *bytes, size_t len)
{
	if (verifier->count_lines)
		count_bytes(verifier, bytes, len);
	if (dkim_body(verifier->handle, (u_char *)(uintptr_t)bytes, len) !=
	    DKIM_STAT_OK)
		verifier->failed = true;
}

void
dkim_verifier_body(struct dkim_verifier *verifier, const char *bytes,
    size_t len)
{
	if (verifier->handle == NULL || verifier->failed || len == 0)
		return;
	verifier->begun = true;
	verifier->last[0] = len > 1 ? bytes[len - 2] : verifier->last[1];
	verifier->last[1] = bytes[len - 1];
	feed_body(verifier, bytes, len);
}

/* What the library says of one signature whose word does not stand yet. */
static void
judge_error(struct dkim_signature *signature, DKIM_SIGINFO *info)
{
	static const struct {
		DKIM_SIGERROR error;
		const char *result, *reason;
	} words[] = {
		{ DKIM_SIGERROR_UNKNOWN, "neutral", "could not be processed" },
		{ DKIM_SIGERROR_OK, "neutral", "could not be processed" },
		{ DKIM_SIGERROR_BADSIG, "fail", "signature did not verify" },
		{ DKIM_SIGERROR_EXPIRED, "fail", "signature expired" },
		{ DKIM_SIGERROR_TOOLARGE_L, "fail", "l= exceeds the body" },
		{ DKIM_SIGERROR_KEYTOOSMALL, "policy", "key too small" },
		{ DKIM_SIGERROR_KEYREVOKED, "permerror", "key revoked" },
		{ DKIM_SIGERROR_NOKEY, "temperror", "key unavailable" },
		{ DKIM_SIGERROR_KEYFAIL, "temperror", "key unavailable" },
		{ DKIM_SIGERROR_KEYDECODE, "permerror", "malformed key" },
	};
	DKIM_SIGERROR error = dkim_sig_geterror(info);
	const char *text = dkim_sig_geterrorstr(error);

	if (dkim_sig_getbh(info) == DKIM_SIGBH_MISMATCH) {
		decide(signature, "fail", "body hash did not verify");
		return;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (words[i].error == error) {
			decide(signature, words[i].result, words[i].reason);
			return;
		}
	decide(signature, "permerror", text != NULL ? text : "unknown error");
}

/* Does l= end before the body does? */
static bool
is_partial(const struct dkim_verifier *verifier,
    const struct dkim_signature *signature, DKIM_SIGINFO *info)
{
	dkim_canon_t header, body;
	uint64_t whole;

	if (!signature->has_length)
		return false;
	if (dkim_sig_getcanons(info, &header, &body) != DKIM_STAT_OK)
		return true;
	whole = verifier->relaxed.canonical;
	if (body == DKIM_CANON_SIMPLE)
		whole = verifier->simple.canonical > 0 ?
		    verifier->simple.canonical : 2;
	return signature->length < whole;
}

/*
 * A signature that the library could not have found good, though it is.  The
 * library then leaves the body's hash unjudged.
 */
static bool
is_proven(const struct dkim_verifier *verifier,
    struct dkim_signature *signature, DKIM_SIGINFO *info)
{
	size_t i = (size_t)(signature - verifier->signatures);
	size_t header_len, body_len;
	void *header, *body;
	int bits;

	if (verifier->proofs[i] == NULL ||
	    dkim_sig_geterror(info) != DKIM_SIGERROR_BADSIG ||
	    dkim_sig_gethashes(info, &header, &header_len, &body, &body_len) !=
	    DKIM_STAT_OK)
		return false;
	bits = dkim_proof_holds(verifier->proofs[i], verifier->keys[i],
	    strlen(verifier->keys[i]), body, body_len);
	if (bits > 0 && strcmp(signature->algorithm, "ed25519-sha256") != 0 &&
	    bits < verifier->engine->rules.minimum_key_bits)
		decide(signature, "policy", "key too small");
	return bits > 0;
}

static void
judge(const struct dkim_verifier *verifier, struct dkim_signature *signature,
    DKIM_SIGINFO *info)
{
	ssize_t body, canonical, limit;

	if (((dkim_sig_getflags(info) & DKIM_SIGFLAG_PASSED) == 0 ||
	    dkim_sig_getbh(info) != DKIM_SIGBH_MATCH ||
	    dkim_sig_geterror(info) != DKIM_SIGERROR_OK) &&
	    !is_proven(verifier, signature, info)) {
		judge_error(signature, info);
		return;
	}
	if (signature->result != NULL)
		return;
	/* Whatever the library took for the limit, it must be what l= says. */
	if (dkim_sig_getcanonlen(verifier->handle, info, &body, &canonical,
	    &limit) != DKIM_STAT_OK || (limit != -1) != signature->has_length)
		decide(signature, "neutral", "could not be processed");
	else if (limit > canonical)
		decide(signature, "fail", "l= exceeds the body");
	else if (is_partial(verifier, signature, info))
		decide(signature, verifier->engine->rules.partial_body ?
		    "pass" : "neutral", "a part of the body is not signed");
	else
		decide(signature, "pass", signature->test ? "test key" : NULL);
}

void
dkim_verifier_eom(struct dkim_verifier *verifier)
{
	bool left = false;

	for (size_t i = 0; i < verifier->count; i++) {
		struct dkim_signature *signature = &verifier->signatures[i];

		if (signature->result == NULL && verifier->keys[i] == NULL)
			decide(signature, "temperror", "key unavailable");
		if (signature->result != NULL && verifier->infos[i] != NULL)
			dkim_sig_ignore(verifier->infos[i]);
		else if (signature->result == NULL)
			left = true;
	}
	if (!left)
		return;
	if (verifier->begun && memcmp(verifier->last, "\r\n", 2) != 0)
		feed_body(verifier, verifier->last[1] == '\r' ? "\n" : "\r\n",
		    verifier->last[1] == '\r' ? 1 : 2);
	if (verifier->failed) {
		decide_rest(verifier, "neutral",
		    "the body could not be processed");
		return;
	}
	/* Its answer speaks of one signature only. */
	dkim_eom(verifier->handle, NULL);
	for (size_t i = 0; i < verifier->count; i++)
		if (verifier->signatures[i].result == NULL)
			judge(verifier, &verifier->signatures[i],
			    verifier->infos[i]);
}
