/* SPDX-License-Identifier: MIT */
/*
 * any.c - waiting for one of many queues: nothing is taken, it is only looked for.
 *
 * Who waits for many can not sleep where those do who take: a waker wakes one sleeper
 * per item, and a wake-up that comes to somebody who then takes from another queue, or
 * dies first, is lost to those who sleep on. So this is polling, as in bell.c: the
 * polled bits, and a word that counts the rings and wakes all.
 *
 *   waiter                                   ringer
 *   read rings                               publish
 *   set the polled bits, membarrier()        clear the polled bits
 *   look; nothing?                           rings + 1, futex_wake(all)
 *   wait while rings is what was read
 *
 * A ringer that clears before the bits are set has published before, and the look sees
 * it; one that clears after that changes rings after it was read.
 */
#include "bell.h"
#include "handle.h"
#include "recover.h"
#include "sys.h"
#include "wait.h"

/* ---- one entry ------------------------------------------------------------------ */

static enum wait_side side_of(unsigned event)
{
	return event == SHMQ_READABLE ? WAIT_ITEMS : WAIT_ROOM;
}

static int wait_check(const struct shmq *q, int lane, unsigned events, int64_t timeout_ns)
{
	bool any = lane == SHMQ_ANY_LANE && events == SHMQ_READABLE;
	int r = use_check(q, any ? 0 : lane, timeout_ns);

	if (r == 0 && (!events || events & ~(unsigned)(SHMQ_READABLE | SHMQ_WRITABLE)))
		return -EINVAL;
	return r;
}

/* Is there an item? 1; 0; errors. */
static int item_look(struct shmq *q, int lane)
{
	unsigned i = lane >= 0 ? (unsigned)lane : any_from(q, 0);
	unsigned end = lane >= 0 ? i + 1 : q->geo.nr_lanes;
	int r = 0;

	for (; i < end && r == 0; i = any_from(q, i + 1))
		r = lane_look(q, i);
	return r;
}

static int look(struct shmq *q, int lane, unsigned event)
{
	return event == SHMQ_READABLE ? item_look(q, lane) : lane_room(q, (unsigned)lane);
}

/* From here on @lane is polled. Returns the number of rings before that. */
static uint32_t poll_lane(struct shmq *q, int lane, unsigned event)
{
	enum wait_side side = side_of(event);
	/* RING: who has rung has cleared the bits. */
	uint32_t rings = atomic_load_explicit(&wakeup_of(q)->side[side].rings,
					      memory_order_acquire);

	wait_announce(q, side, lanes_of(q, lane) << WAIT_POLLED_SHIFT, 0);
	return rings;
}

SHMQ_API int shmq_arm(struct shmq *q, int lane, unsigned events, struct shmq_futex *futex)
{
	int r = wait_check(q, lane, events, 0);
	KEEP_ERRNO;

	if (r < 0)
		return r;
	if (events == (SHMQ_READABLE | SHMQ_WRITABLE))
		return -EINVAL; /* they are two words */
	if (!futex)
		return -EFAULT;
	role_add(q, events == SHMQ_READABLE ? SHMQ_ROLE_CONSUMER : SHMQ_ROLE_PRODUCER);
	recover_probe(q);
	futex->word = (const uint32_t *)&wakeup_of(q)->side[side_of(events)].rings;
	futex->value = poll_lane(q, lane, events);
	return look(q, lane, events);
}

/* ---- many ------------------------------------------------------------------------ */

/* Look at all of them: how many have something; errors. */
static int look_all(struct shmq_wait *waits, int n)
{
	int i, r, nr_ready = 0;

	for (i = 0; i < n; i++) {
		struct shmq_wait *w = &waits[i];
		unsigned event;

		w->ready = 0;
		for (event = SHMQ_READABLE; event <= SHMQ_WRITABLE; event <<= 1) {
			if (!(w->events & event))
				continue;
			r = look(w->q, w->lane, event);
			if (r < 0)
				return r;
			if (r)
				w->ready |= (uint16_t)event;
		}
		nr_ready += w->ready != 0;
	}
	return nr_ready;
}

