/* SPDX-License-Identifier: MIT */
/*
 * test_sched.c - every interleaving of a few calls on tiny queues, with few
 * preemptions; with nobody, one participant killed, or one stopped, at every access.
 *
 * The library is compiled so that each shared access asks the scheduler (access.h).
 * After each execution the dead are recovered and the queue is drained, and then all
 * that was seen must be explained by a sequential queue (history.h); then each lane
 * takes its capacity of items again, exactly, and nothing is held, unfinished or
 * owned. What fails is printed with the line that repeats it:
 *
 *	SHMQ_SCHED=scenario:death:2:17s1,30k0 ./test_sched
 *
 * A normal run visits everything within the bounds of the table below; SHMQ_LONG=1
 * goes on with one preemption more, for MORE_NS each: what was not all says so.
 */
#include "../common.h"
#include "history.h"
#include "sched.h"
#include "sim.h"

#include "lane.h"
#include "queue.h"
#include "segment.h"

#define OPS 3
#define BATCH 8
#define LANES HISTORY_LANES
#define CHECKER SCHED_PARTICIPANTS /* index of its handle and thread */
#define NOBODY SLOT_OWNER_MAX	   /* no participant has this index */
#define LAST_ID 250		   /* of items that only show that there is room */
#define WAIT_NS INT64_C(1000000000)
#define MORE_NS (5 * SECOND)

enum call {
	NOTHING, PUSH, PUSH_2, PUSH_8, PUSH_WAIT, POP, POP_2, POP_ANY, POP_ANY_2, POP_WAIT,
	POP_ANY_WAIT, RESERVE, COMMIT, ABORT, PEEK, RELEASE, REQUEUE, RECOVER, JOIN, REJOIN,
	LEAVE,
};

/* Or-ed to a call. */
enum {
	LANE_1 = 0x100, /* not lane 0 */
	INFO = 0x200,   /* a pop asks for an info, as those that are not short always do */
};

struct op {
	enum call call;
	int lane;
	bool info;
};

enum mode { NO_FAULT, DEATH, STOP, TWO_DEATHS, MODES };
static const char *const mode_names[] = { "none", "death", "stop", "deaths" };

struct scenario {
	const char *name;
	uint32_t slots; /* of a segment: 1, 2, 4 or 8 */
	int lanes;
	uint64_t capacity;
	int laps;     /* items that went through each lane before, by each handle in turn */
	int fill;     /* items that wait in lane 0; negative: in lane 1, and each handle has
	               * seen that lane 0 is empty */
	int segments; /* so many and no more: then it may be full for want of one */
	uint32_t max_attempts; /* 0: items are never moved; else to lane 1 */
	int calls[SCHED_PARTICIPANTS][OPS];
	int preemptions[MODES]; /* -1: not at all */
};

/*
 * Shape: slots, lanes, capacity, laps, fill, segments, max_attempts. Preemptions:
 * undisturbed, with a death, with a stop, with two deaths.
 */
