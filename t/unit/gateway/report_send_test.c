/*
 * Reports from the claim to the spool: each goes once, whatever dies meanwhile.
 * The policy process is played by a task.
 */
#include "config.h"

#include "gateway/report_send.h"

#include <fcntl.h>
#include <inttypes.h>
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
#include "base/net.h"
#include "base/option.h"
#include "base/task.h"
#include "gateway/notice.h"
#include "gateway/report.h"
#include "policy/report.h"
#include "t/unit/gateway/spool_fixture.h"
#include "t/unit/unit.h"

#define TOP_OPTIONS(ROW, o)						\
	ROW(o, run_directory, string, NULL, NULL, NULL, "Sockets.")

struct test_top { TOP_OPTIONS(OPTION_FIELD, test_top) };
static const struct option_row top_rows[] = {
	TOP_OPTIONS(OPTION_ROW, test_top)
};
static const struct section_kind top = { .name = "", .doc = "All.",
    .rows = top_rows, .row_count = OPTION_COUNT(top_rows),
    .size = sizeof(struct test_top) };
static const struct section_kind signing = { .name = "dkim_sign",
    .doc = "None.", .titled = true, .size = 1 };
static const struct section_kind *const kinds[] = { &top, &signing,
	&report_section };

#define HEAD(rua) "psl\treject\t\t\t\t\t\tn\t" rua "\n"
#define ROW "\t192.0.2.1\tnone\tpass\tfail\t\t\town.test\town.test\t" \
	"own.test\tmfrom\tpass\n"

/* The policy process: what it claims, and what it was told. */
static struct store {
	int listener;
	const char *claims[4];		/* behind "own.test TAB begin" */
	size_t claimed;
	bool deaf;			/* it dies when told that one is done */
	struct buf done;		/* "DOMAIN BEGIN ID" each, and a LF */
	int64_t begin_ms;
} store;

static const char *
value_of(const char *line, const char *name)
{
	size_t len = strlen(name);

	return strncmp(line, name, len) == 0 && line[len] == '=' ?
	    line + len + 1 : NULL;
}

/* False: the connection is to end. */
static bool
act(struct io *io, const char *verb, const char *domain, const char *id)
{
	const char *claim = store.claims[store.claimed];

	if (strcmp(verb, "done") == 0) {
		if (store.deaf)
			return false;
		buf_printf(&store.done, "%s %s\n", domain, id);
		io_puts(io, "action=OK\n\n");
	} else if (claim == NULL) {
		io_puts(io, "action=NONE\n\n");
	} else {
		store.claimed++;
		io_printf(io, "action=OK\nown.test\t%" PRId64, store.begin_ms);
		io_put(io, claim, strlen(claim));
		io_puts(io, "\n");
	}
	return io_flush(io, task_deadline(5000)) == 0;
}

static void
serve(struct io *io)
{
	char verb[200] = "", domain[200] = "", id[200] = "", text[200];
	const char *line, *value;
	size_t len;

	while (io_read_line(io, sizeof(text), &line, &len,
	    task_deadline(5000)) > 0) {
		snprintf(text, sizeof(text), "%.*s", (int)len - 1, line);
		if ((value = value_of(text, "report_verb")) != NULL)
			snprintf(verb, sizeof(verb), "%s", value);
		if ((value = value_of(text, "report_domain")) != NULL)
			snprintf(domain, sizeof(domain), "%s", value);
		if ((value = value_of(text, "report_id")) != NULL)
			snprintf(id, sizeof(id), "%s", value);
		if (text[0] == '\0' && !act(io, verb, domain, id))
			return;
	}
}

static void
store_run(void *argument)
{
	struct io *io;
	int fd;

	(void)argument;
	while (task_wait_fd(store.listener, TASK_READ, DEADLINE_NEVER) == 0) {
		if ((fd = accept(store.listener, NULL, NULL)) == -1)
			continue;
		fcntl(fd, F_SETFL, O_NONBLOCK);
		io = io_new(fd);
		serve(io);
		io_free(&io);
	}
}

/* A relay, from its start to its end. */
struct relay {
	struct fixture *f;
	struct conf *conf;
	struct notices *notices;
	struct report_sender *sender;
	struct task *store;
	char socket[128];
};

