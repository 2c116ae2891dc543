/* SPDX-License-Identifier: MIT */
/*
 * wait_libevent.c - print the items of a queue in a loop of libevent, until one says
 * "end".
 *
 *   cc -o wait_libevent wait_libevent.c $(pkg-config --cflags --libs shmq libevent_core)
 *   ./wait_libevent QUEUE
 */
#include <event2/event.h>

#include "waiting.h"

static struct event_base *base;

/* README: libevent, woken */
static void on_items(evutil_socket_t fd, short what, void *arg)
{
	struct shmq *q = arg;
	char buf[4096];
	ssize_t n = shmq_pop(q, SHMQ_ANY_LANE, buf, sizeof buf, NULL, SHMQ_NOWAIT);

	(void)fd;
	(void)what;
	if (n >= 0)
		work(buf, n); /* what is left wakes us again */
	else if (n != -EAGAIN)
		fail((int)n);
	if (done)
		event_base_loopbreak(base);
}
/* end */

int main(int argc, char **argv)
{
	struct shmq *q = attach(argc > 1 ? argv[1] : "hello");
	struct event *ev;

	base = event_base_new();
	/* README: libevent */
	ev = event_new(base, shmq_pollfd(q, SHMQ_READABLE), EV_READ | EV_PERSIST, on_items, q);
	event_add(ev, NULL);
	/* end */
	event_base_dispatch(base);
	event_free(ev);
	event_base_free(base);
	shmq_close(q); /* after the loop has forgotten it */
	return !done;
}
