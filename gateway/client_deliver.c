/* One transaction of the SMTP and LMTP client: envelope, content, replies. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/io.h"
#include "base/log.h"
#include "gateway/client.h"
#include "gateway/client_private.h"
#include "policy/smtp_reply.h"

/*
 * Commands sent at once.  RFC 2920, 3.1: the replies not yet read must fit the
 * peer's send window, else both sides wait for each other.
 */
#define PIPELINE_MAX 100

static const char unreadable[] = "message content cannot be read";

struct transaction {
	struct client *client;
	const struct envelope *envelope;
	struct client_content content;
	struct delivery *results;
	size_t count;
	struct arena *arena;
	bool *accepted;			/* per recipient: RCPT was answered 2xx */
	size_t accepted_count;
	bool mail_refused;
	bool utf8;			/* say SMTPUTF8 */
};

/* enhanced NULL: nothing is known of this recipient yet. */
static bool
is_open(const struct delivery *delivery)
{
	return delivery->enhanced == NULL;
}

static void
finish_open(struct transaction *t, enum delivery_status status,
    const char *enhanced, const char *text, const char *command)
{
	for (size_t i = 0; i < t->count; i++) {
		if (!is_open(&t->results[i]))
			continue;
		delivery_set(&t->results[i], t->arena, status, enhanced, text);
		t->results[i].command = command;
	}
}

/* The connection failed: what has no answer yet is to be tried again. */
static int
lost(struct transaction *t, const char *command)
{
	finish_open(t, DELIVERY_TEMPORARY, "4.4.2", arena_printf(t->arena,
	    "%s with %s while sending %s", t->client->why, t->client->peer,
	    command), command);
	return -1;
}

/* The peer said what cannot be: trust nothing that comes after. */
static int
confused(struct transaction *t, const char *why, const char *command)
{
	t->client->why = why;
	t->client->broken = true;
	finish_open(t, DELIVERY_TEMPORARY, "4.5.0", arena_printf(t->arena,
	    "protocol error: %s from %s (in reply to %s)", why,
	    t->client->peer, command), command);
	return -1;
}

static void
set_reply(struct transaction *t, struct delivery *delivery,
    const struct reply *reply, const char *command)
{
	delivery->code = reply->code;
	delivery->text = arena_strdup(t->arena, reply->text);
	delivery->command = command;
	delivery->enhanced = arena_strdup(t->arena, reply->enhanced);
	if (reply->code / 100 == 2)
		delivery->status = DELIVERY_OK;
	else if (reply->code / 100 == 5)
		delivery->status = DELIVERY_PERMANENT;
	else
		delivery->status = DELIVERY_TEMPORARY;
}

static void
set_reply_open(struct transaction *t, const struct reply *reply,
    const char *command)
{
	for (size_t i = 0; i < t->count; i++)
		if (is_open(&t->results[i]))
			set_reply(t, &t->results[i], reply, command);
}

/* --- before the first command --- */

/* No control character, no bracket that would end the path early. */
static bool
address_is_safe(const char *address)
{
	bool quoted = false;

	for (const char *p = address; *p != '\0'; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return false;
		if (quoted && *p == '\\' && p[1] != '\0')
			p++;
		else if (*p == '"')
			quoted = !quoted;
		else if (!quoted && (*p == '<' || *p == '>' || *p == ' '))
			return false;
	}
	return !quoted;
}

/* xtext or a value as the RFCs have it: printable ASCII without blanks. */
static bool
value_is_safe(const char *value)
{
	if (value == NULL || *value == '\0' || strlen(value) > 500)
		return false;
	for (const char *p = value; *p != '\0'; p++)
		if (*p <= ' ' || *p >= 0x7f)
			return false;
	return true;
}

/* RFC 6531, 3.3: internationalized mail needs SMTPUTF8 at the next hop. */
static bool
needs_utf8(const struct transaction *t)
{
	if (mime_has_eight_bit(t->envelope->sender, strlen(t->envelope->sender)))
		return true;
	for (size_t i = 0; i < t->count; i++) {
		const char *address = t->results[i].recipient->address;

		if (mime_has_eight_bit(address, strlen(address)))
			return true;
	}
	/* One that was only declared so, but is plain, passes without. */
	return t->envelope->smtputf8 &&
	    client_header_is_utf8(&t->content, t->arena);
}

static bool
unfit(struct transaction *t, enum delivery_status status,
    const char *enhanced, const char *text)
{
	finish_open(t, status, enhanced, text, "");
	return false;
}

