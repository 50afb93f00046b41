/*
 * What conditions can ask: the session, the envelope, the header, and what the
 * filters before found.  Text is never nil, but "".
 */
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/option.h"
#include "filters/condition.h"
#include "filters/rules_private.h"

#define VALUE_MAX 16384			/* of a header field, in bytes */

static struct rules_subject *
subject(lua_State *L)
{
	return lua_box_subject(L);
}

static int
push_text(lua_State *L, const char *text)
{
	lua_pushstring(L, text != NULL ? text : "");
	return 1;
}

static int
push_flag(lua_State *L, bool flag)
{
	lua_pushboolean(L, flag);
	return 1;
}

static int
push_number(lua_State *L, double number)
{
	lua_pushnumber(L, number);
	return 1;
}

/* --- the session --- */

#define SESSION_TEXT(field)						\
	static int							\
	get_##field(lua_State *L)					\
	{								\
		return push_text(L, subject(L)->session->field);	\
	}
SESSION_TEXT(client_address)
SESSION_TEXT(client_name)
SESSION_TEXT(helo)
SESSION_TEXT(listener)
SESSION_TEXT(user)

static int
get_tls(lua_State *L)
{
	return push_flag(L, subject(L)->session->tls_version != NULL);
}

static int
get_trusted(lua_State *L)
{
	return push_flag(L, subject(L)->session->trusted);
}

/* --- the envelope --- */

static int
get_sender(lua_State *L)
{
	return push_text(L, subject(L)->mail->envelope.sender);
}

static int
get_sender_domain(lua_State *L)
{
	const char *sender = subject(L)->mail->envelope.sender;

	return push_text(L, sender != NULL ? address_domain(sender) : NULL);
}

static int
get_recipient(lua_State *L)
{
	const struct recipient *first = subject(L)->mail->envelope.recipients;

	return push_text(L, first != NULL ? first->address : NULL);
}

static int
get_recipient_count(lua_State *L)
{
	return push_number(L,
	    (double)envelope_count(&subject(L)->mail->envelope));
}

static int
get_size(lua_State *L)
{
	return push_number(L, (double)subject(L)->mail->received_size);
}

static int
get_score(lua_State *L)
{
	struct rules_subject *s = subject(L);

	s->policy_seen |= s->score != s->own;
	return push_number(L, (double)s->score / 1000);
}

/* is('sender .example.org'): a clause of conditions. */
static const char *
check_clause(struct lua_box *box, const char *clause)
{
	struct condition *condition;
	const char *why = NULL;

	(void)box;
	if (condition_new((const char *const []){ clause, NULL }, NULL,
	    &condition, &why) == 0)
		condition_free(&condition);
	return why;
}

static int
call_is(lua_State *L)
{
	const char *clause = luaL_checkstring(L, 1), *why;
	const struct rules_subject *s = subject(L);
	struct condition *condition;
	enum answer answer;

	if (condition_new((const char *const []){ clause, NULL }, NULL,
	    &condition, &why) != 0)
		return luaL_error(L, "%s", why);
	answer = condition_ask(condition, s->session, s->mail, CONDITION_END);
	condition_free(&condition);
	return push_flag(L, answer == ANSWER_YES);
}

/* --- the header --- */

static const struct from *
author(lua_State *L)
{
	struct rules_subject *s = subject(L);

	if (!s->from_read)
		from_add_all(&s->from, s->scratch, &s->mail->headers);
	s->from_read = true;
	return &s->from;
}

static int
get_from(lua_State *L)
{
	const struct from *from = author(L);

	return push_text(L, from_domain(from) != NULL &&
	    from->address_count > 0 ? from->addresses[0] : NULL);
}

static int
get_from_domain(lua_State *L)
{
	return push_text(L, from_domain(author(L)));
}

static int
push_field(lua_State *L, const struct header *header)
{
	const char *value = "";

	if (header != NULL)
		value = header_value(header, subject(L)->scratch, true);
	lua_pushlstring(L, value, strnlen(value, VALUE_MAX));
	return 1;
}

static int
call_header(lua_State *L)
{
	lua_Integer nth = luaL_optinteger(L, 2, 1);

	return push_field(L, nth < 1 ? NULL :
	    headers_find(&subject(L)->mail->headers, luaL_checkstring(L, 1),
	    (size_t)nth));
}

static int
call_header_count(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	const struct header *h = subject(L)->mail->headers.first;
	double count = 0;

	for (; h != NULL; h = h->next)
		count += !h->hidden && header_is(h, name);
	return push_number(L, count);
}

