/* SPDX-License-Identifier: MIT */
/*
 * contender_rte.c - DPDK's rte_ring in a shared mapping, multi-producer and multi-consumer
 * in its HTS mode (head and tail in step), which is the one for processes that may lose
 * their processor. Items are copied straight from and to their slots (the "zero copy"
 * calls); a burst moves several. One ring per lane; the size is a multiple of 4.
 */
#include "bench.h"

#ifdef HAVE_RTE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <rte_ring.h>
#include <rte_ring_elem.h>
#include <rte_ring_peek_zc.h>

static struct rte_ring *rings[BENCH_MAX_LANES];
static int nr_lanes;
static size_t ring_bytes, size;

static int rte_setup(const struct bench_shape *shape, const char **why)
{
	unsigned count = 2;
	unsigned char *map;
	ssize_t bytes;

	while (count <= shape->capacity) /* one slot stays empty */
		count *= 2;
	nr_lanes = shape->lanes;
	size = shape->size;
	bytes = rte_ring_get_memsize_elem((unsigned)size, count);
	if (bytes < 0) {
		*why = "rte_ring does not have such elements";
		return -ENOTSUP;
	}
	ring_bytes = ((size_t)bytes + 4095) & ~(size_t)4095;
	map = mmap(NULL, ring_bytes * (size_t)nr_lanes, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (map == MAP_FAILED)
		return -errno;
	for (int i = 0; i < nr_lanes; i++) {
		rings[i] = (struct rte_ring *)(map + ring_bytes * (size_t)i);
		if (rte_ring_init(rings[i], "bench", count,
				  RING_F_MP_HTS_ENQ | RING_F_MC_HTS_DEQ)) {
			*why = "rte_ring_init failed";
			return -EINVAL;
		}
	}
	return 0;
}

static void rte_teardown(void)
{
	munmap(rings[0], ring_bytes * (size_t)nr_lanes);
}

static void *rte_attach(void)
{
	return rings;
}

static void rte_detach(void *end)
{
	(void)end;
}

/* Slot @i of what a call has given: it may go round the end of the ring. */
static char *slot(const struct rte_ring_zc_data *z, unsigned i)
{
	return i < z->n1 ? (char *)z->ptr1 + i * size : (char *)z->ptr2 + (i - z->n1) * size;
}

static void copy(void *to, const void *from)
{
	if (size == 64)
		memcpy(to, from, 64);
	else
		memcpy(to, from, size);
}

static int rte_push_n(void *end, int lane, const struct iovec *items, int n)
{
	struct rte_ring_zc_data z;
	unsigned got = rte_ring_enqueue_zc_burst_elem_start(rings[lane], (unsigned)size,
							    (unsigned)n, &z, NULL);

	(void)end;
	for (unsigned i = 0; i < got; i++)
		copy(slot(&z, i), items[i].iov_base);
	if (got)
		rte_ring_enqueue_zc_elem_finish(rings[lane], got);
	return (int)got;
}

static int pop_some(int lane, struct iovec *items, int n)
{
	struct rte_ring_zc_data z;
	unsigned got = rte_ring_dequeue_zc_burst_elem_start(rings[lane], (unsigned)size,
							    (unsigned)n, &z, NULL);

	for (unsigned i = 0; i < got; i++)
		copy(items[i].iov_base, slot(&z, i));
	if (got)
		rte_ring_dequeue_zc_elem_finish(rings[lane], got);
	return (int)got;
}

static int rte_pop_n(void *end, struct iovec *items, int n)
{
	int got = 0;

	(void)end;
	for (int lane = 0; lane < nr_lanes && !got; lane++)
		got = pop_some(lane, items, n);
	return got;
}

static int rte_pop_lane(void *end, int lane, struct iovec *item)
{
	(void)end;
	return pop_some(lane, item, 1);
}

const struct bench_contender bench_rte = {
	.name = "rte",
	.setup = rte_setup,
	.teardown = rte_teardown,
	.attach = rte_attach,
	.detach = rte_detach,
	.push_n = rte_push_n,
	.pop_n = rte_pop_n,
	.pop_lane = rte_pop_lane,
};
#else
BENCH_NOT_BUILT(rte, "libdpdk-dev");
#endif
