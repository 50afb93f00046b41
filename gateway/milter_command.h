/*
 * millgatectl milter: asks a milter what it is, shows what was recorded of
 * conversations with one, and has a milter answer to a recording again.  Works
 * on milters and files alone; no Millgate has to run.
 */
#ifndef GATEWAY_MILTER_COMMAND_H
#define GATEWAY_MILTER_COMMAND_H

#include <stddef.h>

struct buf;
struct milter_record;
struct milter_talk;

#define MILTER_COMMAND_USAGE						\
	"  milter probe [-C file] [-N name] endpoint\n"			\
	"                             what it is, and how fast\n"	\
	"  milter trace file [--pcap file]\n"				\
	"                             what was recorded of it\n"	\
	"  milter replay [-C file] [-N name] file endpoint\n"		\
	"                             does it answer the same again?\n"

/* Runs the words behind "milter", that one included; an exit status. */
int milter_command(int argc, char **argv);

/* With a talk whose end point is set, in a task; an exit status. */
int milter_probe(struct milter_talk *, const char *endpoint);

int milter_replay(struct milter_talk *, const struct milter_record *,
    size_t count);

/* Recorded conversations as lines on standard output. */
void milter_show(const struct milter_record *, size_t count);

/* The same as a file of packets, as if they had come by TCP (milter_pcap.c). */
void milter_pcap(struct buf *, const struct milter_record *, size_t count);

/* Prints "millgatectl: what: why" and returns the status. */
int milter_complain(int status, const char *what, const char *why);

#endif
