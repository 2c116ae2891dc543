/* SPDX-License-Identifier: MIT */
/*
 * wait_epoll.c - print the items of several queues, waiting in epoll(7), until one item
 * says "end".
 *
 *   cc -o wait_epoll wait_epoll.c $(pkg-config --cflags --libs shmq)
 *   ./wait_epoll QUEUE...
 */
#include <sys/epoll.h>
#include <unistd.h>

#include "waiting.h"

int main(int argc, char **argv)
{
	int ep = epoll_create1(EPOLL_CLOEXEC);
	int nr = argc - 1 < 16 ? argc - 1 : 16, i;
	struct shmq *queue[16];
	char buf[4096];
	ssize_t n;

	for (i = 0; i < nr; i++) {
		struct shmq *q = queue[i] = attach(argv[i + 1]);
		/* README: epoll */
		struct epoll_event ev = { .events = EPOLLIN, .data.ptr = q };

		if (epoll_ctl(ep, EPOLL_CTL_ADD, shmq_pollfd(q, SHMQ_READABLE), &ev) < 0)
			return 1;
		/* end */
	}
	while (!done) {
		struct epoll_event ev;
		struct shmq *q;

		if (epoll_wait(ep, &ev, 1, -1) < 1)
			continue;
		/* README: epoll, woken */
		q = ev.data.ptr;
		n = shmq_pop(q, SHMQ_ANY_LANE, buf, sizeof buf, NULL, SHMQ_NOWAIT);
		if (n >= 0)
			work(buf, n); /* what is left wakes us again */
		else if (n != -EAGAIN)
			fail((int)n);
		/* end */
	}
	close(ep); /* it forgets the queues, and then they may go */
	for (i = 0; i < nr; i++)
		shmq_close(queue[i]);
	return 0;
}
