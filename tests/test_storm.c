/* SPDX-License-Identifier: MIT */
/*
 * test_storm.c - producers and consumers are killed all the time, wherever they are,
 * and replaced; and in the end every item is accounted for.
 *
 * Each process writes down what it is about to do and what came of it, in memory
 * that outlives it. For a producer that is a state of each of its items. A consumer
 * has its items copied right into its notebook, so that the executor of a dead one
 * can tell what was in its hands: such an item is either delivered again, flagged, or
 * was consumed by the dead. An item without any of these is lost, and one that two
 * calls have returned is a duplicate, whoever died.
 */
#include "common.h"

#include <sys/mman.h>
#include <sys/wait.h>

enum {
	PRODUCERS = 4,
	CONSUMERS = 4,
	WORKERS = PRODUCERS + CONSUMERS,
	LANES = 3,
	BATCH = 4,
	ITEM = 200,
	EACH = 1 << 23, /* items of a producer, at most */
};

static const uint64_t capacity[LANES] = { 5, 64, 1000 };

/* What becomes of an item that failed twice. The last lane is also the dead-letter
 * lane, so that there is traffic in it. */
enum fate { COMES_AGAIN, DEAD_LETTER, DROPPED, NR_FATES };

enum { DEAD_LANE = LANES - 1 };

/* ---- what is written down ---------------------------------------------------------- */

enum item_state {
	UNUSED,
	INTENDED, /* its producer is in the call, or died in it */
	DONE,     /* the call returned success */
	REFUSED,  /* or did not, or the reservation was given up */
};

enum doing { NOTHING, TAKING, GIVING_BACK };

struct notebook { /* of a consumer */
	_Alignas(64) atomic_int doing;
	atomic_int returned; /* items that the call has handed over for good */
	uint32_t call;       /* its number, never 0 */
	int asked;
	struct shmq_info info[BATCH];
	uint8_t item[BATCH][ITEM];
};

struct storm {
	_Alignas(64) atomic_int quit;
	uint64_t seed;
	enum fate fate;
	uint64_t moved, dropped; /* as the queue counts them */
	_Alignas(64) atomic_int in_call[WORKERS];
	atomic_uint life[WORKERS];
	struct notebook notebook[CONSUMERS + 1]; /* the last is the executor's */
	struct {
		_Alignas(64) uint64_t next; /* its next item */
	} producer[PRODUCERS];
	struct {
		_Alignas(64) atomic_ulong calls, items, requeued;
	} consumer[CONSUMERS + 1];
	_Atomic uint8_t state[PRODUCERS][EACH];    /* enum item_state */
	_Atomic uint32_t taker[PRODUCERS][EACH];   /* the call that returned it */
	_Atomic uint8_t attempts[PRODUCERS][EACH]; /* as that call was told */
	/* Only the executor writes these: */
	uint8_t dead_hands[PRODUCERS][EACH]; /* dead consumers that had it */
	unsigned long kills[2], in_calls[2]; /* of producers, of consumers */
	unsigned long dead_takes; /* items that dead consumers may have failed */
};

struct actor {
	struct storm *s;
	struct shmq *q;
	unsigned me; /* within its role */
	struct rng r;
	uint64_t next[LANES][PRODUCERS]; /* consumer: the least that may come */
};

struct part {
	struct storm *s;
	unsigned worker;
};

static int64_t some_wait(struct actor *a)
{
	return rng_below(&a->r, 4) ? SHMQ_NOWAIT : (int64_t)(5 * MS);
}

static void refused(struct actor *a, int64_t err)
{
	must(err == -EAGAIN || err == -ETIMEDOUT, "%d", (int)err);
	if (rng_below(&a->r, 2))
		sched_yield();
}

/* ---- producers ---------------------------------------------------------------------- */

static size_t item_new(struct actor *a, void *buf, uint64_t seq)
{
	size_t len = STAMP_LEN + rng_below(&a->r, ITEM - STAMP_LEN + 1);

	item_fill(buf, len, a->me, seq);
	return len;
}

