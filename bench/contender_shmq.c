/* SPDX-License-Identifier: MIT */
/*
 * contender_shmq.c - libshmq through its public interface, linked statically.
 * Every process opens the queue by name; single items take the single calls.
 *
 * Two more contenders are the same with one process more, which is stopped all the
 * time: in a push, between ticket and publication, or in a pop, with the item taken.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmq.h>

#include "bench.h"

static char name[32];
static int any_or_only; /* with one lane nothing is chosen */
static pid_t stopped;   /* the process that is stopped, or 0 */

static int bench_shmq_setup(const struct bench_shape *shape, const char **why)
{
	struct shmq_config cfg;
	int i, err;

	shmq_config_init(&cfg, sizeof cfg);
	cfg.nr_lanes = (uint32_t)shape->lanes;
	cfg.item_size = shape->size;
	if (cfg.max_participants < (uint32_t)(shape->producers + shape->consumers + 8))
		cfg.max_participants = (uint32_t)(shape->producers + shape->consumers + 8);
	for (i = 0; i < shape->lanes; i++) {
		snprintf(cfg.lanes[i].name, sizeof cfg.lanes[i].name, "lane%d", i);
		cfg.lanes[i].capacity = shape->capacity;
	}
	any_or_only = shape->lanes > 1 ? SHMQ_ANY_LANE : 0;
	snprintf(name, sizeof name, "bench-%d", (int)getpid());
	err = shmq_create(name, &cfg);
	if (err)
		*why = shmq_detail();
	return err;
}

static void bench_shmq_teardown(void)
{
	if (stopped > 0) {
		kill(stopped, SIGKILL);
		waitpid(stopped, NULL, 0);
		stopped = 0;
	}
	shmq_unlink(name);
}

static void *bench_shmq_attach(void)
{
	struct shmq *q;
	int err = shmq_open(&q, name, 0);

	if (!err)
		return q;
	fprintf(stderr, "shmq_open %s: error %d %s\n", name, err, shmq_detail());
	return NULL;
}

static void bench_shmq_detach(void *end)
{
	shmq_close(end);
}

static int bench_shmq_push_n(void *end, int lane, const struct iovec *items, int n)
{
	int got;

	if (n == 1) {
		got = shmq_push(end, lane, items->iov_base, items->iov_len, SHMQ_NOWAIT);
		got = got ? got : 1;
	} else {
		got = shmq_push_n(end, lane, items, n, SHMQ_NOWAIT);
	}
	return got == -EAGAIN ? 0 : got;
}

static int bench_shmq_pop_n(void *end, struct iovec *items, int n)
{
	ssize_t got;

	if (n == 1) {
		got = shmq_pop(end, any_or_only, items->iov_base, items->iov_len, NULL,
			       SHMQ_NOWAIT);
		if (got >= 0)
			return 1;
	} else {
		got = shmq_pop_n(end, any_or_only, items, NULL, n, SHMQ_NOWAIT);
	}
	return got == -EAGAIN ? 0 : (int)got;
}

static int bench_shmq_pop_lane(void *end, int lane, struct iovec *item)
{
	ssize_t got = shmq_pop(end, lane, item->iov_base, item->iov_len, NULL, SHMQ_NOWAIT);

	return got >= 0 ? 1 : got == -EAGAIN ? 0 : (int)got;
}

/* What a push is in the middle of: the ticket is drawn, the item is not there. */
static int in_push(struct shmq *q)
{
	void *buf;

	return shmq_reserve(q, 0, &buf, SHMQ_NOWAIT);
}

/* What a pop is in the middle of: the item is taken, the slot is not done. */
static int in_pop(struct shmq *q)
{
	static struct shmq_lease lease;

	return shmq_push(q, 0, NULL, 0, SHMQ_NOWAIT) ? -1 :
						       shmq_peek(q, 0, &lease, SHMQ_NOWAIT);
}

static int setup_stopped(const struct bench_shape *shape, const char **why,
			 int (*get_into)(struct shmq *q))
{
	int status = 0, err = bench_shmq_setup(shape, why);
	struct shmq *q;

	if (err)
		return err;
	stopped = fork();
	if (stopped == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		q = bench_shmq_attach();
		if (q && !get_into(q))
			raise(SIGSTOP);
		_exit(1);
	}
	if (stopped > 0 && waitpid(stopped, &status, WUNTRACED) == stopped && WIFSTOPPED(status))
		return 0;
	*why = "the process that is to be stopped was not";
	bench_shmq_teardown();
	return -ECHILD;
}

static int setup_in_push(const struct bench_shape *shape, const char **why)
{
	return setup_stopped(shape, why, in_push);
}

static int setup_in_pop(const struct bench_shape *shape, const char **why)
{
	return setup_stopped(shape, why, in_pop);
}

const struct bench_contender bench_shmq = {
	.name = "shmq",
	.setup = bench_shmq_setup,
	.teardown = bench_shmq_teardown,
	.attach = bench_shmq_attach,
	.detach = bench_shmq_detach,
	.push_n = bench_shmq_push_n,
	.pop_n = bench_shmq_pop_n,
	.pop_lane = bench_shmq_pop_lane,
};

const struct bench_contender bench_shmq_in_push = {
	.name = "shmq-in-push",
	.setup = setup_in_push,
	.teardown = bench_shmq_teardown,
	.attach = bench_shmq_attach,
	.detach = bench_shmq_detach,
	.push_n = bench_shmq_push_n,
	.pop_n = bench_shmq_pop_n,
};

const struct bench_contender bench_shmq_in_pop = {
	.name = "shmq-in-pop",
	.setup = setup_in_pop,
	.teardown = bench_shmq_teardown,
	.attach = bench_shmq_attach,
	.detach = bench_shmq_detach,
	.push_n = bench_shmq_push_n,
	.pop_n = bench_shmq_pop_n,
};