static const struct scenario scenarios[] = {
	/* pushes compete for the last places */
	{ "push-push", 2, 1, 1, 0, 0, 0, 0, { { PUSH }, { PUSH } }, { 3, 2, 2, 1 } },
	{ "push2-push2", 2, 1, 3, 1, 0, 0, 0, { { PUSH_2 }, { PUSH_2 } }, { 3, 2, 2, 1 } },
	{ "push-push-push", 1, 1, 2, 0, 0, 0, 0,
	  { { PUSH }, { PUSH }, { PUSH } }, { 2, 1, 1, 0 } },
	/* pops for the last items */
	{ "pop-pop", 2, 1, 2, 1, 2, 0, 0, { { POP, POP }, { POP } }, { 3, 2, 2, 1 } },
	{ "pop2-pop2", 2, 1, 3, 1, 3, 0, 0, { { POP_2 }, { POP_2 } }, { 3, 2, 2, 1 } },
	/* both */
	{ "push-pop", 2, 1, 1, 1, 0, 0, 0, { { PUSH }, { POP, POP } }, { 3, 3, 2, 1 } },
	{ "full-pop", 1, 1, 1, 0, 1, 0, 0, { { PUSH, PUSH }, { POP } }, { 3, 3, 2, 1 } },
	{ "push2-pop2", 2, 1, 2, 1, 0, 0, 0, { { PUSH_2 }, { POP_2 } }, { 3, 3, 2, 1 } },
	{ "push-push-pop", 2, 1, 2, 1, 0, 0, 0,
	  { { PUSH }, { PUSH }, { POP } }, { 3, 2, 2, 1 } },
	{ "push-pop-pop", 2, 1, 2, 1, 1, 0, 0,
	  { { PUSH }, { POP }, { POP } }, { 3, 2, 2, 1 } },
	{ "push2-push-pop", 4, 1, 3, 1, 0, 0, 0,
	  { { PUSH_2 }, { PUSH }, { POP } }, { 3, 2, 2, -1 } },
	{ "push-pop-of-three", 1, 1, 2, 0, 1, 0, 0,
	  { { PUSH, POP }, { PUSH, POP }, { POP, PUSH } }, { 2, 1, 1, -1 } },
	/* far from the limit, by handles that know where they are: the short ways */
	{ "short-push-pop", 8, 1, 14, 3, 1, 0, 0,
	  { { PUSH, PUSH }, { POP, POP } }, { 3, 3, 2, 1 } },
	{ "short-push-push", 8, 1, 14, 3, 0, 0, 0,
	  { { PUSH, PUSH }, { PUSH } }, { 3, 3, 2, 1 } },
	{ "short-push-push-pop", 8, 1, 16, 4, 1, 0, 0,
	  { { PUSH }, { PUSH }, { POP, POP } }, { 3, 2, 2, 1 } },
	{ "short-recover", 8, 1, 16, 4, 1, 0, 0,
	  { { PUSH }, { PUSH }, { RECOVER, POP } }, { 1, 2, 0, 1 } },
	{ "short-pop-pop", 8, 1, 16, 4, 3, 0, 0,
	  { { POP, POP }, { POP, POP }, { PUSH } }, { 2, 1, 1, 0 } },
	{ "short-near", 8, 1, 14, 3, 1, 0, 0,
	  { { PUSH, PUSH, PUSH }, { POP, POP, POP } }, { 2, 2, 1, 0 } },
	{ "short-hole-pop2", 8, 1, 16, 4, 1, 0, 0,
	  { { PUSH }, { PUSH_2 }, { POP, POP_2 } }, { 2, 2, 2, 0 } },
	{ "short-pop2-pop", 8, 1, 16, 4, 4, 0, 0,
	  { { POP, POP_2 }, { POP, POP } }, { 3, 2, 2, 1 } },
	{ "short-any", 8, 2, 14, 3, 2, 0, 0,
	  { { PUSH, PUSH | LANE_1 }, { POP_ANY, POP_ANY, POP_ANY } }, { 2, 2, 1, 0 } },
	{ "short-lower", 8, 2, 14, 3, -3, 0, 0,
	  { { PUSH, PUSH | LANE_1 }, { POP_ANY, POP_ANY, POP_ANY } }, { 3, 2, 2, 1 } },
	{ "short-lower-pop", 8, 2, 14, 3, -3, 0, 0,
	  { { PUSH, POP }, { POP_ANY, POP_ANY, POP_ANY }, { POP_ANY } }, { 2, 1, 1, 0 } },
	{ "short-lower-batch", 8, 2, 14, 3, -3, 0, 0,
	  { { PUSH, PUSH | LANE_1 }, { POP_ANY, POP_ANY_2, POP_ANY_2 } }, { 3, 2, 2, 1 } },
	{ "short-lower-requeue", 8, 2, 14, 3, -2, 0, 0,
	  { { PUSH, PEEK, REQUEUE }, { POP_ANY, POP_ANY_2, POP_ANY } }, { 3, 2, 2, 0 } },
	/* an item comes back and a newer one behind it, where the queue is about empty */
	{ "short-requeue-push", 8, 1, 14, 3, 2, 0, 0,
	  { { PEEK, REQUEUE, PUSH }, { POP, POP } }, { 3, 2, 2, 0 } },
	{ "short-requeue-pop2", 8, 1, 14, 3, 3, 0, 0,
	  { { PEEK, REQUEUE, PUSH }, { POP, POP_2 } }, { 3, 2, 2, 0 } },
	{ "short-requeue-pops", 8, 1, 14, 3, 3, 0, 0,
	  { { PEEK, REQUEUE, PUSH }, { POP, POP }, { POP, POP } }, { 2, 1, 1, 0 } },
	{ "short-abort", 8, 1, 14, 3, 1, 0, 0,
	  { { RESERVE, ABORT, PUSH }, { PUSH }, { POP, POP } }, { 2, 1, 1, 0 } },
	{ "short-commit", 8, 1, 14, 3, 1, 0, 0,
	  { { RESERVE, COMMIT }, { PUSH, PUSH }, { POP, POP, POP } }, { 2, 1, 1, 0 } },
	{ "short-any-requeue", 8, 2, 14, 3, 2, 0, 0,
	  { { PEEK, REQUEUE, PUSH | LANE_1 }, { POP_ANY, POP_ANY, POP_ANY } }, { 2, 2, 1, 0 } },
	{ "short-info", 8, 1, 14, 3, 1, 0, 0,
	  { { PUSH, PUSH }, { POP | INFO, POP_2 | INFO } }, { 3, 3, 2, 1 } },
	{ "short-peek-push", 8, 1, 14, 3, 1, 0, 0,
	  { { PUSH, PUSH }, { PEEK, RELEASE, POP } }, { 3, 2, 2, 1 } },
	{ "short-peek-pop", 8, 1, 16, 4, 3, 0, 0,
	  { { PEEK, RELEASE, POP | INFO }, { POP, PEEK, RELEASE }, { PUSH } }, { 2, 1, 1, 0 } },
	{ "short-requeue-peek", 8, 1, 14, 3, 3, 0, 0,
	  { { PEEK, REQUEUE, PUSH }, { POP, PEEK, REQUEUE }, { POP | INFO, POP } },
	  { 2, 1, 1, 0 } },
	{ "short-info-any-requeue", 8, 2, 14, 3, 2, 0, 0,
	  { { PEEK, REQUEUE, PUSH | LANE_1 },
	    { POP_ANY | INFO, POP_ANY | INFO, POP_ANY | INFO } }, { 2, 2, 1, 0 } },
	/* more is drawn than there is room for */
	{ "overdraw", 8, 1, 9, 3, 0, 0, 0,
	  { { PUSH, PUSH }, { PUSH_8, PUSH_8, POP } }, { 2, 2, 2, 0 } },
	{ "overdraw-pop", 8, 1, 11, 4, 0, 0, 0,
	  { { PUSH }, { PUSH_8, PUSH_8 }, { POP } }, { 2, 1, 1, -1 } },
	/* an item overtakes a hole while another look passes both */
	{ "empty", 4, 1, 2, 1, 0, 0, 0,
	  { { PUSH, PUSH }, { PUSH, POP }, { POP } }, { 3, 1, 1, -1 } },
	/* lanes */
	{ "any-lane", 2, 2, 1, 1, 0, 0, 0,
	  { { PUSH | LANE_1, PUSH }, { POP_ANY, POP_ANY } }, { 2, 2, 2, 0 } },
	/* in place */
	{ "reserve-push-pop", 2, 1, 2, 1, 0, 0, 0,
	  { { RESERVE, COMMIT }, { PUSH }, { POP } }, { 2, 1, 1, 0 } },
	{ "abort-push", 2, 1, 1, 1, 0, 0, 0,
	  { { RESERVE, ABORT }, { PUSH, PUSH } }, { 3, 2, 2, 1 } },
	{ "release-push", 1, 1, 1, 1, 1, 0, 0,
	  { { PEEK, RELEASE }, { PUSH, PUSH } }, { 3, 2, 2, 1 } },
	{ "requeue-pop", 2, 1, 2, 1, 2, 0, 0,
	  { { PEEK, REQUEUE }, { POP, POP } }, { 3, 2, 2, 1 } },
	{ "requeue-pop-push", 2, 1, 1, 0, 1, 0, 0,
	  { { PEEK, REQUEUE }, { POP, POP }, { PUSH } }, { 2, 1, 1, 0 } },
	/* recovery, by several and of those who recover */
	{ "push-recover", 2, 1, 1, 1, 0, 0, 0,
	  { { PUSH }, { RECOVER, PUSH }, { RECOVER } }, { 0, 2, 0, 1 } },
	{ "pop-recover", 2, 1, 1, 1, 1, 0, 0,
	  { { POP }, { RECOVER, POP }, { RECOVER } }, { 0, 2, 0, 1 } },
	{ "push2-push-recover", 2, 1, 3, 1, 0, 0, 0,
	  { { PUSH_2 }, { PUSH }, { RECOVER, POP } }, { 1, 2, 0, 1 } },
	{ "pop-pop-recover", 1, 1, 2, 1, 2, 0, 0,
	  { { POP }, { POP }, { RECOVER, PUSH } }, { 1, 2, 0, 1 } },
	/* sleeping: nobody may wait for time to pass */
	{ "wait-push", 2, 1, 1, 1, 0, 0, 0, { { POP_WAIT }, { PUSH } }, { 3, 2, 2, 1 } },
	{ "wait-wait-push2", 2, 1, 2, 1, 0, 0, 0,
	  { { POP_WAIT }, { POP_WAIT }, { PUSH_2 } }, { 2, 1, 1, -1 } },
	{ "wait-wait-push-push", 2, 1, 2, 1, 0, 0, 0,
	  { { POP_WAIT }, { POP_WAIT }, { PUSH, PUSH } }, { 2, 1, 1, -1 } },
	/* Somebody is woken for an item that is gone, and asked to be woken again, when two
	 * more come. */
	{ "wait-wait-push-pop-push2", 2, 1, 3, 1, 0, 0, 0,
	  { { POP_WAIT }, { POP_WAIT }, { PUSH, POP, PUSH_2 } }, { 2, 1, 1, -1 } },
	{ "full-wait-pop", 2, 1, 1, 1, 1, 0, 0, { { PUSH_WAIT }, { POP } }, { 3, 2, 2, 1 } },
	{ "full-wait-wait-pop-pop", 2, 1, 2, 1, 2, 0, 0,
	  { { PUSH_WAIT }, { PUSH_WAIT }, { POP, POP } }, { 2, 1, 1, -1 } },
	/* Who waits for any lane is woken by one and takes from the other. Preempted, it may
	 * take both: whoever waits for the other then does so rightly. */
	{ "any-wait", 2, 2, 2, 1, 0, 0, 0,
	  { { POP_ANY_WAIT }, { POP_WAIT | LANE_1 }, { PUSH | LANE_1, PUSH } },
	  { 0, 0, -1, -1 } },
	{ "any-wait-of-three", 2, 2, 2, 1, 0, 0, 0,
	  { { POP_ANY_WAIT }, { POP_WAIT | LANE_1 }, { PUSH | LANE_1, PUSH, PUSH | LANE_1 } },
	  { 2, 1, 1, -1 } },
	{ "any-wait-any-wait", 2, 2, 2, 1, 0, 0, 0,
	  { { POP_ANY_WAIT }, { POP_ANY_WAIT }, { PUSH | LANE_1, PUSH } }, { 2, 1, 1, -1 } },
	/* records come and go */
	{ "join-join", 2, 1, 1, 0, 0, 0, 0,
	  { { JOIN, LEAVE }, { JOIN, LEAVE } }, { 3, 2, 2, 1 } },
	{ "push-leave-join-pop", 2, 1, 1, 1, 0, 0, 0,
	  { { PUSH, LEAVE }, { JOIN, POP } }, { 2, 2, 1, 1 } },
	{ "pop-recover-rejoin", 2, 1, 2, 1, 2, 0, 0,
	  { { POP }, { RECOVER }, { REJOIN, PEEK, RELEASE } }, { 0, 2, 0, 0 } },
	{ "push-recover-rejoin", 2, 1, 2, 1, 0, 0, 0,
	  { { PUSH }, { RECOVER }, { REJOIN, RESERVE, COMMIT } }, { 0, 2, 0, 0 } },
	{ "dead-letter-rejoin", 2, 2, 2, 1, 1, 0, 1,
	  { { PEEK, REQUEUE, POP }, { REJOIN, PUSH }, { POP } }, { 0, 1, 0, 0 } },
	/* segments used again at once */
	{ "scarce", 1, 1, 2, 2, 0, 2, 0,
	  { { PUSH, PUSH }, { POP, POP }, { PUSH } }, { 2, 1, 1, 0 } },
	{ "scarcer", 2, 1, 2, 3, 0, 1, 0,
	  { { PUSH, PUSH }, { POP, POP } }, { 3, 2, 2, 1 } },
	/* dead letters */
	{ "dead-letter-pop", 2, 2, 1, 1, 1, 0, 1,
	  { { PEEK, REQUEUE }, { POP, POP } }, { 2, 2, 2, 1 } },
	{ "dead-letter-any", 2, 2, 1, 1, 1, 0, 1,
	  { { PEEK, REQUEUE, POP }, { POP_ANY } }, { 2, 2, 2, 1 } },
	{ "dead-letter-push", 1, 2, 1, 1, 1, 0, 1,
	  { { PEEK, REQUEUE }, { POP }, { PUSH | LANE_1 } }, { 2, 1, 1, 0 } },
	{ "dead-letter-recover", 2, 2, 1, 1, 1, 0, 1,
	  { { PEEK, REQUEUE, POP }, { RECOVER, POP_ANY }, { RECOVER } }, { 0, 1, 0, 0 } },
};

