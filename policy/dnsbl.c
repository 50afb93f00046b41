/*
 * DNS lists.
 *
 * Sites of the same name are one list, asked once.  The resolver caches; what
 * is kept here is only how each list fares.
 */
#include "policy/dnsbl.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/dns.h"
#include "base/log.h"
#include "base/net.h"
#include "base/table.h"
#include "base/task.h"
#include "policy/dnsbl_list.h"
#include "policy/subject.h"

#define RETEST_MS	60000		/* a test that could not be made */
#define TEST_MS		10000
#define TEXT_MS		1000
#define TEXT_MAX	150		/* of a site, in a reply */

struct dnsbl {
	const struct conf *conf;
	const struct dnsbl_options *options;
	struct dnsbl_site *sites;	/* of all lists */
	struct dnsbl_list lists[DNSBL_SITES_MAX];
	size_t count;
	struct task_cond tested;	/* a list was */
	struct task *tester;
	unsigned users;
};

/* One name asked of one list. */
struct lookup {
	struct arena *arena;
	struct dnsbl_list *list;
	const char *subject, *name;
	bool ipv6;
	int64_t deadline;
	const struct dns_answer *answer;
	struct task *task;
};

/* One for each process, as the resolver is. */
static struct dnsbl *shared;

/* --- setting up --- */

/* Sorted by name, so that those of one list stand together. */
static int
compare(const void *a, const void *b)
{
	return strcmp(((const struct dnsbl_site *)a)->zone,
	    ((const struct dnsbl_site *)b)->zone);
}

static void
add_lists(struct dnsbl *dnsbl, const char *const *texts, bool domains,
    struct dnsbl_site *sites)
{
	size_t count = 0;
	const char *why;

	for (; texts[count] != NULL; count++)
		if (dnsbl_site_parse(texts[count], &sites[count], &why) != 0)
			fatal("dnsbl: %s: %s", texts[count], why);
	qsort(sites, count, sizeof(*sites), compare);
	for (size_t i = 0; i < count; i++) {
		struct dnsbl_list *list = &dnsbl->lists[dnsbl->count];

		if (i > 0 && compare(&sites[i - 1], &sites[i]) == 0) {
			list[-1].site_count++;
			continue;
		}
		list->zone = sites[i].zone;
		list->domains = domains;
		list->sites = &sites[i];
		list->site_count = 1;
		dnsbl_list_init(list, dnsbl->options->names);
		dnsbl->count++;
	}
}

static size_t
count_texts(const char *const *texts)
{
	size_t count = 0;

	while (texts[count] != NULL)
		count++;
	return count;
}

const struct dnsbl_options *
dnsbl_options(const struct dnsbl *dnsbl)
{
	return dnsbl->options;
}

/* --- look-ups, many at a time --- */

static void
run_lookup(void *argument)
{
	struct lookup *lookup = argument;

	lookup->answer = dns_query(lookup->arena, lookup->name, DNS_A,
	    lookup->deadline);
}

static void
run_lookups(struct lookup *lookups, size_t count)
{
	for (size_t i = 1; i < count; i++)
		lookups[i].task = task_start("dnsbl", run_lookup, &lookups[i]);
	if (count > 0)
		run_lookup(&lookups[0]);
	for (size_t i = 1; i < count; i++)
		if (task_join(&lookups[i].task, DEADLINE_NEVER) != 0)
			task_reap(&lookups[i].task);
}

static const char *
name_in(struct arena *arena, const struct dnsbl_list *list,
    const char *subject, bool *ipv6)
{
	struct sockaddr_storage client;

	*ipv6 = false;
	if (list->domains)
		return arena_printf(arena, "%s.%s", subject, list->zone);
	if (!subject_client(subject, &client))
		return NULL;
	*ipv6 = client.ss_family == AF_INET6;
	return dnsbl_address_name(arena, (const struct sockaddr *)&client,
	    list->zone);
}

static size_t
add_lookup(struct lookup *lookups, size_t count, struct arena *arena,
    struct dnsbl_list *list, const char *subject, int64_t deadline)
{
	bool ipv6;
	const char *name = name_in(arena, list, subject, &ipv6);

