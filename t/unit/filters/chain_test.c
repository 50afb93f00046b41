#include "filters/chain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/counter.h"
#include "filters/chain_run.h"
#include "filters/trace.h"
#include "t/unit/unit.h"

/* A case names only what it has beyond the usual. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

/*
 * Fake filters write each event's letter to one log, behind their own digit:
 * C H M R D N B E, A for abort, Q for close.
 */
static char events[1024];

struct fake {
	char digit;
	char at;			/* event of the verdict, or 0 */
	enum action action;
	const char *finding;		/* found at eom */
	bool adds;			/* a field at eom */
	const char *hold;		/* of the verdict */
};

static void
note(struct filter_run *run, char event)
{
	const struct fake *fake = run->instance;
	size_t len = strlen(events);

	snprintf(events + len, sizeof(events) - len, "%s%c%c",
	    len > 0 ? " " : "", fake->digit, event);
}

static struct verdict
answer(struct filter_run *run, char event)
{
	const struct fake *fake = run->instance;

	note(run, event);
	if (fake->at == event)
		return (struct verdict){ .action = fake->action,
		    .code = 550, .hold = fake->hold };
	return VERDICT_CONTINUE;
}

static struct verdict
on_connect(struct filter_run *run)
{
	return answer(run, 'C');
}

static struct verdict
on_helo(struct filter_run *run)
{
	return answer(run, 'H');
}

static struct verdict
on_mail(struct filter_run *run)
{
	return answer(run, 'M');
}

static struct verdict
on_rcpt(struct filter_run *run, struct recipient *recipient)
{
	(void)recipient;
	return answer(run, 'R');
}

static struct verdict
on_data(struct filter_run *run)
{
	return answer(run, 'D');
}

static struct verdict
on_eoh(struct filter_run *run)
{
	return answer(run, 'N');
}

static struct verdict
on_body(struct filter_run *run, const char *bytes, size_t len)
{
	(void)bytes, (void)len;
	return answer(run, 'B');
}

static struct verdict
on_eom(struct filter_run *run)
{
	const struct fake *fake = run->instance;

	if (fake->finding != NULL)
		finding_add(run, fake->finding, "pass", NULL);
	if (fake->adds)
		headers_add(&run->mail->headers, run->mail->arena, NULL,
		    "X-Fake", "yes", true);
	return answer(run, 'E');
}

static void
on_abort(struct filter_run *run)
{
	note(run, 'A');
}

static void
on_close(struct filter_run *run)
{
	note(run, 'Q');
}

static const struct filter serial = {
	.name = "serial", .connect = on_connect, .helo = on_helo,
	.mail = on_mail, .rcpt = on_rcpt, .data = on_data, .eoh = on_eoh,
	.body = on_body, .eom = on_eom, .abort = on_abort, .close = on_close,
};

static const struct filter looker = {
	.name = "looker", .traits = FILTER_LOOKS, .mail = on_mail,
	.eoh = on_eoh, .body = on_body, .eom = on_eom, .abort = on_abort,
};

#define FAKES_MAX 4

struct chain_case {
	const char *name;
	struct fake fakes[FAKES_MAX];	/* a digit above '4' makes a looker */
	const char *until;		/* "CHMRDE", 'X': abort */
	enum action want;		/* of the last event */
	const char *filter;
	const char *events, *findings;
	const char *hold;		/* why the message is held, or NULL */
};

struct world {
	struct chain_plan plan;
	struct chain_entry entries[FAKES_MAX];
	struct fake fakes[FAKES_MAX];
	struct session session;
	struct chain *chain;
	struct mail *mail;
};

static void
world_init(struct world *w, const struct fake *fakes)
{
	static const char *const names[FAKES_MAX] = { "a", "b", "c", "d" };

	memset(w, 0, sizeof(*w));
	events[0] = '\0';
	memcpy(w->fakes, fakes, sizeof(w->fakes));
	w->plan.entries = w->entries;
	for (size_t i = 0; i < FAKES_MAX && fakes[i].digit != 0; i++) {
		struct chain_entry *entry = &w->entries[w->plan.count++];

		entry->filter = fakes[i].digit > '4' ? &looker : &serial;
		entry->name = names[i];
		entry->instance = &w->fakes[i];
		entry->seconds = histogram_get("test_seconds", NULL);
		entry->late = counter_get("test_late", NULL);
		for (size_t j = 0; j < CHAIN_ACTIONS; j++)
			entry->outcomes[j] = counter_get("test_out", NULL);
	}
	w->session.arena = arena_new(0);
	w->chain = chain_new(&w->plan, &w->session);
}

