/*
 * The client against our own host: in one loop, and behind libmilter, whose
 * threads are in a process of their own.
 */
#include "filters/milter_host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/counter.h"
#include "base/io.h"
#include "filters/chain_run.h"
#include "filters/milter.h"
#include "filters/milter_library.h"
#include "filters/trace.h"
#include "t/unit/filters/milter_world.h"
#include "t/unit/unit.h"

/* The filter in the host: does at eom what the case says. */
struct inner {
	void (*edit)(struct filter_run *);
	struct verdict verdict;
	char at;			/* event of the verdict */
	char seen[2000];
};

static struct inner *inner;	/* shared by both processes */

static struct verdict
answer(char event)
{
	size_t len = strlen(inner->seen);

	snprintf(inner->seen + len, sizeof(inner->seen) - len, "%c", event);
	return inner->at == event ? inner->verdict : VERDICT_CONTINUE;
}

static struct verdict
on_mail(struct filter_run *run)
{
	const struct session *s = run->session;
	struct verdict v = answer('M');
	size_t len = strlen(inner->seen);

	snprintf(inner->seen + len, sizeof(inner->seen) - len,
	    "(%s %s %s %s %s %s %s %s %s)", s->hostname, s->client_address,
	    s->client_name != NULL ? s->client_name : "-",
	    s->client_ptr != NULL ? s->client_ptr : "-",
	    !s->client_name_asked ? "-" : s->client_name_unknown ? "late" :
	    "asked", s->helo,
	    s->user != NULL ? s->user : "-", s->trusted ? "trusted" : "-",
	    run->mail->envelope.id);
	return v;
}

static struct verdict
on_rcpt(struct filter_run *run, struct recipient *recipient)
{
	(void)run, (void)recipient;
	return answer('R');
}

static struct verdict
on_eom(struct filter_run *run)
{
	if (inner->edit != NULL)
		inner->edit(run);
	return answer('E');
}

static void
on_abort(struct filter_run *run)
{
	(void)run;
	answer('A');
}

static void
on_close(struct filter_run *run)
{
	(void)run;
	answer('Q');
}

static const struct filter inner_filter = {
	.name = "inner", .mail = on_mail, .rcpt = on_rcpt, .eom = on_eom,
	.abort = on_abort, .close = on_close,
};

static const struct milter_host_settings settings = {
	.hostname = "host.example.org", .memory_limit = 100000,
	.temporary_directory = "/tmp", .idle_timeout_ms = 5000,
	.message_timeout_ms = 5000, .progress_ms = 1,
};

static struct chain_plan inner_plan, outer_plan;
static struct chain_entry inner_entry, outer_entry;
static unsigned connections;

static void
serve(void *argument)
{
	milter_host_talk((int)(intptr_t)argument, &inner_plan, &settings);
}

static int
connector(const char *path, const char **why, int64_t deadline)
{
	int fds[2];

	(void)path, (void)why, (void)deadline;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
	    fds) == -1)
		abort();
	connections++;
	task_detach("host", serve, (void *)(intptr_t)fds[1]);
	return fds[0];
}

/* --- libmilter --- */

static struct sockaddr_un library_address;

static int
library_connector(const char *path, const char **why, int64_t deadline)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)path, (void)why, (void)deadline;
	if (fd == -1 || connect(fd, (struct sockaddr *)&library_address,
	    sizeof(library_address)) == -1)
		abort();
	return fd;
}

static void
begin(int fd, void *argument)
{
	(void)argument;
	task_detach("host", serve, (void *)(intptr_t)fd);
}

static _Noreturn void
run_library(int listener)
{
	const char *why;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	task_init();
	if (milter_library_start(&(struct milter_library_settings){
	    .listener = listener, .begin = begin, .timeout_ms = 5000 },
	    &why) != 0)
		abort();
	task_loop();
	_exit(1);
}

