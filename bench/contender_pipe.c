/* SPDX-License-Identifier: MIT */
/*
 * contender_pipe.c - one anonymous pipe. Writes of whole items up to PIPE_BUF
 * are atomic, so what is in the pipe is always whole items.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "bench.h"

static int fds[2];
static size_t item_size;

static int pipe_setup(const struct bench_shape *shape, const char **why)
{
	if (shape->lanes > 1) {
		*why = "a pipe has one lane";
		return -ENOTSUP;
	}
	if (shape->size > PIPE_BUF) {
		*why = "items above PIPE_BUF are not atomic";
		return -ENOTSUP;
	}
	if (pipe2(fds, O_NONBLOCK) < 0)
		return -errno;
	fcntl(fds[1], F_SETPIPE_SZ, 1 << 20); /* the default is smaller, and works */
	item_size = shape->size;
	return 0;
}

static void pipe_teardown(void)
{
	close(fds[0]);
	close(fds[1]);
}

static void *pipe_attach(void)
{
	return fds;
}

static void pipe_detach(void *end)
{
	(void)end;
}

static int moved(ssize_t bytes)
{
	if (bytes >= 0)
		return (int)((size_t)bytes / item_size);
	return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

static int pipe_push_n(void *end, int lane, const struct iovec *items, int n)
{
	int most = (int)(PIPE_BUF / item_size);

	(void)end;
	(void)lane;
	return moved(writev(fds[1], items, n < most ? n : most));
}

static int pipe_pop_n(void *end, struct iovec *items, int n)
{
	(void)end;
	return moved(readv(fds[0], items, n));
}

const struct bench_contender bench_pipe = {
	.name = "pipe",
	.setup = pipe_setup,
	.teardown = pipe_teardown,
	.attach = pipe_attach,
	.detach = pipe_detach,
	.push_n = pipe_push_n,
	.pop_n = pipe_pop_n,
};
