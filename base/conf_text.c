/*
 * Comments out of the configuration's text.  libconfuse 3.3 counts lines wrong
 * behind a comment, and takes a string or comment without end for granted; so
 * it gets a text in which comments are blank.
 */
#include <stdbool.h>
#include <string.h>

#include "base/conf_impl.h"

struct text {
	char *p;
	int line;
};

/* Passes one byte; blanks it if it belongs to a comment. */
static void
pass(struct text *t, bool blank)
{
	if (*t->p == '\n')
		t->line++;
	else if (blank)
		*t->p = ' ';
	t->p++;
}

static bool
pass_string(struct text *t)
{
	char quote = *t->p;

	pass(t, false);
	for (; *t->p != quote; pass(t, false)) {
		if (*t->p == '\\' && t->p[1] != '\0')
			pass(t, false);
		if (*t->p == '\0')
			return false;
	}
	pass(t, false);
	return true;
}

static bool
pass_long_comment(struct text *t)
{
	pass(t, true);
	pass(t, true);
	while (!(t->p[0] == '*' && t->p[1] == '/')) {
		if (*t->p == '\0')
			return false;
		pass(t, true);
	}
	pass(t, true);
	pass(t, true);
	return true;
}

const char *
conf_blank_comments(char *text, int *line)
{
	struct text t = { text, 1 };
	bool in_word = false;		/* http://x is no comment */

	while (*t.p != '\0') {
		*line = t.line;
		if (*t.p == '"' || *t.p == '\'') {
			if (!pass_string(&t))
				return "a string has no closing quote";
			in_word = false;
		} else if (t.p[0] == '/' && t.p[1] == '*') {
			if (!pass_long_comment(&t))
				return "a comment has no end";
			in_word = false;
		} else if (*t.p == '#' ||
		    (!in_word && t.p[0] == '/' && t.p[1] == '/')) {
			while (*t.p != '\0' && *t.p != '\n')
				pass(&t, true);
			in_word = false;
		} else {
			in_word = strchr(" \t\r\n={}()+,", *t.p) == NULL;
			pass(&t, false);
		}
	}
	return NULL;
}
