/* SPDX-License-Identifier: MIT */
/*
 * test_hostile.c - a process writes what it likes all over a queue in use. That
 * may cost items and service; it must not crash an honest process, nor hold it
 * longer than its call may last, nor hand it a result out of range.
 */
#include "common.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { LANES = 3, ITEM = 100 };

struct fight {
	uint64_t seed;
	int style;
	atomic_int quit;
	atomic_ulong calls, writes;
	atomic_ullong call_since; /* 0 between calls */
};

/* ---- the hostile one ---------------------------------------------------- */

enum { ANYWHERE, FRONT, SMALL, FLIPS, COPIES, NR_STYLES };

static int mutate(void *arg)
{
	struct fight *f = arg;
	struct rng r = rng_of(f->seed, 1);
	int fd = open(queue_path("q"), O_RDWR | O_CLOEXEC);
	_Atomic uint64_t *w;
	struct stat st;
	uint64_t n;

	must(fd >= 0 && !fstat(fd, &st));
	n = (uint64_t)st.st_size / 8;
	w = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		 fd, 0);
	must(w != MAP_FAILED);
	while (!atomic_load(&f->quit)) {
		uint64_t front = n < 4096 ? n : 4096;
		uint64_t at = rng_below(&r, f->style == ANYWHERE ? n : front);
		uint64_t v = rng_next(&r) >> rng_below(&r, 64);

		switch (f->style) {
		case SMALL: /* looks like an index, a length, a state */
			v = rng_below(&r, 5) - 2;
			break;
		case FLIPS:
			v = w[at] ^ UINT64_C(1) << rng_below(&r, 64);
			break;
		case COPIES: /* plausible words in wrong places */
			v = w[rng_below(&r, front)];
			break;
		}
		w[at] = v;
		if (atomic_fetch_add(&f->writes, 1) % 64 == 0)
			sched_yield();
	}
	return 0;
}

/* ---- the honest one ----------------------------------------------------- */

static int64_t timed(struct fight *f, int64_t result)
{
	atomic_store(&f->call_since, 0);
	atomic_fetch_add(&f->calls, 1);
	return result;
}

#define TIMED(f, call) \
	(atomic_store(&(f)->call_since, now_ns()), timed(f, call))

/*
 * What the first handle copied when the file was whole is right for ever. One
 * that is opened later may have found other numbers that fit together.
 */
static bool first_handle;

static void possible(const char *call, int64_t err)
{
	static const int ok[] = { EAGAIN, ETIMEDOUT, EMSGSIZE, EBADMSG,
				  EUSERS };

	if (err >= 0 || (err == -ECHRNG && !first_handle))
		return;
	for (unsigned i = 0; i < ARRAY_LEN(ok); i++)
		if (err == -ok[i])
			return;
	must(false, "%s: result %d is not documented", call, (int)err);
}

static void look(struct fight *f, struct shmq *q, struct rng *r)
{
	struct shmq_participant part[20];
	struct shmq_stat st = { .sz = sizeof(st) };
	struct shmq_pressure p;
	int64_t n = TIMED(f, shmq_stat(q, &st));

	possible("stat", n);
	if (n == 0) {
		must(st.nr_lanes <= SHMQ_MAX_LANES);
		must(st.item_size <= SHMQ_ITEM_SIZE_MAX);
		must(!first_handle || st.nr_lanes == LANES);
		must(!first_handle || st.item_size == ITEM);
		must(memchr(st.name, 0, sizeof(st.name)));
		must(memchr(st.creator, 0, sizeof(st.creator)));
		for (unsigned i = 0; i < st.nr_lanes; i++)
			must(memchr(st.lanes[i].name, 0,
				    sizeof(st.lanes[i].name)));
	}
	memset(part, 0, sizeof(part));
	n = TIMED(f, shmq_participants(q, part, 16));
	possible("participants", n);
	must(n <= SHMQ_PARTICIPANTS_MAX);
	must_eq(part[16].pid, 0);
	for (int i = 0; i < n && i < 16; i++)
		must(memchr(part[i].command, 0, sizeof(part[i].command)));
	n = TIMED(f, shmq_pressure(q, (int)rng_below(r, LANES), &p));
	possible("pressure", n);
	must(n < 0 || p.level <= SHMQ_LEVEL_OVERLOADED);
}

static void take(struct fight *f, struct shmq *q, struct rng *r, int64_t wait)
{
	int lane = (int)rng_below(r, LANES + 1) - 1;
	struct shmq_info info[4];
	uint8_t buf[4][ITEM + 8];
	struct iovec v[4];
	bool one = rng_below(r, 2);
	int64_t n;

	memset(buf, 0x6b, sizeof(buf));
	for (int i = 0; i < 4; i++)
		v[i] = (struct iovec){ buf[i], ITEM };
	if (one) {
		n = TIMED(f, shmq_pop(q, lane, buf[0], ITEM, info, wait));
		must(n <= ITEM, "%" PRId64 " bytes", n);
		v[0].iov_len = (size_t)(n < 0 ? 0 : n);
		n = n < 0 ? n : 1;
	} else {
		n = TIMED(f, shmq_pop_n(q, lane, v, info, 4, wait));
		must(n <= 4, "%" PRId64 " items", n);
	}
	possible("pop", n);
	for (int i = 0; i < n; i++) {
		must(v[i].iov_len <= ITEM && v[i].iov_len == info[i].len,
		     "%zu bytes", v[i].iov_len);
		must(info[i].lane < (first_handle ? LANES : SHMQ_MAX_LANES),
		     "lane %u", info[i].lane);
	}
	for (int i = 0; i < 4; i++)
		for (int k = ITEM; k < ITEM + 8; k++)
			must(buf[i][k] == 0x6b, "wrote behind the buffer");
}

