#include "config.h"

#include "gateway/answer_through.h"

#include "base/arena.h"
#include "base/task.h"
#include "filters/trace.h"
#include "gateway/client.h"
#include "gateway/cutthrough.h"

/* Well below the ten minutes after which a client gives up. */
#define DELIVER_MS (4 * 60 * 1000)

static size_t
list_recipients(const struct mail *mail, struct delivery *results)
{
	size_t count = 0;

	for (const struct recipient *rcpt = mail->envelope.recipients;
	    rcpt != NULL; rcpt = rcpt->next)
		results[count++].recipient = rcpt;
	return count;
}

static void
trace_results(const struct mail *mail, const struct delivery *results,
    size_t count)
{
	static const char *const words[] = { "sent", "deferred", "refused" };

	for (size_t i = 0; i < count; i++)
		trace_add(mail->trace, "cut-through", "<%s> %s: %d %s",
		    results[i].recipient->address, words[results[i].status],
		    results[i].code, results[i].text);
}

/* Takes those delivered out of the envelope.  How many. */
static size_t
remove_delivered(struct mail *mail, const struct delivery *results,
    size_t count)
{
	size_t delivered = 0;

	for (size_t i = 0; i < count; i++)
		delivered += results[i].status == DELIVERY_OK;
	if (delivered == count)
		return delivered;
	for (size_t i = 0; i < count; i++)
		if (results[i].status == DELIVERY_OK)
			envelope_delete_recipient(&mail->envelope,
			    results[i].recipient->address);
	return delivered;
}

bool
answer_through(struct mail *mail, const struct slice *content, size_t parts,
    size_t size, struct verdict *reply, void *cutthrough)
{
	size_t count = envelope_count(&mail->envelope);
	struct delivery *results;
	enum delivery_status status;

	(void)content;
	(void)parts;
	(void)size;
	if (count == 0)
		return false;
	results = arena_alloc(mail->arena, count * sizeof(*results));
	list_recipients(mail, results);
	status = cutthrough_deliver(cutthrough, mail, results, count,
	    task_deadline(DELIVER_MS));
	trace_results(mail, results, count);
	if (remove_delivered(mail, results, count) == count) {
		*reply = (struct verdict){ .action = ACTION_ACCEPT,
			.text = results[0].text };
		return true;
	}
	if (status != DELIVERY_PERMANENT ||
	    envelope_count(&mail->envelope) != count)
		return false;	/* the relay sees to those that are left */
	*reply = (struct verdict){
		.action = ACTION_REJECT,
		.code = results[0].code >= 500 ? results[0].code : 550,
		.enhanced = results[0].enhanced,
		.text = results[0].text,
		.reason = "next-hop",
	};
	return true;
}
