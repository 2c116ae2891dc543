/* SPDX-License-Identifier: MIT */
/*
 * test_points.c - a process is killed at each named death point (lib/point.h), at
 * the first, second and third time it comes by, and the queue is then as if its
 * unfinished call had happened, or had not.
 *
 * The scene is set so that every point is passed: a producer that died with a
 * ticket (its hole lies in front), a consumer that died with an item, and a victim
 * that attaches, pushes, pops, recovers the two, writes and reads in place, moves an
 * item to the dead-letter lane, polls, and leaves. What the victim had finished is in a log
 * in shared memory, written before and after each call.
 *
 * A new POINT() is covered the day it is written: the names come from the ELF
 * section, and a point that is never passed fails the test.
 */
#include "common.h"

#include <fcntl.h>

#include "lane.h"
#include "point.h"
#include "recover.h"
#include "wait.h"

#define CAPACITY 40
#define ITEMS 16 /* waiting when the victim comes */
#define TIMES 3
#define ATTEMPTS 2
#define RACING 10 /* between the items of a push and of the one that overtakes it */

extern const char *const __start_shmq_points[];
extern const char *const __stop_shmq_points[];

enum { IDLE, PUSHING, POPPING };

struct log { /* of the victim, in memory that outlives it */
	int doing, passed;
	atomic_int attached, turn; /* of those who are to die first */
	int first, n; /* of the push it is in */
	bool pushed[256], popped[256];
	bool kept[256]; /* held or moved, never consumed */
};

static struct log *victim_log;
static const char *kill_at;
static int kill_after;
static struct shmq *racer; /* draws the ticket that the next push expects */

static void hook(const char *name)
{
	if (racer && !strcmp(name, "push_one:pending")) {
		struct shmq *q = racer;
		uint64_t id = victim_log->first + RACING;

		racer = NULL;
		shmq_point_hook = NULL;
		must_eq(shmq_push(q, 0, &id, sizeof id, 0), 0);
		victim_log->pushed[id] = true;
		shmq_point_hook = hook;
	}
	if (kill_at && !strcmp(name, kill_at) && ++victim_log->passed == kill_after)
		kill(getpid(), SIGKILL);
}

static void arm(const char *name, int times)
{
	kill_at = name;
	kill_after = times;
	victim_log->passed = 0;
	shmq_point_hook = hook;
}

static void push_ids(struct shmq *q, int first, int n)
{
	struct iovec v[ITEMS];
	uint64_t ids[ITEMS];
	int i;

	for (i = 0; i < n; i++) {
		ids[i] = (uint64_t)(first + i);
		v[i] = (struct iovec){ &ids[i], sizeof ids[i] };
	}
	victim_log->first = first;
	victim_log->n = n;
	victim_log->doing = PUSHING;
	must_eq(n == 1 ? shmq_push(q, 0, &ids[0], 8, 0) == 0 : shmq_push_n(q, 0, v, n, 0), n);
	for (i = 0; i < n; i++)
		victim_log->pushed[first + i] = true;
	victim_log->doing = IDLE;
}

static void pop_id(struct shmq *q, int lane)
{
	uint64_t id;

	victim_log->doing = POPPING;
	must_eq(shmq_pop(q, lane, &id, sizeof id, NULL, 0), 8);
	must(id < 256);
	victim_log->popped[id] = true;
	victim_log->doing = IDLE;
}

static uint64_t id_of(const struct shmq_lease *l)
{
	uint64_t id;

	must_eq(l->info.len, sizeof id);
	memcpy(&id, l->data, sizeof id);
	must(id < 256);
	return id;
}

static void push_in_place(struct shmq *q, int id)
{
	uint64_t word = (uint64_t)id;
	void *buf;

	must_eq(shmq_reserve(q, 0, &buf, 0), 0);
	must_eq(shmq_abort(q), 0);
	victim_log->first = id;
	victim_log->n = 1;
	victim_log->doing = PUSHING;
	must_eq(shmq_reserve(q, 0, &buf, 0), 0);
	memcpy(buf, &word, sizeof word);
	must_eq(shmq_commit(q, sizeof word), 0);
	victim_log->pushed[id] = true;
	victim_log->doing = IDLE;
}