static void
world_release(struct world *w)
{
	chain_free(&w->chain);
	mail_free(&w->mail);
	arena_free(&w->session.arena);
}

static struct verdict
begin_mail(struct world *w)
{
	w->mail = mail_new(&w->session, 100000, "/tmp");
	w->mail->trace = trace_new(w->mail->arena);
	w->mail->envelope.sender = "a@example.org";
	return chain_mail(w->chain, w->mail);
}

static void
complete_mail(struct world *w)
{
	static const char header[] = "Subject: x\r\n";

	headers_parse(&w->mail->headers, w->mail->arena, header,
	    sizeof(header) - 1);
	w->mail->stage = MAIL_STAGE_BODY;
	chain_header_done(w->chain);
	task_yield();
	body_append(w->mail->body, "hello\r\n", 7);
	chain_body_grown(w->chain);
	task_yield();
	w->mail->stage = MAIL_STAGE_COMPLETE;
}

static struct verdict
end_mail(struct world *w)
{
	complete_mail(w);
	return chain_eom(w->chain);
}

static struct verdict
play(struct world *w, char event)
{
	struct recipient *r;
	struct verdict v = VERDICT_CONTINUE;

	switch (event) {
	case 'C':
		return chain_connect(w->chain);
	case 'H':
		return chain_helo(w->chain);
	case 'M':
		v = begin_mail(w);
		task_yield();
		return v;
	case 'R':
		r = envelope_add_recipient(&w->mail->envelope, w->mail->arena,
		    "b@example.net");
		return chain_rcpt(w->chain, r);
	case 'D':
		return chain_data(w->chain);
	case 'E':
		return end_mail(w);
	default:
		chain_abort(w->chain);
		return VERDICT_CONTINUE;
	}
}

static const struct chain_case cases[] = {
	{ "two in order", { { .digit = '1', .finding = "m" },
	    { .digit = '2', .finding = "n" } }, "CHMRDE", ACTION_CONTINUE,
	    NULL, "1C 2C 1H 2H 1M 2M 1R 2R 1D 2D 1N 1B 1E 2N 2B 2E 1Q 2Q",
	    "mn" },
	{ "reject at connect", { { .digit = '1', .at = 'C',
	    .action = ACTION_REJECT }, { .digit = '2' } }, "CHM",
	    ACTION_REJECT, "a", "1C 1Q 2Q", NULL },
	{ "accept at connect", { { .digit = '1', .at = 'C',
	    .action = ACTION_ACCEPT }, { .digit = '2' } }, "CHX",
	    ACTION_CONTINUE, NULL, "1C 1Q 2C 2H 2Q", NULL },
	{ "reject at mail", { { .digit = '1' }, { .digit = '2', .at = 'M',
	    .action = ACTION_REJECT }, { .digit = '3' } }, "M",
	    ACTION_REJECT, "b", "1M 2M 1A 2A 1Q 2Q 3Q", NULL },
	{ "accept at mail", { { .digit = '1', .at = 'M',
	    .action = ACTION_ACCEPT }, { .digit = '2' } }, "MRE",
	    ACTION_CONTINUE, NULL, "1M 1A 2M 2R 2N 2B 2E 1Q 2Q", NULL },
	{ "reject of a recipient", { { .digit = '1', .at = 'R',
	    .action = ACTION_REJECT }, { .digit = '2' } }, "MRD",
	    ACTION_CONTINUE, NULL, "1M 2M 1R 1D 2D 1A 2A 1Q 2Q", NULL },
	{ "hold at rcpt", { { .digit = '1', .at = 'R', .hold = "see" },
	    { .digit = '2' } }, "MRD", ACTION_CONTINUE, NULL,
	    "1M 2M 1R 2R 1D 2D 1A 2A 1Q 2Q", NULL, "see" },
	{ "hold at eom, and accept", { { .digit = '1', .at = 'E',
	    .action = ACTION_ACCEPT, .hold = "see" } }, "MRE",
	    ACTION_CONTINUE, NULL, "1M 1R 1N 1B 1E 1Q", NULL, "see" },
	{ "hold at eom", { { .digit = '1', .at = 'E', .hold = "see" } }, "MRE",
	    ACTION_CONTINUE, NULL, "1M 1R 1N 1B 1E 1Q", NULL, "see" },
	{ "discard at rcpt", { { .digit = '1' }, { .digit = '2', .at = 'R',
	    .action = ACTION_DISCARD } }, "MRRDE", ACTION_DISCARD, "b",
	    "1M 2M 1R 2R 1A 2A 1Q 2Q", NULL },
	{ "reject at eom", { { .digit = '1' }, { .digit = '2', .at = 'E',
	    .action = ACTION_REJECT }, { .digit = '3' } }, "MRE",
	    ACTION_REJECT, "b",
	    "1M 2M 3M 1R 2R 3R 1N 1B 1E 2N 2B 2E 3A 1Q 2Q 3Q", NULL },
	{ "abort twice", { { .digit = '1' } }, "MRXX", ACTION_CONTINUE, NULL,
	    "1M 1R 1A 1Q", NULL },
	{ "a looker", { { .digit = '7', .finding = "l" } }, "MRE",
	    ACTION_CONTINUE, NULL, "7M 7N 7B 7E", "l" },
	{ "a looker's findings keep their place",
	    { { .digit = '1', .finding = "m" }, { .digit = '7',
	    .finding = "l" }, { .digit = '2', .finding = "n" } }, "MRE",
	    ACTION_CONTINUE, NULL,
	    "1M 2M 7M 1R 2R 7N 7B 7E 1N 1B 1E 2N 2B 2E 1Q 2Q", "mln" },
	{ "a looker is cancelled", { { .digit = '7' }, { .digit = '1' } },
	    "MX", ACTION_CONTINUE, NULL, "1M 7M 7A 1A 1Q", NULL },
	{ "a looker never decides", { { .digit = '7', .at = 'E',
	    .action = ACTION_REJECT } }, "MRE", ACTION_CONTINUE, NULL,
	    "7M 7N 7B 7E", NULL },
};

