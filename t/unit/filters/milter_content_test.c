/* The milter client: content, macros, limits, connections. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "filters/chain_run.h"
#include "filters/milter.h"
#include "filters/milter_codec.h"
#include "t/unit/filters/milter_peer.h"
#include "t/unit/filters/milter_world.h"
#include "t/unit/unit.h"

static size_t
count_of(char command)
{
	size_t n = 0;

	for (const char *p = peer_log.commands; *p != '\0'; p++)
		n += *p == command;
	return n;
}

/* P52, P53, P54: the body arrives as it is, whatever its size. */
static void
run_bodies(void *argument)
{
	static const size_t sizes[] = { 0, 1, 8192, 65534, 65535, 65536,
	    65537, 131070, 250000 };
	static const struct peer_script script = { 0 };
	char *bytes = malloc(250000);

	(void)argument;
	/* CR, LF, NUL and 8 bit fall on any edge. */
	for (size_t i = 0; i < 250000; i++)
		bytes[i] = "\r\n\0x\xe4."[(i * 7 + i / 4096) % 6];
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct verdict v;
		struct world w;

		peer_begin(&script);
		world_init(&w, "", NULL);
		w.body = bytes;
		w.body_len = sizes[i];
		v = world_play_all(&w, "CHMRDE");
		CU_ASSERT_EQUAL(v.action, ACTION_CONTINUE);
		CU_ASSERT_EQUAL(peer_log.body_len, sizes[i]);
		CU_ASSERT_EQUAL(memcmp(peer_log.body, bytes, sizes[i]), 0);
		if (sizes[i] == 0)
			CU_ASSERT_EQUAL(count_of('B'), 0);
		world_release(&w);
		peer_end();
		task_sleep(1);
	}
	free(bytes);
}

static void
bodies(void)
{
	world_task(run_bodies, NULL);
}

static struct verdict
message_of(struct world *w, const char *header)
{
	struct verdict v = world_play_all(w, "CHMRD");

	CU_ASSERT_EQUAL(v.action, ACTION_CONTINUE);
	world_fill_mail(w, header);
	return chain_eom(w->chain);
}

/* P50, P17: more, both ways, than sockets hold; a field beyond the limit. */
static void
run_headers(void *argument)
{
	static const struct peer_script script = { 0 };
	struct buf header = BUF_INIT;
	struct verdict v;
	struct world w;

	(void)argument;
	for (int i = 0; i < 3000; i++)
		buf_printf(&header, "X-%d: %0300d\r\n", i, i);
	peer_begin(&script);
	world_init(&w, "", NULL);
	v = message_of(&w, header.data);
	CU_ASSERT_EQUAL(v.action, ACTION_CONTINUE);
	CU_ASSERT_EQUAL(count_of('L'), 3000);
	world_release(&w);

	buf_reset(&header);
	buf_puts(&header, "A: b\r\nX:");
	for (int i = 0; i < 70000; i++)
		buf_putc(&header, 'x');
	buf_puts(&header, "\r\n");
	peer_begin(&script);
	world_init(&w, "", NULL);
	v = message_of(&w, header.data);
	CU_ASSERT_EQUAL(v.action, ACTION_REJECT);
	CU_ASSERT_EQUAL(v.code, 552);
	world_release(&w);

	/* P36: no header, no body, but its end. */
	peer_begin(&script);
	world_init(&w, "", NULL);
	w.body_len = 0;
	v = message_of(&w, "");
	CU_ASSERT_EQUAL(v.action, ACTION_CONTINUE);
	world_release(&w);
	task_sleep(1);
	CU_ASSERT_STRING_EQUAL(peer_log.commands, "|OCHMRTNEQ");
	peer_end();
	buf_release(&header);
}

static void
headers(void)
{
	world_task(run_headers, NULL);
}