static void
relay_begin(struct relay *relay, struct fixture *f)
{
	struct buf text = BUF_INIT, errors = BUF_INIT;
	struct net_endpoint endpoint;
	const char *why = "";

	*relay = (struct relay){ .f = f };
	buf_printf(&text, "run_directory = \"%s\"\n"
	    "dmarc_report { email = \"d@mx.test\" }\n", f->directory);
	relay->conf = conf_load(NULL, text.data, kinds, 3, &errors);
	CU_ASSERT_PTR_NOT_NULL_FATAL(relay->conf);
	buf_release(&text);
	buf_release(&errors);
	snprintf(relay->socket, sizeof(relay->socket), "unix:%s/policy.sock",
	    f->directory);
	CU_ASSERT_FATAL(net_endpoint_parse(relay->socket, &endpoint,
	    &why) == 0);
	store.listener = net_listen(&endpoint, 5, 0, &why);
	CU_ASSERT_FATAL(store.listener != -1);
	store.claimed = 0;
	store.deaf = false;
	relay->store = task_start("store", store_run, NULL);
	relay->notices = notices_new(&(struct notices_settings){
	    .conf = relay->conf, .hostname = "mx.test" }, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(relay->notices);
	fixture_open_spools(f);
	fixture_open_queue(f);
	notices_set_spool(relay->notices, f->spool);
	relay->sender = report_sender_new(relay->conf, "mx.test",
	    relay->notices);
	CU_ASSERT_PTR_NOT_NULL_FATAL(relay->sender);
	report_sender_start(relay->sender, f->queue, f->directory);
}

static void
relay_end(struct relay *relay)
{
	report_sender_free(&relay->sender);
	task_reap(&relay->store);
	close(store.listener);
	unlink(relay->socket + strlen("unix:"));
	notices_free(&relay->notices);
	conf_free(&relay->conf);
	fixture_close(relay->f);
}

/* What it said, sending all; *why as it returned it. */
static char *
force(struct relay *relay, const char **why)
{
	struct buf lines = BUF_INIT;

	*why = report_sender_force(relay->sender, "", &lines);
	return lines.data != NULL ? lines.data : strdup("");
}

static void
ledger_remove(const struct fixture *f)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/journal/reports-sent", f->directory);
	unlink(path);
}

static void
store_reset(const char *claim)
{
	buf_release(&store.done);
	store = (struct store){ .claims = { claim, claim },
		.begin_ms = clock_wall_ms() - 1000 };
}

static const struct {
	const char *name, *claim;
	const char *says;		/* among what it says */
	size_t messages;
	bool done;
} cases[] = {
	{ "sent", "\t7\t0\n" HEAD("mailto:a@own.test") "3" ROW,
	    "to=<a@own.test>, messages=3, rows=1, sent: ", 1, true },
	{ "two rows, two addresses", "\t7\t0\n"
	    HEAD("mailto:a@own.test,mailto:b@own.test") "3" ROW "4" ROW,
	    "to=<b@own.test>, messages=7, rows=2, sent: ", 1, true },
	{ "too large for them", "\t7\t0\n" HEAD("mailto:a@own.test!1")
	    "3" ROW, "larger than they take", 0, true },
	{ "nobody", "\t7\t0\n" HEAD("ftp://own.test/") "3" ROW,
	    "refused: nobody takes it", 0, true },
	{ "no rows", "\t7\t0\n" HEAD("mailto:a@own.test"), "", 0, false },
	{ "no head", "\t7\t0\n", "", 0, false },
	{ "no id", "\n" HEAD("mailto:a@own.test") "3" ROW, "", 0, false },
};
static size_t at;

static void
send_one(struct fixture *f)
{
	struct relay relay;
	const char *why;
	char *said;

	store_reset(cases[at].claim);
	store.claims[1] = NULL;
	relay_begin(&relay, f);
	said = force(&relay, &why);
	CASE_ASSERT(cases[at].name, strstr(said, cases[at].says) != NULL);
	CASE_ASSERT(cases[at].name, (why == NULL) == cases[at].done);
	CASE_ASSERT(cases[at].name, f->found == cases[at].messages);
	CASE_ASSERT(cases[at].name, (store.done.len > 0) == cases[at].done);
	free(said);
	relay_end(&relay);
}

