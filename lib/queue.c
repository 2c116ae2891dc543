/* SPDX-License-Identifier: MIT */
/*
 * queue.c - the functions of shmq.h that make, use and free a handle: check the
 * arguments, call the rest. No algorithm here.
 *
 * The handle lies in memory of its own that a child reads as zero after fork(),
 * and the mappings are not inherited at all: a handle whose map is NULL is one
 * from before a fork, and is refused.
 */
#include "fast.h"
#include "lane.h"
#include "participant.h"
#include "recover.h"
#include "region.h"
#include "segment.h"
#include "sys.h"
#include "wait.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- open, dup, close ----------------------------------------------------------- */

bool mapping_intact(const struct mapping *m)
{
	struct stat st;

	return sys_fstat(m->fd, &st) == 0 && st.st_dev == m->dev && st.st_ino == m->ino;
}

static void mapping_drop(struct mapping *m)
{
	/* acq_rel: the last user sees that the others are done. Private memory. */
	if (atomic_fetch_sub_explicit(&m->users, 1, memory_order_acq_rel) != 1)
		return;
	if (m->base)
		sys_unmap(m->base, m->bytes);
	if (mapping_intact(m)) /* or it is somebody else's by now */
		sys_close(m->fd);
	free(m);
}

static int mapping_open(struct mapping **out, const char *name, unsigned flags)
{
	struct mapping *m = calloc(1, sizeof *m);
	struct stat st;
	void *base;
	int r;

	if (!m)
		return -ENOMEM;
	atomic_init(&m->users, 1);
	r = region_open(name, flags, &m->header, &m->geo, &st);
	if (r < 0) {
		free(m);
		return r;
	}
	m->fd = r;
	m->dev = st.st_dev;
	m->ino = st.st_ino;
	m->bytes = m->geo.bytes;
	snprintf(m->name, sizeof m->name, "%s", name + (name[0] == '/'));
	r = sys_map(m->fd, m->bytes, !(flags & SHMQ_OBSERVE), &base);
	if (r < 0) {
		mapping_drop(m);
		return r;
	}
	m->base = base;
	*out = m;
	return 0;
}

static void views_init(struct shmq *q)
{
	uint32_t i;

	for (i = 0; i < q->geo.nr_lanes; i++) {
		struct view *v = &q->view[i];
		/* PASS, TICKET: head as start; t0 and limit so old that the first use
		 * looks for itself. */
		uint64_t h = atomic_load_explicit(&lane_of(q, i)->head, memory_order_acquire);

		v->lane = lane_of(q, i);
		v->gen = GEN_UNKNOWN;
		v->start = v->t0 = v->limit = v->near = h;
		v->push_at.number = v->pop_at.number = v->retire_later.number =
			NUMBER_UNKNOWN;
	}
}

/* Takes over the reference to @m. */
static int handle_make(struct shmq **out, struct mapping *m, bool observer)
{
	void *p;
	struct shmq *q;
	int r = sys_map_private(sizeof *q, &p);

	if (r < 0) {
		mapping_drop(m);
		return r;
	}
	q = p;
	q->map = m;
	q->geo = m->geo;
	q->base = m->base;
	q->observer = observer;
	q->cpus = (uint32_t)sys_usable_cpus();
	q->spin = 64 * 16;
	if (!observer) {
		q->must_fence = sys_membarrier_register() < 0;
		r = participant_join(q);
		if (r == -EUSERS)
			detail(r, "all %u participant slots are taken by live processes "
			       "(shmq-stat -v lists them); make the queue with more",
			       m->geo.max_participants);
		if (r < 0) {
			mapping_drop(m);
			sys_unmap(q, sizeof *q);
			return r;
		}
	}
	views_init(q);
	q->usable_lanes = observer ? 0 : q->geo.nr_lanes;
	if (!observer)
		recover_all(q, &q->opened); /* what a predecessor held is there at once */
	*out = q;
	return 0;
}

SHMQ_API int shmq_open(struct shmq **out, const char *name, unsigned flags)
{
	struct mapping *m;
	int r;
	KEEP_ERRNO;
	NO_CANCEL;

	detail_clear();
	if (!out)
		return -EFAULT;
	*out = NULL;
	if (flags & ~(unsigned)(SHMQ_OBSERVE | SHMQ_ANY_OWNER))
		return detail(-EOPNOTSUPP, "unknown flags %#x", flags);
	r = mapping_open(&m, name, flags);
	if (r < 0)
		return r;
	return handle_make(out, m, flags & SHMQ_OBSERVE);
}

