/* Conditions: for which messages a filter is asked at all. */
#include "filters/condition.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/option.h"
#include "filters/filter.h"

#define WORDS_MAX	3
#define CLAUSE_MAX	512

struct clause;
typedef enum answer holds_f(const struct clause *, const struct session *,
    const struct mail *, enum condition_point);

struct clause {
	holds_f *holds;
	bool skip;			/* of skip_if */
	char *text;			/* the words stand in it */
	const char *first, *second;	/* what a kind keeps of them */
	int64_t number;
	unsigned char network[16];
	int family;
	unsigned bits;
};

struct condition {
	size_t count;
	struct clause clauses[];
};

/* --- what they ask --- */

static enum answer
yes_if(bool holds)
{
	return holds ? ANSWER_YES : ANSWER_NO;
}

static enum answer
is_trusted(const struct clause *c, const struct session *session,
    const struct mail *mail, enum condition_point point)
{
	(void)c, (void)mail, (void)point;
	return yes_if(session->trusted);
}

/* Both may still come before MAIL. */
static enum answer
is_authenticated(const struct clause *c, const struct session *session,
    const struct mail *mail, enum condition_point point)
{
	(void)c, (void)mail;
	if (session->user != NULL || point >= CONDITION_MAIL)
		return yes_if(session->user != NULL);
	return ANSWER_UNKNOWN;
}

static enum answer
has_tls(const struct clause *c, const struct session *session,
    const struct mail *mail, enum condition_point point)
{
	(void)c, (void)mail;
	if (session->tls_version != NULL || point >= CONDITION_MAIL)
		return yes_if(session->tls_version != NULL);
	return ANSWER_UNKNOWN;
}

static enum answer
came_to(const struct clause *c, const struct session *session,
    const struct mail *mail, enum condition_point point)
{
	(void)mail, (void)point;
	return yes_if(session->listener != NULL &&
	    strcmp(session->listener, c->first) == 0);
}

static enum answer
came_from(const struct clause *c, const struct session *session,
    const struct mail *mail, enum condition_point point)
{
	unsigned char address[16];
	unsigned whole = c->bits / 8, rest = c->bits % 8;

	(void)mail, (void)point;
	if (session->client_address == NULL || inet_pton(c->family,
	    session->client_address, address) != 1)
		return ANSWER_NO;
	return yes_if(memcmp(address, c->network, whole) == 0 && (rest == 0 ||
	    (address[whole] ^ c->network[whole]) >> (8 - rest) == 0));
}

/* who: an address, a domain, or one with all below it. */
static bool
is_of(const char *address, const char *who)
{
	const char *domain = address_domain(address);
	size_t len, below;

	if (strcmp(who, "<>") == 0)
		return *address == '\0';
	if (strchr(who, '@') != NULL)
		return address_equal(address, who);
	if (domain == NULL)
		return false;
	if (*who != '.')
		return strcasecmp(domain, who) == 0;
	len = strlen(domain);
	below = strlen(who);
	return strcasecmp(domain, who + 1) == 0 ||
	    (len > below && strcasecmp(domain + len - below, who) == 0);
}

static enum answer
is_sender(const struct clause *c, const struct session *session,
    const struct mail *mail, enum condition_point point)
{
	(void)session;
	if (point < CONDITION_MAIL)
		return ANSWER_UNKNOWN;
	return yes_if(is_of(mail->envelope.sender, c->first));
}

static enum answer
is_recipient(const struct clause *c, const struct session *session,
    const struct mail *mail, enum condition_point point)
{
	const struct recipient *r = point < CONDITION_MAIL ? NULL :
	    mail->envelope.recipients;

	(void)session;
	for (; r != NULL; r = r->next)
		if (is_of(r->address, c->first))
			return ANSWER_YES;
	return point < CONDITION_DATA ? ANSWER_UNKNOWN : ANSWER_NO;
}

/* Grows while it comes: larger than that it stays. */
static enum answer
is_larger(const struct clause *c, const struct session *session,
    const struct mail *mail, enum condition_point point)
{
	(void)session;
	if (point >= CONDITION_MAIL &&
	    mail->received_size > (size_t)c->number)
		return ANSWER_YES;
	return point < CONDITION_END ? ANSWER_UNKNOWN : ANSWER_NO;
}

static enum answer
is_smaller(const struct clause *c, const struct session *session,
    const struct mail *mail, enum condition_point point)
{
	(void)session;
	if (point < CONDITION_END)
		return ANSWER_UNKNOWN;
	return yes_if(mail->received_size < (size_t)c->number);
}

static enum answer
was_found(const struct clause *c, const struct session *session,
    const struct mail *mail, enum condition_point point)
{
	const struct finding *f = NULL;

	(void)session;
	if (point < CONDITION_END)
		return ANSWER_UNKNOWN;
	while ((f = finding_find(mail, c->first, f)) != NULL)
		if (strcmp(f->result, c->second) == 0)
			return ANSWER_YES;
	return ANSWER_NO;
}

/* --- parsing --- */

