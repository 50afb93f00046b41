/* Mail of our own: signed on its way to the spool, or not for a good reason. */
#include "gateway/notice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "filters/dkim_sign.h"
#include "t/unit/filters/dkim_vectors.h"
#include "t/unit/gateway/spool_fixture.h"
#include "t/unit/unit.h"

static const struct section_kind top = { .name = "", .doc = "All.",
    .size = 1 };
static const struct section_kind *kinds[2] = { &top };

static struct conf *
configure(const char *domains)
{
	struct buf text = BUF_INIT, errors = BUF_INIT;
	char path[] = "/tmp/notice_test.XXXXXX";
	int fd = mkstemp(path);
	struct conf *conf;

	CU_ASSERT_FATAL(fd != -1);
	CU_ASSERT_EQUAL(write(fd, rsa_private, strlen(rsa_private)),
	    (ssize_t)strlen(rsa_private));
	close(fd);
	kinds[1] = filter_dkim_sign.options;
	if (domains != NULL)
		buf_printf(&text, "dkim_sign main { domains = { %s } "
		    "selector = s key = \"%s\" }\n", domains, path);
	conf = conf_load(NULL, text.data != NULL ? text.data : "", kinds, 2,
	    &errors);
	CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
	unlink(path);
	buf_release(&text);
	buf_release(&errors);
	return conf;
}

/* The content of the only message in the queue. */
static const char *
stored(struct fixture *f, struct arena *arena)
{
	const char *why, *text;
	struct queue_message *message;

	fixture_open_queue(f);
	CU_ASSERT_EQUAL_FATAL(f->found, 1);
	message = queue_get(f->queue, f->entries[0], arena, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(message);
	CU_ASSERT_STRING_EQUAL(message->envelope.id, "notice1");
	CU_ASSERT_STRING_EQUAL(message->envelope.sender, "");
	text = arena_strndup(arena, message->content[0].data,
	    message->content[0].len);
	queue_put(f->queue, &message);
	return text;
}

static const struct notice_case {
	const char *name, *domains;	/* NULL: no section */
	const char *hosts;
	bool is_signed;
} cases[] = {
	{ "nobody signs", NULL, NULL, false },
	{ "our domain", "example.org", NULL, true },
	{ "a domain above", "org", NULL, true },
	{ "another domain", "example.net", NULL, false },
	{ "the host is away", "example.org", "/nonexistent", false },
};
static const struct notice_case *at;

static void
send_one(struct fixture *f)
{
	static const char first[] = "From: <d@mx.example.org>\r\nTo: <b@x>\r\n",
	    second[] = "\r\ntext\r\n";
	const struct slice content[] = {
		{ .data = first, .fd = -1, .len = strlen(first) },
		{ .data = second, .fd = -1, .len = strlen(second) },
	};
	struct envelope envelope = { .id = "notice1", .arrived_ms = 1,
	    .sender = "", .client = "internal" };
	struct arena *arena = arena_new(0);
	struct conf *conf = configure(at->domains);
	struct notices_settings settings = { .conf = conf,
	    .hostname = "mx.example.org", .host_directory = at->hosts,
	    .patience_ms = 1 };
	const char *why = "", *text;
	struct notices *notices = notices_new(&settings, &why);

	CU_ASSERT_PTR_NOT_NULL_FATAL(notices);
	envelope_add_recipient(&envelope, arena, "b@x");
	CASE_ASSERT(at->name, notices_send(notices, &envelope, content, 2,
	    &why) == -1);
	CASE_ASSERT(at->name, strcmp(why, "there is no spool for it") == 0);
	fixture_open_spools(f);
	notices_set_spool(notices, f->spool);
	CASE_ASSERT(at->name, notices_send(notices, &envelope, content, 2,
	    &why) == 0);
	text = stored(f, arena);
	CASE_ASSERT(at->name, (strncmp(text, "DKIM-Signature: ", 16) == 0) ==
	    at->is_signed);
	CASE_ASSERT(at->name, strstr(text, first) != NULL);
	CASE_ASSERT(at->name, strcmp(text + strlen(text) - strlen(second),
	    second) == 0);
	notices_free(&notices);
	conf_free(&conf);
	arena_free(&arena);
}

static void
sends(void)
{
	for (size_t i = 0; i < OPTION_COUNT(cases); i++) {
		at = &cases[i];
		fixture_run(send_one);
	}
}

SUITE(notice, { "sends", sends })
