/* SPDX-License-Identifier: MIT */
/*
 * test_bereft.c - those who sleep, when the one beside them or the one who was to wake
 * them is killed.
 *
 * A waiter is killed before some of the instructions of its call, on its way to sleep,
 * asleep, and woken; two more sleep beside it. Every later item must find one of them,
 * every place that gets free one who waits for room, within WAKE_NS. And a producer is
 * killed before each instruction of its push while a consumer sleeps: is the item
 * published, the consumer has it within NOTIFY_NS without any further push.
 */
#include "sweep.h"

#include "layout.h"
#include "queue.h"

#include <sys/wait.h>

enum { SPARES = 2, POINTS = 50, MOVES = 20 };

#define WAKE_NS SECOND /* a slice of a wait, and what a busy machine adds */
#define NOTIFY_NS SECOND
#define LATE_NS (15 * MS) /* not woken, but looked for itself: seldom */

static struct counts { /* in shared memory */
	atomic_int ready[SPARES];
	atomic_ulong moved;    /* items that the spares popped or pushed */
	atomic_uchar got[4096]; /* numbers of the helper's items that they popped */
	bool pushes;
	int lane;
} *spare;

static struct totals {
	atomic_ulong waiters, moves, slowest_ns, notifiers, published;
} *totals;

static unsigned moves, late;

static void slowest(uint64_t ns)
{
	if (ns > atomic_load(&totals->slowest_ns))
		atomic_store(&totals->slowest_ns, ns);
}

/* ---- a waiter dies ------------------------------------------------------------------ */

static int spare_main(void *arg)
{
	struct shmq *q = attach("q");
	char buf[ITEM_SIZE];
	struct stamp st;
	ssize_t n;

	atomic_store(&spare->ready[(intptr_t)arg], 1);
	for (;;) {
		if (spare->pushes) {
			item_fill(buf, sizeof(buf), 99, 0);
			must_eq(shmq_push(q, spare->lane, buf, sizeof(buf), SHMQ_FOREVER), 0);
		} else {
			n = shmq_pop(q, spare->lane, buf, sizeof(buf), NULL, SHMQ_FOREVER);
			must(n >= 0 && item_read(buf, (size_t)n, &st));
			must_eq(st.producer, spare->lane);
			must_eq(atomic_fetch_add(&spare->got[st.seq % ARRAY_LEN(spare->got)], 1), 0);
		}
		atomic_fetch_add(&spare->moved, 1);
	}
	return 0;
}

/* The helper gives them something to do; somebody must do it. */
static void move_one(struct stage *g, long k)
{
	struct book *b = &g->w->book[spare->lane];
	uint64_t seq = b->next, before = atomic_load(&spare->moved), begin = now_ns();
	char buf[ITEM_SIZE];

	if (spare->pushes)
		must(shmq_pop(g->q, spare->lane, buf, sizeof(buf), NULL, 0) >= 0);
	else
		stage_push(g);
	while (spare->pushes ? atomic_load(&spare->moved) == before :
			       !spare->got[seq % ARRAY_LEN(spare->got)]) {
		must(now_ns() - begin < WAKE_NS, "%s: killed before instruction %ld: nobody woke",
		     g->s->name, k);
		sched_yield();
	}
	slowest(now_ns() - begin);
	moves++;
	late += now_ns() - begin > LATE_NS;
	atomic_fetch_add(&totals->moves, 1);
}

/* What the spares popped has come out. */
static void settle_book(struct stage *g)
{
	struct book *b = &g->w->book[spare->lane];

	for (uint64_t i = b->from; i != b->to; i++) {
		uint64_t seq = b->seq[i % ARRAY_LEN(b->seq)];

		if (spare->got[seq % ARRAY_LEN(spare->got)])
			book_remove(b, seq);
	}
}