/* Converts the content if the next hop can't take it as it is. */
static bool
fit(struct transaction *t)
{
	const struct client_offers *offers = &t->client->offers;
	const char *why = NULL;
	enum convert_result result = client_convert(t->client, &t->content,
	    t->arena, &why);
	struct log log;

	if (result == CONVERT_UNREADABLE)
		return unfit(t, DELIVERY_TEMPORARY, "4.3.0", unreadable);
	/* RFC 6152, 3: a message that cannot be converted is returned. */
	if (result == CONVERT_IMPOSSIBLE && t->content.eight_bit &&
	    !offers->eight_bit)
		return unfit(t, DELIVERY_PERMANENT, "5.6.3",
		    arena_printf(t->arena, "8BITMIME is required, but was not "
		    "offered by %s, and the message cannot be converted: %s",
		    t->client->peer, why));
	if (result == CONVERT_IMPOSSIBLE) {
		snprintf(log.id, sizeof(log.id), "%s", t->envelope->id);
		log_info(&log, "sent with lines that are too long: %s", why);
	}
	if (offers->size_limit > 0 &&
	    (int64_t)t->content.size > offers->size_limit)
		return unfit(t, DELIVERY_PERMANENT, "5.3.4",
		    arena_printf(t->arena, "message size %zu exceeds size limit "
		    "%lld of server %s", t->content.size,
		    (long long)offers->size_limit, t->client->peer));
	return true;
}

/* What can be said without asking the next hop.  False: nothing is left. */
static bool
preflight(struct transaction *t)
{
	const struct client_offers *offers = &t->client->offers;
	size_t left = 0;

	for (size_t i = 0; i < t->count; i++) {
		struct delivery *delivery = &t->results[i];

		delivery->enhanced = NULL;
		delivery->dsn_relayed = offers->dsn;
		delivery->tls_failed = false;
		if (!address_is_safe(delivery->recipient->address))
			delivery_set(delivery, t->arena, DELIVERY_PERMANENT,
			    "5.1.3", "bad recipient address syntax");
		else
			left++;
	}
	if (left == 0)
		return false;
	if (!address_is_safe(t->envelope->sender))
		return unfit(t, DELIVERY_PERMANENT, "5.1.7",
		    "bad sender address syntax");
	t->utf8 = needs_utf8(t);
	if (t->utf8 && !offers->smtputf8)
		return unfit(t, DELIVERY_PERMANENT, "5.6.7",
		    arena_printf(t->arena, "SMTPUTF8 is required, but was not "
		    "offered by %s", t->client->peer));
	return fit(t);
}

/* --- commands --- */

static void
put_mail(struct transaction *t)
{
	const struct client_offers *offers = &t->client->offers;
	const struct envelope *envelope = t->envelope;
	struct io *io = t->client->io;

	io_printf(io, "MAIL FROM:<%s>", envelope->sender);
	if (offers->size)
		io_printf(io, " SIZE=%zu", t->content.size);
	if (offers->eight_bit && (envelope->eight_bit || t->utf8 ||
	    t->content.eight_bit))
		io_puts(io, " BODY=8BITMIME");
	if (t->utf8)
		io_puts(io, " SMTPUTF8");
	if (offers->dsn && value_is_safe(envelope->ret))
		io_printf(io, " RET=%s", envelope->ret);
	if (offers->dsn && value_is_safe(envelope->envid))
		io_printf(io, " ENVID=%s", envelope->envid);
	/* RFC 4954, 5: AUTH=<> would be owed if we authenticated ourselves. */
	if (offers->auth && value_is_safe(envelope->submitter))
		io_printf(io, " AUTH=%s", envelope->submitter);
	io_puts(io, "\r\n");
}

static void
put_notify(struct io *io, unsigned notify)
{
	static const struct { unsigned bit; const char *name; } names[] = {
		{ NOTIFY_SUCCESS, "SUCCESS" }, { NOTIFY_FAILURE, "FAILURE" },
		{ NOTIFY_DELAY, "DELAY" },
	};
	const char *separator = " NOTIFY=";

	if (notify & NOTIFY_NEVER) {
		io_puts(io, " NOTIFY=NEVER");
		return;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!(notify & names[i].bit))
			continue;
		io_printf(io, "%s%s", separator, names[i].name);
		separator = ",";
	}
}

static void
put_rcpt(struct transaction *t, const struct recipient *recipient)
{
	struct io *io = t->client->io;

	io_printf(io, "RCPT TO:<%s>", recipient->address);
	if (t->client->offers.dsn) {
		put_notify(io, recipient->notify);
		if (value_is_safe(recipient->orcpt))
			io_printf(io, " ORCPT=%s", recipient->orcpt);
	}
	io_puts(io, "\r\n");
}

