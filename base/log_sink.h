/*
 * Where the lines of the log go.  The thread of the loop gathers them, and
 * hands them over together before it waits: a system call for a turn of the
 * loop instead of one for each line.
 */
#ifndef BASE_LOG_SINK_H
#define BASE_LOG_SINK_H

#include <stdbool.h>

#include "base/log.h"
#include "base/log_line.h"

/* fd: for LOG_TO_FD.  Lines that were gathered go to the former sink. */
void log_sink_open(enum log_target, int fd);

/*
 * Takes a line (its end is put here).  Waits with it if this thread gathers
 * and it isn't urgent.
 */
void log_sink_put(struct log_line *, bool urgent);

/* Lines that nobody took since this was asked last; 0 until one is again. */
long log_sink_lost(void);

#endif