static void
sends(void)
{
	for (at = 0; at < sizeof(cases) / sizeof(cases[0]); at++)
		fixture_run(send_one);
	buf_release(&store.done);
}

#define CLAIM "\t7\t0\n" HEAD("mailto:a@own.test") "3" ROW

/* The store died after the message was kept: it hears of it later. */
static void
told_later(struct fixture *f)
{
	struct relay relay;
	const char *why;
	char *said, want[64];

	store_reset(CLAIM);
	store.claims[1] = NULL;
	relay_begin(&relay, f);
	store.deaf = true;
	said = force(&relay, &why);
	CU_ASSERT_PTR_NOT_NULL(why);
	CU_ASSERT_EQUAL(f->found, 1);
	CU_ASSERT_EQUAL(store.done.len, 0);
	free(said);
	relay_end(&relay);

	/* Nothing is to be claimed: the lease has not ended. */
	store.claims[0] = NULL;
	relay_begin(&relay, f);
	said = force(&relay, &why);
	snprintf(want, sizeof(want), "own.test %" PRId64 " 7\n",
	    store.begin_ms);
	CU_ASSERT_PTR_NOT_NULL_FATAL(store.done.data);
	/* Twice, if the relay's own look comes between. */
	CU_ASSERT(strncmp(store.done.data, want, strlen(want)) == 0);
	CU_ASSERT_EQUAL(f->found, 1);
	free(said);
	relay_end(&relay);
}

/* It is claimed again, be it by the ledger or by the queue that we know it. */
static void
claimed_again(struct fixture *f)
{
	struct relay relay;
	const char *why;
	char *said;

	for (int lost = 0; lost < 2; lost++) {
		store_reset(CLAIM);
		relay_begin(&relay, f);
		store.deaf = true;
		said = force(&relay, &why);
		free(said);
		CU_ASSERT_EQUAL(f->found, 1 + (size_t)lost);
		relay_end(&relay);
		if (lost)
			ledger_remove(f);
		relay_begin(&relay, f);
		said = force(&relay, &why);
		CU_ASSERT_PTR_NULL(why);
		CU_ASSERT(strstr(said, "rows=1, sent: ") == NULL);
		CU_ASSERT(!lost || strstr(said, "sent before: ") != NULL);
		CU_ASSERT_EQUAL(f->found, 1 + (size_t)lost);
		free(said);
		relay_end(&relay);
	}
}

/* Rows that do not compress, more than a message takes. */
static void
in_parts(struct fixture *f)
{
	static const char letters[64] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"
	    "KLMNOPQRSTUVWXYZ0123456789-.";
	struct buf claim = BUF_INIT;
	struct relay relay;
	const char *why;
	char *said;
	uint32_t random = 1;

	buf_puts(&claim, "\t7\t0\n" HEAD("mailto:a@own.test"));
	for (int row = 0; row < 5000; row++) {
		buf_puts(&claim, "2\t192.0.2.1\tnone\tpass\tfail\t\t\t");
		for (int i = 0; i < 1900; i++) {
			random = random * 1664525 + 1013904223;
			buf_putc(&claim, i == 950 ? '\t' :
			    letters[random >> 26]);
		}
		buf_puts(&claim, "\town.test\tmfrom\tpass\n");
	}
	store_reset(claim.data);
	store.claims[1] = NULL;
	relay_begin(&relay, f);
	said = force(&relay, &why);
	CU_ASSERT_PTR_NULL(why);
	CU_ASSERT(strstr(said, "goes in 2 parts") != NULL);
	CU_ASSERT(strstr(said, "messages=5000, rows=2500, sent: ") != NULL);
	CU_ASSERT_EQUAL(f->found, 2);
	CU_ASSERT(store.done.len > 0);
	free(said);
	relay_end(&relay);
	buf_release(&claim);
}

static void
once(void)
{
	fixture_run(told_later);
	fixture_run(claimed_again);
	buf_release(&store.done);
}

static void
parts(void)
{
	fixture_run(in_parts);
	buf_release(&store.done);
}

SUITE(report_send,
	{ "sends", sends },
	{ "each once", once },
	{ "in parts", parts })
