/* SPDX-License-Identifier: MIT */
/*
 * uring.c - libshmq-uring: a wait as an entry of the caller's ring. Made of shmq_arm()
 * and shmq_pollfd() alone; nothing here knows the region.
 *
 * liburing has the futex operations from 2.6 on, and headers before Linux 6.7 lack the
 * numbers. They are the kernel's interface, so they are given here by hand; whether
 * the kernel has them is asked of the kernel.
 */
#include "shmq-uring.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define OP_FUTEX_WAIT 51      /* IORING_OP_FUTEX_WAIT */
#define FUTEX_SIZE_U32 2      /* FUTEX2_SIZE_U32; not FUTEX2_PRIVATE */
#define FUTEX_ANY UINT32_MAX  /* FUTEX_BITSET_MATCH_ANY */

enum { UNKNOWN, BY_FUTEX, BY_POLL };

static int probe(void)
{
	const char *want = getenv("SHMQ_URING");
	struct io_uring_probe *p;
	int found = BY_POLL;

	if (want && (!strcmp(want, "poll") || !strcmp(want, "0")))
		return BY_POLL;
	p = io_uring_get_probe();
	if (!p)
		return BY_POLL;
	if (p->last_op >= OP_FUTEX_WAIT && io_uring_opcode_supported(p, OP_FUTEX_WAIT))
		found = BY_FUTEX;
	io_uring_free_probe(p);
	return found;
}

/* Asked once in a process; that two threads ask at once does no harm. */
static int means(void)
{
	static _Atomic int known;
	int m = atomic_load_explicit(&known, memory_order_relaxed);

	if (m == UNKNOWN) {
		m = probe();
		atomic_store_explicit(&known, m, memory_order_relaxed);
	}
	return m;
}

static int prep(struct io_uring_sqe *sqe, struct shmq *q, int lane, unsigned events)
{
	struct shmq_futex f;
	int r = shmq_arm(q, lane, events, &f);

	if (r != 0) /* an error, or there is something now */
		return r < 0 ? r : 0;
	if (means() == BY_FUTEX) {
		sqe->opcode = OP_FUTEX_WAIT;
		sqe->fd = FUTEX_SIZE_U32;
		sqe->addr = (uintptr_t)f.word;
		sqe->addr2 = f.value;
		sqe->addr3 = FUTEX_ANY;
		return 0;
	}
	r = shmq_pollfd(q, events);
	if (r < 0)
		return r;
	io_uring_prep_poll_add(sqe, r, POLLIN);
	return 0;
}

static int prep_or_nop(struct io_uring_sqe *sqe, struct shmq *q, int lane, unsigned events)
{
	int saved = errno, r;

	if (!sqe)
		return -EFAULT;
	io_uring_prep_nop(sqe); /* all fields are clean */
	r = prep(sqe, q, lane, events);
	errno = saved;
	return r;
}

SHMQ_API int shmq_uring_prep_wait(struct io_uring_sqe *sqe, struct shmq *q, int lane)
{
	return prep_or_nop(sqe, q, lane, SHMQ_READABLE);
}

SHMQ_API int shmq_uring_prep_wait_room(struct io_uring_sqe *sqe, struct shmq *q, int lane)
{
	return prep_or_nop(sqe, q, lane, SHMQ_WRITABLE);
}

SHMQ_API int shmq_uring_complete(struct shmq *q, const struct io_uring_cqe *cqe)
{
	if (!q || !cqe)
		return -EFAULT;
	switch (cqe->res) {
	case -EAGAIN: /* it was rung before the kernel looked at the word */
	case -EINTR:
		return 1;
	case -ECANCELED:
		return 0;
	default:
		return cqe->res < 0 ? cqe->res : 1;
	}
}