/* P22, P23, P46, P24: default macros, and lists that a filter asked for. */
static void
run_macros(void *argument)
{
	static const struct peer_script plain = { 0 };
	static const struct peer_script asking = {
		.lists = "\0\0\0\0{j},_\0" "\0\0\0\2\0" "\0\0\0\11i\0"
		    "\0\0\0\3{rcpt_addr} {nonsense}\0" "\0\0\0\5i",
		.lists_len = 49,
	};
	struct world w;

	(void)argument;
	peer_begin(&asking);
	world_init(&w, "", NULL);
	world_play_all(&w, "CHMRDE");
	world_release(&w);
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.macros,
	    "C j=mx.example.org,C _=[192.0.2.7],R {rcpt_addr}="));
	CU_ASSERT_PTR_NULL(strstr(peer_log.macros, "M "));

	/* What that one asked for is nothing to the next. */
	peer_begin(&plain);
	world_init(&w, "", NULL);
	world_play_all(&w, "CHMRDEMR");
	world_release(&w);
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.macros,
	    "C j=mx.example.org,C _=[192.0.2.7],C v=Millgate "));
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.macros,
	    "C {client_name}=unknown,"));
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.macros,
	    "M i=ID1,M {auth_author}=a+x@example.org,"
	    "M {mail_addr}=a@example.org,"
	    "M {mail_host}=example.org,"));
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.macros,
	    "R i=ID1,R {rcpt_addr}=b@example.net,"));
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.macros, "T i=ID1,"));
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.macros, "N i=ID1,"));
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.macros, "E i=ID1,"));
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.macros, "M i=ID2,"));
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.macros, "R i=ID2,"));
	CU_ASSERT_PTR_NULL(strstr(peer_log.macros, "{auth_authen}"));
	task_sleep(1);
	peer_end();
}

static void
macros(void)
{
	world_task(run_macros, NULL);
}

/* P43: a refused recipient is told by mailer, status and text. */
static void
run_refused(void *argument)
{
	static const struct peer_script script = { .protocol = 0x800 };
	struct world w;

	(void)argument;
	peer_begin(&script);
	world_init(&w, "", NULL);
	world_play_all(&w, "CHMS");
	world_release(&w);
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.macros,
	    "R {rcpt_addr}=5.1.1 no such,R {rcpt_host}=5.1.1,"
	    "R {rcpt_mailer}=error,"));
	task_sleep(1);
	peer_end();
}

static void
refused(void)
{
	world_task(run_refused, NULL);
}

/* P44, P45: quoted local parts, and each argument a string of its own. */
static void
run_envelope(void *argument)
{
	static const struct peer_script script = { 0 };
	static const char *const args[] = { "SIZE=10", "BODY=8BITMIME",
	    NULL };
	struct world w;

	(void)argument;
	peer_begin(&script);
	world_init(&w, "", NULL);
	world_play_all(&w, "CH");
	w.mail = mail_new(&w.session, 1000, "/tmp");
	w.mail->envelope.arguments = args;
	chain_mail(w.chain, w.mail);
	world_play_all(&w, "r");
	for (int i = 0; i < 1000; i++)
		world_play_all(&w, "R");
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.payloads,
	    "M<>^SIZE=10^BODY=8BITMIME^;R<\"c d\"@example.net>^;"));
	CU_ASSERT_EQUAL(count_of('R'), 1001);
	world_release(&w);
	task_sleep(1);
	peer_end();
}

static void
envelope(void)
{
	world_task(run_envelope, NULL);
}

