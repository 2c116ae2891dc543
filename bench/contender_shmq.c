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
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmq.h>

#include "bench.h"

struct named {
	char name[48];
	int any_or_only; /* with one lane nothing is chosen */
	int64_t timeout;
	unsigned flags;
	pid_t stopped; /* the process that is stopped, or 0 */
};

struct named_end {
	struct shmq *q;
	int any_or_only;
	int64_t timeout;
};

static int bench_shmq_setup(void **queue, const struct bench_shape *shape, const char **why)
{
	uint32_t ends = (uint32_t)(shape->producers + shape->consumers + shape->idle + 8);
	struct named *n = calloc(1, sizeof *n);
	static unsigned serial;
	struct shmq_config cfg;
	int i, err;

	if (!n)
		return -ENOMEM;

	shmq_config_init(&cfg, sizeof cfg);
	cfg.nr_lanes = (uint32_t)shape->lanes;
	cfg.item_size = shape->size;
	if (cfg.max_participants < ends)
		cfg.max_participants = ends;
	for (i = 0; i < shape->lanes; i++) {
		snprintf(cfg.lanes[i].name, sizeof cfg.lanes[i].name, "lane%d", i);
		cfg.lanes[i].capacity = shape->capacity;
	}
	n->any_or_only = shape->lanes > 1 ? SHMQ_ANY_LANE : 0;
	n->timeout = shape->rate > 0 ? SHMQ_FOREVER : SHMQ_NOWAIT;
	/* A short run at a low rate would measure the first use of each page. */
	n->flags = shape->rate > 0 ? SHMQ_PREFAULT : 0;
	snprintf(n->name, sizeof n->name, "bench-%d-%u", (int)getpid(), serial++);
	err = shmq_create(n->name, &cfg);
	if (err) {
		*why = shmq_detail();
		free(n);
		return err;
	}
	*queue = n;
	return 0;
}

static void bench_shmq_teardown(void *queue)
{
	struct named *n = queue;

	if (n->stopped > 0) {
		kill(n->stopped, SIGKILL);
		waitpid(n->stopped, NULL, 0);
	}
	shmq_unlink(n->name);
	free(n);
}

static void *bench_shmq_attach(void *queue)
{
	const struct named *n = queue;
	struct named_end *e = malloc(sizeof *e);
	int err = e ? shmq_open(&e->q, n->name, n->flags) : -ENOMEM;

	if (err) {
		fprintf(stderr, "shmq_open %s: error %d %s\n", n->name, err, shmq_detail());
		free(e);
		return NULL;
	}
	e->any_or_only = n->any_or_only;
	e->timeout = n->timeout;
	return e;
}

static void bench_shmq_detach(void *end)
{
	struct named_end *e = end;

	shmq_close(e->q);
	free(e);
}

static int bench_shmq_push_n(void *end, int lane, const struct iovec *items, int n)
{
	const struct named_end *e = end;
	int got;

	if (n == 1) {
		got = shmq_push(e->q, lane, items->iov_base, items->iov_len, e->timeout);
		got = got ? got : 1;
	} else {
		got = shmq_push_n(e->q, lane, items, n, e->timeout);
	}
	return got == -EAGAIN || got == -EINTR ? 0 : got;
}

static int bench_shmq_pop_n(void *end, struct iovec *items, int n)
{
	const struct named_end *e = end;
	ssize_t got;

	if (n == 1) {
		got = shmq_pop(e->q, e->any_or_only, items->iov_base, items->iov_len, NULL,
			       e->timeout);
		if (got >= 0)
			return 1;
	} else {
		got = shmq_pop_n(e->q, e->any_or_only, items, NULL, n, e->timeout);
	}
	return got == -EAGAIN || got == -EINTR ? 0 : (int)got;
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

static int setup_stopped(void **queue, const struct bench_shape *shape, const char **why,
			 int (*get_into)(struct shmq *q))
{
	int status = 0, err = bench_shmq_setup(queue, shape, why);
	struct named_end *e;
	struct named *n;

	if (err)
		return err;
	n = *queue;
	n->stopped = fork();
	if (n->stopped == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		e = bench_shmq_attach(n);
		if (e && !get_into(e->q))
			raise(SIGSTOP);
		_exit(1);
	}
	if (n->stopped > 0 && waitpid(n->stopped, &status, WUNTRACED) == n->stopped &&
	    WIFSTOPPED(status))
		return 0;
	*why = "the process that is to be stopped was not";
	bench_shmq_teardown(n);
	return -ECHILD;
}

static int setup_in_push(void **queue, const struct bench_shape *shape, const char **why)
{
	return setup_stopped(queue, shape, why, in_push);
}

static int setup_in_pop(void **queue, const struct bench_shape *shape, const char **why)
{
	return setup_stopped(queue, shape, why, in_pop);
}

const struct bench_contender bench_shmq = {
	.name = "shmq",
	.waits = 1,
	.setup = bench_shmq_setup,
	.teardown = bench_shmq_teardown,
	.attach = bench_shmq_attach,
	.detach = bench_shmq_detach,
	.push_n = bench_shmq_push_n,
	.pop_n = bench_shmq_pop_n,
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
