/*
 * The relay from spool to next hop: a real spool and queue in a temporary
 * directory, a next hop on the loopback whose answer depends on the recipient:
 * ok@, temp@ (the first time only), late@ (always), perm@.
 */
#include "config.h"

#include "gateway/relay.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/net.h"
#include "base/task.h"
#include "filters/dkim_sign.h"
#include "gateway/cutthrough.h"
#include "gateway/notice.h"
#include "gateway/route.h"
#include "t/unit/unit.h"

static const struct section_kind top = { .name = "", .size = 1 };
static const struct section_kind *kinds[] = { &top, &route_section,
    &relay_section, NULL };

/* --- the next hop --- */

static struct {
	int listener;
	unsigned port;
	struct task *task;
	bool stopping, bad_tls, silent;
	unsigned connections, temp;
	struct buf mail;		/* all envelopes and contents */
	unsigned messages;
} hop;

static const char *
rcpt_answer(const char *line)
{
	if (strstr(line, "<perm@") != NULL)
		return "550 5.1.1 no such user\r\n";
	if (strstr(line, "<late@") != NULL)
		return "450 4.2.1 later\r\n";
	if (strstr(line, "<temp@") != NULL && hop.temp++ == 0)
		return "450 4.2.0 once\r\n";
	return "250 2.1.5 Ok\r\n";
}

static void
hop_session(void *argument)
{
	struct io *io = argument;
	bool content = false;
	unsigned accepted = 0;
	char text[2100];
	const char *line;
	size_t len;

	while (hop.silent)
		task_sleep(1);
	io_puts(io, "220 hop\r\n");
	io_flush(io, task_deadline(2000));
	while (io_read_line(io, 2048, &line, &len, task_deadline(5000)) == 1) {
		memcpy(text, line, len);
		text[len] = '\0';
		if (strncmp(text, "QUIT", 4) == 0)
			break;
		buf_puts(&hop.mail, text);
		if (content && strcmp(text, ".\r\n") != 0)
			continue;
		if (content) {
			content = false;
			hop.messages++;
			io_puts(io, "250 2.0.0 queued\r\n");
		} else if (strncmp(text, "EHLO", 4) == 0)
			io_puts(io, hop.bad_tls ? "250-hop\r\n250 STARTTLS\r\n" :
			    "250-hop\r\n250 PIPELINING\r\n");
		else if (strncmp(text, "STARTTLS", 8) == 0) {
			io_puts(io, "220 go\r\n");
			io_flush(io, task_deadline(2000));
			break;
		}
		else if (strncmp(text, "RCPT", 4) == 0) {
			const char *answer = rcpt_answer(text);

			accepted += answer[0] == '2';
			io_puts(io, answer);
		} else if (strncmp(text, "DATA", 4) == 0) {
			io_puts(io, accepted > 0 ? "354 go\r\n" :
			    "503 no recipients\r\n");
			content = accepted > 0;
			accepted = 0;
		} else
			io_puts(io, "250 Ok\r\n");
		io_input(io, &len);
		if (len == 0)
			io_flush(io, task_deadline(2000));
	}
	io_free(&io);
}

static void
hop_accept(void *argument)
{
	int fd;

	(void)argument;
	while (!hop.stopping) {
		if (task_wait_fd(hop.listener, TASK_READ, DEADLINE_NEVER) ==
		    -1)
			return;
		while ((fd = accept4(hop.listener, NULL, NULL,
		    SOCK_NONBLOCK | SOCK_CLOEXEC)) != -1) {
			hop.connections++;
			task_detach("hop session", hop_session, io_new(fd));
		}
	}
}

static void
hop_start(void)
{
	struct net_endpoint endpoint;
	char text[NET_TEXT_SIZE];
	const char *why;

	memset(&hop, 0, sizeof(hop));
	net_endpoint_parse("127.0.0.1:0", &endpoint, &why);
	hop.listener = net_listen(&endpoint, 50, 0, &why);
	CU_ASSERT_FATAL(hop.listener != -1);
	endpoint.len = sizeof(endpoint.address);
	getsockname(hop.listener, (struct sockaddr *)&endpoint.address,
	    &endpoint.len);
	net_endpoint_print((struct sockaddr *)&endpoint.address, text);
	hop.port = (unsigned)atoi(strrchr(text, ':') + 1);
	hop.task = task_start("hop", hop_accept, NULL);
}

