/* SPDX-License-Identifier: MIT */
/*
 * test_uring.c - libshmq-uring: waits in a ring of the caller's, by the futex operation
 * and by POLL_ADD. Where there is no io_uring, or SHMQ_URING is 0, all of it is skipped;
 * where the kernel has no futex operation, both ways are POLL_ADD.
 */
#include "common.h"

#include <shmq-uring.h>

enum { BY_FUTEX, BY_POLL, WAYS };

enum { DATA_WAIT = 7, DATA_TIMEOUT, DATA_CANCEL }; /* user data */

static bool ring_open(struct io_uring *ring, int way)
{
	const char *want = getenv("SHMQ_URING");
	int r;

	if (want && !strcmp(want, "0")) {
		skip("SHMQ_URING is 0");
		return false;
	}
	r = io_uring_queue_init(16, ring, 0);
	if (r == -ENOSYS || r == -EPERM) {
		skip("io_uring is not permitted here");
		return false;
	}
	must_eq(r, 0);
	if (way == BY_POLL)
		setenv("SHMQ_URING", "poll", 1); /* before its first use in this process */
	return true;
}

static struct io_uring_sqe *wait_for(struct io_uring *ring, struct shmq *q, int lane,
				     bool room)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	must(sqe);
	must_eq(room ? shmq_uring_prep_wait_room(sqe, q, lane) :
		       shmq_uring_prep_wait(sqe, q, lane), 0);
	sqe->user_data = DATA_WAIT;
	return sqe;
}

/* The next completion: what shmq_uring_complete() says of it. */
static int completion(struct io_uring *ring, struct shmq *q, uint64_t *data)
{
	struct __kernel_timespec patience = { .tv_sec = 30 };
	struct io_uring_cqe *cqe;
	int r;

	do {
		r = io_uring_wait_cqe_timeout(ring, &cqe, &patience);
	} while (r == -EINTR);
	must_eq(r, 0);
	*data = cqe->user_data;
	r = *data == DATA_WAIT ? shmq_uring_complete(q, cqe) : cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return r;
}

/* Pop, or arm and wait, until there is an item. */
static ssize_t pop_by_ring(struct io_uring *ring, struct shmq *q, int lane, void *buf)
{
	uint64_t data;
	ssize_t n;

	while ((n = shmq_pop(q, lane, buf, 8, NULL, 0)) == -EAGAIN) {
		wait_for(ring, q, lane, false);
		must_eq(io_uring_submit(ring), 1);
		must_eq(completion(ring, q, &data), 1);
		must_eq(data, DATA_WAIT);
	}
	return n;
}

START_TEST(an_item_that_is_there_completes_the_wait_at_once)
{
	struct shmq *q = create_attach("q", 2, 4, 8);
	struct io_uring ring;
	uint64_t data;

	if (!ring_open(&ring, _i))
		return;
	must_eq(shmq_push(q, 1, "", 0, 0), 0);
	for (int i = 0; i < 3; i++) {
		wait_for(&ring, q, SHMQ_ANY_LANE, false);
		must_eq(io_uring_submit(&ring), 1);
		must_eq(completion(&ring, q, &data), 1);
	}
	must_eq(depth_of(q, 1), 1);
	io_uring_queue_exit(&ring);
	shmq_close(q);
}
END_TEST

struct echo {
	long rounds;
};

static int echo(void *arg)
{
	struct echo *e = arg;
	struct shmq *q = attach("q");
	uint64_t v;

	for (long i = 0; i < e->rounds; i++) {
		must_eq(shmq_pop(q, 0, &v, 8, NULL, SHMQ_FOREVER), 8);
		must_eq(shmq_push(q, 1, &v, 8, 0), 0);
	}
	shmq_close(q);
	return 0;
}

