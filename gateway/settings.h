/*
 * The options of the top level and the list of all kinds of section.
 */
#ifndef GATEWAY_SETTINGS_H
#define GATEWAY_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/option.h"

#define TOP_OPTIONS(ROW, o)						\
	ROW(o, hostname, string, NULL, NULL, NULL,			\
	    "Our name: in the greeting, in EHLO and in Received fields. "	\
	    "Default: the machine's full name.")			\
	ROW(o, relay_domains, table, NULL, NULL, NULL,			\
	    "Domains that we accept mail for from anybody.")		\
	ROW(o, trusted_networks, table, "127.0.0.0/8, ::1", NULL, NULL,	\
	    "Networks whose clients may relay to anywhere.")		\
	ROW(o, message_size_limit, size, "50M", "1K", "2G",		\
	    "The largest message accepted, announced by SIZE.")		\
	ROW(o, spool_directory, string, LOCALSTATEDIR "/spool/millgate", \
	    NULL, NULL, "Where messages wait for delivery.")		\
	ROW(o, state_directory, string, LOCALSTATEDIR "/lib/millgate",	\
	    NULL, NULL, "Where the embedded store and the history are.")	\
	ROW(o, run_directory, string, "/run/millgate", NULL, NULL,	\
	    "Where the control socket and the process id file are.")	\
	ROW(o, gateways, number, "0", "0", "64",			\
	    "Gateway processes; 0: one for each processor.")		\
	ROW(o, memory_limit, size, "128K", "4K", "1G",			\
	    "A message arriving is kept in memory up to this size, then "	\
	    "in a temporary file.")					\
	ROW(o, minimum_free, size, "64M", "0", "1T",			\
	    "Mail is refused (452) while the spool's disk has less room.") \
	ROW(o, tls_certificate, file, NULL, NULL, NULL,			\
	    "PEM file: our certificate and its chain; turns STARTTLS on.") \
	ROW(o, tls_key, file, NULL, NULL, NULL,				\
	    "PEM file: the private key of tls_certificate.")		\
	ROW(o, dns_forwarders, strings, NULL, NULL, NULL,		\
	    "DNS servers, as address or address@port; none: those of "	\
	    "/etc/resolv.conf; { recursion }: ask the authorities.")	\
	ROW(o, dns_stubs, strings, NULL, NULL, NULL,			\
	    "zone=address@port: asked there instead.")			\
	ROW(o, dns_trust_anchor, string, NULL, NULL, NULL,		\
	    "File of the root's keys; turns DNSSEC validation on.")	\
	ROW(o, dns_timeout, duration, "5s", "100ms", "1m",		\
	    "How long one DNS question may take.")			\
	ROW(o, log_target, choice, "syslog", "stderr|syslog", NULL,	\
	    "Where log lines go.")					\
	ROW(o, log_format, choice, "text", "text|json", NULL,		\
	    "The shape of log lines.")					\
	ROW(o, log_level, choice, "info", "error|warn|info|debug", NULL, \
	    "The least important lines that are logged.")

struct top_options { TOP_OPTIONS(OPTION_FIELD, top_options) };

/* All kinds of section that the configuration may hold; settings_init(). */
#define SETTINGS_KINDS_MAX 64
extern const struct section_kind *settings_kinds[SETTINGS_KINDS_MAX];
extern size_t settings_kind_count;

/* Collects the kinds of the gateway, the policies and the filters; once. */
void settings_init(void);

/*
 * The machine's full name, from the resolver if the kernel has a short one
 * only; this may block.  The master asks before it has children, which are told
 * the answer, so that all have the same and none of them needs /etc/hosts.
 */
const char *settings_machine_name(void);

/* Makes it the default of hostname; name is borrowed.  Before conf_load. */
void settings_set_machine_name(const char *name);

struct conf;
struct conf_section;
struct filter_host_options;

/* An address that some process shall listen on. */
struct settings_endpoint {
	const char *name;		/* "listener:smtp", "host:sign", "control" */
	const char *address;		/* net.h */
	int mode;			/* of a UNIX socket */
	const char *group;		/* and its group, or NULL: as it is */
	bool group_may_lack;
	const struct conf_section *section;	/* for errors; may be NULL */
	const char *option;
};

/* Calls f for each; what it is given lives during the call only. */
void settings_each_endpoint(const struct conf *,
    void (*f)(const struct settings_endpoint *, void *), void *argument);

/* Whether sections of this kind have a filter host of their own each. */
bool settings_is_isolated(const struct section_kind *);

/*
 * The nth section with a host, from 0; NULL: no more.  What only filter_hosts
 * name has none of its own.
 */
const struct conf_section *settings_isolated(const struct conf *, size_t n);

/* The filter_host of that title; NULL: there's none. */
const struct filter_host_options *settings_hosted(const struct conf *,
    const char *title);

/* Makes the spool and state directories and gives them to the roles' users. */
int settings_prepare_directories(const struct conf *, const char **why);

/* Opens the log of this process as the configuration says. */
void settings_open_log(const struct conf *, const char *role);

#endif
