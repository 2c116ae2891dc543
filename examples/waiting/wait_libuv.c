/* SPDX-License-Identifier: MIT */
/*
 * wait_libuv.c - print the items of a queue in a loop of libuv, until one says "end".
 *
 *   cc -o wait_libuv wait_libuv.c $(pkg-config --cflags --libs shmq libuv)
 *   ./wait_libuv QUEUE
 */
#include <uv.h>

#include "waiting.h"

/* README: libuv, woken */
static void on_items(uv_poll_t *poll, int status, int events)
{
	struct shmq *q = poll->data;
	char buf[4096];
	ssize_t n = status;

	while (events & UV_READABLE && !done &&
	       (n = shmq_pop(q, SHMQ_ANY_LANE, buf, sizeof buf, NULL, SHMQ_NOWAIT)) >= 0)
		work(buf, n);
	if (n < 0 && n != -EAGAIN)
		fail((int)n);
	if (done)
		uv_poll_stop(poll);
}
/* end */

int main(int argc, char **argv)
{
	struct shmq *q = attach(argc > 1 ? argv[1] : "hello");
	uv_loop_t *loop = uv_default_loop();

	/* README: libuv */
	uv_poll_t poll = { .data = q };

	uv_poll_init(loop, &poll, shmq_pollfd(q, SHMQ_READABLE));
	uv_poll_start(&poll, UV_READABLE, on_items);
	/* end */
	uv_run(loop, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&poll, NULL);
	uv_run(loop, UV_RUN_DEFAULT);
	shmq_close(q); /* after the loop has forgotten it */
	return !done;
}
