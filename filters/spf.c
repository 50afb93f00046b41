/* SPF (RFC 7208): finds whether the client may use MAIL FROM and HELO. */
#include "filters/spf.h"

#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/task.h"
#include "filters/spf_check.h"
#include "filters/spf_received.h"
#include "filters/trace.h"

/* In the order of their choices. */
enum refusal { MARK, REFUSE };

#define SPF_OPTIONS(ROW, o)						\
	ROW(o, check_helo, flag, "yes", NULL, NULL,			\
	    "Check the HELO name, too, beside the sender's domain.")	\
	ROW(o, check_trusted, flag, "no", NULL, NULL,			\
	    "Check mail of trusted clients and authenticated users, too.") \
	ROW(o, fail, choice, "mark", "mark|reject", NULL,		\
	    "What becomes of mail whose sender or HELO name fails: the "	\
	    "result is noted, or DATA gets 550 5.7.23 with the domain's "	\
	    "explanation.")						\
	ROW(o, permerror, choice, "mark", "mark|reject", NULL,		\
	    "What becomes of mail whose sender's record is in error; "	\
	    "rejected with 550 5.7.24.")				\
	ROW(o, temperror, choice, "mark", "mark|defer", NULL,		\
	    "What becomes of mail when DNS does not answer; deferred "	\
	    "with 451 4.7.24.")						\
	ROW(o, received_spf, flag, "no", NULL, NULL,			\
	    "Add a Received-SPF field for each name that was checked.")	\
	ROW(o, timeout, duration, "20s", "1s", "2m",			\
	    "How long the check may take, all look-ups together.")

struct spf_options { SPF_OPTIONS(OPTION_FIELD, spf_options) };

static const struct option_row spf_rows[] = {
	SPF_OPTIONS(OPTION_ROW, spf_options)
};

static const struct section_kind spf_section = {
	.name = "spf",
	.doc = "SPF: whether the client may use the sender's domain.",
	.rows = spf_rows,
	.row_count = OPTION_COUNT(spf_rows),
	.size = sizeof(struct spf_options),
};

static void *
spf_setup(const struct conf *conf, const struct conf_section *section,
    const char **why)
{
	(void)conf, (void)why;
	spf_check_setup();
	return (void *)(uintptr_t)section->values;
}

/* An identity that was checked: sender has a local part. */
struct identity {
	const char *property;		/* "mailfrom" or "helo" */
	const char *value, *sender;
	bool decides;			/* mailfrom, or helo of a null sender */
	struct spf_answer answer;
};

/* A message's check, in a task of its own beside the session. */
struct state {
	struct filter_run *run;
	struct task *task;
	int64_t deadline;
	struct identity identities[2];
	size_t count, done;
	bool told;			/* its findings are recorded */
};

static void
check(void *argument)
{
	struct state *state = argument;
	struct filter_run *run = state->run;
	struct session *session = run->session;

	for (; state->done < state->count; state->done++) {
		struct identity *i = &state->identities[state->done];
		struct spf_question question = {
			.client = (const struct sockaddr *)&session->client,
			.sender = i->sender, .helo = session->helo,
			.receiver = session->hostname,
			.deadline = state->deadline };

		i->answer = spf_check(run->mail->arena, &question);
		trace_add(run->mail->trace, run->name,
		    "%s for %s: %s (%u terms, %u void)",
		    spf_result_name(i->answer.result), i->sender,
		    i->answer.why, i->answer.terms, i->answer.voids);
		if (i->answer.explanation != NULL)
			trace_add(run->mail->trace, run->name,
			    "explained by %s: %s", i->answer.explainer,
			    i->answer.explanation);
	}
}

static void
add_identity(struct state *state, const char *property, const char *value,
    const char *sender, bool decides)
{
	state->identities[state->count++] = (struct identity){
	    .property = property, .value = value, .sender = sender,
	    .decides = decides };
}

static struct verdict
spf_mail(struct filter_run *run)
{
	const struct spf_options *options = run->instance;
	struct session *session = run->session;
	struct arena *arena = run->mail->arena;
	const char *sender = run->mail->envelope.sender;
	bool null = sender == NULL || *sender == '\0';
	struct state *state;

	if ((session->trusted || session->user != NULL) &&
	    !options->check_trusted)
		return VERDICT_CONTINUE;
	run->mail_state = state = arena_alloc(arena, sizeof(*state));
	state->run = run;
	state->deadline = task_deadline(options->timeout);
	if (run->mail->deadline != 0 && run->mail->deadline < state->deadline)
		state->deadline = run->mail->deadline;
	if (!null)
		add_identity(state, "mailfrom", sender, sender, true);
	/* RFC 7208, 2.4: a null sender is postmaster at the HELO name. */
	if (session->helo != NULL && (null || options->check_helo))
		add_identity(state, "helo", session->helo,
		    arena_printf(arena, "postmaster@%s", session->helo), null);
	state->task = task_start(run->name, check, state);
	return VERDICT_CONTINUE;
}

