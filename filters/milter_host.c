/*
 * A filter host: the filter's side of the milter protocol on tasks.
 *
 * Nothing is answered before the end of the message but what a filter may
 * decide on: header and body are silent (NR), so that an MTA which knows those
 * bits sends a whole message in one go and waits once.
 */
#include "filters/milter_host.h"

#include <stddef.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/chain_run.h"
#include "filters/milter_codec.h"
#include "filters/milter_diff.h"
#include "filters/milter_guest.h"

#define COMMAND_MAX	131072
#define BUFFERED_MAX	8192
#define PROGRESS_MS	10000
#define MACROS "{auth_type} {auth_authen}"

struct host {
	struct io *io;
	struct buf packet, out;
	uint32_t actions;
	bool negotiated;
	struct milter_guest guest;
};

/* --- packets --- */

static int
read_large(struct host *h, struct milter_packet *packet, int64_t deadline)
{
	char why[MILTER_WHY_SIZE];

	buf_reset(&h->packet);
	if (io_read_full(h->io, buf_reserve(&h->packet, packet->size),
	    packet->size, deadline) != 1)
		return -1;
	h->packet.len = packet->size;
	return milter_packet_parse(h->packet.data, h->packet.len, COMMAND_MAX,
	    packet, why) == 1 ? 0 : -1;
}

/* The MTA's next packet; -1 at its end, or if it's no packet. */
static int
read_packet(struct host *h, struct milter_packet *packet)
{
	int64_t deadline = task_deadline(h->guest.settings->idle_timeout_ms);
	char why[MILTER_WHY_SIZE];
	const char *bytes;
	size_t len;
	int rc;

	for (;;) {
		bytes = io_input(h->io, &len);
		rc = milter_packet_parse(bytes, len, COMMAND_MAX, packet, why);
		if (rc == -1) {
			log_warn(NULL, "milter client: %s", why);
			return -1;
		}
		if (rc == 1) {
			io_consume(h->io, packet->size);
			return 0;
		}
		if (packet->size > BUFFERED_MAX)
			return read_large(h, packet, deadline);
		if (io_fill(h->io, deadline) <= 0)
			return -1;
	}
}

static int
answer(struct host *h, const struct verdict *v)
{
	static const char plain[] = {
		[ACTION_CONTINUE] = MILTER_CONTINUE,
		[ACTION_ACCEPT] = MILTER_ACCEPT,
		[ACTION_DISCARD] = MILTER_DISCARD,
		[ACTION_TEMPFAIL] = MILTER_TEMPFAIL,
		[ACTION_REJECT] = MILTER_REJECT,
		[ACTION_DISCONNECT] = MILTER_SHUTDOWN,
	};

	if (v->action == ACTION_DISCONNECT)
		milter_put_text(&h->out, 421, v->enhanced != NULL ?
		    v->enhanced : "4.7.0", v->text != NULL ? v->text :
		    "Closing the connection");
	else if ((v->action == ACTION_REJECT || v->action == ACTION_TEMPFAIL) &&
	    v->code >= 400 && v->code < 600 && v->text != NULL)
		milter_put_text(&h->out, v->code, v->enhanced, v->text);
	else
		milter_put(&h->out, plain[v->action], NULL, 0);
	io_put(h->io, h->out.data, h->out.len);
	buf_reset(&h->out);
	return io_flush(h->io, task_deadline(h->guest.settings->idle_timeout_ms));
}

/* --- negotiation --- */

static bool
anyone_has(const struct chain_plan *plan, size_t event)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct filter *f = plan->entries[i].filter;

		if ((f->traits & FILTER_LOOKS) == 0 &&
		    *(void *const *)((const char *)f + event) != NULL)
			return true;
	}
	return false;
}

static uint32_t
wanted_protocol(const struct chain_plan *plan)
{
	uint32_t bits = MILTER_NR_HEADER | MILTER_NR_EOH | MILTER_NR_BODY |
	    MILTER_LEADING_SPACE | MILTER_NO_UNKNOWN;

	if (!anyone_has(plan, offsetof(struct filter, connect)))
		bits |= MILTER_NR_CONNECT;
	if (!anyone_has(plan, offsetof(struct filter, helo)))
		bits |= MILTER_NR_HELO;
	if (!anyone_has(plan, offsetof(struct filter, mail)))
		bits |= MILTER_NR_MAIL;
	if (!anyone_has(plan, offsetof(struct filter, rcpt)))
		bits |= MILTER_NR_RCPT;
	if (!anyone_has(plan, offsetof(struct filter, data)))
		bits |= MILTER_NO_DATA;
	return bits;
}

/* Postfix gives the queue id from RCPT or later on, so ask everywhere. */
static int
negotiate(struct host *h, const struct milter_command *command)
{
	struct milter_negotiation offer, reply = { .version = 0 };
	const char *why;

	if (milter_negotiation_parse(command->bytes, command->len, &offer,
	    &why) == -1 || offer.version < 2) {
		log_warn(NULL, "milter client: bad negotiation");
		return -1;
	}
	reply.version = offer.version < MILTER_VERSION ? offer.version :
	    MILTER_VERSION;
	reply.actions = h->actions = MILTER_ACTIONS_ALL & offer.actions;
	reply.protocol = h->guest.protocol = wanted_protocol(h->guest.plan) &
	    offer.protocol;
	if ((offer.actions & MILTER_MAY_SETSYMLIST) != 0) {
		reply.macros[MILTER_AT_CONNECT] = "j {daemon_name} "
		    "{client_name} {client_ptr} {client_addr} "
		    "{client_resolve} {millgate_trusted}";
		reply.macros[MILTER_AT_HELO] = "{tls_version} {cipher} "
		    "{cipher_bits} {cert_subject} {cert_issuer}";
		reply.macros[MILTER_AT_MAIL] = "i " MACROS;
		reply.macros[MILTER_AT_RCPT] = "i";
		reply.macros[MILTER_AT_EOM] = "i " MACROS;
	}
	milter_put_negotiation(&h->out, &reply);
	io_put(h->io, h->out.data, h->out.len);
	buf_reset(&h->out);
	h->negotiated = true;
	return io_flush(h->io, task_deadline(h->guest.settings->idle_timeout_ms));
}