static bool short_way(const struct scenario *s)
{
	return strncmp(s->name, "short-", 6) == 0;
}

static struct op op_of(const struct scenario *s, int self, int k)
{
	int c = s->calls[self][k];

	return (struct op){ (enum call)(c & ~(LANE_1 | INFO)), (c & LANE_1) != 0,
			    (c & INFO) || !short_way(s) };
}

static bool any_lane(const struct op *op)
{
	return op->call == POP_ANY || op->call == POP_ANY_2 || op->call == POP_ANY_WAIT;
}

/* ---- one execution ---------------------------------------------------------------- */

struct done {
	int result;
	uint32_t from, to; /* 0: not begun, not returned */
	uint8_t id[BATCH], attempts[BATCH], lane[BATCH];
};

static const struct scenario *sc;
static int nr;				 /* participants */
static struct shmq *handle[CHECKER + 1]; /* at their first use */
static struct shmq *now_open[CHECKER + 1], *joined[CHECKER + 1];
static struct done done[CHECKER][OPS];
static struct shmq_lease lease[CHECKER];
static const char *anomaly; /* something that no history is needed to see */

struct item {
	uint8_t id, more[15];
};

static size_t item_of(struct item *it, uint8_t id)
{
	memset(it, id, sizeof *it);
	return 1 + id % sizeof *it;
}

