/*
 * Runs cases from a file through the filters spf and dkim; what they find is
 * compared with other implementations (t/oracles.t).
 *
 *	oracle spf|openssl|libopendkim FILE
 *
 * (the latter two are dkim's engines).
 *
 * A case: "case NUMBER", then lines "client ADDRESS", "helo NAME", "sender
 * ADDRESS", "rr NAME TYPE VALUE" (the zone: VALUE "!" is a failing server, and
 * "\xNN" is an octet),
 * "message LENGTH" with that many octets and a line end behind it, then "end".
 * Output: a line "NUMBER KEY RESULT REASON" for each finding; KEY is "mailfrom"
 * or "helo" for SPF, the signature's place for DKIM.  "NUMBER explained - TEXT"
 * is what the domain says of a fail of SPF.
 */
#include "config.h"

#include <arpa/inet.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/dns.h"
#include "base/task.h"
#include "filters/dkim_verify.h"
#include "filters/spf.h"

#define RECORDS_MAX 256			/* of a case */

struct record {
	const char *name, *type, *value;
	size_t len;			/* of value */
};

struct oracle_case {
	struct arena *arena;
	const char *number, *client, *helo, *sender, *message;
	size_t message_len;
	struct record records[RECORDS_MAX];
	size_t count;
};

struct oracle {
	const struct filter *filter;
	void *instance;
	FILE *in;
	struct oracle_case now;
};

/* --- reading --- */

static void
read_message(struct oracle *oracle, const char *length)
{
	struct oracle_case *c = &oracle->now;
	char *bytes;

	c->message_len = strtoul(length, NULL, 10);
	bytes = arena_alloc(c->arena, c->message_len + 1);
	if (fread(bytes, 1, c->message_len, oracle->in) != c->message_len ||
	    getc(oracle->in) != '\n')
		errx(1, "case %s: the message is cut", c->number);
	c->message = bytes;
}

/* In place; returns the length of what remains. */
static size_t
unescape(char *text)
{
	char *to = text;

	for (const char *at = text; *at != '\0'; at++) {
		char digits[3] = { 0 };

		if (strncmp(at, "\\x", 2) != 0 || strlen(at) < 4) {
			*to++ = *at;
			continue;
		}
		memcpy(digits, at + 2, 2);
		*to++ = (char)strtoul(digits, NULL, 16);
		at += 3;
	}
	*to = '\0';
	return (size_t)(to - text);
}

static void
read_record(struct oracle_case *c, char *text)
{
	struct record *record = &c->records[c->count++];
	char *name = strsep(&text, " ");

	if (c->count > RECORDS_MAX)
		errx(1, "case %s: too many records", c->number);
	record->name = name;
	record->type = strsep(&text, " ");
	if (text == NULL)
		errx(1, "case %s: bad record", c->number);
	unescape(name);
	record->len = unescape(text);
	record->value = text;
}

/* One line of a case; false at its end. */
static bool
read_line(struct oracle *oracle, const char *line)
{
	struct oracle_case *c = &oracle->now;
	char *text = arena_strdup(c->arena, line), *word = strsep(&text, " ");

	if (strcmp(word, "end") == 0)
		return false;
	if (text == NULL)
		errx(1, "bad line: %s", line);
	if (strcmp(word, "case") == 0)
		c->number = text;
	else if (strcmp(word, "client") == 0)
		c->client = text;
	else if (strcmp(word, "helo") == 0)
		c->helo = text;
	else if (strcmp(word, "sender") == 0)
		c->sender = text;
	else if (strcmp(word, "rr") == 0)
		read_record(c, text);
	else if (strcmp(word, "message") == 0)
		read_message(oracle, text);
	else
		errx(1, "unknown word: %s", word);
	return true;
}

static bool
read_case(struct oracle *oracle)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	bool complete = false;

	oracle->now = (struct oracle_case){ .arena = arena_new(0) };
	while (!complete && (len = getline(&line, &size, oracle->in)) > 0) {
		if (line[len - 1] == '\n')
			line[len - 1] = '\0';
		complete = !read_line(oracle, line);
	}
	free(line);
	return complete;
}

/* --- the case's zone in the resolver's place --- */

static void
fill_record(const struct record *from, struct dns_record *to)
{
	const char *space = strchr(from->value, ' ');

	if (strcmp(from->type, "A") == 0)
		inet_pton(AF_INET, from->value, &to->a);
	else if (strcmp(from->type, "AAAA") == 0)
		inet_pton(AF_INET6, from->value, &to->aaaa);
	else if (strcmp(from->type, "MX") == 0) {
		to->preference = (unsigned)atoi(from->value);
		to->name = space == NULL ? "" : space + 1;
	} else {
		to->name = to->text = from->value;
		to->text_len = from->len;
	}
}

static const char *
type_name(enum dns_type type)
{
	switch (type) {
	case DNS_A:
		return "A";
	case DNS_AAAA:
		return "AAAA";
	case DNS_MX:
		return "MX";
	case DNS_PTR:
		return "PTR";
	case DNS_TXT:
		return "TXT";
	case DNS_NS:
	case DNS_CNAME:
	case DNS_TLSA:
		break;
	}
	return "";
}

