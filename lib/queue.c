/* SPDX-License-Identifier: MIT */
/*
 * queue.c - the functions of shmq.h that make, use and free a handle: check the
 * arguments, call the rest. No algorithm here.
 *
 * The handle lies in memory of its own that a child reads as zero after fork(),
 * and the mappings are not inherited at all: a handle whose map is NULL is one
 * from before a fork, and is refused.
 */
#include "bell.h"
#include "fast.h"
#include "handle.h"
#include "participant.h"
#include "recover.h"
#include "region.h"
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
	/* acq_rel: the last user sees that the others are done. Memory of this process, so
	 * no edge of the ledger. */
	if (atomic_fetch_sub_explicit(&m->users, 1, memory_order_acq_rel) != 1)
		return;
	if (m->base)
		sys_unmap(m->base, m->bytes);
	if (mapping_intact(m)) /* or it is somebody else's by now */
		sys_close(m->fd);
	free(m);
}

static void prefault(void *base, uint64_t bytes, bool writable)
{
	volatile const char *p = base;

	if (sys_populate(base, bytes, writable) < 0)
		for (uint64_t i = 0; i < bytes; i += 4096)
			(void)p[i];
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
	r = (m->geo.flags & SHMQ_HUGE ? sys_map_huge : sys_map)(
		m->fd, m->bytes, !(flags & SHMQ_OBSERVE), &base);
	if (r < 0) {
		mapping_drop(m);
		return r;
	}
	m->base = base;
	if (flags & SHMQ_LOCK)
		r = sys_lock_memory(base, m->bytes);
	if (r < 0) {
		detail(r, "cannot lock %llu bytes in RAM: raise the limit (ulimit -l)",
		       (unsigned long long)m->bytes);
		mapping_drop(m);
		return r;
	}
	if (flags & SHMQ_PREFAULT)
		prefault(base, m->bytes, !(flags & SHMQ_OBSERVE));
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
		v->tally = q->self ? &q->self->tally[i] : NULL;
		v->gen = GEN_UNKNOWN;
		distance_init(&v->distance);
		v->start = v->idle = v->t0 = v->limit = v->near = h;
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
	q->wakeup = (struct wakeup *)(q->base + q->geo.wakeup);
	q->any_first = any_from(q, 0);
	q->short_max = (uint32_t)(q->geo.item_size < SHORT_ITEM ? q->geo.item_size : SHORT_ITEM);
	/* Longer ones, and those that are stamped, take a call. */
	q->short_end = q->geo.flags & SHMQ_STAMP ? 0 : q->short_max + 1;
	q->edge_mask = q->geo.slots < HEAD_LAG ? q->geo.slots - 1 : HEAD_LAG - 1;
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
	if (flags & ~(unsigned)(SHMQ_OBSERVE | SHMQ_ANY_OWNER | SHMQ_PREFAULT | SHMQ_LOCK |
				SHMQ_NO_SPIN))
		return detail(-EOPNOTSUPP, "unknown flags %#x", flags);
	r = mapping_open(&m, name, flags);
	if (r < 0)
		return r;
	r = handle_make(out, m, flags & SHMQ_OBSERVE);
	if (r < 0)
		return r;
	(*out)->no_spin = flags & SHMQ_NO_SPIN;
	/* What a predecessor held is there at once. Who has a handle already is nobody's
	 * successor: shmq_dup() does not ask after everybody. */
	if (!(*out)->observer)
		recover_all(*out, &(*out)->opened);
	return 0;
}

SHMQ_API int shmq_dup(struct shmq *q, struct shmq **out)
{
	int r;
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
	r = handle_make(out, q->map, q->observer);
	if (r == 0)
		(*out)->no_spin = q->no_spin;
	return r;
}

