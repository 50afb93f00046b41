/* The service screen: who is let in, and what it learns of outcomes. */
#include "policy/screen.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/dns.h"
#include "policy/protocol.h"
#include "policy/service.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

enum deed { ASK, REPORT };

static const struct event {
	const char *name;
	enum deed deed;
	const char *address;
	bool ours;
	const char *results;		/* of a report; NULL: accepted */
	enum policy_verb verb;
	int code;
	const char *reason;
} story[] = {
	{ "a stranger", ASK, "192.0.2.1", true, NULL, POLICY_DUNNO, 0, NULL },
	{ "does well", REPORT, "192.0.2.1", true, NULL, 0, 0, NULL },
	{ "has a pass", ASK, "192.0.2.1", true, NULL, POLICY_PASS, 0, NULL },
	{ "which is not for other MTAs", ASK, "192.0.2.1", false, NULL,
	    POLICY_DUNNO, 0, NULL },
	{ "offends", REPORT, "192.0.2.1", true, "offences=19", 0, 0, NULL },
	{ "keeps its pass", ASK, "192.0.2.1", true, NULL, POLICY_PASS, 0,
	    NULL },
	{ "offends again", REPORT, "192.0.2.1", true, "offences=1", 0, 0,
	    NULL },
	{ "loses it", ASK, "192.0.2.1", true, NULL, POLICY_DUNNO, 0, NULL },
	{ "goes on offending", REPORT, "192.0.2.1", true, "offences=21", 0, 0,
	    NULL },
	{ "is banned", ASK, "192.0.2.1", true, NULL, POLICY_DEFER, 450,
	    "banned" },
	{ "everywhere", ASK, "192.0.2.1", false, NULL, POLICY_DEFER, 450,
	    "banned" },
	{ "does well too late", REPORT, "192.0.2.1", true, NULL, 0, 0, NULL },
	{ "is banned still", ASK, "192.0.2.1", true, NULL, POLICY_DEFER, 450,
	    "banned" },
	{ "others do not report", REPORT, "192.0.2.3", false, "offences=99", 0,
	    0, NULL },
	{ "nobody was banned", ASK, "192.0.2.3", true, NULL, POLICY_DUNNO, 0,
	    NULL },
	{ "no number", REPORT, "192.0.2.3", true, "offences=", 0, 0, NULL },
	{ "is none", ASK, "192.0.2.3", true, NULL, POLICY_DUNNO, 0, NULL },
	{ "other results", REPORT, "192.0.2.3", true, "spf=fail", 0, 0, NULL },
	{ "are none of ours", ASK, "192.0.2.3", true, NULL, POLICY_DUNNO, 0,
	    NULL },
	{ "a listed client", ASK, "192.0.2.9", true, NULL, POLICY_REJECT, 554,
	    "dnsbl" },
	{ "with a pass", REPORT, "192.0.2.9", true, NULL, 0, 0, NULL },
	{ "is not looked up", ASK, "192.0.2.9", true, NULL, POLICY_PASS, 0,
	    NULL },
	{ "no address", ASK, "unknown", true, NULL, POLICY_DUNNO, 0, NULL },
};

static const struct dns_answer *
from_list(struct arena *arena, const char *name, enum dns_type type,
    void *argument)
{
	struct dns_answer *answer;
	struct dns_record *record;

	(void)argument;
	if (type != DNS_A || (strcmp(name, "2.0.0.127.zen.test") != 0 &&
	    strcmp(name, "9.2.0.192.zen.test") != 0))
		return NULL;
	answer = arena_alloc(arena, sizeof(*answer));
	record = arena_alloc(arena, sizeof(*record));
	record->a.s_addr = htonl(0x7f000002);
	answer->count = 1;
	answer->records = record;
	return answer;
}

static void
put(struct buf *text, enum policy_attribute attribute, const char *value)
{
	if (value != NULL)
		policy_put(text, attribute, value);
}

static void
make_request(struct policy_request *request, const struct event *event)
{
	struct buf text = BUF_INIT;
	const char *why, *line;

	policy_request_reset(request);
	put(&text, POLICY_REQUEST, "smtpd_access_policy");
	put(&text, POLICY_CLIENT_ADDRESS, event->address);
	put(&text, POLICY_RESULTS, event->results);
	put(&text, POLICY_SERVICE, event->ours ? "screen" : NULL);
	policy_end(&text);
	for (line = text.data; *line != '\0'; line = strchr(line, '\n') + 1)
		CU_ASSERT(policy_request_line(request, line,
		    strcspn(line, "\n") + 1, &why) >= 0);
	buf_release(&text);
}

