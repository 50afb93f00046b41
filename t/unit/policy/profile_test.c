/* Profiles: who is told what became of a message. */
#include "policy/profile.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "t/unit/policy/ask.h"
#include "t/unit/unit.h"

#define MESSAGE	"sender=joe@sender.test|recipient=a@x.test|instance=m1|"

static const char conf[] =
    "rate_limit one { key = { sender } rate = \"9/1h\" }\n"
    "rate_limit two { key = { sender } rate = \"9/1h\" }\n"
    "concurrency_limit three { key = { sender } count = messages "
    "maximum = 9 }\n";

static const char *const services[] = { "one", "two", "three" };

/* "used/reserved" of all three. */
static void
see(struct profiles *profiles, char seen[32])
{
	static const char *const commands[] = { "limit show one",
		"limit show two", "concurrency show three" };

	*seen = '\0';
	for (size_t i = 0; i < 3; i++) {
		struct buf text = BUF_INIT;
		char name[64] = "";
		const char *why;
		int used = 0, reserved = 0;

		strcpy(name, commands[i]);
		strcat(name, " joe@sender.test");
		CU_ASSERT_EQUAL(profiles_command(profiles, name, &text, &why),
		    0);
		if (text.len > 0)
			sscanf(text.data, "%*s used=%d reserved=%d", &used,
			    &reserved);
		snprintf(seen + strlen(seen), 32 - strlen(seen), "%s%d/%d",
		    i > 0 ? " " : "", used, reserved);
		buf_release(&text);
	}
}

/* Each of the services is asked, as if it were a filter. */
static void
ask_all(struct profiles *profiles)
{
	struct policy_request request = POLICY_REQUEST_INIT;
	struct policy_decision decision;
	char text[256];

	for (size_t i = 0; i < 3; i++) {
		snprintf(text, sizeof(text), MESSAGE "service=%s",
		    services[i]);
		ask_request(&request, text);
		profiles_decide(profiles, &(struct policy_query){ &request,
		    POLICY_AT_RCPT, true, false }, &decision);
		CU_ASSERT_EQUAL(decision.verb, POLICY_DUNNO);
	}
	policy_request_release(&request);
}

static void
tell(struct rig *rig)
{
	static const struct {
		const char *name, *asked, *seen;
	} cases[] = {
		{ "none of them", "\t", "1/1 1/1 1/1" },
		{ "another", "on\ttwone\tone.", "1/1 1/1 1/1" },
		{ "the second", "greylist\ttwo", "1/1 1/0 1/1" },
		{ "the first and the last", "one\tthree", "1/0 1/0 0/0" },
		{ "who does not say, told all", "", "2/0 2/0 0/0" },
	};
	struct policy_request request = POLICY_REQUEST_INIT;
	const char *why;
	struct profiles *profiles = profiles_new(rig->conf, rig->store, &why);
	char text[256], seen[32];

	CU_ASSERT_PTR_NOT_NULL_FATAL(profiles);
	ask_all(profiles);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (*cases[i].asked == '\0')
			ask_all(profiles);
		snprintf(text, sizeof(text), MESSAGE "asked=%s",
		    cases[i].asked);
		ask_request(&request, text);
		profiles_outcome(profiles, &(struct policy_outcome){ "m1",
		    OUTCOME_ACCEPTED, false, &request });
		see(profiles, seen);
		CASE_ASSERT(cases[i].name, strcmp(seen, cases[i].seen) == 0);
	}
	policy_request_release(&request);
	profiles_free(&profiles);
}

static void
told(void)
{
	rig_each(conf, tell);
}

SUITE(profile,
    { "outcomes", told })
