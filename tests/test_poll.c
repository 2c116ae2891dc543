/* SPDX-License-Identifier: MIT */
/*
 * test_poll.c - shmq_pollfd(): a descriptor that is readable while there may be
 * something, whoever dies or is stopped where, and that leaves nothing behind.
 */
#include "common.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "point.h"
#include "wait.h"

#define PATIENCE 30000 /* ms: longer is a stall */

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int r;

	do {
		r = poll(&p, 1, ms);
	} while (r < 0 && errno == EINTR);
	must(r >= 0);
	must(r == 0 || p.revents == POLLIN, "events %#x", p.revents);
	return r == 1;
}

/* It is readable by now, or as soon as the processor gets to a timer that is due: before
 * that of poll(), and long before the next slice. Where others have all inotify instances
 * of this user, within some slices. */
static bool told(const struct shmq *q, int fd)
{
	bool alone = false;

	for (int side = 0; side < 2; side++)
		alone |= q->bell[side].epoll && !q->bell[side].inotify;
	return readable(fd, alone ? PATIENCE : 10);
}

/* Nothing is there: the call says so, and then so does the descriptor. The timer may
 * tick in between, on a busy machine again and again, but not for ever. */
static void goes_quiet(struct shmq *q, int lane, int fd)
{
	char buf[64];

	for (int i = 0; i < 1000; i++) {
		must_eq(shmq_pop(q, lane, buf, sizeof(buf), NULL, 0), -EAGAIN);
		if (!readable(fd, 0))
			return;
	}
	must(false, "readable for ever");
}

static int descriptors(void)
{
	return dir_entries("/proc/self/fd");
}

/* ---- what it says --------------------------------------------------------- */

START_TEST(it_is_readable_while_there_is_an_item)
{
	struct shmq *q = create_attach("q", 3, 16, 8), *other = attach("q");
	int fd = shmq_pollfd(q, SHMQ_READABLE);
	char buf[8];

	must(fd > STDERR_FILENO);
	must_eq(shmq_pollfd(q, SHMQ_READABLE), fd);
	must_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	must(told(q, fd), "nobody has looked yet");
	goes_quiet(q, SHMQ_ANY_LANE, fd);
	for (int i = 0; i < 6; i++)
		must_eq(shmq_push(other, i % 3, "item", 4, 0), 0);
	for (int i = 0; i < 6; i++) {
		must(told(q, fd), "item %d", i);
		must_eq(shmq_pop(q, SHMQ_ANY_LANE, buf, 8, NULL, 0), 4);
	}
	goes_quiet(q, SHMQ_ANY_LANE, fd);
	must_eq(shmq_push(q, 2, "mine", 4, 0), 0); /* by the handle itself */
	must(told(q, fd));
	shmq_close(other);
	shmq_close(q);
}
END_TEST

START_TEST(every_call_that_finds_nothing_makes_it_quiet)
{
	struct shmq *q = create_attach("q", 2, 16, 8);
	int fd = shmq_pollfd(q, SHMQ_READABLE);
	struct shmq_lease lease;
	struct shmq_info info;
	char buf[8];
	struct iovec v = { buf, 8 };

	for (int call = 0; call < 6; call++) {
		int i = 0, r;

		must_eq(shmq_push(q, 1, "x", 1, 0), 0);
		must(told(q, fd));
		must_eq(shmq_pop(q, 1, buf, 8, NULL, 0), 1);
		do {
			v.iov_len = 8;
			r = call == 0 ? (int)shmq_pop(q, 1, buf, 8, NULL, 0) :
			    call == 1 ? (int)shmq_pop(q, 1, buf, 8, &info, 0) :
			    call == 2 ? shmq_pop_n(q, 1, &v, NULL, 1, 0) :
			    call == 3 ? shmq_peek(q, 1, &lease, 0) :
			    call == 4 ? (int)shmq_pop(q, 1, buf, 8, NULL, MS) :
					shmq_peek(q, 1, &lease, MS);
			must_eq(r, call < 4 ? -EAGAIN : -ETIMEDOUT);
		} while (readable(fd, 0) && ++i < 1000);
		must(i < 1000, "call %d", call);
	}
	shmq_close(q);
}
END_TEST