static void set_state(struct actor *a, uint64_t seq, uint64_t n, enum item_state state)
{
	for (uint64_t i = 0; i < n; i++)
		atomic_store(&a->s->state[a->me][seq + i], (uint8_t)state);
}

static void do_push(struct actor *a, int lane, uint64_t seq, int n)
{
	uint8_t buf[BATCH][ITEM];
	struct iovec v[BATCH];
	int64_t wait = some_wait(a);
	int r;

	for (int i = 0; i < n; i++)
		v[i] = (struct iovec){ buf[i], item_new(a, buf[i], seq + (uint64_t)i) };
	atomic_store(&a->s->in_call[a->me], 1);
	r = n > 1 ? shmq_push_n(a->q, lane, v, n, wait) :
		    shmq_push(a->q, lane, buf[0], v[0].iov_len, wait);
	atomic_store(&a->s->in_call[a->me], 0);
	if (r < 0)
		refused(a, r);
	else if (n == 1)
		r = 1;
	r = r < 0 ? 0 : r;
	set_state(a, seq, (uint64_t)r, DONE);
	set_state(a, seq + (uint64_t)r, (uint64_t)(n - r), REFUSED);
}

static void do_reserve(struct actor *a, int lane, uint64_t seq, bool commit)
{
	void *buf;
	int r;

	atomic_store(&a->s->in_call[a->me], 1);
	r = shmq_reserve(a->q, lane, &buf, some_wait(a));
	if (r == 0) {
		size_t len = item_new(a, buf, seq);

		pause_randomly(&a->r);
		if (commit) {
			must_eq(shmq_commit(a->q, len), 0);
		} else {
			/* Whatever happens from here on: it must not arrive. */
			set_state(a, seq, 1, REFUSED);
			must_eq(shmq_abort(a->q), 0);
		}
	}
	atomic_store(&a->s->in_call[a->me], 0);
	if (r)
		refused(a, r);
	set_state(a, seq, 1, r == 0 && commit ? DONE : REFUSED);
}

static int produce(void *arg)
{
	struct part *p = arg;
	struct actor a = { .s = p->s, .me = p->worker };

	a.r = rng_of(a.s->seed, p->worker + WORKERS * atomic_load(&a.s->life[p->worker]));
	a.q = attach("q");
	while (!atomic_load(&a.s->quit)) {
		uint64_t seq = a.s->producer[a.me].next;
		uint64_t x = rng_below(&a.r, 20);
		int n = x < 7 ? 2 + (int)rng_below(&a.r, BATCH - 1) : 1;
		int lane = (int)rng_below(&a.r, LANES);

		if (seq + BATCH > EACH) { /* no room to write more down */
			sleep_ns(MS);
			continue;
		}
		/* In this order: a number is never used twice. */
		a.s->producer[a.me].next = seq + (uint64_t)n;
		set_state(&a, seq, (uint64_t)n, INTENDED);
		if (x < 14)
			do_push(&a, lane, seq, n);
		else
			do_reserve(&a, lane, seq, x < 19);
		pause_randomly(&a.r);
	}
	shmq_close(a.q);
	return 0;
}

/* ---- consumers ---------------------------------------------------------------------- */

/* The call @b->call has returned the item @s. */
static void mark(struct storm *st, const struct notebook *b, const struct stamp *s,
		 unsigned attempts)
{
	uint32_t before;

	atomic_store(&st->attempts[s->producer][s->seq], (uint8_t)attempts);
	before = atomic_exchange(&st->taker[s->producer][s->seq], b->call);
	must(before == 0 || before == b->call,
	     "producer %u, number %" PRIu64 " came twice", s->producer, s->seq);
}

static void stamp_check(const struct stamp *s)
{
	must(s->producer < PRODUCERS && s->seq < EACH, "an item that nobody pushed");
}

