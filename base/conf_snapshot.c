/*
 * Snapshots: what a child process needs of the configuration.
 *
 * A stream of entries, each a head, a name and bytes.  Both ends run the same
 * executable, so numbers have the machine's own form.  A key or a password
 * reaches only the snapshots of those roles that may see it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf_impl.h"
#include "base/key_table.h"
#include "base/log.h"

#define MAGIC 0x4d475331u		/* "MGS1" */
#define NAME_MAX_LEN 65536

enum entry_kind { ENTRY_MAIN, ENTRY_VARIABLE, ENTRY_SOURCE, ENTRY_INCLUDED,
	ENTRY_TABLE, ENTRY_FILE, ENTRY_END };

struct entry_head {
	uint32_t magic, kind;
	uint64_t name_len, len;
};

/* --- writing --- */

static int
write_all(int fd, const void *bytes, size_t len)
{
	const char *p = bytes;
	ssize_t n;

	for (; len > 0; p += n, len -= (size_t)n) {
		n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n < 0)
			return -1;
	}
	return 0;
}

static int
write_entry(int fd, enum entry_kind kind, const char *name,
    const char *bytes, size_t len)
{
	struct entry_head head = { MAGIC, kind, strlen(name), len };

	return write_all(fd, &head, sizeof(head)) != 0 ||
	    write_all(fd, name, head.name_len) != 0 ||
	    write_all(fd, bytes, len) != 0 ? -1 : 0;
}

static bool
is_made_from(const struct conf *conf, option_table_t table, const char *path)
{
	for (const struct conf_made_table *m = conf->tables; m != NULL;
	    m = m->next)
		if (m->table == table)
			return m->path != NULL && strcmp(m->path, path) == 0;
	return false;
}

/* Does the value of that option name the file? */
static bool
names_file(const struct conf *conf, const struct option_row *row,
    const void *values, const char *path)
{
	const void *at = (const char *)values + row->offset;
	const struct key_table *keys;
	const char *file;

	if (row->type == OPTION_file) {
		file = *(const option_file_t *)at;
		return file != NULL && strcmp(file, path) == 0;
	}
	if (row->type == OPTION_table)
		return is_made_from(conf, *(const option_table_t *)at, path);
	if (row->type != OPTION_key_table)
		return false;
	if ((keys = *(const option_key_table_t *)at) == NULL)
		return false;
	for (size_t i = 0; i < keys->file_count; i++)
		if (strcmp(keys->files[i].path, path) == 0)
			return true;
	return strcmp(keys->name, path) == 0;
}

/* May the reader see that file, by any option that names it? */
static bool
is_seen(const struct conf *conf, const struct conf_bytes *file,
    conf_may_see_f *may_see, void *argument)
{
	for (size_t k = 0; k < conf->kind_count; k++) {
		const struct section_kind *kind = conf->kinds[k];
		const struct conf_group *group = &conf->groups[k];

		for (size_t n = 0; n < group->count * kind->row_count; n++) {
			const struct conf_section *section =
			    &group->sections[n / kind->row_count];
			const struct option_row *row =
			    &kind->rows[n % kind->row_count];

			if (names_file(conf, row, section->values, file->path) &&
			    may_see(section, row->name, argument))
				return true;
		}
	}
	return false;
}

int
conf_snapshot_write(const struct conf *conf, int fd,
    conf_may_see_f *may_see, void *argument, const char **why)
{
	int rc = write_entry(fd, ENTRY_MAIN, conf->name, conf->directory,
	    strlen(conf->directory));

	for (const struct conf_variable *v = conf->variables; v != NULL;
	    v = v->next)
		rc |= write_entry(fd, ENTRY_VARIABLE, v->name, v->value,
		    strlen(v->value));
	for (const struct conf_source *s = conf->sources; s != NULL;
	    s = s->next)
		rc |= write_entry(fd, s->top ? ENTRY_SOURCE : ENTRY_INCLUDED,
		    s->name, s->bytes, s->len);
	for (const struct conf_bytes *f = conf->files; f != NULL; f = f->next) {
		bool open = f->table && !f->secret;

		if (f->bytes == NULL || (!open && (may_see == NULL ||
		    !is_seen(conf, f, may_see, argument))))
			continue;
		rc |= write_entry(fd, f->table ? ENTRY_TABLE : ENTRY_FILE,
		    f->path, f->bytes, f->len);
	}
	rc |= write_entry(fd, ENTRY_END, "", "", 0);
	if (rc != 0)
		*why = strerror(errno);
	return rc;
}

