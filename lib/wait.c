/* SPDX-License-Identifier: MIT */
/*
 * wait.c - an event count on one futex word per direction.
 *
 * No wake-up is lost: the sleeper announces, then looks; the waker publishes,
 * then loads. One of the two sees the other.
 *
 *   sleeper                                 waker
 *   word: epoch + 1, armed bits  (CAS)      slot word FULL          (plain store)
 *   membarrier()                            load word
 *   woken_ns = 0                            armed for this lane, and woken_ns = 0?
 *   look at the lanes again                   woken_ns = now (CAS)
 *   futex_wait(word as I left it)             epoch + 1 (CAS), futex_wake(n)
 *                                             woke fewer than n: nobody sleeps on
 *                                             this lane; if the word is unchanged,
 *                                             clear the armed bit of the lane
 *
 * Publication is a plain store, so the load of the word may overtake it: the
 * sleeper pays for that with membarrier(), which runs a barrier on every CPU that
 * runs a registered process. Where consumers sleep and wake often that costs far
 * more than all the rest. So a sleeper also sets the fence bit: a waker that sees
 * it fences and loads again, a locked instruction more. Once a membarrier() has
 * returned and the bit was set all the time (fenced), every waker either sees the
 * bit or has been seen, and the next sleepers need no membarrier(). Wakers who find
 * nobody CALM times in a row take both bits back. docs/model/wake.pml, FENCE.
 *
 * A burst of pushes must not wake everybody: who was woken comes some microseconds later,
 * and takes one item after the other. So one wake-up is on its way at a time (a batch of n
 * wakes up to n), and whoever was woken and has taken something looks whether more is left,
 * and wakes the next (pass_on). woken_ns says that somebody was woken who has not looked
 * yet; everybody who looks takes it away before. It counts for WOKEN_NS: then he is dead,
 * stopped, or late, and the next waker wakes another. docs/model/wake.pml, BATON.
 *
 * A process that can not register fences on its own wakes (must_fence). A sleeper
 * that can not call membarrier() sets the fence bit and hopes: an item of a waker
 * that has not seen the bit yet it may miss, for a slice.
 *
 * Every arming changes the word, so that a waker can tell whether somebody armed
 * after its futex_wake(); armed bits are per lane, because futex_wake() counts only
 * the sleepers that share the lane. (The epoch has 14 bits. Who is stopped between
 * arming and sleeping for a multiple of 16,384 armings, exactly, misses a slice.)
 *
 * Dead or stopped between publication and wake, or woken and then dead: the
 * others sleep on, at most a slice (SLICE_NS), and then look for themselves. An
 * armed bit that a dead sleeper left costs the next waker one system call.
 */
#include "wait.h"
#include "bell.h"
#include "lane.h"
#include "point.h"
#include "recover.h"
#include "sys.h"

#include <limits.h>

#define SPIN_MAX 256u
#define CALM 64 /* wakes that found nobody: more will */
#define WOKEN_NS 200000 /* what a wake-up may take on a busy machine */

static futex_t *word_of(struct shmq *q, enum wait_side side)
{
	return &wakeup_of(q)->side[side].word;
}

/* @w was found without sleepers: does it pay to fence for them any longer? */
static void wake_calm(struct shmq *q, futex_t *word, uint32_t w)
{
	if ((w & (WAIT_FENCE | WAIT_FENCED)) != (WAIT_FENCE | WAIT_FENCED) || ++q->calm < CALM)
		return;
	q->calm = 0;
	/* PARK: unchanged means that nobody armed since. */
	atomic_compare_exchange_strong_explicit(word, &w, w & ~(WAIT_FENCE | WAIT_FENCED),
						memory_order_seq_cst, memory_order_relaxed);
}

