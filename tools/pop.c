/* SPDX-License-Identifier: MIT */
/*
 * shmq-pop - take messages and write them to stdout.
 *
 * A message that is popped is out of the queue, so as little as possible lies
 * between pop and write: nothing is popped before stdout can take it, no more is
 * popped at once than fits PIPE_BUF (or one message, if it is longer), and what is
 * popped is written before anything else. A reader that stalls or goes away thus
 * leaves the messages in the queue. When a write fails all the same, the number of
 * popped messages that were not written is reported. With --exec nothing can be lost
 * that way: see pop_exec.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pop.h"

enum { OPT_DELIMITER = 256, OPT_LANE, OPT_ALL, OPT_TIMEOUT, OPT_ANY_OWNER, OPT_EXEC };

enum { BATCH = 64 };

static const struct argp_option options[] = {
	{"count", 'n', "N", 0, "take N messages (default 1)", 0},
	{"all", OPT_ALL, NULL, 0, "take all messages until there are none", 0},
	{"follow", 'f', NULL, 0, "take messages for ever, wait when there are none", 0},
	{"timeout", OPT_TIMEOUT, "TIME", 0,
	 "wait so long for each message: 250ms, 1.5s, 2m (default: do not wait)", 0},
	{"exec", OPT_EXEC, "CMD", 0,
	 "run 'sh -c CMD' for each message, which is its stdin; the message is done when "
	 "CMD exits with 0, else it goes back to the queue",
	 0},
	{"lane", OPT_LANE, "LANE", 0,
	 "take from this lane only, by name or number "
	 "(default: the highest lane that has a message)",
	 1},
	{"null", '0', NULL, 0, "end each message with a NUL byte, as for xargs -0", 1},
	{"delimiter", OPT_DELIMITER, "CHAR", 0,
	 "end each message with this byte (default \\n): c, \\n, \\t, \\0 or xNN", 1},
	{"any-owner", OPT_ANY_OWNER, NULL, 0,
	 "accept a queue that belongs to another user", 2},
	TOOL_OPT_QUIET("do not say that the queue is empty; the exit status tells"),
	TOOL_OPT_VERBOSE("write lane, length and attempts of each message to stderr"),
	TOOL_OPT_HELP,
	{0},
};

static const char doc[] =
	"Take messages and write each to stdout, highest lane first.\n\n"
	"  shmq-pop jobs --count 2\n"
	"  shmq-pop jobs/high --follow --exec ./resize.sh\n"
	"\vExit status: 0 done; 1 the command of --exec failed; 64 bad usage; 65 not a "
	"queue; 66 no such queue or lane; "
	"74 stdout could not be written; 75 empty, or fewer than --count; "
	"77 no permission; 130 interrupted.";

/* ---- options ---- */

static void check_args(const struct pop_args *a, struct argp_state *state)
{
	if (!a->from.name[0])
		argp_error(state, "which queue?");
	if (a->lane && a->from.lane[0])
		argp_error(state, "the lane is given twice: %s/%s and --lane %s",
			   a->from.name, a->from.lane, a->lane);
	if (a->all && a->count)
		argp_error(state, "--all or --count, not both");
	if (a->all && a->follow)
		argp_error(state,
			   "--all ends when the queue is empty, --follow never: choose");
	if (a->follow && a->timeout)
		argp_error(state, "--follow waits for ever; with --timeout use --all");
	if (a->command && a->ending)
		argp_error(state,
			   "--exec gives the command the bytes of the message alone; "
			   "leave out -0 and --delimiter");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct pop_args *a = state->input;

	switch (key) {
	case 'n':
		a->count = tool_arg_count(state, "--count", arg);
		return 0;
	case OPT_ALL:
		a->all = true;
		return 0;
	case 'f':
		a->follow = true;
		return 0;
	case OPT_TIMEOUT:
		a->timeout_ns = tool_arg_time(state, "--timeout", arg);
		a->timeout = true;
		return 0;
	case OPT_LANE:
		a->lane = arg;
		return 0;
	case '0':
		a->delimiter = '\0';
		a->ending = true;
		return 0;
	case OPT_DELIMITER:
		a->delimiter = tool_arg_delimiter(state, arg);
		a->ending = true;
		return 0;
	case OPT_EXEC:
		a->command = arg;
		return 0;
	case OPT_ANY_OWNER:
		a->open_flags |= SHMQ_ANY_OWNER;
		return 0;
	case ARGP_KEY_ARG:
		tool_target(state, arg, &a->from);
		return 0;
	case ARGP_KEY_END:
		check_args(a, state);
		return 0;
	default:
		return tool_parse(key, arg, state);
	}
}

