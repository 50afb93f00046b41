/*
 * The console's side of the queue commands (queue_command.h): requests of
 * several tasks over the one link to the relay.
 */
#ifndef GATEWAY_CONTROL_QUEUE_H
#define GATEWAY_CONTROL_QUEUE_H

struct control_queue;

#define CONTROL_WHY_SIZE 600

/* Takes a line of the answer, without its end; may wait.  -1: no more. */
typedef int control_line_f(const char *line, void *argument);

/* Uses that link, which stays the caller's; starts a task that reads it. */
struct control_queue *control_queue_new(int link);

/* Ends that task; no request may be under way. */
void control_queue_free(struct control_queue **);

/*
 * Asks the relay, such as "show 4bXk2w", and calls f for each line.  0, or -1
 * and why: the relay can't do it, or does not answer within timeout_ms, in
 * which case it may still act on it.
 */
int control_queue_ask(struct control_queue *, const char *request,
    int timeout_ms, control_line_f *f, void *argument,
    char why[CONTROL_WHY_SIZE]);

#endif
