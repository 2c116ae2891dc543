/* SPDX-License-Identifier: MIT */
/*
 * contender_ck.c - Concurrency Kit's ck_ring in a shared mapping, multi-producer and
 * multi-consumer, with items of 64 bytes inline; it has no calls for several. One ring per
 * lane.
 */
#include "bench.h"

#ifdef HAVE_CK
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <ck_ring.h>

struct cell {
	unsigned char bytes[64];
};

CK_RING_PROTOTYPE(cell, cell)

static ck_ring_t *rings;
static struct cell *cells;
static int nr_lanes;
static size_t map_bytes;
static unsigned count;

static int ck_setup(const struct bench_shape *shape, const char **why)
{
	unsigned char *map;
	size_t head;

	if (shape->size != sizeof(struct cell)) {
		*why = "made for items of 64 bytes";
		return -ENOTSUP;
	}
	for (count = 2; count <= shape->capacity; count *= 2) /* one slot stays empty */
		;
	nr_lanes = shape->lanes;
	head = (sizeof(ck_ring_t) * (size_t)nr_lanes + 4095) & ~(size_t)4095;
	map_bytes = head + sizeof(struct cell) * count * (size_t)nr_lanes;
	map = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (map == MAP_FAILED)
		return -errno;
	rings = (ck_ring_t *)map;
	cells = (struct cell *)(map + head);
	for (int i = 0; i < nr_lanes; i++)
		ck_ring_init(&rings[i], count);
	return 0;
}

static void ck_teardown(void)
{
	munmap(rings, map_bytes);
}

static void *ck_attach(void)
{
	return rings;
}

static void ck_detach(void *end)
{
	(void)end;
}

static int ck_push_n(void *end, int lane, const struct iovec *items, int n)
{
	struct cell *buffer = cells + (size_t)count * (size_t)lane;
	int i;

	(void)end;
	for (i = 0; i < n; i++)
		if (!CK_RING_ENQUEUE_MPMC(cell, &rings[lane], buffer, items[i].iov_base))
			break;
	return i;
}

static int ck_pop_n(void *end, struct iovec *items, int n)
{
	int i = 0;

	(void)end;
	for (int lane = 0; lane < nr_lanes && !i; lane++) {
		struct cell *buffer = cells + (size_t)count * (size_t)lane;

		while (i < n && CK_RING_DEQUEUE_MPMC(cell, &rings[lane], buffer,
							items[i].iov_base))
			i++;
	}
	return i;
}

const struct bench_contender bench_ck = {
	.name = "ck",
	.setup = ck_setup,
	.teardown = ck_teardown,
	.attach = ck_attach,
	.detach = ck_detach,
	.push_n = ck_push_n,
	.pop_n = ck_pop_n,
};
#else
BENCH_NOT_BUILT(ck, "libck-dev");
#endif
