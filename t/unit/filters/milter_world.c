#include "t/unit/filters/milter_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "filters/milter.h"
#include "filters/trace.h"
#include "t/unit/unit.h"

static const struct {
	const char *name, *value;
} defaults[] = {
	{ "endpoint", "{ \"unix:/m\" }" },
	{ "connect_timeout", "1s" },
	{ "command_timeout", "1s" },
	{ "content_timeout", "1s" },
	{ "total_timeout", "2s" },
	{ "spare", "0" },
};

static struct conf *
load(const char *text)
{
	struct buf errors = BUF_INIT;
	static const struct section_kind top = { .name = "", .size = 1 };
	static const struct section_kind *kinds[32];
	struct conf *conf;
	size_t count = 0;

	kinds[count++] = &top;
	for (size_t i = 0; filters_all[i] != NULL; i++)
		if (filters_all[i]->options != NULL)
			kinds[count++] = filters_all[i]->options;
	conf = conf_load(NULL, text, kinds, count, &errors);

	if (conf == NULL)
		fprintf(stderr, "\n%s\n%s", text, errors.data);
	buf_release(&errors);
	if (conf == NULL)
		abort();
	return conf;
}

void
world_init(struct world *w, const char *options, const char *const *names)
{
	static const char *const one[] = { "m", NULL };
	struct buf text = BUF_INIT;
	const char *why = NULL;

	memset(w, 0, sizeof(*w));
	buf_printf(&text, "milter m {\n%s\n", options);
	for (size_t i = 0; i < OPTION_COUNT(defaults); i++)
		if (strstr(options, defaults[i].name) == NULL)
			buf_printf(&text, "%s = %s\n", defaults[i].name,
			    defaults[i].value);
	buf_puts(&text, "}\n");
	buf_puts(&text, "milter m2 { endpoint = { \"unix:/m\" } group = g "
	    "spare = 0 }\n");
	w->conf = load(text.data);
	buf_release(&text);
	w->plan = chain_plan_new(w->conf, NULL, names != NULL ? names : one,
	    &why);
	if (w->plan == NULL)
		fprintf(stderr, "\n%s", why);
	if (w->plan == NULL)
		abort();
	w->session.arena = arena_new(0);
	w->session.hostname = "mx.example.org";
	w->session.listener = "smtp";
	w->session.helo = "client.example";
	w->session.client_address = "192.0.2.7";
	w->chain = chain_new(w->plan, &w->session);
	w->body = "hello\r\n";
	w->body_len = 7;
}

void
world_release(struct world *w)
{
	chain_free(&w->chain);
	mail_free(&w->mail);
	arena_free(&w->session.arena);
	chain_plan_free(&w->plan);
	conf_free(&w->conf);
}

struct verdict
world_begin_mail(struct world *w)
{
	chain_abort(w->chain);
	mail_free(&w->mail);
	w->mail = mail_new(&w->session, 100000, "/tmp");
	w->mail->trace = trace_new(w->mail->arena);
	snprintf(w->mail->envelope.id, sizeof(w->mail->envelope.id), "ID%u",
	    ++w->messages);
	w->mail->envelope.sender = "a@example.org";
	w->mail->envelope.submitter = "a+2Bx@example.org";
	return chain_mail(w->chain, w->mail);
}

/* Our own Received field comes first and is hidden. */
static const char default_header[] = "Received: by us\r\n"
    "Subject: one\r\nX-A: 1\r\nX-A: 2\r\nX-AB: 3\r\n";

void
world_fill_mail(struct world *w, const char *header)
{
	headers_parse(&w->mail->headers, w->mail->arena, header,
	    strlen(header));
	if (w->mail->headers.first != NULL &&
	    header_is(w->mail->headers.first, "Received"))
		w->mail->headers.first->hidden = true;
	body_append(w->mail->body, w->body, w->body_len);
	w->mail->stage = MAIL_STAGE_COMPLETE;
}

static struct verdict
rcpt(struct world *w, const char *address)
{
	struct envelope *e = &w->mail->envelope;
	struct recipient *r = envelope_add_recipient(e, w->mail->arena,
	    address);
	struct verdict v = chain_rcpt(w->chain, r);

	if (v.action == ACTION_REJECT || v.action == ACTION_TEMPFAIL)
		envelope_delete_recipient(e, address);
	return v;
}

static struct verdict
play(struct world *w, char event)
{
	struct recipient refused = { .address = "no@example.net" };

	switch (event) {
	case 'C':
		return chain_connect(w->chain);
	case 'H':
		return chain_helo(w->chain);
	case 'M':
		return world_begin_mail(w);
	case 'R':
		return rcpt(w, "b@example.net");
	case 'r':
		return rcpt(w, "\"c d\"@example.net");
	case 'S':
		chain_rcpt_refused(w->chain, &refused, 550, "5.1.1 no such");
		return VERDICT_CONTINUE;
	case 'U':
		return chain_unknown(w->chain, "FOO bar");
	case 'D':
		return chain_data(w->chain);
	case 'E':
		world_fill_mail(w, default_header);
		return chain_eom(w->chain);
	default:
		chain_abort(w->chain);
		return VERDICT_CONTINUE;
	}
}

struct verdict
world_play_all(struct world *w, const char *events)
{
	struct verdict v = VERDICT_CONTINUE;

	for (; *events != '\0'; events++)
		v = play(w, *events);
	return v;
}

/* The message as text, our own Received field left out. */
void
world_print_header(const struct world *w, struct buf *text)
{
	for (const struct header *h = w->mail->headers.first; h != NULL;
	    h = h->next)
		buf_append(text, h->raw, h->len);
	buf_putc(text, '\0');
}

void
world_print_body(const struct world *w, struct buf *text)
{
	char *scratch = malloc(BODY_READ_MAX);
	const char *bytes;
	size_t offset = 0;
	ssize_t n;

	while ((n = body_read(w->mail->body, offset, scratch, &bytes)) > 0) {
		buf_append(text, bytes, (size_t)n);
		offset += (size_t)n;
	}
	free(scratch);
}

void
world_print_recipients(const struct world *w, struct buf *text)
{
	for (const struct recipient *r = w->mail->envelope.recipients;
	    r != NULL; r = r->next)
		buf_printf(text, "%s%s", text->len > 0 ? " " : "",
		    r->address);
	buf_putc(text, '\0');
}

void
world_task(task_f *f, void *argument)
{
	task_init();
	task_detach("test", f, argument);
	task_loop();
	task_shutdown();
}
