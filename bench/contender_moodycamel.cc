/* SPDX-License-Identifier: MIT */
/*
 * contender_moodycamel.cc - moodycamel::ConcurrentQueue between the threads of one process,
 * with a token for each end, as its author advises, and its bulk calls for several items.
 * Made for items of 64 bytes and one lane. It has no capacity: its try_ calls fail when the
 * memory that was set aside is used up, which is about the wanted capacity per producer.
 * It keeps the order of each producer only.
 */
#include "bench.h"

#ifdef HAVE_MOODYCAMEL
#include <cerrno>
#include <cstring>
#include <iterator>

#include <concurrentqueue/concurrentqueue.h>

struct cell {
	unsigned char bytes[64];
};

using queue = moodycamel::ConcurrentQueue<cell>;

static queue *q;

struct end {
	moodycamel::ProducerToken push;
	moodycamel::ConsumerToken pop;

	end() : push(*q), pop(*q) {}
};

/* Items that lie where an iovec says, for the bulk calls. */
struct cells {
	using iterator_category = std::forward_iterator_tag;
	using value_type = cell;
	using difference_type = std::ptrdiff_t;
	using pointer = cell *;
	using reference = cell &;

	const struct iovec *at;

	cell &operator*() const { return *static_cast<cell *>(at->iov_base); }
	cells &operator++() { ++at; return *this; }
	cells operator++(int) { cells old = *this; ++at; return old; }
	bool operator==(const cells &o) const { return at == o.at; }
	bool operator!=(const cells &o) const { return at != o.at; }
};

static int moodycamel_setup(const struct bench_shape *shape, const char **why)
{
	if (shape->size != sizeof(cell) || shape->lanes > 1) {
		*why = "made for one lane of items of 64 bytes";
		return -ENOTSUP;
	}
	q = new queue(shape->capacity, (size_t)shape->producers, 0);
	return 0;
}

static void moodycamel_teardown(void)
{
	delete q;
}

static void *moodycamel_attach(void)
{
	return new end;
}

static void moodycamel_detach(void *e)
{
	delete static_cast<end *>(e);
}

static int moodycamel_push_n(void *e, int lane, const struct iovec *items, int n)
{
	moodycamel::ProducerToken &token = static_cast<end *>(e)->push;

	(void)lane;
	if (n == 1)
		return q->try_enqueue(token, *static_cast<cell *>(items->iov_base));
	/* All or nothing: near the end of the memory one by one. */
	if (q->try_enqueue_bulk(token, cells{items}, (size_t)n))
		return n;
	return q->try_enqueue(token, *static_cast<cell *>(items->iov_base));
}

static int moodycamel_pop_n(void *e, struct iovec *items, int n)
{
	moodycamel::ConsumerToken &token = static_cast<end *>(e)->pop;

	if (n == 1)
		return q->try_dequeue(token, *static_cast<cell *>(items->iov_base));
	return (int)q->try_dequeue_bulk(token, cells{items}, (size_t)n);
}

const struct bench_contender bench_moodycamel = {
	"moodycamel",      1,                 moodycamel_setup,  moodycamel_teardown,
	moodycamel_attach, moodycamel_detach, moodycamel_push_n, moodycamel_pop_n,
	nullptr};
#else
BENCH_NOT_BUILT(moodycamel, "a C++ compiler and libconcurrentqueue-dev");
#endif
