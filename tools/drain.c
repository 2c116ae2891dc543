/* SPDX-License-Identifier: MIT */
/*
 * shmq-drain - move messages from a queue to a file or a pipe.
 *
 * A message is read in place and held; it is released, and so gone from the queue, only
 * when the block that it is in is on the disk. So whatever ends this command, each
 * message is in the file or in the queue. If it was killed in between a message may be in
 * both: then the queue delivers it as one that was delivered before.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

enum { OPT_TO = 256, OPT_UNTIL_EMPTY, OPT_ANY_OWNER };

/* How long a block may wait for more messages, and how often a wait looks around. */
enum { LINGER_MS = 200 };

struct args {
	struct tool_target from;
	const char *to;
	uint64_t count;
	bool until_empty;
	unsigned open_flags;
};

static const struct argp_option options[] = {
	{"to", OPT_TO, "FILE", 0, "write to FILE, which must not exist; - is stdout", 0},
	{"until-empty", OPT_UNTIL_EMPTY, NULL, 0,
	 "end when the queue is empty (default: go on until Ctrl-C)", 0},
	{"count", 'n', "N", 0, "at most N messages", 0},
	{"any-owner", OPT_ANY_OWNER, NULL, 0, "accept a queue that belongs to another user", 1},
	TOOL_OPT_QUIET("do not say how many were moved"),
	TOOL_OPT_VERBOSE("say it even if nobody is at the terminal, and how it was written"),
	TOOL_OPT_HELP,
	{0},
};

static const char doc[] =
	"Move the messages of a queue to a file or a pipe; none is lost on the way.\n\n"
	"  shmq-drain jobs --to jobs.shmqd --until-empty\n"
	"  shmq-drain jobs/dead --to - | ssh backup 'cat > dead.shmqd'\n"
	"\vshmq-restore(1) puts such a file into a queue again. Exit status: 0, also after "
	"Ctrl-C; 64 bad usage; 65 not a queue; 66 no such queue or lane; 73 FILE exists or "
	"cannot be made; 74 it cannot be written; 77 no permission.";

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;

	switch (key) {
	case OPT_TO:
		a->to = arg;
		return 0;
	case OPT_UNTIL_EMPTY:
		a->until_empty = true;
		return 0;
	case 'n':
		a->count = tool_arg_count(state, "--count", arg);
		return 0;
	case OPT_ANY_OWNER:
		a->open_flags |= SHMQ_ANY_OWNER;
		return 0;
	case ARGP_KEY_ARG:
		if (*a->from.name)
			argp_error(state, "one queue at a time: %s or %s?", a->from.name, arg);
		tool_target(state, arg, &a->from);
		return 0;
	case ARGP_KEY_END:
		if (!*a->from.name)
			argp_error(state, "which queue? (shmq-stat --names lists them)");
		if (!a->to)
			argp_error(state, "say where to: --to FILE, or --to - for stdout");
		return 0;
	default:
		return tool_parse(key, arg, state);
	}
}

/* ---- moving ---- */

/* The messages of one block. */
struct batch {
	struct shmq_lease *leases;
	unsigned n;
	uint64_t end; /* bytes of the file with it */
};

struct drain {
	const struct args *args;
	struct shmq *q;
	int lane;
	struct file_writer w;
	struct batch batch[2]; /* one is filled while the other is put onto the disk */
	int at;
	struct shmq_lease ahead; /* did not fit into the last block, */
	bool has_ahead;          /* if there is one */
	uint64_t taken;
};

enum { BATCH_MAX = SHMQ_LEASES_MAX / 2 };

/* They are safe. */
static int release(struct drain *d, struct batch *b)
{
	int r = 0;

	for (unsigned i = 0; i < b->n; i++) {
		int e = shmq_release(d->q, &b->leases[i]);

		r = r < 0 ? r : e;
	}
	b->n = 0;
	return r < 0 ? tool_fail(r, d->args->from.name, NULL) : 0;
}

/* Something failed: what is not safe goes back. */
static void give_back(struct drain *d, struct batch *b)
{
	if (b->end && b->end <= sink_whole(d->w.sink)) {
		release(d, b);
		return;
	}
	while (b->n)
		shmq_requeue(d->q, &b->leases[--b->n]);
}

