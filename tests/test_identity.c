/* SPDX-License-Identifier: MIT */
/*
 * test_identity.c - who is alive is asked of the kernel and answered right, whatever
 * pids, pid namespaces, fork(), exec() and other descriptors of the same file may
 * suggest.
 *
 * Nearly all cases have the form of hold.h: while its holder lives an item is nobody
 * else's, and when it is dead a waiting one gets it.
 */
#include "hold.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <spawn.h>

enum { NOBODY = 65534 };

/* ---- pids --------------------------------------------------------------- */

struct namesake {
	struct hold first, second;
	bool attaches;
	atomic_int quit;
};

static int dies_holding(void *arg)
{
	struct hold *h = arg;
	struct shmq_lease lease;

	hold_item(attach("q"), &lease);
	hold_ready(h);
	return 1;
}

/* Somebody else with the pid of the dead, who notes if a signal comes. */
static int lives_under_the_name(void *arg)
{
	struct namesake *n = arg;
	struct timespec tick = { 0, 5000000 };
	struct shmq *q = NULL;
	struct shmq_lease lease;
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	if (n->attaches) { /* and holds an item of its own, in lane 1 */
		q = attach("q");
		must_eq(shmq_peek(q, 1, &lease, SHMQ_NOWAIT), 0);
	}
	atomic_store(&n->second.ready, 1);
	while (!atomic_load(&n->quit))
		must(sigtimedwait(&all, NULL, &tick) < 0, "a signal came");
	if (q)
		must_eq(shmq_release(q, &lease), 0);
	shmq_close(q);
	return 0;
}

/* A child with the pid @want: 0 it is taken, -1 not permitted. */
static pid_t spawn_as(pid_t want, int (*fn)(void *), void *arg)
{
	struct clone_args a = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&want,
				.set_tid_size = 1 };
	pid_t me = getpid(), pid = (pid_t)syscall(SYS_clone3, &a, sizeof a);

	if (pid == 0)
		spawned(me, fn, arg);
	if (pid > 0)
		must_eq(pid, want);
	return pid > 0 ? pid : errno == EEXIST ? 0 : -1;
}

START_TEST(another_process_with_the_pid_of_the_dead_does_not_pass_for_it)
{
	struct namesake *n = shared(sizeof(*n));
	struct shmq *q = hold_queue(8);
	uint64_t v = 1;
	pid_t pid, other = 0;

	n->attaches = _i;
	must_eq(shmq_push(q, 1, &v, 8, SHMQ_NOWAIT), 0);
	pid = hold_start(&n->first, dies_holding, &n->first);
	hold_lasts(q, 120 * MS);
	kill(pid, SIGKILL);
	must_eq(reap(pid), SIGNALLED + SIGKILL);
	/* Should somebody else on this machine have been given it, he may go soon. */
	for (int i = 0; i < 100 && other == 0; i++) {
		other = spawn_as(pid, lives_under_the_name, n);
		if (other == 0)
			sleep_ns(20 * MS);
	}
	if (other <= 0) {
		skip("a pid can not be chosen here");
		return;
	}
	while (!atomic_load(&n->second.ready))
		sleep_ns(MS);
	hold_ends(q, "one whose pid somebody else has");
	if (n->attaches) /* the living namesake keeps what it has */
		must_eq(shmq_pop(q, 1, &v, 8, NULL, 150 * (int64_t)MS), -ETIMEDOUT);
	atomic_store(&n->quit, 1);
	reap_ok(other);
	hold_over(q, 1);
	must_eq(depth_of(q, 1), !n->attaches);
	shmq_close(q);
}
END_TEST

/* ---- pid namespaces ----------------------------------------------------- */

/*
 * Three namespaces, each with a /proc of its own, in the last with hidepid, and in each
 * a peer whose pid is 2, all of one unprivileged user. They and the host push and pop,
 * hold an item while they wait for something that never comes, and so look for the
 * dead all the time.
 */
enum { SPACES = 3, PEERS = SPACES + 1, EACH = 200000 };