/* All that a finished call has returned is delivered; repeated for the dead. */
static void mark_all(struct storm *st, const struct notebook *b)
{
	struct stamp s;

	for (int i = 0; i < atomic_load(&b->returned); i++) {
		must(item_read(b->item[i], b->info[i].len, &s), "a torn item");
		stamp_check(&s);
		mark(st, b, &s, b->info[i].attempts);
	}
}

static void note_call(struct actor *a, enum doing doing, int asked)
{
	struct notebook *b = &a->s->notebook[a->me];

	for (int i = 0; i < BATCH; i++)
		memset(b->item[i], 0, STAMP_LEN);
	atomic_store(&b->returned, 0);
	b->call += CONSUMERS + 1;
	b->asked = asked;
	atomic_store(&b->doing, doing);
}

/* Items of one producer and lane come in their order, unless they came back. */
static void order_check(struct actor *a, const struct notebook *b, int n)
{
	for (int i = 0; i < n; i++) {
		const struct shmq_info *f = &b->info[i];
		struct stamp s;

		memcpy(&s, b->item[i], sizeof(s));
		must(f->lane < LANES && f->attempts > 0);
		if (f->attempts > 1)
			continue;
		must(s.seq >= a->next[f->lane][s.producer],
		     "producer %u, lane %u: %" PRIu64 " after %" PRIu64, s.producer,
		     f->lane, s.seq, a->next[f->lane][s.producer] - 1);
		a->next[f->lane][s.producer] = s.seq + 1;
	}
}

/* The call is over: @n items are ours. */
static void note_result(struct actor *a, int64_t n)
{
	struct notebook *b = &a->s->notebook[a->me];

	if (n > 0) {
		atomic_store(&b->returned, (int)n);
		mark_all(a->s, b);
		order_check(a, b, (int)n);
		atomic_fetch_add(&a->s->consumer[a->me].items, (unsigned long)n);
	}
	atomic_store(&b->doing, NOTHING);
	atomic_fetch_add(&a->s->consumer[a->me].calls, 1);
	if (n < 0)
		refused(a, n);
}

static int do_pop(struct actor *a, int lane, int n, int64_t wait)
{
	struct notebook *b = &a->s->notebook[a->me];
	struct iovec v[BATCH];
	ssize_t r;

	for (int i = 0; i < n; i++)
		v[i] = (struct iovec){ b->item[i], ITEM };
	note_call(a, TAKING, n);
	if (n > 1) {
		r = shmq_pop_n(a->q, lane, v, b->info, n, wait);
	} else {
		r = shmq_pop(a->q, lane, b->item[0], ITEM, b->info, wait);
		must(r < 0 || (size_t)r == b->info[0].len);
		r = r < 0 ? r : 1;
	}
	note_result(a, r);
	return (int)r;
}

static void do_peek(struct actor *a, int lane, bool release)
{
	struct notebook *b = &a->s->notebook[a->me];
	struct shmq_lease l;
	int r;

	note_call(a, release ? TAKING : GIVING_BACK, 1);
	r = shmq_peek(a->q, lane, &l, some_wait(a));
	if (r < 0) {
		note_result(a, r);
		return;
	}
	b->info[0] = l.info;
	must(l.info.len <= ITEM);
	memcpy(b->item[0], l.data, l.info.len);
	pause_randomly(&a->r);
	if (release) {
		must_eq(shmq_release(a->q, &l), 0);
		note_result(a, 1);
	} else {
		atomic_fetch_add(&a->s->consumer[a->me].requeued, 1);
		must_eq(shmq_requeue(a->q, &l), 0);
		note_result(a, 0);
	}
}

