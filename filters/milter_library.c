/*
 * Callbacks of libmilter as packets of the milter protocol: see
 * milter_library.h.  What is here runs in the library's threads, and a session
 * moves between them from one callback to the next, so that all its state hangs
 * on its context.  A callback waits for our loop, which never waits for it.
 */
#include "config.h"

#include "filters/milter_library.h"

#include <errno.h>
#include <fcntl.h>
#include <libmilter/mfapi.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/milter_answer.h"
#include "filters/milter_codec.h"
#include "filters/milter_past.h"

/* Each may keep a thread busy, and libmilter has no limit of its own. */
#define SESSIONS_MAX	1000
#define FLUSH_AT	65536
#define READ_STEP	16384

/* Silent between us and the loop, whatever the MTA knows. */
#define SILENT (MILTER_NR_HEADER | MILTER_NR_EOH | MILTER_NR_BODY)

struct guest {
	int fd;				/* to milter_host_talk() */
	bool broken;			/* it did not answer */
	uint32_t offered;		/* protocol bits of the MTA */
	uint32_t protocol;		/* what the talk wants */
	struct buf out, in;
	size_t used;			/* of in: read before */
};

static struct {
	struct milter_library_settings settings;
	int ring[2];			/* the loop hears of sockets here */
	atomic_int sessions;
} library;

/* --- the conversation with the loop --- */

static bool
flush(struct guest *g)
{
	size_t sent = 0;
	ssize_t n;

	while (!g->broken && sent < g->out.len) {
		n = send(g->fd, g->out.data + sent, g->out.len - sent,
		    MSG_NOSIGNAL);
		if (n > 0)
			sent += (size_t)n;
		else if (errno != EINTR)
			g->broken = true;
	}
	buf_reset(&g->out);
	return !g->broken;
}

/* The next packet, valid until the next call. */
static bool
read_packet(struct guest *g, struct milter_packet *packet)
{
	char why[MILTER_WHY_SIZE];
	ssize_t n;
	int rc;

	buf_drain(&g->in, g->used);
	g->used = 0;
	while ((rc = milter_packet_parse(g->in.data != NULL ? g->in.data : "",
	    g->in.len, SIZE_MAX, packet, why)) == 0) {
		n = read(g->fd, buf_reserve(&g->in, READ_STEP), READ_STEP);
		if (n > 0)
			g->in.len += (size_t)n;
		else if (n == 0 || errno != EINTR)
			break;
	}
	if (rc != 1)
		g->broken = true;
	else
		g->used = packet->size;
	return rc == 1;
}

static void
guest_free(struct guest *g)
{
	if (g->fd != -1)
		close(g->fd);
	buf_release(&g->out);
	buf_release(&g->in);
	free(g);
	atomic_fetch_sub(&library.sessions, 1);
}

/* Gives the other end to the loop. */
static int
connect_to_loop(struct guest *g)
{
	int64_t ms = library.settings.timeout_ms;
	const struct timeval limit = { .tv_sec = ms / 1000,
	    .tv_usec = ms % 1000 * 1000 };
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == -1)
		return -1;
	g->fd = fds[0];
	if (setsockopt(g->fd, SOL_SOCKET, SO_RCVTIMEO, &limit,
	    sizeof(limit)) == 0 && setsockopt(g->fd, SOL_SOCKET, SO_SNDTIMEO,
	    &limit, sizeof(limit)) == 0 && fcntl(fds[1], F_SETFL,
	    O_NONBLOCK) == 0 && write(library.ring[1], &fds[1],
	    sizeof(fds[1])) == sizeof(fds[1]))
		return 0;
	close(fds[1]);
	return -1;
}

static struct guest *
guest_new(void)
{
	struct guest *g;

	if (atomic_fetch_add(&library.sessions, 1) >= SESSIONS_MAX) {
		atomic_fetch_sub(&library.sessions, 1);
		return NULL;
	}
	if ((g = calloc(1, sizeof(*g))) == NULL)
		fatal("out of memory (libmilter)");
	g->fd = -1;
	if (connect_to_loop(g) == 0)
		return g;
	guest_free(g);
	return NULL;
}