static void item_check(const struct item *it, ssize_t len)
{
	struct item want;

	if ((size_t)len != item_of(&want, it->id) || memcmp(it, &want, (size_t)len))
		anomaly = "an item is not what was pushed";
}

static uint8_t id_of(int self, int k, int i)
{
	return (uint8_t)(32 * (self + 1) + BATCH * k + i);
}

static void op_push(struct shmq *q, int self, int k, const struct op *op, int n)
{
	struct item it[BATCH];
	struct iovec v[BATCH];
	struct done *d = &done[self][k];
	int i;

	for (i = 0; i < n; i++) {
		d->id[i] = id_of(self, k, i);
		v[i] = (struct iovec){ &it[i], item_of(&it[i], d->id[i]) };
	}
	if (n > 1)
		d->result = shmq_push_n(q, op->lane, v, n, SHMQ_NOWAIT);
	else
		d->result = shmq_push(q, op->lane, &it[0], v[0].iov_len,
				      op->call == PUSH_WAIT ? WAIT_NS : SHMQ_NOWAIT);
	if (n == 1 && d->result == 0)
		d->result = 1;
}

/* The lane that an item was pushed to. */
static int home_of(uint8_t id)
{
	return id < 32 ? sc->fill < 0 : op_of(sc, id / 32 - 1, id % 32 / BATCH).lane;
}

static void op_pop(struct shmq *q, struct done *d, const struct op *op, int n)
{
	struct item it[BATCH];
	struct iovec v[BATCH];
	struct shmq_info info[BATCH];
	struct shmq_info *infos = op->info ? info : NULL;
	int i, lane = any_lane(op) ? SHMQ_ANY_LANE : op->lane;

	for (i = 0; i < n; i++)
		v[i] = (struct iovec){ &it[i], sizeof it[i] };
	if (n > 1) {
		d->result = shmq_pop_n(q, lane, v, infos, n, SHMQ_NOWAIT);
	} else {
		ssize_t len = shmq_pop(q, lane, &it[0], sizeof it[0], infos,
				       op->call == POP_WAIT || op->call == POP_ANY_WAIT ?
					       WAIT_NS : SHMQ_NOWAIT);

		v[0].iov_len = (size_t)len;
		d->result = len < 0 ? (int)len : 1;
	}
	for (i = 0; i < d->result; i++) {
		item_check(&it[i], (ssize_t)v[i].iov_len);
		d->id[i] = it[i].id;
		d->lane[i] = (uint8_t)(infos ? info[i].lane : home_of(it[i].id));
		d->attempts[i] = (uint8_t)(infos ? info[i].attempts : 0);
	}
}

static void op_commit(struct shmq *q, int self, int k, const struct op *op)
{
	struct done *d = &done[self][k];

	d->id[0] = done[self][k - 1].id[0];
	if (done[self][k - 1].result != 0)
		d->result = op->call == COMMIT ? shmq_commit(q, 1) : shmq_abort(q);
	else if (op->call == COMMIT)
		d->result = shmq_commit(q, item_of(&(struct item){ 0 }, d->id[0]));
	else
		d->result = shmq_abort(q);
	if (d->result != (done[self][k - 1].result ? -ENOENT : 0))
		anomaly = "commit or abort";
}

static void op_reserve(struct shmq *q, int self, int k, const struct op *op)
{
	struct done *d = &done[self][k];
	struct item it;
	void *buf;

	d->id[0] = id_of(self, k, 0);
	d->result = shmq_reserve(q, op->lane, &buf, SHMQ_NOWAIT);
	if (d->result == 0)
		memcpy(buf, &it, item_of(&it, d->id[0]));
}

static void op_peek(struct shmq *q, int self, int k, const struct op *op)
{
	struct done *d = &done[self][k];

	d->result = shmq_peek(q, op->lane, &lease[self], SHMQ_NOWAIT);
	if (d->result < 0)
		return;
	item_check(lease[self].data, (ssize_t)lease[self].info.len);
	d->id[0] = *(const uint8_t *)lease[self].data;
	d->attempts[0] = (uint8_t)lease[self].info.attempts;
}