static int consume(void *arg)
{
	struct part *p = arg;
	struct actor a = { .s = p->s, .me = p->worker - PRODUCERS };

	a.r = rng_of(a.s->seed, p->worker + WORKERS * atomic_load(&a.s->life[p->worker]));
	a.q = attach("q");
	while (!atomic_load(&a.s->quit)) {
		int lane = (int)rng_below(&a.r, LANES + 2);
		uint64_t x = rng_below(&a.r, 20);

		lane = lane < LANES ? lane : SHMQ_ANY_LANE;
		if (x < 14)
			do_pop(&a, lane, x < 7 ? 2 + (int)rng_below(&a.r, BATCH - 1) : 1,
			       some_wait(&a));
		else
			do_peek(&a, lane, x < 19);
		pause_randomly(&a.r);
	}
	shmq_close(a.q);
	return 0;
}

/* ---- the executor -------------------------------------------------------------------- */

static bool in_call(const struct storm *s, unsigned worker)
{
	return worker < PRODUCERS ?
		       atomic_load(&s->in_call[worker]) :
		       atomic_load(&s->notebook[worker - PRODUCERS].doing) != NOTHING;
}

/* Half of the victims are looked for in a call. */
static unsigned choose(const struct storm *s, struct rng *r)
{
	uint64_t end = now_ns() + MS;
	unsigned w = (unsigned)rng_below(r, WORKERS);

	if (rng_below(r, 2))
		while (!in_call(s, w) && now_ns() < end)
			w = (unsigned)rng_below(r, WORKERS);
	return w;
}

/* What had the dead consumer in its hands? */
static void read_notebook(struct storm *s, struct notebook *b)
{
	int doing = atomic_load(&b->doing);

	if (doing == NOTHING)
		return;
	if (atomic_load(&b->returned)) { /* died while it was writing that down */
		mark_all(s, b);
	} else {
		s->dead_takes += (unsigned)b->asked;
		for (int i = 0; i < b->asked; i++) {
			struct stamp t;

			memcpy(&t, b->item[i], sizeof(t));
			if (doing != TAKING || t.len < STAMP_LEN || t.len > ITEM ||
			    !item_read(b->item[i], t.len, &t))
				continue; /* not copied to the end */
			stamp_check(&t);
			s->dead_hands[t.producer][t.seq]++;
		}
	}
	atomic_store(&b->doing, NOTHING);
}

static pid_t worker_spawn(struct storm *s, unsigned w)
{
	return spawn(w < PRODUCERS ? produce : consume, &(struct part){ s, w });
}

static void execute(struct storm *s, struct shmq *q, struct rng *r, pid_t *pid)
{
	unsigned w = choose(s, r);
	bool consumer = w >= PRODUCERS;

	kill(pid[w], SIGKILL);
	must_eq(reap(pid[w]), SIGNALLED + SIGKILL); /* else it failed, see stderr */
	s->kills[consumer]++;
	s->in_calls[consumer] += in_call(s, w);
	if (consumer)
		read_notebook(s, &s->notebook[w - PRODUCERS]);
	else
		atomic_store(&s->in_call[w], 0);
	if (rng_below(r, 2)) /* else whoever works finds the dead */
		recover_dead(q);
	atomic_fetch_add(&s->life[w], 1);
	pid[w] = worker_spawn(s, w);
}

/* ---- accounting ---------------------------------------------------------------------- */

struct account {
	unsigned long committed, refused, unknown, unknown_came;
	unsigned long delivered, gone, came_back, vanished;
};

static void account_item(const struct storm *s, struct account *a, unsigned p, uint64_t seq)
{
	enum item_state state = atomic_load(&s->state[p][seq]);
	bool came = atomic_load(&s->taker[p][seq]) != 0;
	unsigned attempts = atomic_load(&s->attempts[p][seq]);
	unsigned hands = s->dead_hands[p][seq];

	a->delivered += came;
	a->committed += state == DONE;
	a->refused += state == REFUSED;
	a->unknown += state == INTENDED;
	a->unknown_came += state == INTENDED && (came || hands);
	a->gone += !came && hands;
	if (state == REFUSED)
		must(!came && !hands, "%u, %" PRIu64 " was refused and came", p, seq);
	if (state == DONE && !came && !hands) {
		must(s->fate == DROPPED, "%u, %" PRIu64 " is lost", p, seq);
		a->vanished++;
	}
	if (!came)
		return;
	must(attempts > hands, "%u, %" PRIu64 " came with attempts %u from %u dead hands", p,
	     seq, attempts, hands);
	a->came_back += attempts - 1;
}

