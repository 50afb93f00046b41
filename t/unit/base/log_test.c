/* The log: shape of lines, escaping, limits, and JSON that parses. */
#include "base/log.h"

#include <fcntl.h>
#include <jansson.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "t/unit/unit.h"

static int pipe_read, pipe_write;
static char caught[16384];

static void
open_pipe(bool json, enum log_level level)
{
	int fds[2];

	if (pipe(fds) != 0)
		abort();
	pipe_read = fds[0];
	pipe_write = fds[1];
	log_open(&(struct log_settings){ .program = "millgate",
	    .role = "gateway", .target = LOG_TO_FD, .fd = pipe_write,
	    .json = json, .level = level });
}

static void
close_pipe(void)
{
	close(pipe_read);
	close(pipe_write);
	log_open(&(struct log_settings){ .program = "millgate",
	    .target = LOG_TO_STDERR, .level = LOG_LEVEL_INFO });
}

/* What was logged so far; "" if nothing was. */
static char *
line(void)
{
	ssize_t n;

	fcntl(pipe_read, F_SETFL, O_NONBLOCK);
	n = read(pipe_read, caught, sizeof(caught) - 1);
	caught[n < 0 ? 0 : n] = '\0';
	return caught;
}

static const struct log some_id = { "4bXk2wT1" };

static void
shape(void)
{
	regex_t re;

	CU_ASSERT_EQUAL_FATAL(regcomp(&re, "^[A-Z][a-z][a-z] [ 0-9][0-9] "
	    "[0-9]{2}:[0-9]{2}:[0-9]{2} [^ .]+ millgate/gateway\\[[0-9]+\\]: "
	    "4bXk2wT1: from=<a@b>, size=5, nrcpt=1 \\(queue active\\)\n$",
	    REG_EXTENDED | REG_NOSUB), 0);
	open_pipe(false, LOG_LEVEL_INFO);
	log_event(&some_id, LOG_LEVEL_INFO, NULL, (struct log_field[]){
	    LOG_ADDRESS("from", "a@b"), LOG_NUMBER("size", 5),
	    LOG_STRING("nothing", NULL), LOG_NUMBER("nrcpt", 1),
	    LOG_COMMENT("state", "queue active"), LOG_END });
	CU_ASSERT_EQUAL(regexec(&re, line(), 0, NULL, 0), 0);
	close_pipe();
	regfree(&re);
}

static void
messages(void)
{
	static const struct {
		const char *name, *in, *want;
	} cases[] = {
		{ "plain", "hello, world", "hello, world" },
		{ "escape and bell", "a\033[2Jb\a", "a\\x1B[2Jb\\x07" },
		{ "new line", "a\nNov 24", "a\\x0ANov 24" },
		{ "delete", "a\177", "a\\x7F" },
		{ "UTF-8", "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
		{ "four bytes", "\xf0\x9f\x93\xa8", "\xf0\x9f\x93\xa8" },
		{ "not UTF-8", "a\xff\xc3(", "a\\xFF\\xC3(" },
		{ "cut UTF-8", "a\xe2\x82", "a\\xE2\\x82" },
		{ "overlong", "\xc0\xaf\xe0\x80\xaf",
		    "\\xC0\\xAF\\xE0\\x80\\xAF" },
		{ "surrogate", "\xed\xa0\x80", "\\xED\\xA0\\x80" },
		{ "C1 control", "\xc2\x9b" "2J", "\\xC2\\x9B2J" },
		{ "right-to-left override", "a\xe2\x80\xae" "b",
		    "a\\xE2\\x80\\xAE" "b" },
		{ "line separator", "a\xe2\x80\xa8" "b",
		    "a\\xE2\\x80\\xA8" "b" },
	};

	open_pipe(false, LOG_LEVEL_INFO);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *text;

		log_info(NULL, "%s", cases[i].in);
		text = strstr(line(), "]: ");
		CASE_ASSERT(cases[i].name, text != NULL &&
		    strncmp(text + 3, cases[i].want,
		    strlen(cases[i].want)) == 0 &&
		    strcmp(text + 3 + strlen(cases[i].want), "\n") == 0);
	}
	close_pipe();
}

static void
address_cannot_forge(void)
{
	open_pipe(false, LOG_LEVEL_INFO);
	log_event(&some_id, LOG_LEVEL_INFO, "reject", (struct log_field[]){
	    LOG_ADDRESS("to", "\"a>, status=sent\"@b"), LOG_END });
	CU_ASSERT_PTR_NOT_NULL(strstr(line(),
	    ": reject: to=<\"a\\x3E, status=sent\"@b>\n"));
	close_pipe();
}