struct spaces {
	struct arrivals *arrivals;
	atomic_int ready, quit, gone, drained;
	atomic_int no_namespace, no_hidepid;
	atomic_ulong pushed[PEERS];
	struct { int me; } peer[PEERS];
};

static struct spaces *spaces;

static void space_pop(struct shmq *q, int64_t timeout, bool to_the_end)
{
	struct stamp s = { 0 };
	struct shmq_info info;
	ssize_t n;

	do {
		n = shmq_pop(q, 0, &s, sizeof s, &info, timeout);
		must(n == sizeof s || n == -EAGAIN || n == -ETIMEDOUT, "%zd", n);
		if (n < 0)
			return;
		must(info.attempts == 1, "somebody was taken for dead");
		arrivals_got(spaces->arrivals, &s);
	} while (to_the_end);
}

static void space_push(struct shmq *q, int me)
{
	struct stamp s = { (uint32_t)me, sizeof s, atomic_load(&spaces->pushed[me]) };

	if (s.seq < EACH && shmq_push(q, 0, &s, sizeof s, SHMQ_NOWAIT) == 0)
		atomic_fetch_add(&spaces->pushed[me], 1);
}

/* Some traffic, then a wait of a few looks for the dead with an item in hand. */
static void space_turn(struct shmq *q, int me)
{
	struct shmq_lease lease;
	struct stamp s;
	uint64_t v;
	int got;

	for (int i = 0; i < 1000; i++) {
		space_push(q, me);
		space_pop(q, SHMQ_NOWAIT, false);
	}
	space_push(q, me);
	got = shmq_peek(q, 0, &lease, SHMQ_NOWAIT);
	must_eq(shmq_pop(q, 1, &v, 8, NULL, 60 * (int64_t)MS), -ETIMEDOUT);
	if (got < 0)
		return;
	must_eq(lease.info.attempts, 1);
	memcpy(&s, lease.data, sizeof s);
	must_eq(shmq_release(q, &lease), 0);
	arrivals_got(spaces->arrivals, &s);
}

static int space_peer(void *arg)
{
	int me = *(int *)arg;
	struct shmq_lease lease;
	struct shmq_info info;
	struct shmq *q;
	uint64_t v, from;

	must_eq(getpid(), 2);
	become(NOBODY);
	q = attach("q");
	atomic_fetch_add(&spaces->ready, 1);
	while (!atomic_load(&spaces->quit))
		space_turn(q, me);
	atomic_fetch_add(&spaces->gone, 1);
	if (me == 0) { /* one of pid 2 dies with an item, in its namespace */
		while (shmq_peek(q, 2, &lease, SHMQ_FOREVER) < 0)
			;
		raise(SIGKILL);
	}
	if (me == 1) { /* one of pid 2 waits, in another */
		while (!atomic_load(&spaces->drained))
			sleep_ns(MS);
		from = now_ns();
		must_eq(shmq_pop(q, 2, &v, 8, &info, 20 * (int64_t)SECOND), 8);
		from = now_ns() - from;
		fprintf(stderr, "# from one pid namespace to another: found dead after %" PRIu64
			" ms\n", from / MS);
		must_eq(v, ITEM);
		must_eq(info.attempts, 2);
		must(from < 2 * SECOND);
	}
	shmq_close(q);
	return 0;
}

static int space_init(void *arg)
{
	int me = *(int *)arg, status;
	const char *how = me == SPACES - 1 ? "hidepid=2" : NULL;
	pid_t pid;

	must_eq(getpid(), 1);
	must_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	if (mount("proc", "/proc", "proc", 0, how)) {
		atomic_store(&spaces->no_hidepid, 1);
		must_eq(mount("proc", "/proc", "proc", 0, NULL), 0);
	}
	pid = spawn(space_peer, arg);
	status = reap(pid);
	return me == 0 ? status != SIGNALLED + SIGKILL : status;
}

