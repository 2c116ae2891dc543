/* SPDX-License-Identifier: MIT */
/*
 * bell.c - a descriptor that is readable while there may be an item, or room.
 *
 * Every poller has a bell of its own, and a ring is heard by all of them: a poller
 * that is stopped or dies, at any instruction, takes nothing away from the others.
 * The kernel does the telling. Each bell is an inotify instance that watches the file
 * of the queue, and to ring is to read one byte of that file: no name, no mode, nothing
 * to make or to remove, also after shmq_unlink(), and nothing stays behind the dead.
 *
 *   poller, whose pop found nothing          ringer
 *   drain its bell                           slot word FULL       (plain store)
 *   set the polled bits of its lanes (CAS)   load word: polled?
 *   membarrier()                             clear the polled bits of the lane
 *   pop again: something? then it stays      rings + 1, futex_wake(all)
 *   readable, for there may be more          read a byte: all bells ring
 *
 * The bits are cleared before the ring, so that who sets them after it is rung by the
 * next. While nobody polls none is set, and nobody makes a system call.
 *
 * Who asks for one lane at a time drains what was rung for another, and who takes one item
 * per wake-up leaves others behind. So a bell owes a look at each lane that was quiet when
 * there was a ring, and at each from which the caller has taken something: it does not
 * fall silent before they have been found empty, or have not been asked for any more in
 * some looks. docs/model/bell.pml.
 *
 * Dead or stopped between publication and ring: a timer in the same descriptor, wound up
 * by every pop that finds nothing, has the poller look again after a slice (SLICE_NS).
 * It is what finds dead participants too. Where the system gives no inotify instance
 * (128 per user are usual) the timer alone has to do: after 1 ms, and while nothing moves
 * after twice as long each time, up to a slice.
 *
 * What is drained belongs to this handle: the numbers are checked first, in case the
 * process has closed all of its descriptors and opened something else.
 */
#include "bell.h"
#include "point.h"
#include "region.h"
#include "sys.h"
#include "wait.h"

#include <limits.h>

#define ALONE_NS UINT64_C(1000000) /* the first slice of a timer without inotify */

void bell_ring(struct shmq *q, enum wait_side side, uint32_t lanes)
{
	struct waitword *w = &wakeup_of(q)->side[side];
	uint32_t bits = lanes << WAIT_POLLED_SHIFT;

	/* PARK: whoever polls from here on sets them again, and then looks. */
	if (!(atomic_fetch_and_explicit(&w->word, ~bits, memory_order_seq_cst) & bits))
		return; /* somebody else rings */
	POINT("ring:cleared"); /* Dead here: pollers look again within a slice. */
	/* RING -> shmq_arm(), owe(): the bits are clear. */
	atomic_fetch_add_explicit(&w->rings, 1, memory_order_release);
	sys_futex_wake(&w->rings, INT_MAX, UINT32_MAX);
	sys_touch(q->map->fd);
}

/* Is each number still the descriptor it was? */
static bool intact(const struct bell *b)
{
	return sys_epoll_has(b->epoll, b->timer) &&
	       (!b->inotify || sys_epoll_has(b->epoll, b->inotify));
}

/* Have the bell ring of itself in @ns; at once, and until it is wound again, if @now is 0.
 * The kernel needs some microseconds even for that. */
static void wind(struct bell *b, uint64_t ns, uint64_t now)
{
	b->set_ns = now;
	sys_timer_set(b->timer, ns);
}

/* Without inotify: soon again if something was pushed or popped since; else, if the slice
 * is over (@due), twice as long. Is the timer to be wound? */
static bool slice_adapt(struct shmq *q, struct bell *b, bool due)
{
	uint64_t moved = 0;
	uint32_t i;

	for (i = 0; i < q->geo.nr_lanes; i++)
		moved += tally_get(&q->self->tally[i].pushed) +
			 tally_get(&q->self->tally[i].popped);
	if (moved != b->moved) {
		b->slice_ns = ALONE_NS;
		due = true;
	} else if (due && b->slice_ns < SLICE_NS) {
		b->slice_ns = b->slice_ns * 2 < SLICE_NS ? b->slice_ns * 2 : SLICE_NS;
	}
	b->moved = moved;
	return due;
}

/* Lanes from which this handle has taken something, or into which it has put something,
 * since it was asked last. */
static uint32_t lanes_used(struct shmq *q, struct bell *b, enum wait_side side)
{
	uint32_t i, lanes = 0;

	for (i = 0; i < q->geo.nr_lanes; i++) {
		struct tally *t = &q->self->tally[i];
		const struct view *v = &q->view[i];
		/* What is held is not counted as popped yet. */
		uint64_t used = side == WAIT_ITEMS ?
					tally_get(&t->popped) + v->start + v->long_takes :
					tally_get(&t->pushed);

		if (used != b->used[i])
			lanes |= 1u << i;
		b->used[i] = used;
	}
	return lanes;
}

