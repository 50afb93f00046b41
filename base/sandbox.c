/* Privileges are dropped in the order that leaves no way back: root directory,
 * groups, group, user, no_new_privs, then the system call filter. */
#include "config.h"

#include "base/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/sched.h>
#include <pwd.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static char problem[256];

/* Every process computes, waits, and reads and writes what is open. */
static const int calls_always[] = {
	SCMP_SYS(brk), SCMP_SYS(clock_getres), SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep), SCMP_SYS(close), SCMP_SYS(dup),
	SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2),
	SCMP_SYS(epoll_wait), SCMP_SYS(eventfd2), SCMP_SYS(exit),
	SCMP_SYS(exit_group), SCMP_SYS(fadvise64), SCMP_SYS(fcntl),
	SCMP_SYS(fdatasync), SCMP_SYS(flock), SCMP_SYS(fstat),
	SCMP_SYS(fstatfs), SCMP_SYS(fsync), SCMP_SYS(futex),
	SCMP_SYS(getcwd), SCMP_SYS(getegid), SCMP_SYS(geteuid),
	SCMP_SYS(getgid), SCMP_SYS(getpeername), SCMP_SYS(getpid),
	SCMP_SYS(getppid), SCMP_SYS(getrandom), SCMP_SYS(getrlimit),
	SCMP_SYS(getrusage), SCMP_SYS(getsockname), SCMP_SYS(getsockopt),
	SCMP_SYS(gettid), SCMP_SYS(gettimeofday), SCMP_SYS(getuid),
	SCMP_SYS(ioctl), SCMP_SYS(lseek), SCMP_SYS(madvise),
	SCMP_SYS(membarrier), SCMP_SYS(mmap), SCMP_SYS(mprotect),
	SCMP_SYS(mremap), SCMP_SYS(munmap), SCMP_SYS(nanosleep),
	SCMP_SYS(newfstatat), SCMP_SYS(pipe2), SCMP_SYS(poll),
	SCMP_SYS(ppoll), SCMP_SYS(pread64), SCMP_SYS(preadv),
	SCMP_SYS(prlimit64), SCMP_SYS(pselect6), SCMP_SYS(pwrite64),
	SCMP_SYS(pwritev), SCMP_SYS(pwritev2), SCMP_SYS(read),
	SCMP_SYS(readv), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg),
	SCMP_SYS(restart_syscall), SCMP_SYS(rseq), SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_yield), SCMP_SYS(select),
	SCMP_SYS(sendmmsg), SCMP_SYS(sendmsg), SCMP_SYS(sendto),
	SCMP_SYS(set_robust_list), SCMP_SYS(setsockopt), SCMP_SYS(shutdown),
	SCMP_SYS(sigaltstack), SCMP_SYS(statx), SCMP_SYS(sysinfo),
	SCMP_SYS(tgkill), SCMP_SYS(time), SCMP_SYS(uname), SCMP_SYS(write),
	SCMP_SYS(writev),
};

static const int calls_connect[] = { SCMP_SYS(socket), SCMP_SYS(socketpair),
	SCMP_SYS(connect), SCMP_SYS(bind) };
static const int calls_accept[] = { SCMP_SYS(accept), SCMP_SYS(accept4),
	SCMP_SYS(listen) };
static const int calls_read[] = { SCMP_SYS(access), SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2), SCMP_SYS(getdents64), SCMP_SYS(lstat),
	SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(readlink),
	SCMP_SYS(readlinkat), SCMP_SYS(stat), SCMP_SYS(statfs) };
static const int calls_write[] = { SCMP_SYS(copy_file_range),
	SCMP_SYS(fallocate), SCMP_SYS(fchmod), SCMP_SYS(fchown),
	SCMP_SYS(ftruncate), SCMP_SYS(linkat), SCMP_SYS(mkdir),
	SCMP_SYS(mkdirat), SCMP_SYS(rename), SCMP_SYS(renameat),
	SCMP_SYS(renameat2), SCMP_SYS(sendfile), SCMP_SYS(sync_file_range),
	SCMP_SYS(unlink), SCMP_SYS(unlinkat), SCMP_SYS(utimensat) };
/* Sockets between threads, and one that waits for signals (libmilter). */
static const int calls_thread[] = { SCMP_SYS(socketpair),
	SCMP_SYS(rt_sigtimedwait) };

/* These are never asked for by accident: the process was taken over. */
static const int calls_deadly[] = { SCMP_SYS(execve), SCMP_SYS(execveat),
	SCMP_SYS(fork), SCMP_SYS(vfork), SCMP_SYS(mount), SCMP_SYS(chroot),
	SCMP_SYS(setuid), SCMP_SYS(setgid), SCMP_SYS(init_module),
	SCMP_SYS(finit_module), SCMP_SYS(kexec_load), SCMP_SYS(unshare),
	SCMP_SYS(setns), SCMP_SYS(bpf), SCMP_SYS(process_vm_writev) };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int
