/* Services and profiles. */
#include "policy/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "policy/feedback.h"
#include "policy/policy.h"

#define WORDS_MAX	32
#define COMMAND_MAX	1024
#define STRANGE_MAX	16		/* contexts that the log names */

struct service {
	const struct policy_service *service;
	struct policy_instance is;
};

struct profile {
	const char *name;		/* NULL: the default */
	struct service **services;	/* in order */
	size_t count;
};

struct profiles {
	struct store *store;
	struct service *services;
	struct policy_instance *instances;	/* the same, kind by kind */
	size_t count;
	struct profile *profiles;	/* the default is the first */
	size_t profile_count;
	size_t strangers;		/* contexts of no profile, in the log */
};

static const struct option_row profile_rows[] = {
	PROFILE_OPTIONS(OPTION_ROW, profile_options)
};

const struct section_kind profile_section = {
	.name = "policy_profile",
	.titled = true,
	.doc = "Services for some of the MTAs that ask, or some of their "
	    "questions.",
	.rows = profile_rows,
	.row_count = OPTION_COUNT(profile_rows),
	.size = sizeof(struct profile_options),
};

/* --- names --- */

static const char *
name_of(const struct conf_section *section)
{
	return section->title != NULL ? section->title : section->kind->name;
}

const struct policy_service *
profile_service(const struct conf *conf, const char *name,
    const struct conf_section **found, const char **why)
{
	const struct policy_service *service = NULL;
	const struct conf_section *sections;
	size_t count;

	*why = "there is no such service";
	for (size_t k = 0; policy_services[k] != NULL; k++) {
		const struct section_kind *kind = policy_services[k]->options;

		sections = conf_sections(conf, kind->name, &count);
		for (size_t i = 0; i < count; i++) {
			if (strcmp(name_of(&sections[i]), name) != 0)
				continue;
			*why = "two services have that name";
			if (service != NULL)
				return NULL;
			service = policy_services[k];
			*found = &sections[i];
		}
	}
	return service;
}

static void
check_names(const struct conf *conf, const struct conf_section *section,
    const char *const *names, struct buf *errors)
{
	const struct conf_section *found;
	const char *why;

	for (; *names != NULL; names++)
		if (profile_service(conf, *names, &found, &why) == NULL)
			conf_error(errors, conf, section, "services",
			    "%s: %s", *names, why);
}

void
profile_check_options(const struct conf *conf, struct buf *errors)
{
	const struct policy_options *policy = conf_get(conf, "policy");
	const struct conf_section *sections;
	size_t count;

	sections = conf_sections(conf, "policy", &count);
	check_names(conf, count > 0 ? sections : NULL, policy->services,
	    errors);
	sections = conf_sections(conf, profile_section.name, &count);
	for (size_t i = 0; i < count; i++)
		check_names(conf, &sections[i],
		    ((const struct profile_options *)
		    sections[i].values)->services, errors);
	for (size_t k = 0; policy_services[k] != NULL; k++)
		if (policy_services[k]->check != NULL)
			policy_services[k]->check(conf, errors);
}

/* --- setting up --- */

static size_t
count_services(const struct conf *conf)
{
	size_t all = 0, count;

	for (size_t k = 0; policy_services[k] != NULL; k++) {
		conf_sections(conf, policy_services[k]->options->name, &count);
		all += count;
	}
	return all;
}

static int
set_up(struct profiles *profiles, const struct conf *conf, const char **why)
{
	const struct conf_section *sections;
	size_t count;

	for (size_t k = 0; policy_services[k] != NULL; k++) {
		const struct policy_service *kind = policy_services[k];

		sections = conf_sections(conf, kind->options->name, &count);
		for (size_t i = 0; i < count; i++) {
			struct service *s =
			    &profiles->services[profiles->count];

			s->service = kind;
			s->is.name = name_of(&sections[i]);
			s->is.instance = kind->setup(conf, &sections[i],
			    profiles->store, why);
			if (s->is.instance == NULL)
				return -1;
			profiles->instances[profiles->count++] = s->is;
		}
	}
	return 0;
}

