/*
 * millgatectl: asks the console of a running Millgate (control.h) and shows
 * the answer.  What concerns DKIM keys and single milters it does itself.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include "gateway/control.h"
#include "gateway/dkim_command.h"
#include "gateway/milter_command.h"

static int
usage(FILE *to, int status)
{
	fprintf(to,
	    "usage: millgatectl [-s socket] command\n"
	    "commands:\n"
	    "  queue list                 messages that wait for delivery\n"
	    "  queue show id              one of them, with its header\n"
	    "  queue flush [id]           try it, or all, now\n"
	    "  queue hold id              keep it\n"
	    "  queue release id           deliver what was held\n"
	    "  queue delete id            delete it for good\n"
	    "  queue sites                next hops, as the relay sees them\n"
	    "  dmarc list                 aggregate reports that are collected\n"
	    "  dmarc send [domain]        send them now\n"
	    "  greylist show [client [sender recipient]]\n"
	    "                             who waits, who has passed\n"
	    "  greylist forget client [sender recipient]\n"
	    "                             as if they had not been seen\n"
	    "  list add name entry [for duration] [from network] [because text]\n"
	    "                             put it on an access list\n"
	    "  list remove name entry     take it out\n"
	    "  list show [name]           what was put there\n"
	    "  report id spam|trap|malware|released [undo]\n"
	    "                             what an accepted message was\n"
	    "  rep show|why entity        its reputation: address:192.0.2.1,\n"
	    "                             domain:example.org, user:joe\n"
	    "  rep top [number] [dimension]\n"
	    "                             the worst\n"
	    "  rep pin entity good|bad|percent|off [for duration]\n"
	    "  rep forget entity\n"
	    "  rep report kind event entity [undo]\n"
	    "                             spam, ham, malware, trap, bounced,\n"
	    "                             reported-spam or released\n"
	    "  rep export [dimension] [part/parts]\n"
	    "  rep import entity numbers counts ...\n"
	    "  explain id                 all that is known of a message\n"
	    "  history [search text] [-n number]\n"
	    "                             the latest messages\n"
	    "  stats                      what was counted\n"
	    "  status                     what runs\n"
	    "  reload                     read the configuration again\n"
	    "  stop                       stop Millgate\n"
	    "without a running Millgate:\n" DKIM_COMMAND_USAGE
	    MILTER_COMMAND_USAGE);
	return status;
}

/* The words as a line; -1 if they don't fit one. */
static int
make_request(char line[CONTROL_LINE_MAX], char **words)
{
	size_t len = 0, more;

	for (; *words != NULL; words++) {
		more = strlen(*words);
		if (len + more + 2 > CONTROL_LINE_MAX ||
		    strchr(*words, '\n') != NULL)
			return -1;
		if (len > 0)
			line[len++] = ' ';
		memcpy(line + len, *words, more);
		len += more;
	}
	line[len++] = '\n';
	return (int)len;
}

static int
connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return -1;
	if (connect(fd, (const struct sockaddr *)&address,
	    sizeof(address)) != 0)
		return -1;
	return fd;
}

static int
send_all(int fd, const char *bytes, size_t len)
{
	ssize_t n;

	for (; len > 0; bytes += n, len -= (size_t)n) {
		do
			n = send(fd, bytes, len, MSG_NOSIGNAL);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return -1;
	}
	return 0;
}

/* "=ok", "=error TEXT" or "=usage TEXT" as an exit status. */
static int
finish(const char *line)
{
	if (strcmp(line, "=ok") == 0)
		return EXIT_SUCCESS;
	if (strncmp(line, "=usage ", 7) == 0) {
		fprintf(stderr, "millgatectl: usage: %s\n", line + 7);
		return EX_USAGE;
	}
	fprintf(stderr, "millgatectl: %s\n",
	    strncmp(line, "=error ", 7) == 0 ? line + 7 : line);
	return EXIT_FAILURE;
}

static int
show_answer(int fd)
{
	FILE *answer = fdopen(fd, "r");
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	int status = EX_UNAVAILABLE;

	if (answer == NULL) {
		fprintf(stderr, "millgatectl: %s\n", strerror(errno));
		return EX_OSERR;
	}
	while ((len = getline(&line, &size, answer)) > 0 &&
	    line[len - 1] == '\n') {
		line[len - 1] = '\0';
		if (line[0] == '+') {
			puts(line + 1);
			continue;
		}
		/* What comes first is shown first. */
		fflush(stdout);
		status = finish(line);
		break;
	}
	if (status == EX_UNAVAILABLE)
		fprintf(stderr, "millgatectl: the answer was cut off\n");
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "millgatectl: cannot write: %s\n",
		    strerror(errno));
		status = EX_IOERR;
	}
	free(line);
	fclose(answer);
	return status;
}

int
main(int argc, char **argv)
{
	const char *path = CONTROL_SOCKET;
	char request[CONTROL_LINE_MAX];
	int option, fd, len;

	/* "+": options behind the command belong to it. */
	while ((option = getopt(argc, argv, "+s:h")) != -1)
		switch (option) {
		case 's':
			path = optarg;
			break;
		case 'h':
			return usage(stdout, EXIT_SUCCESS);
		default:
			return usage(stderr, EX_USAGE);
		}
	if (optind == argc)
		return usage(stderr, EX_USAGE);
	if (strcmp(argv[optind], "dkim") == 0)
		return dkim_command(argc - optind, argv + optind);
	if (strcmp(argv[optind], "milter") == 0)
		return milter_command(argc - optind, argv + optind);
	if ((len = make_request(request, argv + optind)) == -1) {
		fprintf(stderr, "millgatectl: the command is too long\n");
		return EX_USAGE;
	}
	if ((fd = connect_to(path)) == -1) {
		fprintf(stderr, "millgatectl: cannot connect to %s: %s: is "
		    "Millgate running?\n", path, strerror(errno));
		return EX_UNAVAILABLE;
	}
	/* A refusal may come, and the connection end, before all is sent. */
	(void)send_all(fd, request, (size_t)len);
	return show_answer(fd);
}
