#include "t/unit/policy/rig_redis.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVER "/usr/bin/redis-server"
#define CLUSTER_SIZE 3
#define SERVERS (3 + CLUSTER_SIZE)	/* TLS, master, Sentinel, a cluster */
#define ARGUMENTS_MAX 48

enum { TLS, MASTER, SENTINEL, CLUSTER };

static char directory[64];
static unsigned ports[SERVERS], buses[CLUSTER_SIZE];
static pid_t pids[SERVERS];
static pid_t owner;

pid_t
rig_redis_start(const char *where, const char *const *arguments)
{
	const char *all[ARGUMENTS_MAX + 8] = { SERVER };
	size_t n = 1;
	pid_t pid;

	while (*arguments != NULL && n < ARGUMENTS_MAX)
		all[n++] = *arguments++;
	if ((pid = fork()) != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (chdir(where) != 0)
		_exit(126);
	execv(SERVER, (char *const *)(uintptr_t)all);
	_exit(127);
}

/* The output's first bytes; a program on one line of a shell. */
static void
run(char output[256], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
run(char output[256], const char *format, ...)
{
	char command[1024];
	va_list values;
	FILE *pipe;
	size_t n;

	va_start(values, format);
	vsnprintf(command, sizeof(command), format, values);
	va_end(values);
	*output = '\0';
	if ((pipe = popen(command, "r")) == NULL)
		return;
	n = fread(output, 1, 255, pipe);
	output[n] = '\0';
	pclose(pipe);
}

/* Ports that nobody has just now: none is used twice. */
static void
choose_ports(void)
{
	int fds[SERVERS + CLUSTER_SIZE];

	for (size_t i = 0; i < SERVERS + CLUSTER_SIZE; i++) {
		struct sockaddr_in in = { .sin_family = AF_INET,
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		socklen_t len = sizeof(in);

		fds[i] = socket(AF_INET, SOCK_STREAM, 0);
		bind(fds[i], (struct sockaddr *)&in, len);
		getsockname(fds[i], (struct sockaddr *)&in, &len);
		*(i < SERVERS ? &ports[i] : &buses[i - SERVERS]) =
		    ntohs(in.sin_port);
	}
	for (size_t i = 0; i < SERVERS + CLUSTER_SIZE; i++)
		close(fds[i]);
}

static void
start(size_t i, const char *const *more)
{
	char port[16], name[32];
	const char *arguments[ARGUMENTS_MAX] = { "--port", port, "--bind",
		"127.0.0.1", "--save", "", "--logfile", name };
	size_t n = 8;

	snprintf(port, sizeof(port), "%u", i == TLS ? 0 : ports[i]);
	snprintf(name, sizeof(name), "log%zu", i);
	while (*more != NULL)
		arguments[n++] = *more++;
	pids[i] = rig_redis_start(directory, arguments);
}

static void
start_tls(void)
{
	char port[16], output[256];

	snprintf(port, sizeof(port), "%u", ports[TLS]);
	run(output, "cd %s && echo secret > password && echo > empty && openssl req -x509 "
	    "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key "
	    "-out cert -subj /CN=redis -days 1 "
	    "-addext subjectAltName=DNS:redis.test 2>&1", directory);
	start(TLS, (const char *[]){ "--tls-port", port, "--tls-cert-file",
	    "cert", "--tls-key-file", "key", "--tls-ca-cert-file", "cert",
	    "--user", "default", "off", "--user", "millgate", "on", ">secret",
	    "~millgate:*", "+@all", "-@admin", "-@dangerous", "--user",
	    "scripts", "on", ">secret", "~millgate:*", "+@all", "-@admin",
	    "-@dangerous", "-function", "-fcall", "-fcall_ro", NULL });
}

static void
start_sentinel(void)
{
	char path[128];
	FILE *file;

	start(MASTER, (const char *[]){ NULL });
	snprintf(path, sizeof(path), "%s/sentinel", directory);
	if ((file = fopen(path, "w")) == NULL)
		return;
	fprintf(file, "port %u\nbind 127.0.0.1\nlogfile log%d\n"
	    "sentinel monitor main 127.0.0.1 %u 1\n", ports[SENTINEL],
	    SENTINEL, ports[MASTER]);
	fclose(file);
	pids[SENTINEL] = rig_redis_start(directory, (const char *[]){
	    "sentinel", "--sentinel", NULL });
}

static void
start_cluster(void)
{
	for (size_t i = 0; i < CLUSTER_SIZE; i++) {
		char config[16], bus[16];

		snprintf(config, sizeof(config), "nodes%zu", i);
		snprintf(bus, sizeof(bus), "%u", buses[i]);
		start(CLUSTER + i, (const char *[]){ "--cluster-enabled",
		    "yes", "--cluster-config-file", config, "--cluster-port",
		    bus, NULL });
	}
}

static void
wait_for(const char *what, const char *command)
{
	char output[256];

	for (int i = 0; i < 500; i++) {
		run(output, "%s 2>&1", command);
		if (strstr(output, what) != NULL)
			return;
		usleep(20000);
	}
	fprintf(stderr, "no Redis: %s: %s\n", command, output);
}

static void
wait_for_server(size_t i)
{
	char command[128];

	snprintf(command, sizeof(command), "redis-cli -p %u ping", ports[i]);
	wait_for("PONG", command);
}

static void
join_cluster(void)
{
	char output[256];

	for (unsigned i = 0; i < CLUSTER_SIZE; i++) {
		wait_for_server(CLUSTER + i);
		run(output, "redis-cli -p %u cluster set-config-epoch %u; "
		    "redis-cli -p %u cluster addslotsrange %u %u; "
		    "redis-cli -p %u cluster meet 127.0.0.1 %u %u",
		    ports[CLUSTER + i], i + 1, ports[CLUSTER + i],
		    i * 16384 / CLUSTER_SIZE,
		    (i + 1) * 16384 / CLUSTER_SIZE - 1, ports[CLUSTER + i],
		    ports[CLUSTER], buses[0]);
	}
}

static void
stop_all(void)
{
	char output[256];

	if (getpid() != owner)
		return;
	for (size_t i = 0; i < SERVERS; i++)
		if (pids[i] > 0 && kill(pids[i], SIGKILL) == 0)
			waitpid(pids[i], NULL, 0);
	run(output, "rm -rf %s", directory);
}

static void
start_all(void)
{
	strcpy(directory, "/tmp/millgate-redis-XXXXXX");
	if (mkdtemp(directory) == NULL)
		return;
	owner = getpid();
	atexit(stop_all);
	choose_ports();
	start_cluster();
	start_tls();
	start_sentinel();
	join_cluster();
}

static void
wait_for_cluster(void)
{
	char command[256];

	for (size_t i = 0; i < CLUSTER_SIZE; i++) {
		snprintf(command, sizeof(command), "redis-cli -p %u cluster "
		    "info", ports[CLUSTER + i]);
		wait_for("cluster_state:ok", command);
	}
}

const char *
rig_redis_directory(void)
{
	if (owner == 0)
		start_all();
	return directory;
}

const char *
rig_redis_options(enum rig_redis kind)
{
	static char options[RIG_REDIS_COUNT][512];
	char command[256], *text = options[kind];

	if (owner == 0)
		start_all();
	if (*text != '\0')
		return text;
	switch (kind) {
	case RIG_REDIS_TLS:
	case RIG_REDIS_SCRIPTS:
		snprintf(command, sizeof(command), "cd %s && redis-cli -p %u "
		    "--tls --cacert cert --cert cert --key key --sni "
		    "redis.test --user millgate --pass secret ping",
		    directory, ports[TLS]);
		wait_for("PONG", command);
		snprintf(text, sizeof(options[0]), "server = { "
		    "\"127.0.0.1:%u\" } user = %s password = "
		    "\"%s/password\" tls_ca = \"%s/cert\" tls_name = "
		    "redis.test tls_cert = \"%s/cert\" tls_key = \"%s/key\"",
		    ports[TLS], kind == RIG_REDIS_TLS ? "millgate" : "scripts",
		    directory, directory, directory, directory);
		break;
	case RIG_REDIS_SENTINEL:
		wait_for_server(SENTINEL);
		wait_for_server(MASTER);
		snprintf(text, sizeof(options[0]), "server = { "
		    "\"127.0.0.1:%u\" } sentinel = main", ports[SENTINEL]);
		break;
	default:
		wait_for_cluster();
		/* One is enough: it tells of the others. */
		snprintf(text, sizeof(options[0]), "server = { "
		    "\"127.0.0.1:%u\" } cluster = yes", ports[CLUSTER + 1]);
	}
	return text;
}
