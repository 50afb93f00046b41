/* millgatectl dkim: keys and their records (RFC 6376, RFC 8301, RFC 8463). */
#include "gateway/dkim_command.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/dns.h"
#include "base/key_table.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/dkim_signature.h"
#include "filters/domain.h"

#define BITS_DEFAULT	2048		/* RFC 8301, 3.2: at least */
#define BITS_MIN	1024
#define BITS_MAX	4096		/* what verifiers have to know */
#define STRING_MAX	255		/* RFC 1035, 3.3.14 */
#define CHECK_MS	10000
#define TABLE_MAX	(1024 * 1024)	/* as the master reads it */

/* What was asked for. */
struct request {
	struct arena *arena;
	const char *type;		/* "rsa" or "ed25519" */
	int bits;
	const char *domain, *selector, *file, *server;
	const char *name;		/* of the record */
	EVP_PKEY *key;
	const struct key_table *table;	/* NULL: one key */
	int status;			/* of the exit */
};

static int
fails(int status, const char *what, const char *why)
{
	fprintf(stderr, "millgatectl: %s: %s\n", what, why);
	return status;
}

/* --- records --- */

static const char *
base64(struct arena *arena, const unsigned char *bytes, size_t len)
{
	unsigned char *text = arena_alloc(arena, (len + 2) / 3 * 4 + 1);

	EVP_EncodeBlock(text, bytes, (int)len);
	return (const char *)text;
}

/* The value of p=. */
static const char *
public_text(struct arena *arena, EVP_PKEY *key)
{
	unsigned char *der = NULL, raw[64];
	size_t size = sizeof(raw);
	const char *text;
	int len;

	/* RFC 8463, 4.2: the bare key, no structure around it. */
	if (EVP_PKEY_is_a(key, "ED25519")) {
		if (EVP_PKEY_get_raw_public_key(key, raw, &size) != 1)
			fatal("OpenSSL gives no public key");
		return base64(arena, raw, size);
	}
	if ((len = i2d_PUBKEY(key, &der)) <= 0)
		fatal("OpenSSL gives no public key");
	text = base64(arena, der, (size_t)len);
	OPENSSL_free(der);
	return text;
}

const char *
dkim_record_text(struct arena *arena, EVP_PKEY *key)
{
	return arena_printf(arena, "v=DKIM1; k=%s; p=%s",
	    EVP_PKEY_is_a(key, "ED25519") ? "ed25519" : "rsa",
	    public_text(arena, key));
}

const char *
dkim_record_zone(struct arena *arena, const char *name, const char *text)
{
	size_t left = strlen(text), n;
	const char *zone;

	if (left <= STRING_MAX)
		return arena_printf(arena, "%s. IN TXT \"%s\"", name, text);
	zone = arena_printf(arena, "%s. IN TXT (", name);
	for (; left > 0; left -= n, text += n) {
		n = left < STRING_MAX ? left : STRING_MAX;
		zone = arena_printf(arena, "%s\n\t\"%.*s\"", zone, (int)n,
		    text);
	}
	return arena_printf(arena, "%s )", zone);
}

/* The letters of p=, white space left out. */
static const char *
letters(struct arena *arena, const struct tag *tag)
{
	char *text = arena_alloc(arena, tag->len + 1), *at = text;

	for (size_t i = 0; i < tag->len; i++)
		if (strchr(" \t\r\n", tag->value[i]) == NULL)
			*at++ = tag->value[i];
	*at = '\0';
	return text;
}

const char *
dkim_record_differs(struct arena *arena, EVP_PKEY *key, const char *record,
    size_t len)
{
	bool ed25519 = EVP_PKEY_is_a(key, "ED25519");
	struct dkim_signature signature = {
		.algorithm = ed25519 ? "ed25519-sha256" : "rsa-sha256",
		.domain = "example.org", .identity = "@example.org" };
	struct tag_list tags;
	const char *why;

	/* All that a verifier would hold against it. */
	dkim_signature_check_key(&signature, record, len);
	if (signature.result != NULL)
		return signature.reason;
	if (tag_list_parse(&tags, record, len, &why) == -1)
		return why;
	if (strcmp(letters(arena, tag_list_find(&tags, "p")),
	    public_text(arena, key)) != 0)
		return "p= is another key";
	return NULL;
}

/* --- files --- */

/* An encrypted key: Millgate could not use it either. */
static int
no_pass_phrase(char *text, int size, int writing, void *argument)
{
	(void)text, (void)size, (void)writing, (void)argument;
	return -1;
}

static int
key_read(struct request *request)
{
	BIO *bio = BIO_new_file(request->file, "r");

	if (bio == NULL)
		return fails(EX_NOINPUT, request->file, strerror(errno));
	request->key = PEM_read_bio_PrivateKey(bio, NULL, no_pass_phrase, NULL);
	BIO_free(bio);
	if (request->key == NULL)
		return fails(EX_DATAERR, request->file,
		    "not a private key in PEM, or with a pass phrase");
	if (!EVP_PKEY_is_a(request->key, "RSA") &&
	    !EVP_PKEY_is_a(request->key, "ED25519"))
		return fails(EX_DATAERR, request->file,
		    "the key is neither RSA nor Ed25519");
	return 0;
}

