/* SPDX-License-Identifier: MIT */
/*
 * contender_ring.c - the baseline: a bounded ring with a sequence number in each
 * slot (Vyukov), payload inline, in one shared mapping; one ring per lane.
 *
 * The fastest simple thing there is: one compare-and-swap to take a position,
 * the copy, one release store to publish. What it does not have is what libshmq
 * is about: a process killed or stopped between the two blocks all others at
 * that slot for ever. There are no lengths, no waiting and no accounting.
 *
 * Slot at position pos (free-running), mask + 1 slots:
 *   seq == pos             empty, waits for the pusher of pos
 *   seq == pos + 1         full, waits for the popper of pos
 *   seq == pos + mask + 1  popped: empty for the next round
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"

#define LINE      64
#define LINE_PAIR 128 /* adjacent lines travel together */

struct slot {
	_Atomic uint64_t seq;
	unsigned char payload[];
};

/* Pushers and poppers write different line pairs. */
struct ring {
	_Alignas(LINE_PAIR) _Atomic uint64_t tail;
	_Alignas(LINE_PAIR) _Atomic uint64_t head;
	_Alignas(LINE_PAIR) unsigned char slots[];
};

/* What never changes, kept in private memory of each process. */
struct ring_end {
	struct ring *lanes[BENCH_MAX_LANES];
	int nr_lanes;
	uint64_t mask;
	size_t stride, size, ring_bytes;
};


static struct slot *ring_slot(const struct ring_end *e, struct ring *r, uint64_t pos)
{
	return (struct slot *)(r->slots + (pos & e->mask) * e->stride);
}

/* Whole words inline: the harness' items are multiples of 8, mostly short. */
static void copy(void *restrict to, const void *restrict from, size_t size)
{
	if (size == 64)
		memcpy(to, from, 64);
	else
		memcpy(to, from, size);
}

static int ring_push(const struct ring_end *e, struct ring *r, const void *item)
{
	uint64_t pos = atomic_load_explicit(&r->tail, memory_order_relaxed);
	struct slot *s;
	int64_t age;

	for (;;) {
		s = ring_slot(e, r, pos);
		age = (int64_t)(atomic_load_explicit(&s->seq, memory_order_acquire) -
				pos);
		if (age < 0)
			return 0;
		if (age > 0)
			pos = atomic_load_explicit(&r->tail, memory_order_relaxed);
		else if (atomic_compare_exchange_weak_explicit(&r->tail, &pos, pos + 1,
							       memory_order_relaxed,
							       memory_order_relaxed))
			break;
	}
	copy(s->payload, item, e->size);
	atomic_store_explicit(&s->seq, pos + 1, memory_order_release);
	return 1;
}

static int ring_pop(const struct ring_end *e, struct ring *r, void *item)
{
	uint64_t pos = atomic_load_explicit(&r->head, memory_order_relaxed);
	struct slot *s;
	int64_t age;

	for (;;) {
		s = ring_slot(e, r, pos);
		age = (int64_t)(atomic_load_explicit(&s->seq, memory_order_acquire) -
				pos - 1);
		if (age < 0)
			return 0;
		if (age > 0)
			pos = atomic_load_explicit(&r->head, memory_order_relaxed);
		else if (atomic_compare_exchange_weak_explicit(&r->head, &pos, pos + 1,
							       memory_order_relaxed,
							       memory_order_relaxed))
			break;
	}
	copy(item, s->payload, e->size);
	atomic_store_explicit(&s->seq, pos + e->mask + 1, memory_order_release);
	return 1;
}

static int ring_push_n(void *end, int lane, const struct iovec *items, int n)
{
	const struct ring_end *e = end;
	int i;

	for (i = 0; i < n; i++)
		if (!ring_push(e, e->lanes[lane], items[i].iov_base))
			break;
	return i;
}

static int ring_pop_n(void *end, struct iovec *items, int n)
{
	const struct ring_end *e = end;
	int lane, i = 0;

	for (lane = 0; lane < e->nr_lanes && !i; lane++)
		while (i < n && ring_pop(e, e->lanes[lane], items[i].iov_base))
			i++;
	return i;
}

static int ring_setup(void **queue, const struct bench_shape *shape, const char **why)
{
	struct ring_end *e = malloc(sizeof *e);
	unsigned char *map;
	uint64_t pos;
	int i;

	(void)why;
	if (!e)
		return -ENOMEM;
	e->nr_lanes = shape->lanes;
	e->size = shape->size;
	e->stride = (sizeof(struct slot) + shape->size + LINE - 1) & ~(size_t)(LINE - 1);
	for (e->mask = 1; e->mask < shape->capacity; e->mask <<= 1)
		;
	e->ring_bytes = sizeof(struct ring) + e->mask * e->stride;
	e->ring_bytes = (e->ring_bytes + LINE_PAIR - 1) & ~(size_t)(LINE_PAIR - 1);
	e->mask--;
	map = mmap(NULL, e->ring_bytes * (size_t)e->nr_lanes, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (map == MAP_FAILED) {
		free(e);
		return -errno;
	}
	for (i = 0; i < e->nr_lanes; i++) {
		e->lanes[i] = (struct ring *)(map + e->ring_bytes * (size_t)i);
		for (pos = 0; pos <= e->mask; pos++)
			ring_slot(e, e->lanes[i], pos)->seq = pos;
	}
	*queue = e;
	return 0;
}

static void ring_teardown(void *queue)
{
	struct ring_end *e = queue;

	munmap(e->lanes[0], e->ring_bytes * (size_t)e->nr_lanes);
	free(e);
}

/* What the parent made is inherited. */
static void *ring_attach(void *queue)
{
	return queue;
}

static void ring_detach(void *end)
{
	(void)end;
}

const struct bench_contender bench_ring = {
	.name = "ring",
	.setup = ring_setup,
	.teardown = ring_teardown,
	.attach = ring_attach,
	.detach = ring_detach,
	.push_n = ring_push_n,
	.pop_n = ring_pop_n,
};
