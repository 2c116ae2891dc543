/* SPDX-License-Identifier: MIT */
/*
 * contender_mutex.c - a ring behind one process-shared, robust mutex, and several items
 * under one lock if there are several to move: what is built when nothing else is at hand.
 * A process that is killed inside is found out by the next one (the half-done step is
 * forgotten); one that is stopped inside stops all.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"

struct ring {
	_Alignas(128) pthread_mutex_t mutex;
	uint64_t head, tail;
	_Alignas(128) unsigned char items[];
};

static struct {
	unsigned char *map;
	size_t bytes, stride; /* of a ring; of an item */
	int nr_lanes;
	size_t size;
	uint64_t capacity;
} m;

static struct ring *ring_of(int lane)
{
	return (struct ring *)(m.map + m.bytes * (size_t)lane);
}

static int mutex_setup(const struct bench_shape *shape, const char **why)
{
	pthread_mutexattr_t attr;

	(void)why;
	m.nr_lanes = shape->lanes;
	m.size = shape->size;
	m.stride = (shape->size + 63) & ~(size_t)63;
	m.capacity = shape->capacity;
	m.bytes = (sizeof(struct ring) + m.capacity * m.stride + 127) & ~(size_t)127;
	m.map = mmap(NULL, m.bytes * (size_t)m.nr_lanes, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (m.map == MAP_FAILED)
		return -errno;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	for (int i = 0; i < m.nr_lanes; i++)
		pthread_mutex_init(&ring_of(i)->mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	return 0;
}

static void mutex_teardown(void)
{
	munmap(m.map, m.bytes * (size_t)m.nr_lanes);
}

static void *mutex_attach(void)
{
	return m.map;
}

static void mutex_detach(void *end)
{
	(void)end;
}

static void lock(struct ring *r)
{
	if (pthread_mutex_lock(&r->mutex) == EOWNERDEAD)
		pthread_mutex_consistent(&r->mutex);
}

static unsigned char *item_at(struct ring *r, uint64_t pos)
{
	return r->items + pos % m.capacity * m.stride;
}

static int mutex_push_n(void *end, int lane, const struct iovec *items, int n)
{
	struct ring *r = ring_of(lane);
	int i;

	(void)end;
	lock(r);
	for (i = 0; i < n && r->tail - r->head < m.capacity; i++) {
		memcpy(item_at(r, r->tail), items[i].iov_base, m.size);
		r->tail++;
	}
	pthread_mutex_unlock(&r->mutex);
	return i;
}

static int pop_some(int lane, struct iovec *items, int n)
{
	struct ring *r = ring_of(lane);
	int i;

	lock(r);
	for (i = 0; i < n && r->head != r->tail; i++) {
		memcpy(items[i].iov_base, item_at(r, r->head), m.size);
		r->head++;
	}
	pthread_mutex_unlock(&r->mutex);
	return i;
}

static int mutex_pop_n(void *end, struct iovec *items, int n)
{
	int i = 0;

	(void)end;
	for (int lane = 0; lane < m.nr_lanes && !i; lane++)
		i = pop_some(lane, items, n);
	return i;
}

static int mutex_pop_lane(void *end, int lane, struct iovec *item)
{
	(void)end;
	return pop_some(lane, item, 1);
}

const struct bench_contender bench_mutex = {
	.name = "mutex",
	.setup = mutex_setup,
	.teardown = mutex_teardown,
	.attach = mutex_attach,
	.detach = mutex_detach,
	.push_n = mutex_push_n,
	.pop_n = mutex_pop_n,
	.pop_lane = mutex_pop_lane,
};
