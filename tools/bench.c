/* SPDX-License-Identifier: MIT */
/*
 * shmq-bench - how fast a queue is here: processes that push and pop, and how long
 * messages wait.
 *
 * It makes a queue of its own and starts a process for each producer and consumer.
 * Every message is checked (bench_work.c). Ctrl-C ends the measurement early, and what
 * was measured until then is reported.
 */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

enum {
	OPT_PRODUCERS = 256,
	OPT_CONSUMERS,
	OPT_LANES,
	OPT_MSG_SIZE,
	OPT_CAPACITY,
	OPT_BATCH,
	OPT_DURATION,
	OPT_RATE,
	OPT_BUSY,
	OPT_NO_PIN,
	OPT_SEED,
	OPT_JSON,
	OPT_HGRM,
	OPT_SVG,
};

static const struct argp_option options[] = {
	{"producers", OPT_PRODUCERS, "N", 0, "processes that push (1)", 0},
	{"consumers", OPT_CONSUMERS, "N", 0, "processes that pop (1)", 0},
	{"msg-size", OPT_MSG_SIZE, "SIZE", 0, "bytes of a message, 32 to 1M (64)", 0},
	{"lanes", OPT_LANES, "N", 0, "spread the messages over N lanes (1)", 0},
	{"capacity", OPT_CAPACITY, "N", 0, "messages that a lane holds (1K)", 0},
	{"batch", OPT_BATCH, "N", 0, "messages in a call, up to 64 (1)", 0},
	{"rate", OPT_RATE, "N", 0,
	 "push so many messages a second in all (default: as many as go)", 1},
	{"duration", OPT_DURATION, "TIME", 0, "push for so long (5s)", 1},
	{"busy", OPT_BUSY, NULL, 0, "consumers poll, they never sleep", 1},
	{"no-pin", OPT_NO_PIN, NULL, 0,
	 "do not tie processes to CPUs (done if each can have its own)", 1},
	{"seed", OPT_SEED, "N", 0, "of the contents of messages", 1},
	{"json", OPT_JSON, "FILE", 0, "write the result as JSON; - is stdout", 2},
	{"hgrm", OPT_HGRM, "FILE", 0, "write percentiles of the wait for HdrHistogram's plotter", 2},
	{"svg", OPT_SVG, "FILE", 0, "draw them", 2},
	TOOL_OPT_QUIET("say nothing but errors"),
	TOOL_OPT_VERBOSE("say also what each process did"),
	TOOL_OPT_HELP,
	{0},
};

static const char doc[] =
	"Measure a queue on this machine: throughput, and how long messages wait.\n\n"
	"  shmq-bench --producers 8 --consumers 4 --rate 100000\n"
	"  shmq-bench --busy --duration 10s --svg wait.svg\n"
	"\vEvery message is checked. Exit status: 0; 64 bad usage; 70 a message was lost, came "
	"twice, out of order or damaged; 71 a process failed; 73 no room for the queue; "
	"74 a file could not be written. Ctrl-C reports what was measured until then.";

static unsigned arg_in(struct argp_state *state, const char *opt, const char *arg, uint64_t max)
{
	uint64_t n = tool_arg_count(state, opt, arg);

	if (n < 1 || n > max)
		argp_error(state, "%s %s: from 1 to %ju", opt, arg, (uintmax_t)max);
	return (unsigned)n;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct bench *b = state->input;

	switch (key) {
	case OPT_PRODUCERS:
		b->producers = arg_in(state, "--producers", arg, BENCH_PROCS_MAX);
		return 0;
	case OPT_CONSUMERS:
		b->consumers = arg_in(state, "--consumers", arg, BENCH_PROCS_MAX);
		return 0;
	case OPT_LANES:
		b->lanes = arg_in(state, "--lanes", arg, SHMQ_MAX_LANES);
		return 0;
	case OPT_BATCH:
		b->batch = arg_in(state, "--batch", arg, BENCH_BATCH_MAX);
		return 0;
	case OPT_CAPACITY:
		b->capacity = arg_in(state, "--capacity", arg, SHMQ_LANE_CAPACITY_MAX);
		return 0;
	case OPT_MSG_SIZE:
		b->msg_size = tool_arg_size(state, "--msg-size", arg);
		if (b->msg_size < BENCH_MSG_MIN || b->msg_size > SHMQ_ITEM_SIZE_MAX)
			argp_error(state, "--msg-size %s: from %d to 1M", arg, BENCH_MSG_MIN);
		return 0;
	case OPT_RATE:
		b->rate = tool_arg_count(state, "--rate", arg);
		return 0;
	case OPT_DURATION:
		b->duration_ns = tool_arg_time(state, "--duration", arg);
		if (b->duration_ns <= 0)
			argp_error(state, "--duration %s: longer than that", arg);
		return 0;
	case OPT_BUSY:
		b->busy = true;
		return 0;
	case OPT_NO_PIN:
		b->pin = false;
		return 0;
	case OPT_SEED:
		b->seed = tool_arg_count(state, "--seed", arg);
		return 0;
	case OPT_JSON:
		b->json = arg;
		return 0;
	case OPT_HGRM:
		b->hgrm = arg;
		return 0;
	case OPT_SVG:
		b->svg = arg;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "%s: it makes a queue of its own, and takes no name", arg);
		return 0;
	default:
		return tool_parse(key, arg, state);
	}
}