/* What @b owes the caller now that it has found @lanes empty. */
static void owe(struct shmq *q, struct bell *b, enum wait_side side, uint32_t lanes)
{
	/* RING: who is drained has been counted. The polled bits would not do: others may
	 * have set them again. */
	uint32_t rings = atomic_load_explicit(&wakeup_of(q)->side[side].rings,
					      memory_order_acquire);
	uint32_t more = lanes_used(q, b, side);

	if (rings != b->rings) { /* nobody knows for which of them */
		more |= b->quiet;
		b->quiet = 0;
		b->rings = rings;
	}
	if (more)
		b->looks = 0;
	b->owed = (b->owed | more) & ~lanes;
	/* Twice around, in whatever order: it does not ask for those any more. */
	if (b->owed && ++b->looks > 2 * q->geo.nr_lanes)
		b->owed = 0;
}

ssize_t bell_quieten(struct shmq *q, enum wait_side side, uint32_t lanes,
		     ssize_t (*attempt)(void *arg), void *arg)
{
	struct bell *b = &q->bell[side];
	uint64_t now = sys_monotonic_ns();
	bool due = now - b->set_ns >= b->slice_ns / 2;
	ssize_t r;
	KEEP_ERRNO;

	if (!intact(b))
		return -EAGAIN;
	if (b->inotify)
		sys_inotify_drain(b->inotify);
	else
		due = slice_adapt(q, b, due);
	POINT("bell:drained"); /* Dead here, and below: nobody else's bell is changed. */
	owe(q, b, side, lanes);
	wait_announce(q, side, lanes << WAIT_POLLED_SHIFT, 0);
	POINT("bell:polled"); /* Dead here: the next waker rings in vain. */
	r = attempt(arg);
	if (r == -EAGAIN)
		b->quiet |= lanes;
	else
		b->owed |= lanes;
	if (!b->owed && due)
		wind(b, b->slice_ns, now);
	else if (b->owed && b->set_ns)
		wind(b, 1, 0);
	return r;
}

/* ---- making and closing -------------------------------------------------------- */

static void bell_close(struct bell *b)
{
	if (!b->epoll || !intact(b))
		return;
	sys_close(b->timer);
	if (b->inotify)
		sys_close(b->inotify);
	sys_close(b->epoll);
}

void bells_close(struct shmq *q)
{
	/* Both numbers are checked by what is in the one. */
	if (q->either && sys_epoll_has(q->either, q->bell[WAIT_ITEMS].epoll))
		sys_close(q->either);
	bell_close(&q->bell[WAIT_ITEMS]);
	bell_close(&q->bell[WAIT_ROOM]);
}

/* The timer, ringing already, and inotify, if there is one to be had. */
static int bell_fill(struct shmq *q, struct bell *b)
{
	int r = sys_timer();

	if (r < 0)
		return r;
	b->timer = r;
	r = sys_epoll_add(b->epoll, b->timer);
	if (r < 0)
		return r;
	r = sys_timer_set(b->timer, 1); /* nobody has looked yet */
	if (r < 0)
		return r;
	b->slice_ns = ALONE_NS;
	b->owed = (1u << q->geo.nr_lanes) - 1;
	r = sys_inotify(q->map->fd);
	if (r < 0)
		return 0;
	b->slice_ns = SLICE_NS;
	b->inotify = r;
	return sys_epoll_add(b->epoll, b->inotify);
}

int bell_open(struct shmq *q, enum wait_side side)
{
	struct bell b = { 0 };
	int r;

	if (q->bell[side].epoll)
		return intact(&q->bell[side]) ? q->bell[side].epoll : -EBADF;
	if (!mapping_intact(q->map))
		return detail(-EBADF, "this process has closed the descriptor of the queue");
	r = sys_epoll();
	if (r < 0)
		return r;
	b.epoll = r;
	r = bell_fill(q, &b);
	if (r < 0) {
		if (b.inotify)
			sys_close(b.inotify);
		if (b.timer)
			sys_close(b.timer);
		sys_close(b.epoll);
		return r;
	}
	q->bell[side] = b;
	return b.epoll;
}

/* A descriptor that is readable if one of the two is. */
static int either_open(struct shmq *q)
{
	int epoll, r;

	if (q->either)
		return q->either;
	epoll = sys_epoll();
	if (epoll < 0)
		return epoll;
	r = sys_epoll_add(epoll, q->bell[WAIT_ITEMS].epoll);
	if (r == 0)
		r = sys_epoll_add(epoll, q->bell[WAIT_ROOM].epoll);
	if (r < 0) {
		sys_close(epoll);
		return r;
	}
	q->either = epoll;
	return epoll;
}

SHMQ_API int shmq_pollfd(struct shmq *q, unsigned events)
{
	int items = 0, room = 0;
	KEEP_ERRNO;
	NO_CANCEL;

	detail_clear();
	if (!q)
		return -EFAULT;
	if (!q->map)
		return -ECHILD;
	if (q->observer)
		return -EROFS;
	if (!events || events & ~(unsigned)(SHMQ_READABLE | SHMQ_WRITABLE))
		return detail(-EINVAL, "events %#x: give SHMQ_READABLE, SHMQ_WRITABLE or both",
			      events);
	if (events & SHMQ_READABLE)
		items = bell_open(q, WAIT_ITEMS);
	if (items >= 0 && events & SHMQ_WRITABLE)
		room = bell_open(q, WAIT_ROOM);
	if (items < 0 || room < 0)
		return items < 0 ? items : room;
	return items && room ? either_open(q) : items + room;
}
