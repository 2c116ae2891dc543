/* SPDX-License-Identifier: MIT */
/*
 * distance.c - how far a consumer runs behind the producers.
 *
 * A consumer close behind takes away the cache lines that the producers are about to
 * write, and gets each item at the price of several transfers between processors. At a
 * distance both stream. Between processors that are far apart this makes a factor of
 * three for both sides, and a queue does not get out of it by itself: the two slow down
 * alike. So a consumer that comes from close by look after look falls back: it pauses
 * for some microseconds, and then has a few thousand items before it is close again.
 *
 * Whether that is better is measured, not guessed. Two stretches are compared, one from
 * close by and one of falling back; the second must move the items faster by a quarter,
 * pauses included. It does not if producers are slow for reasons of their own: then
 * pausing would only make items late, and it is tried more and more seldom. While it
 * pays it is compared again from time to time.
 *
 * Who takes from all lanes pauses for as long as nothing comes into a higher one.
 *
 * Consumers keep a distance from each other as well: distance_aside().
 *
 * Nothing here is shared or touches the queue but by reading tail.
 */
#include "handle.h"

#define CLOSE 64            /* a look that found fewer items was from close by */
#define CLOSE_LOOKS 64      /* such looks make a stretch from close by */
#define FALLS 4             /* pauses make a stretch of falling back, */
#define FALL_TICKETS 16384  /* or so many tickets do */
#define FAR 2048            /* tickets behind: far enough, or half of the capacity */
#define PAUSES 256          /* between two looks at tail, in a small lane fewer, and */
#define PAUSE_LOOKS 4       /* looks at most */
#define STRETCHES 32        /* that pay before both kinds are compared again */
#define ASIDE 32            /* pauses of who lost an item to another consumer, */
#define ASIDE_DOUBLED 6     /* doubled so often, at most, if it goes on */
#define TRIAL_SOON 256      /* close looks until the next trial, at first, */
#define TRIAL_LATE (1 << 16) /* and after many trials that did not pay */

void distance_init(struct distance *d)
{
	d->idle = d->patience = TRIAL_SOON;
}

/*
 * Two consumers at the same items cost each other a transfer of the line for each of them.
 * If one stays away for a moment, the other has a run of items to itself.
 */
void distance_aside(struct distance *d)
{
	for (uint32_t i = (uint32_t)ASIDE << d->lost; i > 0; i--)
		cpu_relax();
	if (d->lost < ASIDE_DOUBLED)
		d->lost++;
}

/* A stretch begins at @start. */
static void stretch_begin(struct distance *d, uint64_t start)
{
	d->from = start;
	d->from_ns = sys_monotonic_ns();
	d->n = 0;
}

/* The pace of the stretch that ends at @start, in tickets per 2^20 ns. */
static uint64_t stretch_pace(const struct distance *d, uint64_t start)
{
	return ((start - d->from) << 20) / (sys_monotonic_ns() - d->from_ns + 1);
}

/* A close look while we do not fall back: is it time to begin? */
static bool trial_due(struct distance *d, uint64_t start)
{
	if (d->idle) {
		if (--d->idle == 0)
			stretch_begin(d, start);
		return false;
	}
	if (++d->n < CLOSE_LOOKS)
		return false;
	d->pace_close = stretch_pace(d, start);
	d->stretches = STRETCHES;
	return true;
}

/* A stretch of falling back has ended: shall there be one more? */
static bool trial_pays(struct distance *d, uint64_t start)
{
	if (stretch_pace(d, start) < d->pace_close + d->pace_close / 4) {
		d->idle = d->patience;
		if (d->patience < TRIAL_LATE)
			d->patience *= 2;
		return false;
	}
	d->patience = TRIAL_SOON;
	d->idle = 1;
	return --d->stretches > 0;
}

/* Has something come into a lane above @lane? */
static bool higher_lane_stirs(const struct shmq *q, unsigned lane)
{
	unsigned i;

	for (i = q->any_first; i < lane; i = any_from(q, i + 1))
		if (atomic_load_explicit(&q->view[i].lane->tail, memory_order_acquire) !=
		    q->view[i].start) /* TICKET */
			return true;
	return false;
}

bool distance_keep(struct shmq *q, unsigned lane, bool alone)
{
	struct view *v = &q->view[lane];
	struct distance *d = &v->distance;
	uint64_t half = q->geo.capacity[lane] / 2, enough = half < FAR ? half : FAR;
	uint64_t found = v->start - d->looked;
	bool close = found >= 2 && found < CLOSE;

	d->looked = v->start;
	if (!d->falling) {
		if (!close || !trial_due(d, v->start))
			return false;
		d->falling = true;
		stretch_begin(d, v->start);
	} else if (d->n >= FALLS || v->start - d->from >= FALL_TICKETS) {
		d->falling = trial_pays(d, v->start);
		if (d->falling)
			stretch_begin(d, v->start);
	}
	if (!close || !d->falling)
		return false;
	d->n++;
	for (int look = 0; look < PAUSE_LOOKS; look++) {
		for (uint64_t i = 0; i < PAUSES && i < enough; i++)
			cpu_relax();
		v->t0 = atomic_load_explicit(&v->lane->tail, memory_order_acquire); /* TICKET */
		if (v->t0 == v->start) /* nobody is there to be disturbed */
			d->n = FALLS;
		if (v->t0 == v->start || v->t0 - v->start >= enough ||
		    (!alone && higher_lane_stirs(q, lane)))
			break;
	}
	return true;
}
