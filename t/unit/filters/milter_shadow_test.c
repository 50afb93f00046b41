/* Milters in the shadow: what they say is told, and nothing else happens. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "filters/milter_shadow.h"
#include "t/unit/filters/milter_peer.h"
#include "t/unit/filters/milter_world.h"
#include "t/unit/unit.h"

static struct {
	size_t count;
	char id[32], outcome[32], text[1024];
	struct task_cond changed;
} told;

static void
take_told(const char *id, const char *outcome, const char *text)
{
	told.count++;
	snprintf(told.id, sizeof(told.id), "%s", id);
	snprintf(told.outcome, sizeof(told.outcome), "%s", outcome);
	snprintf(told.text, sizeof(told.text), "%s", text);
	task_cond_broadcast(&told.changed);
}

static void
begin(const struct peer_script *script)
{
	memset(&told, 0, sizeof(told));
	milter_shadow_set_tell(take_told);
	peer_begin(script);
}

static void
end(void)
{
	task_sleep(1);
	peer_end();
	milter_shadow_set_tell(NULL);
}

static void
await_told(size_t count)
{
	while (told.count < count)
		if (task_cond_wait(&told.changed, task_deadline(5000)) == -1)
			break;
}

static const struct {
	const char *name, *options;
	struct peer_script script;
	int refuse;
	const char *outcome, *text, *commands;
} cases[] = {
	{ "it has nothing to say", "", { 0 }, 0, "agree",
	    "m: would: accept; real: accept", "|OCHMRTLLLLNBEQ" },
	{ "it would add a field", "", { .replies = {
	    { 'E', 0, 'h', BYTES("X\0x\0"), 0 }, { 'E', 0, 'c', "", 0, 0 } } },
	    0, "agree", "m: would: h 0 X: x", "|OCHMRTLLLLNBEQ" },
	{ "it would put another body", "", { .replies = {
	    { 'E', 0, 'b', BYTES("new"), 0 }, { 'E', 0, 'c', "", 0, 0 } } },
	    0, "agree", "m: would replace the body by 5 bytes", NULL },
	{ "it would refuse at the end", "", { .replies = {
	    { 'E', 0, 'y', BYTES("550 5.7.1 bad\0"), 0 } } }, 0, "differ",
	    "m: would: reject 550 5.7.1 bad; real: accept", NULL },
	{ "it would refuse the client", "", { .replies = {
	    { 'C', 0, 't', "", 0, 0 } } }, 0, "differ",
	    "would: tempfail 451", "|OCQ" },
	{ "it would refuse the recipient", "", { .replies = {
	    { 'R', 0, 'y', BYTES("550 5.1.1 who\0"), 0 } } }, 0, "differ",
	    "would refuse <b@example.net>: 550 ", NULL },
	{ "it would discard", "", { .replies = {
	    { 'M', 0, 'd', "", 0, 0 } } }, 0, "differ", "would: discard;",
	    "|OCHMQ" },
	{ "it would have seen enough", "", { .replies = {
	    { 'H', 0, 'a', "", 0, 0 } } }, 0, "agree", "would: accept",
	    NULL },
	{ "it would hold", "", { .replies = {
	    { 'E', 0, 'q', BYTES("odd\0"), 0 }, { 'E', 0, 'c', "", 0, 0 } } },
	    0, "differ", "would: quarantine; real: accept", NULL },
	{ "it isn't there", "", { 0 }, 9, "abandoned",
	    "m: abandoned at connect: ", "" },
	{ "it says nothing", "content_timeout = 20ms", { .replies = {
	    { 'E', 0, 0, "", 0, PEER_NOTHING } } }, 0, "abandoned",
	    "m: abandoned at eom: ", NULL },
	{ "it dies at the end", "", { .replies = {
	    { 'E', 0, 0, "", 0, PEER_NOTHING | PEER_CLOSE } } }, 0,
	    "abandoned", "m: abandoned at eom: ", NULL },
};

static void
run_case(size_t i)
{
	struct buf options = BUF_INIT, header = BUF_INIT;
	struct verdict v;
	struct world w;

	begin(&cases[i].script);
	peer_log.refuse = cases[i].refuse;
	buf_printf(&options, "shadow = yes\n%s", cases[i].options);
	world_init(&w, options.data, NULL);
	v = world_play_all(&w, "CHMRDE");
	CASE_ASSERT(cases[i].name, v.action == ACTION_CONTINUE);
	CASE_ASSERT(cases[i].name, peer_log.connections == 0);
	world_print_header(&w, &header);
	CASE_ASSERT(cases[i].name, strcmp(header.data, "Received: by us\r\n"
	    "Subject: one\r\nX-A: 1\r\nX-A: 2\r\nX-AB: 3\r\n") == 0);
	CASE_ASSERT(cases[i].name, body_size(w.mail->body) == 7);
	CASE_ASSERT(cases[i].name, !w.mail->envelope.hold);
	CASE_ASSERT(cases[i].name,
	    envelope_count(&w.mail->envelope) == 1);
	/* The session is over before the milter hears of it. */
	chain_free(&w.chain);
	mail_free(&w.mail);
	arena_free(&w.session.arena);
	await_told(1);
	CASE_ASSERT(cases[i].name, told.count == 1);
	CASE_ASSERT(cases[i].name, strcmp(told.outcome,
	    cases[i].outcome) == 0);
	CASE_ASSERT(cases[i].name, strstr(told.text, cases[i].text) != NULL);
	world_release(&w);
	end();
	CASE_ASSERT(cases[i].name, cases[i].commands == NULL ||
	    strcmp(peer_log.commands, cases[i].commands) == 0);
	buf_release(&options);
	buf_release(&header);
}

