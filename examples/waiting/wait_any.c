/* SPDX-License-Identifier: MIT */
/*
 * wait_any.c - print the items of several queues, sleeping until one of them has some,
 * until an item says "end".
 *
 *   cc -o wait_any wait_any.c $(pkg-config --cflags --libs shmq)
 *   ./wait_any QUEUE...
 */
#include "waiting.h"

int main(int argc, char **argv)
{
	struct shmq_wait w[16];
	int nr = argc - 1 < 16 ? argc - 1 : 16, i, r = 0;
	char buf[4096];
	ssize_t n;

	for (i = 0; i < nr; i++)
		w[i] = (struct shmq_wait){ attach(argv[i + 1]), SHMQ_ANY_LANE,
					   SHMQ_READABLE, 0 };
	/* README: wait_any */
	while (!done && ((r = shmq_wait_any(w, nr, SHMQ_FOREVER)) > 0 || r == -EINTR))
		for (i = 0; i < nr; i++) {
			if (!w[i].ready)
				continue;
			n = shmq_pop(w[i].q, w[i].lane, buf, sizeof buf, NULL, SHMQ_NOWAIT);
			if (n >= 0)
				work(buf, n);
			else if (n != -EAGAIN) /* somebody was faster */
				fail((int)n);
		}
	/* end */
	if (r < 0)
		fail(r);
	for (i = 0; i < nr; i++)
		shmq_close(w[i].q);
	return !done;
}
