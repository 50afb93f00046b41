/* The configuration's files: reading them, and seeing that they changed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf_impl.h"
#include "base/log.h"

const char *
conf_path(struct conf *conf, const char *path)
{
	if (path[0] == '/')
		return arena_strdup(conf->arena, path);
	return arena_printf(conf->arena, "%s%s", conf->directory, path);
}

/* Notes how the file is now; fd -1: by its path. */
static void
watch(struct conf *conf, const char *path, int fd)
{
	struct conf_watch *w = arena_alloc(conf->arena, sizeof(*w));
	char *cwd = NULL;

	/* The daemon may leave this directory. */
	if (path[0] != '/' && (cwd = getcwd(NULL, 0)) != NULL)
		w->path = arena_printf(conf->arena, "%s/%s", cwd, path);
	else
		w->path = arena_strdup(conf->arena, path);
	free(cwd);
	w->exists = (fd < 0 ? stat(path, &w->status) :
	    fstat(fd, &w->status)) == 0;
	w->next = conf->watches;
	conf->watches = w;
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	    a->st_size == b->st_size &&
	    a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	    a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

bool
conf_changed_on_disk(const struct conf *conf)
{
	struct stat now;

	for (const struct conf_watch *w = conf->watches; w != NULL;
	    w = w->next) {
		bool exists = stat(w->path, &now) == 0;

		if (exists != w->exists ||
		    (exists && !same_file(&now, &w->status)))
			return true;
	}
	return false;
}

/* All of an open file in one NUL-ended run from malloc, or NULL and *why. */
static char *
read_all(int fd, size_t max, size_t *len, const char **why)
{
	size_t size = 8192;
	struct stat status;
	char *bytes, *grown;
	ssize_t n;

	if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
	    status.st_size > 0 && (size_t)status.st_size < max)
		size = (size_t)status.st_size + 1;
	*len = 0;
	if ((bytes = malloc(size + 1)) == NULL)
		fatal("out of memory");
	while ((n = read(fd, bytes + *len, size - *len)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			*why = strerror(errno);
		else if ((*len += (size_t)n) > max)
			*why = "the file is too large";
		if (n < 0 || *len > max) {
			free(bytes);
			return NULL;
		}
		if (*len < size)
			continue;
		if ((grown = realloc(bytes, (size *= 2) + 1)) == NULL)
			fatal("out of memory");
		bytes = grown;
	}
	bytes[*len] = '\0';
	return bytes;
}

static char *
read_file(struct conf *conf, const char *path, size_t max, size_t *len,
    const char **why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *bytes;

	if (fd < 0) {
		*why = strerror(errno);
		return NULL;
	}
	watch(conf, path, fd);
	bytes = read_all(fd, max, len, why);
	close(fd);
	return bytes;
}

void
conf_variable_add(struct conf *conf, const char *name, const char *value)
{
	struct conf_variable *v = arena_alloc(conf->arena, sizeof(*v));

	v->name = arena_strdup(conf->arena, name);
	v->value = arena_strdup(conf->arena, value);
	v->next = conf->variables;
	conf->variables = v;
}

/* Notes the variables that libconfuse will put in: ${NAME}, ${NAME:-x}. */
static void
note_variables(struct conf *conf, const char *text)
{
	const char *value;

	while ((text = strstr(text, "${")) != NULL) {
		const char *name = arena_strndup(conf->arena, text + 2,
		    strcspn(text + 2, ":}"));

		if ((value = getenv(name)) != NULL)
			conf_variable_add(conf, name, value);
		text += 2;
	}
}

struct conf_source *
conf_source_add(struct conf *conf, const char *name, const char *bytes,
    size_t len, bool top)
{
	struct conf_source *source = arena_alloc(conf->arena,
	    sizeof(*source)), **last = &conf->sources;

	source->name = arena_strdup(conf->arena, name);
	source->bytes = arena_strndup(conf->arena, bytes, len);
	source->len = len;
	source->top = top;
	while (*last != NULL)
		last = &(*last)->next;
	*last = source;
	conf->source_count++;
	return source;
}

const struct conf_source *
conf_source_find(const struct conf *conf, const char *name)
{
	const struct conf_source *source = conf->sources;

	while (source != NULL && strcmp(source->name, name) != 0)
		source = source->next;
	return source;
}

const struct conf_source *
conf_source_get(struct conf *conf, const char *name, bool top,
    const char **why)
{
	const struct conf_source *source = conf_source_find(conf, name);
	char *bytes;
	size_t len;

	if (source != NULL)
		return source;
	*why = "not in the snapshot";
	if (!conf->from_disk)
		return NULL;
	*why = "too many files";
	if (conf->source_count >= CONF_SOURCES_MAX)
		return NULL;
	bytes = read_file(conf, name, CONF_SOURCE_MAX, &len, why);
	if (bytes == NULL)
		return NULL;
	if (memchr(bytes, '\0', len) != NULL) {
		*why = "there is a NUL byte in the file";
	} else {
		source = conf_source_add(conf, name, bytes, len, top);
		note_variables(conf, bytes);
	}
	free(bytes);
	return source;
}

struct conf_bytes *
conf_bytes_add(struct conf *conf, const char *path, char *bytes, size_t len,
    bool table)
{
	struct conf_bytes *file = arena_alloc(conf->arena, sizeof(*file));

	file->path = arena_strdup(conf->arena, path);
	file->bytes = bytes;
	file->len = len;
	file->table = table;
	file->next = conf->files;
	return conf->files = file;
}

struct conf_bytes *
conf_bytes_get(struct conf *conf, const char *path, bool table,
    const char **why)
{
	struct conf_bytes *file = conf->files;
	char *bytes;
	size_t len;

	while (file != NULL && strcmp(file->path, path) != 0)
		file = file->next;
	if (file != NULL) {
		file->table |= table;
		return file;
	}
	*why = "not in the snapshot";
	if (!conf->from_disk)
		return NULL;
	bytes = read_file(conf, path, table ? CONF_TABLE_MAX : CONF_FILE_MAX,
	    &len, why);
	return bytes == NULL ? NULL :
	    conf_bytes_add(conf, path, bytes, len, table);
}

static int
is_conf(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return entry->d_name[0] != '.' && len > 5 &&
	    strcmp(entry->d_name + len - 5, ".conf") == 0;
}

static int
read_directory(struct conf *conf, struct buf *errors)
{
	const char *path = conf_path(conf, "conf.d"), *why, *name;
	struct dirent **entries;
	int n = scandir(path, &entries, is_conf, alphasort), rc = 0;

	watch(conf, path, -1);
	if (n < 0 && errno != ENOENT) {
		buf_printf(errors, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	for (int i = 0; i < n; i++) {
		name = arena_printf(conf->arena, "%s/%s", path,
		    entries[i]->d_name);
		free(entries[i]);
		if (conf_source_get(conf, name, true, &why) == NULL) {
			buf_printf(errors, "%s: %s\n", name, why);
			rc = -1;
		}
	}
	if (n >= 0)
		free(entries);
	return rc;
}

int
conf_read_all(struct conf *conf, const char *path, struct buf *errors)
{
	const char *slash = strrchr(path, '/'), *why;

	conf->name = arena_strdup(conf->arena, path);
	conf->directory = slash == NULL ? "" : arena_strndup(conf->arena, path,
	    (size_t)(slash + 1 - path));
	if (conf_source_get(conf, path, true, &why) == NULL) {
		buf_printf(errors, "%s: %s\n", path, why);
		return -1;
	}
	return read_directory(conf, errors);
}