static void
happens(void *screen, const struct event *event)
{
	struct policy_request request = POLICY_REQUEST_INIT;
	struct policy_decision decision = { .verb = POLICY_DUNNO };
	struct policy_query query = { .request = &request,
		.state = event->ours ? POLICY_AT_CONNECT : POLICY_AT_RCPT,
		.ours = event->ours };

	make_request(&request, event);
	if (event->deed == ASK) {
		screen_service.decide(screen, &query, &decision);
		CASE_ASSERT(event->name, decision.verb == event->verb);
		CASE_ASSERT(event->name, decision.code == event->code);
		CASE_ASSERT(event->name, event->reason == NULL ?
		    decision.reason == NULL : decision.reason != NULL &&
		    strcmp(decision.reason, event->reason) == 0);
	} else {
		screen_service.outcome(screen, &(const struct policy_outcome){
		    .id = event->name, .request = &request,
		    .kind = event->results == NULL ? OUTCOME_ACCEPTED :
		    OUTCOME_REFUSED });
	}
	policy_request_release(&request);
}

static void
run_story(struct rig *rig)
{
	const struct conf_section *section;
	const char *why = "";
	size_t count;
	void *screen;

	dns_set_source(from_list, NULL);
	section = conf_sections(rig->conf, "screen", &count);
	screen = screen_service.setup(rig->conf, section, rig->store, &why);
	for (size_t i = 0; i < sizeof(story) / sizeof(story[0]); i++)
		happens(screen, &story[i]);
	screen_service.release(screen);
	dns_set_source(NULL, NULL);
	CU_ASSERT_EQUAL(rig_log_count(rig, "client=192.0.2.1/32 banned for "
	    "600 s: offences=21"), 1);
}

static void
screens(void)
{
	rig_each("dnsbl { sites = { zen.test } }", run_story);
}

static const struct {
	const char *name, *command;
	int want;
	const char *out, *why;
} commands[] = {
	{ "nothing", "ban show", 0, "nobody is banned\n", "" },
	{ "a ban", "ban add 192.0.2.7 1h too much", 0,
	    "192.0.2.7 banned\n", "" },
	{ "is shown", "ban show", 0, "192.0.2.7/32 ", "" },
	{ "with its reason", "ban show", 0, "by an operator: too much\n", "" },
	{ "for ever", "ban add 2001:db8::/48", 0, "", "" },
	{ "without one", "ban show", 0, ": no reason given\n", "" },
	{ "no time", "ban add 192.0.2.8 soon", -1, "", "TIME is like" },
	{ "no address", "ban add x 1h", -1, "", "that is no address" },
	{ "removed", "ban remove 192.0.2.7", 0, "192.0.2.7 is free\n", "" },
	{ "twice", "ban remove 192.0.2.7", -1, "", "it is not banned" },
	{ "no command", "ban", -2, "", "ban show" },
	{ "nothing to add", "ban add", -2, "", "ban show" },
	{ "too many words", "ban remove a b", -2, "", "ban show" },
};

static void
run_commands(struct rig *rig)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		const char *words[8], *why = "";
		struct buf out = BUF_INIT;
		char text[128], *rest, *word;
		size_t count = 0;

		strcpy(text, commands[i].command);
		for (word = strtok_r(text, " ", &rest); word != NULL;
		    word = strtok_r(NULL, " ", &rest))
			words[count++] = word;
		CASE_ASSERT(commands[i].name, screen_service.command(NULL, 0,
		    rig->store, words, count, &out, &why) ==
		    commands[i].want);
		CASE_ASSERT(commands[i].name, strstr(out.data != NULL ?
		    out.data : "", commands[i].out) != NULL);
		CASE_ASSERT(commands[i].name, commands[i].want == 0 ||
		    strstr(why, commands[i].why) != NULL);
		buf_release(&out);
	}
}

static void obeys(void) { rig_each("", run_commands); }

SUITE(screen, { "a client's story", screens }, { "commands", obeys })
