/*
 * Where an address comes from: its autonomous system (AS) and its country, by
 * databases in MaxMind's format (GeoLite2, DB-IP, IPinfo Lite) which the
 * configuration names.  One of each for the process, as there is one resolver.
 *
 * "Cannot tell" is an answer for every address: if there is no database, if the
 * address is not in it, or if what it says is damaged.
 */
#ifndef POLICY_GEO_H
#define POLICY_GEO_H

#include <stdbool.h>
#include <stdint.h>

struct buf;
struct conf;

enum geo_kind { GEO_AS, GEO_COUNTRY, GEO_KINDS };

/*
 * Takes a copy of a database, in place of the one before it: what becomes of
 * the file afterwards does no harm.  NULL: none.  To be called before the
 * process is locked in.  -1: *why, and there is none of that kind.
 */
int geo_load(enum geo_kind, const char *path, const char **why);

/* Those of the configuration; one that is odd by now is missed in the log. */
void geo_open(const struct conf *);
void geo_close(void);

/* Errors in the files of the options, added to errors. */
void geo_check_options(const struct conf *, struct buf *errors);

/* The number of the AS of an address, "192.0.2.1"; 0: cannot tell. */
uint32_t geo_as(const char *address);

/* The country's code (ISO 3166-1), such as "DE"; false, and "": cannot tell. */
#define GEO_COUNTRY_SIZE 3
bool geo_country(const char *address, char code[GEO_COUNTRY_SIZE]);

#endif