SHMQ_API int shmq_dup(struct shmq *q, struct shmq **out)
{
	KEEP_ERRNO;
	NO_CANCEL;

	if (!q || !out)
		return -EFAULT;
	*out = NULL;
	if (!q->map)
		return -ECHILD;
	if (!mapping_intact(q->map))
		return detail(-EBADF, "this process has closed the descriptor of the queue");
	/* relaxed: we hold a reference. */
	atomic_fetch_add_explicit(&q->map->users, 1, memory_order_relaxed);
	return handle_make(out, q->map, q->observer);
}

SHMQ_API void shmq_close(struct shmq *q)
{
	uint32_t i;
	KEEP_ERRNO;
	NO_CANCEL;

	if (!q)
		return;
	if (q->map) {
		if (!q->observer)
			participant_leave(q);
		for (i = 0; i < q->geo.nr_lanes; i++)
			if (q->view[i].watched)
				sys_unmap(q->view[i].watched,
					  q->geo.nr_segments * sizeof(struct watched));
		mapping_drop(q->map);
	}
	sys_unmap(q, sizeof *q);
}

/* ---- arguments -------------------------------------------------------------------- */

static int use_check(const struct shmq *q, int lane, int64_t timeout_ns)
{
	if (unlikely(!q))
		return -EFAULT;
	if (unlikely(!q->map))
		return -ECHILD;
	if (unlikely(q->observer))
		return -EROFS;
	if (unlikely(lane < 0 || (uint32_t)lane >= q->geo.nr_lanes))
		return -ECHRNG;
	if (unlikely(timeout_ns < SHMQ_FOREVER))
		return -ERANGE;
	return 0;
}

/* @n, or why the batch can not be: 0 if there is nothing to do. */
static int items_check(const struct iovec *items, int n, size_t longest)
{
	int i;

	if (n < 0)
		return -EINVAL;
	if (n > 0 && !items)
		return -EFAULT;
	for (i = 0; i < n; i++) {
		if (items[i].iov_len > longest)
			return -EMSGSIZE;
		if (!items[i].iov_base && items[i].iov_len)
			return -EFAULT;
	}
	return n;
}

static void role_add(struct shmq *q, uint32_t role)
{
	/* relaxed: only we write it. */
	uint32_t r = atomic_load_explicit(&q->self->role, memory_order_relaxed);

	if (unlikely(!(r & role)))
		atomic_store_explicit(&q->self->role, r | role, memory_order_relaxed);
}

/* ---- push --------------------------------------------------------------------------- */

struct push {
	struct shmq *q;
	const struct iovec *items;
	int lane, n;
};

static ssize_t push_attempt(void *arg)
{
	struct push *p = arg;
	int r = lane_push(p->q, (unsigned)p->lane, p->items, p->n);

	if (unlikely(r == 0))
		return -EAGAIN;
	if (likely(r > 0))
		wake(p->q, WAIT_ITEMS, (unsigned)p->lane, r);
	return r;
}

/* The lane was full at the first attempt. */
static int push_wait(struct shmq *q, int lane, const struct iovec *items, int n,
		     int64_t timeout_ns)
{
	struct push p = { .q = q, .items = items, .lane = lane, .n = n };
	ssize_t r = -EAGAIN;

	if (timeout_ns)
		r = wait_until(q, WAIT_ROOM, 1u << lane, timeout_ns, push_attempt, &p);
	if (r == -EAGAIN || r == -ETIMEDOUT)
		tally_add(&q->self->tally[lane].rejected, (uint64_t)n);
	return (int)r;
}

/* The short way was not open. */
static int push_long(struct shmq *q, unsigned lane, const struct iovec *item)
{
	int r = lane_push(q, lane, item, 1);

	recover_probe(q);
	return r;
}

SHMQ_API int shmq_push(struct shmq *q, int lane, const void *buf, size_t len,
		       int64_t timeout_ns)
{
	struct iovec item = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	int r;

	if (unlikely(!q || (uint32_t)lane >= q->usable_lanes || timeout_ns < SHMQ_FOREVER))
		return use_check(q, lane, timeout_ns);
	if (unlikely(len > q->geo.item_size))
		return -EMSGSIZE;
	if (unlikely(!buf && len))
		return -EFAULT;
	role_add(q, SHMQ_ROLE_PRODUCER);
	r = push_fast(q, (unsigned)lane, &item);
	if (unlikely(r == -EAGAIN))
		r = push_long(q, (unsigned)lane, &item);
	if (likely(r == 1)) {
		wake(q, WAIT_ITEMS, (unsigned)lane, 1);
		return 0;
	}
	if (r == 0)
		r = push_wait(q, lane, &item, 1, timeout_ns);
	return r > 0 ? 0 : r;
}

