/*
 * A sandbox for conditions written in Lua 5.4: one expression each, over names
 * that the caller provides, limited in memory, steps and time.  There are no
 * functions, tables or assignments to write, so nothing loops and nothing is
 * kept; no library of Lua's is there, and nothing can wait.
 *
 * Strings have the methods find, match (patterns of Perl's kind, base/pattern.h),
 * has, lower and upper.
 */
#ifndef FILTERS_LUA_BOX_H
#define FILTERS_LUA_BOX_H

#include <stdbool.h>
#include <stddef.h>

struct lua_State;
struct lua_box;
struct pattern;

/*
 * A name that expressions know.  A function is called by them; others are
 * called when the name is read, and push one value.
 */
struct lua_name {
	const char *name;
	bool function;
	int (*call)(struct lua_State *);
	/* Of a function or method whose first argument is written out: is it
	 * good?  NULL, or why not (until the next call). */
	const char *(*check)(struct lua_box *, const char *argument);
};

#define LUA_BOX_MEMORY ((size_t)1024 * 1024)
#define LUA_BOX_STEPS 10000

/* names are borrowed, in no order, ended by a NULL name. */
struct lua_box *lua_box_new(const struct lua_name *names, size_t memory,
    int steps);
void lua_box_free(struct lua_box **);

/*
 * Compiles an expression: a number for lua_box_run(); or -1 and *why, good
 * until the next call: its syntax, an unknown name, a pattern that is none.
 */
int lua_box_compile(struct lua_box *, const char *expression,
    const char **why);

enum lua_box_outcome {
	LUA_BOX_FAILED,			/* *why, good until the next call */
	LUA_BOX_FALSE,			/* false or nil */
	LUA_BOX_TRUE,			/* anything else, but: */
	LUA_BOX_NUMBER			/* *number, finite */
};

/* Evaluates it about the subject, which functions get by lua_box_subject(). */
enum lua_box_outcome lua_box_run(struct lua_box *, int expression, void *subject,
    double *number, const char **why);
void *lua_box_subject(struct lua_State *);

/* The box of a function that is called. */
struct lua_box *lua_box_of(struct lua_State *);

/* A pattern, compiled once; NULL: *why. */
const struct pattern *lua_box_pattern(struct lua_box *, const char *text,
    const char **why);

/* lua_text.c: the methods of strings, and number(), for lists of names. */
extern const struct lua_name lua_text_methods[];
int lua_text_number(struct lua_State *);

#endif
