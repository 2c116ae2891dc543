/* SPDX-License-Identifier: MIT */
/*
 * shmq-restore - put the messages of a file of shmq-dump or shmq-drain into a queue.
 *
 * A file that can be read twice is checked whole before the first message goes into the
 * queue. From a pipe, and with --single-pass, each block is checked before its messages do.
 * When this command stops early it says how to go on behind the last message that was accepted.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

enum { OPT_SKIP = 256, OPT_WHEN_FULL, OPT_PARTIAL, OPT_LANE, OPT_CHECK, OPT_SINGLE_PASS,
       OPT_ANY_OWNER };

enum { BATCH = 64 };

struct args {
	const char *queue, *file;
	const char *lane;
	uint64_t skip;
	bool wait, partial, check, single_pass;
	unsigned open_flags;
};

static const struct argp_option options[] = {
	{"lane", OPT_LANE, "LANE", 0,
	 "put all messages into LANE (default: each into the lane of its name)", 0},
	{"skip", OPT_SKIP, "N", 0, "leave the first N messages out", 0},
	{"partial", OPT_PARTIAL, NULL, 0, "take what is whole of a file without an end", 0},
	{"check", OPT_CHECK, NULL, 0, "only check the file; no queue is needed", 0},
	{"single-pass", OPT_SINGLE_PASS, NULL, 0,
	 "do not check the whole file before the first message is restored", 0},
	{"when-full", OPT_WHEN_FULL, "stop|wait", 0,
	 "what to do when a lane is full: stop (default), or wait for room", 1},
	{"any-owner", OPT_ANY_OWNER, NULL, 0, "accept a queue that belongs to another user", 2},
	TOOL_OPT_QUIET("do not say how many were restored"),
	TOOL_OPT_VERBOSE("say it even if nobody is at the terminal"),
	TOOL_OPT_HELP,
	{0},
};

static const char doc[] =
	"Put the messages of a file into a queue again.\n\n"
	"  shmq-restore jobs jobs.shmqd\n"
	"  shmq-restore jobs --when-full=wait --skip 5120 < jobs.shmqd\n"
	"\vExit status: 0; 64 bad usage; 65 the file is damaged, or a message is too long, or "
	"not a queue; 66 no such file, queue or lane, or the file has no end; 74 it cannot be "
	"read; 75 a lane is full; 77 no permission; 130 interrupted.";

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;

	switch (key) {
	case OPT_LANE:
		a->lane = arg;
		return 0;
	case OPT_SKIP:
		a->skip = tool_arg_count(state, "--skip", arg);
		return 0;
	case OPT_PARTIAL:
		a->partial = true;
		return 0;
	case OPT_CHECK:
		a->check = true;
		return 0;
	case OPT_WHEN_FULL:
		a->wait = !strcmp(arg, "wait");
		if (!a->wait && strcmp(arg, "stop") != 0)
			argp_error(state, "--when-full=%s: stop or wait", arg);
		return 0;
	case OPT_SINGLE_PASS:
		a->single_pass = true;
		return 0;
	case OPT_ANY_OWNER:
		a->open_flags |= SHMQ_ANY_OWNER;
		return 0;
	case ARGP_KEY_ARG:
		if (!a->check && !a->queue)
			a->queue = tool_queue(state, arg);
		else if (!a->file)
			a->file = arg;
		else
			argp_error(state, "one file at a time: %s or %s?", a->file, arg);
		return 0;
	case ARGP_KEY_END:
		if (!a->queue && !a->check)
			argp_error(state, "into which queue? (shmq-stat --names lists them)");
		return 0;
	default:
		return tool_parse(key, arg, state);
	}
}

struct restore {
	const struct args *args;
	const char *path;
	struct shmq *q;
	struct shmq_stat st;
	int lanes[SHMQ_MAX_LANES]; /* of the queue, for those of the file; -1 not looked for */
	struct file_reader file;
	struct iovec batch[BATCH];
	int n, lane;
	uint32_t used; /* lanes of the file that a check has seen messages of */
	uint64_t restored;
};

/* Read to the end: 0 it is as it should be. */
static int check_all(struct restore *r)
{
	struct shmq_info info;
	const void *buf;
	int rc;

	for (;;) {
		rc = tool_signal ? 128 + tool_signal : file_next(&r->file, &info, &buf);
		if (rc)
			break;
		r->used |= 1u << info.lane;
		tool_progress("checked", r->file.messages, r->file.offset);
	}
	return rc == -1 || (rc == EX_NOINPUT && r->args->partial) ? 0 : rc;
}

/* The lane of the queue for lane @i of the file. */
static int find_lane(struct restore *r, uint32_t i)
{
	struct file_lane *l = &r->file.head.lanes[i];
	int rc;

	l->name[sizeof(l->name) - 1] = 0;
	tool_printable(l->name);
	rc = tool_lane(&r->st, r->args->lane ? r->args->lane : l->name, &r->lanes[i]);
	if (rc && !r->args->lane)
		tool_error("%s has messages of a lane %s   (--lane LANE puts all into one)",
			   r->path, l->name);
	return rc;
}