static int space_make(void *arg)
{
	pid_t pid;

	if (unshare(CLONE_NEWPID | CLONE_NEWNS)) {
		atomic_store(&spaces->no_namespace, 1);
		return 0;
	}
	pid = fork();
	must(pid >= 0);
	if (pid == 0)
		spawned(0, space_init, arg);
	return reap(pid);
}

static void spaces_wait(atomic_int *count, int want)
{
	uint64_t end = now_ns() + 30 * SECOND;

	while (atomic_load(count) < want) {
		must(now_ns() < end, "the peers do not come on");
		sleep_ns(MS);
	}
}

/* Traffic for a while; all are attached and none is taken for dead. */
static void spaces_run(struct shmq *q)
{
	uint64_t end = now_ns() + (uint64_t)counts(2500) * MS;
	struct shmq_participant part[PEERS + 1];
	struct shmq_stat st;
	int twos = 0;

	while (now_ns() < end) {
		space_turn(q, SPACES);
		stat_of(q, &st);
		must_eq(st.nr_dead, 0);
		must_eq(st.nr_participants, PEERS);
	}
	must_eq(shmq_participants(q, part, PEERS + 1), PEERS);
	for (int i = 0; i < PEERS; i++) {
		must_eq(part[i].alive, 1);
		twos += part[i].pid == 2;
	}
	must_eq(twos, SPACES);
}

START_TEST(peers_of_one_pid_in_several_pid_namespaces_are_told_apart)
{
	struct shmq_config c = config(3, 100, sizeof(struct stamp));
	uint64_t v = ITEM, all = 0;
	pid_t pid[SPACES];
	struct shmq *q;

	if (geteuid()) {
		skip("namespaces need root");
		return;
	}
	spaces = shared(sizeof(*spaces));
	spaces->arrivals = arrivals_new(PEERS, EACH);
	c.mode = 0660;
	c.gid = NOBODY;
	must_eq(shmq_create("q", &c), 0);
	q = attach("q");
	for (int i = 0; i < PEERS; i++)
		spaces->peer[i].me = i;
	for (int i = 0; i < SPACES; i++)
		pid[i] = spawn(space_make, &spaces->peer[i]);
	while (atomic_load(&spaces->ready) < SPACES && !atomic_load(&spaces->no_namespace))
		sleep_ns(MS);
	if (atomic_load(&spaces->no_namespace)) {
		skip("no new pid namespaces here");
		return;
	}
	if (atomic_load(&spaces->no_hidepid))
		skip("/proc has no hidepid here");
	spaces_run(q);
	atomic_store(&spaces->quit, 1);
	spaces_wait(&spaces->gone, SPACES);
	space_pop(q, SHMQ_NOWAIT, true);
	for (int i = 0; i < PEERS; i++)
		all += atomic_load(&spaces->pushed[i]);
	must_eq(atomic_load(&spaces->arrivals->arrived), all);
	fprintf(stderr, "# %" PRIu64 " items between %d pid namespaces\n", all, PEERS);
	/* The end of the first one; the host keeps its eyes shut. */
	must_eq(shmq_push(q, 2, &v, 8, SHMQ_NOWAIT), 0);
	must_eq(reap(pid[0]), 0);
	atomic_store(&spaces->drained, 1);
	reap_ok(pid[1]);
	reap_ok(pid[2]);
	must_eq(depth_of(q, 0), 0);
	must_eq(depth_of(q, 2), 0);
	shmq_close(q);
}
END_TEST

/* ---- a child of a signal handler, in the middle of a call that sleeps ---------- */

enum sleep { SLEEP_POP, SLEEP_POP_ANY, SLEEP_PEEK, SLEEP_PUSH, SLEEP_RESERVE, SLEEP_WAIT_ANY,
	     NR_SLEEPS };

static pid_t handler_child;

static void forks(int sig)
{
	(void)sig;
	handler_child = fork();
}