/* --- answers --- */

/* Sends what has been put, reads until the answer that ends the command. */
static sfsistat
ask(SMFICTX *context, struct guest *g)
{
	struct milter_packet packet;
	struct milter_reply reply;
	const char *why;
	bool complete = true;
	sfsistat v;

	flush(g);
	while (!g->broken && read_packet(g, &packet) &&
	    milter_reply_parse(&packet, &reply, &why) == 0) {
		if (reply.code == MILTER_PROGRESS ||
		    milter_reply_edits(reply.code)) {
			complete &= milter_answer_replay(context, &reply) ==
			    MI_SUCCESS;
			continue;
		}
		v = milter_answer_verdict(context, &reply);
		return complete || (v != SMFIS_CONTINUE && v != SMFIS_ACCEPT) ?
		    v : SMFIS_TEMPFAIL;
	}
	/* What it has seen and what not is unknown from now on. */
	g->broken = true;
	return SMFIS_TEMPFAIL;
}

/* After a command was put: quiet is its NR bit. */
static sfsistat
answered(SMFICTX *context, struct guest *g, uint32_t quiet)
{
	if (g->broken)
		return SMFIS_TEMPFAIL;
	if ((g->protocol & quiet) == 0)
		return ask(context, g);
	if (g->out.len >= FLUSH_AT && !flush(g))
		return SMFIS_TEMPFAIL;
	return (g->offered & quiet) != 0 ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}

/* --- what the MTA says --- */

static char *
text_of(const char *text)
{
	return (char *)(uintptr_t)text;	/* the library does not change it */
}

/* Those that the host asks for, and that a guest knows. */
static const char *const macros[] = { "j", "i", "{daemon_name}",
	"{client_name}", "{client_ptr}", "{client_addr}", "{client_resolve}",
	"{auth_type}", "{auth_authen}", "{tls_version}", "{cipher}",
	"{cipher_bits}", "{cert_subject}", "{cert_issuer}",
	"{millgate_trusted}" };

static void
put_macros(SMFICTX *context, struct guest *g, char code)
{
	size_t begin = milter_begin(&g->out, MILTER_MACRO);

	buf_putc(&g->out, code);
	for (size_t i = 0; i < sizeof(macros) / sizeof(macros[0]); i++) {
		const char *value = smfi_getsymval(context, text_of(macros[i]));

		if (value == NULL)
			continue;
		milter_put_string(&g->out, macros[i]);
		milter_put_string(&g->out, value);
	}
	milter_end(&g->out, begin);
}

static void
put_strings(struct guest *g, char code, const char *first, const char *second)
{
	size_t begin = milter_begin(&g->out, code);

	milter_put_string(&g->out, first);
	if (second != NULL)
		milter_put_string(&g->out, second);
	milter_end(&g->out, begin);
}

/* Negotiated anew with the loop: it may be silent where the MTA may not. */
static bool
agree(SMFICTX *context, struct guest *g, struct milter_negotiation *n)
{
	struct milter_packet packet;
	const char *why;

	n->version = MILTER_VERSION;
	n->protocol |= SILENT;
	milter_put_negotiation(&g->out, n);
	if (!flush(g) || !read_packet(g, &packet) ||
	    milter_negotiation_parse(packet.payload, packet.len, n, &why) == -1)
		return false;
	for (int stage = 0; stage < MILTER_STAGES; stage++)
		if (n->macros[stage] != NULL)
			smfi_setsymlist(context, stage,
			    text_of(n->macros[stage]));
	g->protocol = n->protocol;
	return true;
}

/* The loop's side of a connection; NULL: there is none.  *n is then agreed. */
static struct guest *
guest_begin(SMFICTX *context, struct milter_negotiation *n)
{
	struct guest *g = guest_new();

	if (g == NULL)
		return NULL;
	/*
	 * Where a client's last piece of body comes with the end, the library
	 * forgets the end if the callback for the piece is silent.
	 */
	g->offered = n->protocol & ~(uint32_t)MILTER_NR_BODY;
	if (agree(context, g, n)) {
		smfi_setpriv(context, g);
		return g;
	}
	guest_free(g);
	return NULL;
}

