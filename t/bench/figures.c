/* What the load generators count. */
#include "t/bench/figures.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

static uint32_t *latency_us;
static int accepted, failed, room;
static double first_start, last_end;

double
figures_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

double
figures_cpu(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int
figures_begin(int transactions)
{
	room = transactions;
	latency_us = calloc((size_t)room + 1, sizeof(*latency_us));
	first_start = figures_now();
	return latency_us == NULL ? -1 : 0;
}

void
figures_done(double begin)
{
	last_end = figures_now();
	if (accepted < room)
		latency_us[accepted++] = (uint32_t)((last_end - begin) * 1e6);
}

void
figures_failed(void)
{
	failed++;
}

static int
compare(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return left < right ? -1 : left > right;
}

int
figures_print(void)
{
	qsort(latency_us, (size_t)accepted, sizeof(*latency_us), compare);
	printf("start=%.6f end=%.6f accepted=%d failed=%d p50=%" PRIu32
	    " p99=%" PRIu32 "\n", first_start, last_end, accepted, failed,
	    accepted > 0 ? latency_us[accepted / 2] : 0,
	    accepted > 0 ? latency_us[accepted * 99 / 100] : 0);
	free(latency_us);
	return failed == 0;
}