/* An abstract socket, so that nothing is left behind. */
static pid_t
start_library(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t pid;

	library_address.sun_family = AF_UNIX;
	snprintf(library_address.sun_path + 1, 60, "millgate-unit-%d",
	    (int)getpid());
	if (fd == -1 || bind(fd, (struct sockaddr *)&library_address,
	    sizeof(library_address)) == -1 || listen(fd, 20) == -1)
		abort();
	fflush(NULL);
	if ((pid = fork()) == 0)
		run_library(fd);
	close(fd);
	return pid;
}

static void
entry_init(struct chain_plan *plan, struct chain_entry *entry,
    const struct filter *filter, void *instance)
{
	*entry = (struct chain_entry){ .filter = filter,
	    .name = filter->name, .instance = instance };
	entry->seconds = histogram_get("test_seconds", NULL);
	entry->late = counter_get("test_late", NULL);
	for (size_t i = 0; i < CHAIN_ACTIONS; i++)
		entry->outcomes[i] = counter_get("test_out", NULL);
	plan->count = 1;
	plan->entries = entry;
}

/* --- cases --- */

static void
edit_nothing(struct filter_run *run)
{
	(void)run;
}

static void
edit_sign(struct filter_run *run)
{
	struct mail *m = run->mail;

	headers_add(&m->headers, m->arena, m->headers.first,
	    "DKIM-Signature", " v=1;\n\tb=x", false);
}

static void
edit_top_twice(struct filter_run *run)
{
	struct mail *m = run->mail;
	struct header *first = m->headers.first;

	headers_add(&m->headers, m->arena, first, "A", "a", true);
	headers_add(&m->headers, m->arena, first, "B", "b", true);
}

static void
edit_all(struct filter_run *run)
{
	struct mail *m = run->mail;

	headers_delete(&m->headers, headers_find(&m->headers, "X-A", 1));
	headers_change(&m->headers, m->arena,
	    headers_find(&m->headers, "X-A", 1), "new", true);
	headers_add(&m->headers, m->arena,
	    headers_find(&m->headers, "X-AB", 1), "Middle", "m", true);
	headers_add(&m->headers, m->arena, NULL, "Last", "l", true);
	m->envelope.sender = "new@example.org";
	envelope_delete_recipient(&m->envelope, "b@example.net");
	envelope_add_recipient(&m->envelope, m->arena, "c@example.net");
	m->envelope.hold = true;
	m->envelope.hold_reason = "why";
}

/* Longer than several signs of life are apart. */
static void
edit_late(struct filter_run *run)
{
	task_sleep(20);
	edit_sign(run);
}

static void
edit_body(struct filter_run *run)
{
	struct body *body = body_renew(run->mail->body);
	char line[1000];

	memset(line, 'x', sizeof(line));
	memcpy(line + 998, "\r\n", 2);
	for (int i = 0; i < 200; i++)
		body_append(body, line, sizeof(line));
	body_free(&run->mail->body);
	run->mail->body = body;
}

#define RECEIVED "Received: by us\r\n"
#define REST "Subject:  one \r\nX-A: 1\r\nX-A:\r\n 2\r\nX-AB:3\r\n"

