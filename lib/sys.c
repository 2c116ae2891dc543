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
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int result(long r)
{
	return r < 0 ? -errno : (int)r;
}

int sys_open(const char *path, int flags, unsigned mode)
{
	int r;

	do {
		r = result(open(path, flags | O_CLOEXEC | O_NOCTTY, mode));
	} while (r == -EINTR);
	if (r >= 0 && r <= STDERR_FILENO) { /* or output meant for 1 would hit a queue */
		int high = result(fcntl(r, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));

		close(r);
		r = high;
	}
	return r;
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

int sys_map(int fd, size_t bytes, bool writable, void **out)
{
	int prot = PROT_READ | (writable ? PROT_WRITE : 0);
	void *p = mmap(NULL, bytes, prot, MAP_SHARED, fd, 0);

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

void sys_huge(void *p, size_t bytes)
{
	int saved = errno;

	madvise(p, bytes, MADV_HUGEPAGE);
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

int sys_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint32_t bits,
		   uint64_t deadline_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(deadline_ns / 1000000000),
			       .tv_nsec = (long)(deadline_ns % 1000000000) };

	return result(syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, &ts, NULL,
			      bits));
}

int sys_futex_wake(_Atomic uint32_t *word, int n, uint32_t bits)
{
	return result(syscall(SYS_futex, word, FUTEX_WAKE_BITSET, n, NULL, NULL, bits));
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
