/*
 * millgatectl milter probe: the negotiation in words, a message as a test, how
 * long each step took, and what an MTA may expect of the milter beside.
 */
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "base/clock.h"
#include "base/task.h"
#include "filters/milter_macros.h"
#include "filters/milter_print.h"
#include "gateway/milter_command.h"
#include "gateway/milter_talk.h"

#define SLOW_US		40000		/* Nagle's algorithm: 43 ms */
#define SHORT_MS	2000		/* for what may never be answered */
#define STEPS_MAX	16

/* A session in small; the client's address is of RFC 5737. */
static const char body[] = "This is a test of the milter, not mail.\r\n";

static const struct step {
	char code;
	const char *payload;
	size_t len;
} steps[] = {
#define STEP(code, payload) { code, payload, sizeof(payload) - 1 }
	STEP(MILTER_CONNECT, "[192.0.2.1]\0" "4\xc3\x50" "192.0.2.1\0"),
	STEP(MILTER_HELO, "client.example.org\0"),
	STEP(MILTER_MAIL, "<probe@example.org>\0"),
	STEP(MILTER_RCPT, "<postmaster@example.net>\0"),
	STEP(MILTER_DATA, ""),
	STEP(MILTER_HEADER, "From\0 probe@example.org\0"),
	STEP(MILTER_HEADER, "To\0 postmaster@example.net\0"),
	STEP(MILTER_HEADER, "Subject\0 test of the milter\0"),
	STEP(MILTER_HEADER, "Date\0 Tue, 24 Nov 2026 03:00:00 +0000\0"),
	STEP(MILTER_HEADER, "Message-ID\0 <probe@example.org>\0"),
	STEP(MILTER_EOH, ""),
	STEP(MILTER_BODY, body),
	STEP(MILTER_EOB, ""),
};
#define STEP_COUNT (sizeof(steps) / sizeof(steps[0]))
#define FIRST_OF_MESSAGE 2

static const struct {
	char code;
	const char *macros;
	size_t len;
} macros[] = {
#define MACROS(code, macros) { code, macros, sizeof(macros) - 1 }
	MACROS(MILTER_CONNECT, "Cj\0mx.example.net\0{daemon_name}\0probe\0"
	    "{client_addr}\0" "192.0.2.1\0{client_name}\0unknown\0"),
	MACROS(MILTER_MAIL, "Mi\0PROBE1\0{mail_addr}\0probe@example.org\0"),
	MACROS(MILTER_RCPT, "Ri\0PROBE1\0{rcpt_addr}\0"
	    "postmaster@example.net\0"),
};

struct probe {
	struct milter_talk *talk;
	struct buf replies;		/* of the session, but "continue" */
	int64_t took_us[STEP_COUNT];
	int last;			/* the code that ended the session */
	size_t done;			/* steps */
	unsigned warnings;
};

static void
warn(struct probe *p, const char *text)
{
	p->warnings++;
	printf("warning      %s\n", text);
}

/* Macros and command; a value keeps its space only where that was agreed. */
static void
put_step(const struct milter_talk *talk, const struct step *step,
    struct buf *out)
{
	const char *payload = step->payload, *value;
	size_t begin;

	for (size_t i = 0; i < sizeof(macros) / sizeof(macros[0]); i++)
		if (macros[i].code == step->code)
			milter_put(out, MILTER_MACRO, macros[i].macros,
			    macros[i].len);
	if (!milter_talk_wants(talk, step->code))
		return;
	begin = milter_begin(out, step->code);
	value = step->code == MILTER_HEADER ?
	    payload + strlen(payload) + 1 : NULL;
	if (value != NULL && (talk->c.answer.protocol &
	    MILTER_LEADING_SPACE) == 0) {
		buf_append(out, payload, (size_t)(value - payload));
		value++;
		buf_append(out, value, step->len -
		    (size_t)(value - payload));
	} else {
		buf_append(out, payload, step->len);
	}
	milter_end(out, begin);
}

static int
open_talk(struct milter_talk *talk)
{
	static const char offer[] = "\0\0\0\6\0\0\1\xff\0\x1f\xff\xff";

	return milter_talk_open(talk, offer, sizeof(offer) - 1);
}

/* Step by step; stops at what is not "continue".  -1: it failed. */
static int
play(struct probe *p)
{
	struct milter_talk *talk = p->talk;
	struct buf out = BUF_INIT;
	int rc = 0;

	p->last = MILTER_CONTINUE;
	for (p->done = 0; p->done < STEP_COUNT && rc != -1 &&
	    (p->last == MILTER_CONTINUE || p->last == MILTER_SKIP);
	    p->done++) {
		const struct step *step = &steps[p->done];
		int64_t begin = clock_us();

		buf_reset(&out);
		put_step(talk, step, &out);
		rc = milter_talk_send(talk, out.data, out.len);
		if (rc == 0 && milter_talk_answers(talk, step->code)) {
			rc = milter_talk_reply(talk, &p->replies);
			p->last = rc;
		}
		p->took_us[p->done] = clock_us() - begin;
	}
	buf_release(&out);
	return rc == -1 ? -1 : 0;
}

