/* Between task.c and task_wait.c: how a task waits and is woken. */
#ifndef BASE_TASK_INTERNAL_H
#define BASE_TASK_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

struct task;

/* The running task waits until it is woken.  0, or -1 with errno. */
int task_wait_until(int64_t deadline);

/* Ends a task's wait; result is 0 or an errno.  Nothing if it doesn't wait. */
void task_wake(struct task *, int result);

/* How many more events (or fewer) descriptors hold on the loop. */
void task_watch(int events);

/* Whether it waits and nothing has woken it yet. */
bool task_is_waiting(const struct task *);

#endif