START_TEST(a_push_completes_the_wait_and_none_is_lost)
{
	struct shmq *q = create_attach("q", 2, 4, 8);
	struct echo *e = shared(sizeof(*e));
	struct io_uring ring;
	uint64_t begin = now_ns(), v;
	pid_t pid;

	if (!ring_open(&ring, _i))
		return;
	e->rounds = counts(5000);
	pid = spawn(echo, e);
	for (long i = 0; i < e->rounds; i++) {
		v = (uint64_t)i;
		must_eq(shmq_push(q, 0, &v, 8, 0), 0);
		must_eq(pop_by_ring(&ring, q, 1, &v), 8);
		must_eq(v, i);
	}
	/* What is lost costs 50 ms by the timer of the bell, or lasts for ever. */
	must(now_ns() - begin < (uint64_t)e->rounds * 25 * MS);
	reap_ok(pid);
	io_uring_queue_exit(&ring);
	shmq_close(q);
}
END_TEST

START_TEST(room_completes_the_wait_for_room)
{
	struct shmq *q = create_attach("q", 2, 4, 8), *other = attach("q");
	struct io_uring ring;
	uint64_t data;
	char buf[8];
	int r;

	if (!ring_open(&ring, _i))
		return;
	fill_exactly(q, 1, 4);
	for (int i = 0; i < 50; i++) {
		while ((r = shmq_push(q, 1, "item", 4, 0)) == -EAGAIN) {
			wait_for(&ring, q, 1, true);
			must_eq(io_uring_submit(&ring), 1);
			if (depth_of(other, 1) == 4)
				must(shmq_pop(other, 1, buf, 8, NULL, 0) > 0);
			must_eq(completion(&ring, q, &data), 1);
		}
		must_eq(r, 0);
		must_eq(depth_of(q, 1), 4);
	}
	io_uring_queue_exit(&ring);
	shmq_close(other);
	shmq_close(q);
}
END_TEST

/* Both completions, in either order: that of the wait is in *@wait. */
static void two_completions(struct io_uring *ring, struct shmq *q, uint64_t other, int *wait,
			    int *result)
{
	for (int i = 0; i < 2; i++) {
		uint64_t data;
		int r = completion(ring, q, &data);

		must(data == DATA_WAIT || data == other);
		*(data == DATA_WAIT ? wait : result) = r;
	}
}

/* Nothing is there, and a bell, if that is what is waited for, is silent. */
static void settle(struct shmq *q)
{
	char buf[8];

	must(shmq_pollfd(q, SHMQ_READABLE) >= 0);
	must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), -EAGAIN);
}

START_TEST(a_linked_timeout_ends_the_wait)
{
	struct __kernel_timespec ts = { .tv_nsec = 10 * MS };
	struct shmq *q = create_attach("q", 1, 4, 8);
	struct io_uring_sqe *sqe;
	struct io_uring ring;
	int wait = 1, timeout = 0, tries;

	if (!ring_open(&ring, _i))
		return;
	for (tries = 0; wait == 1 && tries < 100; tries++) {
		/* The timer of a bell may tick first, if the machine is slow. */
		settle(q);
		wait_for(&ring, q, 0, false)->flags |= IOSQE_IO_LINK;
		sqe = io_uring_get_sqe(&ring);
		must(sqe);
		io_uring_prep_link_timeout(sqe, &ts, 0);
		sqe->user_data = DATA_TIMEOUT;
		must_eq(io_uring_submit(&ring), 2);
		two_completions(&ring, q, DATA_TIMEOUT, &wait, &timeout);
	}
	must_eq(wait, 0);
	/* The kernel says of a futex how many waits the time-out has ended. */
	must(timeout == -ETIME || timeout == 1, "%d", timeout);
	io_uring_queue_exit(&ring);
	shmq_close(q);
}
END_TEST

START_TEST(a_wait_can_be_cancelled)
{
	struct shmq *q = create_attach("q", 1, 4, 8);
	struct io_uring_sqe *sqe;
	struct io_uring ring;
	int wait = 1, cancel = 0, tries;

	if (!ring_open(&ring, _i))
		return;
	for (tries = 0; wait == 1 && tries < 100; tries++) {
		settle(q);
		wait_for(&ring, q, 0, false);
		must_eq(io_uring_submit(&ring), 1);
		sqe = io_uring_get_sqe(&ring);
		must(sqe);
		io_uring_prep_cancel64(sqe, DATA_WAIT, 0);
		sqe->user_data = DATA_CANCEL;
		must_eq(io_uring_submit(&ring), 1);
		two_completions(&ring, q, DATA_CANCEL, &wait, &cancel);
	}
	must_eq(wait, 0);
	must(cancel == 0 || cancel == 1, "%d", cancel); /* as above */
	io_uring_queue_exit(&ring);
	shmq_close(q);
}
END_TEST

