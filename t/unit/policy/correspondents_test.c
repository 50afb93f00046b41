/* Known correspondents as a story, and what the service makes of it. */
#include "policy/correspondents.h"

#include <stdio.h>
#include <string.h>

#include "policy/store.h"
#include "t/unit/policy/ask.h"
#include "t/unit/unit.h"

#define DAY	INT64_C(86400000)

static const struct step {
	const char *name;
	int64_t later_ms;
	const char *user, *address;
	int ask;			/* 0: it is learned */
	const char *network;
	enum answer want;
} story_of[] = {
	{ "a stranger", 0, "u@us.test", "f@them.test", 2, "192.0.2.0/24",
	    ANSWER_NO },
	{ "is written to", 0, "u@us.test", "F@them.test", 0, NULL, 0 },
	{ "answers", 0, "u@us.test", "f@them.test", 2, "", ANSWER_YES },
	{ "somebody forges that", 0, "u@us.test", "f@them.test", 1,
	    "192.0.2.0/24", ANSWER_NO },
	{ "answers from a network", 0, "U@us.test", "f@them.test", 2,
	    "192.0.2.0/24", ANSWER_YES },
	{ "which is known now", 0, "u@us.test", "f@them.test", 1,
	    "192.0.2.0/24", ANSWER_YES },
	{ "as others are not", 0, "u@us.test", "f@them.test", 1,
	    "198.51.100.0/24", ANSWER_NO },
	{ "nor no network", 0, "u@us.test", "f@them.test", 1, "",
	    ANSWER_NO },
	{ "another user", 0, "v@us.test", "f@them.test", 2, "192.0.2.0/24",
	    ANSWER_NO },
	{ "another sender", 0, "u@us.test", "g@them.test", 2, "192.0.2.0/24",
	    ANSWER_NO },
	{ "a second network", 0, "u@us.test", "f@them.test", 2, "2", 1 },
	{ "a third", 0, "u@us.test", "f@them.test", 2, "3", ANSWER_YES },
	{ "a fourth", 0, "u@us.test", "f@them.test", 2, "4", ANSWER_YES },
	{ "the first is known still", 0, "u@us.test", "f@them.test", 1,
	    "192.0.2.0/24", ANSWER_YES },
	{ "a fifth", 0, "u@us.test", "f@them.test", 2, "5", ANSWER_YES },
	{ "takes its place", 0, "u@us.test", "f@them.test", 1,
	    "192.0.2.0/24", ANSWER_NO },
	{ "the others are there", 0, "u@us.test", "f@them.test", 1, "2",
	    ANSWER_YES },
	{ "after two months", 60 * DAY, "u@us.test", "f@them.test", 2, "2",
	    ANSWER_YES },
	{ "is written to again", 0, "u@us.test", "f@them.test", 0, NULL, 0 },
	{ "after two more", 60 * DAY, "u@us.test", "f@them.test", 1, "2",
	    ANSWER_YES },
	{ "forgotten in time", 31 * DAY, "u@us.test", "f@them.test", 2, "2",
	    ANSWER_NO },
};

static void
tell(struct rig *rig)
{
	char name[128];
	const char *why;

	for (size_t i = 0; i < sizeof(story_of) / sizeof(story_of[0]); i++) {
		const struct step *step = &story_of[i];
		enum answer answer;

		snprintf(name, sizeof(name), "%s: %s", rig->back_end,
		    step->name);
		store_shift_clock(rig->store, step->later_ms);
		if (step->ask == 0)
			answer = correspondents_learn(rig->store, step->user,
			    &step->address, 1, 90 * DAY, &why);
		else
			answer = correspondents_check(rig->store, step->user,
			    step->address, step->ask == 2, step->network,
			    &why);
		CASE_ASSERT(name, answer == (step->ask == 0 ? ANSWER_YES :
		    step->want));
	}
}

static void
story(void)
{
	rig_each("", tell);
}