/* P14, P41: silence, and progress without end, each meet their limit. */
static void
run_timers(void *argument)
{
	static const struct peer_script silent = { .replies = {
	    { 'M', 0, 0, "", 0, PEER_NOTHING } } };
	static const struct peer_script mute = { .replies = {
	    { 'O', 0, 0, "", 0, PEER_NOTHING } } };
	static const struct peer_script endless = { .replies = {
	    { 'E', 0, 'p', "", 0, 0 } } };
	struct verdict v;
	struct world w;

	(void)argument;
	peer_begin(&silent);
	world_init(&w, "command_timeout = 20ms", NULL);
	v = world_play_all(&w, "CHM");
	CU_ASSERT_EQUAL(v.action, ACTION_TEMPFAIL);
	CU_ASSERT_STRING_EQUAL(peer_log.commands, "|OCHM");
	world_release(&w);

	peer_begin(&mute);
	world_init(&w, "command_timeout = 20ms", NULL);
	v = world_play_all(&w, "M");
	CU_ASSERT_EQUAL(v.action, ACTION_TEMPFAIL);
	world_release(&w);

	peer_begin(&endless);
	world_init(&w, "content_timeout = 5s\n total_timeout = 30ms", NULL);
	v = world_play_all(&w, "CHMRDE");
	CU_ASSERT_EQUAL(v.action, ACTION_TEMPFAIL);
	world_release(&w);
	peer_end();
	task_sleep(1);
}

static void
timers(void)
{
	world_task(run_timers, NULL);
}

/* Fail-over to the next end point; after three failures none is tried. */
static void
run_breaker(void *argument)
{
	static const struct peer_script script = { 0 };
	static const char two[] = "endpoint = { \"unix:/1\", \"unix:/2\" }";
	struct verdict v;
	struct world w;

	(void)argument;
	peer_begin(&script);
	peer_log.refuse = 1;
	world_init(&w, two, NULL);
	v = world_play_all(&w, "CHMRDE");
	CU_ASSERT_EQUAL(v.action, ACTION_CONTINUE);
	CU_ASSERT_EQUAL(peer_log.connections, 1);
	CU_ASSERT_EQUAL(peer_log.refuse, 0);
	world_release(&w);

	peer_begin(&script);
	peer_log.refuse = 3;
	world_init(&w, "", NULL);
	for (int i = 0; i < 5; i++) {
		v = world_play_all(&w, "M");
		CU_ASSERT_EQUAL(v.action, ACTION_TEMPFAIL);
	}
	/* The breaker is open, though the milter would answer again. */
	CU_ASSERT_EQUAL(peer_log.refuse, 0);
	CU_ASSERT_EQUAL(peer_log.connections, 0);
	world_release(&w);
	peer_end();
	task_sleep(1);
}

static void
breaker(void)
{
	world_task(run_breaker, NULL);
}

/*
 * What the breaker counts: a message once, though it is asked for at connect,
 * helo and mail.  So many of 100 attempts were made.
 */
static const struct {
	const char *name, *options, *events;
	struct peer_script script;
	int attempts;
	unsigned connections;
} blames[] = {
	{ "one message doesn't open it", "", "CHMXM", { 0 }, 4, 0 },
	{ "three do", "", "CHMXMXMXM", { 0 }, 5, 0 },
	{ "each end point counts for itself",
	    "endpoint = { \"unix:/1\", \"unix:/2\" }", "CHMXMXMXM", { 0 }, 10,
	    0 },
	{ "failures after negotiation", "", "CHMXMXMXM", { .replies = {
	    { 'C', 0, 'Z', "", 0, 0 } } }, 0, 5 },
};

static void
run_blames(void *argument)
{
	(void)argument;
	for (size_t i = 0; i < OPTION_COUNT(blames); i++) {
		bool refusing = blames[i].attempts > 0;
		struct world w;

		peer_begin(&blames[i].script);
		peer_log.refuse = refusing ? 100 : 0;
		world_init(&w, blames[i].options, NULL);
		world_play_all(&w, blames[i].events);
		CASE_ASSERT(blames[i].name, !refusing ||
		    100 - peer_log.refuse == blames[i].attempts);
		CASE_ASSERT(blames[i].name, peer_log.connections ==
		    blames[i].connections);
		world_release(&w);
		peer_end();
		task_sleep(1);
	}
}