/* Never writes over a file: the key in it may be published. */
static int
key_write(const struct request *request, const char *pem, size_t len)
{
	int fd = open(request->file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
	    0600);
	ssize_t n;

	if (fd == -1)
		return fails(EX_CANTCREAT, request->file, strerror(errno));
	/* One that cannot be finished goes: it would be no key. */
	n = write(fd, pem, len);
	if (n != (ssize_t)len || fsync(fd) != 0) {
		(void)fails(EX_IOERR, request->file, n >= 0 &&
		    n != (ssize_t)len ? "cannot write it whole" :
		    strerror(errno));
		close(fd);
		unlink(request->file);
		return EX_IOERR;
	}
	close(fd);
	return EXIT_SUCCESS;
}

static int
keygen(struct request *request)
{
	BIO *bio;
	char *pem;
	long len;
	int status;

	request->key = strcmp(request->type, "rsa") == 0 ?
	    EVP_RSA_gen((unsigned)request->bits) :
	    EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	bio = BIO_new(BIO_s_secmem());
	if (request->key == NULL || bio == NULL || PEM_write_bio_PrivateKey(bio,
	    request->key, NULL, NULL, 0, NULL, NULL) != 1) {
		BIO_free(bio);
		return fails(EX_SOFTWARE, request->file,
		    "OpenSSL makes no key");
	}
	len = BIO_get_mem_data(bio, &pem);
	status = key_write(request, pem, (size_t)len);
	BIO_free(bio);
	return status;
}

static int
print_record(struct request *request)
{
	printf("%s\n", dkim_record_zone(request->arena, request->name,
	    dkim_record_text(request->arena, request->key)));
	return fflush(stdout) == 0 ? EXIT_SUCCESS :
	    fails(EX_IOERR, "cannot write", strerror(errno));
}

/* --- what is published --- */

static int
compare(struct request *request, const struct dns_answer *answer)
{
	const char *why = NULL;

	switch (answer->status) {
	case DNS_FAILED:
		return fails(EX_TEMPFAIL, request->name, answer->why == NULL ?
		    "DNS gives no answer" : answer->why);
	case DNS_NXDOMAIN:
	case DNS_NODATA:
		return fails(1, request->name, "there is no TXT record");
	case DNS_FOUND:
		break;
	}
	/* RFC 6376, 3.6.2.2: what verifiers do then is undefined. */
	if (answer->count > 1)
		why = "there are several TXT records";
	else
		why = dkim_record_differs(request->arena, request->key,
		    answer->records[0].text, answer->records[0].text_len);
	if (why != NULL)
		return fails(1, request->name, why);
	printf("%s: the key is published\n", request->name);
	return EXIT_SUCCESS;
}

static int
check_one(struct request *request)
{
	return compare(request, dns_query(request->arena, request->name,
	    DNS_TXT, task_deadline(CHECK_MS)));
}

/* Several patterns may have the same key. */
static bool
was_checked(const struct key_table *table, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(table->lines[i].domain,
		    table->lines[n].domain) == 0 &&
		    strcmp(table->lines[i].selector,
		    table->lines[n].selector) == 0)
			return true;
	return false;
}

static int
check_line(struct request *request, const struct key_line *line)
{
	int status;

	request->file = request->table->files[line->file].path;
	request->name = arena_printf(request->arena, "%s._domainkey.%s",
	    line->selector, line->domain);
	if ((status = key_read(request)) == 0)
		status = check_one(request);
	EVP_PKEY_free(request->key);
	request->key = NULL;
	return status;
}

/* Those of the past may be gone from DNS; those to come must be there. */
static int
check_lines(struct request *request)
{
	const struct key_table *table = request->table;
	int today = key_table_day(time(NULL)), status = EXIT_SUCCESS, one;

	for (size_t i = 0; i < table->count && status != EX_TEMPFAIL; i++) {
		if (table->lines[i].until < today || was_checked(table, i))
			continue;
		one = check_line(request, &table->lines[i]);
		status = one == EXIT_SUCCESS ? status : one;
	}
	return status;
}

static void
check_task(void *argument)
{
	struct request *request = argument;

	request->status = request->table == NULL ? check_one(request) :
	    check_lines(request);
	task_stop();
}

static int
check(struct request *request)
{
	const char *forwarders[] = { request->server, NULL }, *why;
	const struct dns_settings settings = { .forwarders = forwarders,
		.timeout_ms = CHECK_MS, .cache_size = 1 << 20 };
	struct task *task;

	task_init();
	if (dns_init(&settings, &why) == -1) {
		task_shutdown();
		return fails(EX_TEMPFAIL, "DNS", why);
	}
	task = task_start("dkim check", check_task, request);
	task_loop();
	task_join(&task, DEADLINE_NEVER);
	dns_shutdown();
	task_shutdown();
	return request->status;
}