static const struct host_case {
	const char *name;
	void (*edit)(struct filter_run *);
	char at;
	struct verdict verdict;
	const char *header, *recipients, *sender;
	size_t body;
} cases[] = {
	{ "nothing", edit_nothing, 0, { .action = ACTION_CONTINUE },
	    RECEIVED REST, "b@example.net", "a@example.org", 7 },
	{ "a signature", edit_sign, 0, { .action = ACTION_CONTINUE },
	    "DKIM-Signature: v=1;\r\n\tb=x\r\n" RECEIVED REST, NULL, NULL,
	    7 },
	{ "a late signature, after progress", edit_late, 0,
	    { .action = ACTION_CONTINUE },
	    "DKIM-Signature: v=1;\r\n\tb=x\r\n" RECEIVED REST, NULL, NULL,
	    7 },
	{ "two on top", edit_top_twice, 0, { .action = ACTION_CONTINUE },
	    "A: a\r\nB: b\r\n" RECEIVED REST, NULL, NULL, 7 },
	{ "everything", edit_all, 0, { .action = ACTION_CONTINUE },
	    RECEIVED "Subject:  one \r\nX-A: new\r\nMiddle: m\r\nX-AB:3\r\n"
	    "Last: l\r\n", "c@example.net", "new@example.org", 7 },
	{ "a body", edit_body, 0, { .action = ACTION_CONTINUE },
	    RECEIVED REST, NULL, NULL, 200000 },
	{ "edits and reject", edit_all, 'E', { .action = ACTION_REJECT,
	    .code = 554, .enhanced = "5.7.0", .text = "100% no\nreally" },
	    RECEIVED REST, "b@example.net", "a@example.org", 7 },
	{ "reject at mail", NULL, 'M', { .action = ACTION_REJECT,
	    .code = 550, .text = "no" }, NULL, NULL, NULL, 0 },
	{ "tempfail of the recipient", NULL, 'R', { .action =
	    ACTION_TEMPFAIL, .code = 0 }, NULL, NULL, NULL, 0 },
	{ "discard", NULL, 'E', { .action = ACTION_DISCARD }, NULL, NULL,
	    NULL, 0 },
	{ "disconnect", NULL, 'E', { .action = ACTION_DISCONNECT,
	    .text = "bye" }, NULL, NULL, NULL, 0 },
};

static void
check(const struct host_case *c, const struct mail *mail)
{
	char text[4096] = "";

	if (c->header == NULL)
		return;
	for (const struct header *h = mail->headers.first; h != NULL;
	    h = h->next)
		strncat(text, h->raw, h->len);
	if (strcmp(text, c->header) != 0)
		fprintf(stderr, "\n%s: {%s}", c->name, text);
	CASE_ASSERT(c->name, strcmp(text, c->header) == 0);
	CASE_ASSERT(c->name, body_size(mail->body) == c->body);
	if (c->recipients != NULL) {
		CASE_ASSERT(c->name, envelope_count(&mail->envelope) == 1);
		CASE_ASSERT(c->name, strcmp(
		    mail->envelope.recipients->address, c->recipients) == 0);
	}
	if (c->sender != NULL)
		CASE_ASSERT(c->name, strcmp(mail->envelope.sender,
		    c->sender) == 0);
}

static struct verdict
one_message(struct session *session, struct mail **mail)
{
	static const char header[] = RECEIVED REST;
	struct chain *chain = chain_new(&outer_plan, session);
	struct verdict v = chain_connect(chain);
	struct mail *m = *mail = mail_new(session, 100000, "/tmp");

	m->trace = trace_new(m->arena);
	snprintf(m->envelope.id, sizeof(m->envelope.id), "ID7");
	m->envelope.sender = "a@example.org";
	if (v.action == ACTION_CONTINUE)
		v = chain_helo(chain);
	if (v.action == ACTION_CONTINUE)
		v = chain_mail(chain, m);
	if (v.action == ACTION_CONTINUE)
		v = chain_rcpt(chain, envelope_add_recipient(&m->envelope,
		    m->arena, "b@example.net"));
	if (v.action == ACTION_CONTINUE)
		v = chain_data(chain);
	if (v.action == ACTION_CONTINUE) {
		headers_parse(&m->headers, m->arena, header,
		    sizeof(header) - 1);
		m->headers.first->hidden = true;
		body_append(m->body, "hello\r\n", 7);
		m->stage = MAIL_STAGE_COMPLETE;
		v = chain_eom(chain);
	}
	chain_free(&chain);
	return v;
}

static void
session_init(struct session *s)
{
	memset(s, 0, sizeof(*s));
	s->arena = arena_new(0);
	s->hostname = "mx.example.org";
	s->listener = "smtp";
	s->helo = "client.example";
	s->client_address = "192.0.2.7";
	s->client.ss_family = AF_INET;
	memcpy((char *)&s->client + 4, "\xc0\0\2\7", 4);
	s->user = "joe";
	s->trusted = true;
}