/* A stolen account that writes to all the world. */
static void
write_to_all(struct rig *rig)
{
	char texts[20][32];
	const char *addresses[20], *why;
	int known = 0;

	for (int i = 0; i < CORRESPONDENTS_NEW_MAX + 20; i += 20) {
		for (int j = 0; j < 20; j++) {
			snprintf(texts[j], sizeof(texts[j]), "a%d@x.test",
			    i + j);
			addresses[j] = texts[j];
		}
		CU_ASSERT_EQUAL(correspondents_learn(rig->store, "u@us.test",
		    addresses, 20, 90 * DAY, &why), ANSWER_YES);
	}
	for (int i = 0; i < 20; i++)
		known += correspondents_check(rig->store, "u@us.test",
		    addresses[i], true, "", &why) == ANSWER_YES;
	CU_ASSERT_EQUAL(known, 0);
	CU_ASSERT_EQUAL(correspondents_check(rig->store, "u@us.test",
	    "a999@x.test", true, "", &why), ANSWER_YES);
	store_shift_clock(rig->store, 2 * DAY);
	correspondents_learn(rig->store, "u@us.test", addresses, 20, 90 * DAY,
	    &why);
	for (int i = 0; i < 20; i++)
		known += correspondents_check(rig->store, "u@us.test",
		    addresses[i], true, "", &why) == ANSWER_YES;
	CU_ASSERT_EQUAL(known, 20);
}

static void
bounded(void)
{
	rig_each("", write_to_all);
}

/* --- the service --- */

#define SENT	"protocol_state=END-OF-MESSAGE|sender=u@us.test|"		\
	"recipient=a@x.test b@y.test|"
#define IN(recipients) "protocol_state=END-OF-MESSAGE|"		\
	"client_address=192.0.2.1|sender=a@x.test|recipient=" recipients "|"

static enum policy_verb
verb(void *instance, bool ours, const char *text)
{
	return ask(&correspondents_service, instance, ours, text).verb;
}

static void
serve(struct rig *rig)
{
	void *c = ask_setup(rig, &correspondents_service, 0);

	ask_tell(&correspondents_service, c, OUTCOME_ACCEPTED, SENT);
	CU_ASSERT_EQUAL(verb(c, true, IN("u@us.test")
	    "auth_domains=dkim=x.test"), POLICY_DUNNO);
	ask_tell(&correspondents_service, c, OUTCOME_REFUSED, SENT
	    "sasl_username=u");
	CU_ASSERT_EQUAL(verb(c, true, IN("u@us.test")
	    "auth_domains=dkim=x.test"), POLICY_DUNNO);
	ask_tell(&correspondents_service, c, OUTCOME_ACCEPTED, SENT
	    "sasl_username=u");
	CU_ASSERT_EQUAL(verb(c, false, "client_address=192.0.2.1|"
	    "sender=a@x.test|recipient=u@us.test"), POLICY_DUNNO);
	CU_ASSERT_EQUAL(verb(c, true, IN("u@us.test")
	    "auth_domains=dkim=z.test"), POLICY_DUNNO);
	CU_ASSERT_EQUAL(verb(c, true, IN("u@us.test v@us.test")
	    "auth_domains=dkim=x.test"), POLICY_DUNNO);
	CU_ASSERT_EQUAL(verb(c, true, IN("u@us.test")
	    "auth_domains=spf=x.test"), POLICY_PASS);
	CU_ASSERT_EQUAL(verb(c, false, "client_address=192.0.2.200|"
	    "sender=a@x.test|recipient=u@us.test"), POLICY_PASS);
	CU_ASSERT_EQUAL(verb(c, false, "client_address=192.0.3.200|"
	    "sender=a@x.test|recipient=u@us.test"), POLICY_DUNNO);
	CU_ASSERT_EQUAL(verb(c, false, "client_name=mail.y.test|"
	    "sender=b@y.test|recipient=u@us.test"), POLICY_PASS);
	CU_ASSERT_EQUAL(verb(c, false, "client_name=mail.y.test|sender=|"
	    "recipient=u@us.test"), POLICY_DUNNO);
	/* Another MTA's user. */
	CU_ASSERT_EQUAL(verb(c, false, "sasl_username=w|sender=w@us.test|"
	    "recipient=c@z.test"), POLICY_DUNNO);
	CU_ASSERT_EQUAL(verb(c, false, "client_name=z.test|sender=c@z.test|"
	    "recipient=w@us.test"), POLICY_PASS);
	/* A trusted machine. */
	ask_tell(&correspondents_service, c, OUTCOME_ACCEPTED, "trusted=yes|"
	    "sender=n@us.test|recipient=d@z.test");
	CU_ASSERT_EQUAL(verb(c, false, "client_name=z.test|sender=d@z.test|"
	    "recipient=n@us.test"), POLICY_PASS);
	correspondents_service.release(c);
}

static void
service(void)
{
	rig_each("", serve);
}

SUITE(correspondents,
    { "a story", story },
    { "one user's are bounded", bounded },
    { "the service", service })
