/* SPDX-License-Identifier: MIT */
/*
 * workers.c - the processes, or the threads of one process, that do the work of a run.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define PAUSING_TRIES 8 /* with 1, 2, 4 ... pauses; then the processor is given away */

struct seat {
	void (*work)(void *arg, int index);
	void *arg;
	int index, pin;
};

volatile sig_atomic_t bench_interrupted;

static void on_signal(int sig)
{
	(void)sig;
	bench_interrupted = 1;
}

void bench_catch_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal};

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

static void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb");
#endif
}

void bench_back_off(unsigned *tries)
{
	unsigned i;

	if (*tries >= PAUSING_TRIES) {
		sched_yield();
		return;
	}
	for (i = 1u << (*tries)++; i; i--)
		cpu_relax();
}

static void *sit(void *p)
{
	struct seat *s = p;
	cpu_set_t set;

	if (s->pin) {
		CPU_ZERO(&set);
		CPU_SET(s->index, &set);
		sched_setaffinity(0, sizeof set, &set);
	}
	s->work(s->arg, s->index);
	return NULL;
}

static int sit_in_threads(struct seat *seats, int n)
{
	pthread_t *threads = calloc((size_t)n, sizeof *threads);
	int i;

	for (i = 0; i < n; i++)
		if (!threads || pthread_create(&threads[i], NULL, sit, &seats[i]))
			return 1;
	while (i--)
		pthread_join(threads[i], NULL);
	free(threads);
	return 0;
}

static pid_t start(struct seat *seats, int n)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_IGN); /* the parent ends the run in order */
	signal(SIGTERM, SIG_DFL);
	if (n > 1)
		_exit(sit_in_threads(seats, n));
	sit(seats);
	_exit(0);
}

int bench_start(int threads, int n, int pin, void (*work)(void *arg, int index), void *arg,
		pid_t *pids)
{
	struct seat *seats = calloc((size_t)n, sizeof *seats);
	int i, nr = threads ? 1 : n, err = 0;

	if (!seats)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		seats[i] = (struct seat){work, arg, i, pin};
	for (i = 0; i < nr && !err; i++) {
		pids[i] = start(&seats[i], threads ? n : 1);
		if (pids[i] < 0)
			err = -errno;
	}
	free(seats);
	if (!err)
		return nr;
	for (n = 0; n < i - 1; n++)
		kill(pids[n], SIGKILL);
	bench_reap(pids, i - 1);
	return err;
}

int bench_reap(const pid_t *pids, int n)
{
	int64_t limit = bench_now_ns() + BENCH_GRACE_S * INT64_C(1000000000);
	int i, status, left = n, err = 0;

	while (left) {
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid > 0)
			left--;
		if (pid > 0 && status == 0)
			continue;
		if (pid < 0 || (pid > 0 && status) || bench_now_ns() > limit) {
			err = -EBADE;
			for (i = 0; i < n; i++)
				kill(pids[i], SIGKILL);
			limit = INT64_MAX;
		}
		if (pid < 0)
			break;
		usleep(200);
	}
	return err;
}
