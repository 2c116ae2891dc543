/* SPDX-License-Identifier: MIT */
/*
 * contender_boost.cc - Boost.Interprocess' message_queue; lanes are priorities. It refuses
 * at its capacity like a queue of ours. One mutex, in the region, guards everything.
 */
#include "bench.h"

#ifdef HAVE_BOOST
#include <cerrno>
#include <cstdio>
#include <unistd.h>

#include <boost/interprocess/ipc/message_queue.hpp>

namespace bi = boost::interprocess;

static char name[32];
static unsigned nr_lanes;

static int boost_setup(const struct bench_shape *shape, const char **why)
{
	nr_lanes = (unsigned)shape->lanes;
	std::snprintf(name, sizeof name, "shmq-bench-boost-%d", (int)getpid());
	try {
		bi::message_queue::remove(name);
		bi::message_queue q(bi::create_only, name, shape->capacity, shape->size);
	} catch (const bi::interprocess_exception &) {
		*why = "boost: the queue could not be made";
		return -ENOSPC;
	}
	return 0;
}

static void boost_teardown(void)
{
	bi::message_queue::remove(name);
}

static void *boost_attach(void)
{
	try {
		return new bi::message_queue(bi::open_only, name);
	} catch (const bi::interprocess_exception &) {
		return nullptr;
	}
}

static void boost_detach(void *end)
{
	delete static_cast<bi::message_queue *>(end);
}

static int boost_push_n(void *end, int lane, const struct iovec *items, int n)
{
	bi::message_queue *q = static_cast<bi::message_queue *>(end);
	int i = 0;

	while (i < n && q->try_send(items[i].iov_base, items[i].iov_len,
				    nr_lanes - (unsigned)lane))
		i++;
	return i;
}

static int boost_pop_n(void *end, struct iovec *items, int n)
{
	bi::message_queue *q = static_cast<bi::message_queue *>(end);
	bi::message_queue::size_type len;
	unsigned priority;
	int i = 0;

	while (i < n && q->try_receive(items[i].iov_base, items[i].iov_len, len, priority))
		i++;
	return i;
}

const struct bench_contender bench_boost = {"boost",      0,            boost_setup, boost_teardown,
					    boost_attach, boost_detach, boost_push_n, boost_pop_n,
					    nullptr};
#else
BENCH_NOT_BUILT(boost, "a C++ compiler and libboost-dev");
#endif
