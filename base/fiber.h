/*
 * Fibers: functions with a stack of their own, which the thread enters and
 * leaves without a system call.  For task.c only; others use tasks.
 */
#ifndef BASE_FIBER_H
#define BASE_FIBER_H

#include <stdbool.h>

struct fiber;

typedef void fiber_f(void *argument);

/*
 * A fiber that will run that function, on a pooled stack if there is one.
 * NULL with errno if none can be mapped.
 */
struct fiber *fiber_get(fiber_f *, void *argument);

/*
 * Runs it until it suspends itself: true; or until its function returns:
 * false, and it is back in the pool.  Never called from within a fiber.
 */
bool fiber_resume(struct fiber *);

/* Goes back to who resumed the running fiber. */
void fiber_suspend(void);

/* Unmaps this thread's pooled stacks. */
void fiber_release_pool(void);

#endif
