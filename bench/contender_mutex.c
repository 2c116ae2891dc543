/* SPDX-License-Identifier: MIT */
/*
 * contender_mutex.c - what most people write first: a ring in shared memory behind one
 * pthread mutex, process-shared and robust. One lock for all lanes, and a batch is moved
 * under one lock.
 *
 * If a holder dies the next one gets EOWNERDEAD; the counts are stored after the items,
 * so the ring is then as if the dead one's call had not been.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"

#define LINE_PAIR 128

struct locked_lane {
	uint64_t pushed, popped;
};

struct locked {
	_Alignas(LINE_PAIR) pthread_mutex_t lock;
	_Alignas(LINE_PAIR) struct locked_lane lanes[BENCH_MAX_LANES];
	_Alignas(LINE_PAIR) unsigned char items[]; /* of lane 0, of lane 1 ... */
};

/* What never changes, in private memory. */
struct mutex_queue {
	struct locked *l;
	int nr_lanes;
	uint64_t capacity;
	size_t size, bytes;
};

static void mutex_teardown(void *queue)
{
	struct mutex_queue *q = queue;

	munmap(q->l, q->bytes);
	free(q);
}

static int mutex_setup(void **queue, const struct bench_shape *shape, const char **why)
{
	struct mutex_queue *q = malloc(sizeof *q);
	pthread_mutexattr_t attr;
	int err;

	(void)why;
	if (!q)
		return -ENOMEM;
	q->nr_lanes = shape->lanes;
	q->capacity = shape->capacity;
	q->size = shape->size;
	q->bytes = sizeof *q->l + q->size * q->capacity * (size_t)q->nr_lanes;
	q->l = mmap(NULL, q->bytes, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (q->l == MAP_FAILED) {
		free(q);
		return -ENOMEM;
	}
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	err = pthread_mutex_init(&q->l->lock, &attr);
	*queue = q;
	if (err)
		mutex_teardown(q);
	return -err;
}

static void *mutex_attach(void *queue)
{
	return queue;
}

static void mutex_detach(void *end)
{
	(void)end;
}

static int lock(const struct mutex_queue *q)
{
	int err = pthread_mutex_lock(&q->l->lock);

	return err == EOWNERDEAD ? pthread_mutex_consistent(&q->l->lock) : err;
}

static unsigned char *slot(const struct mutex_queue *q, int lane, uint64_t pos)
{
	return q->l->items + ((uint64_t)lane * q->capacity + pos % q->capacity) * q->size;
}

static int mutex_push_n(void *end, int lane, const struct iovec *items, int n)
{
	const struct mutex_queue *q = end;
	struct locked_lane *l = &q->l->lanes[lane];
	int i, err = lock(q);

	if (err)
		return -err;
	for (i = 0; i < n && l->pushed + (uint64_t)i - l->popped < q->capacity; i++)
		memcpy(slot(q, lane, l->pushed + (uint64_t)i), items[i].iov_base, q->size);
	l->pushed += (uint64_t)i;
	pthread_mutex_unlock(&q->l->lock);
	return i;
}

static int mutex_pop_n(void *end, struct iovec *items, int n)
{
	const struct mutex_queue *q = end;
	int lane, i = 0, err = lock(q);

	if (err)
		return -err;
	for (lane = 0; lane < q->nr_lanes && !i; lane++) {
		struct locked_lane *l = &q->l->lanes[lane];

		for (; i < n && l->popped + (uint64_t)i < l->pushed; i++)
			memcpy(items[i].iov_base, slot(q, lane, l->popped + (uint64_t)i), q->size);
		l->popped += (uint64_t)i;
	}
	pthread_mutex_unlock(&q->l->lock);
	return i;
}

const struct bench_contender bench_mutex = {
	.name = "mutex",
	.setup = mutex_setup,
	.teardown = mutex_teardown,
	.attach = mutex_attach,
	.detach = mutex_detach,
	.push_n = mutex_push_n,
	.pop_n = mutex_pop_n,
};
