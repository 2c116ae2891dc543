/* SPDX-License-Identifier: MIT */
/*
 * wait_poll.c - print the items of a queue, waiting in poll(2), until one says "end".
 *
 *   cc -o wait_poll wait_poll.c $(pkg-config --cflags --libs shmq)
 *   ./wait_poll QUEUE
 */
#include <poll.h>

#include "waiting.h"

int main(int argc, char **argv)
{
	struct shmq *q = attach(argc > 1 ? argv[1] : "hello");
	char buf[4096];
	ssize_t n;

	/* README: poll */
	struct pollfd p = { .fd = shmq_pollfd(q, SHMQ_READABLE), .events = POLLIN };

	while (!done && (poll(&p, 1, -1) > 0 || errno == EINTR)) {
		n = shmq_pop(q, SHMQ_ANY_LANE, buf, sizeof buf, NULL, SHMQ_NOWAIT);
		if (n >= 0)
			work(buf, n);
		else if (n != -EAGAIN)
			fail((int)n);
	}
	/* end */
	shmq_close(q);
	return !done;
}
