/*
 * May this user send as this sender, and as the author in From?  DKIM signs by
 * From: users could else have us vouch for mail in each other's names.
 */
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "gateway/sender_login.h"
#include "gateway/smtp_session.h"

static const struct smtp_refusal
    not_owned = { 553, "5.7.1", NULL, "sender-login" },
    author_not_owned = { 550, "5.7.1", NULL, "from-login" },
    unknown = { 451, "4.7.1", NULL, "sender-check" };

/* what: "Sender address". */
static struct smtp_refusal
refusal_for(const struct smtp_session *s, struct mail *mail,
    enum sender_login result, struct smtp_refusal refusal, const char *what,
    const char *address, const char *why)
{
	const char *user = s->peer.user;

	if (result == SENDER_LOGIN_UNKNOWN) {
		log_warn(&mail->log, "owners of <%s> cannot be told: %s",
		    address, why != NULL ? why : "no answer");
		refusal = unknown;
		refusal.text = arena_printf(mail->arena,
		    "<%s>: %s cannot be checked now", address, what);
	} else if (user == NULL)
		refusal.text = arena_printf(mail->arena,
		    "<%s>: %s rejected: not logged in", address, what);
	else
		refusal.text = arena_printf(mail->arena,
		    "<%s>: %s rejected: not owned by user %s", address, what,
		    user);
	return refusal;
}

/* The null sender is nobody's (RFC 5321, 4.5.5). */
bool
smtp_sender_refused(struct smtp_session *s)
{
	const struct table *owners = s->listener->options->sender_login;
	struct mail *mail = s->transaction->mail;
	const char *sender = mail->envelope.sender, *why = NULL;
	struct smtp_refusal refusal;
	enum sender_login result;

	if (owners == NULL || sender[0] == '\0')
		return false;
	result = sender_login_check(owners, mail->arena, sender,
	    s->peer.user, &why);
	if (result == SENDER_LOGIN_OK)
		return false;
	refusal = refusal_for(s, mail, result, not_owned, "Sender address",
	    sender, why);
	smtp_refuse(s, "MAIL", NULL, &refusal);
	smtp_transaction_end(s, refusal.code >= 500 ? "rejected" :
	    "deferred");
	return true;
}

void
smtp_check_submitter(struct smtp_session *s)
{
	const struct table *owners = s->listener->options->sender_login;
	struct mail *mail = s->transaction->mail;
	const char *xtext = mail->envelope.submitter, *why;
	char *mailbox;
	size_t len;

	if (owners == NULL || xtext == NULL)
		return;
	mailbox = arena_strdup(mail->arena, xtext);
	len = xtext_decode(xtext, strlen(xtext), mailbox);
	mailbox[len] = '\0';
	if (sender_login_check(owners, mail->arena, mailbox, s->peer.user,
	    &why) != SENDER_LOGIN_OK)
		mail->envelope.submitter = NULL;
}

/*
 * Only of users: what comes in from elsewhere may well have an author of ours,
 * by way of a mailing list.
 */
void
smtp_check_author(struct smtp_session *s)
{
	const struct table *owners = s->listener->options->sender_login;
	struct smtp_transaction *t = s->transaction;
	const char *address, *why = NULL;
	enum sender_login result;

	if (owners == NULL || s->peer.user == NULL)
		return;
	result = sender_login_check_from(owners, t->mail->arena,
	    &t->mail->headers, s->peer.user, &address, &why);
	if (result == SENDER_LOGIN_OK)
		return;
	if (address != NULL) {
		t->refusal = refusal_for(s, t->mail, result, author_not_owned,
		    "From address", address, why);
		return;
	}
	t->refusal = author_not_owned;
	t->refusal.text = arena_printf(t->mail->arena,
	    "From field rejected: %s", why);
}