/* Read one item in place, give it back until it counts as a dead letter, and have it
 * moved by a pop. */
static void make_dead_letter(struct shmq *q)
{
	struct shmq_lease l;
	int i;

	for (i = 0; i < ATTEMPTS; i++) {
		must_eq(shmq_peek(q, 0, &l, 0), 0);
		if (victim_log->kept[id_of(&l)])
			must_eq(l.info.attempts, i + 1);
		victim_log->kept[id_of(&l)] = true;
		must_eq(shmq_requeue(q, &l), 0);
	}
	pop_id(q, 0);
	must_eq(depth_of(q, 1), 1);
}

static void pop_in_place(struct shmq *q)
{
	struct shmq_lease l;

	victim_log->doing = POPPING;
	must_eq(shmq_peek(q, 0, &l, 0), 0);
	victim_log->popped[id_of(&l)] = true; /* or it comes again: it may */
	must_eq(shmq_release(q, &l), 0);
	victim_log->doing = IDLE;
}

/* Be polled, and ring one's own bell. */
static void poll_and_push(struct shmq *q)
{
	uint64_t id;
	int i;

	must(shmq_pollfd(q, SHMQ_READABLE) >= 0);
	for (i = 0; i < TIMES; i++) {
		victim_log->doing = POPPING;
		while (shmq_pop(q, 0, &id, sizeof id, NULL, 0) == 8)
			victim_log->popped[id] = true;
		push_ids(q, 160 + i, 1);
	}
}

/* Wake somebody who has armed, and then died. */
static void wake_nobody(struct shmq *q)
{
	int i;

	for (i = 0; i < TIMES; i++) {
		atomic_fetch_or(&wakeup_of(q)->side[WAIT_ITEMS].word, 1u | WAIT_FENCE);
		atomic_store(&wakeup_of(q)->side[WAIT_ITEMS].woken_ns[0], 0);
		push_ids(q, 170 + i, 1);
	}
}

/* The two who die before the victim begins. Both attach before, for who attaches gives
 * back what the dead held. */
enum { PRODUCER = 1, CONSUMER = 2 };

static void wait_turn(int who)
{
	atomic_fetch_add(&victim_log->attached, 1);
	while (atomic_load(&victim_log->turn) != who)
		sleep_ns(MS / 10);
}

static int dead_producer(void *arg)
{
	struct shmq *q = attach("points");
	uint64_t id = 250;

	(void)arg;
	wait_turn(PRODUCER);
	q->came_by_ns = INT64_MAX; /* in a hurry: the short way opens */
	push_ids(q, 0, 1); /* the first push goes the long way */
	arm("push_one:exact", 1);
	shmq_push(q, 0, &id, sizeof id, 0);
	return 1;
}

static int dead_consumer(void *arg)
{
	struct shmq *q = attach("points");
	uint64_t id;

	(void)arg;
	wait_turn(CONSUMER);
	arm("take:won", 1);
	shmq_pop(q, 0, &id, sizeof id, NULL, 0);
	return 1;
}

static void dies(pid_t pid, int turn)
{
	atomic_store(&victim_log->turn, turn);
	must_eq(reap(pid), SIGNALLED + SIGKILL);
}

/* A hole in front, then items, the first of them held by a dead consumer. */
static void set_scene(struct shmq *q)
{
	word_t *probed = &wakeup_of(q)->probed_ns;
	int passed = victim_log->passed, i;
	pid_t producer, consumer;

	shmq_point_hook = NULL;
	atomic_store(&victim_log->attached, 0);
	producer = spawn(dead_producer, NULL);
	consumer = spawn(dead_consumer, NULL);
	while (atomic_load(&victim_log->attached) < 2)
		sleep_ns(MS / 10);
	dies(producer, PRODUCER);
	for (i = 1; i < ITEMS; i++) {
		atomic_store(probed, sys_coarse_ns()); /* nobody looks for the dead yet */
		push_ids(q, i, 1);
	}
	dies(consumer, CONSUMER);
	victim_log->popped[0] = false;
	victim_log->doing = IDLE;
	atomic_store(probed, sys_coarse_ns());
	victim_log->passed = passed;
	shmq_point_hook = hook;
}

