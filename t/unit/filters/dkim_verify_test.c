#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/task.h"
#include "filters/dkim_verify.h"
#include "t/unit/filters/dkim_vectors.h"
#include "t/unit/filters/zone.h"
#include "t/unit/unit.h"

struct verify_case {
	const char *name, *first, *second;	/* signature fields, or NULL */
	const char *key;			/* "!" for SERVFAIL; or NULL */
	const char *second_key;
	const char *want;
};

static const char rsa_key[] = "p=RSA", rsa_want[] =
    "pass header.d=example.org header.i=@example.org header.s=r "
    "header.a=rsa-sha256 header.b=";

/* The values of the section: what the rows' defaults say, but the time-out. */
static void
fill(void *values, int64_t max_signatures)
{
	const struct section_kind *kind = filter_dkim.options;

	for (size_t i = 0; i < kind->row_count; i++) {
		int64_t *number = (void *)((char *)values +
		    kind->rows[i].offset);

		if (strcmp(kind->rows[i].name, "minimum_key_bits") == 0)
			*number = 1024;
		else if (strcmp(kind->rows[i].name, "max_signatures") == 0)
			*number = max_signatures;
		else if (strcmp(kind->rows[i].name, "timeout") == 0)
			*number = 1000;
		else if (strcmp(kind->rows[i].name, "clock_skew") == 0)
			*number = 300000;
	}
}

/* One message through the filter, in a task. */
struct passage {
	const char *message;
	size_t len;
	int64_t max_signatures;
	bool abort;
	struct mail *mail;
	struct filter_run run;
};

static void
go(void *argument)
{
	struct passage *passage = argument;
	struct filter_run *run = &passage->run;
	struct conf_section section = { .kind = filter_dkim.options };
	_Alignas(8) char values[256] = { 0 };
	const char *why = NULL;
	size_t at;

	fill(values, passage->max_signatures);
	section.values = values;
	run->filter = &filter_dkim;
	run->name = "dkim";
	run->mail = passage->mail;
	run->instance = filter_dkim.setup(NULL, &section, &why);
	CU_ASSERT_FATAL(run->instance != NULL);
	at = headers_parse(&run->mail->headers, run->mail->arena,
	    passage->message, passage->len) + 2;
	filter_dkim.eoh(run);
	filter_dkim.body(run, passage->message + at, passage->len - at);
	if (passage->abort)
		filter_dkim.abort(run);
	else
		filter_dkim.eom(run);
	CU_ASSERT_PTR_NULL(run->mail_state);
	filter_dkim.abort(run);		/* twice is fine */
	filter_dkim.release(run->instance);
	task_stop();
}

static void
pass_through(struct passage *passage)
{
	static struct session session = { .hostname = "mx.example" };
	struct task *task;

	passage->mail = mail_new(&session, 1 << 20, "/tmp");
	task = task_start("test", go, passage);
	task_loop();
	CU_ASSERT_EQUAL(task_join(&task, 0), 0);
}

/* "result (reason) type.name=value ..." of each finding, a line each. */
static const char *
findings_text(const struct filter_run *run)
{
	struct arena *arena = run->mail->arena;
	const char *text = "";

	for (const struct finding *f = run->findings; f != NULL; f = f->next) {
		CU_ASSERT_STRING_EQUAL(f->method, "dkim");
		CU_ASSERT(f->report);
		text = arena_printf(arena, "%s%s%s", text,
		    *text != '\0' ? "\n" : "", f->result);
		if (f->reason != NULL)
			text = arena_printf(arena, "%s (%s)", text, f->reason);
		for (const struct property *p = f->properties; p != NULL;
		    p = p->next)
			text = arena_printf(arena, "%s %s.%s=%.*s", text,
			    p->type, p->name,
			    strcmp(p->name, "b") == 0 ? 0 : 100, p->value);
	}
	return text;
}

#define SIGNER "header.d=example.org header.i=@example.org "