static void account(const struct storm *s, struct account *a)
{
	unsigned long requeued = 0, in_hands = s->kills[1] * BATCH;

	*a = (struct account){ 0 };
	for (unsigned p = 0; p < PRODUCERS; p++)
		for (uint64_t seq = 0; seq < s->producer[p].next; seq++)
			account_item(s, a, p, seq);
	must_eq(a->committed + a->unknown_came, a->delivered + a->gone + a->vanished);
	for (unsigned c = 0; c < CONSUMERS; c++)
		requeued += atomic_load(&s->consumer[c].requeued);
	/* One batch a death, and nothing without one. */
	must(a->unknown <= s->kills[0] * BATCH, "%lu unknown pushes", a->unknown);
	must(a->gone <= in_hands && a->gone <= s->dead_takes);
	must(a->came_back <= requeued + s->dead_takes, "%lu came back, of %lu + %lu",
	     a->came_back, requeued, s->dead_takes);
	/* Who dies after a drop and before the count is not counted; who had an item in
	 * its hands may have seen it come back and be dropped. */
	must(a->vanished <= s->dropped + s->kills[1] && s->dropped <= a->vanished + a->gone,
	     "%lu vanished, %lu gone, %" PRIu64 " dropped", a->vanished, a->gone, s->dropped);
	must((s->fate == DEAD_LETTER) == (s->moved > 0));
	must((s->fate == DROPPED) == (s->dropped > 0));
}

static void drain(struct storm *s, struct shmq *q)
{
	struct actor a = { .s = s, .q = q, .me = CONSUMERS };
	struct shmq_stat st;

	recover_dead(q);
	stat_of(q, &st);
	must_eq(st.nr_dead, 0);
	for (int lane = 0; lane < LANES; lane++) {
		uint64_t n = 0, waiting = st.lanes[lane].depth;

		must_eq(st.lanes[lane].held, 0);
		must_eq(st.lanes[lane].unfinished, 0);
		while (do_pop(&a, lane, 1, SHMQ_NOWAIT) == 1)
			n++;
		must(n == waiting || s->fate != COMES_AGAIN, "%" PRIu64 " of %" PRIu64, n,
		     waiting);
	}
	must_eq(shmq_holds(q, NULL, 0), 0);
	stat_of(q, &st);
	for (int lane = 0; lane < LANES; lane++) {
		must_eq(st.lanes[lane].depth + st.lanes[lane].held +
				st.lanes[lane].unfinished, 0);
		s->moved += st.lanes[lane].dead;
		s->dropped += st.lanes[lane].dropped;
	}
}

static struct shmq *storm_queue(enum fate fate)
{
	struct shmq_config cfg = config(LANES, 1, ITEM);

	for (int i = 0; i < LANES; i++)
		cfg.lanes[i].capacity = capacity[i];
	if (fate != COMES_AGAIN)
		cfg.max_attempts = 2;
	if (fate == DEAD_LETTER)
		cfg.dead_lane = DEAD_LANE;
	must_eq(shmq_create("q", &cfg), 0);
	return attach("q");
}