static struct service *
find_service(const struct profiles *profiles, const char *name)
{
	for (size_t i = 0; i < profiles->count; i++)
		if (strcmp(profiles->services[i].is.name, name) == 0)
			return &profiles->services[i];
	return NULL;
}

static void
add_profile(struct profiles *profiles, const char *name,
    const char *const *services)
{
	struct profile *profile =
	    &profiles->profiles[profiles->profile_count++];
	size_t count = 0;

	while (services[count] != NULL)
		count++;
	profile->name = name;
	profile->services = calloc(count + 1, sizeof(*profile->services));
	if (profile->services == NULL)
		fatal("out of memory (policy)");
	for (size_t i = 0; i < count; i++)
		if ((profile->services[profile->count] = find_service(profiles,
		    services[i])) != NULL)
			profile->count++;
}

struct profiles *
profiles_new(const struct conf *conf, struct store *store, const char **why)
{
	const struct policy_options *policy = conf_get(conf, "policy");
	struct profiles *profiles = calloc(1, sizeof(*profiles));
	const struct conf_section *sections;
	size_t services = count_services(conf), count;

	sections = conf_sections(conf, profile_section.name, &count);
	if (profiles == NULL || (profiles->services = calloc(services + 1,
	    sizeof(*profiles->services))) == NULL ||
	    (profiles->instances = calloc(services + 1,
	    sizeof(*profiles->instances))) == NULL ||
	    (profiles->profiles = calloc(count + 1,
	    sizeof(*profiles->profiles))) == NULL)
		fatal("out of memory (policy)");
	profiles->store = store;
	if (set_up(profiles, conf, why) != 0) {
		profiles_free(&profiles);
		return NULL;
	}
	add_profile(profiles, NULL, policy->services);
	for (size_t i = 0; i < count; i++)
		add_profile(profiles, sections[i].title,
		    ((const struct profile_options *)
		    sections[i].values)->services);
	return profiles;
}

void
profiles_free(struct profiles **profilesp)
{
	struct profiles *profiles = *profilesp;

	*profilesp = NULL;
	if (profiles == NULL)
		return;
	for (size_t i = 0; i < profiles->count; i++)
		profiles->services[i].service->release(
		    profiles->services[i].is.instance);
	for (size_t i = 0; i < profiles->profile_count; i++)
		free(profiles->profiles[i].services);
	free(profiles->profiles);
	free(profiles->instances);
	free(profiles->services);
	free(profiles);
}

/* --- deciding --- */

static const struct profile *
find_profile(struct profiles *profiles, const struct policy_request *request)
{
	const char *name = policy_known(request, POLICY_POLICY_CONTEXT);

	if (name == NULL)
		return &profiles->profiles[0];
	for (size_t i = 1; i < profiles->profile_count; i++)
		if (strcmp(profiles->profiles[i].name, name) == 0)
			return &profiles->profiles[i];
	if (profiles->strangers++ < STRANGE_MAX)
		log_warn(NULL, "policy: policy_context=%.64s is no profile; "
		    "the default one is used", name);
	return &profiles->profiles[0];
}

static bool
is_asked(const struct policy_service *service,
    const struct policy_query *query)
{
	if ((service->states & query->state) == 0)
		return false;
	return !service->strangers_only || (!query->trusted && (!query->ours ||
	    policy_known(query->request, POLICY_SASL_USERNAME) == NULL));
}

/* True: the matter is decided. */
static bool
ask(const struct service *service, const struct policy_query *query,
    struct policy_decision *decision)
{
	if (!is_asked(service->service, query))
		return false;
	service->service->decide(service->is.instance, query, decision);
	if (decision->verb == POLICY_DUNNO && decision->reason == NULL &&
	    decision->why[0] == '\0')
		return false;
	snprintf(decision->by, sizeof(decision->by), "%s", service->is.name);
	return decision->verb != POLICY_DUNNO;
}

void
profiles_decide(struct profiles *profiles, const struct policy_query *query,
    struct policy_decision *decision)
{
	const char *name = query->ours ? policy_value(query->request,
	    POLICY_SERVICE) : "";
	const struct profile *profile;
	const struct service *one;

