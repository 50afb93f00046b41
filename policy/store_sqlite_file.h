/* SQLite's file: its tables and how it is opened. */
#ifndef POLICY_STORE_SQLITE_FILE_H
#define POLICY_STORE_SQLITE_FILE_H

struct sqlite3;

/* All of a record but its key. */
#define SQLITE_FIELDS	"v1, v2, v3, v4, v5, v6, v7, v8, note, expires"

/*
 * Opens the file, makes it and its tables as it needs; SQLite's code.  Whatever
 * that is, *db is to be closed.
 */
int sqlite_file_open(const char *path, struct sqlite3 **db);

/*
 * Takes what has expired out of the next part of the records; *end is the last
 * key of the part before, on the heap, NULL: begins anew.  SQLite's code.
 */
int sqlite_file_prune(struct sqlite3 *, char **end);

#endif