static sfsistat
on_negotiate(SMFICTX *context, unsigned long f0, unsigned long f1,
    unsigned long f2, unsigned long f3, unsigned long *pf0, unsigned long *pf1,
    unsigned long *pf2, unsigned long *pf3)
{
	const struct milter_past past = { (uint32_t)f0 & MILTER_ACTIONS_ALL,
		(uint32_t)f1 & MILTER_PROTOCOL_ALL };
	struct milter_negotiation n = { .actions = past.actions,
		.protocol = past.protocol };
	struct guest *g = guest_begin(context, &n);

	(void)f2, (void)f3;
	if (g == NULL)
		return SMFIS_REJECT;
	milter_past_keep(context, past);
	*pf0 = n.actions;
	*pf1 = n.protocol & g->offered;
	*pf2 = *pf3 = 0;
	return SMFIS_CONTINUE;
}

static struct guest *
guest_of(SMFICTX *context)
{
	struct guest *g = smfi_getpriv(context);

	return g == NULL || g->broken ? NULL : g;
}

/* Behind QUIT_NC: as it was agreed before, or a signature's bytes differ. */
static struct guest *
guest_again(SMFICTX *context)
{
	struct milter_past past;
	struct milter_negotiation n = { .actions = 0 };

	if (smfi_getpriv(context) != NULL ||
	    !milter_past_find(context, &past))
		return guest_of(context);
	n.actions = past.actions;
	n.protocol = past.protocol;
	return guest_begin(context, &n);
}

/* What comes from no IP address has no address. */
static sfsistat
on_connect(SMFICTX *context, char *host, _SOCK_ADDR *address)
{
	static const struct sockaddr unknown = { .sa_family = AF_UNSPEC };
	struct guest *g = guest_again(context);

	if (g == NULL)
		return SMFIS_TEMPFAIL;
	put_macros(context, g, MILTER_CONNECT);
	milter_put_connect(&g->out, host, address != NULL ? address :
	    &unknown);
	return answered(context, g, MILTER_NR_CONNECT);
}

static sfsistat
on_helo(SMFICTX *context, char *name)
{
	struct guest *g = guest_of(context);

	if (g == NULL)
		return SMFIS_TEMPFAIL;
	put_macros(context, g, MILTER_HELO);
	put_strings(g, MILTER_HELO, name, NULL);
	return answered(context, g, MILTER_NR_HELO);
}

static sfsistat
on_envelope(SMFICTX *context, char code, char **arguments, uint32_t quiet)
{
	struct guest *g = guest_of(context);
	size_t begin;

	if (g == NULL)
		return SMFIS_TEMPFAIL;
	put_macros(context, g, code);
	begin = milter_begin(&g->out, code);
	for (; *arguments != NULL; arguments++)
		milter_put_string(&g->out, *arguments);
	milter_end(&g->out, begin);
	return answered(context, g, quiet);
}

static sfsistat
on_mail(SMFICTX *context, char **arguments)
{
	return on_envelope(context, MILTER_MAIL, arguments, MILTER_NR_MAIL);
}

static sfsistat
on_rcpt(SMFICTX *context, char **arguments)
{
	return on_envelope(context, MILTER_RCPT, arguments, MILTER_NR_RCPT);
}

static sfsistat
on_bytes(SMFICTX *context, char code, const void *bytes, size_t len,
    uint32_t quiet)
{
	struct guest *g = guest_of(context);

	if (g == NULL)
		return SMFIS_TEMPFAIL;
	milter_put(&g->out, code, bytes, len);
	return answered(context, g, quiet);
}

static sfsistat
on_data(SMFICTX *context)
{
	return on_bytes(context, MILTER_DATA, NULL, 0, MILTER_NR_DATA);
}

