/* SPDX-License-Identifier: MIT */
/* sys.c - system calls as functions that return -errno. No policy here. */
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define FUTEX_WAITV 449 /* the same everywhere; headers before 5.16 lack it */

static int result(long r)
{
	return r < 0 ? -errno : (int)r;
}

/* The descriptor @r above stderr, or output meant for 1 would hit a queue. */
static int above_stderr(int r)
{
	if (r >= 0 && r <= STDERR_FILENO) {
		int high = result(fcntl(r, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));

		close(r);
		r = high;
	}
	return r;
}

int sys_open(const char *path, int flags, unsigned mode)
{
	int r;

	do {
		r = result(open(path, flags | O_CLOEXEC | O_NOCTTY, mode));
	} while (r == -EINTR);
	return above_stderr(r);
}

int sys_reopen(int fd, int flags)
{
	char path[32];

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return sys_open(path, flags, 0);
}

int sys_close(int fd)
{
	return result(close(fd));
}

int sys_fstat(int fd, struct stat *st)
{
	return result(fstat(fd, st));
}

int sys_fallocate(int fd, uint64_t bytes)
{
	int r;

	do {
		r = -posix_fallocate(fd, 0, (off_t)bytes);
	} while (r == -EINTR);
	return r;
}

int sys_linkat(int fd, const char *path)
{
	char self[32];

	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	return result(linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW));
}

int sys_unlink(const char *path)
{
	return result(unlink(path));
}

int sys_read_at(int fd, void *buf, size_t len, uint64_t off)
{
	char *p = buf;
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, p + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		done += (size_t)n;
	}
	return 0;
}

/* At @at, where this process has reserved addresses; NULL: anywhere. */
static int map_at(void *at, int fd, size_t bytes, bool writable, void **out)
{
	int prot = PROT_READ | (writable ? PROT_WRITE : 0);
	void *p = mmap(at, bytes, prot, MAP_SHARED | (at ? MAP_FIXED : 0), fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	if (madvise(p, bytes, MADV_DONTFORK) < 0) {
		int r = -errno;

		munmap(p, bytes);
		return r;
	}
	*out = p;
	return 0;
}

int sys_map(int fd, size_t bytes, bool writable, void **out)
{
	return map_at(NULL, fd, bytes, writable, out);
}

#ifndef MADV_COLLAPSE /* Linux 6.1 */
#define MADV_COLLAPSE 25
#endif

enum { HUGE_PAGE = 2 << 20 };

int sys_map_huge(int fd, size_t bytes, bool writable, void **out)
{
	/* The kernel puts files where huge pages fit only on some mounts. */
	size_t reserved = bytes + HUGE_PAGE, before;
	char *p = mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		       -1, 0);
	int r;

	if (p == MAP_FAILED)
		return -errno;
	before = -(uintptr_t)p % HUGE_PAGE;
	r = map_at(p + before, fd, bytes, writable, out);
	if (r < 0) {
		munmap(p, reserved);
		return r;
	}
	bytes = (bytes + 4095) & ~(size_t)4095;
	if (before)
		munmap(p, before);
	munmap(p + before + bytes, reserved - before - bytes);
	madvise(*out, bytes, MADV_HUGEPAGE);
	return 0;
}

void sys_collapse(void *p, size_t bytes)
{
	int saved = errno;

	madvise(p, bytes, MADV_COLLAPSE);
	errno = saved;
}

#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

int sys_populate(void *p, size_t bytes, bool writable)
{
	return madvise(p, bytes, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) < 0 ?
		       -errno : 0;
}

int sys_lock_memory(void *p, size_t bytes)
{
	return mlock(p, bytes) < 0 ? -errno : 0;
}

int sys_map_private(size_t bytes, void **out)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	if (madvise(p, bytes, MADV_WIPEONFORK) < 0) {
		int r = -errno;

		munmap(p, bytes);
		return r;
	}
	*out = p;
	return 0;
}

void sys_unmap(void *p, size_t bytes)
{
	munmap(p, bytes);
}

int sys_lock_byte(int fd, uint64_t off)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET,
			    .l_start = (off_t)off, .l_len = 1 };
	int r = result(fcntl(fd, F_OFD_SETLK, &fl));

	return r == -EACCES ? -EAGAIN : r;
}

int sys_byte_locked(int fd, uint64_t off)
{
	/* A read lock is asked for: only write locks are in its way, and those
	 * need a writable file, so a mere observer cannot feign a living owner. */
	struct flock fl = { .l_type = F_RDLCK, .l_whence = SEEK_SET,
			    .l_start = (off_t)off, .l_len = 1 };
	int r = result(fcntl(fd, F_OFD_GETLK, &fl));

	return r < 0 ? r : fl.l_type != F_UNLCK;
}

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / 1000000000),
				  .tv_nsec = (long)(ns % 1000000000) };
}

