/* What tests of the policy service run on. */
#include "t/unit/policy/rig.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/task.h"
#include "policy/policy.h"
#include "policy/service.h"
#include "policy/store.h"
#include "t/unit/policy/rig_redis.h"
#include "t/unit/unit.h"

#define TOP_OPTIONS(ROW, o) ROW(o, hostname, string, NULL, NULL, NULL, "Us.")
struct top_options { TOP_OPTIONS(OPTION_FIELD, top_options) };
static const struct option_row top_rows[] = {
	TOP_OPTIONS(OPTION_ROW, top_options)
};
static const struct section_kind top_kind = {
	.name = "", .doc = "All of it.", .rows = top_rows, .row_count = 1,
	.size = sizeof(struct top_options),
};

struct job {
	struct rig *rig;
	void (*run)(struct rig *);
	bool stored;
};

struct conf *
rig_conf(const char *text)
{
	static const struct section_kind *kinds[16] = { &top_kind };
	struct buf errors = BUF_INIT;
	struct conf *conf;
	size_t count = 1;

	for (size_t i = 0; policy_kinds[i] != NULL; i++)
		kinds[count++] = policy_kinds[i];
	for (size_t i = 0; policy_services[i] != NULL; i++)
		kinds[count++] = policy_services[i]->options;
	conf = conf_load(NULL, text, kinds, count, &errors);

	if (conf == NULL)
		fprintf(stderr, "%s", errors.data);
	CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
	buf_release(&errors);
	return conf;
}

/* A busy machine may take long to connect; what a test asks is not refused. */
static void
wait_for_store(struct store *store)
{
	char note[STORE_NOTE_MAX + 1];
	struct store_record record;
	const char *why;

	for (int i = 0; i < 1000; i++) {
		if (store_read(store, "no such key", &record, note,
		    &why) != ANSWER_UNKNOWN)
			return;
		task_sleep(20);
	}
	fprintf(stderr, "the store does not answer: %s\n", why);
}

static void
in_task(void *argument)
{
	struct job *job = argument;
	struct rig *rig = job->rig;
	char path[128];
	const char *why = "";

	if (job->stored) {
		snprintf(path, sizeof(path), "%s/store.db", rig->directory);
		rig->store = store_open(rig->conf, path, &why);
		CU_ASSERT_PTR_NOT_NULL(rig->store);
		if (rig->store != NULL)
			wait_for_store(rig->store);
	}
	if (!job->stored || rig->store != NULL)
		job->run(rig);
	store_close(&rig->store);
}

static void
log_to_file(const struct rig *rig, bool on)
{
	static int fd = -1;
	char path[128];

	if (on) {
		snprintf(path, sizeof(path), "%s/log", rig->directory);
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	}
	log_open(&(struct log_settings){ .program = "unit", .role = "policy",
	    .target = on ? LOG_TO_FD : LOG_TO_STDERR, .fd = fd,
	    .level = LOG_LEVEL_INFO });
	if (!on)
		close(fd);
}

void
rig_check_options(const struct rig_check *checks, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct conf *conf = rig_conf(checks[i].text);
		struct buf errors = BUF_INIT;

		policy_check(conf, &errors);
		CASE_ASSERT(checks[i].name, checks[i].error == NULL ?
		    errors.len == 0 : errors.len > 0 &&
		    strstr(errors.data, checks[i].error) != NULL);
		buf_release(&errors);
		conf_free(&conf);
	}
}

int
rig_log_count(const struct rig *rig, const char *text)
{
	char path[128], line[2048];
	int count = 0;
	FILE *file;

	log_flush();
	snprintf(path, sizeof(path), "%s/log", rig->directory);
	if ((file = fopen(path, "r")) == NULL)
		return -1;
	while (fgets(line, sizeof(line), file) != NULL)
		if (strstr(line, text) != NULL)
			count++;
	fclose(file);
	return count;
}

static void
make_directory(struct rig *rig)
{
	strcpy(rig->directory, "/tmp/millgate-policy-XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(rig->directory));
	log_to_file(rig, true);
}

static void
remove_directory(struct rig *rig)
{
	static const char *const names[] = { "store.db", "store.db-wal",
		"store.db-shm", "log", "redis.sock", "redis.log" };
	char path[128];

	log_to_file(rig, false);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", rig->directory,
		    names[i]);
		unlink(path);
	}
	CU_ASSERT(rmdir(rig->directory) == 0);
}

static void
run_job(struct rig *rig, void (*run)(struct rig *), bool stored)
{
	struct job job = { rig, run, stored };

	task_init();
	task_detach("test", in_task, &job);
	task_loop();
	task_shutdown();
}

void
rig_alone(void (*run)(struct rig *))
{
	struct rig rig = { .back_end = "none" };

	make_directory(&rig);
	run_job(&rig, run, false);
	remove_directory(&rig);
}

/* A socket that is there may not be listened on yet. */
static bool
answers(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	bool connected;

	snprintf(address.sun_path, sizeof(address.sun_path), "%.107s", path);
	connected = connect(fd, (struct sockaddr *)&address,
	    sizeof(address)) == 0;
	close(fd);
	return connected;
}

static pid_t
start_redis(const struct rig *rig)
{
	char sock[128];
	pid_t pid;

	snprintf(sock, sizeof(sock), "%s/redis.sock", rig->directory);
	pid = rig_redis_start(rig->directory, (const char *[]){ "--port", "0",
	    "--unixsocket", sock, "--save", "", "--logfile", "redis.log",
	    NULL });
	for (int i = 0; i < 2000 && !answers(sock); i++)
		usleep(10000);
	return pid;
}

static void
with_options(const char *back_end, const char *options, const char *text,
    void (*run)(struct rig *))
{
	struct rig rig = { .back_end = back_end };
	struct buf whole = BUF_INIT;
	pid_t redis = -1;

	make_directory(&rig);
	if (options == NULL) {
		redis = start_redis(&rig);
		buf_printf(&whole, "store { type = redis budget = 10s "
		    "server = { \"unix:%s/redis.sock\" } }\n%s",
		    rig.directory, text);
	} else {
		buf_printf(&whole, "store { budget = 10s %s }\n%s", options,
		    text);
	}
	rig.conf = rig_conf(whole.data);
	buf_release(&whole);
	run_job(&rig, run, true);
	conf_free(&rig.conf);
	if (redis > 0) {
		kill(redis, SIGTERM);
		waitpid(redis, NULL, 0);
	}
	remove_directory(&rig);
}

void
rig_each(const char *text, void (*run)(struct rig *))
{
	with_options("sqlite", "type = sqlite", text, run);
	with_options("redis", NULL, text, run);
}

void
rig_all(const char *text, void (*run)(struct rig *))
{
	static const char *const names[RIG_REDIS_COUNT] = {
		[RIG_REDIS_TLS] = "redis over TLS",
		[RIG_REDIS_SCRIPTS] = "redis without Functions",
		[RIG_REDIS_SENTINEL] = "redis by Sentinel",
		[RIG_REDIS_CLUSTER] = "redis cluster",
	};
	static int calls;
	char options[640];

	rig_each(text, run);
	/* The servers stay: each call has keys of its own. */
	calls++;
	for (int kind = 0; kind < RIG_REDIS_COUNT; kind++) {
		snprintf(options, sizeof(options), "type = redis prefix = "
		    "\"millgate:%d:%d:\" %s", calls, kind,
		    rig_redis_options(kind));
		with_options(names[kind], options, text, run);
	}
}
