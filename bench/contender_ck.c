/* SPDX-License-Identifier: MIT */
/*
 * contender_ck.c - Concurrency Kit's ck_ring for many producers and consumers, in a shared
 * mapping, one ring per lane. Its plain calls move pointers; the ones used here are made
 * by CK_RING_PROTOTYPE for a type, and copy items inline, as the other rings do. The type
 * is fixed when it is compiled: 64 bytes. It has no batches, and holds a power of two
 * less one.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <ck_ring.h>

#include "bench.h"

#define LINE_PAIR 128

struct ck_item {
	_Alignas(64) unsigned char bytes[64];
};

CK_RING_PROTOTYPE(item, ck_item)

struct ck_lane {
	_Alignas(LINE_PAIR) ck_ring_t ring;
	_Alignas(LINE_PAIR) struct ck_item items[];
};

struct ck_queue {
	struct ck_lane *lanes[BENCH_MAX_LANES];
	int nr_lanes;
	size_t lane_bytes;
};

static int bench_ck_setup(void **queue, const struct bench_shape *shape, const char **why)
{
	struct ck_queue *q;
	unsigned char *map;
	unsigned count = 4; /* the least that it takes */
	int i;

	if (shape->size != sizeof(struct ck_item)) {
		*why = "only items of 64 bytes";
		return -ENOTSUP;
	}
	q = malloc(sizeof *q);
	if (!q)
		return -ENOMEM;
	q->nr_lanes = shape->lanes;
	while (count < shape->capacity)
		count <<= 1;
	q->lane_bytes = sizeof(struct ck_lane) + count * sizeof(struct ck_item);
	map = mmap(NULL, q->lane_bytes * (size_t)q->nr_lanes, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (map == MAP_FAILED) {
		free(q);
		return -ENOMEM;
	}
	for (i = 0; i < q->nr_lanes; i++) {
		q->lanes[i] = (struct ck_lane *)(map + q->lane_bytes * (size_t)i);
		ck_ring_init(&q->lanes[i]->ring, count);
	}
	*queue = q;
	return 0;
}

static void bench_ck_teardown(void *queue)
{
	struct ck_queue *q = queue;

	munmap(q->lanes[0], q->lane_bytes * (size_t)q->nr_lanes);
	free(q);
}

static void *bench_ck_attach(void *queue)
{
	return queue;
}

static void bench_ck_detach(void *end)
{
	(void)end;
}

static int bench_ck_push_n(void *end, int lane, const struct iovec *items, int n)
{
	const struct ck_queue *q = end;
	struct ck_lane *l = q->lanes[lane];
	int i;

	for (i = 0; i < n; i++)
		if (!CK_RING_ENQUEUE_MPMC(item, &l->ring, l->items, items[i].iov_base))
			break;
	return i;
}

static int bench_ck_pop_n(void *end, struct iovec *items, int n)
{
	const struct ck_queue *q = end;
	int lane, i = 0;

	for (lane = 0; lane < q->nr_lanes && !i; lane++) {
		struct ck_lane *l = q->lanes[lane];

		while (i < n &&
		       CK_RING_DEQUEUE_MPMC(item, &l->ring, l->items, items[i].iov_base))
			i++;
	}
	return i;
}

const struct bench_contender bench_ck = {
	.name = "ck",
	.setup = bench_ck_setup,
	.teardown = bench_ck_teardown,
	.attach = bench_ck_attach,
	.detach = bench_ck_detach,
	.push_n = bench_ck_push_n,
	.pop_n = bench_ck_pop_n,
};
