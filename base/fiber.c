/*
 * Fibers on makecontext and _setjmp.
 *
 * A new stack is entered once by setcontext, which costs system calls because
 * it restores the signal mask; from then on switches are _setjmp/_longjmp.  A
 * stack never returns from its first function: it runs one fiber's function
 * after the other, and lies in the pool in between.
 *
 * glibc's checked longjmp takes a jump to another stack for an error.
 */
#undef _FORTIFY_SOURCE
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "base/fiber.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#ifdef HAVE_VALGRIND
#include <valgrind/valgrind.h>
#endif

#include "base/log.h"
#include "base/sanitize.h"

#define STACK_SIZE	((size_t)256 * 1024)
#define GUARD_SIZE	((size_t)4096)
#define SHALLOW		((size_t)16 * 1024)	/* kept when pooled */
#define PROBED		((size_t)4096)
#define POOL_MAX	1024

/* Frames that are left by a jump must not leave poison behind. */
#define JUMPS	__attribute__((no_sanitize_address, noinline))

/* Lies at the top of its own stack. */
struct fiber {
	struct fiber *next;		/* in the pool */
	char *mapping;			/* guard page, then the stack */
	fiber_f *run;			/* NULL: leave for good */
	void *argument;
	bool entered;
	bool ended;
	void *fake_stack;		/* AddressSanitizer's */
	unsigned valgrind_id;
	jmp_buf context;
};

/* One per thread: where fibers return to, and the stacks at rest. */
static _Thread_local struct {
	jmp_buf context;
	const void *stack;
	size_t stack_size;
	void *fake_stack;
	struct fiber *running;
	struct fiber *pool;
	size_t pooled;
} home;

static char *
stack_bottom(const struct fiber *fiber)
{
	return fiber->mapping + GUARD_SIZE;
}

static size_t
stack_size(const struct fiber *fiber)
{
	return (size_t)((const char *)fiber - stack_bottom(fiber));
}

static struct fiber *
fiber_map(void)
{
	struct fiber *fiber;
	size_t room = (sizeof(*fiber) + 63) & ~(size_t)63;
	char *mapping;

	mapping = mmap(NULL, GUARD_SIZE + STACK_SIZE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (mapping == MAP_FAILED)
		return NULL;
	if (mprotect(mapping, GUARD_SIZE, PROT_NONE) != 0) {
		munmap(mapping, GUARD_SIZE + STACK_SIZE);
		return NULL;
	}
	fiber = (struct fiber *)(mapping + GUARD_SIZE + STACK_SIZE - room);
	fiber->mapping = mapping;
	__lsan_register_root_region(stack_bottom(fiber), STACK_SIZE);
#ifdef HAVE_VALGRIND
	fiber->valgrind_id = VALGRIND_STACK_REGISTER(stack_bottom(fiber),
	    fiber);
#endif
	return fiber;
}

static void
fiber_unmap(struct fiber *fiber)
{
	__lsan_unregister_root_region(stack_bottom(fiber), STACK_SIZE);
	ASAN_UNPOISON_MEMORY_REGION(fiber->mapping, GUARD_SIZE + STACK_SIZE);
#ifdef HAVE_VALGRIND
	VALGRIND_STACK_DEREGISTER(fiber->valgrind_id);
#endif
	munmap(fiber->mapping, GUARD_SIZE + STACK_SIZE);
}

/*
 * Gives deep pages back to the system if they were used.  Pages never written
 * read as zeros (and cost nothing to read), so a word that isn't zero in the
 * first page below the shallow part tells that the stack went there.
 */
static void
trim(struct fiber *fiber)
{
	char *keep = fiber->mapping + GUARD_SIZE + STACK_SIZE - SHALLOW;
	const uint64_t *word = (const uint64_t *)(const void *)(keep - PROBED);
	uint64_t used = 0;

	for (size_t i = 0; i < PROBED / sizeof(*word); i++)
		used |= word[i];
	if (used != 0)
		madvise(stack_bottom(fiber),
		    (size_t)(keep - stack_bottom(fiber)), MADV_DONTNEED);
}

/* Leaves the running fiber for home; returns when it is resumed. */
static JUMPS void
go_home(struct fiber *fiber, void **fake_stack)
{
	if (_setjmp(fiber->context) == 0) {
		__sanitizer_start_switch_fiber(fake_stack, home.stack,
		    home.stack_size);
		_longjmp(home.context, 1);
	}
	__sanitizer_finish_switch_fiber(fiber->fake_stack, &home.stack,
	    &home.stack_size);
}

/* The bottom of each stack. */
static JUMPS void
trampoline(void)
{
	struct fiber *fiber = home.running;

	__sanitizer_finish_switch_fiber(NULL, &home.stack, &home.stack_size);
	while (fiber->run != NULL) {
		fiber->run(fiber->argument);
		fiber->ended = true;
		go_home(fiber, &fiber->fake_stack);
	}
	/* NULL: AddressSanitizer may forget what it kept for this stack. */
	go_home(fiber, NULL);
	fatal("fiber: resumed after its end");
}

static JUMPS void
enter_first(struct fiber *fiber)
{
	ucontext_t context;

	if (getcontext(&context) != 0)
		fatal("fiber: getcontext failed");
	context.uc_stack.ss_sp = stack_bottom(fiber);
	context.uc_stack.ss_size = stack_size(fiber);
	context.uc_link = NULL;
	makecontext(&context, trampoline, 0);
	fiber->entered = true;
	setcontext(&context);
	fatal("fiber: setcontext failed");
}

static JUMPS void
enter(struct fiber *fiber)
{
	home.running = fiber;
	if (_setjmp(home.context) == 0) {
		__sanitizer_start_switch_fiber(&home.fake_stack,
		    stack_bottom(fiber), stack_size(fiber));
		if (fiber->entered)
			_longjmp(fiber->context, 1);
		enter_first(fiber);
	}
	__sanitizer_finish_switch_fiber(home.fake_stack, NULL, NULL);
	home.running = NULL;
}

static void
fiber_destroy(struct fiber *fiber)
{
	fiber->run = NULL;
	enter(fiber);
	fiber_unmap(fiber);
}

struct fiber *
fiber_get(fiber_f *run, void *argument)
{
	struct fiber *fiber = home.pool;

	if (fiber != NULL) {
		home.pool = fiber->next;
		home.pooled--;
	} else if ((fiber = fiber_map()) == NULL) {
		return NULL;
	}
	fiber->run = run;
	fiber->argument = argument;
	fiber->ended = false;
	return fiber;
}

bool
fiber_resume(struct fiber *fiber)
{
	enter(fiber);
	if (!fiber->ended)
		return true;
	if (home.pooled >= POOL_MAX) {
		fiber_destroy(fiber);
		return false;
	}
	trim(fiber);
	fiber->next = home.pool;
	home.pool = fiber;
	home.pooled++;
	return false;
}

void
fiber_suspend(void)
{
	struct fiber *fiber = home.running;

	if (fiber == NULL)
		fatal("fiber: suspended outside of one");
	go_home(fiber, &fiber->fake_stack);
}

void
fiber_release_pool(void)
{
	struct fiber *fiber;

	while ((fiber = home.pool) != NULL) {
		home.pool = fiber->next;
		fiber_destroy(fiber);
	}
	home.pooled = 0;
}
