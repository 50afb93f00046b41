/* What AddressSanitizer has to be told of; nothing in builds without it. */
#ifndef BASE_SANITIZE_H
#define BASE_SANITIZE_H

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, len)	((void)(start), (void)(len))
#define ASAN_UNPOISON_MEMORY_REGION(start, len)	((void)(start), (void)(len))
#define __sanitizer_start_switch_fiber(save, bottom, size)		\
	((void)(save), (void)(bottom), (void)(size))
#define __sanitizer_finish_switch_fiber(save, bottom, size)		\
	((void)(save), (void)(bottom), (void)(size))
#define __lsan_register_root_region(start, len)	((void)(start), (void)(len))
#define __lsan_unregister_root_region(start, len) \
	((void)(start), (void)(len))
#endif

#endif