static bool
has_ended(void)
{
	size_t len = strlen(inner->seen);

	return len > 0 && inner->seen[len - 1] == 'Q';
}

/* How the client's name was looked up, and what the guest is told of it. */
static const struct name_case {
	const char *name, *ptr;
	bool asked, unknown;
	const char *want;		/* name, ptr, and whether it's known */
} name_cases[] = {
	{ "client.example", NULL, false, false,
	    "client.example client.example -" },
	{ "client.example", "client.example", true, false,
	    "client.example client.example asked" },
	{ NULL, "forged.example", true, false, "- forged.example asked" },
	{ NULL, NULL, true, false, "- - asked" },
	{ NULL, "slow.example", true, true, "- slow.example late" },
};

static bool
saw_session(const struct name_case *name)
{
	char want[200];

	snprintf(want, sizeof(want), "M(mx.example.org 192.0.2.7 %s "
	    "client.example joe trusted ID7)", name->want);
	return strncmp(inner->seen, want, strlen(want)) == 0;
}

static void
play_cases(void)
{
	struct session session;

	session_init(&session);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct host_case *c = &cases[i];
		const struct name_case *name = &name_cases[i %
		    (sizeof(name_cases) / sizeof(name_cases[0]))];
		struct mail *mail;
		struct verdict v;

		session.client_name = name->name;
		session.client_ptr = name->ptr;
		session.client_name_asked = name->asked;
		session.client_name_unknown = name->unknown;
		memset(inner, 0, sizeof(*inner));
		inner->edit = c->edit;
		inner->at = c->at;
		inner->verdict = c->verdict;
		v = one_message(&session, &mail);
		CASE_ASSERT(c->name, v.action == c->verdict.action);
		if (c->verdict.code != 0)
			CASE_ASSERT(c->name, v.code == c->verdict.code);
		if (c->verdict.text != NULL)
			CASE_ASSERT(c->name, strcmp(v.text,
			    c->verdict.text) == 0);
		CASE_ASSERT(c->name, saw_session(name));
		check(c, mail);
		mail_free(&mail);
		for (int tries = 0; !has_ended() && tries < 2000; tries++)
			task_sleep(1);
		CASE_ASSERT(c->name, has_ended());
	}
	arena_free(&session.arena);
}

static void
play_with_host(void *argument)
{
	const char *why = NULL;
	void *instance;

	(void)argument;
	io_set_unix_connector(connector);
	connections = 0;
	if ((instance = milter_new_host("sign", "unix:/host", &why)) == NULL)
		abort();
	entry_init(&outer_plan, &outer_entry, &filter_milter, instance);
	play_cases();
	/* One in use, at most two spare: connections are used again. */
	CU_ASSERT(connections <= 4);
	filter_milter.release(instance);
	io_set_unix_connector(NULL);
}

/* As any milter: libmilter serves one session on a connection. */
static void
play_with_library(void *argument)
{
	struct world world;

	(void)argument;
	io_set_unix_connector(library_connector);
	world_init(&world, "", NULL);
	outer_plan = *world.plan;
	play_cases();
	world_release(&world);
	io_set_unix_connector(NULL);
}

static void
share_inner(void)
{
	entry_init(&inner_plan, &inner_entry, &inner_filter, NULL);
	inner = mmap(NULL, sizeof(*inner), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (inner == MAP_FAILED)
		abort();
}

static void
through_our_host(void)
{
	share_inner();
	world_task(play_with_host, NULL);
	munmap(inner, sizeof(*inner));
}

static void
through_libmilter(void)
{
	pid_t pid;

	share_inner();
	if ((pid = start_library()) == -1)
		abort();
	world_task(play_with_library, NULL);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	munmap(inner, sizeof(*inner));
}

SUITE(milter_host,
    { "messages through our host", through_our_host },
    { "messages through libmilter", through_libmilter })