static void storm(enum fate fate, uint64_t seed_, long kills)
{
	struct shmq *q = storm_queue(fate);
	struct storm *s = shared(sizeof(*s));
	struct rng r = rng_of(seed_, 1000);
	pid_t pid[WORKERS];
	struct account a;

	s->seed = seed_;
	s->fate = fate;
	for (unsigned i = 0; i <= CONSUMERS; i++)
		s->notebook[i].call = i + 1;
	for (unsigned w = 0; w < WORKERS; w++)
		pid[w] = worker_spawn(s, w);
	while (kills-- > 0) {
		sleep_ns(2 * MS + rng_below(&r, 8 * MS));
		execute(s, q, &r, pid);
	}
	atomic_store(&s->quit, 1);
	reap_all(pid, WORKERS);
	drain(s, q);
	account(s, &a);
	fprintf(stderr,
		"# %lu + %lu producers and consumers killed, %lu + %lu in a call\n"
		"# %lu items committed, %lu refused, %lu unknown (%lu came); "
		"%lu delivered, %lu gone with the dead, %lu deliveries repeated, "
		"%" PRIu64 " moved, %" PRIu64 " dropped\n",
		s->kills[0], s->kills[1], s->in_calls[0], s->in_calls[1], a.committed,
		a.refused, a.unknown, a.unknown_came, a.delivered, a.gone, a.came_back,
		s->moved, s->dropped);
	must(a.delivered > 10 * (s->kills[0] + s->kills[1]), "hardly anything moved");
	must(s->in_calls[0] > 0 && s->in_calls[1] > 0, "nobody died in a call");
	for (int i = 0; i < LANES; i++)
		fill_exactly(q, i, capacity[i]);
	shmq_close(q);
	must_eq(shmq_unlink("q"), 0);
	must_eq(munmap(s, sizeof(*s)), 0);
}

START_TEST(every_item_is_accounted_for_after_a_storm_of_kills)
{
	static const long kills[NR_FATES] = { 2000, 500, 500 };
	uint64_t sd = seed("storm");

	/* A long run is many storms: each needs its own memory. */
	for (long n = counts(kills[_i]), now; n > 0; n -= now) {
		now = n < kills[_i] ? n : kills[_i];
		storm((enum fate)_i, sd++, now);
	}
}
END_TEST

/* ---- poison --------------------------------------------------------------------------- */

/*
 * Some items kill every consumer that looks at them. After max_attempts deliveries
 * they are out of the way, and the others have all been dealt with.
 */
enum { POISON_ITEMS = 600, POISON_EVERY = 20, POISON_ATTEMPTS = 3 };

struct plague {
	atomic_int quit;
	atomic_uint looks[POISON_ITEMS];
	atomic_uint released[POISON_ITEMS];
	atomic_ulong dealt_with;
};

static bool is_poison(uint64_t i)
{
	return i % POISON_EVERY == 7;
}

static int eat(void *arg)
{
	struct plague *p = arg;
	struct shmq *q = attach("q");
	struct shmq_lease l;

	while (!atomic_load(&p->quit)) {
		struct stamp s;
		int r = shmq_peek(q, 0, &l, 5 * (int64_t)MS);

		if (r == -ETIMEDOUT)
			continue;
		must_eq(r, 0);
		must(item_read(l.data, l.info.len, &s) && s.seq < POISON_ITEMS);
		/* Every look is a delivery, and each of them ends in a death. */
		must_eq(atomic_fetch_add(&p->looks[s.seq], 1) + 1, l.info.attempts);
		if (is_poison(s.seq))
			raise(SIGKILL);
		must_eq(shmq_release(q, &l), 0);
		atomic_fetch_add(&p->released[s.seq], 1);
		atomic_fetch_add(&p->dealt_with, 1);
	}
	shmq_close(q);
	return 0;
}

static void poison_push(struct shmq *q)
{
	uint8_t buf[ITEM];

	for (uint64_t i = 0; i < POISON_ITEMS; i++) {
		size_t len = STAMP_LEN + i % (ITEM - STAMP_LEN);

		item_fill(buf, len, 0, i);
		must_eq(shmq_push(q, 0, buf, len, SHMQ_NOWAIT), 0);
	}
}