static sfsistat
on_header(SMFICTX *context, char *name, char *value)
{
	struct guest *g = guest_of(context);

	if (g == NULL)
		return SMFIS_TEMPFAIL;
	put_strings(g, MILTER_HEADER, name, value);
	return answered(context, g, MILTER_NR_HEADER);
}

static sfsistat
on_eoh(SMFICTX *context)
{
	return on_bytes(context, MILTER_EOH, NULL, 0, MILTER_NR_EOH);
}

static sfsistat
on_body(SMFICTX *context, unsigned char *bytes, size_t len)
{
	return on_bytes(context, MILTER_BODY, bytes, len, MILTER_NR_BODY);
}

static sfsistat
on_eom(SMFICTX *context)
{
	struct guest *g = guest_of(context);

	if (g == NULL)
		return SMFIS_TEMPFAIL;
	put_macros(context, g, MILTER_EOB);
	return on_bytes(context, MILTER_EOB, NULL, 0, 0);
}

static sfsistat
on_abort(SMFICTX *context)
{
	struct guest *g = guest_of(context);

	if (g != NULL) {
		milter_put(&g->out, MILTER_ABORT, NULL, 0);
		flush(g);
	}
	return SMFIS_CONTINUE;
}

/* Maybe the only callback that there was. */
static sfsistat
on_close(SMFICTX *context)
{
	struct guest *g = smfi_getpriv(context);

	if (g != NULL)
		guest_free(g);
	smfi_setpriv(context, NULL);
	return SMFIS_CONTINUE;
}

/* --- starting and ending --- */

static const struct smfiDesc callbacks = {
	.xxfi_name = (char *)(uintptr_t)"millgate",
	.xxfi_version = SMFI_VERSION,
	.xxfi_flags = MILTER_ACTIONS_ALL,
	.xxfi_connect = on_connect, .xxfi_helo = on_helo,
	.xxfi_envfrom = on_mail, .xxfi_envrcpt = on_rcpt,
	.xxfi_data = on_data, .xxfi_header = on_header, .xxfi_eoh = on_eoh,
	.xxfi_body = on_body, .xxfi_eom = on_eom, .xxfi_abort = on_abort,
	.xxfi_close = on_close, .xxfi_negotiate = on_negotiate,
};

/* On the loop: sockets of new conversations. */
static void
hear_ring(void *argument)
{
	struct task_fd ring;
	int fd, going_on = 0;

	(void)argument;
	task_fd_init(&ring, library.ring[0]);
	while (going_on == 0) {
		if (read(library.ring[0], &fd, sizeof(fd)) == sizeof(fd))
			library.settings.begin(fd, library.settings.argument);
		else
			going_on = task_fd_wait(&ring, TASK_READ,
			    DEADLINE_NEVER);
	}
	task_fd_release(&ring);
}

static void *
run_library(void *argument)
{
	(void)argument;
	smfi_main();
	fatal("libmilter has ended");
	return NULL;
}

int
milter_library_start(const struct milter_library_settings *settings,
    const char **why)
{
	pthread_t thread;
	char name[32];

	library.settings = *settings;
	*why = "libmilter does not start";
	snprintf(name, sizeof(name), "fd:%d", settings->listener);
	if (pipe2(library.ring, O_CLOEXEC) == -1 ||
	    fcntl(library.ring[0], F_SETFL, O_NONBLOCK) == -1 ||
	    smfi_register(callbacks) != MI_SUCCESS ||
	    smfi_setconn(name) != MI_SUCCESS ||
	    smfi_opensocket(false) != MI_SUCCESS ||
	    pthread_create(&thread, NULL, run_library, NULL) != 0)
		return -1;
	pthread_detach(thread);
	task_detach("libmilter", hear_ring, NULL);
	return 0;
}

/*
 * smfi_stop() would cut sessions in the midst of a message.  So the library
 * goes on, but what it listens on becomes a pipe in which nothing ever comes.
 */
void
milter_library_drain(void)
{
	int silence[2];

	if (pipe2(silence, O_CLOEXEC) == 0)
		dup3(silence[0], library.settings.listener, O_CLOEXEC);
}
