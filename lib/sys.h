/* SPDX-License-Identifier: MIT */
/*
 * sys.h - the one seam to the system: everything returns 0 or more, or -errno.
 */
#ifndef SHMQ_SYS_H
#define SHMQ_SYS_H

#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

int sys_open(const char *path, int flags, unsigned mode);
/* A new open file description of the file behind @fd. */
int sys_reopen(int fd, int flags);
int sys_close(int fd);
int sys_fstat(int fd, struct stat *st);
int sys_fallocate(int fd, uint64_t bytes);
int sys_linkat(int fd, const char *path);
int sys_unlink(const char *path);
int sys_read_at(int fd, void *buf, size_t len, uint64_t off);

/* Maps @bytes of @fd; the mapping is not inherited by fork(). */
int sys_map(int fd, size_t bytes, bool writable, void **out);
/* Zeroed private memory that reads as zero in a child after fork(). */
int sys_map_private(size_t bytes, void **out);
void sys_unmap(void *p, size_t bytes);

/* Write lock of one byte of the open file description: 0, -EAGAIN if taken. */
int sys_lock_byte(int fd, uint64_t off);
/* 1 if another description holds a write lock on the byte, 0 if none does. */
int sys_byte_locked(int fd, uint64_t off);

/*
 * Sleep while *@word is @expected, at most until @deadline_ns (CLOCK_MONOTONIC).
 * @bits chooses the wake-ups. 0, -EAGAIN, -ETIMEDOUT, -EINTR.
 */
int sys_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint32_t bits,
		   uint64_t deadline_ns);
/* Wake up to @n sleepers that share a bit of @bits: how many there were. */
int sys_futex_wake(_Atomic uint32_t *word, int n, uint32_t bits);

/*
 * Sleep while each of the @n words has its value, at most until @deadline_ns.
 * 0 one was woken; -EAGAIN one has changed; -ETIMEDOUT; -EINTR; -ENOSYS before
 * Linux 5.16, -EPERM and others where it is forbidden.
 */
struct sys_wait {
	uint64_t value, word;
	uint32_t flags, reserved;
};
#define SYS_WAIT_MAX 128
#define SYS_WAIT_U32 2 /* flags: shared between processes, 32 bits */
int sys_futex_waitv(const struct sys_wait *waits, unsigned n, uint64_t deadline_ns);

/* Descriptors to be polled, above stderr. The inotify one becomes readable when
 * somebody calls sys_touch() on a description of the file behind @fd. */
int sys_inotify(int fd);
int sys_timer(void);
int sys_epoll(void);
int sys_epoll_add(int epoll, int fd);
/* Has @fd been added to @epoll, and is either number still what it was? */
bool sys_epoll_has(int epoll, int fd);
/* Readable @ns from now, and not before. */
int sys_timer_set(int timer, uint64_t ns);
void sys_inotify_drain(int inotify);
void sys_touch(int fd);
int sys_poll(struct pollfd *fds, unsigned n, uint64_t ns);

/* Make this process a target of sys_membarrier() of others. */
int sys_membarrier_register(void);
int sys_membarrier(void);

/* As sys_map(), where huge pages fit, and asking for them; they are used if the file has
 * them. */
int sys_map_huge(int fd, size_t bytes, bool writable, void **out);
/* Have the file's pages made into huge ones, as far as the kernel can: since Linux 6.1. */
void sys_collapse(void *p, size_t bytes);
/* Map all pages now, and allocate those that are missing: 0; -EINVAL before Linux 5.14. */
int sys_populate(void *p, size_t bytes, bool writable);
/* Keep it in RAM: 0, or -errno of mlock(). */
int sys_lock_memory(void *p, size_t bytes);
uint64_t sys_monotonic_ns(void);
uint64_t sys_coarse_ns(void); /* the same clock to some milliseconds, cheaper */
uint64_t sys_realtime_ns(void);
uint64_t sys_random(void);

/* Identity of this process, for diagnosis: 0 where it cannot be learnt. */
uint64_t sys_start_time(void);
uint64_t sys_pid_namespace(void);
void sys_command(char out[16]);
bool sys_in_group(uint32_t gid);
int sys_usable_cpus(void);

#endif