/* ---- the run ---- */

static int make_queue(struct bench *b)
{
	struct shmq_config cfg;
	int r;

	shmq_config_init(&cfg, sizeof(cfg));
	cfg.item_size = b->msg_size;
	cfg.nr_lanes = b->lanes;
	if (cfg.max_participants < b->producers + b->consumers)
		cfg.max_participants = b->producers + b->consumers;
	for (unsigned i = 0; i < b->lanes; i++) {
		snprintf(cfg.lanes[i].name, sizeof(cfg.lanes[i].name), "lane%u", i);
		cfg.lanes[i].capacity = b->capacity;
	}
	snprintf(b->queue, sizeof(b->queue), "bench.%d", (int)getpid());
	r = shmq_create(b->queue, &cfg);
	return r < 0 ? tool_fail(r, b->queue, shmq_detail()) : 0;
}

static pid_t start(const struct bench *b, struct bench_board *board, unsigned i)
{
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	/* Ctrl-C goes to all of the terminal's processes: these end when they are told. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	_exit(bench_work(b, board, i));
}

static const char *who(const struct bench *b, unsigned i)
{
	return i < b->producers ? "producer" : "consumer";
}

/* Wait for the end of process number @i. An exit code. */
static int finish(const struct bench *b, struct bench_board *board, unsigned i, pid_t pid,
		  double *cpu)
{
	struct rusage use;
	int status;

	while (wait4(pid, &status, 0, &use) < 0 && errno == EINTR)
		;
	*cpu += (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
		(double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
	if (WIFSIGNALED(status)) {
		if (i < b->producers)
			atomic_fetch_sub(&board->producers_left, 1);
		tool_error("%s %u died of signal %d (%s)", who(b, i), i, WTERMSIG(status),
			   strsignal(WTERMSIG(status)));
		return EX_OSERR;
	}
	if (board->worker[i].error) {
		char words[128];

		shmq_strerror(board->worker[i].error, words, sizeof(words));
		tool_error("%s %u: %s", who(b, i), i, words);
		return EX_OSERR;
	}
	return WEXITSTATUS(status) ? EX_OSERR : 0;
}

/* Sleep to the end of the measurement, or until a signal or a death ends it. */
static void measure(const struct bench *b)
{
	int64_t left = b->duration_ns;
	siginfo_t info = {0};

	while (left > 0 && !tool_signal && !info.si_pid) {
		int64_t ns = left < 20000000 ? left : 20000000;
		struct timespec t = {0, (long)ns};

		clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
		left -= ns;
		waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT);
	}
}

static int run(const struct bench *b, struct bench_board *board, struct bench_result *r)
{
	unsigned n = b->producers + b->consumers, i, started;
	pid_t *pid = calloc(n, sizeof(*pid));
	int rc = 0;

	if (!pid)
		return tool_fail(-ENOMEM, "memory for processes", NULL);
	atomic_store(&board->producers_left, (int)b->producers);
	for (started = 0; started < n; started++) {
		pid[started] = start(b, board, started);
		if (pid[started] < 0) {
			rc = tool_fail(-errno, "cannot start a process", NULL);
			break;
		}
	}
	while (!rc && !tool_signal && atomic_load(&board->ready) < (int)n) {
		if (waitpid(-1, NULL, WNOHANG | WNOWAIT) > 0)
			break;
		sched_yield();
	}
	shmq_unlink(b->queue); /* all have it; nothing is left behind, whatever comes */
	if (rc) { /* those that run are not told to go */
		for (i = 0; i < started; i++)
			kill(pid[i], SIGKILL);
	}
	atomic_store(&board->go, 1);
	if (!rc)
		measure(b);
	atomic_store(&board->stop, 1);
	r->interrupted = tool_signal != 0;
	for (i = 0; i < started; i++) {
		int e = finish(b, board, i, pid[i],
			       i < b->producers ? &r->cpu_producers : &r->cpu_consumers);

		rc = rc ? rc : e;
	}
	free(pid);
	return rc;
}

/* ---- the result ---- */

static void first_line(const char *path, char *buf, size_t size)
{
	FILE *f = fopen(path, "re");

	if (!f || !fgets(buf, (int)size, f))
		snprintf(buf, size, "n/a");
	if (f)
		fclose(f);
	buf[strcspn(buf, "\n")] = 0;
	tool_printable(buf);
}

static void cpu_name(char buf[96])
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256];

	strcpy(buf, "n/a");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
			char *name = strchr(line, ':') + 1;

			name += strspn(name, " ");
			name[strcspn(name, "\n")] = 0;
			snprintf(buf, 96, "%.95s", name);
			break;
		}
	if (f)
		fclose(f);
	tool_printable(buf);
}

