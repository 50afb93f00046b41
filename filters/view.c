/* Header sections as they stood at one time. */
#include "filters/view.h"

#include "base/arena.h"

struct view *
view_take(const struct headers *headers, struct arena *arena)
{
	struct view *view = arena_alloc(arena, sizeof(*view));

	view->fields = arena_alloc(arena, (headers->count + 1) *
	    sizeof(view->fields[0]));
	for (struct header *h = headers->first; h != NULL; h = h->next)
		view->fields[view->count++] = (struct view_field){
		    .header = h, .raw = h->raw, .len = h->len };
	return view;
}

void
view_copy_headers(const struct headers *headers, struct arena *arena,
    struct headers *copy)
{
	*copy = (struct headers){ .count = headers->count,
	    .bytes = headers->bytes };
	for (const struct header *h = headers->first; h != NULL;
	    h = h->next) {
		struct header *new = arena_memdup(arena, h, sizeof(*h));

		new->previous = copy->last;
		new->next = NULL;
		if (copy->last != NULL)
			copy->last->next = new;
		else
			copy->first = new;
		copy->last = new;
	}
}

bool
view_holds(struct view *view, const struct headers *headers)
{
	struct header *h = headers->first;

	if (view->count != headers->count)
		return false;
	for (size_t i = 0; i < view->count; i++, h = h->next)
		if (view->fields[i].raw != h->raw ||
		    view->fields[i].len != h->len)
			return false;
	h = headers->first;
	for (size_t i = 0; i < view->count; i++, h = h->next)
		view->fields[i].header = h;
	return true;
}
