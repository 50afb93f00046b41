#include <stdio.h>
#include <string.h>

#include "gateway/event.h"
#include "t/unit/unit.h"

static const struct event sample = {
	.time_ms = 1795489200123, .id = "4bXk2w", .kind = "refused",
	.client = "mail.test[192.0.2.1]", .sender = "a@b.test",
	.recipients = "c@d.test e@f.test", .outcome = "reject",
	.text = "+1.0ms spf: fail\n",
};

static void
round_trip(void)
{
	struct buf packet = BUF_INIT;
	struct event event;
	size_t offset = 0;

	event_pack(&packet, &sample);
	event_pack(&packet, &sample);
	CU_ASSERT(event_unpack(packet.data, packet.len, &offset, &event));
	CU_ASSERT_EQUAL(event.time_ms, sample.time_ms);
	CU_ASSERT_STRING_EQUAL(event.id, "4bXk2w");
	CU_ASSERT_STRING_EQUAL(event.text, sample.text);
	CU_ASSERT(event_unpack(packet.data, packet.len, &offset, &event));
	CU_ASSERT_STRING_EQUAL(event.recipients, sample.recipients);
	CU_ASSERT_FALSE(event_unpack(packet.data, packet.len, &offset,
	    &event));
	buf_release(&packet);
}

/* Whatever is cut off, nothing behind the end is read. */
static void
cut_short(void)
{
	struct buf packet = BUF_INIT;
	struct event event;

	event_pack(&packet, &sample);
	for (size_t len = 0; len < packet.len; len++) {
		struct buf part = BUF_INIT;
		size_t offset = 0;

		buf_append(&part, packet.data, len);
		CU_ASSERT_FALSE(event_unpack(part.data, part.len, &offset,
		    &event));
		buf_release(&part);
	}
	buf_release(&packet);
}

static void
long_text_is_cut(void)
{
	struct buf packet = BUF_INIT;
	struct event event = sample;
	static char text[100000];
	size_t offset = 0;

	memset(text, 'x', sizeof(text) - 1);
	event.text = text;
	event_pack(&packet, &event);
	CU_ASSERT(packet.len < 30000);
	CU_ASSERT(event_unpack(packet.data, packet.len, &offset, &event));
	buf_release(&packet);
}

SUITE(event,
	{ "round trip", round_trip },
	{ "cut short", cut_short },
	{ "long text is cut", long_text_is_cut })