static int victim(void *arg)
{
	const char *point = arg;
	struct shmq *q, *other;
	int i;

	arm(point, kill_after);
	q = attach("points");
	set_scene(q);
	q->came_by_ns = INT64_MAX; /* as above */
	for (i = 0; i < 2; i++) /* past the hole, before anybody looks for the dead */
		pop_id(q, SHMQ_ANY_LANE);
	atomic_store(&wakeup_of(q)->probed_ns, 0); /* now the victim is to look itself */
	push_ids(q, 100, 3);
	for (i = 0; i < 3; i++)
		push_ids(q, 110 + i, 1);
	push_ids(q, 120, 2);
	push_in_place(q, 130);
	push_in_place(q, 131);
	for (i = 0; i < 3; i++)
		pop_id(q, SHMQ_ANY_LANE);
	must_eq(shmq_recover(q, NULL), 0);
	must_eq(shmq_dup(q, &other), 0);
	for (i = 0; i < TIMES; i++) {
		racer = other;
		push_ids(q, 140 + i, 1);
	}
	for (i = 0; i < 14 + 2 * TIMES; i++) /* on to where nothing is marked: the short way */
		pop_id(q, SHMQ_ANY_LANE);
	make_dead_letter(q);
	pop_in_place(q);
	wake_nobody(q);
	poll_and_push(q);
	shmq_close(other);
	shmq_close(q);
	return 0;
}

/* Everything that was promised is there, once; room for all is back. */
static void check_queue(const char *point)
{
	struct shmq *q = attach("points");
	struct shmq_stat st = { .sz = sizeof st };
	bool seen[256] = { false };
	int missing = 0, pushed = 0, i, lost_prefix = 0, again = 0;
	uint64_t id;

	must_eq(shmq_recover(q, NULL), 0);
	while (shmq_pop(q, 0, &id, sizeof id, NULL, 0) == 8 ||
	       shmq_pop(q, 1, &id, sizeof id, NULL, 0) == 8) {
		must(id < 256 && !seen[id], "%s: item %d twice", point, (int)id);
		again += victim_log->popped[id];
		seen[id] = true;
	}
	for (i = 0; i < 250; i++) {
		bool unfinished = victim_log->doing == PUSHING && i >= victim_log->first &&
				  i < victim_log->first + victim_log->n;

		if (unfinished) { /* any prefix of it */
			must(!seen[i] || !lost_prefix, "%s: item %d without the one before",
			     point, i);
			lost_prefix += !seen[i];
		} else if (victim_log->pushed[i]) {
			missing += !seen[i] && !victim_log->popped[i];
		} else {
			must(!seen[i], "%s: item %d was never pushed", point, i);
		}
	}
	must(!seen[250], "%s: the item of the dead producer", point);
	for (i = 0; i < 256; i++)
		must(!victim_log->kept[i] || seen[i] || victim_log->popped[i],
		     "%s: item %d, held and given back, is lost", point, i);
	must(missing + again <= (victim_log->doing == POPPING), "%s: %d items lost, %d "
	     "popped and still there", point, missing, again);
	while (shmq_push(q, 0, &id, sizeof id, 0) == 0)
		pushed++;
	must_eq(pushed, CAPACITY);
	must_eq(shmq_stat(q, &st), 0);
	must_eq(st.nr_dead, 0);
	must_eq(st.nr_participants, 1);
	must_eq(st.lanes[0].depth, CAPACITY);
	must_eq(st.lanes[0].held, 0);
	must_eq(st.lanes[0].unfinished, 0);
	shmq_close(q);
}

