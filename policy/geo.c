/* Where an address comes from, by libmaxminddb. */
#define _GNU_SOURCE		/* memfd_create */
#include "policy/geo.h"

#include <errno.h>
#include <fcntl.h>
#include <maxminddb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "policy/policy.h"
#include "policy/subject.h"

#define SIZE_LIMIT	(INT64_C(1) << 30)
#define SAMPLE		1000	/* records that tell what a database is of */

static struct geo {
	MMDB_s database;
	bool open;
} geos[GEO_KINDS];

/* --- what a record says --- */

static bool
find_field(MMDB_entry_s *entry, const char *const *path,
    MMDB_entry_data_s *data)
{
	return MMDB_aget_value(entry, data, path) == MMDB_SUCCESS &&
	    data->has_data;
}

static bool
find_text(MMDB_entry_s *entry, const char *const *path, char *text,
    size_t size)
{
	MMDB_entry_data_s data;

	if (!find_field(entry, path, &data) ||
	    data.type != MMDB_DATA_TYPE_UTF8_STRING || data.data_size >= size)
		return false;
	memcpy(text, data.utf8_string, data.data_size);
	text[data.data_size] = '\0';
	return true;
}

/* A number in GeoLite2 and DB-IP, "AS64500" in IPinfo's. */
static uint32_t
record_as(MMDB_entry_s *entry)
{
	static const char *const number[] = { "autonomous_system_number",
		NULL };
	static const char *const name[] = { "asn", NULL };
	MMDB_entry_data_s data;
	char text[16], *end;
	unsigned long long value;

	if (find_field(entry, number, &data))
		return data.type == MMDB_DATA_TYPE_UINT32 ? data.uint32 :
		    data.type == MMDB_DATA_TYPE_UINT16 ? data.uint16 : 0;
	if (!find_text(entry, name, text, sizeof(text)) ||
	    strncasecmp(text, "AS", 2) != 0)
		return 0;
	value = strtoull(text + 2, &end, 10);
	return *end == '\0' && value <= UINT32_MAX ? (uint32_t)value : 0;
}

static bool
is_country(char code[GEO_COUNTRY_SIZE])
{
	for (int i = 0; i < 2; i++) {
		if (code[i] >= 'a' && code[i] <= 'z')
			code[i] = (char)(code[i] - 'a' + 'A');
		if (code[i] < 'A' || code[i] > 'Z')
			return false;
	}
	return true;
}

/* Where it is, or else where its owner is; the last two are IPinfo's. */
static bool
record_country(MMDB_entry_s *entry, char code[GEO_COUNTRY_SIZE])
{
	static const char *const paths[][3] = {
		{ "country", "iso_code", NULL },
		{ "registered_country", "iso_code", NULL },
		{ "country_code", NULL, NULL },
		{ "country", NULL, NULL },
	};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (find_text(entry, paths[i], code, GEO_COUNTRY_SIZE) &&
		    is_country(code))
			return true;
	code[0] = '\0';
	return false;
}

static bool
record_tells(MMDB_entry_s *entry, enum geo_kind kind)
{
	char code[GEO_COUNTRY_SIZE];

	return kind == GEO_AS ? record_as(entry) != 0 :
	    record_country(entry, code);
}

/* --- opening --- */

/* False: it is another database, say one of countries in place of ASes. */
static bool
is_of(const MMDB_s *database, enum geo_kind kind)
{
	MMDB_search_node_s node;
	int seen = 0;

	for (uint32_t i = 0; i < database->metadata.node_count &&
	    seen < SAMPLE; i++) {
		if (MMDB_read_node(database, i, &node) != MMDB_SUCCESS)
			return false;
		if (node.left_record_type == MMDB_RECORD_TYPE_DATA) {
			if (record_tells(&node.left_record_entry, kind))
				return true;
			seen++;
		}
		if (node.right_record_type == MMDB_RECORD_TYPE_DATA) {
			if (record_tells(&node.right_record_entry, kind))
				return true;
			seen++;
		}
	}
	return false;
}

/*
 * A descriptor of a copy in memory, read by nobody else: a file that is mapped
 * and then made shorter would kill us.  -1: *why.
 */
