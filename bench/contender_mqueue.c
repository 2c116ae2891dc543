/* SPDX-License-Identifier: MIT */
/*
 * contender_mqueue.c - one POSIX message queue; lanes are message priorities.
 * Its length is the largest up to the wanted capacity that the system grants.
 */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"

static mqd_t mq;
static int nr_lanes;

/* Only the privileged may raise it; without, the queue is shorter. */
static void raise_limit(void)
{
	struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY};

	setrlimit(RLIMIT_MSGQUEUE, &most);
}

static int mqueue_setup(const struct bench_shape *shape, const char **why)
{
	struct mq_attr attr = {.mq_msgsize = (long)shape->size};
	char name[32];

	snprintf(name, sizeof name, "/shmq-bench-%d", (int)getpid());
	raise_limit();
	attr.mq_maxmsg = (long)(shape->capacity < 65536 ? shape->capacity : 65536);
	do {
		mq = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &attr);
		attr.mq_maxmsg /= 2;
	} while (mq == (mqd_t)-1 && attr.mq_maxmsg &&
		 (errno == EINVAL || errno == EMFILE || errno == ENOMEM));
	if (mq == (mqd_t)-1) {
		*why = "mq_open is refused here";
		return -ENOTSUP;
	}
	mq_unlink(name);
	nr_lanes = shape->lanes;
	return 0;
}

static void mqueue_teardown(void)
{
	mq_close(mq);
}

static void *mqueue_attach(void)
{
	return &mq;
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
	unsigned priority = (unsigned)(nr_lanes - lane);
	int i;

	(void)end;
	for (i = 0; i < n; i++)
		if (mq_send(mq, items[i].iov_base, items[i].iov_len, priority) < 0)
			break;
	return i == n ? n : outcome(i);
}

static int mqueue_pop_n(void *end, struct iovec *items, int n)
{
	int i;

	(void)end;
	for (i = 0; i < n; i++)
		if (mq_receive(mq, items[i].iov_base, items[i].iov_len, NULL) < 0)
			break;
	return i == n ? n : outcome(i);
}

const struct bench_contender bench_mqueue = {
	.name = "mqueue",
	.setup = mqueue_setup,
	.teardown = mqueue_teardown,
	.attach = mqueue_attach,
	.detach = mqueue_detach,
	.push_n = mqueue_push_n,
	.pop_n = mqueue_pop_n,
};