START_TEST(who_pops_several_lanes_is_told_of_each)
{
	struct shmq *q = create_attach("q", 3, 16, 8), *other = attach("q");
	int fd = shmq_pollfd(q, SHMQ_READABLE);
	char buf[8];

	for (int i = 0; i < 300; i++) {
		int lane = i % 3;

		goes_quiet(q, 0, fd);
		goes_quiet(q, 1, fd);
		goes_quiet(q, 2, fd);
		must_eq(shmq_push(other, lane, "item", 4, 0), 0);
		/* The ring is drained here, for another lane is empty. */
		must_eq(shmq_pop(q, (lane + 1) % 3, buf, 8, NULL, 0), -EAGAIN);
		must(told(q, fd), "lane %d", lane);
		must_eq(shmq_pop(q, lane, buf, 8, NULL, 0), 4);
	}
	shmq_close(other);
	shmq_close(q);
}
END_TEST

/* All that waits in @lane has been delivered before, and came back. */
static void put_back(struct shmq *q, int lane)
{
	struct shmq_lease lease[100];
	int n = 0;

	while (n < 100 && shmq_peek(q, lane, &lease[n], 0) == 0)
		n++;
	while (n > 0)
		must_eq(shmq_requeue(q, &lease[--n]), 0);
}

/* By priority, one for each wake-up: the empty lanes are looked at before it. */
START_TEST(who_takes_one_of_several_lanes_is_told_of_the_next)
{
	struct shmq *q = create_attach("q", 3, 128, 8), *other = attach("q");
	struct shmq_lease lease[100];
	int fd = shmq_pollfd(q, SHMQ_READABLE);
	char buf[8];

	for (int i = 0; i < 100; i++)
		must_eq(shmq_push(other, 2, "item", 4, 0), 0);
	if (_i == 3)
		put_back(other, 2);
	for (int i = 0; i < 100; i++) {
		int order = _i == 1 ? i % 2 : 0;

		must(told(q, fd), "item %d", i);
		must_eq(shmq_pop(q, order, buf, 8, NULL, 0), -EAGAIN);
		must_eq(shmq_pop(q, 1 - order, buf, 8, NULL, 0), -EAGAIN);
		if (_i >= 2)
			must_eq(shmq_peek(q, 2, &lease[i], 0), 0);
		else
			must_eq(shmq_pop(q, 2, buf, 8, NULL, 0), 4);
	}
	for (int lane = 0; lane < 3; lane++)
		goes_quiet(q, lane, fd);
	must_eq(shmq_push(other, 2, "item", 4, 0), 0);
	must(told(q, fd));
	goes_quiet(q, 0, fd); /* and asks for no other any more */
	goes_quiet(q, 1, fd);
	shmq_close(other);
	shmq_close(q);
}
END_TEST

/* As goes_quiet(), for room. */
static void stays_full(struct shmq *q, int lane, int fd)
{
	void *room;

	for (int i = 0; i < 1000; i++) {
		if (i % 2)
			must_eq(shmq_push(q, lane, "item", 4, 0), -EAGAIN);
		else
			must_eq(shmq_reserve(q, lane, &room, 0), -EAGAIN);
		if (!readable(fd, 0))
			return;
	}
	must(false, "readable for ever");
}

START_TEST(it_is_readable_while_there_is_room)
{
	struct shmq *q = create_attach("q", 2, 4, 8), *other = attach("q");
	int fd = shmq_pollfd(q, SHMQ_WRITABLE);
	char buf[8];

	must(fd > STDERR_FILENO);
	for (int i = 0; i < 4; i++) {
		must(told(q, fd));
		must_eq(shmq_push(q, 1, "item", 4, 0), 0);
	}
	stays_full(q, 1, fd);
	must_eq(shmq_push(other, 0, "item", 4, 0), 0); /* the other lane is not asked for */
	for (int i = 0; i < 100; i++) {
		struct shmq_lease l;

		if (i % 2) {
			must_eq(shmq_pop(other, 1, buf, 8, NULL, 0), 4);
		} else {
			must_eq(shmq_peek(other, 1, &l, 0), 0);
			must_eq(shmq_release(other, &l), 0);
		}
		must(told(q, fd), "round %d", i);
		must_eq(shmq_push(q, 1, "item", 4, 0), 0);
		stays_full(q, 1, fd);
	}
	shmq_close(other);
	shmq_close(q);
}
END_TEST