static void op_unpeek(struct shmq *q, int self, int k, const struct op *op)
{
	struct done *d = &done[self][k];

	if (done[self][k - 1].result != 0)
		return;
	d->id[0] = done[self][k - 1].id[0];
	item_check(lease[self].data, (ssize_t)lease[self].info.len);
	d->result = op->call == RELEASE ? shmq_release(q, &lease[self]) :
					  shmq_requeue(q, &lease[self]);
	if (d->result)
		anomaly = "release or requeue";
}

static bool has_call(enum call call)
{
	int i, k;

	for (i = 0; i < nr; i++)
		for (k = 0; k < OPS; k++)
			if (op_of(sc, i, k).call == call)
				return true;
	return false;
}

static void op_run(int self, int k)
{
	const struct op which = op_of(sc, self, k), *op = &which;
	struct done *d = &done[self][k];
	struct shmq *q = joined[self] ? joined[self] : now_open[self];

	switch (op->call) {
	case NOTHING:
		break;
	case PUSH:
	case PUSH_WAIT:
		op_push(q, self, k, op, 1);
		break;
	case PUSH_2:
		op_push(q, self, k, op, 2);
		break;
	case PUSH_8:
		op_push(q, self, k, op, 8);
		break;
	case POP:
	case POP_ANY:
	case POP_WAIT:
	case POP_ANY_WAIT:
		op_pop(q, d, op, 1);
		break;
	case POP_2:
	case POP_ANY_2:
		op_pop(q, d, op, 2);
		break;
	case RESERVE:
		op_reserve(q, self, k, op);
		break;
	case COMMIT:
	case ABORT:
		op_commit(q, self, k, op);
		break;
	case PEEK:
		op_peek(q, self, k, op);
		break;
	case RELEASE:
	case REQUEUE:
		op_unpeek(q, self, k, op);
		break;
	case RECOVER:
		d->result = shmq_recover(q, NULL);
		break;
	case JOIN:
	case REJOIN:
		d->result = shmq_dup(handle[CHECKER], &joined[self]);
		if (d->result && d->result != -EUSERS)
			anomaly = "dup";
		break;
	case LEAVE:
		shmq_close(q);
		if (!joined[self])
			now_open[self] = NULL;
		joined[self] = NULL;
		break;
	}
}

static void participant(int self)
{
	int k;

	for (k = 0; k < OPS && sc->calls[self][k]; k++) {
		if (k)
			sched_between();
		done[self][k].from = sched_time();
		sched_say("begins call %d", k);
		op_run(self, k);
		done[self][k].to = sched_time();
		sched_say("returns %d item %d", done[self][k].result, done[self][k].id[0]);
	}
}

/* ---- what it means -------------------------------------------------------------------- */

static bool nothing(int r)
{
	return r == -EAGAIN || r == -ETIMEDOUT;
}

/* A push takes its place and appears in it, at once for all that pushes and pops can
 * tell. A reservation that came in between tells the two apart. */
static void tell_item(int self, struct event e)
{
	if (has_call(RESERVE)) {
		e.what = H_RESERVE;
		history_add(self, e);
		e.what = H_COMMIT;
	}
	history_add(self, e);
}

static void tell_push(int self, const struct op *op, const struct done *d, struct event e,
		      int n)
{
	int i;

	history_push(self, op->lane, n, e.from, e.maybe ? HISTORY_NEVER : e.to);
	e.what = H_PUSH;
	for (i = 0; i < n && (e.maybe || i < d->result); i++) {
		e.id = d->id[i];
		tell_item(self, e);
	}
	if (e.maybe || i == n)
		return;
	if (d->result < 0 && !nothing(d->result))
		anomaly = "an error of push";
	e.what = H_FULL;
	e.id = 0;
	if (!sc->segments)
		history_add(self, e);
}

static void tell_pop(int self, const struct op *op, const struct done *d, struct event e,
		     int n)
{
	int told = any_lane(op) ? 0 : op->lane, i, lane, last;

	if (e.maybe) {
		e.what = H_DIED_IN_POP;
		e.lane = any_lane(op) ? HISTORY_LANES : (uint8_t)op->lane;
		for (i = 0; i < n; i++)
			history_add(self, e);
		return;
	}
	if (d->result < 0 && !nothing(d->result))
		anomaly = "an error of pop";
	for (i = 0; i < n; i++) {
		bool got = i < d->result;

		/* A batch does not go back to higher lanes, unless to find nothing at all. */
		last = got ? d->lane[i] : any_lane(op) ? sc->lanes : op->lane + 1;
		for (lane = got ? told : any_lane(op) ? 0 : op->lane; lane < last; lane++) {
			if (any_lane(op) && sc->max_attempts && lane == 1)
				continue; /* the dead-letter lane */
			e.what = H_EMPTY;
			e.lane = (uint8_t)lane;
			history_add(self, e);
		}
		if (!got)
			break;
		told = last > told ? last : told;
		e.what = H_POP;
		e.lane = d->lane[i];
		e.id = d->id[i];
		e.attempts = d->attempts[i];
		history_add(self, e);
		e.id = e.attempts = 0;
	}
}

static void tell_place(int self, int k, const struct op *op, const struct done *d,
		       struct event e)
{
	e.id = d->id[0];
	e.attempts = d->attempts[0];
	switch (op->call) {
	case RESERVE:
		history_push(self, op->lane, 1, e.from, e.maybe ? HISTORY_NEVER : e.to);
		e.what = d->result == 0 ? H_RESERVE : H_FULL;
		if (e.maybe || (d->result && sc->segments))
			return;
		if (d->result && !nothing(d->result))
			anomaly = "an error of reserve";
		break;
	case PEEK:
		e.what = e.maybe ? H_DIED_IN_PEEK : d->result == 0 ? H_PEEK : H_EMPTY;
		if (!e.maybe && d->result && !nothing(d->result))
			anomaly = "an error of peek";
		break;
	default:
		if (done[self][k - 1].result)
			return;
		e.id = done[self][k - 1].id[0];
		e.what = op->call == COMMIT  ? H_COMMIT :
			 op->call == ABORT   ? H_ABORT :
			 op->call == RELEASE ? H_RELEASE :
					       H_REQUEUE;
	}
	history_add(self, e);
}

