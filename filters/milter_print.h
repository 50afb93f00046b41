/* The milter protocol for the eyes of people: names of its bits, packets. */
#ifndef FILTERS_MILTER_PRINT_H
#define FILTERS_MILTER_PRINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct milter_packet;

/* A command, and the bits by which a filter refuses it or is silent. */
struct milter_kind {
	char code;
	const char *name;		/* "rcpt" */
	uint32_t no, silent;
	bool answered;			/* unless silent */
};

/* NULL: there is no such command. */
const struct milter_kind *milter_kind(char code);

/* By the number of a stage in SETSYMLIST: "rcpt". */
const char *milter_stage_name(size_t stage);

/* "add_header change_body"; bits without a name as a number. */
void milter_print_actions(struct buf *, uint32_t actions);
void milter_print_protocol(struct buf *, uint32_t protocol);

/*
 * A packet on a line, without its end: "rcpt <bob@example.net>".  What isn't
 * printable is escaped, what is long is cut; full is the payload's length on
 * the wire, of which the packet may hold only the beginning.
 */
void milter_print_packet(struct buf *, bool from_filter,
    const struct milter_packet *, size_t full);

#endif
