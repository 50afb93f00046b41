#include <string.h>

#include "base/arena.h"
#include "filters/spf_received.h"
#include "t/unit/unit.h"

static void
prints(void)
{
	static const struct {
		const char *name;
		struct spf_received received;
		const char *want;
	} cases[] = {
		{ "all there", { "pass", "ip4 matches", "mx.test",
		    "192.0.2.1", "mailfrom", "joe@x.test", "h.test" },
		    "pass (mx.test: ip4 matches)\n\treceiver=\"mx.test\";"
		    "\n\tclient-ip=\"192.0.2.1\";\n\tidentity=\"mailfrom\";"
		    "\n\tenvelope-from=\"joe@x.test\";\n\thelo=\"h.test\"" },
		{ "a null sender, no HELO", { "none", "no record", "mx.test",
		    "2001:db8::1", "helo", "", NULL },
		    "none (mx.test: no record)\n\treceiver=\"mx.test\";"
		    "\n\tclient-ip=\"2001:db8::1\";\n\tidentity=\"helo\";"
		    "\n\tenvelope-from=\"\"" },
		{ "hostile", { "fail", "a) b(c\\", "mx.test", "192.0.2.1",
		    "helo", "\"x\\\"@y\r\nX: y", "\303\274" },
		    "fail (mx.test: a\\) b\\(c\\\\)\n\treceiver=\"mx.test\";"
		    "\n\tclient-ip=\"192.0.2.1\";\n\tidentity=\"helo\";"
		    "\n\tenvelope-from=\"\\\"x\\\\\\\"@y??X: y\";"
		    "\n\thelo=\"??\"" },
	};
	struct arena *arena = arena_new(0);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CASE_ASSERT(cases[i].name, strcmp(spf_received_print(arena,
		    &cases[i].received), cases[i].want) == 0);
	arena_free(&arena);
}

SUITE(spf_received, { "prints", prints })
