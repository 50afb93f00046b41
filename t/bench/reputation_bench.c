/*
 * What an entity of reputation costs in memory, and how many updates a second
 * a back end takes:
 *	reputation_bench [entities [updates [tasks]]]
 *
 * An update changes an address, its network and the event's record.  Beside it
 * the same three reads and writes without arithmetic ("bare").
 *
 * On Redis then as many updates of domains, whose names redis-benchmark can make
 * up, and by that the very same command for those domains with new events: both
 * on one connection, with as many commands under way (-c 1 -P tasks).
 */
#include "config.h"

#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/task.h"
#include "policy/policy.h"
#include "policy/reputation.h"
#include "policy/store.h"
#include "t/bench/figures.h"

#define REDIS_SERVER	"/usr/bin/redis-server"
#define REDIS_BENCHMARK	"/usr/bin/redis-benchmark"

static unsigned entities = 1000000, updates = 200000, tasks = 64;
static char directory[] = "/var/tmp/reputation_bench_XXXXXX";
static char redis_socket[64];

static bool domains;			/* in place of addresses */

enum work { WORK_FILL, WORK_LEARN, WORK_BARE };

static struct {
	struct store *store;
	enum work work;
	unsigned begun, count, running;
	struct task_cond done;
} job;

static void
fail(const char *what, const char *why)
{
	fprintf(stderr, "reputation_bench: %s: %s\n", what, why);
	exit(1);
}

/* --- the step without arithmetic --- */

static enum answer
bare_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	struct store_record record;

	(void)a;
	(void)results;
	for (int i = 0; i < 3; i++) {
		store_get(records, keys[i], &record);
		for (int j = 0; j < 6; j++)
			record.values[j] += 1000000;
		record.values[6] = store_now(records);
		record.note = texts[0];
		record.expires_ms = record.values[6] + REP_LIFETIME_MS;
		store_put(records, keys[i], &record);
	}
	return ANSWER_YES;
}

static const struct store_step bare = {
	.name = "bare", .keys = 3, .texts = 1, .run = bare_run,
	.script =
	    "for i = 1, 3 do\n"
	    "  local v = get(k[i]) or {0, 0, 0, 0, 0, 0, 0, 0}\n"
	    "  for j = 1, 6 do v[j] = v[j] + 1000000 end\n"
	    "  v[7] = now\n"
	    "  v.note = t[1]\n"
	    "  put(k[i], v, now + 4838400000)\n"
	    "end\n"
	    "return 1\n",
};

/* --- work --- */

static void
make_domain(unsigned n, struct rep_entity *entity)
{
	char domain[32];

	snprintf(domain, sizeof(domain), "%012u.example.org",
	    (unsigned)((uint64_t)n * 2654435761u % updates));
	if (!rep_entity_make(REP_DOMAIN, domain, entity))
		fail(domain, "is no domain");
}

/* Addresses in networks of 250; scattered, as those of real mail are. */
static void
make_entity(unsigned n, struct rep_entity *entity)
{
	char address[32];

	if (domains) {
		make_domain(n, entity);
		return;
	}
	n = (unsigned)((uint64_t)n * 2654435761u % entities);
	snprintf(address, sizeof(address), "%u.%u.%u.%u", 1 + n / 16000000,
	    n / 64000 % 250, n / 250 % 256, n % 250 + 1);
	if (!rep_entity_make(REP_ADDRESS, address, entity))
		fail(address, "is no address");
}

static enum answer
fill(const struct rep_entity *entity, const char **why)
{
	static const struct rep_state state = {
		.good = { 1234567, 12345678, 123456789 },
		.bad = { 7654321, 17654321, 117654321 },
		.updated_ms = INT64_C(1) << 50,
	};
	char key[REP_KEY_SIZE];

	rep_entity_key(entity, key);
	return rep_set(job.store, key, &state, "0,0,117,123", why);
}

static enum answer
run_bare(const struct rep_entity *entity, const char *id, const char **why)
{
	static const char note[] = "0,0,117,123,0,0,0,0,0";
	char key[REP_KEY_SIZE], group_key[REP_KEY_SIZE], event[REP_KEY_SIZE];
	const char *const keys[] = { key, group_key, event };
	const char *const texts[] = { note };
	int64_t results[STORE_RESULTS];
	struct rep_entity group;

	rep_entity_group(entity, &group);
	rep_entity_key(entity, key);
	rep_entity_key(&group, group_key);
	rep_entity_event_key(entity, id, "bare", event);
	return store_run(job.store, &bare, keys, NULL, texts, results, why);
}

static void
work(void *argument)
{
	struct rep_entity entity;
	enum answer answer;
	const char *why = "";
	char id[32];

	(void)argument;
	while (job.begun < job.count) {
		unsigned n = job.begun++;

		snprintf(id, sizeof(id), "4bXk%u", n);
		make_entity(n, &entity);
		if (job.work == WORK_FILL)
			answer = fill(&entity, &why);
		else if (job.work == WORK_LEARN)
			answer = rep_tell(job.store, &entity, id,
			    n % 3 == 0 ? OUTCOME_SPAM : OUTCOME_HAM, false,
			    false, &why);
		else
			answer = run_bare(&entity, id, &why);
		if (answer != ANSWER_YES)
			fail("store", why);
		if (n % 50 == 0)
			task_yield();
	}
	if (--job.running == 0)
		task_cond_signal(&job.done);
}

