/* The countries that a user sends from; guard_watch.c has it all in Lua, too. */
#include "policy/guard_places.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define WIDTH		9
#define KEEP_HOURS	(90 * 24)

/* False: it is none. */
static bool
read_place(const char *note, struct guard_place *place)
{
	char hour[7];

	for (int i = 0; i < WIDTH; i++)
		if (i < 2 ? !isupper((unsigned char)note[i]) :
		    !isdigit((unsigned char)note[i]))
			return false;
	snprintf(place->country, sizeof(place->country), "%.2s", note);
	place->days = note[2] - '0';
	snprintf(hour, sizeof(hour), "%.6s", note + 3);
	place->hour = strtoll(hour, NULL, 10);
	return true;
}

void
guard_places_read(struct guard_places *places, const char *note, int64_t hour)
{
	struct guard_place place;

	*places = (struct guard_places){ .count = 0 };
	for (; places->count < GUARD_PLACES_MAX && read_place(note, &place);
	    note += WIDTH)
		if (place.hour >= hour - KEEP_HOURS)
			places->places[places->count++] = place;
}

void
guard_places_write(const struct guard_places *places,
    char note[GUARD_PLACES_NOTE])
{
	note[0] = '\0';
	for (size_t i = 0; i < places->count; i++) {
		const struct guard_place *place = &places->places[i];

		snprintf(note + WIDTH * i, WIDTH + 1, "%s%d%06lld",
		    place->country, place->days % 10,
		    (long long)place->hour % 1000000);
	}
}

/* Who was there longest ago makes room. */
static struct guard_place *
new_place(struct guard_places *places)
{
	struct guard_place *oldest = &places->places[0];

	if (places->count < GUARD_PLACES_MAX)
		return &places->places[places->count++];
	for (size_t i = 1; i < places->count; i++)
		if (places->places[i].hour < oldest->hour)
			oldest = &places->places[i];
	return oldest;
}

bool
guard_places_see(struct guard_places *places, const char *country,
    int64_t hour, bool learn)
{
	bool first = places->count == 0;
	struct guard_place *place = NULL;

	for (size_t i = 0; i < places->count; i++)
		if (strcmp(places->places[i].country, country) == 0)
			place = &places->places[i];
	if (place == NULL) {
		place = new_place(places);
		snprintf(place->country, sizeof(place->country), "%.2s",
		    country);
		place->days = first ? GUARD_HOME_DAYS : 1;
		place->hour = hour;
		places->changed = true;
	} else if (place->hour < hour) {
		if (learn && place->days < GUARD_HOME_DAYS &&
		    place->hour / 24 < hour / 24)
			place->days++;
		place->hour = hour;
		places->changed = true;
	}
	return place->days >= GUARD_HOME_DAYS;
}

int64_t
guard_places_count(const struct guard_places *places, int64_t hour)
{
	int64_t away = 0, home = 0;

	for (size_t i = 0; i < places->count; i++) {
		if (places->places[i].hour < hour - 1)
			continue;
		if (places->places[i].days >= GUARD_HOME_DAYS)
			home = 1;
		else
			away++;
	}
	return away + home;
}

void
guard_places_forget(struct guard_places *places, int64_t hour)
{
	size_t kept = 0;

	for (size_t i = 0; i < places->count; i++) {
		if (places->places[i].days < GUARD_HOME_DAYS)
			continue;
		places->places[kept] = places->places[i];
		if (places->places[kept].hour > hour - 2)
			places->places[kept].hour = hour - 2;
		kept++;
	}
	places->count = kept;
	places->changed = true;
}

static void
print_some(const struct guard_places *places, bool home, const char *word,
    struct buf *out)
{
	size_t printed = 0;

	for (size_t i = 0; i < places->count; i++)
		if ((places->places[i].days >= GUARD_HOME_DAYS) == home)
			buf_printf(out, "%s%s", printed++ == 0 ? word : ",",
			    places->places[i].country);
}

void
guard_places_print(const struct guard_places *places, struct buf *out)
{
	print_some(places, true, " home=", out);
	print_some(places, false, " new=", out);
}
