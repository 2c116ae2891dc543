/* SPDX-License-Identifier: MIT */
/*
 * wait_uring.c - one ring that serves a socket, a timer and two queues: what comes from
 * any of them is printed, until an item says "end". Producers need no ring.
 *
 *   cc -o wait_uring wait_uring.c $(pkg-config --cflags --libs shmq-uring)
 *   ./wait_uring QUEUE QUEUE SOCKET        SOCKET: a path for a datagram socket
 */
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <shmq-uring.h>

#include "waiting.h"

enum { SOCKET = 2, TIMER, SLICE }; /* user data; 0 and 1 are the queues */

static struct io_uring ring;
static struct shmq *queue[2];
static struct __kernel_timespec slice = { .tv_nsec = 50000000 };
static struct __kernel_timespec tick = { .tv_nsec = 200000000 };
static int sock;
static char datagram[512];

/* README: uring */
static void arm_queue(unsigned i)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	int err = shmq_uring_prep_wait(sqe, queue[i], SHMQ_ANY_LANE);

	if (err < 0)
		fail(err);
	sqe->user_data = i;
	sqe->flags |= IOSQE_IO_LINK; /* look again after a slice, in case a waker died */
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_link_timeout(sqe, &slice, 0);
	sqe->user_data = SLICE;
}

static void serve_queue(unsigned i, const struct io_uring_cqe *cqe)
{
	char buf[4096];
	ssize_t n = shmq_uring_complete(queue[i], cqe);

	if (n < 0)
		fail((int)n);
	while ((n = shmq_pop(queue[i], SHMQ_ANY_LANE, buf, sizeof buf, NULL, SHMQ_NOWAIT)) >= 0)
		work(buf, n);
	if (n != -EAGAIN)
		fail((int)n);
	arm_queue(i);
}
/* end */

static void arm_socket(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	io_uring_prep_recv(sqe, sock, datagram, sizeof datagram, 0);
	sqe->user_data = SOCKET;
}

static void arm_timer(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	io_uring_prep_timeout(sqe, &tick, 0, 0);
	sqe->user_data = TIMER;
}

static void serve(const struct io_uring_cqe *cqe)
{
	switch (cqe->user_data) {
	case SOCKET:
		if (cqe->res < 0)
			fail(cqe->res);
		printf("socket: ");
		work(datagram, cqe->res);
		arm_socket();
		break;
	case TIMER:
		printf("tick\n");
		arm_timer();
		break;
	case SLICE: /* the wait that it is linked to says all */
		break;
	default:
		serve_queue((unsigned)cqe->user_data, cqe);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int err = io_uring_queue_init(32, &ring, 0);

	if (argc != 4)
		return 64;
	if (err < 0) {
		fprintf(stderr, "wait_uring: no io_uring here: %s\n", strerror(-err));
		return 77;
	}
	snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[3]);
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0 || bind(sock, (struct sockaddr *)&address, sizeof address) < 0)
		fail(-errno);
	for (unsigned i = 0; i < 2; i++) {
		queue[i] = attach(argv[i + 1]);
		arm_queue(i);
	}
	arm_socket();
	arm_timer();
	while (!done) {
		struct io_uring_cqe *cqe;

		err = io_uring_submit_and_wait(&ring, 1);
		while (!done && io_uring_peek_cqe(&ring, &cqe) == 0) {
			serve(cqe);
			io_uring_cqe_seen(&ring, cqe);
		}
		if (err < 0 && err != -EINTR)
			fail(err);
	}
	io_uring_queue_exit(&ring); /* ends all waits; then the queues may go */
	unlink(argv[3]);
	shmq_close(queue[0]);
	shmq_close(queue[1]);
	return 0;
}
