/* SPDX-License-Identifier: MIT */
/*
 * test_life.c - how a process may end, stand still or live on in another form, with an
 * item in its hands and threads asleep in calls; and how soon the others know.
 *
 * See hold.h for the form of most cases.
 */
#include "hold.h"
#include "trace.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { CAPACITY = 5 };

/* ---- a process with threads --------------------------------------------- */

struct party {
	struct hold h;
	int way;
	bool foreign; /* there is an item of the test in lane 1, held by it */
};

/* Of the process itself. */
static struct shmq *holder;
static struct shmq_lease lease;
static atomic_int asleep[2];

static void *sleeps_in_pop(void *arg)
{
	struct shmq *q = arg;
	uint64_t v;

	atomic_store(&asleep[0], (int)syscall(SYS_gettid));
	shmq_pop(q, 1, &v, 8, NULL, SHMQ_FOREVER);
	return NULL;
}

static void *sleeps_in_push(void *arg)
{
	struct shmq *q = arg;
	uint64_t v = 0;

	atomic_store(&asleep[1], (int)syscall(SYS_gettid));
	shmq_push(q, 2, &v, 8, SHMQ_FOREVER);
	return NULL;
}

/* One thread asleep in pop, one in push, each with its own handle. */
static void threads_start(void)
{
	static void *(*const fn[])(void *) = { sleeps_in_pop, sleeps_in_push };

	for (int i = 0; i < 2; i++) {
		pthread_t th;
		struct shmq *q;

		must_eq(shmq_dup(holder, &q), 0);
		must_eq(pthread_create(&th, NULL, fn[i], q), 0);
		while (!atomic_load(&asleep[i]))
			sched_yield();
		wait_asleep(atomic_load(&asleep[i]), &asleep[i]);
	}
}

static void *run(void *arg)
{
	(*(void (**)(void))arg)();
	return NULL;
}

/* Let another thread do it, and wait in a call meanwhile. */
static void in_a_thread(void (*fn)(void))
{
	pthread_t th;
	uint64_t v;

	must_eq(pthread_create(&th, NULL, run, &fn), 0);
	must_eq(shmq_pop(holder, 1, &v, 8, NULL, 60 * (int64_t)SECOND), -ETIMEDOUT);
}

/* ---- ends --------------------------------------------------------------- */

static void aborts(void)
{
	abort();
}

static void exits_here(void)
{
	exit(0);
}

static void exits_in_a_thread(void)
{
	in_a_thread(exits_here);
}

static void close_holder(void)
{
	shmq_close(holder);
}

static void exits_and_closes(void)
{
	must_eq(atexit(close_holder), 0);
	exit(0);
}

static void exits_at_once(void)
{
	_exit(0);
}

static void exits_quickly(void)
{
	quick_exit(0);
}

static void faults(void)
{
	volatile char *volatile nowhere = NULL;

	*nowhere = 0;
}

static void faults_in_a_thread(void)
{
	in_a_thread(faults);
}

static int deeper(volatile char *p)
{
	volatile char more[4096];

	more[0] = *p;
	return *p ? deeper(more) + more[0] : 0;
}

static void overflows_its_stack(void)
{
	volatile char c = 1;

	deeper(&c);
}

static void is_killed(void)
{
	raise(SIGKILL);
}

static void is_terminated(void)
{
	signal(SIGTERM, SIG_DFL);
	raise(SIGTERM);
}

static void execs(void)
{
	execl("/bin/true", "true", NULL);
}

static void execs_in_a_thread(void)
{
	in_a_thread(execs);
}

/* The kernel ends it for a system call it may not make. */
static void breaks_the_rules(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = { ARRAY_LEN(f), f };

	must_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p))
		raise(SIGSYS);
	getppid();
}

