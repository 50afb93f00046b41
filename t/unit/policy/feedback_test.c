/* What is kept of accepted messages, over each back end. */
#include "policy/feedback.h"

#include <stdio.h>
#include <string.h>

#include "policy/store.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

static void
add(struct policy_request *request, const char *name, const char *value)
{
	char line[4000];
	const char *why;
	int len = snprintf(line, sizeof(line), "%s=%s\n", name, value);

	CU_ASSERT_FATAL(policy_request_line(request, line, (size_t)len,
	    &why) == 0);
}

static void
remember(struct rig *rig, const char *id, const char *sender,
    const char *recipients)
{
	struct policy_request request = POLICY_REQUEST_INIT;
	const struct policy_outcome outcome = { .id = id,
		.kind = OUTCOME_ACCEPTED, .request = &request };

	add(&request, "request", POLICY_REQUEST_OUTCOME);
	add(&request, "client_address", "192.0.2.1");
	add(&request, "sender", sender);
	add(&request, "auth_domains", "dkim=example.org spf=example.net");
	add(&request, "recipient", recipients);
	feedback_remember(rig->store, &outcome);
	policy_request_release(&request);
}

static void
keep_and_recall(struct rig *rig)
{
	struct policy_request request = POLICY_REQUEST_INIT;
	char many[600];
	const char *why;

	memset(many, 'r', sizeof(many) - 1);
	many[sizeof(many) - 1] = '\0';
	remember(rig, "ID1", "a@example.org", "b@example.net");
	remember(rig, "ID2", "a\tb@example.org", many);
	remember(rig, "ID 3}", "a@example.org", "b@example.net");

	CU_ASSERT(feedback_recall(rig->store, "ID1", &request, &why) ==
	    ANSWER_YES);
	CU_ASSERT_STRING_EQUAL(policy_value(&request, POLICY_REQUEST),
	    POLICY_REQUEST_OUTCOME);
	CU_ASSERT_STRING_EQUAL(policy_value(&request, POLICY_SENDER),
	    "a@example.org");
	CU_ASSERT_STRING_EQUAL(policy_value(&request, POLICY_AUTH_DOMAINS),
	    "dkim=example.org spf=example.net");
	CU_ASSERT_STRING_EQUAL(policy_value(&request, POLICY_RECIPIENT),
	    "b@example.net");

	/* What can't be kept is left out. */
	CU_ASSERT(feedback_recall(rig->store, "ID2", &request, &why) ==
	    ANSWER_YES);
	CU_ASSERT_STRING_EQUAL(policy_value(&request, POLICY_CLIENT_ADDRESS),
	    "192.0.2.1");
	CU_ASSERT_STRING_EQUAL(policy_value(&request, POLICY_SENDER), "");
	CU_ASSERT_STRING_EQUAL(policy_value(&request, POLICY_RECIPIENT), "");

	CU_ASSERT(feedback_recall(rig->store, "ID4", &request, &why) ==
	    ANSWER_NO);
	CU_ASSERT(feedback_recall(rig->store, "ID 3}", &request, &why) ==
	    ANSWER_NO);
	store_shift_clock(rig->store, FEEDBACK_KEEP_MS + 1);
	CU_ASSERT(feedback_recall(rig->store, "ID1", &request, &why) ==
	    ANSWER_NO);
	policy_request_release(&request);
}

static void
recalled(void)
{
	rig_each("", keep_and_recall);
}

SUITE(feedback,
    { "recalled", recalled })