static void tell(int self, int k)
{
	const struct op which = op_of(sc, self, k), *op = &which;
	const struct done *d = &done[self][k];
	struct event e = { .lane = (uint8_t)op->lane, .from = d->from, .to = d->to };

	if (!d->from)
		return;
	if (!d->to) {
		e.maybe = true;
		e.to = sched_killed_at(self);
	}
	switch (op->call) {
	case PUSH:
	case PUSH_WAIT:
		tell_push(self, op, d, e, 1);
		break;
	case PUSH_2:
		tell_push(self, op, d, e, 2);
		break;
	case PUSH_8:
		tell_push(self, op, d, e, 8);
		break;
	case POP:
	case POP_ANY:
	case POP_WAIT:
	case POP_ANY_WAIT:
		tell_pop(self, op, d, e, 1);
		break;
	case POP_2:
	case POP_ANY_2:
		tell_pop(self, op, d, e, 2);
		break;
	case NOTHING:
	case RECOVER:
	case JOIN:
	case REJOIN:
	case LEAVE:
		break;
	default:
		tell_place(self, k, op, d, e);
	}
}

/* All that the participants saw, and that what is there waits in its lane. */
static void tell_all(void)
{
	uint64_t capacity[LANES];
	int i, k;

	for (i = 0; i < sc->lanes; i++)
		capacity[i] = sc->capacity;
	history_begin(nr + 2, sc->lanes, capacity);
	if (sc->max_attempts)
		history_dead_lane(1, (int)sc->max_attempts);
	for (i = 0; i < abs(sc->fill); i++) /* the thread behind the others: before all */
		history_add(nr, (struct event){ .what = H_PUSH, .lane = sc->fill < 0,
						.id = (uint8_t)(i + 1), .from = 0, .to = 1 });
	for (i = 0; i < nr; i++) {
		for (k = 0; k < OPS; k++)
			tell(i, k);
		if (sched_killed(i))
			history_died(i, sched_killed_at(i));
	}
}

/* ---- the state between executions ------------------------------------------------------- */

static struct {
	uint32_t users; /* of the mapping */
	char *low;	/* the region without payload */
	struct item *payload;
} kept;

static uint64_t nr_slots(void)
{
	return (uint64_t)handle[CHECKER]->geo.nr_segments << handle[CHECKER]->geo.slots_shift;
}

static void keep(void)
{
	struct shmq *q = handle[CHECKER];
	uint64_t i;

	sim_keep();
	kept.users = atomic_load(&q->map->users);
	kept.low = malloc(q->geo.payload);
	kept.payload = malloc(nr_slots() * sizeof *kept.payload);
	must(kept.low && kept.payload);
	memcpy(kept.low, q->base, q->geo.payload);
	for (i = 0; i < nr_slots(); i++)
		memcpy(&kept.payload[i], payload_of(q, i), sizeof *kept.payload);
}

static void restore(void)
{
	struct shmq *q = handle[CHECKER];
	uint64_t i;

	sim_restore();
	atomic_store(&q->map->users, kept.users);
	memcpy(q->base, kept.low, q->geo.payload);
	for (i = 0; i < nr_slots(); i++)
		memcpy(payload_of(q, i), &kept.payload[i], sizeof *kept.payload);
	memcpy(now_open, handle, sizeof handle);
	memset(joined, 0, sizeof joined);
	memset(done, 0, sizeof done);
	anomaly = NULL;
}

/* What recovery and stat read of a participant counts as shared, the rest as private. */
static int word_of(const volatile void *p)
{
	const struct shmq *q = handle[CHECKER];
	uint64_t off = (uint64_t)((const volatile char *)p - q->base), in;

	if (off >= q->geo.bytes)
		return -1;
	if (off >= q->geo.payload)
		return (int)(1 + q->geo.payload / 8 +
			     (off - q->geo.payload) / q->geo.slot_bytes);
	if (off >= q->geo.participants && off < q->geo.lanes) {
		in = (off - q->geo.participants) % sizeof(struct participant);
		if (in != offsetof(struct participant, state) &&
		    in != offsetof(struct participant, record) &&
		    in != offsetof(struct participant, reserved))
			return -1;
	}
	return (int)(1 + off / 8);
}

/* Segments beyond the first @left free ones: nobody can take them. */
static void pool_hide(struct shmq *q, int left)
{
	uint32_t i;

	for (i = 0; i < q->geo.nr_segments; i++) {
		word_t *hdr = &segment_of(q, i)->hdr;

		if (segment_state(*hdr) == SEGMENT_FREE && left-- <= 0)
			*hdr = segment_word(0, NOBODY, SEGMENT_OWNED);
	}
}

static void pool_show(struct shmq *q)
{
	uint32_t i;

	for (i = 0; i < q->geo.nr_segments; i++) {
		word_t *hdr = &segment_of(q, i)->hdr;

		if (segment_state(*hdr) == SEGMENT_OWNED && segment_owner(*hdr) == NOBODY)
			*hdr = segment_word(segment_inc(*hdr), 0, SEGMENT_FREE);
	}
}

static void push_one(struct shmq *q, int lane, uint8_t id)
{
	struct item it;
	size_t len = item_of(&it, id);

	must_eq(shmq_push(q, lane, &it, len, SHMQ_NOWAIT), 0);
}

