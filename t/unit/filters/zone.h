/*
 * A table of records in the resolver's place.  A value: an address, a name
 * ("10 mx.test" for MX), text; "!" a failing server, "-" no such data.  A name
 * that no row has does not exist.
 */
#ifndef T_UNIT_FILTERS_ZONE_H
#define T_UNIT_FILTERS_ZONE_H

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/dns.h"

struct zone_row {
	const char *name;
	enum dns_type type;
	const char *value;
};

/* Rows end with a NULL name. */
struct zone {
	const struct zone_row *rows;
	unsigned asked;
};

static void
zone_record(const struct zone_row *row, struct dns_record *record)
{
	const char *space;

	switch (row->type) {
	case DNS_A:
		inet_pton(AF_INET, row->value, &record->a);
		break;
	case DNS_AAAA:
		inet_pton(AF_INET6, row->value, &record->aaaa);
		break;
	case DNS_MX:
		space = strchr(row->value, ' ');
		record->preference = (unsigned)atoi(row->value);
		record->name = space == NULL ? "" : space + 1;
		break;
	case DNS_TXT:
		record->text = row->value;
		record->text_len = strlen(row->value);
		break;
	case DNS_NS:
	case DNS_CNAME:
	case DNS_PTR:
	case DNS_TLSA:
		record->name = row->value;
		break;
	}
}

static const struct dns_answer *
zone_answer(struct arena *arena, const char *name, enum dns_type type,
    void *argument)
{
	struct zone *zone = argument;
	struct dns_answer *answer = arena_alloc(arena, sizeof(*answer));
	size_t rows = 0;
	struct dns_record *records;

	zone->asked++;
	for (const struct zone_row *row = zone->rows; row->name; row++)
		rows++;
	records = arena_alloc(arena, rows * sizeof(*records) + 1);
	answer->records = records;
	answer->status = DNS_NXDOMAIN;
	for (const struct zone_row *row = zone->rows; row->name; row++) {
		if (strcasecmp(row->name, name) != 0)
			continue;
		if (answer->status == DNS_NXDOMAIN)
			answer->status = DNS_NODATA;
		if (row->type != type || strcmp(row->value, "-") == 0)
			continue;
		if (strcmp(row->value, "!") == 0) {
			answer->status = DNS_FAILED;
			answer->why = "SERVFAIL";
			continue;
		}
		zone_record(row, &records[answer->count++]);
		answer->status = DNS_FOUND;
	}
	return answer;
}

#endif