static const struct end {
	const char *name;
	void (*fn)(void);
	int status;
} ends[] = {
	{ "abort", aborts, SIGNALLED + SIGABRT },
	{ "exit", exits_here, 0 },
	{ "exit in another thread", exits_in_a_thread, 0 },
	{ "exit and close", exits_and_closes, 0 },
	{ "_exit", exits_at_once, 0 },
	{ "quick_exit", exits_quickly, 0 },
	{ "SIGSEGV", faults, SIGNALLED + SIGSEGV },
	{ "SIGSEGV in another thread", faults_in_a_thread, SIGNALLED + SIGSEGV },
	{ "stack overflow", overflows_its_stack, SIGNALLED + SIGSEGV },
	{ "SIGKILL", is_killed, SIGNALLED + SIGKILL },
	{ "SIGTERM", is_terminated, SIGNALLED + SIGTERM },
	{ "exec", execs, 0 },
	{ "exec in another thread", execs_in_a_thread, 0 },
	{ "seccomp", breaks_the_rules, SIGNALLED + SIGSYS },
};

static int ends_somehow(void *arg)
{
	struct party *p = arg;
	struct rlimit no_core = { 0, 0 };

	setrlimit(RLIMIT_CORE, &no_core);
	holder = attach("q");
	hold_item(holder, &lease);
	threads_start();
	hold_ready(&p->h);
	ends[p->way].fn();
	return 99;
}

/* @lane is full: exactly CAPACITY come out of it and go in again. */
static void lane_is_full(struct shmq *q, int lane)
{
	uint64_t v = 0;
	int n = 0;

	while (shmq_pop(q, lane, &v, 8, NULL, SHMQ_NOWAIT) == 8)
		n++;
	must_eq(n, CAPACITY);
	for (n = 0; shmq_push(q, lane, &v, 8, SHMQ_NOWAIT) == 0; n++)
		;
	must_eq(n, CAPACITY);
}

static struct shmq *party_queue(void)
{
	struct shmq *q = hold_queue(CAPACITY);
	uint64_t v = 0;

	for (int i = 0; i < CAPACITY; i++)
		must_eq(shmq_push(q, 2, &v, 8, SHMQ_NOWAIT), 0);
	return q;
}

START_TEST(however_a_process_ends_the_others_go_on)
{
	const struct end *e = &ends[_i];
	struct party *p = shared(sizeof(*p));
	struct shmq *q = party_queue();
	uint64_t v = 1;
	int status;
	pid_t pid;

	p->way = _i;
	pid = hold_start(&p->h, ends_somehow, p);
	hold_lasts(q, 120 * MS);
	hold_go(&p->h);
	hold_ends(q, e->name);
	status = reap(pid);
	must(status == e->status || SANITIZED, "%s: %d", e->name, status);
	hold_over(q, 1);
	lane_is_full(q, 2);
	must_eq(shmq_push(q, 1, &v, 8, SHMQ_NOWAIT), 0);
	must_eq(shmq_pop(q, 1, &v, 8, NULL, SHMQ_NOWAIT), 8);
	shmq_close(q);
}
END_TEST

/* ---- it lives on -------------------------------------------------------- */

static void finish_here(struct party *p)
{
	hold_ready(&p->h);
	hold_finish(holder, &lease);
	_exit(0);
}

static void *finish_in_a_thread(void *arg)
{
	finish_here(arg);
	return NULL;
}

/* The first thread is gone; for the kernel it is a zombie, but not the process. */
static void main_thread_leaves(struct party *p)
{
	pthread_t th;

	hold_item(holder, &lease);
	threads_start();
	must_eq(pthread_create(&th, NULL, finish_in_a_thread, p), 0);
	pthread_exit(NULL);
}

static void *take_and_vanish(void *arg)
{
	(void)arg;
	hold_item(holder, &lease);
	syscall(SYS_exit, 0); /* not even pthread_exit() */
	return NULL;
}

static void taker_leaves(struct party *p)
{
	pthread_t th;

	threads_start();
	must_eq(pthread_create(&th, NULL, take_and_vanish, NULL), 0);
	must_eq(pthread_join(th, NULL), 0);
	finish_here(p);
}

static void close_all(void)
{
	for (int i = 3; i < 256; i++)
		close(i);
}

/* A helper closes what it has inherited; its parent has it still. */
static void helper_closes_all(struct party *p)
{
	pid_t pid;

	hold_item(holder, &lease);
	threads_start();
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		close_all();
		execs();
		_exit(127);
	}
	reap_ok(pid);
	finish_here(p);
}

