/*
 * Macros: names from Sendmail's configuration language, by which an MTA tells a
 * milter what its packets do not hold.
 */
#include "filters/milter_macros.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/net.h"
#include "filters/mail.h"

#ifndef PACKAGE_VERSION
#include "config.h"
#endif

#define SCRATCH_SIZE	600
#define VALUE_MAX	1500	/* all rows at that length fit one packet */
#define NAMES_MAX	128

/* The value, perhaps in scratch; NULL: there is none. */
typedef const char *macro_f(const struct milter_facts *, char *scratch);

static const char *
our_name(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	return f->session->hostname;
}

static const char *
client_address(const struct milter_facts *f, char *scratch)
{
	const struct session *s = f->session;

	if (s->client.ss_family != AF_INET6 ||
	    strchr(s->client_address, ':') == NULL)
		return s->client_address;
	snprintf(scratch, SCRATCH_SIZE, "IPv6:%s", s->client_address);
	return scratch;
}

/* The peer as Sendmail's $_ names it. */
static const char *
client_validated(const struct milter_facts *f, char *scratch)
{
	const struct session *s = f->session;
	char address[SCRATCH_SIZE];

	if (s->client_address == NULL)
		return NULL;
	if (s->client_name != NULL)
		snprintf(scratch, SCRATCH_SIZE, "%.255s [%s]", s->client_name,
		    client_address(f, address));
	else if (s->client_ptr != NULL)
		snprintf(scratch, SCRATCH_SIZE, "%.255s [%s] (may be forged)",
		    s->client_ptr, client_address(f, address));
	else
		snprintf(scratch, SCRATCH_SIZE, "[%s]",
		    client_address(f, address));
	return scratch;
}

static const char *
client_address_or_none(const struct milter_facts *f, char *scratch)
{
	return f->session->client_address != NULL ?
	    client_address(f, scratch) : NULL;
}

static const char *
client_name(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	return f->session->client_name != NULL ? f->session->client_name :
	    "unknown";
}

static const char *
client_ptr(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	return f->session->client_ptr != NULL ? f->session->client_ptr :
	    client_name(f, scratch);
}

/* In Sendmail's words: what became of looking the client's name up. */
static const char *
client_resolve(const struct milter_facts *f, char *scratch)
{
	const struct session *s = f->session;

	(void)scratch;
	if (!s->client_name_asked)
		return NULL;
	if (s->client_name != NULL)
		return "OK";
	if (s->client_name_unknown)
		return "TEMP";
	return s->client_ptr != NULL ? "FORGED" : "FAIL";
}

static const char *
port_of(const struct sockaddr_storage *ss, char *scratch)
{
	unsigned port;

	if (ss->ss_family == AF_INET)
		port = ntohs(((const struct sockaddr_in *)ss)->sin_port);
	else if (ss->ss_family == AF_INET6)
		port = ntohs(((const struct sockaddr_in6 *)ss)->sin6_port);
	else
		return NULL;
	snprintf(scratch, SCRATCH_SIZE, "%u", port);
	return scratch;
}

static const char *
client_port(const struct milter_facts *f, char *scratch)
{
	return port_of(&f->session->client, scratch);
}

static const char *
daemon_port(const struct milter_facts *f, char *scratch)
{
	return port_of(&f->session->local, scratch);
}

static const char *
daemon_address(const struct milter_facts *f, char *scratch)
{
	if (f->session->local.ss_family == AF_UNSPEC)
		return NULL;
	return net_address_print((const struct sockaddr *)&f->session->local,
	    scratch);
}

static const char *
daemon_name(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	return f->session->listener;
}

static const char *
version(const struct milter_facts *f, char *scratch)
{
	(void)f, (void)scratch;
	return "Millgate " PACKAGE_VERSION;
}

static const char *
tls_version(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	return f->session->tls_version;
}

static const char *
tls_cipher(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	return f->session->tls_cipher;
}

static const char *
tls_bits(const struct milter_facts *f, char *scratch)
{
	if (f->session->tls_version == NULL)
		return NULL;
	snprintf(scratch, SCRATCH_SIZE, "%d", f->session->tls_bits);
	return scratch;
}

static const char *
tls_subject(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	return f->session->tls_subject;
}

static const char *
tls_issuer(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	return f->session->tls_issuer;
}

static const char *
auth_method(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	return f->session->auth_method;
}

static const char *
auth_user(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	return f->session->user;
}

static const char *
auth_author(const struct milter_facts *f, char *scratch)
{
	const char *xtext = f->mail != NULL ? f->mail->envelope.submitter :
	    NULL;
	size_t len = xtext != NULL ? strlen(xtext) : SCRATCH_SIZE;

	if (len >= SCRATCH_SIZE)
		return NULL;
	scratch[xtext_decode(xtext, len, scratch)] = '\0';
	return scratch;
}

static const char *
mail_id(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	return f->mail != NULL ? f->mail->envelope.id : NULL;
}

static const char *
mail_address(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	return f->mail != NULL ? f->mail->envelope.sender : NULL;
}

static const char *
mail_host(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	return f->mail != NULL ? address_domain(f->mail->envelope.sender) :
	    NULL;
}

static const char *
mail_mailer(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	return f->mail != NULL ? "smtp" : NULL;
}

/* A refused recipient is told by mailer "error" with status and text. */
static const char *
rcpt_address(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	if (f->refusal != NULL)
		return f->refusal;
	return f->recipient != NULL ? f->recipient->address : NULL;
}

