/* SPDX-License-Identifier: MIT */
/*
 * contender_rte.c - DPDK's rte_ring, without its environment (EAL): rte_ring_init() in a
 * shared mapping, items inline, one ring per lane, in the mode that DPDK recommends where
 * processors are shared (HTS: one producer and one consumer at a time), by burst calls.
 * The ring holds a power of two less one.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <rte_ring.h>
#include <rte_ring_elem.h>

#include "bench.h"

#define LINE_PAIR 128

struct rte_queue {
	struct rte_ring *lanes[BENCH_MAX_LANES];
	int nr_lanes;
	unsigned size;
	size_t ring_bytes;
};

static void bench_rte_teardown(void *queue)
{
	struct rte_queue *q = queue;

	munmap(q->lanes[0], q->ring_bytes * (size_t)q->nr_lanes);
	free(q);
}

static int bench_rte_setup(void **queue, const struct bench_shape *shape, const char **why)
{
	struct rte_queue *q = malloc(sizeof *q);
	unsigned count = 2;
	unsigned char *map;
	int i, err = 0;

	if (!q)
		return -ENOMEM;
	q->nr_lanes = shape->lanes;
	q->size = (unsigned)shape->size;
	while (count < shape->capacity)
		count <<= 1;
	q->ring_bytes = (size_t)rte_ring_get_memsize_elem(q->size, count);
	q->ring_bytes = (q->ring_bytes + LINE_PAIR - 1) & ~(size_t)(LINE_PAIR - 1);
	map = mmap(NULL, q->ring_bytes * (size_t)q->nr_lanes, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (map == MAP_FAILED) {
		free(q);
		return -ENOMEM;
	}
	for (i = 0; i < q->nr_lanes && !err; i++) {
		q->lanes[i] = (struct rte_ring *)(map + q->ring_bytes * (size_t)i);
		err = rte_ring_init(q->lanes[i], "bench", count,
				    RING_F_MP_HTS_ENQ | RING_F_MC_HTS_DEQ);
	}
	*queue = q;
	if (err) {
		*why = "rte_ring_init failed";
		bench_rte_teardown(q);
	}
	return err;
}

static void *bench_rte_attach(void *queue)
{
	return queue;
}

static void bench_rte_detach(void *end)
{
	(void)end;
}

static int bench_rte_push_n(void *end, int lane, const struct iovec *items, int n)
{
	const struct rte_queue *q = end;

	return (int)rte_ring_mp_hts_enqueue_burst_elem(q->lanes[lane], items->iov_base, q->size,
						       (unsigned)n, NULL);
}

static int bench_rte_pop_n(void *end, struct iovec *items, int n)
{
	const struct rte_queue *q = end;
	int lane, got = 0;

	for (lane = 0; lane < q->nr_lanes && !got; lane++)
		got = (int)rte_ring_mc_hts_dequeue_burst_elem(q->lanes[lane], items->iov_base,
							      q->size, (unsigned)n, NULL);
	return got;
}

const struct bench_contender bench_rte = {
	.name = "rte",
	.setup = bench_rte_setup,
	.teardown = bench_rte_teardown,
	.attach = bench_rte_attach,
	.detach = bench_rte_detach,
	.push_n = bench_rte_push_n,
	.pop_n = bench_rte_pop_n,
};
