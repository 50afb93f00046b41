/*
 * Table text: the first byte chooses the type, the first line of the rest is
 * looked up in the table that the whole rest makes.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
visit(const char *key, const char *value, void *argument)
{
	*(size_t *)argument += strlen(key) + strlen(value);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const types[] = { "inline", "file", "cidr",
		"pcre" };
	struct buf errors = BUF_INIT;
	struct table *table;
	const char *value, *why;
	size_t total = 0;
	char *key;

	if (size < 1)
		return 0;
	table = table_parse(types[data[0] % 4], "fuzz",
	    (const char *)data + 1, size - 1, &errors);
	if (table == NULL && errors.len == 0)
		abort();
	if ((key = strndup((const char *)data + 1, size - 1)) == NULL)
		abort();
	key[strcspn(key, "\n")] = '\0';
	table_find(table, key, &value, &why);
	table_find_domain(table, key, &value, &why);
	table_find_address(table, key, &value, &why);
	table_each(table, visit, &total);
	free(key);
	table_free(&table);
	buf_release(&errors);
	return 0;
}
