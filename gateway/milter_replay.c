/*
 * millgatectl milter trace, replay: recorded conversations as text, and what a
 * milter answers to them now.  Each command is sent when the one before is
 * answered; replies are compared command by command.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>
#include <time.h>

#include "base/log.h"
#include "filters/milter_print.h"
#include "filters/milter_trace.h"
#include "gateway/milter_command.h"
#include "gateway/milter_talk.h"

/* A command, and what was replied to it. */
struct step {
	const struct milter_record *command;
	bool answered;			/* a reply was owed */
	bool complete;			/* and came whole */
	struct buf replies;
};

struct replay {
	struct milter_talk *talk;
	struct step *steps;
	size_t count, size, owed;	/* owed: the oldest without its reply */
	uint32_t protocol;		/* as it was recorded */
	struct buf offer;
	struct buf answer;		/* to the offer */
	bool differs;
};

static struct milter_packet
packet_of(const struct milter_record *r)
{
	return (struct milter_packet){ r->bytes[0], r->bytes + 1, r->len - 1,
	    0 };
}

/* --- as text --- */

static void
show_begin(const struct milter_record *r, size_t number)
{
	time_t seconds = (time_t)(r->time_us / 1000000);
	struct tm tm;
	char when[32] = "?";
	size_t name = strnlen(r->bytes, r->len);
	size_t rest = name < r->len ? r->len - name - 1 : 0;

	if (gmtime_r(&seconds, &tm) != NULL)
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	printf("%sconversation %zu at %s: %.*s, %.*s\n", number > 1 ? "\n" :
	    "", number, when, (int)name, r->bytes,
	    (int)strnlen(r->bytes + r->len - rest, rest),
	    r->bytes + r->len - rest);
}

void
milter_show(const struct milter_record *records, size_t count)
{
	struct buf text = BUF_INIT;
	uint64_t begin = 0;
	size_t number = 0;

	for (size_t i = 0; i < count; i++) {
		const struct milter_record *r = &records[i];
		struct milter_packet packet;

		if (i == 0 || r->conversation != r[-1].conversation)
			begin = r->time_us;
		if (r->kind == 'B')
			show_begin(r, ++number);
		if (r->kind != '<' && r->kind != '>')
			continue;
		packet = packet_of(r);
		buf_reset(&text);
		milter_print_packet(&text, r->kind == '<', &packet,
		    r->full - 1);
		printf("%10.3f ms %c %s\n",
		    (double)(int64_t)(r->time_us - begin) / 1000, r->kind,
		    text.data);
	}
	buf_release(&text);
}

/* --- the recording --- */

static void
add_command(struct replay *replay, const struct milter_record *r)
{
	const struct milter_kind *kind = milter_kind(r->bytes[0]);
	struct step *step;

	if (r->bytes[0] == MILTER_OPTNEG) {
		buf_append(&replay->offer, r->bytes + 1, r->len - 1);
		return;
	}
	if (replay->count == replay->size) {
		replay->size = replay->size * 2 + 64;
		replay->steps = realloc(replay->steps,
		    replay->size * sizeof(replay->steps[0]));
		if (replay->steps == NULL)
			fatal("out of memory (replay)");
	}
	step = &replay->steps[replay->count++];
	*step = (struct step){ .command = r };
	step->answered = kind != NULL && kind->answered &&
	    (replay->protocol & (kind->no | kind->silent)) == 0;
}

static void
add_reply(struct replay *replay, const struct milter_record *r)
{
	struct milter_negotiation n;
	struct step *step;
	const char *why;

	if (r->bytes[0] == MILTER_OPTNEG) {
		if (milter_negotiation_parse(r->bytes + 1, r->len - 1, &n,
		    &why) == 0)
			replay->protocol = n.protocol;
		buf_append(&replay->answer, r->bytes + 1, r->len - 1);
		return;
	}
	while (replay->owed < replay->count &&
	    !replay->steps[replay->owed].answered)
		replay->owed++;
	if (replay->owed == replay->count || r->bytes[0] == MILTER_PROGRESS)
		return;
	step = &replay->steps[replay->owed];
	milter_put(&step->replies, r->bytes[0], r->bytes + 1, r->len - 1);
	/* What was not recorded whole can't be compared. */
	if (r->len < r->full)
		step->answered = false;
	if (!milter_reply_edits(r->bytes[0])) {
		step->complete = true;
		replay->owed++;
	}
}

