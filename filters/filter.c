/* Findings: what a filter found, in the words of RFC 8601. */
#include "filters/filter.h"

#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/log.h"
#include "filters/trace.h"

static const char *
copy(struct arena *arena, const char *string)
{
	return string != NULL ? arena_strdup(arena, string) : NULL;
}

struct finding *
finding_add(struct filter_run *run, const char *method, const char *result,
    const char *reason)
{
	struct arena *arena = run->mail->arena;
	struct finding *finding = arena_alloc(arena, sizeof(*finding));
	struct finding **end = &run->findings;

	finding->filter = run->name;
	finding->method = copy(arena, method);
	finding->result = copy(arena, result);
	finding->reason = copy(arena, reason);
	while (*end != NULL)
		end = &(*end)->next;
	*end = finding;
	return finding;
}

void
finding_property(struct filter_run *run, struct finding *finding,
    const char *type, const char *name, const char *value)
{
	struct arena *arena = run->mail->arena;
	struct property *property, **end = &finding->properties;

	if (value == NULL)
		return;
	property = arena_alloc(arena, sizeof(*property));
	property->type = copy(arena, type);
	property->name = copy(arena, name);
	property->value = copy(arena, value);
	while (*end != NULL)
		end = &(*end)->next;
	*end = property;
}

const struct finding *
finding_find(const struct mail *mail, const char *method,
    const struct finding *after)
{
	const struct finding *finding;

	finding = after != NULL ? after->next : mail->findings;
	for (; finding != NULL; finding = finding->next)
		if (strcmp(finding->method, method) == 0)
			return finding;
	return NULL;
}

const char *
finding_value(const struct finding *finding, const char *type,
    const char *name)
{
	const struct property *property = finding->properties;

	for (; property != NULL; property = property->next)
		if (strcmp(property->type, type) == 0 &&
		    strcasecmp(property->name, name) == 0)
			return property->value;
	return NULL;
}

/* What could not be told is in the log, too: a name server may be ill. */
static void
tell_finding(const struct filter_run *run, const struct finding *f)
{
	struct mail *mail = run->mail;
	const char *reason = f->reason != NULL ? f->reason : "";

	trace_add(mail->trace, run->name, "%s=%s%s%s%s", f->method,
	    f->result, *reason != '\0' ? " (" : "", reason,
	    *reason != '\0' ? ")" : "");
	if (strcmp(f->result, "temperror") == 0)
		log_info(&mail->log, "filter=%s %s=temperror reason=\"%s\"",
		    run->name, f->method, reason);
}

void
findings_merge(struct filter_run *run)
{
	struct mail *mail = run->mail;
	struct finding **end = &mail->findings, *f;

	for (f = run->findings; f != NULL; f = f->next)
		tell_finding(run, f);
	while (*end != NULL)
		end = &(*end)->next;
	*end = run->findings;
	run->findings = NULL;
}
