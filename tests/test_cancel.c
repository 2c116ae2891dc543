/* SPDX-License-Identifier: MIT */
/*
 * test_cancel.c - threads that are cancelled, or end, in a call: a handle is of the
 * process and not of the thread, and no call is a cancellation point.
 */
#include "hold.h"

#include <dirent.h>
#include <sys/syscall.h>

/* ---- threads ------------------------------------------------------------ */

enum call { POP, POP_ANY, POP_N, PEEK, PUSH, PUSH_N, RESERVE, NR_CALLS };

struct thread {
	struct shmq *q;
	enum call call;
	atomic_int tid;
	atomic_llong result;
	struct shmq_lease lease;
};

/* Sleep in a queue whose lane 0 is empty and whose lane 1 is full. */
static int64_t call(struct thread *t)
{
	uint64_t v[2] = { 1, 2 };
	struct iovec one = { v, 8 };
	void *buf;

	switch (t->call) {
	case POP: return shmq_pop(t->q, 0, v, 8, NULL, SHMQ_FOREVER);
	case POP_ANY: return shmq_pop(t->q, SHMQ_ANY_LANE, v, 8, NULL, SHMQ_FOREVER);
	case POP_N: return shmq_pop_n(t->q, 0, &one, NULL, 1, SHMQ_FOREVER);
	case PEEK: return shmq_peek(t->q, 0, &t->lease, SHMQ_FOREVER);
	case PUSH: return shmq_push(t->q, 1, v, 8, SHMQ_FOREVER);
	case PUSH_N: return shmq_push_n(t->q, 1, &one, 1, SHMQ_FOREVER);
	default: return shmq_reserve(t->q, 1, &buf, SHMQ_FOREVER);
	}
}

static bool takes(enum call c)
{
	return c <= PEEK;
}

static void *calls(void *arg)
{
	struct thread *t = arg;

	atomic_store(&t->tid, (int)syscall(SYS_gettid));
	atomic_store(&t->result, call(t));
	pthread_testcancel();
	return NULL;
}

/* A thread that sleeps in its call, with a handle of its own. */
static pthread_t thread_start(struct thread *t, struct shmq *q, enum call c)
{
	pthread_t th;

	*t = (struct thread){ .call = c };
	atomic_store(&t->result, INT_MIN);
	must_eq(shmq_dup(q, &t->q), 0);
	must_eq(pthread_create(&th, NULL, calls, t), 0);
	while (!atomic_load(&t->tid))
		sched_yield();
	wait_asleep(atomic_load(&t->tid), &t->tid);
	return th;
}

static void lanes_set(struct shmq *q, enum call c)
{
	uint64_t v = 0;

	while (shmq_pop(q, SHMQ_ANY_LANE, &v, 8, NULL, SHMQ_NOWAIT) > 0)
		;
	while (c != POP_ANY && shmq_push(q, 1, &v, 8, SHMQ_NOWAIT) == 0)
		;
}

/* Give a sleeper in @c what it waits for. */
static void satisfy(struct shmq *q, enum call c)
{
	uint64_t v = 3;

	if (takes(c))
		must_eq(shmq_push(q, 0, &v, 8, SHMQ_NOWAIT), 0);
	else
		must_eq(shmq_pop(q, 1, &v, 8, NULL, SHMQ_NOWAIT), 8);
}

static void nothing_left_over(struct shmq *q, unsigned participants)
{
	struct shmq_stat st;

	stat_of(q, &st);
	must_eq(st.nr_participants, participants);
	must_eq(st.nr_dead, 0);
	for (int i = 0; i < 2; i++) {
		must_eq(st.lanes[i].held, 0);
		must_eq(st.lanes[i].unfinished, 0);
	}
}

/*
 * No call is a cancellation point: a thread that is cancelled in one finishes it, with
 * its result, and ends at the next point of its own.
 */
START_TEST(a_thread_cancelled_in_a_call_finishes_it)
{
	enum call c = (enum call)_i;
	struct shmq *q = create_attach("q", 2, 4, 8);
	struct thread t, other;

	lanes_set(q, c);
	for (long n = counts(30); n > 0; n--) {
		pthread_t th = thread_start(&t, q, c), th2;
		void *end;

		must_eq(pthread_cancel(th), 0);
		if (n % 4 == 0)
			sleep_ns(MS); /* on it goes, at most to the end of a slice */
		must_eq(atomic_load(&t.result), INT_MIN);
		satisfy(q, c);
		must_eq(pthread_join(th, &end), 0);
		must(end == PTHREAD_CANCELED);
		must_eq(atomic_load(&t.result),
			c == POP || c == POP_ANY ? 8 : c == POP_N || c == PUSH_N);
		/* The handle is of the process: it is there and can be closed here. */
		if (c == PEEK)
			must_eq(shmq_release(t.q, &t.lease), 0);
		if (c == RESERVE) {
			must_eq(shmq_abort(t.q), 0);
			must_eq(shmq_push(t.q, 1, &n, 8, SHMQ_NOWAIT), 0);
		}
		shmq_close(t.q);
		nothing_left_over(q, 1);
		if (n % 8)
			continue;
		/* A sleeper that comes after it is woken as ever. */
		th2 = thread_start(&other, q, POP);
		satisfy(q, POP);
		must_eq(pthread_join(th2, NULL), 0);
		must_eq(atomic_load(&other.result), 8);
		shmq_close(other.q);
	}
	must_eq(depth_of(q, 0), 0);
	must_eq(depth_of(q, 1), c == POP_ANY ? 0 : 4);
	shmq_close(q);
}
END_TEST

