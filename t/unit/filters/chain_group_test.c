/*
 * Groups and early consultation, with fakes that answer when they are told to:
 * whatever the order of the answers, the outcome is the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/counter.h"
#include "filters/chain_run.h"
#include "filters/trace.h"
#include "filters/view.h"
#include "t/unit/unit.h"

#define FAKES 3

struct fake {
	char name[2];
	enum action action;		/* at the end of the message */
	enum action at_mail;
	struct world *world;
};

struct group_case {
	const char *name;
	struct fake fakes[FAKES];
	enum action want;
	const char *filter;		/* who decides */
	const char *added;		/* names of fields, in order */
};

struct world {
	struct chain_plan plan;
	struct chain_entry entries[FAKES];
	struct fake fakes[FAKES];
	struct session session;
	struct chain *chain;
	struct mail *mail;
	const char *order;		/* who answers when: digits */
	size_t answered;
	struct task_cond next;
	size_t asked;
	char log[256];
	size_t early;			/* body seen before the end */
};

static void
note(struct world *w, const char *name, const char *what)
{
	size_t len = strlen(w->log);

	snprintf(w->log + len, sizeof(w->log) - len, "%s%s ", name, what);
}

/* Until it is this one's turn to answer; false: nobody wants to know. */
static bool
await_order(struct fake *fake)
{
	struct world *w = fake->world;
	char digit = (char)('0' + (fake - w->fakes));

	/* Nobody answers before all were asked. */
	w->asked++;
	task_cond_broadcast(&w->next);
	while (w->asked < FAKES)
		if (task_cond_wait(&w->next, task_deadline(1000)) == -1)
			return false;
	/* One that was given up is passed over. */
	while (w->order[w->answered] != digit)
		if (task_cond_wait(&w->next, task_deadline(50)) == -1)
			break;
	if (w->order[w->answered] != digit)
		return false;
	w->answered++;
	task_cond_broadcast(&w->next);
	return true;
}

static struct verdict
on_mail(struct filter_run *run)
{
	struct fake *fake = run->instance;

	if (fake->at_mail == ACTION_CONTINUE)
		return VERDICT_CONTINUE;
	return (struct verdict){ .action = fake->at_mail, .code = 550 };
}

static struct verdict
on_consult(struct filter_run *run)
{
	struct fake *fake = run->instance;
	struct world *w = fake->world;
	struct mail *mail = run->mail;

	while (run->view == NULL || !run->turn) {
		if (run->view != NULL && !run->turn)
			w->early = body_size(mail->body);
		if (task_cond_wait(&mail->progress, mail->deadline) == -1)
			return VERDICT_CONTINUE;
	}
	if (w->order != NULL && !await_order(fake))
		return VERDICT_CONTINUE;
	return (struct verdict){ .action = fake->action, .code = 550 };
}

static void
on_apply(struct filter_run *run)
{
	struct fake *fake = run->instance;

	headers_add(&run->mail->headers, run->mail->arena, NULL, fake->name,
	    "yes", true);
}

static void
on_abort(struct filter_run *run)
{
	struct fake *fake = run->instance;

	note(fake->world, fake->name, "A");
}

static const struct filter consulted = {
	.name = "consulted", .mail = on_mail, .consult = on_consult,
	.apply = on_apply, .abort = on_abort,
};

static void
world_init(struct world *w, const struct fake *fakes, const char *group)
{
	memset(w, 0, sizeof(*w));
	w->plan.entries = w->entries;
	w->plan.count = FAKES;
	for (size_t i = 0; i < FAKES; i++) {
		struct chain_entry *entry = &w->entries[i];

		w->fakes[i] = fakes[i];
		w->fakes[i].world = w;
		entry->filter = &consulted;
		entry->name = w->fakes[i].name;
		entry->instance = &w->fakes[i];
		entry->group = group;
		entry->seconds = histogram_get("test_seconds", NULL);
		entry->late = counter_get("test_late", NULL);
		for (size_t j = 0; j < CHAIN_ACTIONS; j++)
			entry->outcomes[j] = counter_get("test_out", NULL);
	}
	w->session.arena = arena_new(0);
	w->chain = chain_new(&w->plan, &w->session);
}

static struct verdict
begin_mail(struct world *w)
{
	w->mail = mail_new(&w->session, 100000, "/tmp");
	envelope_add_recipient(&w->mail->envelope, w->mail->arena, "b@c.d");
	return chain_mail(w->chain, w->mail);
}

static void
add_content(struct world *w)
{
	static const char header[] = "Subject: x\r\n";

	headers_parse(&w->mail->headers, w->mail->arena, header,
	    sizeof(header) - 1);
	chain_header_done(w->chain);
	body_append(w->mail->body, "hello\r\n", 7);
	chain_body_grown(w->chain);
}

static void
world_release(struct world *w)
{
	chain_free(&w->chain);
	mail_free(&w->mail);
	arena_free(&w->session.arena);
}