/* One conversation; returns the number of its records. */
static size_t
take(struct replay *replay, const struct milter_record *records, size_t count)
{
	size_t i;

	for (i = 0; i < count && records[i].conversation ==
	    records[0].conversation; i++) {
		if (records[i].kind == '>')
			add_command(replay, &records[i]);
		else if (records[i].kind == '<')
			add_reply(replay, &records[i]);
	}
	return i;
}

static void
forget(struct replay *replay)
{
	for (size_t i = 0; i < replay->count; i++)
		buf_release(&replay->steps[i].replies);
	free(replay->steps);
	replay->steps = NULL;
	replay->count = replay->size = replay->owed = 0;
	replay->protocol = 0;
	buf_release(&replay->offer);
	buf_release(&replay->answer);
}

/* --- the difference --- */

/*
 * A signature made anew has other times, and so another b=; those tags and
 * white space are left out (RFC 6376, 3.5; RFC 8617, 4.1).
 */
static void
put_signature(struct buf *out, const char *value, size_t len)
{
	size_t begin = out->len;

	for (size_t i = 0; i < len; i++)
		if (strchr(" \t\r\n", value[i]) == NULL || value[i] == '\0')
			buf_putc(out, value[i]);
	for (size_t at = begin; at < out->len;) {
		const char *tag = out->data + at;
		const char *end = memchr(tag, ';', out->len - at);
		size_t n = end != NULL ? (size_t)(end - tag) + 1 :
		    out->len - at;

		if (n < 2 || tag[1] != '=' || strchr("tbx", tag[0]) == NULL) {
			at += n;
			continue;
		}
		memmove(out->data + at, out->data + at + n,
		    out->len - at - n);
		out->len -= n;
	}
}

/* The packet as it is compared. */
static void
put_comparable(struct buf *out, const struct milter_packet *packet)
{
	static const char *const names[] = { "DKIM-Signature", "ARC-Seal",
	    "ARC-Message-Signature" };
	struct milter_reply reply;
	const char *why;

	buf_putc(out, packet->code);
	if (milter_reply_parse(packet, &reply, &why) == 0 &&
	    reply.second != NULL)
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			if (strcasecmp(reply.first, names[i]) != 0)
				continue;
			buf_append(out, packet->payload,
			    (size_t)(reply.second - packet->payload));
			put_signature(out, reply.second,
			    strlen(reply.second));
			return;
		}
	buf_append(out, packet->payload, packet->len);
}

static bool
same(const struct buf *a, const struct buf *b)
{
	struct buf x[2] = { BUF_INIT, BUF_INIT };
	const struct buf *from[2] = { a, b };
	struct milter_packet packet;
	char why[MILTER_WHY_SIZE];
	bool equal;

	for (int i = 0; i < 2; i++)
		for (size_t at = 0; at < from[i]->len &&
		    milter_packet_parse(from[i]->data + at,
		    from[i]->len - at, SIZE_MAX / 2, &packet, why) == 1;
		    at += packet.size)
			put_comparable(&x[i], &packet);
	equal = x[0].len == x[1].len && (x[0].len == 0 ||
	    memcmp(x[0].data, x[1].data, x[0].len) == 0);
	buf_release(&x[0]);
	buf_release(&x[1]);
	return equal;
}

static void
print_replies(char sign, const struct buf *replies)
{
	struct milter_packet packet;
	char why[MILTER_WHY_SIZE];
	struct buf text = BUF_INIT;

	for (size_t at = 0; at < replies->len && milter_packet_parse(
	    replies->data + at, replies->len - at, SIZE_MAX / 2, &packet,
	    why) == 1; at += packet.size) {
		buf_reset(&text);
		milter_print_packet(&text, true, &packet, packet.len);
		printf("%c %s\n", sign, text.data);
	}
	buf_release(&text);
}

static void
print_difference(struct replay *replay, const struct step *step,
    const struct buf *replies)
{
	struct milter_packet packet = packet_of(step->command);
	struct buf text = BUF_INIT;

	milter_print_packet(&text, false, &packet, step->command->full - 1);
	printf("  %s\n", text.data);
	print_replies('-', &step->replies);
	print_replies('+', replies);
	buf_release(&text);
	replay->differs = true;
}

