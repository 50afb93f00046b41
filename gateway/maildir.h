/*
 * A maildir as a place of delivery: one file per message in new/, with
 * Return-Path and Delivered-To in front.  For trying things out and for
 * archives; it makes the directories if they lack.
 */
#ifndef GATEWAY_MAILDIR_H
#define GATEWAY_MAILDIR_H

#include <stddef.h>

#include "gateway/client.h"

/*
 * Writes the message to path/new, synced to the disk; waits as a task, a
 * thread does the work.  0, or -1 and *why.
 */
int maildir_deliver(const char *path, const struct envelope *,
    const struct delivery *recipients, size_t count,
    const struct slice *content, size_t content_count, const char **why);

#endif