/*
 * The descriptors of the process are closed behind the back of the library, and then
 * belong to other files. It stays alive for the others and takes nobody for dead; what
 * can not be done without the descriptor is refused; and the other files stay open.
 */
static void loses_its_descriptors(struct party *p)
{
	char path[2 * PATH_MAX];
	struct shmq *again;
	struct shmq_participant part[8];
	struct shmq_stat st = { .sz = sizeof st };
	uint64_t v;
	int fd;

	snprintf(path, sizeof(path), "%s/other", test_dir);
	do {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		must(fd >= 0);
	} while (fd < 40);
	must_eq(shmq_dup(holder, &again), -EBADF); /* it would not be alive to the others */
	must_eq(shmq_recover(holder, NULL), -EBADF);
	must_eq(shmq_stat(holder, &st), -EBADF);
	must_eq(shmq_participants(holder, part, 8), -EBADF);
	must_eq(shmq_holds(holder, NULL, 0), -EBADF);
	hold_item(holder, &lease);
	must_eq(shmq_pop(holder, 1, &v, 8, NULL, 150 * (int64_t)MS), -ETIMEDOUT);
	hold_ready(&p->h);
	hold_finish(holder, &lease);
	must_eq(shmq_pop(holder, 1, &v, 8, NULL, 150 * (int64_t)MS), -ETIMEDOUT);
	shmq_close(holder);
	for (fd = 3; fd < 40; fd++)
		must(fcntl(fd, F_GETFD) >= 0, "descriptor %d was closed", fd);
	_exit(0);
}

static void closes_all(struct party *p)
{
	threads_start(); /* one that waits on, and would find the dead if it could */
	close_all();
	loses_its_descriptors(p);
}

/* A child that shares the table of descriptors closes them and execs. */
static void shared_table_is_closed(struct party *p)
{
	pid_t pid = (pid_t)syscall(SYS_clone, 0x400 /* CLONE_FILES */ | SIGCHLD, 0, 0, 0, 0);

	must(pid >= 0);
	if (pid == 0) {
		close_all();
		execs();
		_exit(127);
	}
	reap_ok(pid);
	loses_its_descriptors(p);
}

static void (*const lives[])(struct party *) = {
	main_thread_leaves, taker_leaves, helper_closes_all, closes_all, shared_table_is_closed,
};

static int lives_on(void *arg)
{
	struct party *p = arg;

	holder = attach("q");
	lives[p->way](p);
	return 99;
}

static int holds(void *arg)
{
	hold_item(attach("q"), &lease);
	hold_ready(arg);
	return 1;
}

START_TEST(whatever_a_living_process_loses_it_is_not_taken_for_dead)
{
	struct party *p = shared(sizeof(*p));
	struct hold *h = shared(sizeof(*h));
	struct shmq *q = party_queue();
	struct shmq_lease mine;
	uint64_t v = 1;
	pid_t pid, victim;

	/* What this process holds must be left to it by the other. */
	must_eq(shmq_push(q, 1, &v, 8, SHMQ_NOWAIT), 0);
	must_eq(shmq_peek(q, 1, &mine, SHMQ_NOWAIT), 0);
	p->way = _i;
	pid = hold_start(&p->h, lives_on, p);
	must_eq(shmq_pop(q, 0, &v, 8, NULL, 200 * (int64_t)MS), -ETIMEDOUT);
	/* Nor does it keep others from finding one who is. */
	v = ITEM;
	must_eq(shmq_push(q, 0, &v, 8, SHMQ_NOWAIT), 0);
	victim = hold_start(h, holds, h);
	kill(victim, SIGKILL);
	must_eq(reap(victim), SIGNALLED + SIGKILL);
	hold_ends(q, "somebody else");
	hold_go(&p->h);
	reap_ok(pid);
	must_eq(shmq_release(q, &mine), 0);
	hold_over(q, 1);
	lane_is_full(q, 2);
	shmq_close(q);
}
END_TEST

/* ---- stopped ------------------------------------------------------------ */

enum state { HOLDING, RESERVED, IN_POP, IN_PUSH, NR_STATES };

