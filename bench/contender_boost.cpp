/* SPDX-License-Identifier: MIT */
/*
 * contender_boost.cpp - Boost.Interprocess' message_queue: by name, bounded, one lock, two
 * condition variables. Lanes are priorities, with one capacity for all together. It has no
 * batches.
 */
#include <cerrno>
#include <cstdio>
#include <new>
#include <unistd.h>

#include <boost/interprocess/ipc/message_queue.hpp>

#include "bench.h"

namespace {

namespace ipc = boost::interprocess;

struct Named {
	char name[48];
	int lanes;
	bool waiting;
};

struct End {
	ipc::message_queue queue;
	int lanes;
	bool waiting;

	End(const Named *n)
		: queue(ipc::open_only, n->name), lanes(n->lanes), waiting(n->waiting)
	{
	}
};

int setup(void **queue, const bench_shape *shape, const char **why)
{
	static unsigned serial;
	Named *n = new (std::nothrow) Named;

	if (!n)
		return -ENOMEM;
	snprintf(n->name, sizeof n->name, "shmq-bench-boost-%d-%u", (int)getpid(), serial++);
	n->lanes = shape->lanes;
	n->waiting = shape->rate > 0;
	try {
		ipc::message_queue(ipc::create_only, n->name,
				   shape->capacity * (size_t)shape->lanes, shape->size);
	} catch (const ipc::interprocess_exception &e) {
		*why = "the queue can not be made";
		ipc::message_queue::remove(n->name);
		delete n;
		return e.get_native_error() ? -e.get_native_error() : -EIO;
	}
	*queue = n;
	return 0;
}

void teardown(void *queue)
{
	Named *n = static_cast<Named *>(queue);

	ipc::message_queue::remove(n->name);
	delete n;
}

void *attach(void *queue)
{
	try {
		return new End(static_cast<Named *>(queue));
	} catch (...) {
		return nullptr;
	}
}

void detach(void *end)
{
	delete static_cast<End *>(end);
}

int push_n(void *end, int lane, const iovec *items, int n)
{
	End *e = static_cast<End *>(end);
	unsigned priority = (unsigned)(e->lanes - lane);
	int i = 0;

	try {
		if (e->waiting) {
			e->queue.send(items->iov_base, items->iov_len, priority);
			i = 1;
		}
		while (i < n &&
		       e->queue.try_send(items[i].iov_base, items[i].iov_len, priority))
			i++;
	} catch (const ipc::interprocess_exception &) {
		return -EIO;
	}
	return i;
}

int pop_n(void *end, iovec *items, int n)
{
	End *e = static_cast<End *>(end);
	ipc::message_queue::size_type got;
	unsigned priority;
	int i = 0;

	try {
		if (e->waiting) {
			e->queue.receive(items->iov_base, items->iov_len, got, priority);
			items[i++].iov_len = got;
		}
		while (i < n && e->queue.try_receive(items[i].iov_base, items[i].iov_len, got,
						     priority))
			items[i++].iov_len = got;
	} catch (const ipc::interprocess_exception &) {
		return -EIO;
	}
	return i;
}

}

extern "C" const bench_contender bench_boost;
const bench_contender bench_boost = {
	"boost", /* threads */ 0, /* waits */ 1, setup, teardown, attach, detach, push_n, pop_n,
};
