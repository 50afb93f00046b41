/* How DNS lists fare. */
#include "policy/dnsbl_list.h"

#include <stdio.h>

#include "base/arena.h"
#include "base/counter.h"
#include "base/dns.h"
#include "base/log.h"
#include "base/net.h"
#include "base/table.h"
#include "base/task.h"

#define SILENT_AFTER	5		/* failures one after the other */
#define SILENT_MS	60000		/* nobody asks it so long */

static const struct counter_row counter_rows[] = {
	{ "millgate_dnsbl_answers_total", COUNTER_TOTAL,
	    "What DNS lists answered." },
};
COUNTER_TABLE(counter_rows)

void
dnsbl_list_init(struct dnsbl_list *list, const struct table *table)
{
	static const char *const names[DNSBL_ANSWERS] = {
		[DNSBL_ANSWER_LISTED] = "listed",
		[DNSBL_ANSWER_NOT] = "not-listed",
		[DNSBL_ANSWER_ERROR] = "error",
		[DNSBL_ANSWER_NONE] = "none",
	};
	const char *why;
	char labels[256];

	list->shown = list->zone;
	if (table != NULL)
		table_find(table, list->zone, &list->shown, &why);
	for (int i = 0; i < DNSBL_ANSWERS; i++) {
		snprintf(labels, sizeof(labels), "list=\"%s\",answer=\"%s\"",
		    list->shown, names[i]);
		list->counters[i] = counter_get(counter_rows[0].name, labels);
	}
}

static void
switch_off(struct dnsbl_list *list, const char *why)
{
	if (!list->off)
		log_warn(NULL, "dnsbl: %s is switched off: %s", list->shown,
		    why);
	list->off = true;
	list->on = false;
	snprintf(list->why, sizeof(list->why), "%s", why);
}

static void
switch_on(struct dnsbl_list *list)
{
	if (list->off)
		log_info(NULL, "dnsbl: %s is on again", list->shown);
	list->off = false;
	list->on = true;
}

bool
dnsbl_list_is_good(const struct dnsbl_list *list, bool ipv6)
{
	return !list->off && !(ipv6 && list->off6);
}

bool
dnsbl_list_may_ask(struct dnsbl_list *list, bool ipv6)
{
	if (!dnsbl_list_is_good(list, ipv6))
		return false;
	if (list->failures < SILENT_AFTER)
		return true;
	if (task_now() < list->silent_until)
		return false;
	list->silent_until = task_deadline(SILENT_MS);
	return true;
}

static void
note_failure(struct dnsbl_list *list, const char *why)
{
	counter_add(list->counters[DNSBL_ANSWER_NONE], 1);
	if (++list->failures < SILENT_AFTER)
		return;
	if (!list->silent)
		log_warn(NULL, "dnsbl: %s does not answer: %s", list->shown,
		    why != NULL ? why : "no answer");
	list->silent = true;
	list->silent_until = task_deadline(SILENT_MS);
}

static void
note_answer(struct dnsbl_list *list)
{
	if (list->silent)
		log_info(NULL, "dnsbl: %s answers again", list->shown);
	list->silent = false;
	list->failures = 0;
}

/* What of an answer is none of a list; NULL: nothing. */
static const char *
find_error(struct arena *arena, const struct dns_answer *answer)
{
	char text[NET_TEXT_SIZE];

	if (answer->status != DNS_FOUND)
		return NULL;
	for (size_t i = 0; i < answer->count; i++) {
		const struct sockaddr_in in = { .sin_family = AF_INET,
			.sin_addr = answer->records[i].a };
		enum dnsbl_code code = dnsbl_code(in.sin_addr);

		if (code != DNSBL_LISTED)
			return arena_printf(arena, code == DNSBL_ERROR ?
			    "it answers with the error %s" : "it answers %s, "
			    "which is no listing", net_address_print(
			    (const struct sockaddr *)&in, text));
	}
	return NULL;
}

enum answer
dnsbl_list_judge(struct arena *arena, const struct dns_answer *listed,
    const struct dns_answer *unlisted, const char **why)
{
	if ((*why = find_error(arena, listed)) != NULL ||
	    (*why = find_error(arena, unlisted)) != NULL)
		return ANSWER_NO;
	if (unlisted->status == DNS_FOUND) {
		*why = "it lists everything";
		return ANSWER_NO;
	}
	if (listed->status == DNS_NXDOMAIN || listed->status == DNS_NODATA) {
		*why = "it does not have its test entry";
		return ANSWER_NO;
	}
	if (listed->status == DNS_FAILED || unlisted->status == DNS_FAILED) {
		*why = "DNS does not answer";
		return ANSWER_UNKNOWN;
	}
	return ANSWER_YES;
}

enum answer
dnsbl_list_tested(struct dnsbl_list *list, struct arena *arena,
    const struct dns_answer *listed, const struct dns_answer *unlisted)
{
	const char *why;
	enum answer answer = dnsbl_list_judge(arena, listed, unlisted, &why);

	list->tested = true;
	if (answer == ANSWER_NO)
		switch_off(list, why);
	if (answer != ANSWER_YES)
		return answer;
	note_answer(list);
	switch_on(list);
	return answer;
}

void
dnsbl_list_tested6(struct dnsbl_list *list, struct arena *arena,
    const struct dns_answer *listed, const struct dns_answer *unlisted)
{
	const char *why;

	switch (dnsbl_list_judge(arena, listed, unlisted, &why)) {
	case ANSWER_YES:
		if (list->off6)
			log_info(NULL, "dnsbl: %s is on for IPv6",
			    list->shown);
		list->off6 = false;
		return;
	case ANSWER_NO:
		/* It is no fault to list IPv4 alone. */
		if (!list->off6)
			(unlisted->status == DNS_FOUND ? log_warn :
			    log_info)(NULL, "dnsbl: %s is switched off for "
			    "IPv6: %s", list->shown, why);
		list->off6 = true;
		snprintf(list->why6, sizeof(list->why6), "%s", why);
		return;
	case ANSWER_UNKNOWN:
		return;
	}
}

bool
dnsbl_list_heard(struct dnsbl_list *list, struct arena *arena,
    const struct dns_answer *answer)
{
	const char *error;

	if (answer->status == DNS_FAILED) {
		note_failure(list, answer->why);
		return false;
	}
	note_answer(list);
	if ((error = find_error(arena, answer)) != NULL) {
		counter_add(list->counters[DNSBL_ANSWER_ERROR], 1);
		switch_off(list, error);
		return false;
	}
	counter_add(list->counters[answer->status == DNS_FOUND ?
	    DNSBL_ANSWER_LISTED : DNSBL_ANSWER_NOT], 1);
	return answer->status == DNS_FOUND;
}

const char *
dnsbl_list_state(struct arena *arena, const struct dnsbl_list *list)
{
	if (list->off)
		return arena_printf(arena, "off: %s", list->why);
	if (list->silent)
		return "does not answer";
	if (list->on && list->off6)
		return arena_printf(arena, "on, but for IPv6: %s", list->why6);
	return list->on ? "on" : "untested";
}