START_TEST(one_for_both_is_readable_when_either_is)
{
	struct shmq *q = create_attach("q", 1, 1, 8), *other = attach("q");
	int both = shmq_pollfd(q, SHMQ_READABLE | SHMQ_WRITABLE), i = 0;
	int items = shmq_pollfd(q, SHMQ_READABLE), room = shmq_pollfd(q, SHMQ_WRITABLE);
	char buf[8];

	must(both != items && both != room && items != room);
	must_eq(shmq_pollfd(q, SHMQ_READABLE | SHMQ_WRITABLE), both);
	do { /* nothing to pop, and a push that would be refused: not both at once */
		must_eq(shmq_push(other, 0, "item", 4, 0), 0);
		must_eq(shmq_push(q, 0, "item", 4, 0), -EAGAIN);
		must_eq(shmq_pop(other, 0, buf, 8, NULL, 0), 4);
		must(told(q, both) && told(q, room));
		must_eq(shmq_push(q, 0, "item", 4, 0), 0);
		must(told(q, both) && told(q, items));
		must_eq(shmq_push(q, 0, "item", 4, 0), -EAGAIN);
		must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), 4);
		must(told(q, both));
		must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), -EAGAIN);
	} while (++i < 100);
	shmq_close(other);
	shmq_close(q);
}
END_TEST

START_TEST(it_works_after_unlink)
{
	struct shmq *q = create_attach("q", 1, 4, 8), *other = attach("q");
	char buf[8];
	int fd;

	must_eq(shmq_unlink("q"), 0);
	create("q", 1, 4, 8); /* another one of that name */
	fd = shmq_pollfd(q, SHMQ_READABLE);
	goes_quiet(q, 0, fd);
	must_eq(shmq_push(other, 0, "item", 4, 0), 0);
	must(told(q, fd));
	must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), 4);
	shmq_close(other);
	shmq_close(q);
}
END_TEST

/* ---- what it leaves ------------------------------------------------------- */

START_TEST(close_closes_all_of_it)
{
	int before, files;
	struct shmq *q;

	create("q", 1, 4, 8);
	before = descriptors();
	files = dir_entries(test_dir);
	for (int i = 0; i < 300; i++) { /* more than there are inotify instances */
		q = attach("q");
		must(shmq_pollfd(q, 1 + i % 3) >= 0);
		shmq_close(q);
	}
	must_eq(descriptors(), before);
	must_eq(dir_entries(test_dir), files);
}
END_TEST

static uint32_t polled(struct shmq *q)
{
	return atomic_load(&wakeup_of(q)->side[WAIT_ITEMS].word) & WAIT_POLLED;
}

static int poll_for_ever(void *arg)
{
	atomic_int *ready = arg;
	struct shmq *q = attach("q");
	int fd = shmq_pollfd(q, SHMQ_READABLE);

	for (;;) {
		goes_quiet(q, SHMQ_ANY_LANE, fd);
		atomic_store(ready, 1);
		readable(fd, -1);
	}
	return 0;
}

START_TEST(a_dead_poller_costs_one_ring_and_leaves_nothing)
{
	struct shmq *q = create_attach("q", 1, 16, 8);
	atomic_int *ready = shared(sizeof(*ready));
	struct shmq_stat st;
	uint32_t rings;
	pid_t pid = spawn(poll_for_ever, ready);

	wait_asleep(pid, ready);
	must_eq(polled(q), 1u << WAIT_POLLED_SHIFT);
	kill(pid, SIGKILL);
	must_eq(reap(pid), SIGNALLED + SIGKILL);
	must_eq(shmq_push(q, 0, "item", 4, 0), 0);
	must_eq(polled(q), 0);
	rings = atomic_load(&wakeup_of(q)->side[WAIT_ITEMS].rings);
	for (int i = 0; i < 10; i++)
		must_eq(shmq_push(q, 0, "item", 4, 0), 0);
	must_eq(atomic_load(&wakeup_of(q)->side[WAIT_ITEMS].rings), rings);
	recover_dead(q);
	stat_of(q, &st);
	must_eq(st.nr_participants, 1);
	must_eq(dir_entries(test_dir), 1);
	shmq_close(q);
}
END_TEST

/* ---- deaths and stops ------------------------------------------------------- */

static const char *stop_at;
static int stop_signal;

