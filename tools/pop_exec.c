/* SPDX-License-Identifier: MIT */
/*
 * pop_exec.c - shmq-pop --exec: one run of a command per message.
 *
 * The message is held with shmq_peek() while the command runs. It is released, and
 * gone, when the command has exited with 0; in every other case it is requeued. If
 * this process dies in between, the library gives the message to the next consumer.
 * The shell then gets a SIGTERM, which makes it rare that two commands work on one
 * message; it can not be ruled out, and a command has to bear being run twice.
 *
 * The command reads the message from a memory file: no pipe, so it may read all of
 * it, some of it or nothing, whenever it likes, and nobody waits for it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pop.h"

enum { EXIT_FAILED = 1, SH_CANNOT_RUN = 126, SH_NOT_FOUND = 127 };

static const int64_t first_pause_ns = 100000000, longest_pause_ns = 10000000000;

/* ---- one run ---- */

/* A file that holds the message, at its beginning. Returns the fd or -errno. */
static int message_file(const struct shmq_lease *lease)
{
	int fd = memfd_create("message", MFD_CLOEXEC);
	size_t done = 0;

	if (fd < 0)
		return -errno;
	while (done < lease->info.len) {
		ssize_t n = write(fd, (const char *)lease->data + done,
				  lease->info.len - done);

		if (n < 0 && errno != EINTR) {
			n = -errno;
			close(fd);
			return (int)n;
		}
		done += n > 0 ? (size_t)n : 0;
	}
	lseek(fd, 0, SEEK_SET);
	return fd;
}

static int set_environment(const struct pop *p, const struct shmq_info *info)
{
	char attempts[12];

	snprintf(attempts, sizeof(attempts), "%u", info->attempts);
	if (setenv("SHMQ_QUEUE", p->args->from.name, 1) ||
	    setenv("SHMQ_LANE", pop_lane_name(p, info), 1) ||
	    setenv("SHMQ_ATTEMPTS", attempts, 1))
		return -errno;
	return 0;
}

/* The child: from here on it is the command. */
static void become(const char *command, int stdin_fd, pid_t parent)
{
	signal(SIGPIPE, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent) /* it died before the line above */
		_exit(EX_TEMPFAIL);
	dup2(stdin_fd, STDIN_FILENO);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(SH_NOT_FOUND);
}

/* Run the command to its end. Returns 0 and its wait status, or -errno: never ran. */
static int run(const struct pop *p, const struct shmq_lease *lease, int *status)
{
	int fd = message_file(lease), err = fd < 0 ? fd : 0;
	pid_t parent = getpid(), pid;

	if (!err)
		err = set_environment(p, &lease->info);
	fflush(stderr);
	pid = err ? 0 : fork();
	if (!err && !pid)
		become(p->args->command, fd, parent);
	if (pid < 0)
		err = -errno;
	if (fd >= 0)
		close(fd);
	if (err)
		return err;
	/* A signal that asks us to stop does not end the command: we wait for it. */
	while (waitpid(pid, status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* ---- after a run that failed ---- */

static void say_failed(const struct pop *p, const struct shmq_info *info, int status)
{
	char how[64], of[16] = "", buf[TOOL_FATE_MAX];
	const char *fate = tool_fate(&p->st, info->lane, info->attempts, 1, buf);

	if (WIFSIGNALED(status))
		snprintf(how, sizeof(how), "was killed by signal %d", WTERMSIG(status));
	else
		snprintf(how, sizeof(how), "exited with %d", WEXITSTATUS(status));
	if (info->attempts <= p->st.max_attempts) /* more: it is a dead letter */
		snprintf(of, sizeof(of), " of %u", p->st.max_attempts);
	tool_error("the command %s; the message is back in %s/%s, delivery %u%s%s%s", how,
		   p->args->from.name, pop_lane_name(p, info), info->attempts, of,
		   fate ? ": it " : "", fate ? fate : "");
}

/*
 * Commands fail together, when what they all need is down. A growing pause keeps the
 * deliveries of the messages from being used up meanwhile.
 */
static void pause_after_failures(unsigned n)
{
	int64_t ns = first_pause_ns << (n < 8 ? n - 1 : 7);
	struct timespec ts;

	ns = ns < longest_pause_ns ? ns : longest_pause_ns;
	ts = (struct timespec){ns / 1000000000, ns % 1000000000};
	if (!tool_signal)
		nanosleep(&ts, NULL); /* a signal ends it, as the caller will see */
}

/* The message is back already. Returns 0 to go on, or an exit code. */
static int failed(struct pop *p, const struct shmq_info *info, int status)
{
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;

	if (tool_talk != TOOL_QUIET || !p->args->follow)
		say_failed(p, info, status);
	if (tool_signal)
		return 0; /* the caller knows the words for it */
	if (!p->args->follow)
		return EXIT_FAILED;
	if (code == SH_CANNOT_RUN || code == SH_NOT_FOUND) {
		tool_error("it would fail for every message; stopped");
		return EXIT_FAILED;
	}
	p->failures++;
	pause_after_failures(p->failures);
	return 0;
}

int pop_exec(struct pop *p)
{
	struct shmq_lease lease;
	int status = 0, ran, err = shmq_peek(p->q, p->lane, &lease, p->timeout_ns);

	if (err == -EINTR)
		return 0; /* the caller looks at tool_signal */
	if (err == -EAGAIN || err == -ETIMEDOUT)
		return pop_say_empty(p, err);
	if (err)
		return tool_fail(err, p->label, NULL);
	if (tool_talk == TOOL_VERBOSE)
		pop_say_message(p, &lease.info);
	ran = run(p, &lease, &status);
	if (!ran && !status)
		err = shmq_release(p->q, &lease);
	else
		err = shmq_requeue(p->q, &lease);
	if (err)
		return tool_fail(err, p->label, NULL);
	if (ran)
		return tool_fail(ran, "--exec", NULL);
	if (status)
		return failed(p, &lease.info, status);
	p->failures = 0;
	p->done++;
	return 0;
}
