/* SPDX-License-Identifier: MIT */
/*
 * contender_shmq.c - libshmq through its public interface, linked statically.
 * Every process opens the queue by name; single items take the single calls.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <shmq.h>

#include "bench.h"

static char name[32];
static int any_or_only; /* with one lane nothing is chosen */

static int bench_shmq_setup(const struct bench_shape *shape, const char **why)
{
	struct shmq_config cfg;
	int i, err;

	shmq_config_init(&cfg, sizeof cfg);
	cfg.nr_lanes = (uint32_t)shape->lanes;
	cfg.item_size = shape->size;
	cfg.max_participants = BENCH_MAX_PROCS + 8;
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

const struct bench_contender bench_shmq = {
	.name = "shmq",
	.setup = bench_shmq_setup,
	.teardown = bench_shmq_teardown,
	.attach = bench_shmq_attach,
	.detach = bench_shmq_detach,
	.push_n = bench_shmq_push_n,
	.pop_n = bench_shmq_pop_n,
};