static void stop_hook(const char *name)
{
	if (!strcmp(name, stop_at))
		kill(getpid(), stop_signal);
}

static int push_one(void *arg)
{
	struct shmq *q = attach("q");

	(void)arg;
	shmq_point_hook = stop_hook;
	shmq_push(q, 0, "item", 4, 0);
	return 0;
}

/* Pop from lane 0 when it is readable, as a program would. */
static void one_comes(struct shmq *q, int fd, const char *what)
{
	uint64_t until = now_ns() + PATIENCE * MS;
	char buf[8];
	ssize_t n;

	while ((n = shmq_pop(q, 0, buf, 8, NULL, 0)) == -EAGAIN) {
		must(now_ns() < until, "%s: stalled", what);
		must(readable(fd, PATIENCE), "%s: not told", what);
	}
	must_eq(n, 4);
}

/* Between the two the item is there, and nobody has been told. */
static const struct {
	const char *point;
	int signal;
} unrung[] = {
	{ "push:done", SIGKILL }, { "push:done", SIGSTOP },
	{ "ring:cleared", SIGKILL }, { "ring:cleared", SIGSTOP },
};

START_TEST(a_waker_that_ends_before_it_rings_is_made_good)
{
	struct shmq *q = create_attach("q", 2, 4, 8);
	int fd = shmq_pollfd(q, SHMQ_READABLE);
	siginfo_t end;
	pid_t pid;

	stop_at = unrung[_i].point;
	stop_signal = unrung[_i].signal;
	goes_quiet(q, 0, fd);
	pid = spawn(push_one, NULL);
	must_eq(waitid(P_PID, (id_t)pid, &end, WEXITED | WSTOPPED | WNOWAIT), 0);
	must(end.si_code != CLD_EXITED, "%s is never passed", stop_at);
	one_comes(q, fd, stop_at);
	kill(pid, SIGKILL);
	reap(pid);
	shmq_close(q);
}
END_TEST

static int die_with_an_item(void *arg)
{
	struct shmq *q = attach("q");
	struct shmq_lease l;

	(void)arg;
	must_eq(shmq_peek(q, 0, &l, 0), 0);
	kill(getpid(), SIGKILL);
	return 0;
}

START_TEST(what_a_dead_consumer_held_comes_to_who_only_polls)
{
	struct shmq *q = create_attach("q", 1, 4, 8);
	int fd = shmq_pollfd(q, SHMQ_READABLE);

	for (int i = 0; i < 5; i++) {
		must_eq(shmq_push(q, 0, "item", 4, 0), 0);
		must_eq(reap(spawn(die_with_an_item, NULL)), SIGNALLED + SIGKILL);
		one_comes(q, fd, "held");
		goes_quiet(q, 0, fd);
	}
	shmq_close(q);
}
END_TEST

/* Whoever drained a bell took nothing from the other pollers. */
static const char *const draining[] = { "bell:drained", "bell:polled" };

static int drain_and_stop(void *arg)
{
	struct shmq *q = attach("q");
	char buf[8];

	(void)arg;
	must(shmq_pollfd(q, SHMQ_READABLE) >= 0);
	shmq_point_hook = stop_hook;
	shmq_pop(q, 0, buf, 8, NULL, 0);
	return 0;
}

START_TEST(a_poller_stopped_while_it_drains_takes_nothing_away)
{
	struct shmq *q = create_attach("q", 1, 4, 8);
	int fd = shmq_pollfd(q, SHMQ_READABLE), status;
	pid_t pid;

	stop_at = draining[_i];
	stop_signal = SIGSTOP;
	goes_quiet(q, 0, fd);
	pid = spawn(drain_and_stop, NULL);
	must_eq(waitpid(pid, &status, WUNTRACED), pid);
	must(WIFSTOPPED(status));
	must_eq(shmq_push(q, 0, "item", 4, 0), 0);
	must(told(q, fd), "at %s", stop_at);
	one_comes(q, fd, stop_at);
	kill(pid, SIGKILL);
	reap(pid);
	shmq_close(q);
}
END_TEST

static struct shmq *pusher;
static int push_lane;

static void push_hook(const char *name)
{
	if (strcmp(name, "bell:drained") || !pusher)
		return;
	must_eq(shmq_push(pusher, push_lane, "item", 4, 0), 0);
	pusher = NULL;
}