/* Is it ours to wake somebody of @lane, or has one been woken who will see what we did? */
static bool wake_due(struct shmq *q, enum wait_side side, unsigned lane)
{
	word_t *woken = &wakeup_of(q)->side[side].woken_ns[lane];
	uint64_t then = atomic_load_explicit(woken, memory_order_seq_cst), now; /* BATON */

	POINT("wake:due"); /* Dead here: as before. */
	/* Read after the stamp: one of this moment is not to seem one of the future. */
	now = sys_monotonic_ns();
	while (!then || now - then >= WOKEN_NS) {
		if (atomic_compare_exchange_strong_explicit(woken, &then, now, /* BATON */
							    memory_order_seq_cst,
							    memory_order_relaxed))
			return true;
		if (then) /* another waker has just come by */
			return false;
		/* Somebody looks, and may take one thing that is not ours, and go. */
	}
	return false;
}

/* We are about to look: whoever makes something from now on is to wake by himself. */
static void wake_looked(struct shmq *q, enum wait_side side, uint32_t lanes)
{
	bool taken = false;

	for (; lanes; lanes &= lanes - 1) {
		word_t *woken = &wakeup_of(q)->side[side].woken_ns[__builtin_ctz(lanes)];

		if (atomic_load_explicit(woken, memory_order_seq_cst)) { /* BATON */
			atomic_store_explicit(woken, 0, memory_order_seq_cst); /* BATON */
			taken = true;
		}
	}
	if (taken) /* BATON: the look is by acquire loads, and comes after it. */
		atomic_thread_fence(memory_order_seq_cst);
}

void wake_slow(struct shmq *q, enum wait_side side, unsigned lane, int n, uint32_t w)
{
	futex_t *word = word_of(q, side);
	uint32_t bit = 1u << lane, next;
	KEEP_ERRNO;

	if (w & WAIT_FENCE) { /* PARK: sleepers may have done without membarrier() */
		atomic_thread_fence(memory_order_seq_cst);
		w = atomic_load_explicit(word, memory_order_seq_cst); /* PARK */
	}
	if (!(w & (WAIT_ARMED | WAIT_POLLED))) {
		wake_calm(q, word, w);
		return;
	}
	q->calm = 0;
	if (w & bit << WAIT_POLLED_SHIFT)
		bell_ring(q, side, bit);
	if (!(w & bit) || !wake_due(q, side, lane))
		return;
	POINT("wake:stamped"); /* Dead here: wakers leave it to us for WOKEN_NS. */
	do {
		if (!(w & bit))
			return;
		next = w + WAIT_EPOCH;
	} while (!atomic_compare_exchange_weak_explicit(word, &w, next, /* PARK */
							memory_order_seq_cst,
							memory_order_seq_cst));
	if (sys_futex_wake(word, n, bit) >= n)
		return;
	/* PARK: unchanged means that nobody armed since; then nobody sleeps here. */
	atomic_compare_exchange_strong_explicit(word, &next, (next + WAIT_EPOCH) & ~bit,
						memory_order_seq_cst, memory_order_seq_cst);
}

void wake_all(struct shmq *q)
{
	int side;

	for (side = WAIT_ITEMS; side <= WAIT_ROOM; side++) {
		/* PARK: a sleeper that has armed and not slept looks again. */
		uint32_t w = atomic_fetch_add_explicit(word_of(q, side), WAIT_EPOCH,
						       memory_order_seq_cst);

		sys_futex_wake(word_of(q, side), INT_MAX, WAIT_ARMED);
		if (w & WAIT_POLLED)
			bell_ring(q, side, WAIT_POLLED >> WAIT_POLLED_SHIFT);
	}
}