static const struct dns_answer *
answer(struct arena *arena, const char *name, enum dns_type type,
    void *argument)
{
	const struct oracle_case *c = argument;
	struct dns_answer *answer = arena_alloc(arena, sizeof(*answer));
	struct dns_record *records = arena_alloc(arena,
	    (c->count + 1) * sizeof(*records));

	answer->status = DNS_NXDOMAIN;
	answer->records = records;
	for (size_t i = 0; i < c->count; i++) {
		const struct record *record = &c->records[i];

		if (strcasecmp(record->name, name) != 0)
			continue;
		if (answer->status == DNS_NXDOMAIN)
			answer->status = DNS_NODATA;
		if (strcmp(record->type, type_name(type)) != 0)
			continue;
		if (strcmp(record->value, "!") == 0) {
			answer->status = DNS_FAILED;
			answer->why = "SERVFAIL";
			answer->count = 0;
			break;
		}
		answer->status = DNS_FOUND;
		fill_record(record, &records[answer->count++]);
	}
	return answer;
}

/* --- running --- */

static void
print(const struct oracle_case *c, const struct filter_run *run)
{
	size_t place = 0;

	for (const struct finding *f = run->findings; f != NULL; f = f->next) {
		printf("%s ", c->number);
		if (strcmp(f->method, "spf") == 0)
			printf("%s", f->properties->name);
		else
			printf("%zu", place++);
		printf(" %s %s\n", f->result, f->reason == NULL ? "" :
		    f->reason);
	}
}

static void
print_explanation(const struct oracle_case *c, const struct verdict *verdict)
{
	static const char mark[] = ", explained by ";
	const char *text = verdict->text == NULL ? NULL :
	    strstr(verdict->text, mark);

	if (text != NULL)
		printf("%s explained - %s\n", c->number,
		    strchr(text + strlen(mark), ' ') + 1);
}

static void
set_client(struct session *session, const char *text)
{
	struct sockaddr_in *four = (void *)&session->client;
	struct sockaddr_in6 *six = (void *)&session->client;

	if (inet_pton(AF_INET, text, &four->sin_addr) == 1)
		four->sin_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1)
		six->sin6_family = AF_INET6;
	else
		errx(1, "not an address: %s", text);
}

static void
pass_message(struct filter_run *run, const struct oracle_case *c)
{
	size_t at = headers_parse(&run->mail->headers, run->mail->arena,
	    c->message, c->message_len);

	if (c->message_len - at >= 2 && memcmp(c->message + at, "\r\n", 2) == 0)
		at += 2;
	run->filter->eoh(run);
	run->filter->body(run, c->message + at, c->message_len - at);
	run->filter->eom(run);
}

static void
run_case(struct oracle *oracle)
{
	struct oracle_case *c = &oracle->now;
	struct session session = { .arena = c->arena, .helo = c->helo,
		.hostname = "mx.example" };
	struct mail *mail = mail_new(&session, 1 << 20, "/tmp");
	struct filter_run run = { .filter = oracle->filter,
		.name = oracle->filter->name, .instance = oracle->instance,
		.session = &session, .mail = mail };

	if (c->client != NULL)
		set_client(&session, c->client);
	if (c->sender != NULL)
		mail->envelope.sender = c->sender;
	dns_set_source(answer, c);
	if (c->message != NULL)
		pass_message(&run, c);
	else {
		struct verdict verdict;

		oracle->filter->mail(&run);
		verdict = oracle->filter->data(&run);
		oracle->filter->eom(&run);
		print_explanation(c, &verdict);
	}
	dns_set_source(NULL, NULL);
	print(c, &run);
	mail_free(&mail);
}

static void
run_all(void *argument)
{
	struct oracle *oracle = argument;

	while (read_case(oracle)) {
		run_case(oracle);
		arena_free(&oracle->now.arena);
	}
	arena_free(&oracle->now.arena);
	task_stop();
}

int
main(int argc, char **argv)
{
	struct oracle oracle = { .filter = &filter_spf };
	static const struct section_kind top = { .name = "" };
	const struct section_kind *kinds[] = { &top, filter_spf.options,
		filter_dkim.options };
	struct buf errors = BUF_INIT, text = BUF_INIT;
	struct conf *conf;
	struct conf_section section;
	struct task *task;
	const char *why;

	if (argc != 3)
		errx(1, "usage: oracle spf|openssl|libopendkim FILE");
	if (strcmp(argv[1], "spf") == 0)
		buf_puts(&text, "spf { fail = reject }\n");
	else {
		oracle.filter = &filter_dkim;
		buf_printf(&text, "dkim { partial_body = pass\n"
		    "engine = %s }\n", argv[1]);
	}
	conf = conf_load(NULL, text.data, kinds, 3, &errors);
	if (conf == NULL)
		errx(1, "%s", errors.data);
	if ((oracle.in = fopen(argv[2], "r")) == NULL)
		err(1, "%s", argv[2]);
	section = (struct conf_section){ .kind = oracle.filter->options,
		.values = conf_get(conf, oracle.filter->name) };
	oracle.instance = oracle.filter->setup(conf, &section, &why);
	if (oracle.instance == NULL)
		errx(1, "%s", why);
	task_init();
	task = task_start("oracle", run_all, &oracle);
	task_loop();
	task_join(&task, DEADLINE_NEVER);
	task_shutdown();
	if (oracle.filter->release != NULL)
		oracle.filter->release(oracle.instance);
	fclose(oracle.in);
	conf_free(&conf);
	buf_release(&errors);
	buf_release(&text);
	return 0;
}
