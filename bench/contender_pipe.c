/* SPDX-License-Identifier: MIT */
/*
 * contender_pipe.c - one anonymous pipe. Writes of whole items up to PIPE_BUF
 * are atomic, so what is in the pipe is always whole items.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"

struct pipe_queue {
	int fds[2];
	size_t size;
};

static int pipe_setup(void **queue, const struct bench_shape *shape, const char **why)
{
	struct pipe_queue *q;

	if (shape->lanes > 1) {
		*why = "a pipe has one lane";
		return -ENOTSUP;
	}
	if (shape->size > PIPE_BUF) {
		*why = "items above PIPE_BUF are not atomic";
		return -ENOTSUP;
	}
	q = malloc(sizeof *q);
	if (!q)
		return -ENOMEM;
	if (pipe2(q->fds, shape->rate > 0 ? 0 : O_NONBLOCK) < 0) {
		free(q);
		return -errno;
	}
	fcntl(q->fds[1], F_SETPIPE_SZ, 1 << 20); /* the default is smaller, and works */
	q->size = shape->size;
	*queue = q;
	return 0;
}

static void pipe_teardown(void *queue)
{
	struct pipe_queue *q = queue;

	close(q->fds[0]);
	close(q->fds[1]);
	free(q);
}

static void *pipe_attach(void *queue)
{
	return queue;
}

static void pipe_detach(void *end)
{
	(void)end;
}

static int moved(const struct pipe_queue *q, ssize_t bytes)
{
	if (bytes >= 0)
		return (int)((size_t)bytes / q->size);
	return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

static int pipe_push_n(void *end, int lane, const struct iovec *items, int n)
{
	const struct pipe_queue *q = end;
	int most = (int)(PIPE_BUF / q->size);

	(void)lane;
	return moved(q, writev(q->fds[1], items, n < most ? n : most));
}

static int pipe_pop_n(void *end, struct iovec *items, int n)
{
	const struct pipe_queue *q = end;

	return moved(q, readv(q->fds[0], items, n));
}

const struct bench_contender bench_pipe = {
	.name = "pipe",
	.waits = 1,
	.setup = pipe_setup,
	.teardown = pipe_teardown,
	.attach = pipe_attach,
	.detach = pipe_detach,
	.push_n = pipe_push_n,
	.pop_n = pipe_pop_n,
};
