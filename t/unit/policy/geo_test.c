/* Where addresses come from; files that tell nothing of it. */
#include "policy/geo.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/conf.h"
#include "policy/policy.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

static const char asn[] = "t/unit/policy/asn.mmdb";
static const char country[] = "t/unit/policy/country.mmdb";

static const struct {
	const char *name, *address;
	uint32_t as;
	const char *country;
} cases[] = {
	{ "GeoLite2",		"192.0.2.1",		64500,	"DE" },
	{ "the longest wins",	"192.0.3.1",		64499,	"" },
	{ "registered",		"198.51.100.1",		4200000001, "FR" },
	{ "IPinfo",		"203.0.113.1",		64500,	"NL" },
	{ "IPv6, a word",	"2001:db8:1::1",	64502,	"AT" },
	{ "IPv4 in IPv6",	"::ffff:192.0.2.9",	64500,	"DE" },
	{ "not in it",		"10.0.0.1",		0,	"" },
	{ "IPv6 not in it",	"2001:db9::1",		0,	"" },
	{ "damaged",		"100.64.0.1",		0,	"" },
	{ "of another type",	"100.64.1.1",		0,	"" },
	{ "no number, none",	"100.64.2.1",		0,	"" },
	{ "too large, damaged",	"100.64.3.1",		0,	"" },
	{ "no address",		"unknown",		0,	"" },
	{ "empty",		"",			0,	"" },
	{ "none at all",	NULL,			0,	"" },
};

static void
looked_up(void)
{
	const char *why = NULL;
	char code[GEO_COUNTRY_SIZE];

	CU_ASSERT_EQUAL(geo_load(GEO_AS, unit_path(asn), &why), 0);
	CU_ASSERT_EQUAL(geo_load(GEO_COUNTRY, unit_path(country), &why), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CASE_ASSERT(cases[i].name, geo_as(cases[i].address) ==
		    cases[i].as);
		CASE_ASSERT(cases[i].name, geo_country(cases[i].address,
		    code) == (cases[i].country[0] != '\0') &&
		    strcmp(code, cases[i].country) == 0);
	}
	CU_ASSERT_EQUAL(geo_load(GEO_AS, NULL, &why), 0);
	CU_ASSERT_EQUAL(geo_as("192.0.2.1"), 0);
	CU_ASSERT(geo_country("192.0.2.1", code));
	geo_close();
	CU_ASSERT(!geo_country("192.0.2.1", code));
}

/* --- files --- */

static size_t
read_whole(const char *path, char *bytes, size_t size)
{
	FILE *file = fopen(path, "r");
	size_t len = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	len = fread(bytes, 1, size, file);
	fclose(file);
	return len;
}

/* The file is made anew, of two parts. */
static void
write_parts(const char *path, const char *first, size_t first_len,
    const char *second, size_t second_len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CU_ASSERT_FATAL(fd != -1 && write(fd, first, first_len) ==
	    (ssize_t)first_len && write(fd, second, second_len) ==
	    (ssize_t)second_len);
	close(fd);
}

/* The file is of the process no more once it is loaded. */
static void
made_shorter(void)
{
	char path[] = "/tmp/millgate-geo-XXXXXX", bytes[8192];
	int fd = mkstemp(path);
	const char *why = NULL;
	size_t len = read_whole(unit_path(asn), bytes, sizeof(bytes));

	CU_ASSERT_FATAL(fd != -1);
	close(fd);
	write_parts(path, bytes, len, "", 0);
	CU_ASSERT_EQUAL(geo_load(GEO_AS, path, &why), 0);
	CU_ASSERT_EQUAL(truncate(path, 0), 0);
	CU_ASSERT_EQUAL(geo_as("192.0.2.1"), 64500);
	unlink(path);
	CU_ASSERT_EQUAL(geo_load(GEO_AS, path, &why), -1);
	CU_ASSERT_EQUAL(geo_as("192.0.2.1"), 0);
	geo_close();
}

/* Cut anywhere, or with any byte changed, it is refused or answers something. */
static void
damaged(void)
{
	char path[] = "/tmp/millgate-geo-XXXXXX", bytes[8192], code[3];
	int fd = mkstemp(path);
	const char *why = NULL;
	size_t len = read_whole(unit_path(country), bytes, sizeof(bytes));

	CU_ASSERT_FATAL(fd != -1);
	close(fd);
	for (size_t cut = 0; cut < len; cut += 7) {
		write_parts(path, bytes, cut, "", 0);
		CU_ASSERT(geo_load(GEO_COUNTRY, path, &why) == -1 &&
		    *why != '\0');
		/* Its end is there, and what is before is not. */
		write_parts(path, bytes, cut / 2, bytes + len - cut / 2,
		    cut / 2);
		if (geo_load(GEO_COUNTRY, path, &why) != 0)
			continue;
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
			geo_country(cases[i].address, code);
	}
	for (size_t at = 0; at < len; at++) {
		bytes[at] ^= (char)0xa5;
		write_parts(path, bytes, len, "", 0);
		bytes[at] ^= (char)0xa5;
		if (geo_load(GEO_COUNTRY, path, &why) != 0)
			continue;
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
			geo_country(cases[i].address, code);
	}
	unlink(path);
	geo_close();
}

static void
checked(void)
{
	const struct {
		const char *name, *option, *path, *error;
	} files[] = {
		{ "good", "asn", unit_path(asn), NULL },
		{ "no file", "asn", "/nonexistent/a.mmdb", "asn_database: "
		    "/nonexistent/a.mmdb: No such file" },
		{ "a directory", "country", "/tmp", "it is no file" },
		{ "another database", "asn", unit_path(country),
		    "no record tells the number of an AS" },
		{ "the same", "country", unit_path(asn),
		    "no record tells a country" },
		{ "not of its format", "country",
		    unit_path("t/unit/policy/geo_test.c"), "metadata" },
		{ "empty", "country", "/dev/null", "it is no file" },
	};
	char text[8192];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		struct rig_check check = { files[i].name, text,
			files[i].error };

		snprintf(text, sizeof(text), "policy { %s_database = \"%s\" }",
		    files[i].option, files[i].path);
		rig_check_options(&check, 1);
	}
}

/* What is wrong by the time that a process starts is said, and left out. */
static void
opened(struct rig *rig)
{
	char text[8192];
	struct conf *conf;

	snprintf(text, sizeof(text), "policy { asn_database = \"%s\" "
	    "country_database = \"/nonexistent/b\" }", unit_path(asn));
	conf = rig_conf(text);
	geo_open(conf);
	conf_free(&conf);
	CU_ASSERT_EQUAL(geo_as("192.0.2.1"), 64500);
	CU_ASSERT_EQUAL(rig_log_count(rig, "country_database: /nonexistent/b: "
	    "No such file or directory; we go on without"), 1);
	geo_close();
}

static void
configured(void)
{
	rig_alone(opened);
}

SUITE(geo,
    { "looks up", looked_up },
    { "a copy of its own", made_shorter },
    { "damage", damaged },
    { "checks of options", checked },
    { "by the configuration", configured })
