/* The Received field (RFC 5321, 4.4), and loops found by counting them. */
#ifndef GATEWAY_RECEIVED_H
#define GATEWAY_RECEIVED_H

#include <stddef.h>
#include <stdint.h>

#include "filters/mail.h"

struct buf;

/* Appends the value of our Received field, folded, without the name. */
void received_print(struct buf *, const struct mail *, int64_t now_ms);

/* How many Received fields there are. */
size_t received_count(const struct headers *);

/* Appends a date (RFC 5322, 3.3) in UTC. */
void received_print_date(struct buf *, int64_t wall_clock_ms);

/* The protocol's name: ESMTP, ESMTPS, UTF8SMTPSA ... (RFC 3848, RFC 6531). */
const char *received_protocol(const struct session *, bool smtputf8);

#endif