/* Fill a block, waiting for the first message. 0; -EAGAIN there is none; -EINTR; errors. */
static int fill(struct drain *d)
{
	struct batch *b = &d->batch[d->at];
	bool wait = !d->args->until_empty && !d->batch[!d->at].n;

	while (b->n < BATCH_MAX && d->taken < d->args->count) {
		struct shmq_lease *l = &b->leases[b->n];
		int r = 0;

		if (d->has_ahead)
			*l = d->ahead;
		else
			r = shmq_peek(d->q, d->lane, l,
				      wait && !b->n ? LINGER_MS * INT64_C(1000000) : SHMQ_NOWAIT);
		d->has_ahead = false;
		if (r == -EAGAIN || r == -ETIMEDOUT)
			return b->n ? 0 : -EAGAIN;
		if (r < 0)
			return b->n && r == -EINTR ? 0 : r;
		if (file_full(&d->w, l->info.len)) {
			d->ahead = *l;
			d->has_ahead = true;
			return 0;
		}
		file_add(&d->w, l->data, &l->info);
		b->n++;
		d->taken++;
	}
	return 0;
}

static int move(struct drain *d)
{
	for (;;) {
		struct batch *before = &d->batch[!d->at];
		int r = fill(d), rc;

		if (r == -EAGAIN && before->n) { /* nothing else to do: wait for the disk */
			rc = sink_wait(d->w.sink);
			if (!rc)
				rc = release(d, before);
			if (rc)
				return rc;
			continue;
		}
		if (tool_signal || d->taken == d->args->count ||
		    (r == -EAGAIN && d->args->until_empty))
			return 0; /* what is in the block goes with the end */
		if (r == -EAGAIN || r == -EINTR)
			continue;
		if (r < 0)
			return tool_fail(r, d->args->from.name, NULL);
		rc = file_flush(&d->w, true); /* and the block before is done */
		d->batch[d->at].end = d->w.bytes;
		if (!rc)
			rc = release(d, before);
		if (rc)
			return rc;
		d->at = !d->at;
	}
}

static int drain(struct drain *d)
{
	int rc = move(d);

	if (!rc)
		rc = file_end(&d->w, true);
	for (int i = 0; i < 2; i++)
		if (!rc)
			rc = release(d, &d->batch[i]);
	if (d->has_ahead)
		shmq_requeue(d->q, &d->ahead);
	if (rc) {
		sink_wait(d->w.sink);
		give_back(d, &d->batch[!d->at]);
		d->batch[d->at].end = 0;
		give_back(d, &d->batch[d->at]);
		sink_cut(d->w.sink);
	}
	return rc;
}

static int make_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		tool_error("%s%s%s", path, errno == EEXIST ? " exists" : ": ",
			   errno == EEXIST ? "   (choose another name: nothing is overwritten)"
					   : strerror(errno));
	return fd;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {options, parse, "NAME[/LANE]", doc, NULL, NULL, NULL};
	struct args a = {.count = UINT64_MAX};
	struct drain d = {.args = &a, .lane = SHMQ_ANY_LANE};
	struct sink *sink = NULL;
	struct shmq_stat st;
	char size[TOOL_HUMAN_MAX];
	bool out;
	int fd, rc;

	tool_init();
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	tool_signals();
	rc = tool_open(&d.q, &st, a.from.name, a.open_flags);
	if (!rc && *a.from.lane)
		rc = tool_lane(&st, a.from.lane, &d.lane);
	if (rc)
		return rc;
	for (int i = 0; i < 2; i++) {
		d.batch[i].leases = calloc(BATCH_MAX, sizeof(*d.batch[i].leases));
		if (!d.batch[i].leases)
			return tool_fail(-ENOMEM, "memory for a batch", NULL);
	}
	out = !strcmp(a.to, "-");
	fd = out ? STDOUT_FILENO : make_file(a.to);
	if (fd < 0)
		return EX_CANTCREAT;
	rc = sink_open(&sink, fd, out ? "standard output" : a.to);
	if (!rc)
		rc = file_begin(&d.w, sink, a.to, &st);
	if (!rc)
		rc = drain(&d);
	if (d.w.messages || !rc)
		tool_say("moved %ju message%s of %s to %s: %s%s%s", (uintmax_t)d.w.messages,
			 tool_s(d.w.messages), a.from.name, out ? "standard output" : a.to,
			 tool_bytes(d.w.bytes, size), tool_talk == TOOL_VERBOSE ? ", by " : "",
			 tool_talk == TOOL_VERBOSE ? sink_engine(sink) : "");
	sink_close(sink);
	file_free(&d.w);
	shmq_close(d.q);
	free(d.batch[0].leases);
	free(d.batch[1].leases);
	return tool_finish(rc);
}
