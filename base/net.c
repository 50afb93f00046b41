/* Addresses and sockets.  Names are never looked up here: that is dns.h's. */
#include "base/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>


#define UNIX_PREFIX	"unix:"
#define LABEL_MAX	63		/* RFC 1035, 2.3.4 */
#define NAME_MAX_LEN	255

/* A decimal port, 0 to 65535, nothing behind it. */
static bool
parse_port(const char *text, in_port_t *port)
{
	unsigned long number = 0;
	size_t len = strlen(text);

	if (len == 0 || len > 5)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		number = number * 10 + (unsigned long)(text[i] - '0');
	}
	if (number > 65535)
		return false;
	*port = htons((uint16_t)number);
	return true;
}

static int
parse_unix(const char *path, struct net_endpoint *endpoint, const char **why)
{
	struct sockaddr_un *sun = (struct sockaddr_un *)&endpoint->address;
	size_t len = strlen(path);

	if (len == 0) {
		*why = "the path of the UNIX socket is missing";
		return -1;
	}
	if (len >= sizeof(sun->sun_path)) {
		*why = "the path of the UNIX socket is too long";
		return -1;
	}
	sun->sun_family = AF_UNIX;
	memcpy(sun->sun_path, path, len + 1);
	endpoint->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
	    len + 1);
	return 0;
}

/* host is an address without brackets and port, "" for all addresses. */
static int
parse_inet(const char *host, bool brackets, in_port_t port,
    struct net_endpoint *endpoint, const char **why)
{
	struct sockaddr_in *sin = (struct sockaddr_in *)&endpoint->address;
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&endpoint->address;

	if (*host == '\0' && !brackets) {
		sin6->sin6_family = AF_INET6;
		sin6->sin6_addr = in6addr_any;
		sin6->sin6_port = port;
		endpoint->len = sizeof(*sin6);
		return 0;
	}
	if (brackets && inet_pton(AF_INET6, host, &sin6->sin6_addr) == 1) {
		sin6->sin6_family = AF_INET6;
		sin6->sin6_port = port;
		endpoint->len = sizeof(*sin6);
		return 0;
	}
	if (!brackets && inet_pton(AF_INET, host, &sin->sin_addr) == 1) {
		sin->sin_family = AF_INET;
		sin->sin_port = port;
		endpoint->len = sizeof(*sin);
		return 0;
	}
	*why = brackets ? "not an IPv6 address" :
	    "not an IPv4 address (IPv6 goes in brackets)";
	return -1;
}