uint32_t wait_announce(struct shmq *q, enum wait_side side, uint32_t bits, uint32_t epoch)
{
	futex_t *word = word_of(q, side);
	uint32_t w = atomic_load_explicit(word, memory_order_relaxed), next;

	if (side == WAIT_ITEMS)
		bits |= WAIT_FENCE;
	do {
		next = (w + epoch) | bits;
	} while (!atomic_compare_exchange_weak_explicit(word, &w, next, /* PARK */
							memory_order_seq_cst,
							memory_order_relaxed));
	atomic_thread_fence(memory_order_seq_cst); /* PARK */
	/* Room is made by read-modify-writes, so nobody else has to be fenced. */
	if (side == WAIT_ROOM || w & WAIT_FENCED || sys_membarrier() < 0)
		return next;
	/* PARK: unchanged, so the fence bit was set all the time. */
	w = next;
	if (epoch && atomic_compare_exchange_strong_explicit(word, &w, next | WAIT_FENCED,
							     memory_order_seq_cst,
							     memory_order_relaxed))
		next |= WAIT_FENCED;
	return next;
}

/* Poll for a while. The budget doubles when that pays and halves when it does not. */
static ssize_t spin(struct shmq *q, ssize_t (*attempt)(void *arg), void *arg)
{
	uint32_t rounds = q->cpus > 1 ? q->spin / 16 : 0, i;

	for (i = 0; i < rounds; i++) {
		ssize_t r;
		int k;

		for (k = 0; k < 8; k++)
			cpu_relax();
		r = attempt(arg);
		if (r != -EAGAIN) {
			q->spin = q->spin * 2 < SPIN_MAX * 16 ? q->spin * 2 : SPIN_MAX * 16;
			return r;
		}
	}
	/* Below 16 there is no round; it creeps up again, to try once in a while. */
	q->spin = rounds ? q->spin / 2 : q->spin + 1;
	return -EAGAIN;
}

/*
 * A wake-up of one of @lanes has ended our sleep, and we leave: with an item, or with an
 * error and none. If more is left it is for somebody else. Nobody knows which lane we were
 * woken for, so one sleeper of each where something is left.
 */
static void pass_on(struct shmq *q, enum wait_side side, uint32_t lanes)
{
	for (; lanes; lanes &= lanes - 1) {
		unsigned lane = (unsigned)__builtin_ctz(lanes);

		if ((side == WAIT_ROOM ? lane_room(q, lane) : lane_look(q, lane)) == 1)
			wake(q, side, lane, 1);
	}
}

ssize_t wait_until(struct shmq *q, enum wait_side side, uint32_t lanes, int64_t timeout_ns,
		   ssize_t (*attempt)(void *arg), void *arg)
{
	uint64_t now, deadline = UINT64_MAX, until;
	ssize_t r = attempt(arg);
	int e;
	KEEP_ERRNO;

	if (likely(r != -EAGAIN))
		return r;
	if (timeout_ns == 0)
		return bell_quiet(q, side, lanes, attempt, arg);
	now = sys_monotonic_ns();
	if (timeout_ns > 0 && (uint64_t)timeout_ns < UINT64_MAX - now)
		deadline = now + (uint64_t)timeout_ns;
	if (!q->no_spin)
		r = spin(q, attempt, arg);
	while (r == -EAGAIN) {
		uint32_t w = wait_announce(q, side, lanes, WAIT_EPOCH);

		wake_looked(q, side, lanes);
		r = attempt(arg);
		if (r != -EAGAIN)
			break;
		now = sys_monotonic_ns();
		if (now >= deadline) {
			r = bell_quiet(q, side, lanes, attempt, arg);
			return r == -EAGAIN ? -ETIMEDOUT : r;
		}
		until = deadline - now < SLICE_NS ? deadline : now + SLICE_NS;
		e = sys_futex_wait(word_of(q, side), w, lanes, until);
		if (unlikely(!q->map)) /* a child, of the fork of a signal handler */
			return -ECHILD;
		wake_looked(q, side, lanes);
		r = attempt(arg);
		if (e == 0 && r != -EAGAIN)
			pass_on(q, side, lanes); /* Dead before it: as if woken and dead. */
		if (r != -EAGAIN)
			break;
		if (e == -EINTR)
			return -EINTR;
		recover_probe(q);
	}
	return r;
}