/* Replace who dies until nothing is left. How many died. */
static unsigned long poison_run(struct plague *p, struct shmq *q, pid_t *pid)
{
	uint64_t end = now_ns() + 60 * SECOND;
	unsigned long deaths = 0;
	struct shmq_stat st;

	for (int i = 0; i < CONSUMERS; i++)
		pid[i] = spawn(eat, p);
	do {
		for (int i = 0; i < CONSUMERS; i++) {
			int status = 0;

			if (waitpid(pid[i], &status, WNOHANG) != pid[i])
				continue;
			must(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
			     "status %x, see stderr", status);
			deaths++;
			pid[i] = spawn(eat, p);
		}
		sleep_ns(MS / 2);
		stat_of(q, &st);
		must(now_ns() < end, "%" PRIu64 " items left", st.lanes[0].depth);
	} while (st.lanes[0].depth + st.lanes[0].held > 0);
	atomic_store(&p->quit, 1);
	for (int i = 0; i < CONSUMERS; i++) {
		/* The last one to die may not have been noticed. */
		int status = reap(pid[i]);

		must(status == 0 || status == SIGNALLED + SIGKILL, "%d, see stderr", status);
		deaths += status != 0;
	}
	return deaths;
}

/* They lie in the dead-letter lane, each once and whole. */
static void poison_collect(struct shmq *q, unsigned n)
{
	bool seen[POISON_ITEMS] = { false };
	uint8_t buf[ITEM];
	ssize_t len;

	while ((len = shmq_pop(q, DEAD_LANE, buf, sizeof(buf), NULL, SHMQ_NOWAIT)) >= 0) {
		struct stamp s;

		must(item_read(buf, (size_t)len, &s) && is_poison(s.seq));
		must(!seen[s.seq], "number %" PRIu64 " lies there twice", s.seq);
		seen[s.seq] = true;
		n--;
	}
	must_eq(len, -EAGAIN);
	must_eq(n, 0);
}

START_TEST(poison_ends_in_the_dead_letter_lane_or_is_dropped_and_counted)
{
	struct plague *p = shared(sizeof(*p));
	struct shmq_config cfg = config(LANES, POISON_ITEMS, ITEM);
	bool drop = _i == 1;
	unsigned poison = 0;
	unsigned long deaths;
	pid_t pid[CONSUMERS];
	struct shmq_stat st;
	struct shmq *q;

	cfg.max_attempts = POISON_ATTEMPTS;
	cfg.dead_lane = drop ? SHMQ_DROP : DEAD_LANE;
	must_eq(shmq_create("q", &cfg), 0);
	q = attach("q");
	poison_push(q);
	deaths = poison_run(p, q, pid);
	for (unsigned i = 0; i < POISON_ITEMS; i++) {
		poison += is_poison(i);
		must_eq(atomic_load(&p->looks[i]), is_poison(i) ? POISON_ATTEMPTS : 1);
		must_eq(atomic_load(&p->released[i]), !is_poison(i));
	}
	must_eq(deaths, poison * POISON_ATTEMPTS);
	stat_of(q, &st);
	must_eq(st.lanes[0].dead, drop ? 0 : poison);
	must_eq(st.lanes[0].dropped, drop ? poison : 0);
	must_eq(st.lanes[0].unfinished + st.lanes[DEAD_LANE].unfinished, 0);
	must_eq(st.lanes[DEAD_LANE].depth, drop ? 0 : poison);
	poison_collect(q, drop ? 0 : poison);
	for (int i = 0; i < LANES; i++)
		fill_exactly(q, i, POISON_ITEMS);
	fprintf(stderr, "# %u poisonous items, %lu deaths\n", poison, deaths);
	shmq_close(q);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("storm");
	TCase *t = suite_case(s, "storm", 120);

	tcase_add_loop_test(t, every_item_is_accounted_for_after_a_storm_of_kills, 0,
			    NR_FATES);
	t = suite_case(s, "poison", 60);
	tcase_add_loop_test(t, poison_ends_in_the_dead_letter_lane_or_is_dropped_and_counted,
			    0, 2);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
