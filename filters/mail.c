/* A message as a whole: its making, its end, and its bytes for a writer. */
#include "filters/mail.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/task.h"

struct mail *
mail_new(struct session *session, size_t body_memory_limit,
    const char *temporary_directory)
{
	struct arena *arena = arena_new(0);
	struct mail *mail = arena_alloc(arena, sizeof(*mail));

	mail->arena = arena;
	mail->session = session;
	mail->body = body_new(body_memory_limit, temporary_directory);
	mail->deadline = DEADLINE_NEVER;
	mail->envelope.sender = "";
	mail->envelope.arrived_ms = clock_wall_ms();
	envelope_id_make(mail->envelope.id);
	snprintf(mail->log.id, sizeof(mail->log.id), "%s", mail->envelope.id);
	return mail;
}

void
mail_free(struct mail **mailp)
{
	struct mail *mail = *mailp;
	struct arena *arena;

	*mailp = NULL;
	if (mail == NULL)
		return;
	body_free(&mail->body);
	arena = mail->arena;	/* the mail itself lies in it */
	arena_free(&arena);
}

/* Fields as they came lie side by side: one slice for as many as do. */
static size_t
header_slices(const struct headers *headers, struct slice *slices)
{
	size_t n = 0;

	for (const struct header *h = headers->first; h != NULL; h = h->next) {
		if (n > 0 && slices[n - 1].data + slices[n - 1].len == h->raw)
			slices[n - 1].len += h->len;
		else
			slices[n++] = (struct slice){ .data = h->raw,
			    .fd = -1, .len = h->len };
	}
	return n;
}

struct slice *
mail_slices(const struct mail *mail, size_t *count, size_t *size)
{
	size_t body_count, n;
	struct slice *body = body_slices(mail->body, mail->arena, &body_count);
	struct slice *slices = arena_alloc(mail->arena,
	    (mail->headers.count + 1 + body_count) * sizeof(*slices));

	n = header_slices(&mail->headers, slices);
	slices[n++] = (struct slice){ .data = "\r\n", .fd = -1, .len = 2 };
	memcpy(slices + n, body, body_count * sizeof(*slices));
	*count = n + body_count;
	*size = mail->headers.bytes + 2 + body_size(mail->body);
	return slices;
}