static const char *
rcpt_host(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	if (f->refusal != NULL)
		return "5.1.1";
	return f->recipient != NULL ?
	    address_domain(f->recipient->address) : NULL;
}

static const char *
rcpt_mailer(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	if (f->refusal != NULL)
		return "error";
	return f->recipient != NULL ? "smtp" : NULL;
}

static const char *
message_id(const struct milter_facts *f, char *scratch)
{
	const struct header *h;

	if (f->mail == NULL || (h = headers_find(&f->mail->headers,
	    "Message-ID", 1)) == NULL)
		return NULL;
	snprintf(scratch, SCRATCH_SIZE, "%s",
	    header_value(h, f->mail->arena, true));
	return scratch;
}

/* For our own filter hosts, which ask for it. */
static const char *
trusted(const struct milter_facts *f, char *scratch)
{
	(void)scratch;
	return f->session->trusted ? "yes" : NULL;
}

static const struct {
	const char *name;
	macro_f *value;
} macros[] = {
	{ "j", our_name },
	{ "_", client_validated },
	{ "i", mail_id },
	{ "v", version },
	{ "daemon_name", daemon_name },
	{ "daemon_addr", daemon_address },
	{ "daemon_port", daemon_port },
	{ "if_addr", daemon_address },
	{ "if_name", our_name },
	{ "client_addr", client_address_or_none },
	{ "client_name", client_name },
	{ "client_port", client_port },
	{ "client_ptr", client_ptr },
	{ "client_resolve", client_resolve },
	{ "tls_version", tls_version },
	{ "cipher", tls_cipher },
	{ "cipher_bits", tls_bits },
	{ "cert_subject", tls_subject },
	{ "cert_issuer", tls_issuer },
	{ "auth_type", auth_method },
	{ "auth_authen", auth_user },
	{ "auth_author", auth_author },
	{ "mail_addr", mail_address },
	{ "mail_host", mail_host },
	{ "mail_mailer", mail_mailer },
	{ "rcpt_addr", rcpt_address },
	{ "rcpt_host", rcpt_host },
	{ "rcpt_mailer", rcpt_mailer },
	{ "msg_id", message_id },
	{ "millgate_trusted", trusted },
};

static const struct {
	char command;
	const char *names;
} stages[MILTER_STAGES] = {
	[MILTER_AT_CONNECT] = { MILTER_CONNECT, "j _ v daemon_name "
	    "daemon_addr daemon_port client_addr client_name client_port "
	    "client_ptr" },
	[MILTER_AT_HELO] = { MILTER_HELO, "tls_version cipher cipher_bits "
	    "cert_subject cert_issuer" },
	[MILTER_AT_MAIL] = { MILTER_MAIL, "i auth_type auth_authen "
	    "auth_author mail_addr mail_host mail_mailer" },
	[MILTER_AT_RCPT] = { MILTER_RCPT, "i rcpt_addr rcpt_host "
	    "rcpt_mailer" },
	[MILTER_AT_DATA] = { MILTER_DATA, "i" },
	[MILTER_AT_EOM] = { MILTER_EOB, "i msg_id" },
	[MILTER_AT_EOH] = { MILTER_EOH, "i" },
};

/* One letter stands bare, a longer name in braces. */
static void
put_macro(struct buf *out, const char *name, const char *value)
{
	size_t n = 0;

	if (name[1] == '\0')
		buf_puts(out, name);
	else
		buf_printf(out, "{%s}", name);
	buf_putc(out, '\0');
	for (; *value != '\0' && n < VALUE_MAX; value++, n++) {
		unsigned char byte = (unsigned char)*value;

		buf_putc(out, byte < 0x20 || byte == 0x7f ? '?' : byte);
	}
	buf_putc(out, '\0');
}

static bool
put_named(struct buf *out, const char *name, size_t len,
    const struct milter_facts *facts)
{
	char scratch[SCRATCH_SIZE];
	const char *value;

	for (size_t i = 0; i < sizeof(macros) / sizeof(macros[0]); i++) {
		if (strncmp(macros[i].name, name, len) != 0 ||
		    macros[i].name[len] != '\0')
			continue;
		if ((value = macros[i].value(facts, scratch)) == NULL)
			return false;
		put_macro(out, macros[i].name, value);
		return true;
	}
	return false;
}

void
milter_put_macros(struct buf *out, enum milter_stage stage, const char *list,
    const struct milter_facts *facts)
{
	size_t begin = milter_begin(out, MILTER_MACRO), names = 0;
	bool any = false;

	buf_putc(out, stages[stage].command);
	if (list == NULL)
		list = stages[stage].names;
	while (*list != '\0' && names++ < NAMES_MAX) {
		size_t len;

		list += strspn(list, " ,\t{");
		len = strcspn(list, " ,\t}");
		if (len > 0 && out->len - begin <
		    MILTER_PAYLOAD_MAX - VALUE_MAX - 100 &&
		    put_named(out, list, len, facts))
			any = true;
		list += len;
		list += strspn(list, " ,\t}");
	}
	if (any) {
		milter_end(out, begin);
	} else {
		/* An empty packet would not clear what the filter has. */
		out->len = begin;
		out->data[begin] = '\0';
	}
}

bool
milter_macro_exists(const char *name)
{
	for (size_t i = 0; i < sizeof(macros) / sizeof(macros[0]); i++)
		if (strcmp(macros[i].name, name) == 0)
			return true;
	return false;
}
