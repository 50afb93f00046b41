/*
 * The countries that a user sends from, as a note of the store: where the user
 * is at home, and where else.
 */
#ifndef POLICY_GUARD_PLACES_H
#define POLICY_GUARD_PLACES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;

#define GUARD_PLACES_MAX 20
#define GUARD_HOME_DAYS	3	/* on so many days: at home there */
#define GUARD_PLACES_NOTE (9 * GUARD_PLACES_MAX + 1)

struct guard_place {
	char country[3];
	int days;			/* at most GUARD_HOME_DAYS */
	int64_t hour;			/* the last one, since 1970 */
};

struct guard_places {
	struct guard_place places[GUARD_PLACES_MAX];
	size_t count;
	bool changed;			/* since it was read */
};

/* A note is "DE", days, six digits of the hour, and so on. */
void guard_places_read(struct guard_places *, const char *note, int64_t hour);
void guard_places_write(const struct guard_places *,
    char note[GUARD_PLACES_NOTE]);

/*
 * The user sends from there.  The first country of all is home, another is when
 * it was seen on enough days, of which this counts if learn.  False: it is none
 * yet.
 */
bool guard_places_see(struct guard_places *, const char *country,
    int64_t hour, bool learn);

/* In how many the user was in this hour and the one before; home is one. */
int64_t guard_places_count(const struct guard_places *, int64_t hour);

/* Where home is alone, seen long ago. */
void guard_places_forget(struct guard_places *, int64_t hour);

/* Appends " home=DE,AT new=FR", as far as there are any. */
void guard_places_print(const struct guard_places *, struct buf *);

#endif