/* --- reading --- */

struct input {
	int fd;
	bool seekable;			/* children share the file's offset */
	off_t offset, size;
};

static int
read_all(struct input *in, void *bytes, size_t len)
{
	char *p = bytes;
	ssize_t n;

	while (len > 0) {
		n = in->seekable ? pread(in->fd, p, len, in->offset) :
		    read(in->fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		p += n;
		in->offset += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Takes the bytes over, or frees them. */
static void
take_entry(struct conf *conf, enum entry_kind kind, const char *name,
    char *bytes, size_t len)
{
	switch (kind) {
	case ENTRY_MAIN:
		conf->name = arena_strdup(conf->arena, name);
		conf->directory = arena_strndup(conf->arena, bytes, len);
		break;
	case ENTRY_VARIABLE:
		conf_variable_add(conf, name, bytes);
		/* The text is parsed here as the master parsed it. */
		if (setenv(name, bytes, 1) != 0)
			fatal("out of memory");
		break;
	case ENTRY_SOURCE:
	case ENTRY_INCLUDED:
		conf_source_add(conf, name, bytes, len, kind == ENTRY_SOURCE);
		break;
	case ENTRY_TABLE:
	case ENTRY_FILE:
		conf_bytes_add(conf, name, bytes, len, kind == ENTRY_TABLE);
		return;
	case ENTRY_END:
		break;
	}
	free(bytes);
}

/* One entry: 1; the end: 0; broken: -1. */
static int
read_entry(struct input *in, struct conf *conf)
{
	struct entry_head head;
	char *name = NULL, *bytes = NULL;
	int rc = -1;

	if (read_all(in, &head, sizeof(head)) != 0 || head.magic != MAGIC ||
	    head.kind > ENTRY_END || head.name_len > NAME_MAX_LEN ||
	    head.len > CONF_TABLE_MAX)
		return -1;
	if (in->seekable && head.len > (uint64_t)(in->size - in->offset))
		return -1;
	if ((name = malloc(head.name_len + 1)) == NULL ||
	    (bytes = malloc(head.len + 1)) == NULL)
		goto out;
	if (read_all(in, name, head.name_len) != 0 ||
	    read_all(in, bytes, head.len) != 0)
		goto out;
	name[head.name_len] = '\0';
	bytes[head.len] = '\0';
	take_entry(conf, head.kind, name, bytes, head.len);
	bytes = NULL;			/* the configuration has it */
	rc = head.kind == ENTRY_END ? 0 : 1;
out:
	free(name);
	free(bytes);
	return rc;
}

/* The tables are made; their text isn't needed any more. */
static void
drop_table_text(struct conf *conf)
{
	for (struct conf_bytes *f = conf->files; f != NULL; f = f->next)
		if (f->table) {
			free(f->bytes);
			f->bytes = NULL;
			f->len = 0;
		}
}

struct conf *
conf_snapshot_read(int fd, const struct section_kind *const *kinds,
    size_t kind_count, const char **why)
{
	static char text[512];
	struct conf *conf = conf_new(kinds, kind_count);
	struct buf errors = BUF_INIT;
	struct input in = { .fd = fd };
	struct stat status;
	int rc;

	if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
		in.seekable = true;
		in.size = status.st_size;
	}
	while ((rc = read_entry(&in, conf)) == 1)
		continue;
	if (rc != 0) {
		*why = "the snapshot is broken";
		conf_free(&conf);
	} else if (conf_build(conf, &errors) != 0) {
		snprintf(text, sizeof(text), "the snapshot is wrong: %.*s",
		    (int)strcspn(errors.data, "\n"), errors.data);
		*why = text;
		conf_free(&conf);
	} else {
		drop_table_text(conf);
	}
	buf_release(&errors);
	return conf;
}
