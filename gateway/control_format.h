/* What millgatectl shows: lines and numbers made readable.  Pure. */
#ifndef GATEWAY_CONTROL_FORMAT_H
#define GATEWAY_CONTROL_FORMAT_H

#include <stdint.h>

struct buf;

/* "2026-11-24 03:45:46.123", local time. */
#define CONTROL_TIME_SIZE 40
const char *control_format_time(int64_t wall_ms,
    char text[CONTROL_TIME_SIZE]);

/* "1.5G", "20K", "512": bytes. */
#define CONTROL_BYTES_SIZE 24
const char *control_format_bytes(int64_t bytes,
    char text[CONTROL_BYTES_SIZE]);

/* "30d", "2h 5m", "12s". */
#define CONTROL_SPAN_SIZE 40
const char *control_format_span(int64_t ms, char text[CONTROL_SPAN_SIZE]);

/* The head of the list of the queue, and a line of it as the relay tells it. */
void control_format_queue_head(struct buf *out);
void control_format_queue_line(struct buf *out, const char *line);

/*
 * Counters in Prometheus' text format as lines for people, in groups: one
 * line a counter, a histogram as its count and mean.
 */
void control_format_counters(struct buf *out, const char *text);

#endif
