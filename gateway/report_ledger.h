/*
 * What has gone to the spool of a report before the store knew that it is done
 * with: a claim that comes again, after a crash or because the store was away,
 * must not send it twice.  A small file, replaced whole and synced.
 */
#ifndef GATEWAY_REPORT_LEDGER_H
#define GATEWAY_REPORT_LEDGER_H

#include <stdbool.h>
#include <stddef.h>

struct report_ledger;

/*
 * Keys are lines "DOMAIN BEGIN ID [PART]", BEGIN in milliseconds; those that no
 * claim can be about any more are forgotten.  A file that cannot be read is
 * logged and counts as empty.
 */
struct report_ledger *report_ledger_open(const char *path);
void report_ledger_free(struct report_ledger **);

bool report_ledger_has(const struct report_ledger *, const char *key);

/* Once they return it is on stable storage, or the log says why not. */
void report_ledger_add(struct report_ledger *, const char *key);

/* The key, and all that go on behind it with a blank. */
void report_ledger_remove(struct report_ledger *, const char *key);

/* The key of that number, or NULL. */
const char *report_ledger_at(const struct report_ledger *, size_t);

#endif
