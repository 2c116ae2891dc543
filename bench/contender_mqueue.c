/* SPDX-License-Identifier: MIT */
/*
 * contender_mqueue.c - one POSIX message queue; lanes are message priorities.
 * Its length is the largest up to the wanted capacity that the system grants.
 */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"

struct mq_queue {
	mqd_t mq;
	int nr_lanes;
};

/* Only the privileged may raise it; without, the queue is shorter. */
static void raise_limit(void)
{
	struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY};

	setrlimit(RLIMIT_MSGQUEUE, &most);
}

static int mqueue_setup(void **queue, const struct bench_shape *shape, const char **why)
{
	int flags = O_RDWR | O_CREAT | O_EXCL | (shape->rate > 0 ? 0 : O_NONBLOCK);
	struct mq_queue *q = malloc(sizeof *q);
	struct mq_attr attr = {.mq_msgsize = (long)shape->size};
	char name[32];

	if (!q)
		return -ENOMEM;
	snprintf(name, sizeof name, "/shmq-bench-%d", (int)getpid());
	raise_limit();
	attr.mq_maxmsg = (long)(shape->capacity < 65536 ? shape->capacity : 65536);
	do {
		q->mq = mq_open(name, flags, 0600, &attr);
		attr.mq_maxmsg /= 2;
	} while (q->mq == (mqd_t)-1 && attr.mq_maxmsg &&
		 (errno == EINVAL || errno == EMFILE || errno == ENOMEM));
	if (q->mq == (mqd_t)-1) {
		free(q);
		*why = "mq_open is refused here";
		return -ENOTSUP;
	}
	mq_unlink(name);
	q->nr_lanes = shape->lanes;
	*queue = q;
	return 0;
}

static void mqueue_teardown(void *queue)
{
	struct mq_queue *q = queue;

	mq_close(q->mq);
	free(q);
}

static void *mqueue_attach(void *queue)
{
	return queue;
}

static void mqueue_detach(void *end)
{
	(void)end;
}

static int outcome(int done)
{
	if (done || errno == EAGAIN || errno == EINTR)
		return done;
	return -errno;
}

static int mqueue_push_n(void *end, int lane, const struct iovec *items, int n)
{
	const struct mq_queue *q = end;
	unsigned priority = (unsigned)(q->nr_lanes - lane);
	int i;

	for (i = 0; i < n; i++)
		if (mq_send(q->mq, items[i].iov_base, items[i].iov_len, priority) < 0)
			break;
	return i == n ? n : outcome(i);
}

static int mqueue_pop_n(void *end, struct iovec *items, int n)
{
	const struct mq_queue *q = end;
	int i;

	for (i = 0; i < n; i++)
		if (mq_receive(q->mq, items[i].iov_base, items[i].iov_len, NULL) < 0)
			break;
	return i == n ? n : outcome(i);
}

const struct bench_contender bench_mqueue = {
	.name = "mqueue",
	.waits = 1,
	.setup = mqueue_setup,
	.teardown = mqueue_teardown,
	.attach = mqueue_attach,
	.detach = mqueue_detach,
	.push_n = mqueue_push_n,
	.pop_n = mqueue_pop_n,
};
