/* Requests to the policy process. */
#include "filters/policy_request.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "filters/filter.h"

static const char *
state_name(enum policy_state state)
{
	switch (state) {
	case POLICY_AT_CONNECT:
		return "CONNECT";
	case POLICY_AT_HELO:
		return "EHLO";
	case POLICY_AT_MAIL:
		return "MAIL";
	case POLICY_AT_RCPT:
		return "RCPT";
	case POLICY_AT_DATA:
		return "DATA";
	case POLICY_AT_END:
	case POLICY_AT_CLOSE:
		break;
	}
	return "END-OF-MESSAGE";
}

static void
put_number(struct buf *out, enum policy_attribute attribute, size_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "%zu", number);
	policy_put(out, attribute, text);
}

/* "unknown" is Postfix's word for a client without a name. */
static void
put_session(struct buf *out, const struct session *session)
{
	policy_put(out, POLICY_PROTOCOL_NAME, session->esmtp ? "ESMTP" :
	    "SMTP");
	policy_put(out, POLICY_HELO_NAME, session->helo);
	policy_put(out, POLICY_CLIENT_ADDRESS, session->client_address);
	policy_put(out, POLICY_CLIENT_NAME, session->client_name != NULL ?
	    session->client_name : "unknown");
	policy_put(out, POLICY_REVERSE_CLIENT_NAME,
	    session->client_ptr != NULL ? session->client_ptr : "unknown");
	policy_put(out, POLICY_LISTENER, session->listener);
	policy_put(out, POLICY_SESSION, session->log.id);
	if (session->trusted)
		policy_put(out, POLICY_TRUSTED, "yes");
	if (session->user != NULL) {
		policy_put(out, POLICY_SASL_USERNAME, session->user);
		policy_put(out, POLICY_SASL_METHOD, session->auth_method);
	}
	if (session->tls_version == NULL)
		return;
	policy_put(out, POLICY_ENCRYPTION_PROTOCOL, session->tls_version);
	policy_put(out, POLICY_ENCRYPTION_CIPHER, session->tls_cipher);
	put_number(out, POLICY_ENCRYPTION_KEYSIZE, (size_t)session->tls_bits);
	policy_put(out, POLICY_CCERT_SUBJECT, session->tls_subject);
	policy_put(out, POLICY_CCERT_ISSUER, session->tls_issuer);
}

static void
put_recipients(struct buf *out, const struct mail *mail)
{
	struct buf list = BUF_INIT;
	size_t count = 0;

	for (const struct recipient *r = mail->envelope.recipients; r != NULL;
	    r = r->next) {
		/* A quoted local part with a blank would read as two. */
		if (strchr(r->address, ' ') == NULL)
			buf_printf(&list, "%s%s", list.len > 0 ? " " : "",
			    r->address);
		count++;
	}
	policy_put(out, POLICY_RECIPIENT, list.data);
	put_number(out, POLICY_RECIPIENT_COUNT, count);
	buf_release(&list);
}

/* --- what was authenticated --- */

static const char *
domain_part(const char *address)
{
	const char *at = address == NULL ? NULL : strrchr(address, '@');

	return at != NULL ? at + 1 : address;
}

static void
add_domain(struct buf *list, const char *method, const char *domain)
{
	if (domain != NULL && *domain != '\0' && strchr(domain, ' ') == NULL)
		buf_printf(list, "%s%s=%s", list->len > 0 ? " " : "", method,
		    domain);
}

static void
add_passed(struct buf *domains, struct buf *selectors,
    const struct finding *finding)
{
	const char *domain, *selector;

	if (strcmp(finding->result, "pass") != 0)
		return;
	if (strcmp(finding->method, "dkim") == 0) {
		domain = finding_value(finding, "header", "d");
		selector = finding_value(finding, "header", "s");
		add_domain(domains, "dkim", domain);
		if (domain != NULL && selector != NULL &&
		    strchr(selector, ' ') == NULL)
			buf_printf(selectors, "%s%s._domainkey.%s",
			    selectors->len > 0 ? " " : "", selector, domain);
	} else if (strcmp(finding->method, "spf") == 0) {
		add_domain(domains, "spf", domain_part(finding_value(finding,
		    "smtp", "mailfrom")));
	} else if (strcmp(finding->method, "dmarc") == 0) {
		add_domain(domains, "dmarc", finding_value(finding, "header",
		    "from"));
	}
}

static void
put_findings(struct buf *out, const struct mail *mail)
{
	struct buf domains = BUF_INIT, selectors = BUF_INIT;
	struct buf results = BUF_INIT;

	for (const struct finding *f = mail->findings; f != NULL; f = f->next) {
		add_passed(&domains, &selectors, f);
		buf_printf(&results, "%s%s=%s", results.len > 0 ? " " : "",
		    f->method, f->result);
	}
	policy_put(out, POLICY_AUTH_DOMAINS, domains.data);
	policy_put(out, POLICY_AUTH_SELECTORS, selectors.data);
	policy_put(out, POLICY_RESULTS, results.data);
	buf_release(&domains);
	buf_release(&selectors);
	buf_release(&results);
}

void
policy_request_of(struct buf *out, const struct filter_run *run,
    const struct recipient *recipient, enum policy_state state)
{
	const struct mail *mail = run->mail;

	policy_put(out, POLICY_PROTOCOL_STATE, state_name(state));
	put_session(out, run->session);
	if (mail == NULL) {
		policy_put(out, POLICY_INSTANCE, run->session->log.id);
		policy_end(out);
		return;
	}
	policy_put(out, POLICY_INSTANCE, mail->envelope.id);
	policy_put(out, POLICY_QUEUE_ID, mail->envelope.id);
	policy_put(out, POLICY_SENDER, mail->envelope.sender);
	if (recipient != NULL)
		policy_put(out, POLICY_RECIPIENT, recipient->address);
	else if (state != POLICY_AT_MAIL)
		put_recipients(out, mail);
	if (state == POLICY_AT_END) {
		put_number(out, POLICY_SIZE, mail->received_size);
		put_findings(out, mail);
	}
	policy_end(out);
}
