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
 * - it takes the value of b= out only where no white space stands before the
 *   "=", and that of other tags whose names end in "b", too: such signatures
 *   are left to the other back end;
 * - its DNS, cache and chunk interfaces are not used.
 */
#include <opendkim/dkim.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "filters/dkim_backend.h"
#include "filters/mail.h"

#define PADDING 64
#define FIELD_COMPARISONS_MAX 2000000	/* names in h= times fields: ~10 ms */

/* Counts the body's canonical bytes, to know what l= leaves out. */
struct line_count {
	uint64_t total, canonical, line;
};

struct work {
	const struct dkim_message *message;
	DKIM *handle;
	DKIM_SIGINFO **infos;		/* the library's, or NULL, for each */
	const char **keys;
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
	struct work *work = dkim_get_user_context(handle);

	for (size_t i = 0; i < work->message->count; i++) {
		if (work->infos[i] != info || work->keys[i] == NULL ||
		    strlen(work->keys[i]) >= size)
			continue;
		memcpy(record, work->keys[i], strlen(work->keys[i]) +
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

static void
libopendkim_close(void *opened)
{
	dkim_close(opened);
}

static void *
libopendkim_open(const struct dkim_rules *rules, const char **why)
{
	DKIM_LIB *library = dkim_init(padded_malloc, padded_free);
	unsigned flags = DKIM_LIBFLAGS_DELAYSIGPROC |
	    DKIM_LIBFLAGS_BADSIGHANDLES;
	unsigned bits = (unsigned)rules->minimum_key_bits;
	uint64_t drift = (uint64_t)rules->clock_skew;

	if (library != NULL && set_option(library, DKIM_OPTS_FLAGS, &flags,
	    sizeof(flags)) == 0 && set_option(library, DKIM_OPTS_MINKEYBITS,
	    &bits, sizeof(bits)) == 0 && set_option(library,
	    DKIM_OPTS_CLOCKDRIFT, &drift, sizeof(drift)) == 0 &&
	    dkim_set_key_lookup(library, key_lookup) == DKIM_STAT_OK)
		return library;
	*why = "libopendkim cannot be set up";
	if (library != NULL)
		dkim_close(library);
	return NULL;
}

static void
decide(struct dkim_signature *signature, const char *result,
    const char *reason)
{
	signature->result = result;
	signature->reason = reason;
}

static void
decide_rest(struct work *work, const char *result,
    const char *reason)
{
	for (size_t i = 0; i < work->message->count; i++)
		if (dkim_message_wants(work->message, &dkim_libopendkim, i))
			decide(&work->message->signatures[i], result, reason);
}

/*
 * The library compares each name in h= with each field, and drops what is
 * behind a NUL.
 */
static void
check_header(struct work *work, const struct headers *headers)
{
	size_t names = 0;

	for (const struct header *h = headers->first; h != NULL; h = h->next)
		if (memchr(h->raw, '\0', h->len) != NULL)
			decide_rest(work, "permerror",
			    "a NUL in the header");
	for (size_t i = 0; i < work->message->count; i++) {
		struct dkim_signature *signature = &work->message->signatures[i];
		const char *at = signature->signed_fields;

		if (!dkim_message_wants(work->message, &dkim_libopendkim, i))
			continue;
		for (names++; (at = strchr(at, ':')) != NULL; at++)
			names++;
		if (names * headers->count > FIELD_COMPARISONS_MAX)
			decide(signature, "neutral", "too many fields");
	}
}

/* Hands a field over, without its CRLF. */
static void
feed(struct work *work, const struct header *header)
{
	/* A signature field's syntax error shows in its own result. */
	dkim_header(work->handle,
	    (u_char *)(uintptr_t)header->raw, header->len - 2);
}

/* The order in which signatures are handed over; -1: not at all. */
static int
turn(const struct work *work, size_t i)
{
	const struct dkim_signature *signature = &work->message->signatures[i];

	if (i >= work->message->rules->max_signatures)
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
feed_header(struct work *work, const struct headers *headers)
{
	size_t *fed = arena_alloc(work->message->arena,
	    work->message->count * sizeof(*fed));
	DKIM_SIGINFO **infos;
	size_t n = 0;
	int count;

	for (const struct header *h = headers->first; h != NULL; h = h->next)
		if (!h->hidden && !dkim_message_is_signature(h))
			feed(work, h);
	for (int now = 0; now < 3; now++)
		for (size_t i = 0; i < work->message->count; i++)
			if (turn(work, i) == now) {
				feed(work, work->message->fields[i]);
				fed[n++] = i;
			}
	if (dkim_eoh(work->handle) != DKIM_STAT_OK ||
	    dkim_getsiglist(work->handle, &infos, &count) !=
	    DKIM_STAT_OK || (size_t)count != n)
		return -1;
	for (size_t i = 0; i < n; i++) {
		const struct dkim_signature *signature =
		    &work->message->signatures[fed[i]];

		if (!dkim_message_wants(work->message, &dkim_libopendkim,
		    fed[i])) {
			dkim_sig_ignore(infos[i]);
			continue;
		}
		if (strcasecmp((char *)dkim_sig_getdomain(infos[i]),
		    signature->domain) != 0 ||
		    strcasecmp((char *)dkim_sig_getselector(infos[i]),
		    signature->selector) != 0)
			return -1;
		work->infos[fed[i]] = infos[i];
	}
	return 0;
}

static bool
libopendkim_takes(const struct header *field)
{
	const char *value = (const char *)memchr(field->raw, ':',
	    field->len) + 1, *why;
	struct tag_list tags;

	if (tag_list_parse(&tags, value, field->len -
	    (size_t)(value - field->raw), &why) == -1)
		return true;
	for (size_t i = 0; i < tags.count; i++) {
		const struct tag *tag = &tags.tags[i];

		if (tag->name[tag->name_len - 1] == 'b' &&
		    (tag->name_len > 1 || tag->name[1] != '='))
			return false;
	}
	return true;
}

static void *
libopendkim_begin(void *opened, const struct dkim_message *message,
    const struct headers *headers)
{
	struct work *work = arena_alloc(message->arena, sizeof(*work));
	DKIM_STAT status;

	work->message = message;
	work->infos = arena_alloc(message->arena,
	    message->count * sizeof(*work->infos));
	work->keys = arena_alloc(message->arena,
	    message->count * sizeof(*work->keys));
	check_header(work, headers);
	for (size_t i = 0; i < message->count; i++)
		if (message->signatures[i].has_length)
			work->count_lines = true;
	work->handle = dkim_verify(opened,
	    (u_char *)arena_strdup(message->arena, message->id), NULL,
	    &status);
	if (work->handle == NULL)
		fatal("dkim: out of memory");
	dkim_set_user_context(work->handle, work);
	if (feed_header(work, headers) == -1)
		decide_rest(work, "neutral",
		    "the header could not be processed");
	return work;
}

static void
libopendkim_end(void *argument)
{
	struct work *work = argument;

	dkim_free(work->handle);
}

static void
libopendkim_key(void *argument, size_t number, const char *record, size_t len)
{
	struct work *work = argument;

	work->keys[number] = arena_strndup(work->message->arena, record, len);
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
count_bytes(struct work *v, const char *bytes, size_t len)
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
feed_body(struct work *work, const char *bytes, size_t len)
{
	if (work->count_lines)
		count_bytes(work, bytes, len);
	if (dkim_body(work->handle, (u_char *)(uintptr_t)bytes, len) !=
	    DKIM_STAT_OK)
		work->failed = true;
}

static void
libopendkim_body(void *argument, const char *bytes, size_t len)
{
	struct work *work = argument;

	if (work->failed)
		return;
	work->begun = true;
	work->last[0] = len > 1 ? bytes[len - 2] : work->last[1];
	work->last[1] = bytes[len - 1];
	feed_body(work, bytes, len);
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
is_partial(const struct work *work,
    const struct dkim_signature *signature, DKIM_SIGINFO *info)
{
	dkim_canon_t header, body;
	uint64_t whole;

	if (!signature->has_length)
		return false;
	if (dkim_sig_getcanons(info, &header, &body) != DKIM_STAT_OK)
		return true;
	whole = work->relaxed.canonical;
	if (body == DKIM_CANON_SIMPLE)
		whole = work->simple.canonical > 0 ?
		    work->simple.canonical : 2;
	return signature->length < whole;
}

static void
judge(const struct work *work, struct dkim_signature *signature,
    DKIM_SIGINFO *info)
{
	ssize_t body, canonical, limit;

	if ((dkim_sig_getflags(info) & DKIM_SIGFLAG_PASSED) == 0 ||
	    dkim_sig_getbh(info) != DKIM_SIGBH_MATCH ||
	    dkim_sig_geterror(info) != DKIM_SIGERROR_OK) {
		judge_error(signature, info);
		return;
	}
	/* Whatever the library took for the limit, it must be what l= says. */
	if (dkim_sig_getcanonlen(work->handle, info, &body, &canonical,
	    &limit) != DKIM_STAT_OK || (limit != -1) != signature->has_length)
		decide(signature, "neutral", "could not be processed");
	else if (limit > canonical)
		decide(signature, "fail", "l= exceeds the body");
	else if (is_partial(work, signature, info))
		decide(signature, "pass", DKIM_PARTIAL_BODY);
	else
		decide(signature, "pass", signature->test ? "test key" : NULL);
}

/* Signatures that got their result elsewhere cost the library no work. */
static bool
ignore_decided(struct work *work)
{
	const struct dkim_message *message = work->message;
	bool left = false;

	for (size_t i = 0; i < message->count; i++) {
		struct dkim_signature *signature = &message->signatures[i];

		if (!dkim_message_wants(message, &dkim_libopendkim, i)) {
			if (work->infos[i] != NULL)
				dkim_sig_ignore(work->infos[i]);
			continue;
		}
		if (work->keys[i] == NULL) {
			decide(signature, "temperror", "key unavailable");
			dkim_sig_ignore(work->infos[i]);
		} else
			left = true;
	}
	return left;
}

/* The library verifies them all at once. */
static bool
libopendkim_step(void *argument)
{
	struct work *work = argument;
	const struct dkim_message *message = work->message;

	if (!ignore_decided(work))
		return false;
	if (work->begun && memcmp(work->last, "\r\n", 2) != 0)
		feed_body(work, work->last[1] == '\r' ? "\n" : "\r\n",
		    work->last[1] == '\r' ? 1 : 2);
	if (work->failed) {
		decide_rest(work, "neutral",
		    "the body could not be processed");
		return false;
	}
	/* Its answer speaks of one signature only. */
	dkim_eom(work->handle, NULL);
	for (size_t i = 0; i < message->count; i++)
		if (dkim_message_wants(message, &dkim_libopendkim, i))
			judge(work, &message->signatures[i], work->infos[i]);
	return false;
}

const struct dkim_backend dkim_libopendkim = {
	.open = libopendkim_open,
	.close = libopendkim_close,
	.takes = libopendkim_takes,
	.begin = libopendkim_begin,
	.end = libopendkim_end,
	.key = libopendkim_key,
	.body = libopendkim_body,
	.step = libopendkim_step,
};