static const struct group_case cases[] = {
	{ "all content", { { .name = "a" }, { .name = "b" },
	    { .name = "c" } }, ACTION_CONTINUE, NULL, "Subject a b c " },
	{ "the last rejects", { { .name = "a" }, { .name = "b" },
	    { .name = "c", .action = ACTION_REJECT } }, ACTION_REJECT, "c",
	    "Subject " },
	{ "two decide, the first counts", { { .name = "a" },
	    { .name = "b", .action = ACTION_TEMPFAIL },
	    { .name = "c", .action = ACTION_REJECT } }, ACTION_TEMPFAIL, "b",
	    "Subject " },
	{ "the first rejects", { { .name = "a", .action = ACTION_REJECT },
	    { .name = "b" }, { .name = "c", .action = ACTION_DISCARD } },
	    ACTION_REJECT, "a", "Subject " },
	{ "one has seen enough", { { .name = "a" },
	    { .name = "b", .action = ACTION_ACCEPT }, { .name = "c" } },
	    ACTION_CONTINUE, NULL, "Subject a c " },
	{ "at mail the first counts", { { .name = "a" },
	    { .name = "b", .at_mail = ACTION_TEMPFAIL },
	    { .name = "c", .at_mail = ACTION_REJECT } }, ACTION_TEMPFAIL,
	    "b", "" },
};

static void
run_case(const struct group_case *c, const char *order)
{
	char name[128], fields[64] = "";
	struct verdict v;
	struct world w;

	snprintf(name, sizeof(name), "%s, %s", c->name, order);
	world_init(&w, c->fakes, "g");
	w.order = order;
	v = begin_mail(&w);
	if (!chain_is_final(v)) {
		v = chain_data(w.chain);
		add_content(&w);
		v = chain_eom(w.chain);
		CASE_ASSERT(name, w.asked == FAKES);
	}
	CASE_ASSERT(name, v.action == c->want);
	CASE_ASSERT(name, c->filter == NULL ? v.filter == NULL :
	    v.filter != NULL && strcmp(v.filter, c->filter) == 0);
	for (const struct header *h = w.mail->headers.first; h != NULL;
	    h = h->next)
		snprintf(fields + strlen(fields), 32, "%.*s ",
		    (int)h->name_len, h->raw);
	CASE_ASSERT(name, strcmp(fields, c->added) == 0);
	world_release(&w);
}

static void
run_all(void *argument)
{
	static const char *const orders[] = { "012", "021", "102", "120",
	    "201", "210" };

	(void)argument;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t j = 0; j < 6; j++)
			run_case(&cases[i], orders[j]);
}

static void
in_task(task_f *f)
{
	task_init();
	task_detach("test", f, NULL);
	task_loop();
	task_shutdown();
}

static void
outcome_never_depends_on_timing(void)
{
	in_task(run_all);
}

/* A looker that waits for the message must not be waited for at DATA. */
static struct verdict
on_body(struct filter_run *run, const char *bytes, size_t len)
{
	(void)run, (void)bytes, (void)len;
	return VERDICT_CONTINUE;
}

static const struct filter looker = {
	.name = "looker", .traits = FILTER_LOOKS, .body = on_body,
};

static void
run_looker(void *argument)
{
	static const struct fake fakes[FAKES] = { { .name = "a" },
	    { .name = "b" }, { .name = "c" } };
	struct world w;

	(void)argument;
	world_init(&w, fakes, NULL);
	w.entries[1].filter = &looker;
	begin_mail(&w);
	task_yield();
	chain_data(w.chain);
	add_content(&w);
	CU_ASSERT_EQUAL(chain_eom(w.chain).action, ACTION_CONTINUE);
	world_release(&w);
}

static void
lookers_wait_beside(void)
{
	in_task(run_looker);
}

static void
run_early(void *argument)
{
	static const struct fake fakes[FAKES] = { { .name = "a" },
	    { .name = "b" }, { .name = "c" } };
	struct world w;

	(void)argument;
	world_init(&w, fakes, NULL);
	w.entries[0].streams = true;
	begin_mail(&w);
	chain_data(w.chain);
	add_content(&w);
	task_yield();
	CU_ASSERT_EQUAL(w.early, 7);
	CU_ASSERT_EQUAL(chain_eom(w.chain).action, ACTION_CONTINUE);
	CU_ASSERT_STRING_EQUAL(w.log, "");
	mail_free(&w.mail);

	/* The client goes in the midst. */
	begin_mail(&w);
	chain_data(w.chain);
	add_content(&w);
	task_yield();
	chain_abort(w.chain);
	CU_ASSERT_STRING_EQUAL(w.log, "aA bA cA ");
	world_release(&w);
}

static void
seen_while_it_arrives(void)
{
	in_task(run_early);
}

SUITE(chain_group,
    { "the outcome never depends on timing", outcome_never_depends_on_timing },
    { "lookers wait beside", lookers_wait_beside },
    { "seen while it arrives", seen_while_it_arrives })