struct stopped {
	struct hold h;
	enum state state;
	bool returned;
};

static int is_stopped(void *arg)
{
	struct stopped *s = arg;
	struct shmq *q = attach("q");
	uint64_t v = 5;
	void *buf;

	atomic_store(&s->h.pid, (int)getpid());
	switch (s->state) {
	case HOLDING:
		hold_item(q, &lease);
		hold_ready(&s->h);
		hold_finish(q, &lease);
		break;
	case RESERVED:
		must_eq(shmq_reserve(q, 1, &buf, SHMQ_NOWAIT), 0);
		hold_ready(&s->h);
		memcpy(buf, &v, 8);
		must_eq(shmq_commit(q, 8), 0);
		break;
	case IN_POP:
		atomic_store(&s->h.ready, 1);
		must_eq(shmq_pop(q, 1, &v, 8, NULL, SHMQ_FOREVER), 8);
		break;
	default:
		atomic_store(&s->h.ready, 1);
		must_eq(shmq_push(q, 2, &v, 8, SHMQ_FOREVER), 0);
	}
	s->returned = true;
	shmq_close(q);
	return 0;
}

static void stop(pid_t pid)
{
	int status;

	must_eq(kill(pid, SIGSTOP), 0);
	must_eq(waitpid(pid, &status, WUNTRACED), pid);
	must(WIFSTOPPED(status));
}

/* All the others work on, and take none of the @n who stand still for dead. */
static void work_while_stopped(struct shmq *q, uint64_t ns, unsigned n)
{
	uint64_t end = now_ns() + ns, v;
	struct shmq_stat st;
	long laps = 0;

	do {
		for (int i = 0; i < 500; i++) { /* in lane 1 there is room for all but one */
			must_eq(shmq_push(q, 1, &laps, 8, SHMQ_NOWAIT), 0);
			must_eq(shmq_pop(q, 1, &v, 8, NULL, SHMQ_NOWAIT), 8);
			must_eq(v, laps++);
		}
		must_eq(shmq_pop(q, 0, &v, 8, NULL, 60 * (int64_t)MS), -ETIMEDOUT);
		stat_of(q, &st);
		must_eq(st.nr_dead, 0);
		must_eq(st.nr_participants, n + 1);
		must_eq(st.lanes[0].held, 1);
		must_eq(st.lanes[1].unfinished, 1);
	} while (now_ns() < end);
	fprintf(stderr, "# %ld items went past %u stopped processes\n", laps, n);
}

START_TEST(who_is_stopped_is_not_dead_and_who_is_killed_then_is)
{
	struct stopped *s = shared(NR_STATES * sizeof(*s));
	struct shmq *q = party_queue();
	bool killed = _i;
	pid_t pid[NR_STATES];
	uint64_t v;

	for (int i = 0; i < NR_STATES; i++) {
		s[i].state = (enum state)i;
		pid[i] = hold_start(&s[i].h, is_stopped, &s[i]);
		if (i >= IN_POP)
			wait_asleep(pid[i], &s[i].h.ready);
		stop(pid[i]);
	}
	work_while_stopped(q, (uint64_t)counts(killed ? 500 : 2500) * MS, NR_STATES);
	for (int i = 0; i < NR_STATES; i++) {
		hold_go(&s[i].h);
		kill(pid[i], killed ? SIGKILL : SIGCONT);
	}
	if (killed) {
		hold_ends(q, "SIGKILL while stopped");
		for (int i = 0; i < NR_STATES; i++)
			must_eq(reap(pid[i]), SIGNALLED + SIGKILL);
	} else {
		reap_ok(pid[HOLDING]);
		reap_ok(pid[RESERVED]); /* its item is for the one in pop */
		reap_ok(pid[IN_POP]);
		must_eq(shmq_pop(q, 2, &v, 8, NULL, SHMQ_NOWAIT), 8);
		reap_ok(pid[IN_PUSH]);
		for (int i = 0; i < NR_STATES; i++)
			must(s[i].returned);
	}
	hold_over(q, 1);
	must_eq(depth_of(q, 1), 0);
	lane_is_full(q, 2);
	shmq_close(q);
}
END_TEST