/* --- the end of a message --- */

/* As a task: the MTA's patience is renewed while the filters work. */
static void
show_progress(void *argument)
{
	struct host *h = argument;
	int64_t ms = h->guest.settings->progress_ms;

	while (task_sleep(ms > 0 ? ms : PROGRESS_MS) == 0) {
		io_put(h->io, "\0\0\0\1p", 5);
		if (io_flush(h->io, task_deadline(PROGRESS_MS)) == -1)
			break;
	}
}

static struct verdict
run_chain(struct host *h)
{
	struct task *progress = task_start("milter-progress", show_progress,
	    h);
	struct verdict v = chain_eom(h->guest.chain);

	task_reap(&progress);
	return v;
}

static struct verdict
judge(struct host *h)
{
	const struct verdict broken = { .action = ACTION_TEMPFAIL,
	    .code = 451, .enhanced = "4.3.0", .text = "Local error" };
	struct milter_snapshot *before;
	struct verdict v;

	if (h->guest.failed)
		return broken;
	before = milter_snapshot_new(h->guest.mail);
	v = run_chain(h);
	if (v.action != ACTION_CONTINUE)
		return v;
	if (!milter_diff(&h->out, before, h->guest.mail, h->actions,
	    (h->guest.protocol & MILTER_LEADING_SPACE) != 0)) {
		log_warn(&h->guest.mail->log, "the MTA does not allow what the "
		    "filter wants to change");
		buf_reset(&h->out);
		return broken;
	}
	return v;
}

static int
on_end(struct host *h, const struct milter_command *command)
{
	struct verdict v;
	int rc;

	if (milter_guest_complete(&h->guest, command, &v) == -1)
		return -1;
	v = judge(h);
	rc = answer(h, &v);
	milter_guest_abort(&h->guest, command, &v);
	return rc;
}

/* Never answered; others are unless the MTA knows that nothing comes. */
#define SILENT UINT32_MAX

static const struct {
	char code;
	uint32_t silent;
	milter_guest_f *run;
} commands[] = {
	{ MILTER_MACRO, SILENT, milter_guest_macros },
	{ MILTER_CONNECT, MILTER_NR_CONNECT, milter_guest_connect },
	{ MILTER_HELO, MILTER_NR_HELO, milter_guest_helo },
	{ MILTER_MAIL, MILTER_NR_MAIL, milter_guest_mail },
	{ MILTER_RCPT, MILTER_NR_RCPT, milter_guest_rcpt },
	{ MILTER_DATA, MILTER_NR_DATA, milter_guest_data },
	{ MILTER_HEADER, MILTER_NR_HEADER, milter_guest_header },
	{ MILTER_EOH, MILTER_NR_EOH, milter_guest_eoh },
	{ MILTER_BODY, MILTER_NR_BODY, milter_guest_body },
	{ MILTER_UNKNOWN, MILTER_NR_UNKNOWN, milter_guest_unknown },
	{ MILTER_ABORT, SILENT, milter_guest_abort },
	{ MILTER_QUIT_NC, SILENT, milter_guest_quit },
};

static int
run_command(struct host *h, const struct milter_command *command)
{
	struct verdict v = VERDICT_CONTINUE;
	size_t i = 0;

	while (i < OPTION_COUNT(commands) && commands[i].code != command->code)
		i++;
	if (i == OPTION_COUNT(commands))
		return -1;		/* QUIT */
	if (commands[i].run(&h->guest, command, &v) == -1)
		return -1;
	if (commands[i].silent == SILENT ||
	    (commands[i].silent & h->guest.protocol) != 0)
		return 0;
	return answer(h, &v);
}

static int
obey(struct host *h, const struct milter_packet *packet)
{
	struct milter_command command;
	const char *why;

	if (milter_command_parse(packet, &command, &why) == -1) {
		log_warn(NULL, "milter client: %s (0x%02x)", why,
		    (unsigned char)packet->code);
		return -1;
	}
	if (command.code == MILTER_OPTNEG)
		return negotiate(h, &command);
	if (!h->negotiated)
		return -1;
	return command.code == MILTER_EOB ? on_end(h, &command) :
	    run_command(h, &command);
}

void
milter_host_talk(int fd, const struct chain_plan *plan,
    const struct milter_host_settings *settings)
{
	struct host h = { .guest = { .plan = plan, .settings = settings } };
	struct milter_packet packet;

	h.io = io_new(fd);
	io_quickack(h.io);
	while (read_packet(&h, &packet) == 0 && obey(&h, &packet) == 0)
		;
	milter_guest_release(&h.guest);
	buf_release(&h.packet);
	buf_release(&h.out);
	io_free(&h.io);
}
