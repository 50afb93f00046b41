/* What each role does at its steps (process.h); a file proc_*.c per role. */
#ifndef GATEWAY_PROC_H
#define GATEWAY_PROC_H

#include <stdint.h>

struct process;

int gateway_prepare(struct process *, const char **why);
int gateway_start(struct process *, const char **why);
void gateway_drain(struct process *, int64_t deadline);

int relay_prepare(struct process *, const char **why);
int relay_start_process(struct process *, const char **why);
void relay_drain_process(struct process *, int64_t deadline);
void relay_message(struct process *, const char *text);

int host_prepare(struct process *, const char **why);
int host_start(struct process *, const char **why);
void host_drain(struct process *, int64_t deadline);

int policy_prepare(struct process *, const char **why);
int policy_start(struct process *, const char **why);
void policy_drain(struct process *, int64_t deadline);

int console_prepare(struct process *, const char **why);
int console_start(struct process *, const char **why);
void console_message(struct process *, const char *text);
void console_drain(struct process *, int64_t deadline);

#endif