fail(const char *what, const char **why)
{
	snprintf(problem, sizeof(problem), "%s: %s", what, strerror(errno));
	*why = problem;
	return -1;
}

static int
add_calls(scmp_filter_ctx filter, uint32_t action, const int *calls,
    size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (seccomp_rule_add(filter, action, calls[i], 0) != 0)
			return -1;
	return 0;
}

/*
 * glibc asks for threads by clone3, whose flags are behind a pointer, where no
 * filter can look: it is told ENOSYS and falls back to clone.
 */
static int
add_thread_calls(scmp_filter_ctx filter)
{
	if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3),
	    0) != 0 || add_calls(filter, SCMP_ACT_ALLOW, calls_thread,
	    COUNT(calls_thread)) != 0)
		return -1;
	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
	    SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
}

static int
add_all_calls(scmp_filter_ctx filter, unsigned promises)
{
	if (add_calls(filter, SCMP_ACT_ALLOW, calls_always,
	    COUNT(calls_always)) != 0)
		return -1;
	if (add_calls(filter, SCMP_ACT_KILL_PROCESS, calls_deadly,
	    COUNT(calls_deadly)) != 0)
		return -1;
	if ((promises & SANDBOX_CONNECT) && add_calls(filter, SCMP_ACT_ALLOW,
	    calls_connect, COUNT(calls_connect)) != 0)
		return -1;
	if ((promises & SANDBOX_ACCEPT) && add_calls(filter, SCMP_ACT_ALLOW,
	    calls_accept, COUNT(calls_accept)) != 0)
		return -1;
	if ((promises & (SANDBOX_READ | SANDBOX_WRITE)) && add_calls(filter,
	    SCMP_ACT_ALLOW, calls_read, COUNT(calls_read)) != 0)
		return -1;
	if ((promises & SANDBOX_WRITE) && add_calls(filter, SCMP_ACT_ALLOW,
	    calls_write, COUNT(calls_write)) != 0)
		return -1;
	if ((promises & SANDBOX_THREAD) && add_thread_calls(filter) != 0)
		return -1;
	return 0;
}

/* The leak check at exit starts a tracer, which the filter would not allow. */
static int
add_sanitizer_calls(scmp_filter_ctx filter)
{
	static const int calls[] = { SCMP_SYS(clone), SCMP_SYS(ptrace),
		SCMP_SYS(wait4), SCMP_SYS(prctl), SCMP_SYS(open),
		SCMP_SYS(openat), SCMP_SYS(readlink), SCMP_SYS(getdents),
		SCMP_SYS(getdents64), SCMP_SYS(kill), SCMP_SYS(set_tid_address),
		SCMP_SYS(process_vm_readv), SCMP_SYS(stat) };

	return add_calls(filter, SCMP_ACT_ALLOW, calls, COUNT(calls));
}

static int
filter_system_calls(unsigned promises, const char **why)
{
	scmp_filter_ctx filter;
	int rc;

	/* An unknown call fails with EPERM: a new glibc degrades, not dies. */
	if ((filter = seccomp_init(SCMP_ACT_ERRNO(EPERM))) == NULL) {
		errno = ENOMEM;
		return fail("seccomp", why);
	}
	rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (rc == 0)
		rc = add_all_calls(filter, promises);
	if (rc == 0 && SANITIZED)
		rc = add_sanitizer_calls(filter);
	if (rc == 0)
		rc = seccomp_load(filter);
	seccomp_release(filter);
	if (rc == 0)
		return 0;
	errno = rc < -1 ? -rc : EINVAL;
	return fail("seccomp", why);
}

/* As many as wanted, or as the hard limit lets us have. */
static void
limit_descriptors(long wanted)
{
	struct rlimit limit;

	if (wanted <= 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = (rlim_t)wanted;
	if (limit.rlim_cur > limit.rlim_max)
		limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int
become(const char *user, const char *root, const char **why)
{
	const struct passwd *account;
	uid_t uid;
	gid_t gid;

	errno = 0;
	if ((account = getpwnam(user)) == NULL) {
		snprintf(problem, sizeof(problem), "user %s: %s", user,
		    errno != 0 ? strerror(errno) : "no such user");
		*why = problem;
		return -1;
	}
	uid = account->pw_uid;
	gid = account->pw_gid;
	if (setgroups(0, NULL) != 0)
		return fail("setgroups", why);
	if (chroot(root) != 0 || chdir("/") != 0)
		return fail(root, why);
	if (setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
		return fail(user, why);
	if (setuid(0) == 0) {
		*why = "privileges came back after they were dropped";
		return -1;
	}
	return 0;
}

int
sandbox_enter(const struct sandbox *sandbox, const char **why)
{
	tzset();		/* reads /etc/localtime while it can be seen */
	limit_descriptors(sandbox->descriptors);
	if (geteuid() == 0 && sandbox->user != NULL &&
	    become(sandbox->user, sandbox->root, why) != 0)
		return -1;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return fail("no_new_privs", why);
	return filter_system_calls(sandbox->promises, why);
}
