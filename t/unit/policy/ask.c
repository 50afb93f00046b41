/* A service of the configuration, asked as the server asks it. */
#include "t/unit/policy/ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "t/unit/unit.h"

#define WORDS_MAX	20

void *
ask_setup(struct rig *rig, const struct policy_service *service, size_t n)
{
	const struct conf_section *sections;
	const char *why = NULL;
	size_t count;
	void *instance;

	sections = conf_sections(rig->conf, service->options->name, &count);
	CU_ASSERT_FATAL(n < count);
	instance = service->setup(rig->conf, &sections[n], rig->store, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(instance);
	return instance;
}

static void
put_line(struct policy_request *request, const char *text, size_t len)
{
	char line[1024];
	const char *why;

	snprintf(line, sizeof(line), "%.*s\n", (int)len, text);
	CU_ASSERT_EQUAL(policy_request_line(request, line, strlen(line),
	    &why), 0);
}

void
ask_request(struct policy_request *request, const char *text)
{
	policy_request_reset(request);
	put_line(request, "request=smtpd_access_policy", 27);
	while (*text != '\0') {
		size_t len = strcspn(text, "|");

		put_line(request, text, len);
		text += len + (text[len] == '|');
	}
}

struct policy_decision
ask(const struct policy_service *service, void *instance, bool ours,
    const char *text)
{
	struct policy_decision decision = { .verb = POLICY_DUNNO };
	struct policy_request request = POLICY_REQUEST_INIT;
	struct policy_query query = { .request = &request, .ours = ours };

	ask_request(&request, text);
	query.state = strcmp(policy_value(&request, POLICY_PROTOCOL_STATE),
	    "END-OF-MESSAGE") == 0 ? POLICY_AT_END : POLICY_AT_RCPT;
	query.trusted = ours && policy_known(&request,
	    POLICY_TRUSTED) != NULL;
	service->decide(instance, &query, &decision);
	policy_request_release(&request);
	return decision;
}

void
ask_tell(const struct policy_service *service, void *instance,
    enum policy_outcome_kind kind, const char *text)
{
	struct policy_request request = POLICY_REQUEST_INIT;
	struct policy_outcome outcome = { .id = "1", .kind = kind,
		.request = &request };

	ask_request(&request, text);
	if (policy_known(&request, POLICY_EVENT) != NULL)
		outcome.id = policy_value(&request, POLICY_EVENT);
	outcome.undo = policy_known(&request, POLICY_UNDO) != NULL;
	service->outcome(instance, &outcome);
	policy_request_release(&request);
}

const char *
ask_command(struct rig *rig, const struct policy_service *service,
    const char *words)
{
	static char text[8192];
	struct policy_instance instances[4];
	const struct conf_section *sections;
	char copy[1024], *list[WORDS_MAX];
	struct buf out = BUF_INIT;
	const char *why = "";
	size_t count, n = 0;
	int rc;

	sections = conf_sections(rig->conf, service->options->name, &count);
	CU_ASSERT_FATAL(count <= 4);
	for (size_t i = 0; i < count; i++) {
		instances[i].name = sections[i].title != NULL ?
		    sections[i].title : service->options->name;
		instances[i].instance = ask_setup(rig, service, i);
	}
	snprintf(copy, sizeof(copy), "%s", words);
	for (char *p = strtok_r(copy, " ", &list[WORDS_MAX - 1]); p != NULL;
	    p = strtok_r(NULL, " ", &list[WORDS_MAX - 1]))
		list[n++] = p;
	rc = service->command(instances, count, rig->store,
	    (const char *const *)list, n, &out, &why);
	snprintf(text, sizeof(text), "%s%s", rc != 0 ? "!" : "", rc != 0 ?
	    why : out.len > 0 ? out.data : "");
	buf_release(&out);
	for (size_t i = 0; i < count; i++)
		service->release(instances[i].instance);
	return text;
}