/* The bit that the push has cleared is set again by one who was about to set it: the
 * other poller must not take its lane for one that nobody has rung for. */
START_TEST(a_bit_that_another_poller_sets_again_hides_no_ring)
{
	struct shmq *q = create_attach("q", 2, 4, 8), *late = attach("q"), *other = attach("q");
	int fd = shmq_pollfd(q, SHMQ_READABLE);
	char buf[8];
	ssize_t n;

	must(shmq_pollfd(late, SHMQ_READABLE) >= 0);
	for (int i = 0; i < 20; i++) {
		goes_quiet(q, 0, fd);
		goes_quiet(q, 1, fd);
		pusher = other;
		push_lane = 1;
		shmq_point_hook = push_hook;
		n = shmq_pop(late, 1, buf, 8, NULL, 0);
		shmq_point_hook = NULL;
		must_eq(n, 4);
		must(told(q, fd));
		must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), -EAGAIN);
		must(told(q, fd), "round %d", i);
		must_eq(shmq_push(other, 1, "item", 4, 0), 0);
		must_eq(shmq_pop(q, 1, buf, 8, NULL, 0), 4);
	}
	shmq_close(other);
	shmq_close(late);
	shmq_close(q);
}
END_TEST

/* The first pop has found nothing, and nobody who pushes knows yet that it is polled. */
START_TEST(an_item_that_comes_before_the_bits_are_set_is_seen)
{
	struct shmq *q = create_attach("q", 1, 4, 8), *other = attach("q");
	int fd = shmq_pollfd(q, SHMQ_READABLE);
	char buf[8];
	ssize_t n;

	pusher = other;
	shmq_point_hook = push_hook;
	n = shmq_pop(q, 0, buf, 8, NULL, 0);
	shmq_point_hook = NULL;
	must(!pusher);
	must_eq(n, 4);
	must(told(q, fd), "there may be more");
	goes_quiet(q, 0, fd);
	shmq_close(other);
	shmq_close(q);
}
END_TEST

/* ---- one item per wake-up ----------------------------------------------------- */

enum { PRODUCERS = 2, CONSUMERS = 3 };

struct crowd {
	long items; /* of each producer */
	atomic_uchar *seen;
	atomic_long arrived; /* about: who dies between noting and counting does not count */
	atomic_long full, empty;
	atomic_int producer, stop;
};

/* Waits for room with epoll, and pushes one item per wake-up when it had to. */
static int produce_by_epoll(void *arg)
{
	struct crowd *c = arg;
	struct shmq *q = attach("q");
	uint64_t next = (uint64_t)atomic_fetch_add(&c->producer, 1) * (uint64_t)c->items;
	uint64_t end = next + (uint64_t)c->items;
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC), fd = shmq_pollfd(q, SHMQ_WRITABLE);

	must_eq(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), 0);
	while (next < end) {
		int r = shmq_push(q, (int)(next % 2), &next, sizeof(next), 0);

		if (r == 0) {
			next++;
			continue;
		}
		must_eq(r, -EAGAIN);
		atomic_fetch_add(&c->full, 1);
		must_eq(epoll_wait(ep, &ev, 1, PATIENCE), 1);
	}
	shmq_close(q);
	return 0;
}

/* One item, and no more, whenever epoll says so. An item is noted before it is
 * released: if we die it comes again. */
static int consume_by_epoll(void *arg)
{
	struct crowd *c = arg;
	struct shmq *q = attach("q");
	long all = c->items * PRODUCERS;
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC), fd = shmq_pollfd(q, SHMQ_READABLE);

	must_eq(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), 0);
	while (!atomic_load(&c->stop)) {
		struct shmq_lease l;
		uint64_t id;
		int r = epoll_wait(ep, &ev, 1, PATIENCE);

		must_eq(r, 1); /* it ticks, even if there is nothing */
		r = shmq_peek(q, SHMQ_ANY_LANE, &l, 0);
		if (r == -EAGAIN) {
			atomic_fetch_add(&c->empty, 1);
			continue;
		}
		must_eq(r, 0);
		must_eq(l.info.len, sizeof(id));
		memcpy(&id, l.data, sizeof(id));
		must(id < (uint64_t)all);
		if (!atomic_exchange(&c->seen[id], 1))
			atomic_fetch_add(&c->arrived, 1);
		else
			must(l.info.attempts > 1, "item %" PRIu64 " twice", id);
		must_eq(shmq_release(q, &l), 0);
	}
	shmq_close(q);
	return 0;
}