/* ---- ends ---- */

int pop_say_interrupted(const struct pop *p, int lost)
{
	if (lost)
		tool_error("interrupted; %ju written, %d popped message%s lost",
			   (uintmax_t)p->done, lost, tool_s((uint64_t)lost));
	else if (tool_talk != TOOL_QUIET)
		tool_error("interrupted; %ju message%s taken from %s", (uintmax_t)p->done,
			   tool_s(p->done), p->label);
	return 128 + tool_signal;
}

static int say_write_error(const struct pop *p, int err, int lost)
{
	tool_error("stdout: %s; %ju written, %d popped message%s lost", strerror(err),
		   (uintmax_t)p->done, lost, tool_s((uint64_t)lost));
	return EX_IOERR;
}

int pop_say_empty(struct pop *p, int err)
{
	char waited[TOOL_HUMAN_MAX + 8] = "", age[TOOL_HUMAN_MAX];

	p->empty = true;
	if (p->args->all && p->done)
		return 0;
	if (tool_talk == TOOL_QUIET)
		return EX_TEMPFAIL;
	if (err == -ETIMEDOUT)
		snprintf(waited, sizeof(waited), " after %s",
			 tool_age((uint64_t)p->timeout_ns, age));
	if (p->done)
		tool_error("%s is empty%s; %ju of %ju taken", p->label, waited,
			   (uintmax_t)p->done, (uintmax_t)p->want);
	else if (err == -ETIMEDOUT)
		tool_error("%s is still empty%s", p->label, waited);
	else
		tool_error("%s is empty (wait with --timeout 5s or --follow)", p->label);
	return EX_TEMPFAIL;
}

/* ---- output ---- */

/* Wait until stdout takes a write. Returns 0, -EINTR, or the error of its end. */
static int wait_for_stdout(void)
{
	struct pollfd pfd = {.fd = STDOUT_FILENO, .events = POLLOUT};

	while (!tool_signal) {
		int n = poll(&pfd, 1, -1);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n <= 0)
			continue;
		return pfd.revents & POLLERR ? -EPIPE : 0; /* the reader has gone */
	}
	return -EINTR;
}

/*
 * Write @n messages with their delimiters. Counts the ones that are written whole.
 * Returns 0, -EINTR when asked to stop, or the error of write().
 */
static int write_messages(struct pop *p, const struct iovec *items, int n)
{
	struct iovec out[2 * BATCH];
	unsigned char delimiter = (unsigned char)p->args->delimiter;
	int first = 0;

	for (int i = 0; i < n; i++) {
		out[2 * i] = items[i];
		out[2 * i + 1] = (struct iovec){&delimiter, 1};
	}
	while (first < 2 * n) {
		ssize_t done = writev(STDOUT_FILENO, &out[first], 2 * n - first);

		if (done < 0 && errno == EAGAIN)
			done = wait_for_stdout();
		else if (done < 0)
			done = -errno;
		if (done < 0 && (done != -EINTR || tool_signal))
			return (int)done;
		for (; done > 0 && (size_t)done >= out[first].iov_len; first++) {
			done -= (ssize_t)out[first].iov_len;
			p->done += first & 1;
		}
		if (done > 0) {
			out[first].iov_base = (char *)out[first].iov_base + done;
			out[first].iov_len -= (size_t)done;
		}
	}
	return 0;
}

const char *pop_lane_name(const struct pop *p, const struct shmq_info *info)
{
	return info->lane < p->st.nr_lanes ? p->st.lanes[info->lane].name : "?";
}