int
net_endpoint_parse(const char *text, struct net_endpoint *endpoint,
    const char **why)
{
	char host[INET6_ADDRSTRLEN];
	const char *colon, *start = text, *end;
	bool brackets = *text == '[';
	in_port_t port;

	memset(endpoint, 0, sizeof(*endpoint));
	if (strncmp(text, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0)
		return parse_unix(text + strlen(UNIX_PREFIX), endpoint, why);
	if ((colon = strrchr(text, ':')) == NULL) {
		*why = "the port is missing";
		return -1;
	}
	end = colon;
	if (brackets) {
		start++;
		end--;
		if (end <= start || *end != ']') {
			*why = "[address]:port expected";
			return -1;
		}
	}
	if (!parse_port(colon + 1, &port)) {
		*why = "not a port number";
		return -1;
	}
	if ((size_t)(end - start) >= sizeof(host)) {
		*why = "not an address";
		return -1;
	}
	memcpy(host, start, (size_t)(end - start));
	host[end - start] = '\0';
	return parse_inet(host, brackets, port, endpoint, why);
}

const char *
net_address_print(const struct sockaddr *address, char *text)
{
	switch (address->sa_family) {
	case AF_INET:
		inet_ntop(AF_INET,
		    &((const struct sockaddr_in *)address)->sin_addr, text,
		    NET_TEXT_SIZE);
		return text;
	case AF_INET6:
		inet_ntop(AF_INET6,
		    &((const struct sockaddr_in6 *)address)->sin6_addr, text,
		    NET_TEXT_SIZE);
		return text;
	case AF_UNIX:
		/* The path fills 108 bytes at most and may lack a NUL. */
		snprintf(text, NET_TEXT_SIZE, "%.*s",
		    (int)sizeof(((const struct sockaddr_un *)NULL)->sun_path),
		    ((const struct sockaddr_un *)address)->sun_path);
		return text;
	default:
		snprintf(text, NET_TEXT_SIZE, "unknown");
		return text;
	}
}

const char *
net_endpoint_print(const struct sockaddr *address, char *text)
{
	char host[NET_TEXT_SIZE];

	net_address_print(address, host);
	switch (address->sa_family) {
	case AF_INET:
		snprintf(text, NET_TEXT_SIZE, "%.15s:%u", host,
		    ntohs(((const struct sockaddr_in *)address)->sin_port));
		return text;
	case AF_INET6:
		snprintf(text, NET_TEXT_SIZE, "[%.45s]:%u", host,
		    ntohs(((const struct sockaddr_in6 *)address)->sin6_port));
		return text;
	case AF_UNIX:
		snprintf(text, NET_TEXT_SIZE, UNIX_PREFIX "%.106s", host);
		return text;
	default:
		snprintf(text, NET_TEXT_SIZE, "unknown");
		return text;
	}
}

void
net_unmap(struct sockaddr_storage *address)
{
	struct sockaddr_in6 sin6;
	struct sockaddr_in *sin = (struct sockaddr_in *)address;

	if (address->ss_family != AF_INET6)
		return;
	memcpy(&sin6, address, sizeof(sin6));
	if (!IN6_IS_ADDR_V4MAPPED(&sin6.sin6_addr))
		return;
	memset(address, 0, sizeof(*address));
	sin->sin_family = AF_INET;
	sin->sin_port = sin6.sin6_port;
	memcpy(&sin->sin_addr, &sin6.sin6_addr.s6_addr[12], 4);
}

static bool
is_any_ipv6(const struct net_endpoint *endpoint)
{
	const struct sockaddr_in6 *sin6 =
	    (const struct sockaddr_in6 *)&endpoint->address;

	return endpoint->address.ss_family == AF_INET6 &&
	    IN6_IS_ADDR_UNSPECIFIED(&sin6->sin6_addr);
}

static int
bind_and_listen(const struct net_endpoint *endpoint, int backlog, int mode)
{
	const struct sockaddr_un *sun =
	    (const struct sockaddr_un *)&endpoint->address;
	int fd, family = endpoint->address.ss_family, saved;
	int on = 1, off = 0;

	fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (family != AF_UNIX && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on,
	    sizeof(on)) != 0)
		goto failed;
	if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY,
	    is_any_ipv6(endpoint) ? &off : &on, sizeof(on)) != 0)
		goto failed;
	if (bind(fd, (const struct sockaddr *)&endpoint->address,
	    endpoint->len) != 0)
		goto failed;
	/* Not a link's target, which who owns the directory may put there. */
	if (family == AF_UNIX && fchmodat(AT_FDCWD, sun->sun_path,
	    (mode_t)mode, AT_SYMLINK_NOFOLLOW) != 0)
		goto failed;
	if (listen(fd, backlog) != 0)
		goto failed;
	return fd;
failed:
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* Whether that UNIX socket file is a left-over that nobody listens on. */
static bool
is_stale(const struct net_endpoint *endpoint)
{
	const struct sockaddr_un *sun =
	    (const struct sockaddr_un *)&endpoint->address;
	struct stat st;
	bool stale;
	int fd;

	if (lstat(sun->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	stale = connect(fd, (const struct sockaddr *)sun, endpoint->len) != 0
	    && errno == ECONNREFUSED;
	close(fd);
	return stale;
}

int
net_listen(const struct net_endpoint *endpoint, int backlog, int mode,
    const char **why)
{
	const struct sockaddr_in6 *sin6 =
	    (const struct sockaddr_in6 *)&endpoint->address;
	const struct sockaddr_un *sun =
	    (const struct sockaddr_un *)&endpoint->address;
	struct net_endpoint ipv4 = { .len = sizeof(struct sockaddr_in) };
	struct sockaddr_in *sin = (struct sockaddr_in *)&ipv4.address;
	int fd;

	fd = bind_and_listen(endpoint, backlog, mode);
	if (fd < 0 && errno == EADDRINUSE &&
	    endpoint->address.ss_family == AF_UNIX && is_stale(endpoint)) {
		unlink(sun->sun_path);
		fd = bind_and_listen(endpoint, backlog, mode);
	}
	/* A kernel without IPv6 still serves ":25". */
	if (fd < 0 && is_any_ipv6(endpoint) &&
	    (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) {
		sin->sin_family = AF_INET;
		sin->sin_port = sin6->sin6_port;
		fd = bind_and_listen(&ipv4, backlog, mode);
	}
	if (fd < 0)
		*why = errno == EADDRINUSE ? "address in use" : strerror(errno);
	return fd;
}

static bool
is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9');
}

/* RFC 5321, 4.1.2: sub-domain = Let-dig [Ldh-str]. */
bool
net_is_host_name(const char *name)
{
	size_t label = 0, len;

	for (len = 0; name[len] != '\0'; len++) {
		if (len >= NAME_MAX_LEN)
			return false;
		if (name[len] == '.') {
			if (label == 0 || name[len - 1] == '-')
				return false;
			label = 0;
			continue;
		}
		if (!is_alphanumeric(name[len]) &&
		    (name[len] != '-' || label == 0))
			return false;
		if (++label > LABEL_MAX)
			return false;
	}
	return label > 0 && name[len - 1] != '-';
}
