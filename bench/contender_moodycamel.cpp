/* SPDX-License-Identifier: MIT */
/*
 * contender_moodycamel.cpp - moodycamel::ConcurrentQueue, between threads: it lives in
 * the heap of one process. With a token for each end, as its manual advises, by bulk calls
 * for batches; items of 64 bytes, for its type is fixed when it is compiled.
 *
 * It has no bound that several producers can share: see bound.h. It is not linearizable
 * either: that nothing was found is believed only if its size agrees.
 */
#include <cerrno>
#include <cstring>
#include <new>
#include <optional>

#include <concurrentqueue/concurrentqueue.h>

#include "bench.h"
#include "bound.h"

namespace {

struct Item {
	unsigned char bytes[64];
};

using Queue = moodycamel::ConcurrentQueue<Item>;

struct Shared {
	Queue queue;
	bound share;

	Shared(const bench_shape *shape)
		: queue(shape->capacity), share{shape->capacity, (uint64_t)shape->producers, 0}
	{
	}
};

struct End {
	Queue &queue;
	bound share;
	std::optional<moodycamel::ProducerToken> in; /* of those who push */
	moodycamel::ConsumerToken out;

	End(Shared *s) : queue(s->queue), share(s->share), out(s->queue) {}
};

int setup(void **queue, const bench_shape *shape, const char **why)
{
	if (shape->size != sizeof(Item) || shape->lanes > 1) {
		*why = "only items of 64 bytes in one lane";
		return -ENOTSUP;
	}
	*queue = new (std::nothrow) Shared(shape);
	return *queue ? 0 : -ENOMEM;
}

void teardown(void *queue)
{
	delete static_cast<Shared *>(queue);
}

void *attach(void *queue)
{
	return new (std::nothrow) End(static_cast<Shared *>(queue));
}

void detach(void *end)
{
	delete static_cast<End *>(end);
}

int push_n(void *end, int lane, const iovec *items, int n)
{
	End *e = static_cast<End *>(end);
	const Item *first = static_cast<const Item *>(items->iov_base);
	bool done;
	int some;

	(void)lane;
	if (!e->share.credit)
		bound_look(&e->share, e->queue.size_approx());
	some = bound_use(&e->share, n);
	if (!some)
		return 0;
	if (!e->in)
		e->in.emplace(e->queue);
	if (n == 1)
		done = e->queue.enqueue(*e->in, *first);
	else
		done = e->queue.enqueue_bulk(*e->in, first, (size_t)some);
	return done ? some : -ENOMEM;
}

int pop_n(void *end, iovec *items, int n)
{
	End *e = static_cast<End *>(end);
	Item *first = static_cast<Item *>(items->iov_base);
	int got;

	do {
		if (n == 1)
			got = e->queue.try_dequeue(e->out, *first);
		else
			got = (int)e->queue.try_dequeue_bulk(e->out, first, (size_t)n);
	} while (!got && e->queue.size_approx());
	return got;
}

}

extern "C" const bench_contender bench_moodycamel;
const bench_contender bench_moodycamel = {
	"moodycamel", /* threads */ 1, /* waits */ 0, setup, teardown, attach, detach,
	push_n, pop_n,
};