static void
compare_answers(struct replay *replay)
{
	struct milter_packet before = { MILTER_OPTNEG, replay->answer.data,
	    replay->answer.len, 0 }, now = { MILTER_OPTNEG,
	    replay->talk->c.answer_bytes.data,
	    replay->talk->c.answer_bytes.len, 0 };
	struct buf text = BUF_INIT;

	if (before.len == now.len && (now.len == 0 ||
	    memcmp(before.payload, now.payload, now.len) == 0))
		return;
	milter_print_packet(&text, true, &before, before.len);
	printf("- %s\n", text.data);
	buf_reset(&text);
	milter_print_packet(&text, true, &now, now.len);
	printf("+ %s\n", text.data);
	buf_release(&text);
	replay->differs = true;
}

/* --- playing --- */

/* A command that begins something new, whatever was decided before. */
static bool
begins(char code)
{
	return code == MILTER_MAIL || code == MILTER_HELO ||
	    code == MILTER_QUIT_NC;
}

/*
 * Sends one command.  *decided: the filter has said all that it has to say, and
 * libmilter would answer nothing more.
 */
static int
play_step(struct replay *replay, const struct step *step, bool *decided)
{
	struct milter_packet packet = packet_of(step->command);
	struct buf out = BUF_INIT, replies = BUF_INIT;
	int rc;

	milter_put(&out, packet.code, packet.payload, packet.len);
	rc = milter_talk_send(replay->talk, out.data, out.len);
	buf_release(&out);
	if (rc == -1 || !milter_talk_answers(replay->talk, packet.code))
		return rc;
	rc = milter_talk_reply(replay->talk, &replies);
	if (step->answered && step->complete &&
	    !same(&step->replies, &replies))
		print_difference(replay, step, &replies);
	*decided = rc != MILTER_CONTINUE && rc != MILTER_SKIP &&
	    (packet.code != MILTER_RCPT || rc == MILTER_ACCEPT ||
	    rc == MILTER_DISCARD) && packet.code != MILTER_UNKNOWN;
	buf_release(&replies);
	return rc == -1 ? -1 : 0;
}

static int
open_talk(struct replay *replay)
{
	return milter_talk_open(replay->talk, replay->offer.data,
	    replay->offer.len);
}

static int
play(struct replay *replay)
{
	bool decided = false;
	int rc = open_talk(replay);

	if (rc == 0)
		compare_answers(replay);
	for (size_t i = 0; rc == 0 && i < replay->count; i++) {
		const struct step *step = &replay->steps[i];
		char code = step->command->bytes[0];

		if (code == MILTER_MACRO && i + 1 < replay->count)
			decided &= !begins(replay->steps[i + 1].
			    command->bytes[0]);
		decided &= !begins(code);
		if (decided || code == MILTER_QUIT ||
		    step->command->len == 0 ||
		    (code == MILTER_UNKNOWN && step->command->len == 1) ||
		    (code != MILTER_QUIT_NC &&
		    !milter_talk_wants(replay->talk, code)))
			continue;
		if (code == MILTER_QUIT_NC) {
			milter_talk_close(replay->talk);
			rc = open_talk(replay);
		} else {
			rc = play_step(replay, step, &decided);
		}
	}
	milter_talk_close(replay->talk);
	return rc;
}

int
milter_replay(struct milter_talk *talk, const struct milter_record *records,
    size_t count)
{
	struct replay replay = { .talk = talk };
	size_t number = 0, at = 0;
	int rc = 0;

	while (at < count && rc == 0) {
		at += take(&replay, records + at, count - at);
		number++;
		/* One that was never connected has nothing to play. */
		if (replay.answer.len > 0) {
			rc = play(&replay);
			fflush(stdout);
			if (rc == -1)
				printf("conversation %zu fails\n", number);
		}
		forget(&replay);
	}
	if (rc == -1)
		return milter_complain(talk->refused ? EX_UNAVAILABLE :
		    EX_PROTOCOL, "the milter", talk->error.text);
	printf("%zu conversations: %s\n", number, replay.differs ?
	    "it answers otherwise" : "the same answers");
	return replay.differs ? EXIT_FAILURE : EXIT_SUCCESS;
}
