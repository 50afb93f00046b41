/*
 * millgatectl milter: asks a milter what it is.  Works on the milter alone; no
 * Millgate has to run.
 */
#ifndef GATEWAY_MILTER_COMMAND_H
#define GATEWAY_MILTER_COMMAND_H

struct milter_talk;

#define MILTER_COMMAND_USAGE						\
	"  milter probe [-C file] [-N name] endpoint\n"			\
	"                             what it is, and how fast\n"

/* Runs the words behind "milter", that one included; an exit status. */
int milter_command(int argc, char **argv);

/* With a talk whose end point is set, in a task; an exit status. */
int milter_probe(struct milter_talk *, const char *endpoint);

/* Prints "millgatectl: what: why" and returns the status. */
int milter_complain(int status, const char *what, const char *why);

#endif