static int
copy_file(const char *path, const char **why)
{
	int from = open(path, O_RDONLY | O_CLOEXEC), to = -1;
	struct stat status;
	off_t left;
	ssize_t n = 1;

	if (from == -1 || fstat(from, &status) != 0)
		goto failed;
	*why = !S_ISREG(status.st_mode) ? "it is no file" :
	    status.st_size > SIZE_LIMIT ? "the file is too large" : NULL;
	if (*why != NULL) {
		close(from);
		return -1;
	}
	if ((to = memfd_create("geo", MFD_CLOEXEC)) == -1)
		goto failed;
	for (left = status.st_size; left > 0 && n > 0; left -= n)
		if ((n = sendfile(to, from, NULL, (size_t)left)) == -1)
			goto failed;
	close(from);
	return to;
failed:
	*why = strerror(errno);
	if (from != -1)
		close(from);
	if (to != -1)
		close(to);
	return -1;
}

static int
open_database(MMDB_s *database, enum geo_kind kind, const char *path,
    const char **why)
{
	int fd = copy_file(path, why), rc;
	char name[64];

	if (fd == -1)
		return -1;
	/* The library opens by name only. */
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	rc = MMDB_open(name, MMDB_MODE_MMAP, database);
	close(fd);
	if (rc != MMDB_SUCCESS) {
		*why = MMDB_strerror(rc);
		return -1;
	}
	if (is_of(database, kind))
		return 0;
	*why = kind == GEO_AS ? "no record tells the number of an AS" :
	    "no record tells a country";
	MMDB_close(database);
	return -1;
}

static void
let_go(enum geo_kind kind)
{
	if (geos[kind].open)
		MMDB_close(&geos[kind].database);
	geos[kind].open = false;
}

int
geo_load(enum geo_kind kind, const char *path, const char **why)
{
	let_go(kind);
	if (path == NULL)
		return 0;
	if (open_database(&geos[kind].database, kind, path, why) != 0)
		return -1;
	geos[kind].open = true;
	return 0;
}

void
geo_close(void)
{
	for (int i = 0; i < GEO_KINDS; i++)
		let_go((enum geo_kind)i);
}

/* --- by the configuration --- */

static const char *const option_names[GEO_KINDS] = {
	[GEO_AS] = "asn_database", [GEO_COUNTRY] = "country_database",
};

static const char *
path_of(const struct conf *conf, enum geo_kind kind)
{
	const struct policy_options *policy = conf_get(conf, "policy");

	return kind == GEO_AS ? policy->asn_database :
	    policy->country_database;
}

void
geo_open(const struct conf *conf)
{
	const char *path, *why;

	for (int i = 0; i < GEO_KINDS; i++) {
		path = path_of(conf, (enum geo_kind)i);
		if (geo_load((enum geo_kind)i, path, &why) != 0)
			log_warn(NULL, "policy: %s: %s: %s; we go on without",
			    option_names[i], path, why);
	}
}

void
geo_check_options(const struct conf *conf, struct buf *errors)
{
	const struct conf_section *section;
	const char *path, *why;
	MMDB_s database;
	size_t count;

	section = conf_sections(conf, "policy", &count);
	for (int i = 0; i < GEO_KINDS; i++) {
		path = path_of(conf, (enum geo_kind)i);
		if (path == NULL)
			continue;
		if (open_database(&database, (enum geo_kind)i, path,
		    &why) == 0)
			MMDB_close(&database);
		else
			conf_error(errors, conf, section, option_names[i],
			    "%s: %s", path, why);
	}
}

/* --- questions --- */

/* False: it cannot tell. */
static bool
look_up(enum geo_kind kind, const char *address, MMDB_entry_s *entry)
{
	struct sockaddr_storage client;
	MMDB_lookup_result_s result;
	int error;

	if (!geos[kind].open || !subject_client(address, &client))
		return false;
	result = MMDB_lookup_sockaddr(&geos[kind].database,
	    (const struct sockaddr *)&client, &error);
	*entry = result.entry;
	return error == MMDB_SUCCESS && result.found_entry;
}

uint32_t
geo_as(const char *address)
{
	MMDB_entry_s entry;

	return look_up(GEO_AS, address, &entry) ? record_as(&entry) : 0;
}

bool
geo_country(const char *address, char code[GEO_COUNTRY_SIZE])
{
	MMDB_entry_s entry;

	code[0] = '\0';
	return look_up(GEO_COUNTRY, address, &entry) &&
	    record_country(&entry, code);
}
