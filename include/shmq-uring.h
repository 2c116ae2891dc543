/* SPDX-License-Identifier: MIT */
/*
 * shmq-uring.h - wait for items and for room in a ring of your own (liburing), beside
 * sockets, files and timers. Link with libshmq-uring: pkg-config --libs shmq-uring.
 *
 * The protocol: pop until -EAGAIN; arm (prep, submit); on its completion begin again. A
 * wait is for one completion. All who wait so are told of an item, and one gets it.
 *
 *   sqe = io_uring_get_sqe(&ring);
 *   shmq_uring_prep_wait(sqe, q, SHMQ_ANY_LANE);
 *   io_uring_sqe_set_data(sqe, q);
 *   sqe->flags |= IOSQE_IO_LINK;                  // look again, whoever died: 50 ms
 *   io_uring_prep_link_timeout(io_uring_get_sqe(&ring), &slice, 0);
 *   ...
 *   if (shmq_uring_complete(q, cqe) >= 0)
 *           while ((n = shmq_pop(q, SHMQ_ANY_LANE, buf, sizeof buf, NULL, 0)) >= 0)
 *                   work(buf, n);
 *
 * It is IORING_OP_FUTEX_WAIT where the kernel has it (Linux 6.7), as a probe of the
 * running kernel says; else IORING_OP_POLL_ADD on the descriptor of shmq_pollfd(), which
 * the handle then has. SHMQ_URING=poll in the environment makes it always the latter.
 * Producers need no ring.
 *
 * The waker that dies or is stopped between its push and the wake-up: with FUTEX_WAIT
 * link a time-out to the wait, as above, and look again; POLL_ADD completes by itself
 * each 50 ms. If the process with the ring dies, at most one later push makes two
 * system calls in vain, and nothing else stays behind.
 *
 * Cancel a wait (io_uring_prep_cancel64()) and see it complete before shmq_close().
 */
#ifndef SHMQ_URING_H
#define SHMQ_URING_H

#include <liburing.h>
#include <shmq.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * shmq_uring_prep_wait - make @sqe a wait for an item in @lane of @q, or SHMQ_ANY_LANE.
 * If there is one now, it completes at once. As with every prep, set user data and
 * flags afterwards. By the thread that has the handle.
 * Returns 0; else as shmq_arm() and shmq_pollfd(): then @sqe does nothing (a NOP).
 */
SHMQ_API int shmq_uring_prep_wait(struct io_uring_sqe *sqe, struct shmq *q, int lane);

/* shmq_uring_prep_wait_room - the same for room in @lane. */
SHMQ_API int shmq_uring_prep_wait_room(struct io_uring_sqe *sqe, struct shmq *q, int lane);

/*
 * shmq_uring_complete - what the completion of a wait means.
 * Returns 1 there may be something: pop, or push; 0 the wait was cancelled, or its linked
 * time-out has passed: somebody who holds something may have died, so look as well;
 * -EFAULT; or the error of the ring.
 */
SHMQ_API int shmq_uring_complete(struct shmq *q, const struct io_uring_cqe *cqe);

#ifdef __cplusplus
}
#endif
#endif