/* ---- frozen ------------------------------------------------------------- */

static const struct freezer {
	const char *name, *fs, *option; /* in /proc/self/mounts */
	const char *file, *freeze, *thaw, *state, *frozen;
} freezers[] = {
	{ "cgroup v2", "cgroup2", NULL, "cgroup.freeze", "1", "0", "cgroup.events",
	  "frozen 1" },
	{ "cgroup v1", "cgroup", "freezer", "freezer.state", "FROZEN", "THAWED",
	  "freezer.state", "FROZEN" },
};

static char cgroup[PATH_MAX];

static bool cgroup_write(const char *file, const char *text)
{
	char path[2 * PATH_MAX];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", cgroup, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = write(fd, text, strlen(text));
		close(fd);
	}
	return n > 0;
}

static bool cgroup_says(const char *file, const char *text)
{
	char path[2 * PATH_MAX], buf[256];
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", cgroup, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, buf, sizeof(buf) - 1);
		close(fd);
	}
	buf[n > 0 ? n : 0] = '\0';
	return strstr(buf, text) != NULL;
}

/* A cgroup of the kind of @f with @pid in it. */
static bool cgroup_make(const struct freezer *f, pid_t pid)
{
	char line[2 * PATH_MAX], at[PATH_MAX], fs[64], options[PATH_MAX], text[16];
	FILE *m = fopen("/proc/self/mounts", "r");
	bool found = false;

	must(m);
	while (!found && fgets(line, sizeof(line), m))
		found = sscanf(line, "%*s %4095s %63s %4095s", at, fs, options) == 3 &&
			!strcmp(fs, f->fs) && (!f->option || strstr(options, f->option));
	fclose(m);
	if (!found || snprintf(cgroup, sizeof(cgroup), "%.4000s/shmq-test-%d", at,
			       (int)getpid()) < 0 || mkdir(cgroup, 0755))
		return false;
	snprintf(text, sizeof(text), "%d", (int)pid);
	return cgroup_write("cgroup.procs", text) && cgroup_write(f->file, f->thaw);
}

/* Whatever becomes of the test: nobody stays frozen, and the cgroup goes. */
static void cgroup_guard(const struct freezer *f, int *fd)
{
	char c;

	must_eq(pipe(fd), 0);
	if (fork())
		return;
	setsid();
	close(fd[1]);
	while (read(fd[0], &c, 1) < 0 && errno == EINTR)
		;
	for (int i = 0; i < 500; i++) {
		cgroup_write(f->file, f->thaw);
		if (rmdir(cgroup) == 0 || errno == ENOENT)
			break;
		sleep_ns(10 * MS);
	}
	_exit(0);
}

static bool has_ended(pid_t pid)
{
	siginfo_t info = { 0 };

	must_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG), 0);
	return info.si_pid == pid;
}

/* Killed while it is frozen: dead at once in one kind, only when it is thawed in the
 * other. */
static void kill_frozen(struct shmq *q, const struct freezer *f, pid_t pid)
{
	kill(pid, SIGKILL);
	sleep_ns(100 * MS);
	if (!has_ended(pid)) {
		hold_lasts(q, 300 * MS);
		must(!has_ended(pid));
		must(cgroup_write(f->file, f->thaw));
	}
	hold_ends(q, f->name);
	must_eq(reap(pid), SIGNALLED + SIGKILL);
}

START_TEST(who_is_frozen_is_not_dead)
{
	const struct freezer *f = &freezers[_i / 2];
	struct stopped *s = shared(sizeof(*s));
	struct shmq *q = hold_queue(CAPACITY);
	int guard[2];
	pid_t pid;

	pid = hold_start(&s->h, is_stopped, s);
	if (!cgroup_make(f, pid)) {
		rmdir(cgroup);
		skip("no cgroup with a freezer can be made here");
		return;
	}
	cgroup_guard(f, guard);
	must(cgroup_write(f->file, f->freeze));
	while (!cgroup_says(f->state, f->frozen))
		sleep_ns(MS);
	hold_go(&s->h);
	hold_lasts(q, 700 * MS);
	if (_i % 2) {
		kill_frozen(q, f, pid);
	} else {
		must(cgroup_write(f->file, f->thaw));
		reap_ok(pid);
		must(s->returned);
	}
	hold_over(q, 1);
	shmq_close(q);
	close(guard[1]);
}
END_TEST