static void
run_cases(void *argument)
{
	(void)argument;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		run_case(i);
}

static void
nothing_is_applied(void)
{
	world_task(run_cases, NULL);
}

static const struct peer_script adding = { .replies = {
    { 'E', 0, 'h', BYTES("Seen\0yes\0"), 0 }, { 'E', 0, 'c', "", 0, 0 } } };
static const struct peer_script refusing = { .replies = {
    { 'E', 0, 'y', BYTES("550 5.7.1 bad\0"), 0 } } };

/* As it came to its place: with the edits of those before it, not behind. */
static void
run_places(void *argument)
{
	static const char *const before[] = { "m", "m2", NULL };
	static const char *const behind[] = { "m2", "m", NULL };
	struct world w;

	(void)argument;
	begin(&adding);
	world_init(&w, "shadow = yes", before);
	world_play_all(&w, "CHMRDE");
	await_told(1);
	CU_ASSERT_PTR_NULL(strstr(peer_log.payloads, "LSeen"));
	world_release(&w);
	end();

	begin(&adding);
	world_init(&w, "shadow = yes", behind);
	world_play_all(&w, "CHMRDE");
	await_told(1);
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.payloads,
	    "LX-AB^3^;LSeen^yes^;"));
	world_release(&w);
	end();

	/* Within a group, too, it sees what all see. */
	begin(&adding);
	world_init(&w, "shadow = yes group = g", behind);
	world_play_all(&w, "CHMRDE");
	await_told(1);
	CU_ASSERT_EQUAL(told.count, 1);
	CU_ASSERT_PTR_NULL(strstr(peer_log.payloads, "LSeen"));
	world_release(&w);
	end();
}

static void
its_place_counts(void)
{
	world_task(run_places, NULL);
}

static void
run_outcomes(void *argument)
{
	static const char *const before[] = { "m", "m2", NULL };
	static const char *const behind[] = { "m2", "m", NULL };
	struct world w;

	(void)argument;
	begin(&refusing);
	world_init(&w, "shadow = yes", before);
	CU_ASSERT_EQUAL(world_play_all(&w, "CHMRDE").action, ACTION_REJECT);
	await_told(1);
	CU_ASSERT_STRING_EQUAL(told.id, "ID1");
	CU_ASSERT_STRING_EQUAL(told.outcome, "agree");
	CU_ASSERT_PTR_NOT_NULL(strstr(told.text, "real: reject"));
	world_release(&w);
	end();

	/* What others refused before never comes to its place. */
	begin(&refusing);
	world_init(&w, "shadow = yes", behind);
	CU_ASSERT_EQUAL(world_play_all(&w, "CHMRDE").action, ACTION_REJECT);
	CU_ASSERT_EQUAL(world_play_all(&w, "MRX").action, ACTION_CONTINUE);
	world_release(&w);
	end();
	CU_ASSERT_EQUAL(told.count, 0);
	CU_ASSERT_EQUAL(peer_log.connections, 1);
}

