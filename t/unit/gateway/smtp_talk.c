/* A client for tests of whole sessions; see smtp_talk.h. */
#include "t/unit/gateway/smtp_talk.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/task.h"
#include "gateway/settings.h"
#include "t/unit/unit.h"

#define PATIENCE_MS 5000
#define SILENCE_MS 20

static const struct option_row top_rows[] = {
	TOP_OPTIONS(OPTION_ROW, top_options)
};
static const struct section_kind top_kind = { "", false, "", top_rows,
	OPTION_COUNT(top_rows), sizeof(struct top_options) };
static const struct section_kind *const kinds[] = { &top_kind, &listener_kind,
	&certificate_kind };

/* smtp_cut_through_f: keeps the message as text. */
static bool
take_message(struct mail *mail, const struct slice *content, size_t count,
    size_t size, struct verdict *reply, void *argument)
{
	struct talk *talk = argument;
	char scratch[8192];

	(void)size;
	talk->message_count++;
	buf_printf(&talk->taken, "%s>", mail->envelope.sender);
	for (const struct recipient *r = mail->envelope.recipients; r != NULL;
	    r = r->next)
		buf_printf(&talk->taken, "%s%s", r->address,
		    r->next != NULL ? "," : ":");
	for (size_t i = 0; i < count; i++) {
		size_t done = 0;

		if (content[i].data != NULL) {
			buf_append(&talk->taken, content[i].data,
			    content[i].len);
			continue;
		}
		while (done < content[i].len) {
			ssize_t n = pread(content[i].fd, scratch,
			    sizeof scratch < content[i].len - done ?
			    sizeof scratch : content[i].len - done,
			    content[i].offset + (off_t)done);

			if (n <= 0)
				break;
			buf_append(&talk->taken, scratch, (size_t)n);
			done += (size_t)n;
		}
	}
	*reply = talk->answer;
	if (talk->at_commit != NULL)
		talk->at_commit(talk);
	return true;
}

static void
take_trace(const char *id, const struct mail *mail, const char *refused,
    const char *verdict, const char *text, size_t len, void *argument)
{
	struct talk *talk = argument;

	(void)mail;
	(void)refused;
	(void)text;
	CU_ASSERT(id[0] != '\0' && len > 0);
	buf_printf(&talk->traces, "%s,", verdict);
}

void
talk_begin(struct talk *talk, const char *top_options,
    const char *listener_options)
{
	struct buf text = BUF_INIT, errors = BUF_INIT;
	const char *why = "";

	memset(talk, 0, sizeof *talk);
	talk->answer.action = ACTION_ACCEPT;
	buf_printf(&text, "hostname = \"mx.ours.example\"\n"
	    "relay_domains = { \"ours.example\" }\n"
	    "spool_directory = \"/tmp\"\n%s\n"
	    "listener smtp {\naddress = { \":25\" }\ncut_through = yes\n"
	    "hostname_lookup = no\n%s\n}\n", top_options, listener_options);
	talk->conf = conf_load(NULL, text.data, kinds,
	    sizeof kinds / sizeof *kinds, &errors);
	if (talk->conf == NULL)
		fprintf(stderr, "%s", errors.data);
	CU_ASSERT_FATAL(talk->conf != NULL);
	talk->server = smtp_server_new(talk->conf, NULL, NULL, &why);
	if (talk->server == NULL)
		fprintf(stderr, "%s\n", why);
	CU_ASSERT_FATAL(talk->server != NULL);
	smtp_server_set_cut_through(talk->server, take_message, talk);
	smtp_server_set_trace(talk->server, take_trace, talk);
	buf_release(&text);
	buf_release(&errors);
}

void
talk_hang_up(struct talk *talk)
{
	io_free(&talk->io);
}

void
talk_end(struct talk *talk)
{
	talk_hang_up(talk);
	smtp_server_drain(talk->server, task_deadline(PATIENCE_MS));
	CU_ASSERT(smtp_server_sessions(talk->server) == 0);
	smtp_server_free(&talk->server);
	conf_free(&talk->conf);
	buf_release(&talk->replies);
	buf_release(&talk->taken);
	buf_release(&talk->traces);
}

void
talk_connect(struct talk *talk, const char *client)
{
	struct sockaddr_storage address = { .ss_family = AF_INET };
	struct sockaddr_in *inet = (struct sockaddr_in *)&address;
	int ends[2];

	talk_hang_up(talk);
	buf_reset(&talk->replies);
	inet_pton(AF_INET, client, &inet->sin_addr);
	CU_ASSERT_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0,
	    ends) == 0);
	talk->io = io_new(ends[0]);
	(void)smtp_server_serve(talk->server, "smtp", ends[1], &address);
}

/* The code of one reply, all its lines read; 0: closed; -1: silence. */
static int
read_reply(struct talk *talk, int64_t patience)
{
	const char *line;
	size_t len;
	int rc;

	do {
		rc = io_read_line(talk->io, 8192, &line, &len,
		    task_deadline(patience));
		if (rc == 0 || (rc < 0 && errno != ETIMEDOUT))
			return 0;
		if (rc < 0)
			return -1;
		buf_append(&talk->replies, line, len);
	} while (len > 3 && line[3] == '-');
	return atoi(line);
}

bool
talk_step(struct talk *talk, const char *name, const struct talk_step *step)
{
	const char *expect = step->expect != NULL ? step->expect : "";
	struct buf got = BUF_INIT;
	bool good;
	int code;

	if (step->send != NULL) {
		io_puts(talk->io, step->send);
		(void)io_flush(talk->io, task_deadline(PATIENCE_MS));
	}
	for (const char *at = expect; *at != '\0'; at += strspn(at, " ")) {
		code = read_reply(talk, PATIENCE_MS);
		at += strcspn(at, " ");
		buf_printf(&got, code > 0 ? "%s%d" : "%sEOF",
		    got.len > 0 ? " " : "", code);
		if (code <= 0)
			break;
	}
	if (*expect == '\0' && read_reply(talk, SILENCE_MS) >= 0)
		buf_puts(&got, "more");
	good = strcmp(got.len > 0 ? got.data : "", expect) == 0;
	if (!good)
		fprintf(stderr, "\ncase \"%s\": to \"%.60s\" awaited \"%s\", "
		    "got \"%s\"\n%s", name,
		    step->send != NULL ? step->send : "", expect,
		    got.len > 0 ? got.data : "",
		    talk->replies.len > 0 ? talk->replies.data : "");
	buf_release(&got);
	return good;
}

static void
run_and_stop(void *argument)
{
	(*(void (**)(void))argument)();
	task_stop();
}

void
talk_run(void (*f)(void))
{
	log_open(&(struct log_settings){ .program = "test", .role = "smtp",
	    .target = LOG_TO_STDERR, .level = LOG_LEVEL_ERROR });
	task_init();
	task_detach("test", run_and_stop, &f);
	task_loop();
	task_shutdown();
}