static void
breaker_counts_messages(void)
{
	world_task(run_blames, NULL);
}

/* P68: connections kept ready, one of which the milter has closed. */
static void
run_spare(void *argument)
{
	static const struct peer_script script = { 0 };
	static const struct peer_script leaving = { .replies = {
	    { 'O', 0, 'O', "\0\0\0\6\0\0\1\xff\0\0\0\0", 12, PEER_CLOSE } } };
	struct verdict v;
	struct world w;

	(void)argument;
	peer_begin(&leaving);
	world_init(&w, "spare = 1", NULL);
	world_play_all(&w, "C");
	task_sleep(1);
	peer_begin(&script);
	v = world_play_all(&w, "CHMRDE");
	CU_ASSERT_EQUAL(v.action, ACTION_CONTINUE);
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.commands, "CHMRTLLLLNBE"));
	world_release(&w);
	task_sleep(1);
	peer_end();
}

static void
spare(void)
{
	world_task(run_spare, NULL);
}

/* P16: it hangs up while it is written to, twice. */
static void
run_broken_pipe(void *argument)
{
	static const struct peer_script script = { .protocol = 0xc0080,
	    .replies = { { 'B', 1, 0, "", 0, PEER_NOTHING | PEER_CLOSE } } };
	static char bytes[2000000];
	struct verdict v;
	struct world w;

	(void)argument;
	peer_begin(&script);
	world_init(&w, "", NULL);
	w.body = bytes;
	w.body_len = sizeof(bytes);
	v = world_play_all(&w, "CHMRDE");
	CU_ASSERT_EQUAL(v.action, ACTION_TEMPFAIL);
	CU_ASSERT_EQUAL(peer_log.connections, 2);
	world_release(&w);
	task_sleep(1);
	peer_end();
}

static void
broken_pipe(void)
{
	world_task(run_broken_pipe, NULL);
}

#define PARALLEL 300

struct parallel {
	const struct world *base;
	unsigned passed;
};

static void
run_one(void *argument)
{
	struct parallel *all = argument;
	struct world w = *all->base;

	w.session.arena = arena_new(0);
	w.chain = chain_new(w.plan, &w.session);
	w.mail = NULL;
	all->passed += world_play_all(&w, "CHMRDEMRDE").action ==
	    ACTION_CONTINUE && w.mail->headers.count == 6;
	chain_free(&w.chain);
	mail_free(&w.mail);
	arena_free(&w.session.arena);
}

/* P74: many sessions at a time, each with its own answers. */
static void
run_parallel(void *argument)
{
	static const struct peer_script script = { .replies = {
	    { 'E', 0, 'h', BYTES("X\0x\0"), 0 },
	    { 'E', 0, 'c', "", 0, 0 } } };
	struct task *tasks[PARALLEL];
	struct parallel all = { 0 };
	struct world w;

	(void)argument;
	peer_begin(&script);
	world_init(&w, "command_timeout = 20s\n content_timeout = 20s\n"
	    "total_timeout = 20s\n spare = 4", NULL);
	all.base = &w;
	for (size_t i = 0; i < PARALLEL; i++)
		tasks[i] = task_start("session", run_one, &all);
	for (size_t i = 0; i < PARALLEL; i++)
		task_join(&tasks[i], DEADLINE_NEVER);
	CU_ASSERT_EQUAL(all.passed, PARALLEL);
	CU_ASSERT_TRUE(peer_log.connections >= PARALLEL);
	world_release(&w);
	task_sleep(1);
	peer_end();
}

static void
parallel(void)
{
	world_task(run_parallel, NULL);
}