START_TEST(a_kill_at_a_named_point_costs_nothing)
{
	int nr = (int)(__stop_shmq_points - __start_shmq_points);
	const char *point = __start_shmq_points[_i / TIMES];
	struct shmq_config c;
	int status;

	ck_assert_int_lt(_i / TIMES, nr);
	victim_log = shared(sizeof *victim_log);
	shmq_config_init(&c, sizeof c);
	c.nr_lanes = 2;
	c.lanes[0].capacity = c.lanes[1].capacity = CAPACITY;
	c.max_participants = 4;
	c.max_attempts = ATTEMPTS;
	c.dead_lane = 1;
	must_eq(shmq_create("points", &c), 0);
	kill_after = _i % TIMES + 1;
	status = reap(spawn(victim, (void *)(uintptr_t)point));
	if (_i % TIMES == 0)
		must(status == SIGNALLED + SIGKILL, "%s is never passed: make it so", point);
	must(status == SIGNALLED + SIGKILL || status == 0, "%s: status %d", point, status);
	shmq_point_hook = NULL;
	check_queue(point);
	must_eq(shmq_unlink("points"), 0);
}
END_TEST

START_TEST(a_sleeper_gets_what_a_dead_consumer_held)
{
	struct shmq_config c;
	struct shmq *first, *q;
	uint64_t id;

	victim_log = shared(sizeof *victim_log);
	shmq_config_init(&c, sizeof c);
	must_eq(shmq_create("points", &c), 0);
	first = attach("points");
	push_ids(first, 7, 1);
	q = attach("points");
	dies(spawn(dead_consumer, NULL), CONSUMER);
	must_eq(shmq_pop(q, 0, &id, sizeof id, NULL, 1000 * (int64_t)MS), 8);
	must_eq(id, 7);
	shmq_close(q);
	shmq_close(first);
	must_eq(shmq_unlink("points"), 0);
}
END_TEST

struct sleep {
	atomic_int ready;
	atomic_ullong woken_at;
};

static int sleep_in_pop(void *arg)
{
	struct sleep *s = arg;
	struct shmq *q = attach("points");
	uint64_t id;

	atomic_store(&s->ready, 1);
	must_eq(shmq_pop(q, 0, &id, sizeof id, NULL, SHMQ_FOREVER), 8);
	atomic_store(&s->woken_at, now_ns());
	shmq_close(q);
	return 0;
}

static int dead_waker(void *arg)
{
	struct shmq *q = attach("points");

	(void)arg;
	arm("wake:stamped", 1);
	push_ids(q, 1, 1);
	return 1;
}

START_TEST(who_dies_about_to_wake_keeps_others_from_it_for_a_moment_only)
{
	enum { LAPS = 15, SLICE = 50 };
	struct sleep *s = shared(sizeof *s);
	struct shmq *q;
	int late = 0;

	victim_log = shared(sizeof *victim_log);
	create("points", 1, CAPACITY, sizeof(uint64_t));
	q = attach("points");
	for (int i = 0; i < LAPS; i++) {
		uint64_t id, since;
		pid_t pid;

		memset(s, 0, sizeof *s);
		pid = spawn(sleep_in_pop, s);
		wait_asleep(pid, &s->ready);
		must_eq(reap(spawn(dead_waker, NULL)), SIGNALLED + SIGKILL);
		sleep_ns(MS);
		since = now_ns();
		push_ids(q, 2, 1);
		reap_ok(pid);
		/* The end of its slice may have come first. */
		late += (int64_t)(atomic_load(&s->woken_at) - since) > (int64_t)(SLICE / 5 * MS);
		while (shmq_pop(q, 0, &id, sizeof id, NULL, 0) == 8)
			;
	}
	must(late < LAPS / 2, "%d of %d are woken by the end of their slice", late, LAPS);
	shmq_close(q);
	must_eq(shmq_unlink("points"), 0);
}
END_TEST

/* Somebody is about to wake, and looks at the stamp: then this happens. */
static struct {
	word_t *stamp;
	struct shmq *pusher; /* it pushes; or, if there is none, somebody looks */
	uint64_t stamped;    /* what the stamp is then */
} meanwhile;