static void
check(const struct world *w, const struct chain_case *c, struct verdict v)
{
	const struct envelope *envelope = w->mail != NULL ?
	    &w->mail->envelope : NULL;
	char found[16] = "";

	CASE_ASSERT(c->name, v.action == c->want);
	CASE_ASSERT(c->name, (v.filter == NULL) == (c->filter == NULL));
	if (v.filter != NULL && c->filter != NULL)
		CASE_ASSERT(c->name, strcmp(v.filter, c->filter) == 0);
	if (envelope != NULL) {
		CASE_ASSERT(c->name, envelope->hold == (c->hold != NULL));
		CASE_ASSERT(c->name, c->hold == NULL || (envelope->hold &&
		    strcmp(c->hold, envelope->hold_reason) == 0));
	}
	if (c->findings == NULL)
		return;
	for (const struct finding *f = w->mail->findings; f != NULL;
	    f = f->next)
		strcat(found, f->method);
	CASE_ASSERT(c->name, strcmp(found, c->findings) == 0);
}

static void
run_cases(void *argument)
{
	(void)argument;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct chain_case *c = &cases[i];
		struct verdict v = VERDICT_CONTINUE;
		struct world w;

		world_init(&w, c->fakes);
		for (const char *p = c->until; *p != '\0'; p++)
			if (*p != 'M' || w.chain->held.action ==
			    ACTION_CONTINUE)
				v = play(&w, *p);
			else
				v = chain_mail(w.chain, NULL);
		check(&w, c, v);
		world_release(&w);
		if (strncmp(events, c->events, strlen(c->events)) != 0)
			fprintf(stderr, "\n%s: %s", c->name, events);
		CASE_ASSERT(c->name, strncmp(events, c->events,
		    strlen(c->events)) == 0);
	}
}

static struct verdict
never_ready(struct filter_run *run)
{
	finding_add(run, "early", "none", NULL);
	task_sleep(3600000);
	return VERDICT_CONTINUE;
}

static void
run_deadline(void *argument)
{
	static const struct filter slow = {
		.name = "slow", .traits = FILTER_LOOKS, .mail = never_ready,
	};
	static const struct fake fakes[FAKES_MAX] = { { .digit = '7' },
		{ .digit = '1' } };
	struct verdict v;
	struct world w;

	(void)argument;
	world_init(&w, fakes);
	w.entries[0].filter = &slow;
	chain_free(&w.chain);
	w.chain = chain_new(&w.plan, &w.session);
	begin_mail(&w);
	envelope_add_recipient(&w.mail->envelope, w.mail->arena, "b@c");
	task_yield();
	w.mail->deadline = task_now();
	v = end_mail(&w);
	CU_ASSERT_EQUAL(v.action, ACTION_CONTINUE);
	CU_ASSERT_PTR_NOT_NULL(finding_find(w.mail, "early", NULL));
	CU_ASSERT_PTR_NOT_NULL(strstr(events, "1E"));
	world_release(&w);
}

