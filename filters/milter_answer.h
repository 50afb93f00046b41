/* milter_library.c's: what our loop answers, said to the library. */
#ifndef FILTERS_MILTER_ANSWER_H
#define FILTERS_MILTER_ANSWER_H

#include <libmilter/mfapi.h>

struct milter_reply;

/* An edit, or a sign of life.  As the library's function, MI_SUCCESS or not. */
int milter_answer_replay(SMFICTX *, const struct milter_reply *);

/* Sets the text that a reply has. */
sfsistat milter_answer_verdict(SMFICTX *, const struct milter_reply *);

#endif
