/* The spool's directory: names of files in it, and how they are opened. */
#ifndef GATEWAY_SPOOL_DIR_H
#define GATEWAY_SPOOL_DIR_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/spool_record.h"

/* Descriptors of the directories; -1: not open. */
struct spool_dir {
	int segments, large, journal, corrupt;
};

#define SPOOL_DIR_INIT { -1, -1, -1, -1 }

/*
 * Opens the directories, O_NOFOLLOW.  The relay's are journal/ and corrupt/,
 * which the gateway need not (and may not) open.  -1 and *why on error.
 */
int spool_dir_open(struct spool_dir *, const char *directory, bool relay,
    const char **why);
void spool_dir_close(struct spool_dir *);

#define SPOOL_NAME_SIZE 64

/* <writer>-<serial>.seg, 16 hexadecimal digits. */
void segment_name_print(char name[SPOOL_NAME_SIZE], const char *writer,
    uint64_t serial);
bool segment_name_parse(const char *name, char writer[SEGMENT_WRITER_SIZE],
    uint64_t *serial);

/* <id>.msg */
void large_name_print(char name[SPOOL_NAME_SIZE], const char *id);

/*
 * Opens a file to read.  Refuses what is not a regular file with one name, as
 * a link would let the owner of a directory show us another file.  -1 with
 * errno.
 */
int spool_file_open(int directory, const char *name, int flags);

/*
 * Unlinks a file without waiting for its blocks to be freed, which takes 50 ms
 * for a long segment: fd (or -1), closed here by a thread, holds them until
 * then.  0, or -1 with errno; no such file is fine.
 */
int spool_unlink(int directory, const char *name, int fd);

#endif