static void
levels(void)
{
	open_pipe(false, LOG_LEVEL_WARN);
	CU_ASSERT(log_wants(LOG_LEVEL_ERROR));
	CU_ASSERT(!log_wants(LOG_LEVEL_INFO));
	log_info(NULL, "not seen");
	log_debug(NULL, "not seen");
	log_event(NULL, LOG_LEVEL_INFO, NULL, (struct log_field[]){ LOG_END });
	CU_ASSERT_STRING_EQUAL(line(), "");
	log_warn(&some_id, "disk is slow");
	CU_ASSERT_PTR_NOT_NULL(strstr(line(),
	    "]: warning: 4bXk2wT1: disk is slow\n"));
	log_error(NULL, "disk is gone");
	CU_ASSERT_PTR_NOT_NULL(strstr(line(), "]: error: disk is gone\n"));
	close_pipe();
}

static void
seconds(void)
{
	static const struct { int64_t ms; const char *want; } cases[] = {
		{ 0, "delay=0.00\n" }, { 5, "delay=0.00\n" },
		{ 1234, "delay=1.23\n" }, { 9999, "delay=9.99\n" },
		{ 12345, "delay=12.3\n" }, { 123456, "delay=123\n" },
		{ -5, "delay=0.00\n" },
	};

	open_pipe(false, LOG_LEVEL_INFO);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		log_event(NULL, LOG_LEVEL_INFO, NULL, (struct log_field[]){
		    LOG_SECONDS("delay", cases[i].ms), LOG_END });
		line();
		CASE_ASSERT(cases[i].want,
		    strstr(caught, cases[i].want) != NULL);
	}
	close_pipe();
}

static void
long_lines_are_cut(void)
{
	static char text[12000];
	size_t len;

	memset(text, 'x', sizeof(text) - 1);
	open_pipe(false, LOG_LEVEL_INFO);
	log_info(NULL, "%s", text);
	len = strlen(line());
	CU_ASSERT(len > 8000 && len <= 8192);
	CU_ASSERT_STRING_EQUAL(caught + len - 4, "...\n");
	memset(text, '\033', sizeof(text) - 1);
	log_info(NULL, "%s", text);
	len = strlen(line());
	CU_ASSERT(len > 8000 && len <= 8192);
	CU_ASSERT_STRING_EQUAL(caught + len - 4, "...\n");
	close_pipe();
}

/* Whatever a sender writes, what became of its mail is told behind it. */
static void
values_leave_room(void)
{
	static const char *const fillings[] = { "x", ">", "\033", "\xc3\xbc",
		"\xe2\x80\xae", "\xff" };
	char text[3000];

	for (int json = 0; json <= 1; json++) {
		open_pipe(json, LOG_LEVEL_INFO);
		for (size_t i = 0; i < sizeof(fillings) / sizeof(fillings[0]);
		    i++) {
			size_t n = 0, step = strlen(fillings[i]);

			for (; n + step < sizeof(text); n += step)
				memcpy(text + n, fillings[i], step);
			text[n] = '\0';
			log_event(&some_id, LOG_LEVEL_INFO, "policy",
			    (struct log_field[]){ LOG_ADDRESS("from", text),
			    LOG_ADDRESS("to", text), LOG_STRING("state", text),
			    LOG_STRING("action", "reject"), LOG_END });
			CASE_ASSERT(fillings[i], strstr(line(), json ?
			    "...\",\"action\":\"reject\"" :
			    "..., action=reject\n") != NULL);
			CASE_ASSERT(fillings[i],
			    strstr(caught, "\xef\xbf\xbd...") == NULL ||
			    i == 5);	/* no character was cut in two */
		}
		close_pipe();
	}
}

static json_t *
parsed(const char *name)
{
	json_error_t error;
	json_t *object = json_loads(line(), JSON_REJECT_DUPLICATES, &error);

	CASE_ASSERT(name, json_is_object(object));
	return object;
}

static const char *
member(const json_t *object, const char *name)
{
	const char *s = json_string_value(json_object_get(object, name));

	return s == NULL ? "" : s;
}

static void
json_members(void)
{
	json_t *object;

	open_pipe(true, LOG_LEVEL_INFO);
	log_event(&some_id, LOG_LEVEL_WARN, "reject", (struct log_field[]){
	    LOG_ADDRESS("from", "a@b"), LOG_NUMBER("size", -5),
	    LOG_SECONDS("delay", 1234), LOG_COMMENT("reply", "250 ok"),
	    LOG_END });
	object = parsed("event");
	CU_ASSERT_STRING_EQUAL(member(object, "program"), "millgate");
	CU_ASSERT_STRING_EQUAL(member(object, "role"), "gateway");
	CU_ASSERT_STRING_EQUAL(member(object, "level"), "warn");
	CU_ASSERT_STRING_EQUAL(member(object, "id"), "4bXk2wT1");
	CU_ASSERT_STRING_EQUAL(member(object, "event"), "reject");
	CU_ASSERT_STRING_EQUAL(member(object, "from"), "a@b");
	CU_ASSERT_STRING_EQUAL(member(object, "reply"), "250 ok");
	CU_ASSERT_EQUAL(strlen(member(object, "time")),
	    strlen("2026-11-24T03:00:01.123Z"));
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(object, "size")),
	    -5);
	CU_ASSERT_DOUBLE_EQUAL(json_real_value(json_object_get(object,
	    "delay")), 1.234, 1e-9);
	json_decref(object);
	close_pipe();
}

