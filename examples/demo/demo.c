/* SPDX-License-Identifier: MIT */
/* demo.c - see demo.h. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "demo.h"

#define WORDS    8
#define WORD_MAX 32

static pid_t children[DEMO_MAX_PROCS * 2];
static int nr_children;
static volatile sig_atomic_t signalled;
static char created[SHMQ_NAME_MAX + 1];
static pid_t creator;

/* ---- time and words ------------------------------------------------------- */

int64_t demo_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * DEMO_NS + ts.tv_nsec;
}

void demo_sleep_until(int64_t ns)
{
	struct timespec ts = {ns / DEMO_NS, ns % DEMO_NS};

	while (!signalled &&
	       clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static char *word(void)
{
	static char words[WORDS][WORD_MAX];
	static unsigned next;

	return words[next++ % WORDS];
}

const char *demo_count(uint64_t n)
{
	char digits[24], *w = word();
	int i, len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
	char *out = w;

	for (i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			*out++ = ',';
		*out++ = digits[i];
	}
	*out = '\0';
	return w;
}

/* Two digits where there are units below, else all. */
static const char *scaled(double n, double step, const char *const *units)
{
	char *w = word();

	for (; n >= step && units[1]; units++)
		n /= step;
	snprintf(w, WORD_MAX, "%.*f %s", n < 10 && n > 0 ? 1 : 0, n, *units);
	return w;
}

const char *demo_time(uint64_t ns)
{
	static const char *const units[] = {"us", "ms", "s", NULL};

	return scaled((double)ns / 1000, 1000, units);
}

const char *demo_bytes(uint64_t n)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", NULL};

	return scaled((double)n, 1024, units);
}

/* ---- processes ------------------------------------------------------------ */

void *demo_shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		       0);

	if (p == MAP_FAILED)
		exit(demo_fail("mmap", -errno));
	return p;
}

static void on_signal(int sig)
{
	(void)sig;
	signalled = 1;
}

void demo_catch_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal};

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

bool demo_interrupted(void)
{
	return signalled;
}

pid_t demo_start(int (*fn)(int number, void *arg), int number, void *arg)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		exit(demo_fail("fork", -errno));
	if (pid > 0) {
		children[nr_children++] = pid;
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_IGN); /* the parent tells */
	signal(SIGTERM, SIG_DFL);
	_exit(fn(number, arg));
}

static void kill_children(void)
{
	int i;

	for (i = 0; i < nr_children; i++)
		kill(children[i], SIGKILL);
	while (nr_children && waitpid(-1, NULL, 0) > 0)
		;
	nr_children = 0;
}

static void forget(pid_t pid)
{
	int i;

	for (i = 0; i < nr_children; i++)
		if (children[i] == pid)
			children[i] = children[--nr_children];
}

int demo_check_children(void)
{
	int status;
	pid_t pid;

	while (nr_children && (pid = waitpid(-1, &status, WNOHANG)) > 0) {
		forget(pid);
		if (status == 0)
			continue;
		printf("process %d %s %d\n", (int)pid,
		       WIFSIGNALED(status) ? "was killed by signal"
					   : "failed with status",
		       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		kill_children();
		return -1;
	}
	return nr_children;
}

/* ---- queue ---------------------------------------------------------------- */

int demo_fail(const char *what, int err)
{
	char words[128];

	shmq_strerror(err, words, sizeof words);
	fprintf(stderr, "%s: %s\n", what, words);
	return 1;
}

/* Also after exit() in a child, which must leave the queue alone. */
static void remove_created(void)
{
	if (getpid() == creator)
		shmq_unlink(created);
}

void demo_create(const char *name, const struct shmq_config *cfg)
{
	int err = shmq_create(name, cfg);

	if (err) {
		fprintf(stderr, "%s\n", shmq_detail());
		exit(demo_fail("shmq_create", err));
	}
	snprintf(created, sizeof created, "%s", name);
	creator = getpid();
	atexit(remove_created);
}

struct shmq *demo_open(const char *name, unsigned flags)
{
	struct shmq *q;
	int err = shmq_open(&q, name, flags);

	if (!err)
		return q;
	fprintf(stderr, "%s\n", shmq_detail());
	exit(demo_fail("shmq_open", err));
}

/* ---- exactly once --------------------------------------------------------- */

static size_t words_of(uint64_t most)
{
	return (size_t)((most + 63) / 64);
}

struct demo_ledger *demo_ledger(int producers, uint64_t most)
{
	struct demo_ledger *l;

	l = demo_shared(sizeof *l +
			sizeof l->bits[0] * words_of(most) * (size_t)producers);
	l->most = most;
	l->producers = producers;
	return l;
}

static uint64_t fill_word(uint64_t seq, uint32_t producer, size_t i)
{
	return (seq + producer + i + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

void demo_fill(struct demo_item *it, int producer, int lane, uint64_t seq)
{
	size_t i;

	it->seq = seq;
	it->producer = (uint32_t)producer;
	it->lane = (uint32_t)lane;
	for (i = 0; i < sizeof it->fill / sizeof it->fill[0]; i++)
		it->fill[i] = fill_word(seq, it->producer, i);
}

static bool intact(const struct demo_ledger *l, const struct demo_item *it, ssize_t len,
		   int lane)
{
	size_t i;

	if (len != sizeof *it || it->producer >= (uint32_t)l->producers ||
	    it->lane != (uint32_t)lane || it->seq >= l->most)
		return false;
	for (i = 0; i < sizeof it->fill / sizeof it->fill[0]; i++)
		if (it->fill[i] != fill_word(it->seq, it->producer, i))
			return false;
	return true;
}

bool demo_receive(struct demo_ledger *l, const struct demo_item *it, ssize_t len,
		  int lane, uint64_t next[][SHMQ_MAX_LANES])
{
	uint64_t bit = UINT64_C(1) << (it->seq % 64);
	size_t at;

	if (!intact(l, it, len, lane)) {
		atomic_fetch_add(&l->damaged, 1);
		return false;
	}
	if (it->seq < next[it->producer][lane])
		atomic_fetch_add(&l->disordered, 1);
	next[it->producer][lane] = it->seq + 1;
	at = it->producer * words_of(l->most) + (size_t)(it->seq / 64);
	if (atomic_fetch_or_explicit(&l->bits[at], bit, memory_order_relaxed) & bit)
		atomic_fetch_add(&l->twice, 1);
	atomic_fetch_add_explicit(&l->delivered, 1, memory_order_relaxed);
	return true;
}

uint64_t demo_pushed(const struct demo_ledger *l)
{
	uint64_t sum = 0;
	int p;

	for (p = 0; p < l->producers; p++)
		sum += atomic_load_explicit(&l->pushed[p], memory_order_relaxed);
	return sum;
}

uint64_t demo_lost(const struct demo_ledger *l)
{
	uint64_t seq, lost = 0;
	int p;

	for (p = 0; p < l->producers; p++)
		for (seq = 0; seq < l->pushed[p]; seq++)
			lost += !(l->bits[(size_t)p * words_of(l->most) + seq / 64] >>
					  seq % 64 &
				  1);
	return lost;
}

bool demo_account(const struct demo_ledger *l)
{
	uint64_t pushed = demo_pushed(l), lost = demo_lost(l);

	printf("  checked   %s pushed, %s delivered, %s lost, %s twice, %s out of order, "
	       "%s damaged\n",
	       demo_count(pushed), demo_count(l->delivered), demo_count(lost),
	       demo_count(l->twice), demo_count(l->disordered), demo_count(l->damaged));
	return !lost && !l->twice && !l->disordered && !l->damaged &&
	       l->delivered == pushed;
}