	if (name == NULL)
		return count;
	lookups[count] = (struct lookup){ .arena = arena, .list = list,
		.subject = subject, .name = name, .ipv6 = ipv6,
		.deadline = deadline };
	return count + 1;
}

/* --- the test --- */

/* The last group of ::ffff:7f00:2 stands first. */
#define REST6	".0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0."

/*
 * One list's test; RFC 5782, 5: what every list has, and what none has, and the
 * same in IPv6, whose form we would else take for IPv4.
 */
struct test {
	struct dnsbl *dnsbl;
	struct dnsbl_list *list;
	bool told;
	struct task *task;
};

static void
run_test(void *argument)
{
	struct test *test = argument;
	struct dnsbl_list *list = test->list;
	struct arena *arena = arena_new(0);
	int64_t deadline = task_deadline(TEST_MS);
	struct lookup lookups[4];

	add_lookup(lookups, 0, arena, list, list->domains ? "test" :
	    "127.0.0.2", deadline);
	add_lookup(lookups, 1, arena, list, list->domains ? "invalid" :
	    "127.0.0.1", deadline);
	for (size_t i = 2; i < 4; i++)
		lookups[i] = (struct lookup){ .arena = arena, .list = list,
			.name = arena_printf(arena, "%d" REST6 "%s",
			    i == 2 ? 2 : 1, list->zone),
			.deadline = deadline };
	run_lookups(lookups, list->domains ? 2 : 4);
	test->told = dnsbl_list_tested(list, arena, lookups[0].answer,
	    lookups[1].answer) != ANSWER_UNKNOWN;
	if (!list->domains && !list->off)
		dnsbl_list_tested6(list, arena, lookups[2].answer,
		    lookups[3].answer);
	task_cond_broadcast(&test->dnsbl->tested);
	arena_free(&arena);
}

/* False: it could not be told of all. */
static bool
test_lists(struct dnsbl *dnsbl)
{
	struct test tests[DNSBL_SITES_MAX] = { { .told = false } };
	bool all = true;

	for (size_t i = 0; i < dnsbl->count; i++) {
		tests[i].dnsbl = dnsbl;
		tests[i].list = &dnsbl->lists[i];
		tests[i].task = task_start("dnsbl-test", run_test, &tests[i]);
	}
	for (size_t i = 0; i < dnsbl->count; i++) {
		if (task_join(&tests[i].task, DEADLINE_NEVER) != 0)
			task_reap(&tests[i].task);
		all = all && tests[i].told;
	}
	return all;
}

static void
run_tests(void *argument)
{
	struct dnsbl *dnsbl = argument;
	int64_t pause;

	do {
		pause = dnsbl->options->test_interval;
		if (!test_lists(dnsbl) && pause > RETEST_MS)
			pause = RETEST_MS;
	} while (task_sleep(pause) == 0);
}

struct dnsbl *
dnsbl_open(const struct conf *conf)
{
	const struct dnsbl_options *options = conf_get(conf,
	    dnsbl_section.name);
	size_t first = count_texts(options->sites);

	if (shared != NULL) {
		shared->users++;
		return shared;
	}
	if ((shared = calloc(1, sizeof(*shared))) == NULL ||
	    (shared->sites = calloc(first + count_texts(options->domain_sites) +
	    1, sizeof(*shared->sites))) == NULL)
		fatal("out of memory (dnsbl)");
	shared->conf = conf;
	shared->options = options;
	shared->users = 1;
	add_lists(shared, options->sites, false, shared->sites);
	add_lists(shared, options->domain_sites, true, shared->sites + first);
	if (shared->count > 0)
		shared->tester = task_start("dnsbl-test", run_tests, shared);
	return shared;
}

void
dnsbl_close(struct dnsbl **dnsblp)
{
	struct dnsbl *dnsbl = *dnsblp;

	*dnsblp = NULL;
	if (dnsbl == NULL || --dnsbl->users > 0)
		return;
	task_reap(&dnsbl->tester);
	shared = NULL;
	free(dnsbl->sites);
	free(dnsbl);
}

/* --- asking --- */