static void describe_machine(struct bench_result *r)
{
	struct utsname u;
	cpu_set_t set;

	r->cpus = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);
	if (getloadavg(&r->load, 1) != 1)
		r->load = -1;
	first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", r->governor,
		   sizeof(r->governor));
	snprintf(r->kernel, sizeof(r->kernel), "%s", uname(&u) ? "n/a" : u.release);
	cpu_name(r->cpu);
}

static void sum_up(const struct bench *b, const struct bench_board *board,
		   struct bench_result *r)
{
	uint64_t pushed = 0, popped = 0, first = UINT64_MAX, last = 0;

	for (unsigned i = 0; i < b->producers + b->consumers; i++) {
		const struct bench_worker *w = &board->worker[i];
		uint64_t moved = atomic_load(&w->moved);

		if (i < b->producers) {
			r->pushed += moved;
			pushed += w->hashes;
			r->full += w->full;
			if (w->first_ns && w->first_ns < first)
				first = w->first_ns;
		} else {
			r->popped += moved;
			popped += w->hashes;
			r->damaged += w->damaged;
			r->disordered += w->disordered;
			histogram_merge(&r->waits, &w->waits);
			if (w->last_ns > last)
				last = w->last_ns;
		}
	}
	r->same = r->pushed == r->popped && pushed == popped;
	r->seconds = last > first ? (double)(last - first) / 1e9 : 0;
	r->rate = r->seconds > 0 ? (double)r->popped / r->seconds : 0;
	r->timed_every = bench_timed_every(b);
}

static const char *grouped(uint64_t n, char *buf, size_t size)
{
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%ju", (uintmax_t)n);
	size_t k = 0;

	for (int i = 0; i < len && k + 2 < size; i++) {
		if (i && (len - i) % 3 == 0)
			buf[k++] = ',';
		buf[k++] = digits[i];
	}
	buf[k] = 0;
	return buf;
}

static void print_wait(const char *name, uint64_t ns)
{
	double us = (double)ns / 1e3;

	if (us < 10)
		printf("   %s %.2f us", name, us);
	else if (us < 10000)
		printf("   %s %.0f us", name, us);
	else
		printf("   %s %.1f ms", name, us / 1e3);
}

static void print_checked(const struct bench_result *r)
{
	char n[32];
	int64_t lost = (int64_t)(r->pushed - r->popped);

	printf("  checked      %s messages", grouped(r->popped, n, sizeof(n)));
	if (r->same)
		printf(", 0 lost, 0 duplicated");
	else if (lost)
		printf(", %jd %s", (intmax_t)(lost > 0 ? lost : -lost),
		       lost > 0 ? "lost" : "duplicated");
	else
		printf(", some lost and as many duplicated");
	printf(", %ju out of order within a lane", (uintmax_t)r->disordered);
	if (r->damaged)
		printf(", %ju damaged", (uintmax_t)r->damaged);
	putchar('\n');
}