void pop_say_message(const struct pop *p, const struct shmq_info *info)
{
	char age[TOOL_HUMAN_MAX];

	fprintf(stderr, "%s/%s  %u B  attempts %u", p->args->from.name,
		pop_lane_name(p, info), info->len, info->attempts);
	if (p->st.flags & SHMQ_STAMP)
		fprintf(stderr, "  waited %s", tool_age(info->wait_ns, age));
	fputc('\n', stderr);
}

/* ---- popping ---- */

/* Pop one batch and write it. Returns 0, or an exit code. */
static int pop_some(struct pop *p)
{
	struct iovec items[BATCH];
	struct shmq_info infos[BATCH];
	uint64_t before = p->done, left = p->want - p->done;
	int n = left < (uint64_t)p->nr_room ? (int)left : p->nr_room;
	int err = wait_for_stdout();

	if (err && err != -EINTR)
		return say_write_error(p, -err, 0);
	for (int i = 0; i < n; i++)
		items[i] = (struct iovec){p->room + (size_t)i * p->st.item_size,
					  p->st.item_size};
	n = err ? err : shmq_pop_n(p->q, p->lane, items, infos, n, p->timeout_ns);
	if (n == -EINTR)
		return 0; /* the caller looks at tool_signal */
	if (n == -EAGAIN || n == -ETIMEDOUT)
		return pop_say_empty(p, n);
	if (n < 0)
		return tool_fail(n, p->label, NULL);
	for (int i = 0; i < n && tool_talk == TOOL_VERBOSE; i++)
		pop_say_message(p, &infos[i]);
	err = write_messages(p, items, n);
	if (err == -EINTR)
		return pop_say_interrupted(p, n - (int)(p->done - before));
	return err ? say_write_error(p, -err, n - (int)(p->done - before)) : 0;
}

/* Room for a batch: what one write can take without blocking half-way. */
static int make_room(struct pop *p)
{
	size_t per_message = p->st.item_size + 1;

	p->nr_room = per_message < PIPE_BUF ? (int)(PIPE_BUF / per_message) : 1;
	if (p->nr_room > BATCH)
		p->nr_room = BATCH;
	p->room = malloc((size_t)p->nr_room * p->st.item_size);
	return p->room ? 0 : tool_fail(-ENOMEM, p->label, NULL);
}

static int pop_all(struct pop *p)
{
	const struct pop_args *a = p->args;
	int (*some)(struct pop *) = a->command ? pop_exec : pop_some;
	int rc = a->command ? 0 : make_room(p);

	p->want = a->count ? a->count : a->all || a->follow ? UINT64_MAX : 1;
	p->timeout_ns = a->follow ? SHMQ_FOREVER : a->timeout_ns;
	while (!rc && !p->empty && p->done < p->want)
		rc = tool_signal ? pop_say_interrupted(p, 0) : some(p);
	free(p->room);
	return rc;
}

/* What is taken from: one lane, or all of them. */
static int choose_lane(struct pop *p)
{
	const struct pop_args *a = p->args;
	const char *lane = a->lane ? a->lane : a->from.lane;
	int rc;

	p->lane = SHMQ_ANY_LANE;
	snprintf(p->label, sizeof(p->label), "%s", a->from.name);
	if (!*lane)
		return 0;
	rc = tool_lane(&p->st, lane, &p->lane);
	if (!rc)
		snprintf(p->label, sizeof(p->label), "%s/%s", a->from.name,
			 p->st.lanes[p->lane].name);
	return rc;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {options, parse, "NAME[/LANE]", doc,
					 NULL,    NULL,  NULL};
	struct pop_args a = {.delimiter = '\n', .timeout_ns = SHMQ_NOWAIT};
	struct pop p = {.args = &a};
	int rc;

	tool_init();
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	tool_signals();
	if (!a.command && (fcntl(STDOUT_FILENO, F_GETFL) & O_ACCMODE) == O_RDONLY)
		return say_write_error(&p, EBADF, 0); /* see it before the first pop */
	rc = tool_open(&p.q, &p.st, a.from.name, a.open_flags);
	if (rc)
		return rc;
	rc = choose_lane(&p);
	if (!rc)
		rc = pop_all(&p);
	shmq_close(p.q);
	return rc;
}