static const struct verify_case cases[] = {
	{ "unsigned", NULL, NULL, NULL, NULL, "none" },
	{ "signed", rsa_relaxed, NULL, rsa_key, NULL, rsa_want },
	{ "signed twice with one key", rsa_relaxed, rsa_simple, rsa_key, NULL,
	    "pass " SIGNER "header.s=r header.a=rsa-sha256 header.b=\n"
	    "pass " SIGNER "header.s=r header.a=rsa-sha256 header.b=" },
	{ "one key missing", rsa_relaxed, ed_relaxed, rsa_key, NULL,
	    "pass " SIGNER "header.s=r header.a=rsa-sha256 header.b=\n"
	    "permerror (no key for signature) " SIGNER
	    "header.s=e header.a=ed25519-sha256 header.b=" },
	{ "no key", rsa_relaxed, NULL, NULL, NULL,
	    "permerror (no key for signature) " SIGNER
	    "header.s=r header.a=rsa-sha256 header.b=" },
	{ "another type of record", rsa_relaxed, NULL, "-", NULL,
	    "permerror (no key for signature) " SIGNER
	    "header.s=r header.a=rsa-sha256 header.b=" },
	{ "two keys", rsa_relaxed, NULL, rsa_key, rsa_key,
	    "permerror (several key records) " SIGNER
	    "header.s=r header.a=rsa-sha256 header.b=" },
	{ "DNS fails", rsa_relaxed, NULL, "!", NULL,
	    "temperror (the key's look-up failed) " SIGNER
	    "header.s=r header.a=rsa-sha256 header.b=" },
	{ "revoked", rsa_relaxed, NULL, "v=DKIM1; p=", NULL,
	    "permerror (key revoked) " SIGNER
	    "header.s=r header.a=rsa-sha256 header.b=" },
	{ "malformed", "DKIM-Signature: v=1; s=r\r\n", NULL, NULL, NULL,
	    "permerror (d= is no domain) header.s=r" },
};

static const char *
key_text(const char *key, char *room, size_t size)
{
	if (key != rsa_key)
		return key;
	snprintf(room, size, "p=%s", rsa_public);
	return room;
}

static void
findings(void)
{
	task_init();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct verify_case *c = &cases[i];
		char key[512];
		struct zone_row rows[3] = { { NULL, DNS_TXT, NULL } };
		struct zone zone = { rows, 0 };
		struct buf message = BUF_INIT;
		struct passage passage = { .max_signatures = 8 };
		const char *keys[] = { c->key, c->second_key };

		for (int k = 0, n = 0; k < 2; k++)
			if (keys[k] != NULL)
				rows[n++] = (struct zone_row){
				    "r._domainkey.example.org", DNS_TXT,
				    key_text(keys[k], key, sizeof(key)) };
		dns_set_source(zone_answer, &zone);
		buf_printf(&message, "%s%s%s\r\n%s",
		    c->first != NULL ? c->first : "",
		    c->second != NULL ? c->second : "", plain_header,
		    plain_body);
		passage.message = message.data;
		passage.len = message.len;
		pass_through(&passage);
		CASE_ASSERT(c->name, strcmp(findings_text(&passage.run),
		    c->want) == 0);
		if (strcmp(findings_text(&passage.run), c->want) != 0)
			fprintf(stderr, ": %s", findings_text(&passage.run));
		/* One question for each name. */
		if (c->second == rsa_simple)
			CU_ASSERT_EQUAL(zone.asked, 1);
		mail_free(&passage.mail);
		buf_release(&message);
	}
	dns_set_source(NULL, NULL);
	task_shutdown();
}

static void
stop(void *argument)
{
	(void)argument;
	task_stop();
}

/* Abort does not wait for the look-ups, and they end all the same. */
static void
ends_early(void)
{
	struct zone_row rows[] = { { NULL, DNS_TXT, NULL } };
	struct zone zone = { rows, 0 };
	struct buf message = BUF_INIT;
	struct passage passage = { .max_signatures = 8, .abort = true };

	task_init();
	dns_set_source(zone_answer, &zone);
	buf_printf(&message, "%s%s\r\n%s", rsa_relaxed, plain_header,
	    plain_body);
	passage.message = message.data;
	passage.len = message.len;
	pass_through(&passage);
	CU_ASSERT_PTR_NULL(passage.run.findings);
	mail_free(&passage.mail);
	do {				/* what outlives it */
		task_detach("stop", stop, NULL);
		task_loop();
	} while (task_count() > 0);
	CU_ASSERT_EQUAL(zone.asked, 1);
	dns_set_source(NULL, NULL);
	task_shutdown();
	buf_release(&message);
}

static void
says_that_there_were_more(void)
{
	struct zone_row rows[] = { { NULL, DNS_TXT, NULL } };
	struct zone zone = { rows, 0 };
	struct buf message = BUF_INIT;
	struct passage passage = { .max_signatures = 2 };
	const struct finding *last;

	for (int i = 0; i < 50; i++)
		buf_puts(&message, rsa_relaxed);
	buf_printf(&message, "%s\r\n%s", plain_header, plain_body);
	passage.message = message.data;
	passage.len = message.len;
	task_init();
	dns_set_source(zone_answer, &zone);
	pass_through(&passage);
	last = passage.run.findings->next->next;
	CU_ASSERT_STRING_EQUAL(last->result, "neutral");
	CU_ASSERT_STRING_EQUAL(last->reason, "too many signatures");
	CU_ASSERT_PTR_NULL(last->next);
	CU_ASSERT_EQUAL(zone.asked, 1);
	mail_free(&passage.mail);
	dns_set_source(NULL, NULL);
	task_shutdown();
	buf_release(&message);
}

SUITE(dkim_verify, { "findings", findings }, { "ends early", ends_early },
    { "says that there were more", says_that_there_were_more })