static void leave_thread(int sig)
{
	(void)sig;
	pthread_exit(NULL);
}

/*
 * A thread that ends while it sleeps in a call, as by pthread_exit() in a signal
 * handler, held nothing; somebody else closes its handle, which is alive till then.
 */
START_TEST(a_thread_that_ends_in_a_call_leaves_a_handle_to_be_closed)
{
	struct sigaction a = { .sa_handler = leave_thread };
	enum call c = (enum call)_i;
	struct shmq *q = create_attach("q", 2, 4, 8);
	struct thread gone, stays;
	struct shmq_stat st;
	uint64_t v = 0;

	must_eq(sigaction(SIGUSR1, &a, NULL), 0);
	lanes_set(q, c);
	for (long n = counts(30); n > 0; n--) {
		pthread_t left = thread_start(&gone, q, c), th = 0;

		if (n % 4 == 0)
			th = thread_start(&stays, q, c);
		must_eq(pthread_kill(left, SIGUSR1), 0);
		must_eq(pthread_join(left, NULL), 0);
		must_eq(atomic_load(&gone.result), INT_MIN);
		stat_of(q, &st);
		must_eq(st.nr_participants, th ? 3 : 2);
		must_eq(st.nr_dead, 0);
		shmq_close(gone.q);
		if (th) { /* the other gets it, not the one who is gone */
			satisfy(q, c);
			must_eq(pthread_join(th, NULL), 0);
			must(atomic_load(&stays.result) >= 0);
			shmq_close(stays.q);
			lanes_set(q, c);
		}
		nothing_left_over(q, 1);
	}
	while (shmq_pop(q, 0, &v, 8, NULL, SHMQ_NOWAIT) > 0)
		;
	must_eq(depth_of(q, 1), c == POP_ANY ? 0 : 4);
	shmq_close(q);
}
END_TEST

/* ---- a pending cancellation --------------------------------------------- */

struct env { /* what a process has */
	int fds, maps;
	unsigned attached;
};

static struct env env_of(struct shmq *q)
{
	struct env e;
	struct shmq_stat st;

	e.fds = uses_of("self", &e.maps);
	stat_of(q, &st);
	must_eq(st.nr_dead, 0);
	e.attached = st.nr_participants;
	return e;
}

static int ignore_name(const char *name, void *arg)
{
	(void)name;
	(void)arg;
	return 0;
}

enum slow { CREATE, LIST, OPEN, OBSERVE, DUP, STAT, PARTICIPANTS, RECOVER, UNLINK, CLOSE,
	    NR_SLOW };

struct pending {
	enum slow what;
	struct shmq *q, *made; /* @made is to be closed in the end */
	int64_t result;
	bool returned;
};

/* A call that opens, reads or closes something, with a cancellation pending. */
static void *call_when_cancelled(void *arg)
{
	struct pending *p = arg;
	struct shmq_config c = config(1, 8, 8);
	struct shmq_participant part[8];
	struct shmq_stat st = { .sz = sizeof st };

	pthread_cancel(pthread_self());
	switch (p->what) {
	case CREATE: p->result = shmq_create("r", &c); break;
	case LIST: p->result = shmq_list(ignore_name, NULL); break;
	case OPEN: p->result = shmq_open(&p->made, "q", 0); break;
	case OBSERVE: p->result = shmq_open(&p->made, "q", SHMQ_OBSERVE); break;
	case DUP: p->result = shmq_dup(p->q, &p->made); break;
	case STAT: p->result = shmq_stat(p->q, &st); break;
	case PARTICIPANTS: p->result = shmq_participants(p->q, part, 8) - 1; break;
	case RECOVER: p->result = shmq_recover(p->q, NULL); break;
	case UNLINK: p->result = shmq_unlink("r"); break;
	default: shmq_close(p->made), p->made = NULL;
	}
	p->returned = true;
	pthread_testcancel();
	return NULL;
}

START_TEST(a_pending_cancellation_ends_no_call_half_way)
{
	struct pending p = { .what = (enum slow)_i };
	struct shmq_config c = config(1, 8, 8);
	struct env before, after;

	p.q = create_attach("q", 2, 4, 8);
	before = env_of(p.q);
	for (long n = counts(10); n > 0; n--) {
		pthread_t th;
		void *end;

		if (p.what == UNLINK)
			must_eq(shmq_create("r", &c), 0);
		if (p.what == CLOSE)
			p.made = attach("q");
		p.returned = false;
		must_eq(pthread_create(&th, NULL, call_when_cancelled, &p), 0);
		must_eq(pthread_join(th, &end), 0);
		must(end == PTHREAD_CANCELED);
		if (p.what != CLOSE)
			shmq_close(p.made);
		p.made = NULL;
		if (p.what == CREATE && p.returned)
			must_eq(shmq_unlink("r"), 0);
		after = env_of(p.q);
		must_eq(after.attached, before.attached);
		must_eq(after.fds, before.fds);
		must_eq(after.maps, before.maps);
		must(p.returned, "the thread ended inside the call");
		must_eq(p.result, 0);
		must_eq(dir_entries(test_dir), 1);
	}
	shmq_close(p.q);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cancel");
	TCase *t = suite_case(s, "threads", 60);

	tcase_add_loop_test(t, a_thread_cancelled_in_a_call_finishes_it, 0, NR_CALLS);
	tcase_add_loop_test(t, a_thread_that_ends_in_a_call_leaves_a_handle_to_be_closed, 0,
			    NR_CALLS);
	tcase_add_loop_test(t, a_pending_cancellation_ends_no_call_half_way, 0, NR_SLOW);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