void
dnsbl_add_domain(struct dnsbl_question *question, struct arena *arena,
    const char *domain)
{
	char lower[DNSBL_ZONE_MAX + 1];
	size_t len;

	if (domain == NULL || question->domain_count == DNSBL_DOMAINS_MAX)
		return;
	len = strlen(domain);
	if (len > 0 && domain[len - 1] == '.')
		len--;
	if (len > DNSBL_ZONE_MAX)
		return;
	for (size_t i = 0; i < len; i++)
		lower[i] = (char)tolower((unsigned char)domain[i]);
	lower[len] = '\0';
	/* Lists of domains do not want to be asked for addresses. */
	if (!net_is_host_name(lower) || strchr(lower, '.') == NULL ||
	    isdigit((unsigned char)lower[len - 1]))
		return;
	for (size_t i = 0; i < question->domain_count; i++)
		if (strcmp(question->domains[i], lower) == 0)
			return;
	question->domains[question->domain_count++] = arena_strdup(arena,
	    lower);
}

static size_t
prepare(struct dnsbl *dnsbl, struct arena *arena,
    const struct dnsbl_question *question, int64_t deadline,
    struct lookup **lookups)
{
	struct sockaddr_storage client;
	bool ipv6 = subject_client(question->address, &client) &&
	    client.ss_family == AF_INET6;
	size_t count = 0;

	*lookups = arena_alloc(arena, dnsbl->count *
	    (question->domain_count + 1) * sizeof(**lookups));
	for (size_t i = 0; i < dnsbl->count; i++) {
		struct dnsbl_list *list = &dnsbl->lists[i];
		size_t wanted = list->domains ? question->domain_count :
		    question->address != NULL;

		if (wanted == 0 || !dnsbl_list_may_ask(list, ipv6))
			continue;
		for (size_t j = 0; j < wanted; j++)
			count = add_lookup(*lookups, count, arena, list,
			    list->domains ? question->domains[j] :
			    question->address, deadline);
	}
	return count;
}

/* The first record that this site counts, or NULL. */
static const struct dns_record *
counted(const struct dnsbl_site *site, const struct dns_answer *answer)
{
	for (size_t i = 0; i < answer->count; i++)
		if (dnsbl_site_counts(site, answer->records[i].a))
			return &answer->records[i];
	return NULL;
}

static void
note_top(struct dnsbl_result *result, const struct lookup *lookup)
{
	result->site = lookup->list->shown;
	result->subject = arena_printf(lookup->arena, "%s [%s]",
	    lookup->list->domains ? "Domain" : "Client host",
	    lookup->subject);
	result->name = lookup->name;
}

static void
note_listing(struct dnsbl_result *result, const struct lookup *lookup,
    const struct dnsbl_site *site, const struct dns_record *record,
    int *highest)
{
	const struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_addr = record->a };
	char text[NET_TEXT_SIZE];

	result->score += site->weight;
	result->why = arena_printf(lookup->arena, "%s%s%s:%s=%s*%d",
	    result->why, result->why[0] != '\0' ? " " : "", lookup->subject,
	    lookup->list->shown, net_address_print(
	    (const struct sockaddr *)&in, text), site->weight);
	if (site->weight <= *highest)
		return;
	*highest = site->weight;
	note_top(result, lookup);
}

/* Each site counts once, whatever it lists. */
static void
add_up(const struct lookup *lookups, size_t count, struct dnsbl_result *result)
{
	const struct dns_record *record;
	int highest = 0;

	for (size_t i = 0, next; i < count; i = next) {
		const struct dnsbl_list *list = lookups[i].list;

		for (next = i; next < count && lookups[next].list == list; )
			next++;
		for (size_t j = 0; j < list->site_count; j++)
			for (size_t k = i; k < next; k++) {
				if (lookups[k].answer == NULL || (record =
				    counted(&list->sites[j],
				    lookups[k].answer)) == NULL)
					continue;
				note_listing(result, &lookups[k],
				    &list->sites[j], record, &highest);
				break;
			}
	}
}

/* What a list has said counts only if it has passed its test. */
static bool
is_tested(struct dnsbl *dnsbl, const struct lookup *lookup)
{
	while (!lookup->list->tested)
		if (task_cond_wait(&dnsbl->tested, lookup->deadline) != 0)
			return false;
	return dnsbl_list_is_good(lookup->list, lookup->ipv6);
}

