/* Reason codes: the list. */
#include "policy/reason.h"

#include <stdlib.h>
#include <string.h>

#include "base/conf.h"

#define REASON_COUNT (sizeof(reasons) / sizeof(reasons[0]) - 1)

const struct reason reasons[] = {
	{ "auth-failed", "The name or the password was wrong.",
	    "Dovecot's log has more. Many of them from one client are a "
	    "search for passwords." },
	{ "auth-needs-tls", "AUTH was tried without TLS.",
	    "Set the client to STARTTLS or to implicit TLS." },
	{ "auth-required", "The listener takes mail from users only.",
	    "Log in; or send to the port of the domain's MX." },
	{ "auth-unavailable", "Dovecot's auth service did not answer.",
	    "Look whether it runs and whether the socket that auth names is "
	    "there." },
	{ "bad-domain", "The recipient's domain is no name of a domain.",
	    "Correct the address." },
	{ "banned", "The client misbehaved so often that it is shut out for a "
	    "time.",
	    "See what it did in the log; the ban ends by itself, or by "
	    "millgatectl." },
	{ "bare-newline", "The message holds a CR or LF that stands alone, "
	    "which serves to smuggle messages.",
	    "Have the sending program fixed; bare_newline of the listener can "
	    "let it pass." },
	{ "body-unreadable", "The message could not be read again from the "
	    "temporary file.",
	    "Look for errors of the disk; the client tries again." },
	{ "concurrency-limit", "As many messages or sessions as a limit "
	    "allows are under way.",
	    "Nothing: the client tries again. Raise the limit if it is too "
	    "low." },
	{ "connection-limit", "The client, or all together, have too many "
	    "connections.",
	    "Raise the limits of connections if the client is a good one." },
	{ "dmarc-from", "The From field names no domain, or too many, so that "
	    "no policy can be applied.",
	    "Correct the field; no_author in dmarc can let it pass." },
	{ "dmarc-reject", "Neither SPF nor DKIM vouches for the author's "
	    "domain, whose DMARC policy says reject.",
	    "The domain's owner has to sign or to list the sender. For a mailing "
	    "list or forwarder see override and trusted_sealers." },
	{ "dmarc-temperror", "DNS failed, so that the DMARC policy cannot be "
	    "checked.",
	    "The client tries again; look at the resolver if there are many." },
	{ "dnsbl", "The client is on DNS blocklists.",
	    "The text names the list, whose site tells how to be removed. Add "
	    "a good client to the exceptions." },
	{ "early-talker", "The client spoke before the greeting, as only "
	    "robots do.",
	    "greet_delay and early_talker of the listener set how strict that "
	    "is." },
	{ "filter-disconnect", "A filter asked to end the session.",
	    "millgatectl explain names the filter." },
	{ "filter-reject", "A filter refused without a reason of its own.",
	    "millgatectl explain names the filter." },
	{ "filter-tempfail", "A filter deferred without a reason of its own.",
	    "millgatectl explain names the filter." },
	{ "from-login", "A user's message has an author that the user does not "
	    "own.",
	    "Add the address to sender_login, or correct the From field." },
	{ "greylist", "A stranger has to come back later.",
	    "Nothing: mail servers do so by themselves. exempt in greylist "
	    "spares networks the delay." },
	{ "guard-hold", "A user's account sent so unusually that its mail is "
	    "held.",
	    "Look at what is held, and release it or change the password." },
	{ "guard-slow", "A user's account sends more than it usually does.",
	    "Nothing, if that is meant: it gets through slowly." },
	{ "guard-suspended", "A user's account may not send, for it looks "
	    "stolen.",
	    "Change its password, then lift the suspension by millgatectl." },
	{ "header-too-large", "The header is larger than the listener takes.",
	    "max_header of the listener is the limit." },
	{ "line-too-long", "A command line had no end.",
	    "The client is broken or an attacker; line_limit of the listener "
	    "is the limit of a line." },
	{ "list-denied", "Sender, recipient or client is on a list of those "
	    "that are refused.",
	    "millgatectl explain names the list; take the entry out of it." },
	{ "mail-loop", "The message has passed too many servers, or this one "
	    "before.",
	    "Look at its Received fields: two servers pass it to each other." },
	{ "milter", "A milter refused.",
	    "The text is its own; its log has more." },
	{ "milter-failed", "A milter did not answer, or not in its protocol.",
	    "Look whether it runs; its section's default_action says what "
	    "becomes of mail meanwhile." },
	{ "milter-header-too-long", "The header is longer than the milter's "
	    "protocol can carry.",
	    "max_header of the listener can refuse such mail before." },
	{ "next-hop", "The next server refused or deferred, and the text is "
	    "its own.",
	    "Its log has more." },
	{ "no-recipients", "Filters left no recipient.",
	    "millgatectl explain names the filter." },
	{ "no-room", "The disk is almost full.",
	    "Make room where the spool is." },
	{ "not-smtp", "The client speaks another protocol, such as HTTP.",
	    "Nothing: it is a probe, or a web page that was made to send "
	    "mail." },
	{ "nul-byte", "The message holds a NUL byte.",
	    "Have the sending program fixed." },
	{ "queue-error", "The message could not be written to the queue.",
	    "The log says why; the client tries again." },
	{ "rate-limit", "More mail came than a rate limit allows.",
	    "Nothing: what is above the rate comes later. Raise the limit if "
	    "it is too low." },
	{ "recipient-check", "Whether the recipient exists cannot be told "
	    "now.",
	    "The log says which table failed, and why." },
	{ "recipient-unknown", "The next server says that the recipient does "
	    "not exist.",
	    "Create the mailbox or correct the address." },
	{ "recipient-unverified", "The next server could not be asked whether "
	    "the recipient exists.",
	    "Look at the connection to that server." },
	{ "relay-denied", "The recipient is not ours, and the client may not "
	    "send elsewhere.",
	    "relay_domains and trusted_networks say what is ours, and who "
	    "may." },
	{ "reputation", "The client or its domain is known for bad mail.",
	    "millgatectl rep why tells what is known; it can be forgotten or "
	    "pinned there." },
	{ "rule", "A rule of the configuration refused.",
	    "The log and millgatectl explain name the rule." },
	{ "rules-class", "A recipient before this one is judged by other "
	    "thresholds, so that this one needs a message of its own.",
	    "Nothing: the client sends it apart. See mixed in scoring." },
	{ "score", "The score that the rules gave is above the threshold.",
	    "The log and millgatectl explain list the rules with their "
	    "scores." },
	{ "sender-check", "Who owns the sender's address cannot be told now.",
	    "The log says which table failed, and why." },
	{ "sender-login", "The sender's address is not the user's own.",
	    "Add the address to sender_login, or correct it." },
	{ "spf-fail", "The sender's domain does not let this client send.",
	    "The domain's owner has to list the client in its SPF record." },
	{ "spf-permerror", "The SPF record of the sender's domain is wrong.",
	    "The domain's owner has to correct it; permerror in spf can let "
	    "it pass." },
	{ "spf-temperror", "DNS failed, so that SPF cannot be checked.",
	    "The client tries again; look at the resolver if there are many." },
	{ "tls-required", "The listener takes mail only by TLS.",
	    "Have the client use STARTTLS." },
	{ "too-large", "The message is larger than is taken.",
	    "message_size_limit is the limit." },
	{ "too-many-chunks", "BDAT came in too many tiny chunks.",
	    "Have the sending program fixed." },
	{ "too-many-commands", "The session has too many commands that send "
	    "nothing.",
	    "max_commands of the listener is the limit." },
	{ "too-many-errors", "The client made too many errors.",
	    "The log has the refusals before it; max_errors of the listener is "
	    "the limit." },
	{ "too-many-messages", "The session has brought as many messages as "
	    "one may.",
	    "Nothing: the client connects anew. max_messages of the listener "
	    "is the limit." },
	{ "too-many-recipients", "The message has as many recipients as one "
	    "may.",
	    "Nothing: the client sends the others apart. max_recipients of the "
	    "listener is the limit." },
	{ "user-unknown", "The recipient's address does not exist.",
	    "Correct the address, or add it to the recipients of the "
	    "listener." },
	{ NULL, NULL, NULL }
};

static int
compare(const void *code, const void *reason)
{
	return strcmp(code, ((const struct reason *)reason)->code);
}

const struct reason *
reason_find(const char *code)
{
	return bsearch(code, reasons, REASON_COUNT, sizeof(reasons[0]),
	    compare);
}

void
reason_print_mdoc(FILE *out)
{
	fputs(".Bl -tag -width Ds\n", out);
	for (const struct reason *r = reasons; r->code != NULL; r++) {
		fprintf(out, ".It Li %s\n", r->code);
		conf_print_mdoc_text(out, r->meaning);
		conf_print_mdoc_text(out, r->advice);
	}
	fputs(".El\n", out);
}
