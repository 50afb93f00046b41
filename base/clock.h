/* Clocks; deadlines of waits are in the milliseconds of task_now(). */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* Time since the Unix epoch; may jump when somebody sets the clock. */
int64_t clock_wall_ms(void);
int64_t clock_wall_us(void);

/* The monotonic clock, for measuring how long something took. */
int64_t clock_us(void);

#endif