static void moves_on(struct crowd *c, long to)
{
	uint64_t until = now_ns() + PATIENCE * MS;

	while (atomic_load(&c->arrived) < to) {
		must(now_ns() < until, "stalled at %ld", atomic_load(&c->arrived));
		sleep_ns(MS / 2);
	}
}

static void all_arrive(struct crowd *c, long all)
{
	uint64_t until = now_ns() + PATIENCE * MS;

	for (long i = 0; i < all; i++)
		while (!atomic_load(&c->seen[i])) {
			must(now_ns() < until, "item %ld does not come", i);
			sleep_ns(MS / 2);
		}
}

START_TEST(one_item_per_wake_up_and_consumers_that_are_killed)
{
	struct crowd *c = shared(sizeof(*c));
	long all, kills = 0;
	pid_t producer[PRODUCERS], consumer[CONSUMERS];
	struct rng r = rng_of(seed("victims"), 0);

	c->items = counts(_i ? 50000 : 500000);
	all = c->items * PRODUCERS;
	c->seen = shared((size_t)all);
	create("q", 2, _i ? 4 : 1000, 8);
	for (int i = 0; i < CONSUMERS; i++)
		consumer[i] = spawn(consume_by_epoll, c);
	for (int i = 0; i < PRODUCERS; i++)
		producer[i] = spawn(produce_by_epoll, c);
	for (long at = 0; at < all * 19 / 20; at += all / 20) {
		int i = (int)rng_below(&r, CONSUMERS);

		moves_on(c, at);
		sleep_ns(rng_below(&r, 2 * MS));
		kill(consumer[i], SIGKILL);
		if (reap(consumer[i]) == SIGNALLED + SIGKILL)
			kills++;
		consumer[i] = spawn(consume_by_epoll, c);
	}
	reap_all(producer, PRODUCERS);
	all_arrive(c, all);
	atomic_store(&c->stop, 1);
	reap_all(consumer, CONSUMERS);
	must(kills > 3);
	fprintf(stderr, "%ld items, %ld kills, found empty %ld times and full %ld times\n",
		all, kills, atomic_load(&c->empty), atomic_load(&c->full));
}
END_TEST

/* ---- where the system gives less ---------------------------------------------- */

/* The instances of the user are all taken: said by a filter, for they are other tests' too. */
static bool refuse_inotify(void)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_inotify_init1, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EMFILE),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { ARRAY_LEN(program), program };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

static int poll_without_inotify(void *arg)
{
	struct shmq *q = attach("q"), *other = attach("q");
	char buf[8];
	int fd, ticks = 0;

	(void)arg;
	if (!refuse_inotify()) {
		skip("filters of system calls are not permitted");
		return 0;
	}
	fd = shmq_pollfd(q, SHMQ_READABLE);
	must(fd >= 0);
	must_eq(q->bell[WAIT_ITEMS].inotify, 0);
	for (int i = 0; i < 20; i++) {
		for (int lane = 0; lane < 3; lane++)
			goes_quiet(q, lane, fd);
		must_eq(shmq_push(other, 0, "item", 4, 0), 0);
		one_comes(q, fd, "without inotify");
	}
	/* 1 ms, 2, 4 to 50: a dozen times, however many lanes are looked at each time. */
	for (uint64_t end = now_ns() + 200 * MS; now_ns() < end; ticks++) {
		readable(fd, PATIENCE);
		for (int lane = 0; lane < 3; lane++)
			must_eq(shmq_pop(q, lane, buf, 8, NULL, 0), -EAGAIN);
	}
	must(ticks < 50, "%d times in 200 ms", ticks);
	shmq_close(other);
	shmq_close(q);
	return 0;
}

START_TEST(without_inotify_it_ticks)
{
	create("q", 3, 4, 8);
	reap_ok(spawn(poll_without_inotify, NULL));
}
END_TEST