/* How many a second. */
static double
run_all(const char *name, enum work what, unsigned count)
{
	double begin = figures_now(), used = figures_cpu(), seconds;

	job.work = what;
	job.begun = 0;
	job.count = count;
	job.running = tasks;
	for (unsigned i = 0; i < tasks; i++)
		task_detach("bench", work, NULL);
	if (task_cond_wait(&job.done, DEADLINE_NEVER) != 0)
		fail(name, "cancelled");
	seconds = figures_now() - begin;
	printf("  %-12s %9.0f a second, %5.1f us of CPU each\n", name,
	    count / seconds, (figures_cpu() - used) / count * 1e6);
	fflush(stdout);
	return count / seconds;
}

/* --- back ends --- */

static redisContext *
connect_redis(void)
{
	redisContext *redis = redisConnectUnix(redis_socket);

	if (redis == NULL || redis->err != 0)
		fail("redis", redis != NULL ? redis->errstr : "memory");
	return redis;
}

/* A number that Redis tells of itself. */
static double
redis_info(const char *field)
{
	redisContext *redis = connect_redis();
	redisReply *reply = redisCommand(redis, "INFO");
	const char *at = reply != NULL && reply->str != NULL ?
	    strstr(reply->str, field) : NULL;
	double value = at != NULL ? atof(at + strlen(field)) : 0;

	freeReplyObject(reply);
	redisFree(redis);
	return value;
}

static double
redis_cpu(void)
{
	return redis_info("used_cpu_user:") + redis_info("used_cpu_sys:");
}

static double
size_of(const char *name)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return stat(path, &st) == 0 ? (double)st.st_size : 0;
}

static double
memory(enum store_type type)
{
	if (type == STORE_TYPE_REDIS)
		return redis_info("used_memory:");
	return size_of("store.db");
}

#define TOP_OPTIONS(ROW, o) ROW(o, hostname, string, NULL, NULL, NULL, "Us.")
struct top_options { TOP_OPTIONS(OPTION_FIELD, top_options) };
static const struct option_row top_rows[] = {
	TOP_OPTIONS(OPTION_ROW, top_options)
};
static const struct section_kind top_kind = {
	.name = "", .doc = "All of it.", .rows = top_rows, .row_count = 1,
	.size = sizeof(struct top_options),
};

static struct conf *
make_conf(enum store_type type)
{
	static const struct section_kind *kinds[32] = { &top_kind };
	struct buf text = BUF_INIT, errors = BUF_INIT;
	struct conf *conf;
	size_t count = 1;

	for (size_t i = 0; policy_kinds[i] != NULL; i++)
		kinds[count++] = policy_kinds[i];
	buf_printf(&text, "store { type = %s budget = 10s "
	    "server = { \"unix:%s\" } }\n", type == STORE_TYPE_REDIS ?
	    "redis" : "sqlite", redis_socket);
	conf = conf_load(NULL, text.data, kinds, count, &errors);
	if (conf == NULL)
		fail("configuration", errors.data);
	buf_release(&text);
	return conf;
}

static void
open_store(const struct conf *conf)
{
	char path[128];
	const char *why;

	snprintf(path, sizeof(path), "%s/store.db", directory);
	if ((job.store = store_open(conf, path, &why)) == NULL)
		fail("store", why);
}

