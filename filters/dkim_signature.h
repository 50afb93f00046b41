/*
 * A strict first look at a DKIM-Signature field and at a key record (RFC 6376,
 * 3.2, 3.5, 3.6.1; RFC 8301; RFC 8463), before a library sees them: libraries
 * take the last of several equal tags, domains with comments in them, any
 * query method.  Pure functions of bytes.
 */
#ifndef FILTERS_DKIM_SIGNATURE_H
#define FILTERS_DKIM_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;

#define TAG_LIST_MAX 64

struct tag {
	const char *name, *value;	/* white space at both ends gone */
	size_t name_len, len;
};

struct tag_list {
	struct tag tags[TAG_LIST_MAX];
	size_t count;
};

/*
 * Parses a tag-list.  -1 and *why: bad syntax, a tag that stands twice, more
 * than TAG_LIST_MAX tags.
 */
int tag_list_parse(struct tag_list *, const char *bytes, size_t len,
    const char **why);
const struct tag *tag_list_find(const struct tag_list *, const char *name);

/* A signature.  Strings belong to the arena. */
struct dkim_signature {
	const char *domain, *selector;	/* d=, s=: lower case; NULL: unusable */
	const char *identity;		/* i=, or "@" and domain; or NULL */
	const char *algorithm;		/* a=, or NULL */
	char b[9];			/* first letters of b= */
	const char *signed_fields;	/* h=, without white space */
	const char *signature, *body_hash;	/* b=, bh= without white space */
	const char *b_value;		/* b= as it stands, up to its ";": */
	size_t b_len;			/* empty where it is signed (3.7) */
	bool relaxed_header, relaxed_body;	/* c= */
	bool has_length;		/* l= */
	bool test;			/* the key says t=y */
	uint64_t length;

	/*
	 * A word of RFC 8601, 2.7.1, and why; NULL: not decided yet, the key
	 * is needed.
	 */
	const char *result, *reason;
};

enum signature_kind { SIGNATURE_DKIM,
	SIGNATURE_ARC_MESSAGE,		/* RFC 8617, 4.1.2: no v=, another i= */
	SIGNATURE_ARC_SEAL		/* 4.1.3: signs neither h= nor body */
};

enum dkim_engine_kind { DKIM_ENGINE_OPENSSL, DKIM_ENGINE_LIBOPENDKIM };

struct dkim_rules {
	enum signature_kind kind;
	enum dkim_engine_kind engine;	/* which verifies (dkim_engine.h) */
	int64_t minimum_key_bits;	/* RSA */
	int64_t clock_skew;		/* seconds */
	size_t max_signatures;		/* more are not looked at */
	bool sha1;			/* rsa-sha1 counts (RFC 8301: must not) */
	bool partial_body;		/* l= may leave a part of the body out */
};

/*
 * Reads the value of a signature's field.  now: seconds since the epoch.
 * Sets result if the signature cannot or must not be verified.
 */
void dkim_signature_parse(struct dkim_signature *, struct arena *,
    const struct dkim_rules *, const char *value, size_t len, int64_t now);

/* Reads a key record (the TXT's bytes); sets result if it will not do. */
void dkim_signature_check_key(struct dkim_signature *, const char *record,
    size_t len);

bool dkim_signature_is_sha1(const struct dkim_signature *);

/* The reason of a good one whose l= leaves out a part of the body. */
extern const char DKIM_PARTIAL_BODY[];

/* How often h= names that field. */
size_t dkim_signature_covers(const struct dkim_signature *,
    const char *field_name);

#endif