static void spares_start(struct stage *g, pid_t *pid)
{
	memset(spare, 0, sizeof(*spare));
	spare->pushes = g->s->op == OP_PUSH;
	spare->lane = g->s->lane;
	for (intptr_t i = 0; i < SPARES; i++)
		pid[i] = spawn(spare_main, (void *)i);
	for (int i = 0; i < SPARES; i++)
		wait_asleep(pid[i], &spare->ready[i]);
}

static void spares_end(const pid_t *pid)
{
	for (int i = 0; i < SPARES; i++) {
		kill(pid[i], SIGKILL);
		must_eq(reap(pid[i]), SIGNALLED + SIGKILL);
	}
}

/* The actor, asleep, is woken if it is its turn. */
static bool woken(struct stage *g)
{
	int status;

	stage_wake(g);
	for (uint64_t begin = now_ns(); now_ns() - begin < 100 * MS; sched_yield())
		if (waitpid(g->pid[0], &status, WNOHANG) > 0) {
			must(WIFSTOPPED(status));
			return true;
		}
	return false;
}

static void kill_waiter(struct sweep *w, long k)
{
	struct stage *g = &w->g;
	bool astray = false, sleeps = k >= w->r.slept;
	const atomic_int *done;
	pid_t pid[SPARES];

	must(stage_open(g, &w->s, true));
	done = &g->w->actor[0].done;
	step_to(g->pid[0], &w->r, 0, sleeps ? w->r.slept : k, done, &astray);
	/* Astray it may sleep or have been refused: as good, but there is no next step. */
	sleeps = sleeps && !astray && !step_one(g->pid[0], true);
	spares_start(g, pid); /* behind the actor, if that sleeps */
	if (k > w->r.slept && sleeps && woken(g))
		step_to(g->pid[0], &w->r, w->r.slept + 1, k, done, &astray);
	stage_kill(g, 0);
	for (int i = 0; i < MOVES; i++)
		move_one(g, k);
	stage_reap(g, 0);
	spares_end(pid);
	if (!spare->pushes) {
		settle_book(g);
		stage_check(g, CHECK_RECOVER, 0, "a waiter and then all are killed");
	}
	stage_close(g, true);
	atomic_fetch_add(&totals->waiters, 1);
}

START_TEST(who_waits_beside_a_killed_waiter_is_woken)
{
	struct scene s = { .op = _i ? OP_PUSH : OP_POP, .lane = _i ? 2 : 0, .capacity = 40,
			   .fill = _i ? FULL : EMPTY, .slot = 3, .first_use = true,
			   .timeout_ns = SHMQ_FOREVER, .participants = 8, .sleeps = true };
	struct sweep w = { .points = 0 };
	long stride, k;

	snprintf(s.name, sizeof(s.name), "waiting %s", op_name(s.op));
	spare = shared(sizeof(*spare));
	if (!sweep_wanted(&s) || !sweep_record(&w, &s))
		return;
	stage_close(&w.g, true);
	stride = w.r.n / counts(POINTS) + 1;
	for (k = (long)rng_below(&w.rng, (uint64_t)stride); k < w.r.n; k += stride)
		kill_waiter(&w, k);
	kill_waiter(&w, w.r.slept);
	kill_waiter(&w, w.r.slept + 1);
	must(late * 4 < moves, "%u of %u moves found nobody awake", late, moves);
	sweep_free(&w);
}
END_TEST

/* ---- the one who wakes dies ------------------------------------------------------------ */

static int sleeper_main(void *arg)
{
	struct shmq *q = attach("q");
	char buf[ITEM_SIZE];

	(void)arg;
	atomic_store(&spare->ready[0], 1);
	must(shmq_pop(q, spare->lane, buf, sizeof(buf), NULL, 20 * (int64_t)SECOND) >= 0);
	atomic_store(&spare->moved, 1);
	shmq_close(q);
	return 0;
}

static void await_sleeper(struct sweep *w, long k, uint64_t limit_ns)
{
	uint64_t begin = now_ns();

	while (!atomic_load(&spare->moved)) {
		must(now_ns() - begin < limit_ns, "%s: killed before instruction %ld: not woken",
		     w->s.name, k);
		sched_yield();
	}
}