struct victim {
	int way;
	atomic_int ready;
};

static int wait_in_ring(void *arg)
{
	struct victim *v = arg;
	struct shmq *q = attach("q");
	struct io_uring ring;
	char buf[8];

	if (!ring_open(&ring, v->way)) {
		atomic_store(&v->ready, 2);
		return 0;
	}
	for (;;) {
		struct io_uring_cqe *cqe;

		must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), -EAGAIN);
		wait_for(&ring, q, 0, false);
		must_eq(io_uring_submit(&ring), 1);
		atomic_store(&v->ready, 1);
		if (io_uring_wait_cqe(&ring, &cqe) == 0)
			io_uring_cqe_seen(&ring, cqe);
	}
	return 0;
}

START_TEST(a_process_killed_in_its_ring_leaves_nothing_behind)
{
	struct shmq *q = create_attach("q", 1, 100, 8);
	struct victim *v = shared(sizeof(*v));
	struct shmq_stat st;
	char buf[8];

	v->way = _i;
	for (int i = 0; i < 20; i++) {
		pid_t pid;

		atomic_store(&v->ready, 0);
		pid = spawn(wait_in_ring, v);
		while (!atomic_load(&v->ready))
			sleep_ns(MS / 10);
		sleep_ns((uint64_t)i * MS / 10);
		kill(pid, SIGKILL);
		if (reap(pid) == 0)
			break; /* no ring */
		must_eq(shmq_push(q, 0, "item", 4, 0), 0);
		must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), 4);
	}
	recover_dead(q);
	stat_of(q, &st);
	must_eq(st.nr_participants, 1);
	must_eq(st.nr_dead, 0);
	fill_exactly(q, 0, 100);
	must_eq(dir_entries(test_dir), 1);
	shmq_close(q);
}
END_TEST

START_TEST(a_wait_that_can_not_be_is_a_nop)
{
	struct shmq *q = create_attach("q", 1, 4, 8);
	struct io_uring_cqe cqe = { .res = -EBADF };
	struct io_uring_sqe *sqe;
	struct io_uring ring;
	uint64_t data;

	if (!ring_open(&ring, BY_FUTEX))
		return;
	must_eq(shmq_uring_prep_wait(NULL, q, 0), -EFAULT);
	sqe = io_uring_get_sqe(&ring);
	must_eq(shmq_uring_prep_wait(sqe, NULL, 0), -EFAULT);
	must_eq(shmq_uring_prep_wait_room(sqe, q, SHMQ_ANY_LANE), -ECHRNG);
	must_eq(shmq_uring_prep_wait(sqe, q, 1), -ECHRNG);
	sqe->user_data = DATA_CANCEL;
	must_eq(io_uring_submit(&ring), 1);
	must_eq(completion(&ring, q, &data), 0);
	must_eq(shmq_uring_complete(q, &cqe), -EBADF);
	must_eq(shmq_uring_complete(q, NULL), -EFAULT);
	io_uring_queue_exit(&ring);
	shmq_close(q);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("uring");
	TCase *c = suite_case(s, "uring", 120);

	tcase_add_loop_test(c, an_item_that_is_there_completes_the_wait_at_once, 0, WAYS);
	tcase_add_loop_test(c, a_push_completes_the_wait_and_none_is_lost, 0, WAYS);
	tcase_add_loop_test(c, room_completes_the_wait_for_room, 0, WAYS);
	tcase_add_loop_test(c, a_linked_timeout_ends_the_wait, 0, WAYS);
	tcase_add_loop_test(c, a_wait_can_be_cancelled, 0, WAYS);
	tcase_add_loop_test(c, a_process_killed_in_its_ring_leaves_nothing_behind, 0, WAYS);
	tcase_add_test(c, a_wait_that_can_not_be_is_a_nop);
	return suite_run(s);
}