SHMQ_API void shmq_close(struct shmq *q)
{
	uint32_t i;
	KEEP_ERRNO;
	NO_CANCEL;

	if (!q)
		return;
	if (q->map) {
		bells_close(q);
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
	ssize_t r = timeout_ns ?
		wait_until(q, WAIT_ROOM, 1u << lane, timeout_ns, push_attempt, &p) :
		bell_quiet(q, WAIT_ROOM, 1u << lane, push_attempt, &p);

	if (r == -EAGAIN || r == -ETIMEDOUT)
		tally_add(&q->self->tally[lane].rejected, (uint64_t)n);
	return (int)r;
}

/* What a push of one item came to, before any waiting: @r as lane_push() returns it. */
static inline int push_end(struct shmq *q, int lane, const struct iovec *item, int r,
			   int64_t timeout_ns)
{
	if (likely(r == 1)) {
		wake(q, WAIT_ITEMS, (unsigned)lane, 1);
		return 0;
	}
	if (r == 0)
		r = push_wait(q, lane, item, 1, timeout_ns);
	return r > 0 ? 0 : r;
}

/* The ticket that was drawn is not the one that was expected: somebody else pushes too. */
static NOINLINE int push_raced(struct shmq *q, int lane, const void *buf, size_t len,
			       int64_t timeout_ns, uint64_t t)
{
	struct iovec item = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	int r;

	record_set(q, RECORD_EXACT, (unsigned)lane, 1, t);
	POINT("push_one:raced"); /* as push:exact */
	r = push_drawn(q, (unsigned)lane, t, &item, 1);
	if (r == 1)
		tally_add(&q->view[lane].tally->pushed, 1);
	return push_end(q, lane, &item, r, timeout_ns);
}

/* Not a short item, or the short way is not open. */
static NOINLINE int push_long(struct shmq *q, int lane, const void *buf, size_t len,
			      int64_t timeout_ns)
{
	struct iovec item = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	int r = use_check(q, lane, timeout_ns);
	struct view *v;
	uint64_t t;

	if (r < 0)
		return r;
	r = items_check(&item, 1, q->geo.item_size);
	if (r < 0)
		return r;
	role_add(q, SHMQ_ROLE_PRODUCER);
	v = view_of(q, (unsigned)lane);
	if (!(q->geo.flags & SHMQ_STAMP) && push_open(q, v, &t)) {
		struct push_plan p = push_prepare_one(q, v, t);
		uint64_t drawn = push_draw(q, v, (unsigned)lane, t);

		if (unlikely(drawn != t))
			return push_raced(q, lane, buf, len, timeout_ns, drawn);
		push_fill(q, (unsigned)lane, t, &p, buf, len);
		return push_end(q, lane, &item, 1, timeout_ns);
	}
	recover_probe(q);
	r = lane_push(q, (unsigned)lane, &item, 1);
	push_window(q, v);
	return push_end(q, lane, &item, r, timeout_ns);
}

/* Pushed; somebody sleeps. */
static NOINLINE int push_wake(struct shmq *q, int lane, uint32_t w)
{
	wake_slow(q, WAIT_ITEMS, (unsigned)lane, 1, w);
	return 0;
}

SHMQ_API int shmq_push(struct shmq *q, int lane, const void *buf, size_t len,
		       int64_t timeout_ns)
{
	struct push_plan p;
	struct view *v;
	uint64_t t, drawn;
	uint32_t w;

	if (unlikely(!q || (uint32_t)lane >= q->usable_lanes || !buf || len >= q->short_end ||
		     timeout_ns < SHMQ_FOREVER))
		return push_long(q, lane, buf, len, timeout_ns);
	v = view_of(q, (unsigned)lane);
	if (unlikely(!push_open(q, v, &t)))
		return push_long(q, lane, buf, len, timeout_ns);
	p = push_prepare_one(q, v, t);
	drawn = push_draw(q, v, (unsigned)lane, t);
	if (unlikely(drawn != t))
		return push_raced(q, lane, buf, len, timeout_ns, drawn);
	push_fill(q, (unsigned)lane, t, &p, buf, len);
	if (unlikely(sleepers(q, WAIT_ITEMS, &w)))
		return push_wake(q, lane, w);
	return 0;
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
	if (!q->refused.capacity)
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

/* One item into @item, as take(): 1; 0 empty; errors, with t->len and t->lane. */
static inline int pop_one(struct shmq *q, int lane, struct iovec *item,
			  struct shmq_info *info, bool probe, struct taken *t)
{
	int r = take(q, lane, item->iov_len, probe, t);

	if (r != 1)
		return r;
	copy_inline(item->iov_base, t->payload, t->len);
	item->iov_len = t->len;
	if (info)
		info_fill(q, t, info);
	lane_finish(q, t);
	tally_add(&q->self->tally[t->lane].popped, 1);
	wake(q, WAIT_ROOM, t->lane, 1);
	return 1;
}

/* take_short() of up to @n items of @lane: how many. */
static int pop_run(struct shmq *q, unsigned lane, struct iovec *items, int n)
{
	struct view *v = view_of(q, lane);
	int i;

	for (i = 0; i < n; i++) {
		uint64_t slot;
		ssize_t len = take_short(q, v, items[i].iov_base, items[i].iov_len, false, &slot);

		if (unlikely(len < 0))
			break;
		items[i].iov_len = (size_t)len;
		if (take_at_edge(q, slot))
			take_edge(q, lane, slot, true);
	}
	if (i > 0)
		wake(q, WAIT_ROOM, lane, i);
	return i;
}

/* The same of @lane, or of all lanes, the highest first. Those that were passed are not
 * looked at again: what comes into them now is as late as the whole batch. */
static int pop_runs(struct shmq *q, int lane, struct iovec *items, int n)
{
	unsigned i = lane >= 0 ? (unsigned)lane : q->any_first;
	int got = 0;

	for (;;) {
		unsigned next = any_from(q, i + 1);

		if (!lane_quiet(view_of(q, i)))
			got += pop_run(q, i, items + got, n - got);
		if (got == n || lane >= 0 || next >= q->geo.nr_lanes || !lane_idle(view_of(q, i)))
			return got;
		i = next;
	}
}

static ssize_t pop_attempt(void *arg)
{
	struct pop *p = arg;
	int i = 0, r = 0;

	for (;;) {
		struct taken t = { 0 };

		if (likely(!p->infos))
			i += pop_runs(p->q, p->lane, p->items + i, p->n - i);
		if (i == p->n)
			break;
		r = pop_one(p->q, p->lane, &p->items[i], p->infos ? &p->infos[i] : NULL,
			    false, &t);
		if (r != 1) {
			p->info = (struct shmq_info){ .len = t.len, .lane = (uint16_t)t.lane };
			break;
		}
		i++;
	}
	if (i > 0)
		return i;
	return r == 0 ? -EAGAIN : r;
}

/* Nothing was there at the first attempt: wait. */
static ssize_t pop_wait(struct pop *p, int64_t timeout_ns)
{
	uint32_t lanes = lanes_of(p->q, p->lane);

	return timeout_ns ? wait_until(p->q, WAIT_ITEMS, lanes, timeout_ns, pop_attempt, p) :
			    bell_quiet(p->q, WAIT_ITEMS, lanes, pop_attempt, p);
}

/* Not the first lane, not a short item, or the short way is not open. */
static NOINLINE ssize_t pop_long(struct shmq *q, int lane, void *buf, size_t size,
				 struct shmq_info *info, int64_t timeout_ns)
{
	struct iovec item = { .iov_base = buf, .iov_len = size };
	struct taken t;
	ssize_t r = use_check(q, lane == SHMQ_ANY_LANE ? 0 : lane, timeout_ns);

	if (r < 0)
		return r;
	if (!buf && size)
		return -EFAULT;
	role_add(q, SHMQ_ROLE_CONSUMER);
	r = pop_one(q, lane, &item, info, true, &t);
	if (likely(r == 1))
		return (ssize_t)item.iov_len;
	if (r == 0) {
		struct pop p = { .q = q, .items = &item, .infos = info, .lane = lane, .n = 1 };

		recover_probe(q);
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

/* An item of @len bytes was taken from slot @i; more is to be done now and then. */
static NOINLINE ssize_t pop_end(struct shmq *q, unsigned lane, uint64_t i, ssize_t len)
{
	if (take_at_edge(q, i))
		take_edge(q, lane, i, true);
	wake(q, WAIT_ROOM, lane, 1);
	return len;
}

/* The first lane has nothing, it seems: all lanes, the short way. */
static NOINLINE ssize_t pop_any(struct shmq *q, void *buf, size_t size, int64_t timeout_ns)
{
	unsigned i = q->any_first, next;
	uint32_t w;

	for (;; i = next) {
		struct view *v = view_of(q, i);

		if (!lane_quiet(v)) {
			uint64_t slot;
			ssize_t r = take_short(q, v, buf, size, true, &slot);

			if (likely(r >= 0)) {
				if (take_at_edge(q, slot) || sleepers(q, WAIT_ROOM, &w))
					return pop_end(q, i, slot, r);
				return r;
			}
		}
		next = any_from(q, i + 1);
		if (next >= q->usable_lanes || !lane_idle(v))
			return pop_long(q, SHMQ_ANY_LANE, buf, size, NULL, timeout_ns);
	}
}

SHMQ_API ssize_t shmq_pop(struct shmq *q, int lane, void *buf, size_t size,
			  struct shmq_info *info, int64_t timeout_ns)
{
	uint64_t slot;
	uint32_t w;
	unsigned i;
	ssize_t r;

	if (unlikely(!q || !buf || info || timeout_ns < SHMQ_FOREVER))
		return pop_long(q, lane, buf, size, info, timeout_ns);
	i = lane == SHMQ_ANY_LANE ? q->any_first : (unsigned)lane;
	if (unlikely(i >= q->usable_lanes))
		return pop_long(q, lane, buf, size, info, timeout_ns);
	r = take_short(q, view_of(q, i), buf, size, true, &slot);
	if (unlikely(r < 0))
		return lane == SHMQ_ANY_LANE ? pop_any(q, buf, size, timeout_ns) :
					       pop_long(q, lane, buf, size, info, timeout_ns);
	if (unlikely(take_at_edge(q, slot) || sleepers(q, WAIT_ROOM, &w)))
		return pop_end(q, i, slot, r);
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
