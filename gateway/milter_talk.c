/* A conversation with a milter, for the tools. */
#include "gateway/milter_talk.h"

#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/task.h"
#include "filters/milter_print.h"

#define REPLY_MAX	(128 << 20)	/* a packet: a whole body may come */
#define REPLIES_MAX	100000		/* to one command */

static int
negotiate(struct milter_talk *talk, const char *offer, size_t len)
{
	struct milter_packet packet;
	struct buf out = BUF_INIT;
	const char *why;
	int rc;

	milter_put(&out, MILTER_OPTNEG, offer, len);
	rc = milter_talk_send(talk, out.data, out.len);
	buf_release(&out);
	if (rc == -1 || milter_connection_read(&talk->c, &packet,
	    task_deadline(talk->timeout_ms), &talk->error) == -1)
		return -1;
	if (packet.code != MILTER_OPTNEG) {
		snprintf(talk->error.text, sizeof(talk->error.text),
		    "refuses to negotiate (reply 0x%02x)",
		    (unsigned char)packet.code);
		return -1;
	}
	buf_append(&talk->c.answer_bytes, packet.payload, packet.len);
	if (milter_negotiation_parse(talk->c.answer_bytes.data,
	    talk->c.answer_bytes.len, &talk->c.answer, &why) == 0)
		return 0;
	snprintf(talk->error.text, sizeof(talk->error.text), "%s", why);
	return -1;
}

int
milter_talk_open(struct milter_talk *talk, const char *offer, size_t len)
{
	int64_t begin = clock_us();
	const char *why = "";

	talk->refused = false;
	talk->c = (struct milter_connection){ .reply_max = REPLY_MAX };
	talk->c.io = milter_place_connect(talk->place, talk->tls,
	    talk->tls_name, task_deadline(talk->timeout_ms), &why);
	talk->connect_us = clock_us() - begin;
	if (talk->c.io == NULL) {
		talk->refused = true;
		snprintf(talk->error.text, sizeof(talk->error.text),
		    "cannot connect: %s", why);
		return -1;
	}
	io_quickack(talk->c.io);
	begin = clock_us();
	if (negotiate(talk, offer, len) == -1) {
		milter_talk_close(talk);
		return -1;
	}
	talk->negotiate_us = clock_us() - begin;
	return 0;
}

void
milter_talk_close(struct milter_talk *talk)
{
	struct buf out = BUF_INIT;

	if (talk->c.io != NULL) {
		milter_put(&out, MILTER_QUIT, NULL, 0);
		io_put(talk->c.io, out.data, out.len);
		io_flush(talk->c.io, task_now());
		buf_release(&out);
	}
	io_free(&talk->c.io);
	buf_release(&talk->c.answer_bytes);
	buf_release(&talk->c.packet);
}

bool
milter_talk_wants(const struct milter_talk *talk, char code)
{
	const struct milter_kind *kind = milter_kind(code);

	if ((code == MILTER_UNKNOWN && talk->c.answer.version < 3) ||
	    (code == MILTER_DATA && talk->c.answer.version < 4))
		return false;
	return kind != NULL && (talk->c.answer.protocol & kind->no) == 0;
}

bool
milter_talk_answers(const struct milter_talk *talk, char code)
{
	const struct milter_kind *kind = milter_kind(code);

	return milter_talk_wants(talk, code) && kind->answered &&
	    (talk->c.answer.protocol & kind->silent) == 0;
}

int
milter_talk_send(struct milter_talk *talk, const char *bytes, size_t len)
{
	io_put(talk->c.io, bytes, len);
	if (io_flush(talk->c.io, task_deadline(talk->timeout_ms)) == 0)
		return 0;
	snprintf(talk->error.text, sizeof(talk->error.text), "cannot send: %s",
	    errno == ETIMEDOUT ? "it doesn't read" : io_why(talk->c.io));
	return -1;
}

int
milter_talk_reply(struct milter_talk *talk, struct buf *packets)
{
	struct milter_packet packet;

	for (size_t i = 0; i < REPLIES_MAX; i++) {
		if (milter_connection_read(&talk->c, &packet,
		    task_deadline(talk->timeout_ms), &talk->error) == -1)
			return -1;
		if (packet.code == MILTER_PROGRESS)
			continue;
		milter_put(packets, packet.code, packet.payload, packet.len);
		if (!milter_reply_edits(packet.code))
			return (unsigned char)packet.code;
	}
	snprintf(talk->error.text, sizeof(talk->error.text),
	    "sends packets without end");
	return -1;
}