/* --- what more it can do --- */

/* The message up to its body in one write: as many replies must come. */
static const char *
pipelining(struct probe *p)
{
	struct milter_talk talk = *p->talk;
	struct buf out = BUF_INIT, replies = BUF_INIT;
	const char *result = "yes";
	unsigned owed = 0;

	talk.timeout_ms = SHORT_MS;
	if (open_talk(&talk) == -1)
		return "cannot tell: no second connection";
	for (size_t i = 0; i < STEP_COUNT - 1; i++) {
		put_step(&talk, &steps[i], &out);
		owed += milter_talk_answers(&talk, steps[i].code);
	}
	if (milter_talk_send(&talk, out.data, out.len) == -1)
		result = "no";
	for (; owed > 0 && strcmp(result, "yes") == 0; owed--)
		if (milter_talk_reply(&talk, &replies) != MILTER_CONTINUE)
			result = "no";
	buf_reset(&out);
	put_step(&talk, &steps[STEP_COUNT - 1], &out);
	if (strcmp(result, "yes") == 0 &&
	    (milter_talk_send(&talk, out.data, out.len) == -1 ||
	    milter_talk_reply(&talk, &replies) == -1))
		result = "no";
	milter_talk_close(&talk);
	buf_release(&out);
	buf_release(&replies);
	return result;
}

/* libmilter takes QUIT_NC for nothing, and so the CONNECT behind it. */
static const char *
reuse(struct probe *p)
{
	struct milter_talk talk = *p->talk;
	struct buf out = BUF_INIT, replies = BUF_INIT;
	const char *result = "yes";
	int first = 0, last = 0;

	if (!milter_talk_answers(p->talk, MILTER_CONNECT))
		return "cannot tell: it doesn't answer connect";
	talk.timeout_ms = SHORT_MS;
	if (open_talk(&talk) == -1)
		return "cannot tell: no second connection";
	for (int round = 0; round < 2; round++) {
		buf_reset(&out);
		if (round == 1)
			milter_put(&out, MILTER_QUIT_NC, NULL, 0);
		put_step(&talk, &steps[0], &out);
		first = last;
		if (milter_talk_send(&talk, out.data, out.len) == -1 ||
		    (last = milter_talk_reply(&talk, &replies)) == -1)
			break;
	}
	if (last != first)
		result = "no";
	milter_talk_close(&talk);
	buf_release(&out);
	buf_release(&replies);
	return result;
}

/* --- printing --- */

static void
print_ms(const char *name, int64_t us)
{
	printf("%-12s %" PRId64 ".%02" PRId64 " ms\n", name, us / 1000,
	    us % 1000 / 10);
}

static void
print_negotiation(const struct milter_negotiation *n)
{
	struct buf text = BUF_INIT;

	printf("version      %u\n", n->version);
	milter_print_actions(&text, n->actions);
	printf("actions      %s\n", text.data);
	buf_reset(&text);
	milter_print_protocol(&text, n->protocol);
	printf("protocol     %s\n", text.data);
	for (size_t i = 0; i < MILTER_STAGES; i++)
		if (n->macros[i] != NULL)
			printf("macros       %s: %s\n", milter_stage_name(i),
			    n->macros[i]);
	buf_release(&text);
}

static void
print_replies(const struct probe *p)
{
	struct milter_packet packet;
	char why[MILTER_WHY_SIZE];
	struct buf text = BUF_INIT;
	size_t at = 0;

	while (at < p->replies.len && milter_packet_parse(p->replies.data + at,
	    p->replies.len - at, SIZE_MAX / 2, &packet, why) == 1) {
		at += packet.size;
		if (packet.code == MILTER_CONTINUE && at < p->replies.len)
			continue;
		buf_reset(&text);
		milter_print_packet(&text, true, &packet, packet.len);
		printf("answer       %s\n", text.data);
	}
	buf_release(&text);
}

/* One line: each kind of step with its longest time. */
static void
print_steps(const struct probe *p)
{
	int64_t total = 0, longest = 0;

	printf("session     ");
	for (size_t i = 0; i < p->done; i++) {
		total += p->took_us[i];
		if (p->took_us[i] > longest)
			longest = p->took_us[i];
		if (i + 1 < p->done && steps[i + 1].code == steps[i].code)
			continue;
		printf(" %s %" PRId64 ".%02" PRId64,
		    milter_kind(steps[i].code)->name, longest / 1000,
		    longest % 1000 / 10);
		longest = 0;
	}
	printf(" ms\n");
	print_ms("in all", total);
}