/* What it prints with --csv ends in a line of "COMMAND","REQUESTS A SECOND",... */
static double
run_and_read(char *const *words)
{
	char text[8192];
	const char *at;
	size_t len = 0;
	ssize_t n;
	int fds[2];
	pid_t pid;

	if (pipe(fds) != 0)
		fail("redis-benchmark", "no pipe");
	if ((pid = fork()) == 0) {
		dup2(fds[1], STDOUT_FILENO);
		execv(REDIS_BENCHMARK, words);
		_exit(127);
	}
	close(fds[1]);
	while (len < sizeof(text) - 1 && (n = read(fds[0], text + len,
	    sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	close(fds[0]);
	waitpid(pid, NULL, 0);
	if ((at = strrchr(text, '\n')) != NULL && at[1] == '\0')
		*(char *)at = '\0';
	at = strrchr(text, '\n');
	at = at != NULL ? strstr(at, "\",\"") : NULL;
	return at != NULL ? atof(at + 3) : 0;
}

static void
slow_log(const char *after_us)
{
	redisContext *redis = connect_redis();

	freeReplyObject(redisCommand(redis,
	    "CONFIG SET slowlog-log-slower-than %s", after_us));
	redisFree(redis);
}

/* The command of an update, kept in Redis's slow log; to be freed. */
static redisReply *
show_update(void)
{
	redisContext *redis = connect_redis();
	struct rep_entity entity;
	redisReply *log;
	const char *why;

	slow_log("0");
	make_entity(1, &entity);
	if (rep_tell(job.store, &entity, "last", OUTCOME_SPAM, false, false,
	    &why) != ANSWER_YES)
		fail("store", why);
	slow_log("-1");
	log = redisCommand(redis, "SLOWLOG GET 1");
	redisFree(redis);
	if (log == NULL || log->type != REDIS_REPLY_ARRAY ||
	    log->elements != 1 || log->element[0]->element[3]->elements < 7 ||
	    log->element[0]->element[3]->elements > 40)
		fail("redis", "not the command in its slow log");
	return log;
}

/* Behind the function's name and "3" there are the keys. */
static double
run_benchmark(void)
{
	redisReply *log = show_update(), *command;
	char numbers[2][24];
	char *words[64] = { (char *)REDIS_BENCHMARK, (char *)"--csv",
		(char *)"-s", redis_socket, (char *)"-n", numbers[0],
		(char *)"-r", numbers[0], (char *)"-c", (char *)"1",
		(char *)"-P", numbers[1] };
	size_t count = 12;
	double theirs;

	command = log->element[0]->element[3];
	snprintf(numbers[0], sizeof(numbers[0]), "%u", updates);
	snprintf(numbers[1], sizeof(numbers[1]), "%u", tasks);
	for (size_t i = 0; i < command->elements; i++)
		words[count++] = command->element[i]->str;
	words[15] = (char *)"millgate:rep:{oexample.org}d"
	    "__rand_int__.example.org";
	words[17] = (char *)"millgate:repe:{oexample.org}"
	    "__rand_int____rand_int__";
	theirs = run_and_read(words);
	freeReplyObject(log);
	return theirs;
}

static void
compare(void)
{
	double ours, theirs, begin, middle, end;

	domains = true;
	run_all("set domains", WORK_FILL, updates);
	begin = redis_cpu();
	ours = run_all("domains", WORK_LEARN, updates);
	middle = redis_cpu();
	theirs = run_benchmark();
	end = redis_cpu();
	printf("  %-12s %9.0f a second, of which updates were %.0f %%; "
	    "Redis's CPU: %.1f us each, in updates %.1f\n", "benchmark",
	    theirs, theirs > 0 ? ours / theirs * 100 : 0,
	    (end - middle) / updates * 1e6, (middle - begin) / updates * 1e6);
	domains = false;
}

static void
measure(void *argument)
{
	enum store_type type = *(enum store_type *)argument;
	struct conf *conf = make_conf(type);
	double before, filled, learnt;

	printf("%s: %u entities, %u updates by %u tasks\n",
	    type == STORE_TYPE_REDIS ? "Redis" : "SQLite", entities, updates,
	    tasks);
	before = memory(type);
	open_store(conf);
	run_all("set", WORK_FILL, entities);
	store_close(&job.store);
	filled = memory(type);
	printf("  %-12s %9.0f bytes\n", "an entity", (filled - before) /
	    entities);
	open_store(conf);
	run_all("updates", WORK_LEARN, updates);
	store_close(&job.store);
	learnt = memory(type);
	printf("  %-12s %9.0f bytes, with a part of its network\n",
	    "an event", (learnt - filled) / updates);
	open_store(conf);
	run_all("bare", WORK_BARE, updates);
	if (type == STORE_TYPE_REDIS)
		compare();
	store_close(&job.store);
	conf_free(&conf);
}

static pid_t
start_redis(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		execl(REDIS_SERVER, REDIS_SERVER, "--port", "0",
		    "--unixsocket", redis_socket, "--save", "", "--dir",
		    directory, "--logfile", "/dev/null", (char *)NULL);
		_exit(127);
	}
	for (int i = 0; i < 500; i++) {
		redisContext *redis = redisConnectUnix(redis_socket);
		bool up = redis != NULL && redis->err == 0;

		redisFree(redis);
		if (up)
			break;
		usleep(10000);
	}
	return pid;
}

int
main(int argc, char **argv)
{
	static const char *const names[] = { "store.db", "store.db-wal",
		"store.db-shm", "redis.sock" };
	pid_t redis;

	if (argc > 1)
		entities = (unsigned)atoi(argv[1]);
	if (argc > 2)
		updates = (unsigned)atoi(argv[2]);
	if (argc > 3)
		tasks = (unsigned)atoi(argv[3]);
	if (entities == 0 || updates == 0 || tasks == 0 ||
	    mkdtemp(directory) == NULL)
		fail("usage", "reputation_bench [entities [updates [tasks]]]");
	snprintf(redis_socket, sizeof(redis_socket), "%s/redis.sock",
	    directory);
	redis = start_redis();
	for (int i = 0; i < 2; i++) {
		enum store_type type = i == 0 ? STORE_TYPE_SQLITE :
		    STORE_TYPE_REDIS;

		task_init();
		task_detach("measure", measure, &type);
		task_loop();
		task_shutdown();
	}
	kill(redis, SIGTERM);
	waitpid(redis, NULL, 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[128];

		snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
		unlink(path);
	}
	rmdir(directory);
	return 0;
}