static void prepare(const struct scenario *s)
{
	struct shmq_config c = config((unsigned)s->lanes, s->capacity, 16);
	struct item it;
	int i, lane;

	sc = s;
	/* The larger an item, the fewer share a segment. */
	if (s->slots < 8)
		c.item_size = 65536 / s->slots;
	for (nr = 0; nr < CHECKER && s->calls[nr][0]; nr++)
		;
	/* To join again there must be a death: no record is free. */
	c.max_participants = (uint32_t)nr + 1 + !has_call(REJOIN);
	if (s->max_attempts) {
		c.max_attempts = s->max_attempts;
		c.dead_lane = 1;
	}
	must_eq(shmq_create("sched", &c), 0);
	sim_owner(-1);
	must_eq(shmq_open(&handle[CHECKER], "sched", 0), 0);
	must_eq(handle[CHECKER]->geo.slots, s->slots);
	must_eq(handle[CHECKER]->geo.slot_bytes * s->slots >= sizeof it, 1);
	if (s->segments)
		pool_hide(handle[CHECKER], s->segments);
	for (i = 0; i < nr; i++) {
		sim_owner(i);
		must_eq(shmq_dup(handle[CHECKER], &handle[i]), 0);
	}
	sim_owner(-1);
	for (i = 0; i < s->laps; i++) {
		struct shmq *q = handle[i % (nr + 1) < nr ? i % (nr + 1) : CHECKER];

		for (lane = 0; lane < (s->max_attempts ? 1 : s->lanes); lane++) {
			push_one(q, lane, LAST_ID);
			must(shmq_pop(q, lane, &it, sizeof it, NULL, SHMQ_NOWAIT) > 0);
		}
	}
	for (i = 0; i < nr && s->fill < 0; i++)
		must_eq(shmq_pop(handle[i], SHMQ_ANY_LANE, &it, sizeof it, NULL, SHMQ_NOWAIT),
			-EAGAIN);
	for (i = 0; i < abs(s->fill); i++)
		push_one(handle[CHECKER], s->fill < 0, (uint8_t)(i + 1));
	sched_word_of = word_of;
	must(1 + handle[CHECKER]->geo.payload / 8 + nr_slots() < SCHED_WORDS);
	keep();
}

/* ---- after an execution ----------------------------------------------------------------- */

static enum mode mode;
static int allowed; /* preemptions */

static void print_where(void)
{
	fprintf(stderr, "sched: repeat with SHMQ_SCHED=%s:%s:%d:%s\n", sc->name,
		mode_names[mode], allowed, sched_trace());
}

static _Noreturn void failed(const char *why)
{
	fprintf(stderr, "sched: %s\n", why);
	history_print();
	print_where();
	must(false, "%s: %s", sc->name, why);
	abort();
}

static void require(bool ok, const char *why)
{
	if (!ok)
		failed(why);
}

/* Any handle of the living must do; they take turns. */
static struct shmq *next_handle(void)
{
	static int at;

	do {
		at = (at + 1) % (CHECKER + 1);
	} while (!now_open[at] || (at < CHECKER && (at >= nr || sched_killed(at))));
	return now_open[at];
}

static int living(void)
{
	int i, n = 1;

	for (i = 0; i < nr; i++)
		if (!sched_killed(i))
			n += (now_open[i] != NULL) + (joined[i] != NULL);
	return n;
}

static void drain(int thread)
{
	int lane, empty;

	for (lane = 0; lane < sc->lanes; lane++)
		for (empty = 0; empty < 2 * (CHECKER + 1);) {
			struct event e = { .lane = (uint8_t)lane, .from = sched_time() };
			struct shmq_info info;
			struct item it;
			ssize_t r = shmq_pop(next_handle(), lane, &it, sizeof it, &info,
					     SHMQ_NOWAIT);

			e.to = sched_time();
			if (r > 0) {
				item_check(&it, r);
				e.what = H_POP;
				e.id = it.id;
				e.attempts = (uint8_t)info.attempts;
				empty = 0;
			} else {
				require(r == -EAGAIN, "an error of pop in the end");
				e.what = H_EMPTY;
				if (empty++) /* all must say so, once is enough to tell */
					continue;
			}
			history_add(thread, e);
		}
}

static void check_recovery(struct shmq *q)
{
	struct shmq_recovered r = { .sz = sizeof r };

	require(shmq_recover(q, &r) == 0 && r.deferred == 0, "recovery was deferred");
	require(shmq_recover(q, &r) == 0 && !r.participants && !r.items && !r.tickets,
		"recovery found more the second time");
}

/* Each lane takes what it is made for, no more and no less. */
static void check_room(struct shmq *q)
{
	struct shmq_stat st = { .sz = sizeof st };
	struct item it;
	uint64_t n, i;
	int lane;

	for (lane = 0; lane < sc->lanes; lane++) {
		for (n = 0; n <= sc->capacity; n++) {
			size_t len = item_of(&it, (uint8_t)(LAST_ID - n));

			if (shmq_push(next_handle(), lane, &it, len, SHMQ_NOWAIT))
				break;
		}
		require(n == sc->capacity, "the lane does not take its capacity");
		for (i = 0; i < n; i++)
			require(shmq_pop(next_handle(), lane, &it, sizeof it, NULL,
					 SHMQ_NOWAIT) > 0 && it.id == LAST_ID - i,
				"what filled the lane does not come back in order");
	}
	require(shmq_stat(q, &st) == 0, "stat");
	for (lane = 0; lane < sc->lanes; lane++)
		require(!st.lanes[lane].depth && !st.lanes[lane].held &&
				!st.lanes[lane].unfinished,
			"something is left");
	require(!st.nr_dead && (int)st.nr_participants == living(), "participants");
}

static void check_pool(struct shmq *q)
{
	uint32_t i;

	for (i = 0; i < q->geo.nr_segments; i++)
		require(segment_state(segment_of(q, i)->hdr) != SEGMENT_OWNED,
			"a segment is owned for ever");
}

