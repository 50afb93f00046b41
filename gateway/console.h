/*
 * The console process's options; see proc_console.c.
 */
#ifndef GATEWAY_CONSOLE_H
#define GATEWAY_CONSOLE_H

#include "base/option.h"

#define CONSOLE_OPTIONS(ROW, o)						\
	ROW(o, metrics, strings, NULL, NULL, NULL,			\
	    "Addresses where /metrics is served for Prometheus; none: no "	\
	    "service. Keep it on a private address.")			\
	ROW(o, feedback, strings, NULL, NULL, NULL,			\
	    "Addresses where other systems may report what a message was, "	\
	    "by HTTP: POST /report {\"id\": \"...\", \"outcome\": \"spam\"}; "	\
	    "none: no service.")					\
	ROW(o, feedback_token, file, NULL, NULL, NULL,			\
	    "A file that holds the token that they send along "		\
	    "(Authorization: Bearer).")					\
	ROW(o, history, duration, "30d", "1h", "3650d",			\
	    "How long the history of messages is kept.")		\
	ROW(o, history_size, size, "1G", "1M", "1T",			\
	    "The most room that the history takes; the oldest goes first.")

struct console_options { CONSOLE_OPTIONS(OPTION_FIELD, console_options) };

extern const struct section_kind console_section;

#endif