static void give(struct fight *f, struct shmq *q, struct rng *r, int64_t wait)
{
	int lane = (int)rng_below(r, LANES);
	uint8_t buf[ITEM] = { 1 };
	struct iovec v[4];
	int64_t n;

	for (int i = 0; i < 4; i++)
		v[i] = (struct iovec){ buf, rng_below(r, ITEM + 1) };
	if (rng_below(r, 2)) {
		n = TIMED(f, shmq_push(q, lane, buf, v[0].iov_len, wait));
		must(n <= 0);
	} else {
		n = TIMED(f, shmq_push_n(q, lane, v, 4, wait));
		must(n <= 4);
	}
	possible("push", n);
}

static int honest(void *arg)
{
	struct fight *f = arg;
	struct rng r = rng_of(f->seed, 2);

	first_handle = true;
	while (!atomic_load(&f->quit)) {
		struct shmq *q = NULL, *d = NULL;
		int64_t err = TIMED(f, shmq_open(&q, "q", 0));

		/* A damaged queue may be refused; that was somebody's right. */
		possible("open", err == -EPROTONOSUPPORT ? -EBADMSG : err);
		if (err < 0)
			return 0;
		/* Every other time with one handle to the end. */
		for (int i = 0; (i < 3000 || f->seed % 2) &&
				!atomic_load(&f->quit); i++) {
			int64_t wait = rng_below(&r, 200) ? SHMQ_NOWAIT
							  : (int64_t)MS;

			if (rng_below(&r, 100) == 0)
				look(f, q, &r);
			else if (rng_below(&r, 2))
				take(f, q, &r, wait);
			else
				give(f, q, &r, wait);
		}
		err = TIMED(f, shmq_dup(q, &d));
		possible("dup", err);
		if (err == 0)
			shmq_close(d);
		TIMED(f, (shmq_close(q), 0));
		first_handle = false;
	}
	return 0;
}

/* ---- the referee -------------------------------------------------------- */

/* No call may last this long, with or without a hostile peer. */
static const uint64_t bound = (SANITIZED ? 50 : 10) * SECOND;

static void watch(struct fight *f, pid_t honest_pid, uint64_t ms)
{
	uint64_t end = now_ns() + ms * MS;
	siginfo_t info = { 0 };

	while (now_ns() < end && !info.si_pid) {
		uint64_t since = atomic_load(&f->call_since);

		must(!since || now_ns() < since + bound,
		     "a call has not returned for %" PRIu64 " s",
		     bound / SECOND);
		must_eq(waitid(P_PID, (id_t)honest_pid, &info,
			       WEXITED | WNOWAIT | WNOHANG), 0);
		sleep_ns(MS);
	}
}

START_TEST(a_hostile_writer_cannot_hurt_an_honest_process)
{
	struct fight *f = shared(sizeof(*f));
	struct shmq *q;
	size_t len;
	uint8_t *bytes;
	long rounds = counts(60);

	create("q", LANES, 20, ITEM);
	q = attach("q");
	for (int i = 0; i < 30; i++)
		must_eq(shmq_push(q, i % LANES, "content", 7, 0), 0);
	shmq_close(q);
	bytes = file_read(queue_path("q"), &len);
	f->seed = seed("fight");
	f->style = _i;
	for (long i = 0; i < rounds; i++, f->seed++) {
		unsigned long from = atomic_load(&f->calls);
		pid_t good, bad;

		unlink(queue_path("q"));
		file_write(queue_path("q"), bytes, len, 0600);
		atomic_store(&f->quit, 0);
		good = spawn(honest, f);
		/* It has attached when its first calls are done. */
		for (int ms = 0; atomic_load(&f->calls) < from + 100; ms++) {
			must(ms < 10000, "no call has returned");
			sleep_ns(MS);
		}
		bad = spawn(mutate, f);
		watch(f, good, 80);
		atomic_store(&f->quit, 1);
		watch(f, good, bound / MS + 1000);
		reap_ok(good);
		reap_ok(bad);
	}
	fprintf(stderr, "# %lu calls, %lu hostile writes\n",
		atomic_load(&f->calls), atomic_load(&f->writes));
	must(atomic_load(&f->writes) > 0);
	free(bytes);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("hostile");
	TCase *t = suite_case(s, "hostile", 150);

	tcase_add_loop_test(t, a_hostile_writer_cannot_hurt_an_honest_process,
			    0, NR_STYLES);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
