/* "rep export" and "rep import": records as text. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "policy/reputation.h"
#include "policy/reputation_command.h"

#define EXPORT_BYTES	(32u << 20)	/* of one answer */
#define PARTS_MAX	10000
#define IMPORT_WORDS	3		/* of one entity */
#define NUMBER_MAX	(INT64_C(1) << 52)

struct export {
	struct buf *out;
	enum rep_dimension dimension;	/* REP_DIMENSIONS: all */
	unsigned part, parts;
	bool full;
};

static bool
is_of_part(const char *key, unsigned part, unsigned parts)
{
	unsigned hash = 0;

	for (; *key != '\0'; key++)
		hash = hash * 31 + (unsigned char)*key;
	return hash % parts == part - 1;
}

static int
put_line(void *argument, const char *key, const struct store_record *record)
{
	struct export *export = argument;
	char text[REP_TEXT_SIZE];
	struct rep_entity entity;

	if (!is_of_part(key, export->part, export->parts) ||
	    !rep_entity_from_key(key, &entity) ||
	    (export->dimension != REP_DIMENSIONS &&
	    entity.dimension != export->dimension))
		return 0;
	buf_printf(export->out, "%s ", rep_entity_print(&entity, text));
	for (int i = 0; i < STORE_VALUES; i++)
		buf_printf(export->out, "%s%" PRId64, i > 0 ? "," : "",
		    record->values[i]);
	buf_printf(export->out, " %s\n", record->note[0] != '\0' ?
	    record->note : "0");
	export->full = export->out->len > EXPORT_BYTES;
	return export->full ? 1 : 0;
}

int
rep_export(const struct rep_words *c)
{
	struct export export = { c->out, REP_DIMENSIONS, 1, 1, false };
	char rest;

	for (size_t i = 0; i < c->count; i++) {
		if (sscanf(c->words[i], "%5u/%5u%c", &export.part,
		    &export.parts, &rest) == 2)
			continue;
		export.dimension = rep_dimension_find(c->words[i],
		    strlen(c->words[i]));
		if (export.dimension == REP_DIMENSIONS)
			return -2;
	}
	if (c->count > 2 || export.part < 1 || export.part > export.parts ||
	    export.parts > PARTS_MAX)
		return -2;
	if (store_scan(c->store, REP_KEYS, put_line, &export, c->why) ==
	    ANSWER_UNKNOWN)
		return -1;
	*c->why = "that is more than one answer may hold: export it in "
	    "parts, 1/10, 2/10 and so on";
	return export.full ? -1 : 0;
}

/* "1,2,3": exactly so many, none negative. */
static bool
parse_numbers(const char *text, int64_t *numbers, size_t count, size_t least)
{
	char *end;
	size_t i;

	for (i = 0; i < count; i++) {
		numbers[i] = 0;
		if (*text == '\0')
			continue;
		if (*text < '0' || *text > '9')
			return false;
		numbers[i] = strtoll(text, &end, 10);
		if (numbers[i] >= NUMBER_MAX || (*end != ',' && *end != '\0'))
			return false;
		text = *end == ',' ? end + 1 : end;
		least -= least > 0;
	}
	return *text == '\0' && least == 0;
}

int
rep_import(const struct rep_words *c)
{
	int64_t values[STORE_VALUES], counts[OUTCOME_KINDS];
	char key[REP_KEY_SIZE], note[REP_COUNTS_SIZE];
	struct rep_entity entity;
	struct rep_state state;

	if (c->count == 0 || c->count % IMPORT_WORDS != 0)
		return -2;
	for (size_t i = 0; i < c->count; i += IMPORT_WORDS) {
		if (rep_entity_parse(c->words[i], &entity, c->why) != 0)
			return -1;
		*c->why = "what export printed is 8 numbers and up to 9 counts";
		if (!parse_numbers(c->words[i + 1], values, STORE_VALUES,
		    STORE_VALUES) || !parse_numbers(c->words[i + 2], counts,
		    OUTCOME_KINDS, 1) || values[STORE_VALUES - 1] % 1024 >
		    1001)
			return -1;
		rep_state_unpack(values, &state);
		rep_counts_print(counts, note);
		rep_entity_key(&entity, key);
		if (rep_set(c->store, key, &state, note, c->why) ==
		    ANSWER_UNKNOWN)
			return -1;
	}
	return 0;
}