static void
warn_of_negotiation(struct probe *p, const struct milter_negotiation *n)
{
	if (n->version < MILTER_VERSION)
		warn(p, "an old version: it knows no macro lists, and skips "
		    "and stays silent nowhere");
	if ((n->actions & ~(uint32_t)MILTER_ACTIONS_ALL) != 0 ||
	    (n->protocol & ~(uint32_t)MILTER_PROTOCOL_ALL) != 0)
		warn(p, "it answers with bits that were not offered; Sendmail "
		    "refuses such a filter");
	if (n->macros_cut)
		warn(p, "its last list of macros has no end");
	for (size_t i = 0; i < MILTER_STAGES; i++) {
		const char *at = n->macros[i] != NULL ? n->macros[i] : "";
		char name[64], text[128];
		size_t len;

		for (; *at != '\0'; at += len) {
			at += strspn(at, " ,\t{}");
			len = strcspn(at, " ,\t{}");
			snprintf(name, sizeof(name), "%.*s", (int)len, at);
			if (len == 0 || milter_macro_exists(name))
				continue;
			snprintf(text, sizeof(text), "it asks for the macro "
			    "%s, which Millgate doesn't know", name);
			warn(p, text);
		}
	}
}

/* The right that an edit needs; 0: none. */
static uint32_t
right_of(char code)
{
	switch (code) {
	case MILTER_ADDHEADER:
		return MILTER_MAY_ADDHDRS;
	case MILTER_INSHEADER:
		return MILTER_MAY_ADDHDRS | MILTER_MAY_CHGHDRS;
	case MILTER_CHGHEADER:
		return MILTER_MAY_CHGHDRS;
	case MILTER_REPLBODY:
		return MILTER_MAY_CHGBODY;
	case MILTER_ADDRCPT:
		return MILTER_MAY_ADDRCPT;
	case MILTER_ADDRCPT_PAR:
		return MILTER_MAY_ADDRCPT_PAR;
	case MILTER_DELRCPT:
		return MILTER_MAY_DELRCPT;
	case MILTER_CHGFROM:
		return MILTER_MAY_CHGFROM;
	case MILTER_QUARANTINE:
		return MILTER_MAY_QUARANTINE;
	default:
		return 0;
	}
}

static void
warn_of_session(struct probe *p, const struct milter_negotiation *n)
{
	struct milter_packet packet;
	char why[MILTER_WHY_SIZE];
	size_t at = 0;
	bool lied = false, slow = false;

	for (; at < p->replies.len && milter_packet_parse(p->replies.data + at,
	    p->replies.len - at, SIZE_MAX / 2, &packet, why) == 1;
	    at += packet.size)
		lied |= right_of(packet.code) != 0 &&
		    (n->actions & right_of(packet.code)) == 0;
	if (lied)
		warn(p, "it makes changes that it did not announce; Sendmail "
		    "and Postfix refuse some of them");
	for (size_t i = 0; i + 1 < p->done; i++)
		slow |= p->took_us[i] >= SLOW_US && steps[i].code !=
		    MILTER_BODY;
	if (slow)
		warn(p, "a step before the end took 40 ms or more: look for "
		    "delayed acknowledgements (TCP) and slow look-ups");
	if (strchr("cas", p->last) == NULL)
		warn(p, "it did not let the test pass; its answer is above");
}

static int
failed(struct probe *p, const char *endpoint)
{
	fflush(stdout);
	return milter_complain(p->talk->refused ? EX_UNAVAILABLE : EX_PROTOCOL,
	    endpoint, p->talk->error.text);
}

/* With the first conversation over. */
static void
look_further(struct probe *p, const struct milter_negotiation *n)
{
	const char *result = "not tried: it decided early";

	if (p->done == STEP_COUNT)
		result = pipelining(p);
	printf("pipelining   %s\n", result);
	if (strcmp(result, "no") == 0)
		warn(p, "it must be asked step by step, which Millgate does "
		    "not do while it sends a message");
	printf("reuse        %s\n", reuse(p));
	warn_of_negotiation(p, n);
	warn_of_session(p, n);
}

int
milter_probe(struct milter_talk *talk, const char *endpoint)
{
	struct probe p = { .talk = talk };
	struct milter_negotiation n;
	int status = EX_OK;

	if (open_talk(talk) == -1)
		return failed(&p, endpoint);
	n = talk->c.answer;
	print_negotiation(&n);
	print_ms("connecting", talk->connect_us);
	print_ms("negotiating", talk->negotiate_us);
	if (n.version < 2 || n.version > MILTER_VERSION) {
		snprintf(talk->error.text, sizeof(talk->error.text),
		    "speaks version %u, %d was offered", n.version,
		    MILTER_VERSION);
		status = failed(&p, endpoint);
	} else if (play(&p) == -1) {
		status = failed(&p, endpoint);
	} else {
		print_steps(&p);
		print_replies(&p);
		look_further(&p, &n);
	}
	milter_talk_close(talk);
	buf_release(&p.replies);
	return status;
}