static void
record(struct filter_run *run, const struct identity *i)
{
	enum spf_result result = i->answer.result;
	struct finding *finding = finding_add(run, "spf",
	    spf_result_name(result), i->answer.why);

	finding_property(run, finding, "smtp", i->property, i->value);
	finding->report = i->decides || result == SPF_PASS ||
	    result == SPF_FAIL;
}

/* Waits for the check; the findings are there afterwards. */
static void
await(struct filter_run *run, struct state *state)
{
	/* Each look-up has its deadline; this is for none to be trusted. */
	if (task_join(&state->task, run->mail->deadline != 0 ?
	    run->mail->deadline : DEADLINE_NEVER) == -1)
		task_reap(&state->task);
	if (state->told)
		return;
	state->told = true;
	for (size_t n = 0; n < state->count; n++) {
		struct identity *i = &state->identities[n];

		if (n >= state->done)
			i->answer = (struct spf_answer){
			    .result = SPF_TEMPERROR,
			    .why = "no result in time" };
		record(run, i);
	}
}

/* RFC 7372, 3.2 */
static struct verdict
refuse(const struct filter_run *run, const struct identity *i)
{
	const struct spf_options *options = run->instance;
	const struct spf_answer *answer = &i->answer;
	struct arena *arena = run->mail->arena;

	if (answer->result == SPF_FAIL && options->fail == REFUSE)
		return (struct verdict){ .action = ACTION_REJECT, .code = 550,
			.enhanced = "5.7.23", .reason = "spf-fail",
			.text = answer->explanation == NULL ? "SPF: the "
			    "client may not use the sender's domain" :
			    arena_printf(arena, "SPF: the client may not use "
			    "the sender's domain, explained by %s: %s",
			    answer->explainer, answer->explanation) };
	if (answer->result == SPF_PERMERROR && i->decides &&
	    options->permerror == REFUSE)
		return (struct verdict){ .action = ACTION_REJECT, .code = 550,
			.enhanced = "5.7.24", .reason = "spf-permerror",
			.text = "SPF: the domain's record is in error" };
	if (answer->result == SPF_TEMPERROR && i->decides &&
	    options->temperror == REFUSE)
		return (struct verdict){ .action = ACTION_TEMPFAIL,
			.code = 451, .enhanced = "4.7.24",
			.reason = "spf-temperror",
			.text = "SPF: DNS does not answer, try again later" };
	return VERDICT_CONTINUE;
}

/* Before the message comes, where that may spare it. */
static struct verdict
spf_data(struct filter_run *run)
{
	const struct spf_options *options = run->instance;
	struct state *state = run->mail_state;
	struct verdict verdict = VERDICT_CONTINUE;

	if (state == NULL || (options->fail == MARK &&
	    options->permerror == MARK && options->temperror == MARK))
		return verdict;
	await(run, state);
	for (size_t n = 0; n < state->count &&
	    verdict.action == ACTION_CONTINUE; n++)
		verdict = refuse(run, &state->identities[n]);
	return verdict;
}

/* On top of all others, which prove nothing, but for our own Received. */
static void
add_received(struct filter_run *run, const struct state *state)
{
	struct mail *mail = run->mail;
	struct header *top = mail->headers.first;

	while (top != NULL && top->hidden)
		top = top->next;
	for (size_t n = state->count; n-- > 0;) {
		const struct identity *i = &state->identities[n];
		struct spf_received received = {
			.result = spf_result_name(i->answer.result),
			.why = i->answer.why,
			.receiver = run->session->hostname,
			.client = run->session->client_address,
			.identity = i->property,
			.sender = mail->envelope.sender,
			.helo = run->session->helo };

		top = headers_add(&mail->headers, mail->arena, top,
		    "Received-SPF", spf_received_print(mail->arena,
		    &received), true);
	}
}

static struct verdict
spf_eom(struct filter_run *run)
{
	const struct spf_options *options = run->instance;
	struct state *state = run->mail_state;

	run->mail_state = NULL;
	if (state == NULL)
		return VERDICT_CONTINUE;
	await(run, state);
	if (options->received_spf)
		add_received(run, state);
	return VERDICT_CONTINUE;
}

static void
spf_abort(struct filter_run *run)
{
	struct state *state = run->mail_state;

	run->mail_state = NULL;
	if (state != NULL)
		task_reap(&state->task);
}

const struct filter filter_spf = {
	.name = "spf",
	.options = &spf_section,
	.setup = spf_setup,
	.mail = spf_mail,
	.data = spf_data,
	.eom = spf_eom,
	.abort = spf_abort,
};
