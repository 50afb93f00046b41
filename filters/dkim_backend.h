/*
 * What verifies DKIM signatures, behind dkim_engine.h: OpenSSL with code of our
 * own, or libopendkim.
 */
#ifndef FILTERS_DKIM_BACKEND_H
#define FILTERS_DKIM_BACKEND_H

#include "filters/dkim_engine.h"

struct dkim_backend;
struct header;

/* A message's signatures, as all back ends see them. */
struct dkim_message {
	struct arena *arena;
	const struct dkim_rules *rules;
	const char *id;
	struct dkim_signature *signatures;
	const struct header **fields;
	const struct dkim_backend **backends;	/* whose each signature is */
	size_t count;
};

struct dkim_backend {
	/* For any number of messages.  NULL: *why. */
	void *(*open)(const struct dkim_rules *, const char **why);
	void (*close)(void *opened);

	/* Whether it can verify this one; NULL: any. */
	bool (*takes)(const struct header *field);

	/* A message; its header goes away afterwards. */
	void *(*begin)(void *opened, const struct dkim_message *,
	    const struct headers *);
	void (*end)(void *work);
	void (*key)(void *work, size_t number, const char *record, size_t len);
	void (*body)(void *work, const char *bytes, size_t len);

	/*
	 * The message is complete and all keys are there: verifies one
	 * signature or more.  False: every one of its own has a result.
	 */
	bool (*step)(void *work);
};

extern const struct dkim_backend dkim_openssl, dkim_libopendkim;

bool dkim_message_is_signature(const struct header *);

/* Whether this signature of the back end is still to be verified. */
bool dkim_message_wants(const struct dkim_message *,
    const struct dkim_backend *, size_t number);

#endif