static void say_how_to_go_on(const struct restore *r)
{
	tool_error("%ju message%s restored\n  continue:  shmq-restore %s --skip %ju "
		   "--when-full=wait%s%s%s%s %s", (uintmax_t)r->restored, tool_s(r->restored),
		   r->args->queue, (uintmax_t)(r->args->skip + r->restored),
		   r->args->partial ? " --partial" : "",
		   r->args->single_pass ? " --single-pass" : "", r->args->lane ? " --lane " : "",
		   r->args->lane ? r->args->lane : "", r->args->file ? r->args->file : "< FILE");
}

/* Push the batch. Exit codes. */
static int flush(struct restore *r)
{
	int at = 0;

	while (at < r->n) {
		int n = shmq_push_n(r->q, r->lane, r->batch + at, r->n - at,
				    r->args->wait ? SHMQ_FOREVER : SHMQ_NOWAIT);

		if (n == -EINTR && !tool_signal)
			continue;
		if (n == -EINTR)
			return 128 + tool_signal;
		if (n == -EAGAIN) {
			tool_error("%s/%s is full", r->args->queue, r->st.lanes[r->lane].name);
			return EX_TEMPFAIL;
		}
		if (n < 0)
			return tool_fail(n, r->args->queue, NULL);
		at += n;
		r->restored += (uint64_t)n;
	}
	r->n = 0;
	tool_progress("restored", r->restored, r->file.offset);
	return 0;
}

static int restore_all(struct restore *r)
{
	struct shmq_info info;
	const void *buf;
	int rc = 0, end = 0;

	while (!rc) {
		/* What the batch points to is good only until the next block is read. */
		if (r->n && (!r->file.left || r->n == BATCH))
			rc = flush(r);
		if (!rc && tool_signal)
			rc = 128 + tool_signal;
		if (rc)
			break;
		end = file_next(&r->file, &info, &buf);
		if (end)
			break;
		if (r->file.messages <= r->args->skip)
			continue;
		if (r->lanes[info.lane] < 0 && (rc = find_lane(r, info.lane)))
			break;
		if (info.len > r->st.item_size) {
			rc = flush(r);
			if (!rc)
				tool_error("%s: message %ju has %u bytes, %s takes %ju", r->path,
					   (uintmax_t)r->file.messages, info.len, r->args->queue,
					   (uintmax_t)r->st.item_size);
			rc = rc ? rc : EX_DATAERR;
			break;
		}
		if (r->n && r->lane != r->lanes[info.lane])
			rc = flush(r);
		r->lane = r->lanes[info.lane];
		r->batch[r->n++] = (struct iovec){(void *)(uintptr_t)buf, info.len};
	}
	if (!rc && !(end == -1 || (end == EX_NOINPUT && r->args->partial)))
		rc = end;
	if (rc && r->q)
		say_how_to_go_on(r);
	return rc;
}

static int restore(struct restore *r)
{
	const struct args *a = r->args;
	int rc = tool_open(&r->q, &r->st, a->queue, a->open_flags | SHMQ_PREFAULT);

	for (uint32_t i = 0; i < SHMQ_MAX_LANES; i++) {
		r->lanes[i] = -1;
		if (!rc && r->used & 1u << i)
			rc = find_lane(r, i);
	}
	if (!rc)
		rc = restore_all(r);
	if (!rc && r->file.messages < a->skip) {
		tool_error("--skip %ju: %s has only %ju messages", (uintmax_t)a->skip, r->path,
			   (uintmax_t)r->file.messages);
		rc = EX_DATAERR;
	}
	if (!rc)
		tool_say("restored %ju message%s to %s%s%s", (uintmax_t)r->restored,
			 tool_s(r->restored), a->queue, tool_talk == TOOL_VERBOSE ? ", by " : "",
			 tool_talk == TOOL_VERBOSE ? source_engine(r->file.source) : "");
	shmq_close(r->q);
	return rc;
}

static int work(struct restore *r, int fd)
{
	const struct args *a = r->args;
	struct stat st;
	bool twice = !a->partial && !a->single_pass && !fstat(fd, &st) && S_ISREG(st.st_mode);
	int rc = file_open(&r->file, fd, r->path, a->partial);

	if (!rc && (a->check || twice))
		rc = check_all(r);
	if (!rc && a->check)
		tool_say("%s: %ju message%s of %.200s, all whole", r->path,
			 (uintmax_t)r->file.messages, tool_s(r->file.messages),
			 tool_printable(r->file.head.queue));
	else if (!rc && twice)
		rc = file_rewind(&r->file);
	if (!rc && !a->check)
		rc = restore(r);
	file_close(&r->file);
	return rc;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {options, parse, "NAME [FILE]", doc, NULL, NULL, NULL};
	struct args a = {0};
	struct restore r = {.args = &a};
	int fd = STDIN_FILENO, rc;

	tool_init();
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	tool_signals();
	r.path = a.file && strcmp(a.file, "-") != 0 ? a.file : "standard input";
	if (a.file && strcmp(a.file, "-") != 0)
		fd = open(a.file, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		tool_error("%s: %s", a.file, strerror(errno));
		return errno == EACCES ? EX_NOPERM : EX_NOINPUT;
	}
	rc = work(&r, fd);
	return tool_finish(rc);
}