/* RSET of what an earlier transaction left open. */
static int
reset_reply(struct transaction *t)
{
	struct reply reply;

	if (client_reply(t->client, t->client->command_timeout_ms, &reply,
	    NULL) == -1)
		return lost(t, "RSET");
	if (reply.code / 100 != 2)
		return confused(t, "RSET refused", "RSET");
	t->client->dirty = false;
	return 0;
}

static int
mail_reply(struct transaction *t)
{
	struct reply reply;

	if (client_reply(t->client, t->client->command_timeout_ms, &reply,
	    NULL) == -1)
		return lost(t, "MAIL FROM");
	if (reply.code / 100 == 2) {
		t->client->dirty = true;
		return 0;
	}
	if (reply.code / 100 == 3)
		return confused(t, "unexpected reply", "MAIL FROM");
	set_reply_open(t, &reply, "MAIL FROM");
	t->mail_refused = true;
	return t->client->broken ? -1 : 0;
}

static int
rcpt_reply(struct transaction *t, size_t i)
{
	struct delivery *delivery = &t->results[i];
	struct reply reply;

	if (client_reply(t->client, t->client->command_timeout_ms, &reply,
	    NULL) == -1)
		return lost(t, "RCPT TO");
	if (reply.code / 100 == 3)
		return confused(t, "unexpected reply", "RCPT TO");
	if (t->mail_refused)
		return 0;
	if (reply.code / 100 == 2) {
		t->accepted[i] = true;
		t->accepted_count++;
		return 0;
	}
	set_reply(t, delivery, &reply, "RCPT TO");
	/* RFC 5321, 4.5.3.1.10: "too many recipients" was once 552. */
	if (reply.code == 552 && (!reply.enhanced_given ||
	    strcmp(reply.enhanced, "5.5.3") == 0)) {
		delivery->status = DELIVERY_TEMPORARY;
		delivery->enhanced = "4.5.3";
	}
	if (t->client->broken)
		return lost(t, "RCPT TO");
	return 0;
}

/* 1: the peer waits for content; 0: it doesn't; -1: the connection is lost. */
static int
data_reply(struct transaction *t)
{
	struct reply reply;
	size_t early;

	if (client_reply(t->client, t->client->command_timeout_ms, &reply,
	    NULL) == -1)
		return lost(t, "DATA");
	if (reply.code / 100 == 2)
		return confused(t, "unexpected reply", "DATA");
	if (reply.code != 354) {
		if (reply.code / 100 == 3)
			return confused(t, "unexpected reply", "DATA");
		set_reply_open(t, &reply, "DATA");
		return t->client->broken ? -1 : 0;
	}
	/* An answer that stands there before the question is none to it. */
	io_input(t->client->io, &early);
	if (early > 0)
		return confused(t, "reply before the end of data", "DATA");
	return 1;
}

/* MAIL and all RCPT in few writes, DATA with the last. */
static int
envelope_pipelined(struct transaction *t)
{
	struct io *io = t->client->io;
	bool reset = t->client->dirty, mail = true;
	size_t next = 0, from;

	if (reset)
		io_puts(io, "RSET\r\n");
	put_mail(t);
	while (next < t->count) {
		size_t sent = 0;

		for (from = next; next < t->count && sent < PIPELINE_MAX;
		    next++) {
			if (!is_open(&t->results[next]))
				continue;
			put_rcpt(t, t->results[next].recipient);
			sent++;
		}
		if (next == t->count)
			io_puts(io, "DATA\r\n");
		/* Which of them were sent is known by their results, later. */
		bool *asked = arena_alloc(t->arena, next - from);
		for (size_t i = from; i < next; i++)
			asked[i - from] = is_open(&t->results[i]);
		if (client_flush(t->client) == -1)
			return lost(t, "MAIL FROM");
		if (reset && reset_reply(t) == -1)
			return -1;
		reset = false;
		if (mail && mail_reply(t) == -1)
			return -1;
		mail = false;
		for (size_t i = from; i < next; i++)
			if (asked[i - from] && rcpt_reply(t, i) == -1)
				return -1;
		if (t->mail_refused && next < t->count)
			return 0;
	}
	return data_reply(t);
}

static int
envelope_stepwise(struct transaction *t)
{
	struct io *io = t->client->io;

	if (t->client->dirty) {
		io_puts(io, "RSET\r\n");
		if (client_flush(t->client) == -1)
			return lost(t, "RSET");
		if (reset_reply(t) == -1)
			return -1;
	}
	put_mail(t);
	if (client_flush(t->client) == -1)
		return lost(t, "MAIL FROM");
	if (mail_reply(t) == -1)
		return -1;
	if (t->mail_refused)
		return 0;
	for (size_t i = 0; i < t->count; i++) {
		if (!is_open(&t->results[i]))
			continue;
		put_rcpt(t, t->results[i].recipient);
		if (client_flush(t->client) == -1)
			return lost(t, "RCPT TO");
		if (rcpt_reply(t, i) == -1)
			return -1;
	}
	if (t->accepted_count == 0)
		return 0;
	io_puts(io, "DATA\r\n");
	if (client_flush(t->client) == -1)
		return lost(t, "DATA");
	return data_reply(t);
}