/* With segments again, the living close the tickets that they could not use. */
static void settle(struct shmq *q)
{
	int i;

	pool_show(q);
	for (i = 0; i < nr; i++)
		if (now_open[i] && !sched_killed(i))
			require(lane_settle(now_open[i]), "a ticket can not be settled");
}

static void check(void)
{
	struct shmq *q = handle[CHECKER];

	tell_all();
	/* Without death or stop there is somebody to wake every sleeper. */
	require(mode != NO_FAULT || sched_clock_ns == 0, "a wake-up was lost");
	if (sc->segments)
		settle(q);
	check_recovery(q);
	drain(nr + 1);
	require(!anomaly, anomaly);
	require(history_explained(), "no sequential queue does this");
	check_room(q);
	check_pool(q);
}

/* ---- all of them ----------------------------------------------------------------------- */

static struct totals {
	unsigned long schedules, kills, stops;
} *totals;

static void crashed(int sig)
{
	print_where();
	signal(sig, SIG_DFL);
	raise(sig);
}

static struct bounds bounds_of(enum mode m, int preemptions)
{
	return (struct bounds){ .preemptions = preemptions, .stops = m == STOP,
				.kills = m == DEATH ? 1 : m == TWO_DEATHS ? 2 : 0 };
}

/* One execution: true if it is to be counted. */
static bool execute(unsigned long *given_up)
{
	enum outcome r;
	struct bounds left;

	restore();
	r = sched_run();
	if (r == RUN_LIVELOCK) {
		tell_all();
		failed("it does not end");
	}
	left = sched_left();
	if (r == RUN_GIVEN_UP)
		++*given_up;
	/* What has not used up its bounds was met in an earlier round. */
	if (r == RUN_GIVEN_UP || left.preemptions || left.kills || left.stops)
		return false;
	check();
	return true;
}

/* The executions with exactly @preemptions, and with the death or stop if there is one:
 * those that are met before @until, and whether that is all. */
static unsigned long explore_round(enum mode m, int preemptions, uint64_t until, bool *all,
				   unsigned long *given_up)
{
	unsigned long n = 0;

	allowed = preemptions;
	*all = true;
	sched_begin(nr, participant, bounds_of(m, preemptions));
	do {
		n += execute(given_up);
		if (sched_learnt()) {
			n = 0;
			sched_begin(nr, participant, bounds_of(m, preemptions));
			n += execute(given_up);
		}
		*all = !sched_next();
	} while (!*all && now_ns() < until);
	return n;
}

static void explore(const struct scenario *s, enum mode m, int preemptions, int more)
{
	uint64_t began = now_ns();
	unsigned long n = 0, given_up = 0;
	bool all;
	int i;

	mode = m;
	prepare(s);
	for (i = 0; i <= preemptions; i++)
		n += explore_round(m, i, UINT64_MAX, &all, &given_up);
	for (; i <= preemptions + more; i++)
		n += explore_round(m, i, now_ns() + MORE_NS, &all, &given_up);
	fprintf(stderr, "sched: %-20s %-6s %d preemptions %9lu schedules %9lu given up "
		"%6.2f s%s\n", s->name, mode_names[m], preemptions + more, n, given_up,
		(double)(now_ns() - began) / 1e9, all ? "" : ", not all");
	must(n > 0 || m == TWO_DEATHS);
	totals->schedules += n;
	totals->kills += m == DEATH || m == TWO_DEATHS ? n : 0;
	totals->stops += m == STOP ? n : 0;
}

START_TEST(exhaustive)
{
	const struct scenario *s = &scenarios[_i / MODES];
	enum mode m = (enum mode)(_i % MODES);
	int more = counts(1) > 1;

	signal(SIGSEGV, crashed);
	signal(SIGBUS, crashed);
	signal(SIGABRT, crashed);
	if (s->preemptions[m] >= 0)
		explore(s, m, s->preemptions[m], more);
}
END_TEST

/* SHMQ_SCHED=scenario:death:2:trace: one execution, with every access. */
static void repeat(const char *what)
{
	char name[64], faults[16];
	int at = 0;
	size_t i;

	must(sscanf(what, "%63[^:]:%15[^:]:%d:%n", name, faults, &allowed, &at) == 3 && at,
	     "SHMQ_SCHED=scenario:none|death|stop|deaths:preemptions:trace");
	for (i = 0; i < ARRAY_LEN(scenarios) && strcmp(scenarios[i].name, name); i++)
		;
	must(i < ARRAY_LEN(scenarios), "no scenario %s", name);
	for (mode = NO_FAULT; mode < MODES && strcmp(mode_names[mode], faults); mode++)
		;
	must(mode < MODES, "no faults %s", faults);
	prepare(&scenarios[i]);
	sched_begin(nr, participant, bounds_of(mode, allowed));
	must(sched_repeat(what + at), "bad trace");
	restore();
	if (sched_run() == RUN_LIVELOCK) {
		tell_all();
		failed("it does not end");
	}
	check();
	history_print();
}

START_TEST(repeated)
{
	repeat(getenv("SHMQ_SCHED"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sched");
	TCase *c = suite_case(s, "sched", 3000);
	int r;

	if (SANITIZED) {
		skip("the sanitizers do not follow coroutines that are given up");
		return suite_run(s);
	}
	totals = shared(sizeof *totals);
	if (getenv("SHMQ_SCHED"))
		tcase_add_test(c, repeated);
	else
		tcase_add_loop_test(c, exhaustive, 0, (int)(ARRAY_LEN(scenarios) * MODES));
	r = suite_run(s);
	fprintf(stderr, "sched: schedules %lu (with a death %lu, with a stop %lu)\n",
		totals->schedules, totals->kills, totals->stops);
	return r;
}
