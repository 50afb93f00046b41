/*
 * DKIM signatures verified on OpenSSL.  Parsed keys are kept: for a small
 * message parsing the key takes longer than all the rest.
 */
#include <stdlib.h>

#include "base/arena.h"
#include "base/log.h"
#include "filters/dkim_backend.h"
#include "filters/dkim_check.h"
#include "filters/dkim_fields.h"

struct work {
	const struct dkim_message *message;
	struct dkim_key_cache *cache;
	struct dkim_bodies *bodies;
	struct dkim_check *checks;	/* for each signature */
	size_t done;
};

static void *
openssl_open(const struct dkim_rules *rules, const char **why)
{
	(void)rules, (void)why;
	return dkim_key_cache_new();
}

static void
openssl_close(void *opened)
{
	struct dkim_key_cache *cache = opened;

	dkim_key_cache_free(&cache);
}

static void *
openssl_begin(void *opened, const struct dkim_message *message,
    const struct headers *headers)
{
	struct work *work = arena_alloc(message->arena, sizeof(*work));
	struct dkim_fields *fields = dkim_fields_new(message->arena, headers);

	work->message = message;
	work->cache = opened;
	work->bodies = dkim_bodies_new(message->arena);
	work->checks = arena_alloc(message->arena,
	    message->count * sizeof(*work->checks));
	for (size_t i = 0; i < message->count; i++)
		if (dkim_message_wants(message, &dkim_openssl, i))
			dkim_check_message(&work->checks[i],
			    &message->signatures[i], fields,
			    message->fields[i], work->bodies);
	return work;
}

static void
openssl_end(void *argument)
{
	struct work *work = argument;

	for (size_t i = 0; i < work->message->count; i++)
		dkim_check_release(&work->checks[i]);
	dkim_bodies_free(&work->bodies);
}

static void
openssl_key(void *argument, size_t number, const char *record, size_t len)
{
	struct work *work = argument;

	dkim_check_key(&work->checks[number], work->cache,
	    work->message->rules->minimum_key_bits, record, len);
}

static void
openssl_body(void *argument, const char *bytes, size_t len)
{
	struct work *work = argument;

	dkim_bodies_add(work->bodies, bytes, len);
}

static bool
openssl_step(void *argument)
{
	struct work *work = argument;

	while (work->done < work->message->count) {
		size_t i = work->done++;

		if (dkim_message_wants(work->message, &dkim_openssl, i)) {
			dkim_check_verify(&work->checks[i]);
			return true;
		}
	}
	return false;
}

const struct dkim_backend dkim_openssl = {
	.open = openssl_open,
	.close = openssl_close,
	.begin = openssl_begin,
	.end = openssl_end,
	.key = openssl_key,
	.body = openssl_body,
	.step = openssl_step,
};