void
dnsbl_ask(struct dnsbl *dnsbl, struct arena *arena,
    const struct dnsbl_question *question, struct dnsbl_result *result)
{
	int64_t deadline = task_deadline(dnsbl->options->timeout);
	struct lookup *lookups;
	size_t count;

	*result = (struct dnsbl_result){ .why = "" };
	count = prepare(dnsbl, arena, question, deadline, &lookups);
	run_lookups(lookups, count);
	for (size_t i = 0; i < count; i++)
		if (!dnsbl_list_heard(lookups[i].list, arena,
		    lookups[i].answer) ||
		    !is_tested(dnsbl, &lookups[i]))
			lookups[i].answer = NULL;
	add_up(lookups, count, result);
}

/* A site's text is its operator's, and part of a reply now. */
static const char *
clean_text(struct arena *arena, const struct dns_record *record)
{
	size_t len = record->text_len < TEXT_MAX ? record->text_len : TEXT_MAX;
	char *text = arena_strndup(arena, record->text, len);

	for (size_t i = 0; i < len; i++)
		if (text[i] < ' ' || text[i] > '~')
			text[i] = '?';
	return text;
}

const char *
dnsbl_reply(struct arena *arena, const struct dnsbl_result *result)
{
	const char *text = arena_printf(arena,
	    "Service unavailable; %s blocked using %s", result->subject,
	    result->site);
	const struct dns_answer *answer = dns_query(arena, result->name,
	    DNS_TXT, task_deadline(TEXT_MS));

	if (answer->status != DNS_FOUND || answer->count == 0)
		return text;
	return arena_printf(arena, "%s; %s", text, clean_text(arena,
	    &answer->records[0]));
}

/* --- for operators --- */

void
dnsbl_show(struct dnsbl *dnsbl, struct buf *out)
{
	struct arena *arena = arena_new(0);

	for (size_t i = 0; i < dnsbl->count; i++) {
		struct dnsbl_list *list = &dnsbl->lists[i];

		buf_printf(out, "%s %s %s\n", list->shown, list->domains ?
		    "domains" : "addresses", dnsbl_list_state(arena, list));
	}
	arena_free(&arena);
}

static void
show_answer(struct buf *out, const struct lookup *lookup)
{
	const struct dnsbl_list *list = lookup->list;
	const struct dns_answer *answer = lookup->answer;
	char text[NET_TEXT_SIZE];
	int64_t weight = 0;

	buf_printf(out, "%s ", list->shown);
	if (answer->status == DNS_FAILED)
		buf_printf(out, "no answer: %s", answer->why);
	else if (answer->status != DNS_FOUND)
		buf_puts(out, "not listed");
	for (size_t i = 0; i < answer->count; i++) {
		const struct sockaddr_in in = { .sin_family = AF_INET,
			.sin_addr = answer->records[i].a };

		buf_printf(out, "%s%s", i > 0 ? "," : "", net_address_print(
		    (const struct sockaddr *)&in, text));
	}
	for (size_t i = 0; i < list->site_count; i++)
		if (counted(&list->sites[i], answer) != NULL)
			weight += list->sites[i].weight;
	if (answer->status == DNS_FOUND)
		buf_printf(out, " weight %lld", (long long)weight);
	if (list->off)
		buf_printf(out, " (off: %s)", list->why);
	else if (!dnsbl_list_is_good(list, lookup->ipv6))
		buf_printf(out, " (off for IPv6: %s)", list->why6);
	buf_putc(out, '\n');
}

void
dnsbl_show_of(struct dnsbl *dnsbl, const char *subject, struct buf *out)
{
	struct arena *arena = arena_new(0);
	int64_t deadline = task_deadline(dnsbl->options->timeout);
	struct lookup *lookups = arena_alloc(arena,
	    DNSBL_SITES_MAX * sizeof(*lookups));
	struct sockaddr_storage client;
	bool is_address = subject_client(subject, &client);
	size_t count = 0;

	for (size_t i = 0; i < dnsbl->count; i++)
		if (dnsbl->lists[i].domains != is_address)
			count = add_lookup(lookups, count, arena,
			    &dnsbl->lists[i], subject, deadline);
	run_lookups(lookups, count);
	for (size_t i = 0; i < count; i++)
		show_answer(out, &lookups[i]);
	arena_free(&arena);
}