/* ---- nobody waits ------------------------------------------------------- */

enum worker { PUSHES_AND_POPS, PUSHES_POPS_BATCHES, PUSHES, POPS, NR_WORKERS };

struct workers {
	struct hold h;
	enum worker kind;
	uint64_t pause_ns; /* between rounds of calls */
	atomic_int quit;
	atomic_ulong done;
};

#define SLOW_ROUND (30 * MS) /* longer than the 25 ms between two looks */

/* Calls that never wait and are hardly ever refused, in lane 1 only. */
static int works(void *arg)
{
	struct workers *w = arg;
	struct shmq *q = attach("q"), *other;
	uint64_t v[4] = { 0 };
	struct iovec b[4];

	must_eq(shmq_dup(q, &other), 0);
	while (!atomic_load(&w->quit)) {
		for (int i = 0; i < 4; i++)
			b[i] = (struct iovec){ &v[i], 8 };
		switch (w->kind) {
		case PUSHES_AND_POPS:
			must_eq(shmq_push(q, 1, v, 8, SHMQ_NOWAIT), 0);
			must_eq(shmq_pop(q, 1, v, 8, NULL, SHMQ_NOWAIT), 8);
			break;
		case PUSHES_POPS_BATCHES:
			must_eq(shmq_push_n(q, 1, b, 4, SHMQ_NOWAIT), 4);
			must_eq(shmq_pop_n(q, 1, b, NULL, 4, SHMQ_NOWAIT), 4);
			break;
		case PUSHES: /* the one who pops is another participant */
			must_eq(shmq_push(q, 1, v, 8, SHMQ_NOWAIT), 0);
			must_eq(shmq_pop(other, 1, v, 8, NULL, SHMQ_NOWAIT), 8);
			break;
		default:
			must_eq(shmq_push(other, 1, v, 8, SHMQ_NOWAIT), 0);
			must_eq(shmq_pop(q, 1, v, 8, NULL, SHMQ_NOWAIT), 8);
		}
		if (atomic_fetch_add(&w->done, 1) == (w->pause_ns ? 3 : 1000))
			atomic_store(&w->h.ready, 1);
		if (w->pause_ns)
			sleep_ns(w->pause_ns);
	}
	shmq_close(other);
	shmq_close(q);
	return 0;
}

static int dies_with_both(void *arg)
{
	struct shmq *q = attach("q");
	void *buf;

	hold_item(q, &lease);
	must_eq(shmq_reserve(q, 2, &buf, SHMQ_NOWAIT), 0);
	hold_ready(arg);
	return 1;
}

START_TEST(who_only_works_finds_the_dead_too)
{
	struct workers *w = shared(sizeof(*w));
	struct hold *h = shared(sizeof(*h));
	struct shmq *q = hold_queue(1000), *seeing;
	uint64_t from, v;
	unsigned long rounds;
	struct shmq_stat st;
	struct shmq_info info;
	pid_t pid, worker;

	must_eq(shmq_open(&seeing, "q", SHMQ_OBSERVE), 0);
	pid = hold_start(h, dies_with_both, h);
	w->kind = (enum worker)(_i % NR_WORKERS);
	w->pause_ns = _i < NR_WORKERS ? 0 : SLOW_ROUND;
	worker = hold_start(&w->h, works, w);
	sleep_ns(100 * MS);
	stat_of(seeing, &st);
	must_eq(st.lanes[0].held, 1);
	must_eq(st.lanes[2].unfinished, 1);
	kill(pid, SIGKILL);
	must_eq(reap(pid), SIGNALLED + SIGKILL);
	/* An observer changes nothing: what happens here does the one who works; if it is
	 * slow, at once, and not when it has used up a segment. */
	from = now_ns();
	rounds = atomic_load(&w->done);
	do {
		must(now_ns() - from < 5 * SECOND, "nobody found the dead");
		must(!w->pause_ns || atomic_load(&w->done) - rounds < 8,
		     "8 slow rounds, and nobody found the dead");
		stat_of(seeing, &st);
		sleep_ns(MS);
	} while (st.lanes[0].redelivered == 0 || st.lanes[2].unfinished > 0 ||
		 st.nr_participants != 3);
	fprintf(stderr, "# at work: found dead after %" PRIu64 " ms\n", (now_ns() - from) / MS);
	must_eq(shmq_pop(q, 0, &v, 8, &info, SHMQ_NOWAIT), 8);
	must_eq(v, ITEM);
	must_eq(info.attempts, 2);
	atomic_store(&w->quit, 1);
	reap_ok(worker);
	hold_over(q, 1);
	shmq_close(seeing);
	shmq_close(q);
}
END_TEST