static pid_t sleeper_start(struct sweep *w)
{
	pid_t pid;

	memset(spare, 0, sizeof(*spare));
	spare->lane = w->s.lane;
	pid = spawn(sleeper_main, NULL);
	wait_asleep(pid, &spare->ready[0]);
	stage_quiet(&w->g);
	return pid;
}

static bool look(void *arg, long k)
{
	(void)k;
	stage_quiet(&((struct sweep *)arg)->g);
	return false;
}

/* The way is another one if somebody sleeps. */
static void record_waking(struct sweep *w)
{
	pid_t pid;

	must(stage_open(&w->g, &w->s, true));
	pid = sleeper_start(w);
	w->r.n = 0;
	step_record(w->g.pid[0], &w->r, &w->g.w->actor[0].done, look, NULL, w);
	await_sleeper(w, w->r.n, NOTIFY_NS);
	reap_ok(pid);
	stage_close(&w->g, true);
}

/* False: there is no instruction @k. */
static bool kill_notifier(struct sweep *w, long k)
{
	struct stage *g = &w->g;
	const struct lane *l;
	struct shmq_stat st;
	uint64_t tail;
	bool astray = false, there;
	pid_t pid;

	must(stage_open(g, &w->s, true));
	l = lane_of(g->q, (unsigned)w->s.lane);
	tail = atomic_load(&l->tail);
	pid = sleeper_start(w);
	there = step_to(g->pid[0], &w->r, 0, k, &g->w->actor[0].done, &astray);
	stat_of(g->q, &st);
	stage_kill(g, 0);
	if ((w->s.op == OP_COMMIT || atomic_load(&l->tail) != tail) &&
	    st.lanes[w->s.lane].unfinished == 0) {
		atomic_fetch_add(&totals->published, 1);
		await_sleeper(w, k, NOTIFY_NS);
	} else { /* there is no item: it still sleeps, and gets the next one */
		must_eq(atomic_load(&spare->moved), 0);
		stage_push(g);
		await_sleeper(w, k, WAKE_NS);
		g->w->book[w->s.lane].from++;
	}
	stage_reap(g, 0);
	reap_ok(pid);
	stage_close(g, true);
	atomic_fetch_add(&totals->notifiers, 1);
	return there || astray;
}

START_TEST(who_sleeps_gets_the_item_of_a_killed_producer)
{
	static const enum op op[] = { OP_PUSH, OP_COMMIT, OP_PUSH_N };
	struct scene s = { .op = op[_i % 3], .lane = 1, .capacity = 40, .fill = EMPTY,
			   .slot = _i % 3 ? 3 : 0, .participants = 6 };
	struct sweep w = { .points = 0 };
	long stride, k;

	snprintf(s.name, sizeof(s.name), "%s, a sleeper", op_name(s.op));
	spare = shared(sizeof(*spare));
	if (!sweep_wanted(&s) || !sweep_record(&w, &s))
		return;
	stage_close(&w.g, true);
	record_waking(&w);
	stride = w.r.n / counts(120) + 1;
	for (k = (long)rng_below(&w.rng, (uint64_t)stride); kill_notifier(&w, k); k += stride)
		;
	sweep_free(&w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("bereft");
	TCase *t = suite_case(s, "bereft", 60);

	tcase_add_loop_test(t, who_waits_beside_a_killed_waiter_is_woken, 0, 2);
	tcase_add_loop_test(t, who_sleeps_gets_the_item_of_a_killed_producer, 0, 3);
	return s;
}

int main(void)
{
	int status;

	sweep_begin("bereft");
	totals = shared(sizeof(*totals));
	status = suite_run(suite());
	fprintf(stderr, "# bereft: %lu waiters killed, %lu moves by others, the slowest in %.1f ms; "
		"%lu producers killed before a sleeper, %lu of them behind publication\n",
		totals->waiters, totals->moves, (double)totals->slowest_ns / 1e6,
		totals->notifiers, totals->published);
	return status;
}
