/* SPDX-License-Identifier: MIT */
/*
 * inplace.c - the functions of shmq.h that write and read an item where it is. A
 * reservation is a push, and a lease a pop, that takes its time: see "In place" in
 * docs/design.md.
 */
#include "handle.h"
#include "recover.h"
#include "segment.h"
#include "wait.h"

/* ---- reserve, commit, abort --------------------------------------------------------- */

struct reserve {
	struct shmq *q;
	void **buf;
	int lane;
};

static ssize_t reserve_attempt(void *arg)
{
	struct reserve *a = arg;
	int r = lane_reserve(a->q, (unsigned)a->lane, a->buf);

	return r == 0 ? -EAGAIN : r;
}

SHMQ_API int shmq_reserve(struct shmq *q, int lane, void **buf, int64_t timeout_ns)
{
	struct reserve a = { .q = q, .buf = buf, .lane = lane };
	ssize_t r = use_check(q, lane, timeout_ns);

	if (r < 0)
		return (int)r;
	if (!buf)
		return -EFAULT;
	role_add(q, SHMQ_ROLE_PRODUCER);
	recover_probe(q);
	r = wait_until(q, WAIT_ROOM, 1u << lane, timeout_ns, reserve_attempt, &a);
	if (r == -EAGAIN || r == -ETIMEDOUT)
		tally_add(&q->self->tally[lane].rejected, 1);
	return r == 1 ? 0 : (int)r;
}

static int reserved_check(const struct shmq *q)
{
	int r = use_check(q, 0, SHMQ_NOWAIT);

	return r == 0 && !(q->busy & BUSY_RESERVED) ? -ENOENT : r;
}

SHMQ_API int shmq_commit(struct shmq *q, size_t len)
{
	int r = reserved_check(q);

	if (r < 0)
		return r;
	if (len > q->geo.item_size)
		return -EMSGSIZE;
	wake(q, WAIT_ITEMS, lane_commit(q, len), 1);
	return 0;
}

SHMQ_API int shmq_abort(struct shmq *q)
{
	int r = reserved_check(q);

	if (r == 0)
		lane_abort(q);
	return r;
}

/* ---- peek, release, requeue --------------------------------------------------------- */

struct peek {
	struct shmq *q;
	struct taken *taken;
	int lane;
};

static ssize_t peek_attempt(void *arg)
{
	struct peek *a = arg;
	int r = take(a->q, a->lane, SIZE_MAX, false, a->taken);

	return r == 0 ? -EAGAIN : r;
}

SHMQ_API int shmq_peek(struct shmq *q, int lane, struct shmq_lease *lease, int64_t timeout_ns)
{
	struct taken t;
	struct peek a = { .q = q, .taken = &t, .lane = lane };
	ssize_t r = use_check(q, lane == SHMQ_ANY_LANE ? 0 : lane, timeout_ns);

	if (r < 0)
		return (int)r;
	if (!lease)
		return -EFAULT;
	if (q->nr_leases >= SHMQ_LEASES_MAX)
		return -EMFILE;
	role_add(q, SHMQ_ROLE_CONSUMER);
	r = take(q, lane, SIZE_MAX, true, &t);
	if (r == 0) {
		recover_probe(q);
		r = wait_until(q, WAIT_ITEMS, lanes_of(q, lane), timeout_ns, peek_attempt, &a);
	}
	if (r != 1)
		return (int)r;
	q->nr_leases++;
	*lease = (struct shmq_lease){ .data = t.payload,
				      .private_ = { t.ticket, t.inc, t.segment } };
	info_fill(q, &t, &lease->info);
	wake(q, WAIT_ROOM, t.lane, 1);
	return 0;
}

/* The item that @lease stands for, if this handle still holds it. */
static int lease_check(struct shmq *q, const struct shmq_lease *lease, struct taken *t)
{
	int r = use_check(q, 0, SHMQ_NOWAIT);
	uint64_t held;

	if (r < 0)
		return r;
	if (!lease)
		return -EFAULT;
	if (lease->private_[2] >= q->geo.nr_segments || lease->info.lane >= q->geo.nr_lanes ||
	    lease->info.attempts < 1 || lease->info.attempts > SLOT_ATTEMPTS_MAX + 1 ||
	    lease->data != payload_of(q, slot_index(q, (uint32_t)lease->private_[2],
						    lease->private_[0])))
		return -ENOENT; /* of another handle's queue, or none */
	*t = (struct taken){ .ticket = lease->private_[0], .inc = lease->private_[1],
			     .segment = (uint32_t)lease->private_[2], .len = lease->info.len,
			     .lane = lease->info.lane, .attempts = lease->info.attempts - 1u,
			     .payload = lease->data };
	t->word = slot_at(q, t->segment, t->ticket);
	held = slot_word(t->inc, t->attempts, q->me, SLOT_TAKEN);
	/* relaxed: if it is ours, we wrote it. */
	return atomic_load_explicit(t->word, memory_order_relaxed) == held ? 0 : -ENOENT;
}

SHMQ_API int shmq_release(struct shmq *q, struct shmq_lease *lease)
{
	struct taken t;
	int r = lease_check(q, lease, &t);

	if (r < 0)
		return r;
	lane_finish(q, &t);
	q->nr_leases -= q->nr_leases > 0;
	tally_add(&q->self->tally[t.lane].popped, 1);
	return 0;
}

SHMQ_API int shmq_requeue(struct shmq *q, struct shmq_lease *lease)
{
	struct taken t;
	int r = lease_check(q, lease, &t);

	if (r < 0)
		return r;
	lane_requeue(q, &t);
	q->nr_leases -= q->nr_leases > 0;
	recover_probe(q);
	return 0;
}