static void report(const struct bench *b, const struct bench_board *board,
		   const struct bench_result *r)
{
	char size[TOOL_HUMAN_MAX];

	printf("%u producer%s -> %u consumer%s, %s, %u lane%s, capacity %ju, separate processes",
	       b->producers, tool_s(b->producers), b->consumers, tool_s(b->consumers),
	       tool_bytes(b->msg_size, size), b->lanes, tool_s(b->lanes), (uintmax_t)b->capacity);
	if (b->batch > 1)
		printf(", batches of %u", b->batch);
	if (b->rate)
		printf(", %ju messages/s", (uintmax_t)b->rate);
	if (board->worker[0].cpu >= 0) {
		printf(", cpu");
		for (unsigned i = 0; i < b->producers + b->consumers; i++)
			printf("%s %d", i ? "," : "", board->worker[i].cpu);
	}
	printf("%s\n", r->interrupted ? "   (interrupted)" : "");
	if (r->rate >= 1e6)
		printf("  throughput   %.2f M messages/s", r->rate / 1e6);
	else
		printf("  throughput   %.0f messages/s", r->rate);
	printf("   (%.2f s; cpu seconds: producers %.2f, consumers %.2f)\n", r->seconds,
	       r->cpu_producers, r->cpu_consumers);
	printf("  wait      ");
	print_wait("p50", histogram_at(&r->waits, .5));
	print_wait("p90", histogram_at(&r->waits, .9));
	print_wait("p99", histogram_at(&r->waits, .99));
	print_wait("p99.9", histogram_at(&r->waits, .999));
	print_wait("p99.99", histogram_at(&r->waits, .9999));
	print_wait("max", r->waits.max);
	if (r->timed_every > 1)
		printf("   (1 of %ju timed)", (uintmax_t)r->timed_every);
	putchar('\n');
	print_checked(r);
	if (r->full)
		printf("  full         %ju times a producer had to wait for room\n",
		       (uintmax_t)r->full);
	printf("  machine      %s, %d cpu%s, load %.1f, governor %s, kernel %s, libshmq %s   "
	       "(rerun: --seed %ju)\n",
	       r->cpu, r->cpus, tool_s((uint64_t)r->cpus), r->load, r->governor, r->kernel,
	       shmq_version(), (uintmax_t)b->seed);
	for (unsigned i = 0; tool_talk == TOOL_VERBOSE && i < b->producers + b->consumers; i++)
		printf("  %s %-4u %ju messages\n", who(b, i), i,
		       (uintmax_t)atomic_load(&board->worker[i].moved));
}

int main(int argc, char **argv)
{
	static const struct argp argp = {options, parse, "", doc, NULL, NULL, NULL};
	struct bench b = {.producers = 1, .consumers = 1, .lanes = 1, .batch = 1, .msg_size = 64,
			  .capacity = 1024, .duration_ns = INT64_C(5000000000), .pin = true};
	static struct bench_result r;
	struct bench_board *board;
	size_t bytes;
	int rc;

	tool_init();
	b.seed = (uint64_t)time(NULL) % 1000000;
	argp_parse(&argp, argc, argv, 0, NULL, &b);
	describe_machine(&r);
	b.pin = b.pin && b.producers + b.consumers <= (unsigned)r.cpus;
	bytes = sizeof(*board) + (b.producers + b.consumers) * sizeof(board->worker[0]);
	board = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED)
		return tool_fail(-errno, "memory for results", NULL);
	tool_signals();
	rc = make_queue(&b);
	if (rc)
		return rc;
	rc = run(&b, board, &r);
	if (rc)
		return rc;
	sum_up(&b, board, &r);
	if (tool_talk != TOOL_QUIET && !(b.json && !strcmp(b.json, "-")))
		report(&b, board, &r);
	rc = bench_files(&b, &r);
	if (!rc && (!r.same || r.damaged || r.disordered)) {
		tool_error("messages are not as they were pushed: %ju pushed, %ju popped, %ju "
			   "damaged, %ju out of order", (uintmax_t)r.pushed, (uintmax_t)r.popped,
			   (uintmax_t)r.damaged, (uintmax_t)r.disordered);
		rc = EX_SOFTWARE;
	}
	return tool_finish(rc);
}
