/*
 * The counters of all processes, for Prometheus: GET /metrics (text format
 * 0.0.4) and GET /healthz over HTTP.
 */
#ifndef GATEWAY_METRICS_H
#define GATEWAY_METRICS_H

#include <stddef.h>

struct counter_block;
struct metrics;

/* Serves what these blocks hold, which are borrowed. */
struct metrics *metrics_new(struct counter_block *const *blocks,
    size_t count);

/* Accepts from that socket, which is taken.  -1 and *why. */
int metrics_listen(struct metrics *, int fd, const char **why);

/* Closes the sockets and cuts off clients; NULL is fine. */
void metrics_free(struct metrics **);

#endif
