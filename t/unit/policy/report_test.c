/* The requests of our own processes about reports. */
#include "policy/report.h"

#include <string.h>

#include "base/buf.h"
#include "policy/protocol.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

static const struct {
	const char *name, *request, *want;
} cases[] = {
	{ "a row", "report_verb=add\nreport_domain=a.test\nreport_head=h\n"
	    "report_row=r\nreport_count=1\n", "action=OK\n\n" },
	{ "no count", "report_verb=add\nreport_domain=a.test\n",
	    "action=FULL\n\n" },
	{ "a blank", "report_verb=add\nreport_domain=a b\nreport_count=1\n",
	    "action=FULL\n\n" },
	{ "nothing due", "report_verb=claim\n", "action=NONE\n\n" },
	{ "no id", "report_verb=done\nreport_domain=a.test\nreport_id=x\n",
	    "action=NONE\n\n" },
	{ "another verb", "report_verb=drop\n",
	    "action=ERROR no such verb\n\n" },
};

static void
ask(struct rig *rig)
{
	struct reports *reports = reports_new(rig->conf, rig->store);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_request request = POLICY_REQUEST_INIT;
		struct buf answer = BUF_INIT;
		const char *line = cases[i].request, *why;

		for (; *line != '\0'; line = strchr(line, '\n') + 1)
			CASE_ASSERT(cases[i].name, policy_request_line(
			    &request, line, (size_t)(strchr(line, '\n') + 1 -
			    line), &why) == 0);
		reports_serve(reports, &request, &answer);
		CASE_ASSERT(cases[i].name, strcmp(answer.data,
		    cases[i].want) == 0);
		policy_request_release(&request);
		buf_release(&answer);
	}
	reports_free(&reports);
}

static void
requests(void)
{
	rig_each("dmarc_report { email = \"r@us.test\" interval = 7d }", ask);
}

SUITE(report,
    { "requests", requests })
