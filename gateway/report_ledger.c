/* Reports that were sent, but of which the store does not know it. */
#include "gateway/report_ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

#define SIZE_MAX_BYTES (1 << 20)
#define KEEP_MS (30 * INT64_C(86400000))	/* longer than the store does */

struct report_ledger {
	char *path;
	char **keys;
	size_t count, room;
};

static void
take(struct report_ledger *ledger, const char *key)
{
	if (ledger->count == ledger->room) {
		ledger->room = 2 * ledger->room + 16;
		ledger->keys = realloc(ledger->keys, ledger->room *
		    sizeof(*ledger->keys));
	}
	if (ledger->keys == NULL ||
	    (ledger->keys[ledger->count] = strdup(key)) == NULL)
		fatal("out of memory (reports)");
	ledger->count++;
}

static bool
is_recent(const char *key)
{
	const char *blank = strchr(key, ' ');

	return blank != NULL && strtoll(blank, NULL, 10) >
	    clock_wall_ms() - KEEP_MS;
}

static void
read_keys(struct report_ledger *ledger)
{
	FILE *file = fopen(ledger->path, "re");
	char *line = NULL;
	size_t size = 0, total = 0;
	ssize_t len;

	if (file == NULL && errno != ENOENT)
		log_error(NULL, "dmarc-report: cannot read %s: %s",
		    ledger->path, strerror(errno));
	while (file != NULL && total < SIZE_MAX_BYTES &&
	    (len = getline(&line, &size, file)) > 0) {
		total += (size_t)len;
		/* A line without its end was never finished. */
		if (line[len - 1] != '\n')
			break;
		line[len - 1] = '\0';
		if (is_recent(line))
			take(ledger, line);
	}
	free(line);
	if (file != NULL)
		fclose(file);
}

struct report_ledger *
report_ledger_open(const char *path)
{
	struct report_ledger *ledger = calloc(1, sizeof(*ledger));

	if (ledger == NULL || (ledger->path = strdup(path)) == NULL)
		fatal("out of memory (reports)");
	read_keys(ledger);
	return ledger;
}

void
report_ledger_free(struct report_ledger **ledgerp)
{
	struct report_ledger *ledger = *ledgerp;

	*ledgerp = NULL;
	if (ledger == NULL)
		return;
	for (size_t i = 0; i < ledger->count; i++)
		free(ledger->keys[i]);
	free(ledger->keys);
	free(ledger->path);
	free(ledger);
}

static int
write_synced(const char *path, const struct buf *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC |
	    O_NOFOLLOW, 0600), rc = -1;

	if (fd == -1)
		return -1;
	if (text->len == 0 || write(fd, text->data, text->len) ==
	    (ssize_t)text->len)
		rc = fdatasync(fd);
	close(fd);
	return rc;
}

static int
sync_directory(const char *path)
{
	char *copy = strdup(path);
	int fd = copy != NULL ? open(dirname(copy), O_RDONLY | O_DIRECTORY |
	    O_CLOEXEC) : -1;
	int rc = fd != -1 ? fsync(fd) : -1;

	if (fd != -1)
		close(fd);
	free(copy);
	return rc;
}

/* Reports are few: the loop may wait for the disk. */
static void
write_keys(const struct report_ledger *ledger)
{
	struct buf text = BUF_INIT, path = BUF_INIT;

	for (size_t i = 0; i < ledger->count; i++)
		buf_printf(&text, "%s\n", ledger->keys[i]);
	buf_printf(&path, "%s.new", ledger->path);
	if (write_synced(path.data, &text) != 0 ||
	    rename(path.data, ledger->path) != 0 ||
	    sync_directory(ledger->path) != 0)
		log_error(NULL, "dmarc-report: cannot write %s: %s",
		    ledger->path, strerror(errno));
	buf_release(&path);
	buf_release(&text);
}

bool
report_ledger_has(const struct report_ledger *ledger, const char *key)
{
	for (size_t i = 0; i < ledger->count; i++)
		if (strcmp(ledger->keys[i], key) == 0)
			return true;
	return false;
}

void
report_ledger_add(struct report_ledger *ledger, const char *key)
{
	if (report_ledger_has(ledger, key))
		return;
	take(ledger, key);
	write_keys(ledger);
}

void
report_ledger_remove(struct report_ledger *ledger, const char *key)
{
	size_t kept = 0, len = strlen(key), before = ledger->count;

	for (size_t i = 0; i < ledger->count; i++) {
		char *at = ledger->keys[i];

		if (strncmp(at, key, len) == 0 &&
		    (at[len] == '\0' || at[len] == ' '))
			free(at);
		else
			ledger->keys[kept++] = at;
	}
	ledger->count = kept;
	if (kept != before)
		write_keys(ledger);
}

const char *
report_ledger_at(const struct report_ledger *ledger, size_t i)
{
	return i < ledger->count ? ledger->keys[i] : NULL;
}