static void
hop_stop(void)
{
	hop.stopping = true;
	task_cancel(hop.task);
	task_join(&hop.task, DEADLINE_NEVER);
	close(hop.listener);
	buf_release(&hop.mail);
}

static size_t
seen(const char *text)
{
	size_t count = 0;

	for (const char *p = hop.mail.data; p != NULL &&
	    (p = strstr(p, text)) != NULL; p++)
		count++;
	return count;
}

/* --- the relay under test --- */

static struct {
	char directory[64];
	struct spool *gateway, *own;
	struct notices *notices;
	struct conf *conf;
	struct relay *relay;
	struct queue *queue;
	unsigned sent, deferred, bounced, removed;
} rig;

static void
count_event(const char *id, const char *recipient, const char *outcome,
    const char *text, void *argument)
{
	(void)id, (void)recipient, (void)text, (void)argument;
	rig.sent += strcmp(outcome, "sent") == 0;
	rig.deferred += strcmp(outcome, "deferred") == 0;
	rig.bounced += strcmp(outcome, "bounced") == 0;
	rig.removed += strcmp(outcome, "removed") == 0;
}

static struct spool *
open_spool(const char *writer)
{
	struct spool_settings settings = { .directory = rig.directory,
	    .writer = writer, .segment_size = 1 << 20, .large_size = 1 << 18,
	    .doorbell_fd = -1 };
	const char *why = "";
	struct spool *spool = spool_open(&settings, &why);

	if (spool == NULL)
		fprintf(stderr, "spool: %s\n", why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(spool);
	return spool;
}

static void
relay_begin(void)
{
	struct relay_settings settings = { .conf = rig.conf,
	    .hostname = "me.test", .event = count_event };
	struct notices_settings notices = { .conf = rig.conf,
	    .hostname = "me.test" };
	struct queue_settings queue = { .directory = rig.directory,
	    .compaction = rig.own };
	const char *why = "";

	settings.notices = rig.notices = notices_new(&notices, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(rig.notices);
	notices_set_spool(rig.notices, rig.own);
	rig.relay = relay_new(&settings, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(rig.relay);
	rig.queue = queue_open(&queue, relay_found, rig.relay, &why);
	if (rig.queue == NULL)
		fprintf(stderr, "queue: %s\n", why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(rig.queue);
	relay_start(rig.relay, rig.queue);
}

static void
relay_end(void)
{
	CU_ASSERT_EQUAL(relay_drain(rig.relay, task_deadline(5000)), 0);
	relay_free(&rig.relay);
	notices_free(&rig.notices);
	queue_close(&rig.queue);
}

static void
rig_begin_tls(const char *options, const char *tls)
{
	struct buf text = BUF_INIT, errors = BUF_INIT;
	const char *why;

	memset(&rig, 0, sizeof(rig));
	strcpy(rig.directory, "/tmp/relay-test.XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(rig.directory));
	CU_ASSERT_EQUAL_FATAL(spool_prepare(rig.directory, &why), 0);
	hop_start();
	buf_printf(&text, "route \"*\" { via = { \"smtp:127.0.0.1:%u\" } "
	    "tls = %s }\nroute \"dead.test\" { via = { "
	    "\"smtp:127.0.0.1:1\" } }\nroute \"gone.test\" { via = { "
	    "\"error:5.1.1 gone\" } }\nroute \"dir.test\" { via = { "
	    "\"maildir:%s/maildir\" } }\nrelay { %s }\n", hop.port,
	    tls, rig.directory, options);
	kinds[3] = filter_dkim_sign.options;
	rig.conf = conf_load(NULL, text.data, kinds, 4, &errors);
	if (rig.conf == NULL)
		fprintf(stderr, "%s\n", errors.data);
	CU_ASSERT_PTR_NOT_NULL_FATAL(rig.conf);
	buf_release(&text);
	buf_release(&errors);
	rig.gateway = open_spool("g0");
	rig.own = open_spool("relay");
	relay_begin();
}

static void
rig_begin(const char *options)
{
	rig_begin_tls(options, "none");
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static void
rig_end(void)
{
	relay_end();
	spool_close(&rig.own);
	spool_close(&rig.gateway);
	conf_free(&rig.conf);
	hop_stop();
	nftw(rig.directory, remove_one, 20, FTW_DEPTH | FTW_PHYS);
}

/* Puts a message into the spool; recipients are parted by blanks. */
static void
put_content(const char *sender, const char *recipients, const char *content,
    size_t len, char id[ENVELOPE_ID_SIZE])
{
	struct slice slice = { content, -1, 0, len };
	struct envelope envelope = { .sender = sender,
	    .arrived_ms = clock_wall_ms(), .client = "t[127.0.0.1]" };
	struct arena *arena = arena_new(0);
	const char *why;
	char *list = arena_strdup(arena, recipients), *word;

	envelope_id_make(envelope.id);
	if (id != NULL)
		strcpy(id, envelope.id);
	while ((word = strsep(&list, " ")) != NULL)
		envelope_add_recipient(&envelope, arena, word);
	CU_ASSERT_EQUAL(spool_commit(rig.gateway, &envelope, &slice, 1, &why),
	    0);
	arena_free(&arena);
	queue_poll(rig.queue);
}

static void
put(const char *sender, const char *recipients, char id[ENVELOPE_ID_SIZE])
{
	static const char content[] = "Subject: test\r\n\r\nx\r\n";

	put_content(sender, recipients, content, sizeof(content) - 1, id);
}

/* Waits, at most five seconds, until that many are in this state. */
#define UNTIL(condition) do {						\
	int64_t until_ = task_deadline(5000);				\
	while (!(condition) && task_now() < until_)			\
		task_sleep(1);						\
	CU_ASSERT(condition);						\
} while (0)

/* --- the tests, each as a task --- */

static void
delivers(void *argument)
{
	(void)argument;
	rig_begin("connection_idle = 200ms");
	for (size_t i = 0; i < 60; i++)
		put("s@x.test", "ok@y.test", NULL);
	UNTIL(queue_count(rig.queue) == 0);
	CU_ASSERT_EQUAL(hop.messages, 60);
	CU_ASSERT_EQUAL(rig.sent, 60);
	CU_ASSERT_EQUAL(rig.removed, 60);
	CU_ASSERT_TRUE(hop.connections <= 20);
	/* The next message takes a connection that is there. */
	hop.connections = 0;
	put("s@x.test", "ok@y.test", NULL);
	UNTIL(hop.messages == 61);
	CU_ASSERT_EQUAL(hop.connections, 0);
	rig_end();
}

static void
mixed(void *argument)
{
	(void)argument;
	rig_begin("minimal_backoff = 5ms");
	put("s@x.test", "ok@y.test perm@y.test temp@y.test a@gone.test", NULL);
	UNTIL(queue_count(rig.queue) == 0);
	CU_ASSERT_EQUAL(seen("RCPT TO:<ok@y.test>"), 1);
	CU_ASSERT_EQUAL(seen("RCPT TO:<temp@y.test>"), 2);
	CU_ASSERT_EQUAL(seen("RCPT TO:<perm@y.test>"), 1);
	/* ok, temp, and two notifications. */
	CU_ASSERT_EQUAL(rig.sent, 4);
	CU_ASSERT_EQUAL(rig.deferred, 1);
	CU_ASSERT_EQUAL(rig.bounced, 2);
	CU_ASSERT_EQUAL(seen("MAIL FROM:<>"), 2);
	CU_ASSERT_EQUAL(seen("RCPT TO:<s@x.test>"), 2);
	CU_ASSERT_EQUAL(seen("Final-Recipient: rfc822; perm@y.test"), 1);
	CU_ASSERT_EQUAL(seen("Final-Recipient: rfc822; a@gone.test"), 1);
	rig_end();
}

/* From a file of its own, with a dot at the front of every line. */
static void
large(void *argument)
{
	struct buf content = BUF_INIT;
	size_t before;

	(void)argument;
	rig_begin("");
	for (size_t i = 0; i < 40000; i++)
		buf_puts(&content, ".2345678\r\n");
	before = hop.mail.len;
	put_content("s@x.test", "ok@y.test", content.data, content.len, NULL);
	UNTIL(queue_count(rig.queue) == 0);
	CU_ASSERT_EQUAL(rig.sent, 1);
	CU_ASSERT_TRUE(hop.mail.len - before > content.len + 40000);
	CU_ASSERT_EQUAL(seen("\n..2345678\r"), 40000);
	buf_release(&content);
	rig_end();
}

static void
null_sender(void *argument)
{
	(void)argument;
	rig_begin("");
	put("", "perm@y.test", NULL);
	UNTIL(queue_count(rig.queue) == 0);
	CU_ASSERT_EQUAL(rig.bounced, 1);
	CU_ASSERT_EQUAL(hop.messages, 0);
	rig_end();
}

static void
expires(void *argument)
{
	(void)argument;
	rig_begin("minimal_backoff = 5ms maximal_backoff = 10ms "
	    "expire = 100ms");
	put("s@x.test", "late@y.test", NULL);
	UNTIL(queue_count(rig.queue) == 0);
	CU_ASSERT_TRUE(rig.deferred >= 2);
	CU_ASSERT_EQUAL(rig.bounced, 1);
	CU_ASSERT_EQUAL(seen("Diagnostic-Code: smtp; 450 4.2.1 later"), 1);
	rig_end();
}

static void
warns(void *argument)
{
	(void)argument;
	rig_begin("minimal_backoff = 5ms maximal_backoff = 10ms "
	    "delay_warning = 30ms expire = 200ms");
	put("s@x.test", "late@y.test", NULL);
	UNTIL(queue_count(rig.queue) == 0);
	CU_ASSERT_EQUAL(seen("Action: delayed"), 1);
	CU_ASSERT_EQUAL(seen("Action: failed"), 1);
	rig_end();
}

static void
dead_site(void *argument)
{
	struct relay_statistics statistics;
	struct buf text = BUF_INIT;

	(void)argument;
	rig_begin("");
	for (size_t i = 0; i < 20; i++)
		put("s@x.test", "a@dead.test", NULL);
	put("s@x.test", "ok@y.test b@dead.test", NULL);
	UNTIL(rig.sent == 1);
	relay_statistics(rig.relay, &statistics);
	UNTIL((relay_statistics(rig.relay, &statistics),
	    statistics.deferred == 21));
	relay_print(rig.relay, &text);
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "suspended="));
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "refused"));
	CU_ASSERT_EQUAL(relay_flush(rig.relay, NULL), 21);
	buf_release(&text);
	rig_end();
}

static void
operators(void *argument)
{
	char first[ENVELOPE_ID_SIZE], second[ENVELOPE_ID_SIZE];
	struct relay_statistics statistics;
	const char *why;

	(void)argument;
	rig_begin("");
	put("s@x.test", "temp@y.test", first);
	UNTIL((relay_statistics(rig.relay, &statistics),
	    statistics.deferred == 1));
	put("s@x.test", "late@y.test", second);
	UNTIL((relay_statistics(rig.relay, &statistics),
	    statistics.deferred == 2));
	CU_ASSERT_EQUAL(relay_release(rig.relay, first, &why), -1);
	CU_ASSERT_EQUAL(relay_hold(rig.relay, "none", &why), -1);
	CU_ASSERT_EQUAL(relay_hold(rig.relay, first, &why), 0);
	CU_ASSERT_EQUAL(relay_flush(rig.relay, first), 0);
	/* It stays held over a restart. */
	relay_end();
	relay_begin();
	relay_statistics(rig.relay, &statistics);
	CU_ASSERT_EQUAL(statistics.held, 1);
	CU_ASSERT_EQUAL(statistics.deferred, 1);
	CU_ASSERT_EQUAL(relay_delete(rig.relay, second, &why), 0);
	CU_ASSERT_EQUAL(relay_release(rig.relay, first, &why), 0);
	UNTIL(queue_count(rig.queue) == 0);
	CU_ASSERT_EQUAL(rig.sent, 1);
	CU_ASSERT_EQUAL(seen("RCPT TO:<late@y.test>"), 1);
	rig_end();
}

/* What waits for a connection is the operator's; what has one is not. */
static void
waiting(void *argument)
{
	char first[ENVELOPE_ID_SIZE], second[ENVELOPE_ID_SIZE];
	char third[ENVELOPE_ID_SIZE];
	struct relay_statistics statistics;
	const char *why;

	(void)argument;
	rig_begin("connections = 1");
	hop.silent = true;
	put("s@x.test", "one@y.test", first);
	UNTIL(hop.connections == 1);
	put("s@x.test", "two@y.test", second);
	put("s@x.test", "three@y.test a@dir.test", third);
	UNTIL((relay_statistics(rig.relay, &statistics),
	    statistics.active == 3));
	CU_ASSERT_EQUAL(relay_hold(rig.relay, first, &why), -1);
	CU_ASSERT_EQUAL(relay_delete(rig.relay, first, &why), -1);
	CU_ASSERT_EQUAL(relay_hold(rig.relay, second, &why), 0);
	CU_ASSERT_EQUAL(relay_delete(rig.relay, third, &why), 0);
	relay_statistics(rig.relay, &statistics);
	CU_ASSERT_EQUAL(statistics.active, 1);
	CU_ASSERT_EQUAL(statistics.held, 1);
	hop.silent = false;
	UNTIL(queue_count(rig.queue) == 1);
	CU_ASSERT_EQUAL(relay_release(rig.relay, second, &why), 0);
	UNTIL(queue_count(rig.queue) == 0);
	CU_ASSERT_EQUAL(rig.sent, 2);
	CU_ASSERT_EQUAL(seen("RCPT TO:<three@y.test>"), 0);
	rig_end();
}

/* Two workers want a message that is not in memory; it is read once. */
static void
large_twice(void *argument)
{
	size_t len = 4 << 20;
	char *content = malloc(len);

	(void)argument;
	CU_ASSERT_PTR_NOT_NULL_FATAL(content);
	for (size_t i = 0; i < len; i += 8)
		memcpy(content + i, "123456\r\n", 8);
	rig_begin("memory = 64K");
	put_content("s@x.test", "ok@y.test a@dir.test", content, len, NULL);
	UNTIL(queue_count(rig.queue) == 0);
	CU_ASSERT_EQUAL(rig.sent, 2);
	free(content);
	rig_end();
}

/* RFC 7435: what TLS is welcome for goes in clear where it does not work. */
static void
speaks_clear(void *argument)
{
	(void)argument;
	rig_begin_tls("", "may");
	hop.bad_tls = true;
	put("s@x.test", "ok@y.test", NULL);
	UNTIL(queue_count(rig.queue) == 0);
	CU_ASSERT_EQUAL(rig.sent, 1);
	CU_ASSERT_EQUAL(hop.connections, 2);
	rig_end();
}

static void
never_clear(void *argument)
{
	(void)argument;
	rig_begin_tls("", "require");
	hop.bad_tls = true;
	put("s@x.test", "ok@y.test", NULL);
	UNTIL(rig.deferred == 1);
	CU_ASSERT_EQUAL(hop.connections, 1);
	CU_ASSERT_EQUAL(seen("MAIL FROM"), 0);
	rig_end();
}

static void
maildir(void *argument)
{
	char path[128];

	(void)argument;
	rig_begin("");
	put("s@x.test", "a@dir.test", NULL);
	UNTIL(queue_count(rig.queue) == 0);
	CU_ASSERT_EQUAL(rig.sent, 1);
	snprintf(path, sizeof(path), "%s/maildir/new", rig.directory);
	CU_ASSERT_EQUAL(access(path, F_OK), 0);
	/* Not empty, so that it cannot be removed. */
	CU_ASSERT_EQUAL(rmdir(path), -1);
	rig_end();
}

static void
deliver_now(struct cutthrough *cutthrough, struct mail *mail)
{
	struct delivery results[4] = { 0 };
	size_t n = 0;

	for (struct recipient *r = mail->envelope.recipients; r != NULL;
	    r = r->next)
		results[n++].recipient = r;
	CU_ASSERT_EQUAL(cutthrough_deliver(cutthrough, mail, results, n,
	    task_deadline(2000)), DELIVERY_TEMPORARY);
	CU_ASSERT_EQUAL(results[0].status, DELIVERY_OK);
	CU_ASSERT_EQUAL(results[1].status, DELIVERY_TEMPORARY);
	CU_ASSERT_STRING_EQUAL(results[1].enhanced, "4.4.1");
	CU_ASSERT_EQUAL(results[2].status, DELIVERY_PERMANENT);
	CU_ASSERT_STRING_EQUAL(delivery_text(&results[2]), "no such user");
	CU_ASSERT_EQUAL(results[3].status, DELIVERY_PERMANENT);
	CU_ASSERT_STRING_EQUAL(results[3].text, "gone");
}

static void
cuts_through(void *argument)
{
	struct session session = { .arena = arena_new(0) };
	struct cutthrough *cutthrough;
	struct mail *mail;
	const char *why;

	(void)argument;
	rig_begin("connection_idle = 100ms");
	cutthrough = cutthrough_new(rig.conf, "me.test", &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(cutthrough);
	mail = mail_new(&session, 1 << 16, "/tmp");
	mail->envelope.sender = "s@x.test";
	envelope_add_recipient(&mail->envelope, mail->arena, "ok@y.test");
	envelope_add_recipient(&mail->envelope, mail->arena, "a@dead.test");
	envelope_add_recipient(&mail->envelope, mail->arena, "perm@y.test");
	envelope_add_recipient(&mail->envelope, mail->arena, "a@gone.test");
	headers_add(&mail->headers, mail->arena, NULL, "Subject", "x", true);
	body_append(mail->body, "x\r\n", 3);
	deliver_now(cutthrough, mail);
	deliver_now(cutthrough, mail);
	CU_ASSERT_EQUAL(hop.messages, 2);
	CU_ASSERT_EQUAL(hop.connections, 1);
	mail_free(&mail);
	cutthrough_free(&cutthrough);
	arena_free(&session.arena);
	rig_end();
}

static void
run(task_f *test)
{
	struct log_settings quiet = { "millgate", "test", LOG_TO_FD, -1, false,
	    LOG_LEVEL_ERROR };

	log_open(&quiet);
	task_init();
	task_detach("test", test, NULL);
	task_loop();
	CU_ASSERT_EQUAL(task_count(), 0);
	task_shutdown();
}

static void test_delivers(void) { run(delivers); }
static void test_mixed(void) { run(mixed); }
static void test_large(void) { run(large); }
static void test_null_sender(void) { run(null_sender); }
static void test_expires(void) { run(expires); }
static void test_warns(void) { run(warns); }
static void test_dead_site(void) { run(dead_site); }
static void test_operators(void) { run(operators); }
static void test_waiting(void) { run(waiting); }
static void test_large_twice(void) { run(large_twice); }
static void test_speaks_clear(void) { run(speaks_clear); }
static void test_never_clear(void) { run(never_clear); }
static void test_maildir(void) { run(maildir); }
static void test_cuts_through(void) { run(cuts_through); }

SUITE(relay, { "delivers", test_delivers }, { "mixed", test_mixed },
    { "large", test_large },
    { "null sender", test_null_sender }, { "expires", test_expires },
    { "warns", test_warns }, { "dead site", test_dead_site },
    { "speaks clear", test_speaks_clear },
    { "never clear", test_never_clear },
    { "waiting", test_waiting }, { "large twice", test_large_twice },
    { "operators", test_operators }, { "maildir", test_maildir },
    { "cuts through", test_cuts_through })
