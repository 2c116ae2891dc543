/* SPDX-License-Identifier: MIT */
/*
 * sys.h - the one seam to the system: everything returns 0 or more, or -errno.
 */
#ifndef SHMQ_SYS_H
#define SHMQ_SYS_H

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

/* Make this process a target of sys_membarrier() of others. */
int sys_membarrier_register(void);
int sys_membarrier(void);

/* Have it use huge pages, if the kernel has them for it. */
void sys_huge(void *p, size_t bytes);
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