SHMQ_API int shmq_push_n(struct shmq *q, int lane, const struct iovec *items, int n,
			 int64_t timeout_ns)
{
	int r = use_check(q, lane, timeout_ns);

	if (r < 0)
		return r;
	r = items_check(items, n, q->geo.item_size);
	if (r <= 0)
		return r;
	role_add(q, SHMQ_ROLE_PRODUCER);
	r = (int)push_attempt(&(struct push){ .q = q, .items = items, .lane = lane, .n = n });
	if (r == -EAGAIN)
		r = push_wait(q, lane, items, n, timeout_ns);
	recover_probe(q);
	if (r > 0 && r < n)
		tally_add(&q->self->tally[lane].rejected, (uint64_t)(n - r));
	return r;
}

SHMQ_API int shmq_refused(const struct shmq *q, struct shmq_pressure *p)
{
	if (!q || !p)
		return -EFAULT;
	if (!q->map)
		return -ECHILD;
	if (!q->was_refused)
		return -ENODATA;
	*p = q->refused;
	return 0;
}

/* ---- pop ---------------------------------------------------------------------------- */

struct pop {
	struct shmq *q;
	struct iovec *items;
	struct shmq_info *infos;
	int lane, n;
	struct shmq_info info; /* of an item that did not fit */
};

static void info_fill(struct shmq *q, const struct taken *t, struct shmq_info *info)
{
	uint64_t now, pushed;

	*info = (struct shmq_info){ .len = t->len, .lane = (uint16_t)t->lane,
				    .attempts = (uint16_t)(t->attempts + 1) };
	if (!(q->geo.flags & SHMQ_STAMP))
		return;
	now = sys_monotonic_ns();
	pushed = atomic_load_explicit(stamp_of(q, slot_index(q, t->segment, t->ticket)),
				      memory_order_relaxed);
	info->wait_ns = now > pushed ? now - pushed : 0;
}

/* SHMQ_ANY_LANE, lanes from @i on: the next one, the dead-letter lane left out. */
static inline unsigned any_from(const struct shmq *q, unsigned i)
{
	return i == (unsigned)q->geo.dead_lane ? i + 1 : i;
}

static uint32_t lanes_of(const struct shmq *q, int lane)
{
	uint32_t all = (1u << q->geo.nr_lanes) - 1;

	if (lane >= 0)
		return 1u << lane;
	return q->geo.dead_lane == SHMQ_DROP ? all : all & ~(1u << q->geo.dead_lane);
}

/* Take from @lane, or from the highest lane that has something. As lane_take(). */
static inline int take(struct shmq *q, int lane, size_t room, struct taken *t)
{
	unsigned i = lane >= 0 ? (unsigned)lane : any_from(q, 0);
	unsigned end = lane >= 0 ? i + 1 : q->geo.nr_lanes;
	int r = 0, looks = 0;

	while (i < end && r == 0) {
		if (unlikely(++looks > RESTARTS_MAX))
			return -EBADMSG;
		r = lane_take(q, i, room, t);
		if (r == 1 && unlikely(t->attempts >= q->geo.max_attempts) &&
		    lane_dead_letter(q, t))
			r = 0; /* and once more */
		else
			i = any_from(q, i + 1);
	}
	return r;
}

/* take_fast() of @lane, or of the lanes from the highest on. */
static inline __attribute__((always_inline)) ssize_t pop_fast(struct shmq *q, int lane, void *buf, size_t room)
{
	unsigned i = lane >= 0 ? (unsigned)lane : any_from(q, 0);
	unsigned end = lane >= 0 ? i + 1 : q->geo.nr_lanes;
	ssize_t r;

	for (;;) {
		r = take_fast(q, i, buf, room);
		if (likely(r != -EAGAIN))
			break;
		i = any_from(q, i + 1);
		if (i >= end)
			break;
	}
	if (likely(r >= 0))
		wake(q, WAIT_ROOM, i, 1);
	return r;
}

/* One item into @item: 1; 0 empty; errors, with t->len and t->lane. */
static inline int pop_one(struct shmq *q, int lane, struct iovec *item,
			  struct shmq_info *info, struct taken *t)
{
	int r = take(q, lane, item->iov_len, t);

	if (r != 1)
		return r;
	copy_item(item->iov_base, t->payload, t->len);
	item->iov_len = t->len;
	if (info)
		info_fill(q, t, info);
	lane_finish(q, t);
	tally_add(&q->self->tally[t->lane].popped, 1);
	wake(q, WAIT_ROOM, t->lane, 1);
	return 1;
}