/* A host of ours that dies at the end of a message is told once more. */
static void
run_host(void *argument)
{
	static const struct peer_script dying = { .replies = {
	    { 'E', 1, 0, "", 0, PEER_NOTHING | PEER_CLOSE | PEER_ONCE } } };
	const char *why = NULL;
	struct verdict v;
	struct world w;
	void *own;

	(void)argument;
	peer_begin(&dying);
	world_init(&w, "", NULL);
	own = milter_new_host("m", "unix:/m", &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(own);
	w.plan->entries[0].instance = own;
	chain_free(&w.chain);
	w.chain = chain_new(w.plan, &w.session);
	v = world_play_all(&w, "CHMRDE");
	CU_ASSERT_EQUAL(v.action, ACTION_CONTINUE);
	world_release(&w);
	filter_milter.release(own);
	task_sleep(1);
	peer_end();
}

static void
host(void)
{
	world_task(run_host, NULL);
}

/* P76, P59: the same milter twice; the second sees the first one's edits. */
static void
run_twice(void *argument)
{
	static const struct peer_script script = { .replies = {
	    { 'E', 1, 'i', "\0\0\0\1Seen\0yes\0", 13, 0 },
	    { 'E', 1, 'm', "\0\0\0\1Subject\0\0", 13, 0 },
	    { 'E', 1, 'c', "", 0, 0 } } };
	static const char *const twice[] = { "m", "m", NULL };
	struct buf text = BUF_INIT;
	struct world w;

	(void)argument;
	peer_begin(&script);
	world_init(&w, "", twice);
	world_play_all(&w, "CHMRDE");
	world_print_header(&w, &text);
	CU_ASSERT_STRING_EQUAL(text.data, "Received: by us\r\nSeen: yes\r\n"
	    "Seen: yes\r\nX-A: 1\r\nX-A: 2\r\nX-AB: 3\r\n");
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.payloads,
	    "LSeen^yes^;LX-A^1^;LX-A^2^;LX-AB^3^;"));
	CU_ASSERT_PTR_NULL(strstr(peer_log.payloads, "Received"));
	buf_release(&text);
	world_release(&w);
	task_sleep(1);
	peer_end();
}

static void
twice(void)
{
	world_task(run_twice, NULL);
}

/* P75: a milter in front of authres sees no forged field, and its own stays. */
static void
run_forged(void *argument)
{
	static const struct peer_script script = { .replies = {
	    { 'E', 0, 'h', BYTES("Authentication-Results\0"
	    "mx.example.org; x=pass\0"), 0 },
	    { 'E', 0, 'c', "", 0, 0 } } };
	static const char *const both[] = { "m", "authres", NULL };
	struct buf text = BUF_INIT;
	struct world w;

	(void)argument;
	peer_begin(&script);
	world_init(&w, "", both);
	message_of(&w, "Received: by us\r\n"
	    "Authentication-Results: mx.example.org; spf=pass\r\n"
	    "Authentication-Results: other.example; spf=pass\r\n");
	world_print_header(&w, &text);
	CU_ASSERT_STRING_EQUAL(text.data, "Received: by us\r\n"
	    "Authentication-Results: mx.example.org; none\r\n"
	    "Authentication-Results: other.example; spf=pass\r\n"
	    "Authentication-Results: mx.example.org; x=pass\r\n");
	CU_ASSERT_PTR_NULL(strstr(peer_log.payloads, "^mx.example.org;"));
	CU_ASSERT_PTR_NOT_NULL(strstr(peer_log.payloads, "^other.example;"));
	buf_release(&text);
	world_release(&w);
	task_sleep(1);
	peer_end();
}

static void
forged(void)
{
	world_task(run_forged, NULL);
}

SUITE(milter_content,
    { "bodies of all sizes", bodies },
    { "headers at the limits", headers },
    { "macros", macros },
    { "a refused recipient", refused },
    { "envelope", envelope },
    { "timers", timers },
    { "fail-over and breaker", breaker },
    { "the breaker counts messages", breaker_counts_messages },
    { "spare connections", spare },
    { "a broken pipe", broken_pipe },
    { "many sessions", parallel },
    { "a host that dies", host },
    { "forged results", forged },
    { "the same milter twice", twice })
