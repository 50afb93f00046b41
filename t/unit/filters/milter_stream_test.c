/* The milter client: messages shown while they arrive. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filters/chain_run.h"
#include "filters/milter_codec.h"
#include "t/unit/filters/milter_peer.h"
#include "t/unit/filters/milter_world.h"
#include "t/unit/unit.h"

#define PACKET	MILTER_PAYLOAD_MAX

static size_t
count_of(char command)
{
	size_t n = 0;

	for (const char *p = peer_log.commands; *p != '\0'; p++)
		n += *p == command;
	return n;
}

/* Until the milter has heard so many of a command. */
static void
await(char command, size_t count)
{
	int64_t deadline = task_deadline(10000);

	while (count_of(command) < count && task_now() < deadline)
		task_sleep(1);
}

/* Up to the header section, which is complete. */
static void
begin(struct world *w, const struct peer_script *script,
    const char *const *names)
{
	static const char header[] = "Subject: one\r\nX-A: 1\r\n";

	peer_begin(script);
	world_init(w, "", names);
	for (size_t i = 0; i < w->plan->count; i++)
		w->plan->entries[i].streams = true;
	CU_ASSERT_EQUAL(world_play_all(w, "CHMRD").action, ACTION_CONTINUE);
	headers_parse(&w->mail->headers, w->mail->arena, header,
	    sizeof(header) - 1);
	chain_header_done(w->chain);
}

static void
end(struct world *w)
{
	world_release(w);
	task_sleep(1);
	peer_end();
}

static void
add_body(struct world *w, size_t packets)
{
	static char bytes[PACKET];

	for (size_t i = 0; i < packets; i++)
		body_append(w->mail->body, bytes, sizeof(bytes));
	chain_body_grown(w->chain);
}

/* One before it changed what a milter was shown: it's shown all again. */
static void
run_changed(void *argument)
{
	static const struct peer_script script = { .replies = {
	    { 'E', 0, 'h', BYTES("Seen\0yes\0"), 0 },
	    { 'E', 0, 'c', "", 0, 0 } } };
	static const char *const names[] = { "m", "m2", NULL };
	const char *seen;
	struct world w;

	(void)argument;
	begin(&w, &script, names);
	add_body(&w, 1);
	await('B', 2);
	CU_ASSERT_EQUAL(peer_log.connections, 2);
	CU_ASSERT_EQUAL(count_of('L'), 4);
	CU_ASSERT_PTR_NULL(strstr(peer_log.payloads, "LSeen"));
	CU_ASSERT_EQUAL(chain_eom(w.chain).action, ACTION_CONTINUE);
	/* The second: from connect on, the end only once. */
	CU_ASSERT_EQUAL(peer_log.connections, 3);
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.commands, "|OCHMRTLLLNBE"));
	CU_ASSERT_EQUAL(count_of('E'), 2);
	CU_ASSERT_EQUAL(count_of('L'), 7);
	seen = strstr(peer_log.payloads, "LX-A^1^;LSeen^yes^;");
	CU_ASSERT_PTR_NOT_NULL(seen);
	CU_ASSERT_EQUAL(w.mail->headers.count, 4);
	end(&w);
}

static void
shown_again(void)
{
	world_task(run_changed, NULL);
}

/*
 * One that answers nothing is sent no more than a window of packets, however
 * much has arrived; one that answers gets all.
 */
static void
run_slow(void *argument)
{
	static const struct peer_script mute = { .replies = {
	    { 'B', 0, 0, "", 0, PEER_NOTHING } } };
	static const struct peer_script prompt = { 0 };
	struct world w;

	(void)argument;
	begin(&w, &mute, NULL);
	/* The end of the header is answered before. */
	await('N', 1);
	task_sleep(1);
	add_body(&w, 100);
	await('B', 64);
	for (int i = 0; i < 5; i++) {
		add_body(&w, 1);
		task_sleep(1);
	}
	CU_ASSERT_EQUAL(count_of('B'), 64);
	chain_abort(w.chain);
	end(&w);
	CU_ASSERT_EQUAL(count_of('E'), 0);
	CU_ASSERT_EQUAL(peer_log.connections, 1);

	begin(&w, &prompt, NULL);
	add_body(&w, 100);
	await('B', 100);
	CU_ASSERT_EQUAL(count_of('B'), 100);
	CU_ASSERT_EQUAL(chain_eom(w.chain).action, ACTION_CONTINUE);
	CU_ASSERT_EQUAL(peer_log.body_len, (size_t)100 * PACKET);
	end(&w);
}

static void
no_more_than_a_window(void)
{
	world_task(run_slow, NULL);
}

/* It wants no more of the body, and gets none of what comes behind. */
static void
run_skip(void *argument)
{
	static const struct peer_script script = {
	    .protocol = MILTER_CAN_SKIP, .actions = 0x1ff, .version = 6,
	    .replies = { { 'B', 1, 's', "", 0, 0 } } };
	struct world w;

	(void)argument;
	begin(&w, &script, NULL);
	add_body(&w, 1);
	await('B', 1);
	task_sleep(1);
	add_body(&w, 10);
	task_sleep(1);
	CU_ASSERT_EQUAL(chain_eom(w.chain).action, ACTION_CONTINUE);
	CU_ASSERT_EQUAL(count_of('B'), 1);
	CU_ASSERT_EQUAL(count_of('E'), 1);
	end(&w);
}

static void
skip_is_noticed(void)
{
	world_task(run_skip, NULL);
}

/* Refused amid the body: the answer stands, its end is not told. */
static void
run_refused(void *argument)
{
	static const struct peer_script script = { .replies = {
	    { 'B', 1, 'y', BYTES("550 5.7.1 bad\0"), 0 } } };
	struct verdict v;
	struct world w;

	(void)argument;
	begin(&w, &script, NULL);
	add_body(&w, 1);
	await('B', 1);
	task_sleep(1);
	add_body(&w, 10);
	v = chain_eom(w.chain);
	CU_ASSERT_EQUAL(v.action, ACTION_REJECT);
	CU_ASSERT_EQUAL(v.code, 550);
	CU_ASSERT_EQUAL(count_of('B'), 1);
	CU_ASSERT_EQUAL(count_of('E'), 0);
	end(&w);
}

static void
refused_amid_the_body(void)
{
	world_task(run_refused, NULL);
}

SUITE(milter_stream,
    { "shown again when changed", shown_again },
    { "no more than a window", no_more_than_a_window },
    { "skip is noticed", skip_is_noticed },
    { "refused amid the body", refused_amid_the_body })