int sys_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint32_t bits,
		   uint64_t deadline_ns)
{
	struct timespec ts = timespec_of(deadline_ns);

	return result(syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, &ts, NULL,
			      bits));
}

int sys_futex_wake(_Atomic uint32_t *word, int n, uint32_t bits)
{
	return result(syscall(SYS_futex, word, FUTEX_WAKE_BITSET, n, NULL, NULL, bits));
}

int sys_futex_waitv(const struct sys_wait *waits, unsigned n, uint64_t deadline_ns)
{
	struct timespec ts = timespec_of(deadline_ns);
	int r = result(syscall(FUTEX_WAITV, waits, n, 0, &ts, CLOCK_MONOTONIC));

	return r > 0 ? 0 : r; /* which one does not matter */
}

int sys_inotify(int fd)
{
	char path[32];
	int r = above_stderr(result(inotify_init1(IN_NONBLOCK | IN_CLOEXEC))), e;

	if (r < 0)
		return r;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	e = result(inotify_add_watch(r, path, IN_ACCESS));
	if (e < 0) {
		close(r);
		return e;
	}
	return r;
}

int sys_timer(void)
{
	return above_stderr(result(timerfd_create(CLOCK_MONOTONIC,
						  TFD_NONBLOCK | TFD_CLOEXEC)));
}

int sys_epoll(void)
{
	return above_stderr(result(epoll_create1(EPOLL_CLOEXEC)));
}

int sys_epoll_add(int epoll, int fd)
{
	return result(epoll_ctl(epoll, EPOLL_CTL_ADD, fd,
				&(struct epoll_event){ .events = EPOLLIN }));
}

bool sys_epoll_has(int epoll, int fd)
{
	return epoll_ctl(epoll, EPOLL_CTL_MOD, fd,
			 &(struct epoll_event){ .events = EPOLLIN }) == 0;
}

int sys_timer_set(int timer, uint64_t ns)
{
	return result(timerfd_settime(timer, 0,
				      &(struct itimerspec){ .it_value = timespec_of(ns) },
				      NULL));
}

void sys_inotify_drain(int inotify)
{
	char events[4096]; /* equal ones are merged: there are never many */

	while (read(inotify, events, sizeof events) == (ssize_t)sizeof events)
		;
}

void sys_touch(int fd)
{
	char byte;

	if (pread(fd, &byte, 1, 0) < 0)
		return; /* not our descriptor any more: who polls looks again by the timer */
}

int sys_poll(struct pollfd *fds, unsigned n, uint64_t ns)
{
	struct timespec ts = timespec_of(ns);

	return result(ppoll(fds, n, &ts, NULL));
}

int sys_membarrier_register(void)
{
	return result(syscall(SYS_membarrier,
			      MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0));
}

int sys_membarrier(void)
{
	return result(syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0));
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t sys_monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t sys_coarse_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC_COARSE);
}

uint64_t sys_realtime_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

uint64_t sys_random(void)
{
	uint64_t r;

	if (getrandom(&r, sizeof r, GRND_NONBLOCK) != sizeof r)
		r = sys_monotonic_ns() * 0x9e3779b97f4a7c15 ^ (uint64_t)getpid();
	return r;
}

static size_t read_file(const char *path, char *buf, size_t size)
{
	int fd = sys_open(path, O_RDONLY, 0);
	ssize_t n;

	if (fd < 0)
		return 0;
	n = read(fd, buf, size - 1);
	close(fd);
	buf[n > 0 ? n : 0] = 0;
	return n > 0 ? (size_t)n : 0;
}

uint64_t sys_start_time(void)
{
	char buf[1024], *p;
	int field;

	if (!read_file("/proc/self/stat", buf, sizeof buf))
		return 0;
	p = strrchr(buf, ')'); /* the command before it may hold blanks */
	for (field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p, NULL, 10) : 0;
}

uint64_t sys_pid_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) < 0 ? 0 : st.st_ino;
}

void sys_command(char out[16])
{
	memset(out, 0, 16);
	if (read_file("/proc/self/comm", out, 16) && strchr(out, '\n'))
		*strchr(out, '\n') = 0;
}

bool sys_in_group(uint32_t gid)
{
	gid_t list[256];
	int n = getgroups(256, list);

	if (getegid() == gid)
		return true;
	while (n-- > 0)
		if (list[n] == gid)
			return true;
	return false;
}

int sys_usable_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof set, &set) < 0 ? 1 : CPU_COUNT(&set);
}