START_TEST(a_handle_that_is_closed_gives_back_what_it_holds_at_once)
{
	struct shmq *q = hold_queue(8), *other;
	struct shmq_info info;
	uint64_t v = 0;
	void *buf;

	for (int i = 0; i < 100; i++) {
		must_eq(shmq_dup(q, &other), 0);
		must_eq(shmq_peek(other, 0, &lease, SHMQ_NOWAIT), 0);
		must_eq(shmq_reserve(other, 1, &buf, SHMQ_NOWAIT), 0);
		must_eq(shmq_pop(q, 0, &v, 8, &info, SHMQ_NOWAIT), -EAGAIN);
		shmq_close(other);
		must_eq(shmq_pop(q, 0, &v, 8, &info, SHMQ_NOWAIT), 8);
		must_eq(info.attempts, 2);
		must_eq(v, ITEM);
		must_eq(shmq_release(q, &lease), -ENOENT);
		must_eq(depth_of(q, 1), 0);
		must_eq(shmq_push(q, 0, &v, 8, SHMQ_NOWAIT), 0);
	}
	shmq_close(q);
}
END_TEST

static int dies_attached(void *arg)
{
	attach("q");
	return arg != NULL;
}

static uint32_t nr_dead(struct shmq *q)
{
	struct shmq_stat st;

	stat_of(q, &st);
	return st.nr_dead;
}

/* A thousand threads would ask a million times. */
START_TEST(another_handle_looks_for_the_dead_only_if_it_has_to)
{
	struct shmq_config c = config(1, 4, 8);
	struct shmq *q, *other, *third;

	c.max_participants = 3;
	must_eq(shmq_create("q", &c), 0);
	q = attach("q");
	reap_ok(spawn(dies_attached, NULL));
	must_eq(shmq_dup(q, &other), 0);
	must_eq(nr_dead(q), 1);
	must_eq(shmq_dup(q, &third), 0); /* takes the place of the dead one */
	must_eq(nr_dead(q), 0);
	shmq_close(third);
	reap_ok(spawn(dies_attached, NULL));
	must_eq(nr_dead(q), 1);
	shmq_close(other);
	other = attach("q"); /* a successor finds what its predecessor held */
	must_eq(nr_dead(q), 0);
	shmq_close(other);
	shmq_close(q);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("life");
	TCase *t = suite_case(s, "ends", 60);

	tcase_add_loop_test(t, however_a_process_ends_the_others_go_on, 0, ARRAY_LEN(ends));
	tcase_add_loop_test(t, whatever_a_living_process_loses_it_is_not_taken_for_dead, 0,
			    ARRAY_LEN(lives));

	t = suite_case(s, "stops", 60);
	tcase_add_loop_test(t, who_is_stopped_is_not_dead_and_who_is_killed_then_is, 0, 2);
	tcase_add_loop_test(t, who_is_frozen_is_not_dead, 0, 2 * ARRAY_LEN(freezers));

	t = suite_case(s, "recovery", 60);
	tcase_add_loop_test(t, who_only_works_finds_the_dead_too, 0, 2 * NR_WORKERS);
	tcase_add_test(t, a_handle_that_is_closed_gives_back_what_it_holds_at_once);
	tcase_add_test(t, another_handle_looks_for_the_dead_only_if_it_has_to);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
