/* Who may send as whom, as another MTA asks. */
#include "policy/sender_owner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/conf.h"
#include "policy/policy.h"
#include "t/unit/policy/ask.h"
#include "t/unit/unit.h"

static const struct {
	const char *name, *text, *want;	/* the reply's begin, or "" */
} cases[] = {
	{ "a stranger as itself", "sender=a@x.test", "" },
	{ "a stranger as one of us", "sender=Joe@us.test",
	    "Sender address rejected: not logged in" },
	{ "a bounce", "sender=", "" },
	{ "a user as itself", "sender=joe@us.test|sasl_username=joe", "" },
	{ "in other capitals", "sender=joe@us.test|sasl_username=JOE", "" },
	{ "with an extension", "sender=joe+x@us.test|sasl_username=joe", "" },
	{ "one of two owners", "sender=sales@us.test|sasl_username=ann", "" },
	{ "another", "sender=sales@us.test|sasl_username=bob",
	    "Sender address rejected: not owned by user bob" },
	{ "a part of a login", "sender=joe@us.test|sasl_username=jo",
	    "Sender address rejected: not owned by user jo" },
	{ "the owner of a domain", "sender=any@news.test|sasl_username=joe",
	    "" },
	{ "as a stranger", "sender=a@x.test|sasl_username=joe",
	    "Sender address rejected: not owned by user joe" },
};

static void
decide(struct rig *rig)
{
	void *owners = ask_setup(rig, &sender_owner_service, 0);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_decision decision = ask(&sender_owner_service,
		    owners, false, cases[i].text);

		CASE_ASSERT(cases[i].name, strcmp(decision.text,
		    cases[i].want) == 0);
		CASE_ASSERT(cases[i].name, *cases[i].want == '\0' ?
		    decision.verb == POLICY_DUNNO :
		    decision.verb == POLICY_REJECT && decision.code == 553);
	}
	sender_owner_service.release(owners);
}

static void
owned(void)
{
	rig_each("sender_owner o { owners = { \"joe@us.test = joe\", "
	    "\"sales@us.test = joe, ann\", \"@news.test = joe\" } }", decide);
}

static void
silent(struct rig *rig)
{
	void *owners = ask_setup(rig, &sender_owner_service, 0);
	struct policy_decision decision = ask(&sender_owner_service, owners,
	    false, "sender=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@x.test");

	CU_ASSERT_EQUAL(decision.verb, POLICY_DEFER);
	CU_ASSERT_EQUAL(decision.code, 451);
	sender_owner_service.release(owners);
}

/* A pattern that takes too long cannot tell. */
static void
unknown(void)
{
	char path[] = "/tmp/millgate-owners-XXXXXX", text[128];
	int fd = mkstemp(path);

	CU_ASSERT_FATAL(fd >= 0);
	dprintf(fd, "/^(a+)+$/ joe\n");
	close(fd);
	snprintf(text, sizeof(text), "sender_owner o { owners = "
	    "\"pcre:%s\" }", path);
	rig_each(text, silent);
	unlink(path);
}

static void
checks(void)
{
	struct conf *conf = rig_conf("sender_owner o { }");
	struct buf errors = BUF_INIT;

	policy_check(conf, &errors);
	CU_ASSERT_PTR_NOT_NULL_FATAL(errors.data);
	CU_ASSERT_PTR_NOT_NULL(strstr(errors.data, "owners: is required"));
	buf_release(&errors);
	conf_free(&conf);
}

SUITE(sender_owner,
    { "owned or not", owned },
    { "a table that does not answer", unknown },
    { "checks of options", checks })