	memset(decision, 0, sizeof(*decision));
	if (*name != '\0') {
		if ((one = find_service(profiles, name)) != NULL)
			ask(one, query, decision);
		return;
	}
	profile = find_profile(profiles, query->request);
	for (size_t i = 0; i < profile->count; i++)
		if (ask(profile->services[i], query, decision))
			return;
}

/* A word of a list that is parted by tabs. */
static bool
is_listed(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (;;) {
		if (strncmp(list, name, len) == 0 &&
		    (list[len] == '\0' || list[len] == '\t'))
			return true;
		list += strcspn(list, "\t");
		if (*list++ == '\0')
			return false;
	}
}

static bool
is_told(const struct service *s, const struct policy_outcome *outcome)
{
	const char *asked = policy_known(outcome->request, POLICY_ASKED);

	if (s->service->outcome == NULL || (outcome->kind == OUTCOME_CLOSED &&
	    (s->service->states & POLICY_AT_CLOSE) == 0))
		return false;
	return !s->service->reserves || asked == NULL ||
	    is_listed(asked, s->is.name);
}

void
profiles_outcome(struct profiles *profiles,
    const struct policy_outcome *outcome)
{
	if (outcome->kind == OUTCOME_ACCEPTED)
		feedback_remember(profiles->store, outcome);
	for (size_t i = 0; i < profiles->count; i++) {
		const struct service *s = &profiles->services[i];

		if (is_told(s, outcome))
			s->service->outcome(s->is.instance, outcome);
	}
}

/* --- commands --- */

bool
profiles_command_known(const char *word)
{
	if (strcmp(word, "report") == 0)
		return true;
	for (size_t k = 0; policy_services[k] != NULL; k++)
		if (policy_services[k]->command != NULL &&
		    strcmp(policy_services[k]->command_word, word) == 0)
			return true;
	return false;
}

/* "report ID spam [undo]": all that learn hear of it. */
static int
report(struct profiles *profiles, const char *const *words, size_t count,
    struct buf *out, const char **why)
{
	struct policy_request request = POLICY_REQUEST_INIT;
	struct policy_outcome outcome = { .request = &request };
	enum answer answer;
	int kind = -1;

	*why = "report id " FEEDBACK_WORDS " [undo]";
	if (count >= 3 && (count == 3 || (count == 4 &&
	    strcmp(words[3], "undo") == 0)))
		kind = feedback_find(words[2]);
	if (kind == -1)
		return -2;
	outcome.kind = (enum policy_outcome_kind)kind;
	outcome.id = words[1];
	outcome.undo = count == 4;
	answer = feedback_recall(profiles->store, words[1], &request, why);
	if (answer == ANSWER_YES) {
		profiles_outcome(profiles, &outcome);
		buf_printf(out, "%s: %s%s\n", words[1], words[2],
		    outcome.undo ? ", taken back" : "");
	} else if (answer == ANSWER_NO) {
		*why = "no message of that id was accepted in the last days";
	}
	policy_request_release(&request);
	return answer == ANSWER_YES ? 0 : -1;
}

static size_t
split(char *text, const char *words[WORDS_MAX])
{
	size_t count = 0;
	char *word, *rest;

	for (word = strtok_r(text, " ", &rest); word != NULL &&
	    count < WORDS_MAX; word = strtok_r(NULL, " ", &rest))
		words[count++] = word;
	return count;
}

int
profiles_command(struct profiles *profiles, const char *command,
    struct buf *out, const char **why)
{
	const char *words[WORDS_MAX];
	char text[COMMAND_MAX];
	size_t word_count, first = 0, count = 0;

	*why = "there is no such command";
	if (strlen(command) >= sizeof(text))
		return -2;
	strcpy(text, command);
	if ((word_count = split(text, words)) == 0)
		return -2;
	if (strcmp(words[0], "report") == 0)
		return report(profiles, words, word_count, out, why);
	for (size_t k = 0; policy_services[k] != NULL; k++) {
		const struct policy_service *service = policy_services[k];

		if (service->command == NULL ||
		    strcmp(service->command_word, words[0]) != 0)
			continue;
		for (size_t i = profiles->count; i-- > 0; )
			if (profiles->services[i].service == service) {
				first = i;
				count++;
			}
		return service->command(profiles->instances + first, count,
		    profiles->store, words, word_count, out, why);
	}
	return -2;
}
