#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gateway/link.h"
#include "t/unit/unit.h"

static void
messages_keep_their_bounds(void)
{
	char text[LINK_MESSAGE_MAX];
	int fds[2], passed;

	CU_ASSERT_FATAL(link_pair(fds) == 0);
	CU_ASSERT(link_send(fds[0], -1, "connect %d %s", 7, "/x") == 0);
	CU_ASSERT(link_send(fds[0], -1, "ready") == 0);
	CU_ASSERT(link_receive(fds[1], text, &passed) == 12);
	CU_ASSERT_STRING_EQUAL(text, "connect 7 /x");
	CU_ASSERT(passed == -1);
	CU_ASSERT(link_receive(fds[1], text, &passed) == 5);
	CU_ASSERT(link_receive(fds[1], text, &passed) == -1 &&
	    errno == EAGAIN);
	close(fds[0]);
	CU_ASSERT(link_receive(fds[1], text, &passed) == 0);
	close(fds[1]);
}

static void
descriptor_goes_along(void)
{
	char text[LINK_MESSAGE_MAX], byte;
	int fds[2], ends[2], passed;

	CU_ASSERT_FATAL(link_pair(fds) == 0 && pipe(ends) == 0);
	CU_ASSERT(link_send(fds[0], ends[1], "connected 1 0") == 0);
	CU_ASSERT(link_receive(fds[1], text, &passed) > 0);
	CU_ASSERT_FATAL(passed >= 0);
	CU_ASSERT(write(passed, "x", 1) == 1);
	CU_ASSERT(read(ends[0], &byte, 1) == 1 && byte == 'x');
	close(passed);
	close(ends[0]);
	close(ends[1]);
	close(fds[0]);
	close(fds[1]);
}

static void
too_long(void)
{
	static char path[LINK_MESSAGE_MAX + 1];
	int fds[2];

	memset(path, 'p', sizeof(path) - 1);
	CU_ASSERT_FATAL(link_pair(fds) == 0);
	CU_ASSERT(link_send(fds[0], -1, "%s", path) == -1 &&
	    errno == EMSGSIZE);
	close(fds[0]);
	close(fds[1]);
}

SUITE(link,
	{ "messages keep their bounds", messages_keep_their_bounds },
	{ "a descriptor goes along", descriptor_goes_along },
	{ "a message too long is refused", too_long })
