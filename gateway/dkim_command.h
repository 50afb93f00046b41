/*
 * millgatectl dkim: makes keys, tells what to publish in DNS, and compares what
 * is published with the key.  Works on files and DNS alone; no Millgate has to
 * run.
 */
#ifndef GATEWAY_DKIM_COMMAND_H
#define GATEWAY_DKIM_COMMAND_H

#include <openssl/evp.h>
#include <stddef.h>

struct arena;

#define DKIM_COMMAND_USAGE						\
	"  dkim keygen [-t rsa|ed25519] [-b bits] file\n"		\
	"                             make a private key\n"		\
	"  dkim dns -d domain -s selector file\n"			\
	"                             the record to publish for it\n"	\
	"  dkim check -d domain -s selector file [--server address@port]\n" \
	"                             is that record in DNS?\n"		\
	"  dkim check table [--server address@port]\n"			\
	"                             are those of a key table?\n"

/* Runs the words behind "dkim", that one included; returns an exit status. */
int dkim_command(int argc, char **argv);

/* The text of a key's record (RFC 6376, 3.6.1; RFC 8463, 4); in the arena. */
const char *dkim_record_text(struct arena *, EVP_PKEY *);

/* A TXT record as a zone file has it, its text in strings of at most 255. */
const char *dkim_record_zone(struct arena *, const char *name,
    const char *text);

/* NULL: this published record will do for the key; else why it will not. */
const char *dkim_record_differs(struct arena *, EVP_PKEY *, const char *record,
    size_t len);

#endif