static void at_wake_due(const char *name)
{
	if (strcmp(name, "wake:due"))
		return;
	shmq_point_hook = NULL;
	if (meanwhile.pusher)
		must_eq(shmq_push(meanwhile.pusher, 0, "y", 1, 0), 0);
	else
		atomic_store(meanwhile.stamp, 0);
	meanwhile.stamped = atomic_load(meanwhile.stamp);
}

/* A sleeper has armed, and was woken at @stamp if that is not 0. Push; the stamp after it. */
static uint64_t push_with(struct shmq *q, struct shmq *pusher, uint64_t stamp)
{
	meanwhile.stamp = &wakeup_of(q)->side[WAIT_ITEMS].woken_ns[0];
	meanwhile.pusher = pusher;
	wait_announce(q, WAIT_ITEMS, 1, WAIT_EPOCH);
	atomic_store(meanwhile.stamp, stamp);
	shmq_point_hook = at_wake_due;
	must_eq(shmq_push(q, 0, "x", 1, 0), 0);
	must(!shmq_point_hook, "nobody was about to wake");
	return atomic_load(meanwhile.stamp);
}

START_TEST(one_who_looks_and_goes_does_not_keep_another_from_being_woken)
{
	struct shmq *q;

	create("points", 1, CAPACITY, sizeof(uint64_t));
	q = attach("points");
	must(push_with(q, NULL, 1) > 1, "nobody was woken"); /* 1: long ago */
	shmq_close(q);
	must_eq(shmq_unlink("points"), 0);
}
END_TEST

START_TEST(of_two_who_are_about_to_wake_one_does)
{
	struct shmq *q, *other;
	uint64_t stamp;

	create("points", 1, CAPACITY, sizeof(uint64_t));
	q = attach("points");
	other = attach("points");
	stamp = push_with(q, other, 0);
	must(stamp != 0, "nobody was woken");
	must_eq(stamp, meanwhile.stamped);
	shmq_close(other);
	shmq_close(q);
	must_eq(shmq_unlink("points"), 0);
}
END_TEST

static struct shmq *losing; /* its descriptor, when it begins to look for the dead */

static void lose(const char *name)
{
	if (losing && !strcmp(name, "recover:probe")) {
		int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

		must_eq(dup2(fd, losing->map->fd), losing->map->fd);
		close(fd);
		losing = NULL;
	}
}

START_TEST(who_loses_the_descriptor_in_the_middle_of_a_look_takes_nobody_for_dead)
{
	struct shmq *q, *other;
	uint64_t id;
	int fd;

	create("points", 1, CAPACITY, sizeof id);
	q = attach("points");
	other = attach("points");
	fd = q->map->fd;
	atomic_store(&wakeup_of(q)->probed_ns, 1); /* long ago */
	losing = q;
	shmq_point_hook = lose;
	must_eq(shmq_pop(q, 0, &id, sizeof id, NULL, 0), -EAGAIN);
	shmq_point_hook = NULL;
	must(!losing, "nobody looked");
	must_eq(participant_state(atomic_load(&participant_of(q, other->me)->state)),
		PARTICIPANT_LIVE);
	must_eq(shmq_push(other, 0, "x", 1, 0), 0);
	shmq_close(other);
	shmq_close(q);
	close(fd);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("points");
	TCase *c = suite_case(s, "points", 30);

	tcase_add_loop_test(c, a_kill_at_a_named_point_costs_nothing, 0,
			    (int)(__stop_shmq_points - __start_shmq_points) * TIMES);
	tcase_add_test(c, a_sleeper_gets_what_a_dead_consumer_held);
	tcase_add_test(c, who_dies_about_to_wake_keeps_others_from_it_for_a_moment_only);
	tcase_add_test(c, one_who_looks_and_goes_does_not_keep_another_from_being_woken);
	tcase_add_test(c, of_two_who_are_about_to_wake_one_does);
	tcase_add_test(c, who_loses_the_descriptor_in_the_middle_of_a_look_takes_nobody_for_dead);
	return suite_run(s);
}
