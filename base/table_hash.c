/* The hash of a table: numbers by key. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/table_impl.h"

uint32_t
table_hash_bytes(const void *bytes, size_t len)
{
	const unsigned char *p = bytes;
	uint64_t h = 14695981039346656037u;	/* FNV-1a */

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 1099511628211u;
	return (uint32_t)(h ^ h >> 32);
}

uint32_t
table_hash_find(const struct table_hash *hash, uint32_t at,
    table_same_f *same, const void *holder, const void *key, size_t len)
{
	size_t mask = hash->size - 1;

	if (hash->size == 0)
		return 0;
	for (size_t i = at & mask; hash->slots[i] != 0; i = (i + 1) & mask)
		if (same(holder, hash->slots[i], key, len))
			return hash->slots[i];
	return 0;
}

static void
put(struct table_hash *hash, uint32_t at, uint32_t number)
{
	size_t mask = hash->size - 1, i = at & mask;

	while (hash->slots[i] != 0)
		i = (i + 1) & mask;
	hash->slots[i] = number;
}

void
table_hash_add(struct table_hash *hash, uint32_t at, uint32_t number,
    table_hash_of_f *hash_of, const void *holder)
{
	struct table_hash grown;

	if (hash->used * 2 >= hash->size) {
		grown.size = hash->size == 0 ? 16 : hash->size * 2;
		grown.used = hash->used;
		if ((grown.slots = calloc(grown.size, sizeof(uint32_t))) ==
		    NULL)
			fatal("out of memory");
		for (size_t i = 0; i < hash->size; i++)
			if (hash->slots[i] != 0)
				put(&grown, hash_of(holder, hash->slots[i]),
				    hash->slots[i]);
		free(hash->slots);
		*hash = grown;
	}
	put(hash, at, number);
	hash->used++;
}