static int close_all_and_open_others(void *arg)
{
	struct shmq *q = attach("q");
	int top = shmq_pollfd(q, SHMQ_READABLE | SHMQ_WRITABLE), ends[2], from;
	char buf[64] = "letters";

	(void)arg;
	must_eq(pipe2(ends, O_NONBLOCK), 0);
	from = fcntl(ends[0], F_DUPFD, top + 16);
	must_eq(write(ends[1], buf, sizeof(buf)), sizeof(buf));
	for (int fd = 3; fd <= top; fd++) /* now all of its numbers read from a pipe */
		must_eq(dup2(from, fd), fd);
	must_eq(shmq_push(q, 0, "item", 4, 0), 0);
	must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), 4);
	for (int i = 0; i < 10; i++)
		must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), -EAGAIN);
	must_eq(shmq_pollfd(q, SHMQ_READABLE), -EBADF);
	shmq_close(q);
	for (int fd = 3; fd <= top; fd++)
		must(fcntl(fd, F_GETFD) >= 0, "%d was closed", fd);
	must_eq(read(from, buf, sizeof(buf)), sizeof(buf));
	return 0;
}

START_TEST(descriptors_of_others_are_left_alone)
{
	create("q", 1, 4, 8);
	reap_ok(spawn(close_all_and_open_others, NULL));
}
END_TEST

static int use_after_fork(void *arg)
{
	struct shmq *q = arg;

	must_eq(shmq_pollfd(q, SHMQ_READABLE), -ECHILD);
	shmq_close(q);
	return 0;
}

START_TEST(a_child_does_not_disturb_it)
{
	struct shmq *q = create_attach("q", 1, 4, 8);
	int fd = shmq_pollfd(q, SHMQ_READABLE);

	goes_quiet(q, 0, fd);
	reap_ok(spawn(use_after_fork, q));
	goes_quiet(q, 0, fd);
	must_eq(shmq_push(q, 0, "item", 4, 0), 0);
	must(told(q, fd));
	shmq_close(q);
}
END_TEST

START_TEST(what_can_not_be_polled_is_refused)
{
	struct shmq *q = create_attach("q", 1, 4, 8), *o;

	must_eq(shmq_pollfd(NULL, SHMQ_READABLE), -EFAULT);
	must_eq(shmq_pollfd(q, 0), -EINVAL);
	must_eq(shmq_pollfd(q, 4), -EINVAL);
	must(strstr(shmq_detail(), "SHMQ_READABLE"));
	must_eq(shmq_open(&o, "q", SHMQ_OBSERVE), 0);
	must_eq(shmq_pollfd(o, SHMQ_READABLE), -EROFS);
	shmq_close(o);
	shmq_close(q);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("poll");
	TCase *c = suite_case(s, "poll", 60);

	tcase_add_test(c, it_is_readable_while_there_is_an_item);
	tcase_add_test(c, every_call_that_finds_nothing_makes_it_quiet);
	tcase_add_test(c, who_pops_several_lanes_is_told_of_each);
	tcase_add_loop_test(c, who_takes_one_of_several_lanes_is_told_of_the_next, 0, 4);
	tcase_add_test(c, it_is_readable_while_there_is_room);
	tcase_add_test(c, one_for_both_is_readable_when_either_is);
	tcase_add_test(c, it_works_after_unlink);
	tcase_add_test(c, close_closes_all_of_it);
	tcase_add_test(c, a_dead_poller_costs_one_ring_and_leaves_nothing);
	tcase_add_loop_test(c, a_waker_that_ends_before_it_rings_is_made_good, 0,
			    ARRAY_LEN(unrung));
	tcase_add_test(c, what_a_dead_consumer_held_comes_to_who_only_polls);
	tcase_add_loop_test(c, a_poller_stopped_while_it_drains_takes_nothing_away, 0,
			    ARRAY_LEN(draining));
	tcase_add_test(c, a_bit_that_another_poller_sets_again_hides_no_ring);
	tcase_add_test(c, an_item_that_comes_before_the_bits_are_set_is_seen);
	tcase_add_test(c, without_inotify_it_ticks);
	tcase_add_test(c, descriptors_of_others_are_left_alone);
	tcase_add_test(c, a_child_does_not_disturb_it);
	tcase_add_test(c, what_can_not_be_polled_is_refused);
	c = suite_case(s, "crowd", 600);
	tcase_add_loop_test(c, one_item_per_wake_up_and_consumers_that_are_killed, 0, 2);
	return suite_run(s);
}