/* Whatever the bytes are, the line parses. */
static void
json_survives_bytes(void)
{
	char text[2] = "x";
	json_t *object;

	open_pipe(true, LOG_LEVEL_INFO);
	for (int byte = 1; byte < 256; byte++) {
		text[0] = (char)byte;
		log_info(NULL, "%s", text);
		object = parsed("each byte");
		if (byte < 0x80)
			CU_ASSERT_STRING_EQUAL(member(object, "message"),
			    text);
		if (byte >= 0x80)
			CU_ASSERT_STRING_EQUAL(member(object, "message"),
			    "\xef\xbf\xbd");
		json_decref(object);
	}
	log_info(NULL, "a\"b\\c\xe2\x80\xae\xf0\x9f\x93\xa8");
	object = parsed("quotes");
	CU_ASSERT_STRING_EQUAL(member(object, "message"),
	    "a\"b\\c\xe2\x80\xae\xf0\x9f\x93\xa8");
	json_decref(object);
	close_pipe();
}

/* A member that hits the limit anywhere leaves valid JSON. */
static void
json_survives_cutting(void)
{
	static const char *const fillings[] = { "x", "\"", "\033",
		"\xc3\xbc", "\xff", "\xf0\x9f\x93\xa8" };
	static char text[12000];

	open_pipe(true, LOG_LEVEL_INFO);
	for (size_t i = 0; i < sizeof(fillings) / sizeof(fillings[0]); i++) {
		for (size_t shift = 0; shift < 8; shift++) {
			size_t n = shift, step = strlen(fillings[i]);

			memset(text, 'y', shift);
			for (; n + step < 9000; n += step)
				memcpy(text + n, fillings[i], step);
			text[n] = '\0';
			log_event(&some_id, LOG_LEVEL_INFO, NULL,
			    (struct log_field[]){ LOG_COMMENT("value", text),
			    LOG_NUMBER("size", INT64_MIN),
			    LOG_STRING("more", "text"), LOG_END });
			json_decref(parsed(fillings[i]));
			CU_ASSERT(strlen(caught) <= 8192);
		}
	}
	close_pipe();
}

/* Lines wait for the flush, in order; a warning does not. */
static void
gathering(void)
{
	int i;

	open_pipe(false, LOG_LEVEL_INFO);
	log_gather(true);
	log_info(NULL, "first");
	log_info(NULL, "second");
	CU_ASSERT_STRING_EQUAL(line(), "");
	log_warn(NULL, "third");
	CU_ASSERT_PTR_NOT_NULL(strstr(line(), "first\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(strstr(caught, "first\n"), "second\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(strstr(caught, "second\n"), "third\n"));
	log_info(NULL, "fourth");
	log_flush();
	CU_ASSERT_PTR_NOT_NULL(strstr(line(), "fourth\n"));
	for (i = 0; i < 200; i++)
		log_info(NULL, "line %d", i);
	log_gather(false);
	CU_ASSERT_PTR_NOT_NULL(strstr(line(), "line 0\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(caught, "line 199\n"));
	close_pipe();
}

/* Lines that are lost are counted, and told of when there is a taker again. */
static void
gathered_lines_lost(void)
{
	int kept;

	open_pipe(false, LOG_LEVEL_INFO);
	kept = dup(pipe_write);
	log_gather(true);
	close(pipe_write);
	log_info(NULL, "nobody hears");
	log_info(NULL, "of this");
	log_flush();
	dup2(kept, pipe_write);
	close(kept);
	log_info(NULL, "back");
	log_flush();
	log_info(NULL, "again");
	log_gather(false);
	CU_ASSERT_PTR_NOT_NULL(strstr(line(), "again\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(caught, "2 log lines were lost\n"));
	close_pipe();
}

static void
fatal_aborts(void)
{
	pid_t pid;
	int status = 0;

	open_pipe(false, LOG_LEVEL_ERROR);
	if ((pid = fork()) == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
		fatal("lost %d", 7);
	}
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	CU_ASSERT_PTR_NOT_NULL(strstr(line(), "]: fatal: lost 7\n"));
	close_pipe();
}

SUITE(log,
    { "a line has Postfix's shape", shape },
    { "text from outside is escaped", messages },
    { "an address cannot forge a field", address_cannot_forge },
    { "levels are marked and filtered", levels },
    { "seconds are shown as Postfix does", seconds },
    { "long lines are cut", long_lines_are_cut },
    { "values leave room", values_leave_room },
    { "JSON has the event's members", json_members },
    { "JSON survives all bytes", json_survives_bytes },
    { "JSON survives cutting", json_survives_cutting },
    { "lines are gathered for the loop", gathering },
    { "gathered lines that are lost are counted", gathered_lines_lost },
    { "fatal() logs and aborts", fatal_aborts })