/* All are polled; the words, if there are no more than SYS_WAIT_MAX. How many there are. */
static unsigned poll_all(const struct shmq_wait *waits, int n, struct sys_wait *words)
{
	unsigned event, nr = 0;
	int i;

	for (i = 0; i < n; i++)
		for (event = SHMQ_READABLE; event <= SHMQ_WRITABLE; event <<= 1) {
			const struct shmq_wait *w = &waits[i];
			uint32_t rings;

			if (!(w->events & event))
				continue;
			rings = poll_lane(w->q, w->lane, event);
			if (nr < SYS_WAIT_MAX)
				words[nr] = (struct sys_wait){
					.value = rings, .flags = SYS_WAIT_U32,
					.word = (uintptr_t)&wakeup_of(w->q)
							->side[side_of(event)].rings,
				};
			nr++;
		}
	return nr;
}

struct glance {
	const struct shmq_wait *wait;
	unsigned event;
};

static ssize_t glance_attempt(void *arg)
{
	const struct glance *g = arg;
	int r = look(g->wait->q, g->wait->lane, g->event);

	return r == 0 ? -EAGAIN : r;
}

/* Sleep on the descriptors, at most @ns. 0; -EINTR; what bell_open() returns. */
static int sleep_in_poll(const struct shmq_wait *waits, int n, uint64_t ns)
{
	struct pollfd fds[2 * SHMQ_WAITS_MAX];
	unsigned event, nr = 0;
	int i, r;

	for (i = 0; i < n; i++)
		for (event = SHMQ_READABLE; event <= SHMQ_WRITABLE; event <<= 1) {
			const struct shmq_wait *w = &waits[i];
			struct glance g = { .wait = w, .event = event };

			if (!(w->events & event))
				continue;
			r = bell_open(w->q, side_of(event));
			if (r < 0)
				return r;
			fds[nr++] = (struct pollfd){ .fd = r, .events = POLLIN };
			if (bell_quiet(w->q, side_of(event), lanes_of(w->q, w->lane),
				       glance_attempt, &g) != -EAGAIN)
				return 0;
		}
	r = sys_poll(fds, nr, ns);
	return r > 0 ? 0 : r;
}

/* Sleep until one of them is rung, at most until @until. */
static int sleep_any(const struct shmq_wait *waits, int n, const struct sys_wait *words,
		     unsigned nr, uint64_t now, uint64_t until)
{
	int r = -ENOSYS;

	if (nr <= SYS_WAIT_MAX)
		r = sys_futex_waitv(words, nr, until);
	if (r == 0 || r == -EAGAIN || r == -ETIMEDOUT || r == -EINTR)
		return r;
	return sleep_in_poll(waits, n, until - now);
}

static int any_wait(struct shmq_wait *waits, int n, int64_t timeout_ns)
{
	uint64_t now = sys_monotonic_ns(), deadline = UINT64_MAX, until;
	int r = look_all(waits, n), e = 0, i;

	if (r != 0 || timeout_ns == 0)
		return r == 0 ? -EAGAIN : r;
	if (timeout_ns > 0 && (uint64_t)timeout_ns < UINT64_MAX - now)
		deadline = now + (uint64_t)timeout_ns;
	for (;;) {
		struct sys_wait words[SYS_WAIT_MAX];
		unsigned nr = poll_all(waits, n, words);

		r = look_all(waits, n);
		if (r != 0)
			return r;
		now = sys_monotonic_ns();
		if (e < 0 && e != -EAGAIN && e != -ETIMEDOUT)
			return e;
		if (now >= deadline)
			return -ETIMEDOUT;
		until = deadline - now < SLICE_NS ? deadline : now + SLICE_NS;
		e = sleep_any(waits, n, words, nr, now, until);
		for (i = 0; i < n; i++) {
			if (unlikely(!waits[i].q->map)) /* a child, as in wait_until() */
				return -ECHILD;
			recover_probe(waits[i].q);
		}
	}
}

SHMQ_API int shmq_wait_any(struct shmq_wait *waits, int n, int64_t timeout_ns)
{
	int i, r;
	KEEP_ERRNO;

	if (n < 1 || n > SHMQ_WAITS_MAX)
		return -EINVAL;
	if (!waits)
		return -EFAULT;
	for (i = 0; i < n; i++)
		waits[i].ready = 0;
	for (i = 0; i < n; i++) {
		struct shmq_wait *w = &waits[i];

		r = wait_check(w->q, w->lane, w->events, timeout_ns);
		if (r < 0)
			return r;
		role_add(w->q, (w->events & SHMQ_READABLE ? SHMQ_ROLE_CONSUMER : 0) |
				       (w->events & SHMQ_WRITABLE ? SHMQ_ROLE_PRODUCER : 0));
	}
	r = any_wait(waits, n, timeout_ns);
	if (r < 0)
		for (i = 0; i < n; i++)
			waits[i].ready = 0;
	return r;
}
