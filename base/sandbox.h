/*
 * Locking a process in: user, root directory, no_new_privs, limits, seccomp.
 * What has to be opened outside (tables, certificates, /dev/log, the resolver's
 * files) is opened before.
 */
#ifndef BASE_SANDBOX_H
#define BASE_SANDBOX_H

/* What the process may still ask of the kernel, beside computing and I/O. */
enum sandbox_promise {
	SANDBOX_CONNECT = 1,	/* make sockets and connect them */
	SANDBOX_ACCEPT = 2,	/* accept connections on what it was given */
	SANDBOX_READ = 4,	/* open files below its root */
	SANDBOX_WRITE = 8,	/* make, change and unlink them */
	SANDBOX_THREAD = 16	/* start threads, talk with them */
};

struct sandbox {
	const char *user;	/* run as; used only if we are root */
	const char *root;	/* chroot there; used only if we are root */
	unsigned promises;
	long descriptors;	/* at most, as the hard limit allows; 0: leave */
};

/*
 * Enters the sandbox; there is no way back.  Not started as root, user and root
 * stay as they are and the rest holds all the same.  -1 and *why on error: the
 * caller must not go on.
 */
int sandbox_enter(const struct sandbox *, const char **why);

#endif