/* "192.0.2.0/24", "2001:db8::/32", or an address.  What is behind counts. */
static bool
parse_network(struct clause *c, const char *text)
{
	char address[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
	unsigned most;
	char *end;

	c->family = memchr(text, ':', len) != NULL ? AF_INET6 : AF_INET;
	most = c->family == AF_INET6 ? 128 : 32;
	if (len >= sizeof(address))
		return false;
	memcpy(address, text, len);
	address[len] = '\0';
	if (inet_pton(c->family, address, c->network) != 1)
		return false;
	c->bits = most;
	if (slash == NULL)
		return true;
	if (slash[1] < '0' || slash[1] > '9')
		return false;
	c->bits = (unsigned)strtoul(slash + 1, &end, 10);
	return *end == '\0' && c->bits <= most && strlen(slash) <= 4;
}

static bool
parse_size(struct clause *c, const char *sign, const char *text)
{
	static const struct option_row row = { .name = "size",
		.type = OPTION_size };
	struct buf why = BUF_INIT;
	bool good = option_parse(&row, text, &c->number, &why) == 0;

	buf_release(&why);
	c->holds = *sign == '>' ? is_larger : is_smaller;
	return good && (strcmp(sign, ">") == 0 || strcmp(sign, "<") == 0);
}

static const struct {
	const char *word;
	size_t words;
	holds_f *holds;
} kinds[] = {
	{ "trusted", 1, is_trusted },
	{ "authenticated", 1, is_authenticated },
	{ "tls", 1, has_tls },
	{ "listener", 2, came_to },
	{ "client", 2, came_from },
	{ "sender", 2, is_sender },
	{ "recipient", 2, is_recipient },
};

static size_t
split(char *text, char *words[WORDS_MAX])
{
	size_t count = 0;

	for (text += strspn(text, " \t"); *text != '\0';
	    text += strspn(text, " \t")) {
		if (count == WORDS_MAX)
			return WORDS_MAX + 1;
		words[count++] = text;
		text += strcspn(text, " \t");
		if (*text != '\0')
			*text++ = '\0';
	}
	return count;
}

static bool
parse(struct clause *c)
{
	char *words[WORDS_MAX];
	size_t count = split(c->text, words);

	if (count == 3 && strcmp(words[0], "size") == 0)
		return parse_size(c, words[1], words[2]);
	if (count == 3 && strcmp(words[1], "=") == 0) {
		c->holds = was_found;
		c->first = words[0];
		c->second = words[2];
		return true;
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (count != kinds[i].words ||
		    strcmp(words[0], kinds[i].word) != 0)
			continue;
		c->holds = kinds[i].holds;
		if (count == 2)
			c->first = words[1];
		return c->holds != came_from || parse_network(c, words[1]);
	}
	return false;
}

static const char *
complain(const char *clause)
{
	static _Thread_local char text[400];

	snprintf(text, sizeof(text), "\"%.80s\" is no condition: trusted, "
	    "authenticated, tls, \"listener NAME\", \"client 192.0.2.0/24\", "
	    "\"sender .example.org\", \"recipient example.org\", "
	    "\"size > 10M\" and \"spf = pass\" are", clause);
	return text;
}

static size_t
count_of(const char *const *list)
{
	size_t count = 0;

	while (list != NULL && list[count] != NULL)
		count++;
	return count;
}

int
condition_new(const char *const *only_if, const char *const *skip_if,
    struct condition **conditionp, const char **why)
{
	size_t only = count_of(only_if), all = only + count_of(skip_if);
	struct condition *condition;

	*conditionp = NULL;
	if (all == 0)
		return 0;
	if ((condition = calloc(1, sizeof(*condition) +
	    all * sizeof(condition->clauses[0]))) == NULL)
		fatal("out of memory (condition)");
	for (size_t i = 0; i < all; i++) {
		const char *text = i < only ? only_if[i] : skip_if[i - only];
		struct clause *c = &condition->clauses[i];

		c->skip = i >= only;
		if ((c->text = strndup(text, CLAUSE_MAX)) == NULL)
			fatal("out of memory (condition)");
		condition->count++;
		if (parse(c))
			continue;
		*why = complain(text);
		condition_free(&condition);
		return -1;
	}
	*conditionp = condition;
	return 0;
}

void
condition_free(struct condition **conditionp)
{
	struct condition *condition = *conditionp;

	*conditionp = NULL;
	for (size_t i = 0; condition != NULL && i < condition->count; i++)
		free(condition->clauses[i].text);
	free(condition);
}

enum answer
condition_ask(const struct condition *condition, const struct session *session,
    const struct mail *mail, enum condition_point point)
{
	enum answer asked = ANSWER_YES;

	for (size_t i = 0; condition != NULL && i < condition->count; i++) {
		const struct clause *c = &condition->clauses[i];
		enum answer holds = c->holds(c, session, mail, point);

		if (holds == ANSWER_UNKNOWN)
			asked = ANSWER_UNKNOWN;
		else if ((holds == ANSWER_YES) == c->skip)
			return ANSWER_NO;
	}
	return asked;
}
