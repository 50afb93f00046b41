/* The envelope: ids, recipients, addresses (RFC 5321, 2.3.11 and 2.4). */
#include "filters/envelope.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"

/* 55 bits hold microseconds until the year 3111, 25 bits any process id. */
#define ID_TIME_LETTERS 11
#define ID_PROCESS_LETTERS 5

_Static_assert(ID_TIME_LETTERS + ID_PROCESS_LETTERS < ENVELOPE_ID_SIZE,
    "an id fits");

static pid_t process;

static void
process_forked(void)
{
	process = getpid();
}

static void
process_first(void)
{
	process_forked();
	pthread_atfork(NULL, NULL, process_forked);
}

/* In ASCII order, without I, L, O and U, which are misread and misheard. */
static void
put_base32(char *at, int letters, uint64_t value)
{
	static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

	while (letters-- > 0) {
		at[letters] = alphabet[value % 32];
		value /= 32;
	}
}

/* Never the same microsecond twice, even if the clock is set back. */
static int64_t
next_microsecond(void)
{
	static _Atomic int64_t last;
	int64_t now = clock_wall_us(), before = atomic_load(&last), next;

	do {
		next = now > before ? now : before + 1;
	} while (!atomic_compare_exchange_weak(&last, &before, next));
	return next;
}

void
envelope_id_make(char id[ENVELOPE_ID_SIZE])
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	/* getpid() is a system call, so ask once, and again after a fork. */
	pthread_once(&once, process_first);
	put_base32(id, ID_TIME_LETTERS, (uint64_t)next_microsecond());
	put_base32(id + ID_TIME_LETTERS, ID_PROCESS_LETTERS,
	    (uint64_t)process);
	id[ID_TIME_LETTERS + ID_PROCESS_LETTERS] = '\0';
}

struct recipient *
envelope_add_recipient(struct envelope *envelope, struct arena *arena,
    const char *address)
{
	struct recipient *recipient, **end = &envelope->recipients;

	while (*end != NULL)
		end = &(*end)->next;
	recipient = arena_alloc(arena, sizeof(*recipient));
	recipient->address = arena_strdup(arena, address);
	*end = recipient;
	return recipient;
}

size_t
envelope_delete_recipient(struct envelope *envelope, const char *address)
{
	struct recipient **at = &envelope->recipients;
	size_t deleted = 0;

	while (*at != NULL) {
		if (address_equal((*at)->address, address)) {
			*at = (*at)->next;
			deleted++;
		} else
			at = &(*at)->next;
	}
	return deleted;
}

size_t
envelope_count(const struct envelope *envelope)
{
	size_t count = 0;

	for (const struct recipient *r = envelope->recipients; r != NULL;
	    r = r->next)
		count++;
	return count;
}

bool
address_equal(const char *a, const char *b)
{
	const char *a_at = strrchr(a, '@'), *b_at = strrchr(b, '@');

	if (a_at == NULL || b_at == NULL)
		return strcmp(a, b) == 0;
	if (a_at - a != b_at - b || memcmp(a, b, (size_t)(a_at - a)) != 0)
		return false;
	return strcasecmp(a_at, b_at) == 0;
}

static int
xtext_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

size_t
xtext_decode(const char *xtext, size_t len, char *plain)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int high = -1, low = -1;

		if (xtext[i] == '+' && i + 2 < len) {
			high = xtext_digit(xtext[i + 1]);
			low = xtext_digit(xtext[i + 2]);
		}
		plain[n++] = high < 0 || low < 0 ? xtext[i] :
		    (char)(high * 16 + low);
		if (high >= 0 && low >= 0)
			i += 2;
	}
	return n;
}

const char *
address_domain(const char *address)
{
	const char *at = strrchr(address, '@');

	return at == NULL ? NULL : at + 1;
}