/* The client is so slow that the message's time is up within its header. */
static void
run_silence(void *argument)
{
	static const struct fake fakes[FAKES_MAX] = { { .digit = '7' },
		{ .digit = '1' } };
	const struct finding *f;
	struct world w;

	(void)argument;
	world_init(&w, fakes);
	begin_mail(&w);
	envelope_add_recipient(&w.mail->envelope, w.mail->arena, "b@c");
	w.mail->deadline = task_now();
	task_sleep(1);
	CU_ASSERT_EQUAL(end_mail(&w).action, ACTION_CONTINUE);
	f = finding_find(w.mail, "looker", NULL);
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	CU_ASSERT_STRING_EQUAL(f->result, "temperror");
	CU_ASSERT_PTR_NULL(f->properties);
	CU_ASSERT_TRUE(f->report);
	world_release(&w);
}

static struct verdict
takes_its_time(struct filter_run *run, const char *bytes, size_t len)
{
	(void)bytes, (void)len;
	task_sleep(2);
	finding_add(run, "body", "pass", NULL);
	return VERDICT_CONTINUE;
}

/* The message is complete before the looker has done with a piece of it. */
static void
run_slow_piece(void *argument)
{
	static const struct filter slow = {
		.name = "slow", .traits = FILTER_LOOKS, .body = takes_its_time,
		.eom = on_eom,
	};
	static const struct fake fakes[FAKES_MAX] = { { .digit = '7',
		.finding = "end" } };
	struct world w;

	(void)argument;
	world_init(&w, fakes);
	w.entries[0].filter = &slow;
	chain_free(&w.chain);
	w.chain = chain_new(&w.plan, &w.session);
	begin_mail(&w);
	envelope_add_recipient(&w.mail->envelope, w.mail->arena, "b@c");
	w.mail->deadline = task_deadline(5000);
	CU_ASSERT_EQUAL(end_mail(&w).action, ACTION_CONTINUE);
	CU_ASSERT_PTR_NOT_NULL(finding_find(w.mail, "body", NULL));
	CU_ASSERT_PTR_NOT_NULL(finding_find(w.mail, "end", NULL));
	world_release(&w);
}

static enum action word;

static void
hear_word(struct filter_run *run, const struct verdict *verdict)
{
	word = verdict->action;
	note(run, 'W');
}

/* What the disk or the next hop says comes after the filters' verdict. */
static void
run_last_word(void *argument)
{
	static const struct filter listens = {
		.name = "listens", .eom = on_eom, .abort = on_abort,
		.ended = hear_word,
	};
	static const struct fake fakes[FAKES_MAX] = { { .digit = '1' } };
	static const struct verdict refused = { .action = ACTION_REJECT };
	struct world w;

	(void)argument;
	world_init(&w, fakes);
	w.entries[0].filter = &listens;
	for (int i = 0; i < 3; i++) {
		begin_mail(&w);
		envelope_add_recipient(&w.mail->envelope, w.mail->arena,
		    "b@c");
		complete_mail(&w);
		events[0] = '\0';
		CU_ASSERT_EQUAL(chain_judge(w.chain).action, ACTION_CONTINUE);
		CU_ASSERT_STRING_EQUAL(events, "1E");
		if (i == 0)
			chain_end(w.chain, &VERDICT_CONTINUE);
		else if (i == 1)
			chain_end(w.chain, &refused);
		chain_abort(w.chain);
		CU_ASSERT_STRING_EQUAL(events, "1E 1W");
		CU_ASSERT_EQUAL(word, i == 0 ? ACTION_CONTINUE : i == 1 ?
		    ACTION_REJECT : ACTION_TEMPFAIL);
		mail_free(&w.mail);
	}
	world_release(&w);
}

static void
in_a_task(task_f *f)
{
	task_init();
	task_detach("test", f, NULL);
	task_loop();
	task_shutdown();
}

static void
events_and_verdicts(void)
{
	in_a_task(run_cases);
}

static void
deadline_of_lookers(void)
{
	in_a_task(run_deadline);
}

static void
silence_of_lookers(void)
{
	in_a_task(run_silence);
}

static void
slow_pieces(void)
{
	in_a_task(run_slow_piece);
}

static void
last_word(void)
{
	in_a_task(run_last_word);
}

SUITE(chain,
    { "the last word", last_word },
    { "events and verdicts", events_and_verdicts },
    { "deadline of lookers", deadline_of_lookers },
    { "silence of lookers", silence_of_lookers },
    { "a looker slower than the message", slow_pieces })