static ssize_t pop_attempt(void *arg)
{
	struct pop *p = arg;
	int i, r = 0;

	for (i = 0; i < p->n; i++) {
		struct iovec *item = &p->items[i];
		struct taken t = { 0 };
		ssize_t len = -EBUSY;

		if (likely(!p->infos))
			len = pop_fast(p->q, p->lane, item->iov_base, item->iov_len);
		if (likely(len >= 0)) {
			item->iov_len = (size_t)len;
			continue;
		}
		r = pop_one(p->q, p->lane, item, p->infos ? &p->infos[i] : NULL, &t);
		if (r != 1) {
			p->info = (struct shmq_info){ .len = t.len, .lane = (uint16_t)t.lane };
			break;
		}
	}
	if (i > 0)
		return i;
	return r == 0 ? -EAGAIN : r;
}

/* Nothing was there at the first attempt: wait. */
static ssize_t pop_wait(struct pop *p, int64_t timeout_ns)
{
	return timeout_ns ? wait_until(p->q, WAIT_ITEMS, lanes_of(p->q, p->lane), timeout_ns,
				       pop_attempt, p) : -EAGAIN;
}

SHMQ_API ssize_t shmq_pop(struct shmq *q, int lane, void *buf, size_t size,
			  struct shmq_info *info, int64_t timeout_ns)
{
	struct iovec item = { .iov_base = buf, .iov_len = size };
	struct taken t;
	ssize_t r;

	if (unlikely(!q || (lane != SHMQ_ANY_LANE && (uint32_t)lane >= q->usable_lanes) ||
		     !q->usable_lanes || timeout_ns < SHMQ_FOREVER))
		return use_check(q, lane == SHMQ_ANY_LANE ? 0 : lane, timeout_ns);
	if (unlikely(!buf && size))
		return -EFAULT;
	role_add(q, SHMQ_ROLE_CONSUMER);
	if (likely(!info)) {
		r = pop_fast(q, lane, buf, size);
		if (likely(r != -EBUSY && r != -EAGAIN))
			return r;
		if (r == -EAGAIN && !timeout_ns) {
			recover_probe(q);
			return r;
		}
	}
	r = pop_one(q, lane, &item, info, &t);
	recover_probe(q);
	if (likely(r == 1))
		return (ssize_t)item.iov_len;
	if (r == 0) {
		struct pop p = { .q = q, .items = &item, .infos = info, .lane = lane, .n = 1 };

		r = pop_wait(&p, timeout_ns);
		if (r == 1)
			return (ssize_t)item.iov_len;
		if (r == -EMSGSIZE && info)
			*info = p.info;
	} else if (r == -EMSGSIZE && info) {
		*info = (struct shmq_info){ .len = t.len, .lane = (uint16_t)t.lane };
	}
	return r;
}

SHMQ_API int shmq_pop_n(struct shmq *q, int lane, struct iovec *items,
			struct shmq_info *infos, int n, int64_t timeout_ns)
{
	struct pop p = { .q = q, .items = items, .infos = infos, .lane = lane, .n = n };
	int r = use_check(q, lane == SHMQ_ANY_LANE ? 0 : lane, timeout_ns);

	if (r < 0)
		return r;
	r = items_check(items, n, SIZE_MAX);
	if (r <= 0)
		return r;
	role_add(q, SHMQ_ROLE_CONSUMER);
	r = (int)pop_attempt(&p);
	recover_probe(q);
	if (r == -EAGAIN)
		r = (int)pop_wait(&p, timeout_ns);
	if (r == -EMSGSIZE && infos)
		infos[0] = p.info;
	return r;
}

/* ---- in place ------------------------------------------------------------------------ */

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
	if (timeout_ns)
		r = wait_until(q, WAIT_ROOM, 1u << lane, timeout_ns, reserve_attempt, &a);
	else
		r = reserve_attempt(&a);
	recover_probe(q);
	if (r == -EAGAIN || r == -ETIMEDOUT)
		tally_add(&q->self->tally[lane].rejected, 1);
	return r == 1 ? 0 : (int)r;
}

static int reserved_check(const struct shmq *q)
{
	int r = use_check(q, 0, SHMQ_NOWAIT);

	return r == 0 && q->record_use != RECORD_RESERVED ? -ENOENT : r;
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

struct peek {
	struct shmq *q;
	struct taken *taken;
	int lane;
};

static ssize_t peek_attempt(void *arg)
{
	struct peek *a = arg;
	int r = take(a->q, a->lane, SIZE_MAX, a->taken);

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
	r = wait_until(q, WAIT_ITEMS, lanes_of(q, lane), timeout_ns, peek_attempt, &a);
	recover_probe(q);
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
	recover_probe(q);
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