static int
check_table(struct request *request)
{
	struct buf text = BUF_INIT, errors = BUF_INIT;
	BIO *bio = BIO_new_file(request->file, "r");
	int n;

	if (bio == NULL)
		return fails(EX_NOINPUT, request->file, strerror(errno));
	while (text.len < TABLE_MAX && (n = BIO_read(bio,
	    buf_reserve(&text, 4096), 4096)) > 0)
		text.len += (size_t)n;
	BIO_free(bio);
	request->table = key_table_parse(request->arena, request->file,
	    text.data, text.len, &errors);
	if (request->table == NULL)
		fprintf(stderr, "%s", errors.data);
	buf_release(&errors);
	buf_release(&text);
	return request->table == NULL ? EX_DATAERR : check(request);
}

/* --- the command line --- */

static int
usage(void)
{
	fprintf(stderr, "usage: millgatectl dkim ...\n%s", DKIM_COMMAND_USAGE);
	return EX_USAGE;
}

/* Sets the record's name; an exit status if it can be none. */
static int
set_name(struct request *request)
{
	const char *domain = domain_normalize(request->arena, request->domain,
	    strlen(request->domain));
	const char *selector = domain_normalize(request->arena,
	    request->selector, strlen(request->selector));

	if (domain == NULL)
		return fails(EX_USAGE, request->domain, "not a domain name");
	if (selector == NULL)
		return fails(EX_USAGE, request->selector,
		    "not a selector: letters, digits and \"-\"");
	request->name = arena_printf(request->arena, "%s._domainkey.%s",
	    selector, domain);
	if (strlen(request->name) > DOMAIN_MAX)
		return fails(EX_USAGE, request->name, "the name is too long");
	return 0;
}

static int
set_bits(struct request *request, const char *text)
{
	char *end;
	long bits = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || bits < BITS_MIN ||
	    bits > BITS_MAX)
		return fails(EX_USAGE, text,
		    "an RSA key has 1024 to 4096 bits");
	request->bits = (int)bits;
	return 0;
}

static int
take_option(struct request *request, int option)
{
	switch (option) {
	case 'b':
		return set_bits(request, optarg);
	case 'd':
		request->domain = optarg;
		return 0;
	case 's':
		request->selector = optarg;
		return 0;
	case 'S':
		request->server = optarg;
		return 0;
	case 't':
		request->type = optarg;
		if (strcmp(optarg, "rsa") == 0 ||
		    strcmp(optarg, "ed25519") == 0)
			return 0;
		return fails(EX_USAGE, optarg, "a key is rsa or ed25519");
	default:
		return usage();
	}
}

static int
parse(struct request *request, int argc, char **argv, const char *letters)
{
	static const struct option server[] = {
		{ "server", required_argument, NULL, 'S' }, { 0 } };
	static const struct option none[] = { { 0 } };
	int option, status;

	optind = 0;		/* getopt was at work on what is before us */
	while ((option = getopt_long(argc, argv, letters,
	    strcmp(argv[0], "check") == 0 ? server : none, NULL)) != -1)
		if ((status = take_option(request, option)) != 0)
			return status;
	if (argc - optind != 1)
		return usage();
	request->file = argv[optind];
	return 0;
}

struct command {
	const char *word, *letters;
	bool published;			/* is about a key and its record */
	int (*run)(struct request *);
	int (*run_table)(struct request *);	/* without -d and -s */
};

static const struct command commands[] = {
	{ "keygen", "b:t:", false, keygen, NULL },
	{ "dns", "d:s:", true, print_record, NULL },
	{ "check", "d:s:", true, check, check_table },
};

static int
run(struct request *request, const struct command *command, int argc,
    char **argv)
{
	int status = parse(request, argc, argv, command->letters);

	if (status != 0)
		return status;
	if (!command->published)
		return command->run(request);
	if (command->run_table != NULL && request->domain == NULL &&
	    request->selector == NULL)
		return command->run_table(request);
	if (request->domain == NULL || request->selector == NULL)
		return usage();
	if ((status = set_name(request)) != 0 ||
	    (status = key_read(request)) != 0)
		return status;
	return command->run(request);
}

int
dkim_command(int argc, char **argv)
{
	struct request request = { .type = "rsa", .bits = BITS_DEFAULT };
	int status = EX_USAGE;
	size_t i, count = sizeof(commands) / sizeof(commands[0]);

	for (i = 0; argc > 1 && i < count; i++)
		if (strcmp(argv[1], commands[i].word) == 0)
			break;
	if (argc < 2 || i == count)
		return usage();
	request.arena = arena_new(0);
	status = run(&request, &commands[i], argc - 1, argv + 1);
	EVP_PKEY_free(request.key);
	arena_free(&request.arena);
	return status;
}
