#include "config.h"

#include "gateway/link.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for one descriptor beside a message, aligned as the kernel wants it. */
union control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

int
link_pair(int fds[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK |
	    SOCK_CLOEXEC, 0, fds);
}

int
link_send(int fd, int pass, const char *format, ...)
{
	char text[LINK_MESSAGE_MAX];
	union control control = { .space = { 0 } };
	struct iovec bytes = { .iov_base = text };
	struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1 };
	struct cmsghdr *header;
	va_list arguments;
	int len;

	va_start(arguments, format);
	len = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (len < 0 || (size_t)len >= sizeof(text)) {
		errno = EMSGSIZE;
		return -1;
	}
	bytes.iov_len = (size_t)len;
	if (pass != -1) {
		message.msg_control = control.space;
		message.msg_controllen = sizeof(control.space);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &pass, sizeof(int));
	}
	return sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

ssize_t
link_receive(int fd, char *text, int *passed)
{
	union control control = { .space = { 0 } };
	struct iovec bytes = { .iov_base = text,
		.iov_len = LINK_MESSAGE_MAX - 1 };
	struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space) };
	const struct cmsghdr *header;
	ssize_t len;

	*passed = -1;
	if ((len = recvmsg(fd, &message, MSG_CMSG_CLOEXEC)) < 0)
		return -1;
	text[len] = '\0';
	header = CMSG_FIRSTHDR(&message);
	if (header != NULL && header->cmsg_level == SOL_SOCKET &&
	    header->cmsg_type == SCM_RIGHTS &&
	    header->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(passed, CMSG_DATA(header), sizeof(int));
	return len;
}