/* Only what a filter of this chain has put there: senders lie. */
static int
call_added(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	const struct header *h = subject(L)->mail->headers.first;

	while (h != NULL && (!h->added || h->hidden || !header_is(h, name)))
		h = h->next;
	return push_field(L, h);
}

/* --- findings --- */

bool
rules_points(const struct finding *finding, int64_t *points)
{
	static const struct option_row row = { .name = "score",
		.type = OPTION_number, .min = "-1000000", .max = "1000000" };
	const char *text = finding_value(finding, "policy", "score");
	struct buf why = BUF_INIT;
	bool good = text != NULL && option_parse(&row, text, points, &why) == 0;

	buf_release(&why);
	return good;
}

/* Of our own policy services the name will do: "greylist" for x-greylist. */
static bool
is_method(const struct finding *finding, const char *method)
{
	const char *of = finding->method;

	return strcmp(of, method) == 0 ||
	    (strncmp(of, "x-", 2) == 0 && strcmp(of + 2, method) == 0);
}

/* One that passed, of several signatures, or the first; NULL: none. */
static const struct finding *
find_method(struct rules_subject *s, const char *method)
{
	const struct finding *found = NULL;
	int64_t points;

	for (const struct finding *f = s->mail->findings; f != NULL;
	    f = f->next) {
		if (!is_method(f, method))
			continue;
		s->policy_seen |= rules_points(f, &points);
		if (found == NULL || (strcmp(f->result, "pass") == 0 &&
		    strcmp(found->result, "pass") != 0))
			found = f;
	}
	return found;
}

static int
push_result(lua_State *L, const char *method)
{
	const struct finding *finding = find_method(subject(L), method);

	return push_text(L, finding != NULL ? finding->result : "none");
}

static int
call_result(lua_State *L)
{
	return push_result(L, luaL_checkstring(L, 1));
}

#define RESULT(method)							\
	static int							\
	get_##method(lua_State *L)					\
	{								\
		return push_result(L, #method);				\
	}
RESULT(spf)
RESULT(dkim)
RESULT(dmarc)
RESULT(arc)

static int
call_points(lua_State *L)
{
	const struct finding *finding = find_method(subject(L),
	    luaL_checkstring(L, 1));
	int64_t points = 0;

	if (finding != NULL && !rules_points(finding, &points))
		points = 0;
	return push_number(L, (double)points / 1000);
}

/* property('dkim', 'header.d') */
static int
call_property(lua_State *L)
{
	const struct finding *finding = find_method(subject(L),
	    luaL_checkstring(L, 1));
	const char *name = luaL_checkstring(L, 2), *dot = strchr(name, '.');
	char type[32];

	if (dot == NULL || (size_t)(dot - name) >= sizeof(type))
		return luaL_error(L, "a property is such as 'header.d'");
	snprintf(type, sizeof(type), "%.*s", (int)(dot - name), name);
	return push_text(L, finding != NULL ?
	    finding_value(finding, type, dot + 1) : NULL);
}

const struct lua_name rules_names[] = {
	{ "spf", false, get_spf, NULL },
	{ "dkim", false, get_dkim, NULL },
	{ "dmarc", false, get_dmarc, NULL },
	{ "arc", false, get_arc, NULL },
	{ "from", false, get_from, NULL },
	{ "from_domain", false, get_from_domain, NULL },
	{ "sender", false, get_sender, NULL },
	{ "sender_domain", false, get_sender_domain, NULL },
	{ "recipient", false, get_recipient, NULL },
	{ "recipient_count", false, get_recipient_count, NULL },
	{ "client", false, get_client_address, NULL },
	{ "client_name", false, get_client_name, NULL },
	{ "helo", false, get_helo, NULL },
	{ "listener", false, get_listener, NULL },
	{ "user", false, get_user, NULL },
	{ "tls", false, get_tls, NULL },
	{ "trusted", false, get_trusted, NULL },
	{ "size", false, get_size, NULL },
	{ "score", false, get_score, NULL },
	{ "header", true, call_header, NULL },
	{ "header_count", true, call_header_count, NULL },
	{ "added", true, call_added, NULL },
	{ "number", true, lua_text_number, NULL },
	{ "is", true, call_is, check_clause },
	{ "result", true, call_result, NULL },
	{ "points", true, call_points, NULL },
	{ "property", true, call_property, NULL },
	{ NULL, false, NULL, NULL }
};