/* --- content --- */

/*
 * Sends the content.  If that fails the connection is cut without the final
 * dot, so that the next hop cannot take half a message for a whole one.
 */
static int
send_content(struct transaction *t)
{
	enum content_result result = client_content(t->client, &t->content,
	    t->arena);
	struct reply reply;

	if (result == CONTENT_SENT)
		return 0;
	t->client->broken = true;
	if (result == CONTENT_UNFIT)
		finish_open(t, DELIVERY_PERMANENT, "5.6.0",
		    "message content holds a bare CR or NUL", "");
	else if (result == CONTENT_UNREADABLE)
		finish_open(t, DELIVERY_TEMPORARY, "4.3.0", unreadable, "");
	else if (client_early_reply(t->client, &reply))
		set_reply_open(t, &reply, "message content");
	else
		lost(t, "message content");
	return -1;
}

/* SMTP: one reply for all. */
static int
final_reply(struct transaction *t, struct delivery *only)
{
	static const char command[] = "end of DATA";
	struct reply reply;

	if (client_reply(t->client, t->client->data_timeout_ms, &reply,
	    NULL) == -1)
		return lost(t, "end of data -- message may be sent more than "
		    "once");
	if (reply.code / 100 == 3)
		return confused(t, "unexpected reply", command);
	if (only != NULL)
		set_reply(t, only, &reply, command);
	else
		set_reply_open(t, &reply, command);
	return 0;
}

/* LMTP (RFC 2033, 4.2): a reply for each recipient that was accepted. */
static int
final_replies(struct transaction *t)
{
	if (!t->client->lmtp)
		return final_reply(t, NULL);
	for (size_t i = 0; i < t->count; i++) {
		if (!t->accepted[i])
			continue;
		if (final_reply(t, &t->results[i]) == -1)
			return -1;
	}
	return 0;
}

/* RFC 2920, 3.1: 354 though nobody is to get it: end it with a lone dot. */
static int
empty_content(struct transaction *t)
{
	struct reply reply;

	io_puts(t->client->io, ".\r\n");
	if (client_flush(t->client) == -1 || client_reply(t->client,
	    t->client->command_timeout_ms, &reply, NULL) == -1)
		return -1;
	return 0;
}

static void
transaction_run(struct transaction *t)
{
	int rc = t->client->offers.pipelining ? envelope_pipelined(t) :
	    envelope_stepwise(t);

	if (rc == -1)
		return;
	if (rc == 0) {
		finish_open(t, DELIVERY_TEMPORARY, "4.5.0",
		    "no recipient was accepted", "DATA");
		return;
	}
	if (t->accepted_count == 0) {
		empty_content(t);
		return;
	}
	if (send_content(t) == -1)
		return;
	if (final_replies(t) == 0)
		t->client->dirty = false;
}

bool
client_deliver(struct client *client, const struct envelope *envelope,
    const struct slice *content, size_t content_count, size_t size,
    struct delivery *results, size_t count, struct arena *arena)
{
	struct transaction t = {
		.client = client, .envelope = envelope,
		.content = { .slices = content, .count = content_count,
		    .size = size },
		.results = results, .count = count, .arena = arena,
	};
	size_t extra;

	client_start_clock(client);
	t.accepted = arena_alloc(arena, count * sizeof(*t.accepted));
	if (preflight(&t)) {
		transaction_run(&t);
		/* A reply too many would be taken for the next command's. */
		io_input(client->io, &extra);
		if (extra > 0)
			client->broken = true;
	}
	return !client->broken;
}

bool
client_was_stale(const struct delivery *results, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct delivery *result = &results[i];

		/* Refused by ourselves: the same on every connection. */
		if (result->status == DELIVERY_PERMANENT && result->code == 0)
			continue;
		if (result->status != DELIVERY_TEMPORARY ||
		    (result->code != 0 && result->code != 421) ||
		    (strcmp(result->command, "MAIL FROM") != 0 &&
		    strcmp(result->command, "RSET") != 0))
			return false;
	}
	return true;
}

void
client_limit(struct client *client, int64_t total_timeout_ms)
{
	client->total_timeout_ms = total_timeout_ms;
}