static int sleep_in(struct shmq *q, enum sleep how)
{
	struct shmq_wait w = { q, 1, SHMQ_READABLE, 0 };
	struct shmq_lease l;
	uint64_t v = 0;
	void *buf;

	switch (how) {
	case SLEEP_POP:
		return (int)shmq_pop(q, 1, &v, 8, NULL, SHMQ_FOREVER);
	case SLEEP_POP_ANY:
		must_eq(shmq_pop(q, 0, &v, 8, NULL, SHMQ_NOWAIT), 8);
		return (int)shmq_pop(q, SHMQ_ANY_LANE, &v, 8, NULL, SHMQ_FOREVER);
	case SLEEP_PEEK:
		return shmq_peek(q, 1, &l, SHMQ_FOREVER);
	case SLEEP_PUSH:
		return shmq_push(q, 0, &v, 8, SHMQ_FOREVER);
	case SLEEP_RESERVE:
		return shmq_reserve(q, 0, &buf, SHMQ_FOREVER);
	default:
		return shmq_wait_any(&w, 1, SHMQ_FOREVER);
	}
}

struct sleeper {
	enum sleep how;
	atomic_int ready;
};

static int sleeper(void *arg)
{
	struct sleeper *s = arg;
	struct sigaction on = { .sa_handler = forks };
	struct shmq *q = attach("q");
	int r;

	must_eq(sigaction(SIGUSR1, &on, NULL), 0);
	atomic_store(&s->ready, 1);
	r = sleep_in(q, s->how);
	if (handler_child == 0)
		_exit(r == -ECHILD ? 0 : 1);
	must_eq(r, -EINTR);
	reap_ok(handler_child);
	shmq_close(q);
	return 0;
}

START_TEST(a_child_of_a_handler_is_refused_where_its_parent_slept)
{
	struct sleeper *s = shared(sizeof *s);
	struct shmq *q = create_attach("q", 2, 1, 8);
	uint64_t v = 0;
	pid_t pid;

	s->how = (enum sleep)_i;
	must_eq(shmq_push(q, 0, &v, 8, SHMQ_NOWAIT), 0); /* lane 0 is full, lane 1 empty */
	pid = spawn(sleeper, s);
	wait_asleep(pid, &s->ready);
	must_eq(kill(pid, SIGUSR1), 0);
	reap_ok(pid);
	shmq_close(q);
}
END_TEST

/* ---- children ----------------------------------------------------------- */

enum kind { FORK, RAW_CLONE, VFORK_EXEC, POSIX_SPAWN, NR_KINDS };

static const char *const kind_name[] = { "fork", "clone", "vfork and exec", "posix_spawn" };

struct family {
	struct hold h;
	enum kind kind;
	bool outlives;
};

/* What became of the handle in a child that did not exec. */
_Noreturn static void forked(struct family *f, struct shmq *q, struct shmq_lease *lease)
{
	struct shmq_recovered r = { .sz = sizeof r };
	void *buf;
	uint64_t v = 0;

	must_eq(shmq_push(q, 0, &v, 8, SHMQ_NOWAIT), -ECHILD);
	must_eq(shmq_pop(q, 0, &v, 8, NULL, SHMQ_FOREVER), -ECHILD);
	must_eq(shmq_release(q, lease), -ECHILD);
	must_eq(shmq_requeue(q, lease), -ECHILD);
	must_eq(shmq_peek(q, 0, lease, SHMQ_NOWAIT), -ECHILD);
	must_eq(shmq_reserve(q, 0, &buf, SHMQ_NOWAIT), -ECHILD);
	must_eq(shmq_commit(q, 8), -ECHILD);
	must_eq(shmq_abort(q), -ECHILD);
	must_eq(shmq_recover(q, &r), -ECHILD);
	if (f->outlives)
		hold_on();
	shmq_close(q);
	_exit(0);
}

