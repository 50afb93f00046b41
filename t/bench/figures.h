/* What the load generators count. */
#ifndef T_BENCH_FIGURES_H
#define T_BENCH_FIGURES_H

/* Makes room for so many transactions, and begins.  -1: no memory. */
int figures_begin(int transactions);

double figures_now(void);			/* seconds, monotonic */
double figures_cpu(void);			/* that this process has used */

/* One that began then was done now; one that failed. */
void figures_done(double begin);
void figures_failed(void);

/*
 * Prints start, end, accepted, failed, p50 and p99 (microseconds) as name=value.
 * Whether none failed.
 */
int figures_print(void);

#endif
