/* SPF (RFC 7208): finds whether the client may use MAIL FROM and HELO. */
#include "filters/spf.h"

#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/task.h"
#include "filters/spf_check.h"
#include "filters/trace.h"

#define SPF_OPTIONS(ROW, o)						\
	ROW(o, check_helo, flag, "yes", NULL, NULL,			\
	    "Check the HELO name, too, beside the sender's domain.")	\
	ROW(o, check_trusted, flag, "no", NULL, NULL,			\
	    "Check mail of trusted clients and authenticated users, too.") \
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

/* One identity; sender has a local part, helo is for macros. */
static struct spf_answer
check(struct filter_run *run, const char *sender, int64_t deadline)
{
	struct session *session = run->session;
	struct spf_question question = {
		.client = (const struct sockaddr *)&session->client,
		.sender = sender, .helo = session->helo, .deadline = deadline };
	struct spf_answer answer = spf_check(run->mail->arena, &question);

	trace_add(run->mail->trace, run->name,
	    "%s for %s: %s (%u terms, %u void)",
	    spf_result_name(answer.result), sender, answer.why, answer.terms,
	    answer.voids);
	return answer;
}

static struct finding *
record(struct filter_run *run, const struct spf_answer *answer,
    const char *property, const char *value)
{
	struct finding *finding = finding_add(run, "spf",
	    spf_result_name(answer->result), answer->why);

	finding_property(run, finding, "smtp", property, value);
	return finding;
}

static struct verdict
spf_mail(struct filter_run *run)
{
	const struct spf_options *options = run->instance;
	struct session *session = run->session;
	const char *sender = run->mail->envelope.sender;
	bool null = sender == NULL || *sender == '\0';
	int64_t deadline = task_deadline(options->timeout);
	struct spf_answer answer;

	if ((session->trusted || session->user != NULL) &&
	    !options->check_trusted)
		return VERDICT_CONTINUE;
	if (run->mail->deadline != 0 && run->mail->deadline < deadline)
		deadline = run->mail->deadline;
	if (!null) {
		answer = check(run, sender, deadline);
		record(run, &answer, "mailfrom", sender)->report = true;
	}
	if (session->helo == NULL || (!null && !options->check_helo))
		return VERDICT_CONTINUE;
	/* RFC 7208, 2.4: a null sender is postmaster at the HELO name. */
	answer = check(run, arena_printf(run->mail->arena, "postmaster@%s",
	    session->helo), deadline);
	record(run, &answer, "helo", session->helo)->report = null ||
	    answer.result == SPF_PASS || answer.result == SPF_FAIL;
	return VERDICT_CONTINUE;
}

const struct filter filter_spf = {
	.name = "spf",
	.options = &spf_section,
	.traits = FILTER_LOOKS,
	.setup = spf_setup,
	.mail = spf_mail,
};