/* No variable of the caller may live in a register across it. */
static pid_t vfork_exec(char *const argv[])
{
	pid_t pid = vfork();

	if (pid == 0) {
		execv(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static pid_t child_of(struct family *f, struct shmq *q, struct shmq_lease *lease)
{
	char *sleeps[] = { "/bin/sleep", "120", NULL }, *ends[] = { "/bin/true", NULL };
	char **argv = f->outlives ? sleeps : ends;
	pid_t pid = -1;

	switch (f->kind) {
	case FORK:
		pid = fork();
		break;
	case RAW_CLONE:
		pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		break;
	case VFORK_EXEC:
		return vfork_exec(argv);
	default:
		must_eq(posix_spawn(&pid, argv[0], NULL, NULL, argv, environ), 0);
	}
	must(pid >= 0);
	if (pid == 0)
		forked(f, q, lease);
	return pid;
}

static int parent(void *arg)
{
	struct family *f = arg;
	struct shmq *q = attach("q");
	struct shmq_lease lease;
	pid_t pid;

	hold_item(q, &lease);
	pid = child_of(f, q, &lease);
	atomic_store(&f->h.pid, pid);
	if (!f->outlives)
		reap_ok(pid);
	hold_ready(&f->h);
	hold_finish(q, &lease);
	shmq_close(q);
	return 0;
}

START_TEST(the_end_of_a_child_does_not_detach_its_parent)
{
	struct family *f = shared(sizeof(*f));
	struct shmq *q = hold_queue(8);
	pid_t pid;

	f->kind = (enum kind)_i;
	pid = hold_start(&f->h, parent, f);
	hold_lasts(q, 150 * MS);
	hold_go(&f->h);
	reap_ok(pid);
	hold_over(q, 1);
	shmq_close(q);
}
END_TEST

static void end_of(pid_t child)
{
	kill(child, SIGKILL);
	must_eq(reap(child), SIGNALLED + SIGKILL);
}

START_TEST(the_death_of_a_parent_is_seen_while_its_child_lives)
{
	struct family *f = shared(sizeof(*f));
	struct shmq *q = hold_queue(8);
	pid_t pid, child;

	f->kind = (enum kind)_i;
	f->outlives = true;
	must_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	pid = hold_start(&f->h, parent, f);
	child = atomic_load(&f->h.pid);
	hold_lasts(q, 120 * MS);
	kill(pid, SIGKILL);
	must_eq(reap(pid), SIGNALLED + SIGKILL);
	hold_ends(q, kind_name[_i]);
	must_eq(waitpid(child, NULL, WNOHANG), 0); /* it lives */
	end_of(child);
	hold_over(q, 1);
	shmq_close(q);
}
END_TEST

/* Between vfork() and exec() the child uses the memory, and the token in it. */
static pid_t vfork_wait_exec(struct hold *h)
{
	static char *const argv[] = { "/bin/sleep", "120", NULL };
	pid_t pid = vfork();

	if (pid == 0) {
		atomic_store(&h->pid, (int)syscall(SYS_getpid));
		hold_ready(h);
		execv(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static int vforks(void *arg)
{
	struct shmq_lease lease;

	hold_item(attach("q"), &lease);
	return vfork_wait_exec(arg) < 0;
}

START_TEST(a_child_that_shares_the_memory_keeps_it_alive_until_it_execs)
{
	struct hold *h = shared(sizeof(*h));
	struct shmq *q = hold_queue(8);
	pid_t pid, child;

	must_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	pid = hold_start(h, vforks, h);
	child = atomic_load(&h->pid);
	must(child != pid);
	hold_lasts(q, 120 * MS);
	kill(pid, SIGKILL);
	must_eq(reap(pid), SIGNALLED + SIGKILL);
	hold_lasts(q, 250 * MS);
	hold_go(h);
	hold_ends(q, "vfork, then exec");
	must_eq(waitpid(child, NULL, WNOHANG), 0);
	end_of(child);
	hold_over(q, 1);
	shmq_close(q);
}
END_TEST

/* ---- exec --------------------------------------------------------------- */

static int execs(void *arg)
{
	char *argv[] = { "/bin/sleep", "120", NULL };
	struct shmq *q = attach("q");
	struct shmq_lease lease;
	struct hold *h = arg;

	hold_item(q, &lease);
	must_eq(execv("/nothing/here", argv), -1); /* and all is as before */
	hold_ready(h);
	execv(argv[0], argv);
	return 127;
}

START_TEST(a_program_that_is_executed_has_nothing_of_the_queue)
{
	struct hold *h = shared(sizeof(*h));
	struct shmq *q = hold_queue(8);
	char name[16];
	int maps;
	pid_t pid;

	pid = hold_start(h, execs, h);
	snprintf(name, sizeof(name), "%d", (int)pid);
	must(uses_of(name, &maps) > 0 && maps > 0);
	hold_lasts(q, 150 * MS);
	hold_go(h);
	hold_ends(q, "exec");
	must_eq(waitpid(pid, NULL, WNOHANG), 0);
	must_eq(uses_of(name, &maps), 0);
	must_eq(maps, 0);
	end_of(pid);
	hold_over(q, 1);
	shmq_close(q);
}
END_TEST

/* ---- the same file elsewhere -------------------------------------------- */

static void open_and_close(struct shmq *q)
{
	for (int how = O_RDONLY; how <= O_RDWR; how++) {
		int fd = open(queue_path("q"), how | O_CLOEXEC);

		(void)q;
		must(fd >= 0);
		close(fd);
	}
}

/* The descriptor that the library has, opened anew and duplicated. */
static void through_proc(struct shmq *q)
{
	char path[64], to[PATH_MAX];
	int found = 0;

	(void)q;
	for (int i = 3; i < 100; i++) {
		ssize_t n;
		int fd;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", i);
		n = readlink(path, to, sizeof(to) - 1);
		to[n > 0 ? n : 0] = '\0';
		if (!strstr(to, "/shmq.q"))
			continue;
		found++;
		fd = open(path, O_RDWR | O_CLOEXEC);
		must(fd >= 0);
		close(fd);
		fd = dup(i);
		must(fd >= 0);
		close(fd);
	}
	must(found > 0);
}

/* Locks of the process and of a description, on what holds the queue. */
static void lock_and_unlock(struct shmq *q)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 << 20 };
	int fd = open(queue_path("q"), O_RDWR | O_CLOEXEC);

	(void)q;
	must(fd >= 0);
	must_eq(fcntl(fd, F_SETLK, &l), 0);
	must_eq(flock(fd, LOCK_EX), 0);
	l.l_type = F_UNLCK;
	l.l_len = 0; /* to the end and beyond: all that this process has */
	must_eq(fcntl(fd, F_SETLK, &l), 0);
	must_eq(fcntl(fd, F_OFD_SETLK, &l), 0);
	must_eq(flock(fd, LOCK_UN), 0);
	l.l_type = F_WRLCK;
	l.l_len = 1 << 20;
	must_eq(fcntl(fd, F_SETLK, &l), 0);
	close(fd); /* drops the locks of the process, whatever descriptor they came from */
}

static void map_and_unmap(struct shmq *q)
{
	int fd = open(queue_path("q"), O_RDWR | O_CLOEXEC);
	struct stat st;
	void *p;

	(void)q;
	must(fd >= 0 && !fstat(fd, &st));
	p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(p != MAP_FAILED);
	close(fd);
	must_eq(munmap(p, (size_t)st.st_size), 0);
}

static void other_handles_closed(struct shmq *q)
{
	struct shmq *other = attach("q"), *third;

	must_eq(shmq_dup(q, &third), 0);
	shmq_close(third);
	shmq_close(other);
}

static void observer_closed(struct shmq *q)
{
	struct shmq *o;
	struct shmq_stat st;

	(void)q;
	must_eq(shmq_open(&o, "q", SHMQ_OBSERVE), 0);
	stat_of(o, &st);
	shmq_close(o);
}

static void queue_removed(struct shmq *q)
{
	(void)q;
	must_eq(shmq_unlink("q"), 0);
	create("q", 1, 1, 8);
	shmq_close(attach("q"));
}

static void (*const elsewhere[])(struct shmq *) = {
	open_and_close, through_proc, lock_and_unlock, map_and_unmap, other_handles_closed,
	observer_closed, queue_removed,
};

struct meddler {
	struct hold h;
	int what;
};

static int meddles(void *arg)
{
	struct meddler *m = arg;
	struct shmq *q = attach("q");
	struct shmq_lease lease;

	hold_item(q, &lease);
	for (int i = 0; i < 5; i++)
		elsewhere[m->what](q);
	hold_ready(&m->h);
	hold_finish(q, &lease);
	return 1;
}

START_TEST(what_a_process_does_with_the_file_elsewhere_does_not_detach_it)
{
	struct meddler *m = shared(sizeof(*m));
	struct shmq *q = hold_queue(8);
	pid_t pid;

	m->what = _i;
	pid = hold_start(&m->h, meddles, m);
	hold_lasts(q, 150 * MS);
	kill(pid, SIGKILL);
	must_eq(reap(pid), SIGNALLED + SIGKILL);
	hold_ends(q, "a process that had the file open elsewhere");
	hold_over(q, 1);
	shmq_close(q);
}
END_TEST

/* Two handles, the second made by dup or open; the one that does not hold is closed. */
struct couple {
	struct hold h;
	bool dup, first_holds;
};

static int closes_one_of_two(void *arg)
{
	struct couple *c = arg;
	struct shmq *a = attach("q"), *b, *keep, *drop;
	struct shmq_lease lease;

	if (c->dup)
		must_eq(shmq_dup(a, &b), 0);
	else
		b = attach("q");
	keep = c->first_holds ? a : b;
	drop = c->first_holds ? b : a;
	hold_item(keep, &lease);
	hold_ready(&c->h);
	shmq_close(drop);
	hold_ready(&c->h);
	hold_finish(keep, &lease);
	shmq_close(keep);
	return 0;
}

static void couple_attached(struct shmq *q, unsigned want)
{
	struct shmq_participant part[8];
	struct shmq_stat st;

	stat_of(q, &st);
	must_eq(st.nr_participants, want);
	must_eq(shmq_participants(q, part, 8), want);
	for (unsigned i = 0; i < want; i++)
		must_eq(part[i].alive, 1);
}

START_TEST(a_handle_that_is_closed_does_not_detach_the_other)
{
	struct couple *c = shared(sizeof(*c));
	struct shmq *q = hold_queue(8);
	pid_t pid;

	c->dup = _i & 1;
	c->first_holds = _i & 2;
	pid = hold_start(&c->h, closes_one_of_two, c);
	couple_attached(q, 3);
	hold_go(&c->h);
	hold_wait(&c->h, pid);
	couple_attached(q, 2);
	hold_lasts(q, 150 * MS);
	hold_go(&c->h);
	reap_ok(pid);
	hold_over(q, 1);
	shmq_close(q);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("identity");
	TCase *t = suite_case(s, "pids", 60);

	tcase_add_loop_test(t, another_process_with_the_pid_of_the_dead_does_not_pass_for_it,
			    0, 2);
	tcase_add_test(t, peers_of_one_pid_in_several_pid_namespaces_are_told_apart);

	t = suite_case(s, "children", 60);
	tcase_add_loop_test(t, the_end_of_a_child_does_not_detach_its_parent, 0, NR_KINDS);
	tcase_add_loop_test(t, a_child_of_a_handler_is_refused_where_its_parent_slept, 0,
			    NR_SLEEPS);
	tcase_add_loop_test(t, the_death_of_a_parent_is_seen_while_its_child_lives, 0,
			    NR_KINDS);
	tcase_add_test(t, a_child_that_shares_the_memory_keeps_it_alive_until_it_execs);
	tcase_add_test(t, a_program_that_is_executed_has_nothing_of_the_queue);

	t = suite_case(s, "descriptors", 60);
	tcase_add_loop_test(t, what_a_process_does_with_the_file_elsewhere_does_not_detach_it,
			    0, ARRAY_LEN(elsewhere));
	tcase_add_loop_test(t, a_handle_that_is_closed_does_not_detach_the_other, 0, 4);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