static void
the_real_outcome(void)
{
	world_task(run_outcomes, NULL);
}

/* Recipients that we refuse are shown to those that asked for them. */
static void
run_refused(void *argument)
{
	static const struct peer_script script = { .protocol = 0x800 };
	struct world w;

	(void)argument;
	begin(&script);
	world_init(&w, "shadow = yes", NULL);
	world_play_all(&w, "CHMSrRDE");
	await_told(1);
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.payloads, "R<no@example.net>^;"
	    "R<\"c d\"@example.net>^;R<b@example.net>^;"));
	CU_ASSERT_STRING_EQUAL(told.outcome, "agree");
	world_release(&w);
	end();
}

static void
refused_recipients(void)
{
	world_task(run_refused, NULL);
}

/* What it would not be asked about in earnest it does not see either. */
static void
run_conditions(void *argument)
{
	static const struct {
		const char *condition;
		size_t connections;
	} conditions[] = {
		{ "only_if = trusted", 0 },
		{ "only_if = \"recipient example.com\"", 0 },
		{ "only_if = \"recipient example.net\"", 1 },
		{ "skip_if = \"size < 1M\"", 0 },
		{ "skip_if = \"spf = pass\"", 1 },
	};
	static const struct peer_script script = { 0 };
	struct buf options = BUF_INIT;
	struct world w;

	(void)argument;
	for (size_t i = 0; i < sizeof(conditions) / sizeof(conditions[0]);
	    i++) {
		const char *name = conditions[i].condition;

		begin(&script);
		buf_reset(&options);
		buf_printf(&options, "shadow = yes %s", name);
		world_init(&w, options.data, NULL);
		world_play_all(&w, "CHMRDE");
		await_told(conditions[i].connections);
		CASE_ASSERT(name, told.count == conditions[i].connections);
		world_release(&w);
		end();
		CASE_ASSERT(name, peer_log.connections ==
		    conditions[i].connections);
	}
	buf_release(&options);
}

static void
its_conditions_hold(void)
{
	world_task(run_conditions, NULL);
}

/* More than can be under way are given up, and those that are at the end. */
static void
run_bounds(void *argument)
{
	static const struct peer_script mute = { .replies = {
	    { 'E', 0, 0, "", 0, PEER_NOTHING } } };
	struct world w;

	(void)argument;
	begin(&mute);
	world_init(&w, "shadow = yes", NULL);
	world_play_all(&w, "CH");
	for (int i = 0; i < 50; i++)
		world_play_all(&w, "MRDE");
	CU_ASSERT_EQUAL(told.count, 0);
	world_play_all(&w, "MRDE");
	CU_ASSERT_EQUAL(told.count, 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(told.text, "too many are under way"));
	task_yield();
	milter_shadow_end();
	CU_ASSERT_EQUAL(told.count, 51);
	/* There is room again; the last is under way at the end. */
	world_play_all(&w, "MRDE");
	CU_ASSERT_EQUAL(told.count, 51);
	world_release(&w);
	CU_ASSERT_EQUAL(told.count, 52);
	CU_ASSERT_STRING_EQUAL(told.outcome, "abandoned");
	end();
}

static void
bounds(void)
{
	world_task(run_bounds, NULL);
}

SUITE(milter_shadow,
    { "nothing is applied", nothing_is_applied },
    { "its place counts", its_place_counts },
    { "the real outcome", the_real_outcome },
    { "refused recipients", refused_recipients },
    { "its conditions hold", its_conditions_hold },
    { "bounds", bounds })
