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
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

/* How often a wait for messages looks around. */
static const int64_t WAIT_NS = 200000000;

enum { OPT_TO = 256, OPT_UNTIL_EMPTY, OPT_ANY_OWNER };


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

/* Messages taken but not yet released, and blocks not yet safe: powers of two. */
enum { HELD_MAX = SHMQ_LEASES_MAX, BLOCKS_MAX = 64 };

/* A block that was put: safe, with the messages before @leases, at @end bytes of the file. */
struct put {
	uint64_t end, leases;
};

struct drain {
	const struct args *args;
	struct shmq *q;
	int lane;
	struct sink *sink;
	struct file_writer w;
	struct shmq_lease *leases;    /* a ring of HELD_MAX: */
	uint64_t taken, released;     /* messages in all */
	struct put blocks[BLOCKS_MAX]; /* a ring as well */
	uint64_t nr_put, nr_safe;
};

static struct shmq_lease *lease(struct drain *d, uint64_t n)
{
	return &d->leases[n % HELD_MAX];
}

/* What is safe leaves the queue. */
static int release_safe(struct drain *d)
{
	uint64_t safe = sink_safe(d->sink);

	while (d->nr_safe < d->nr_put) {
		const struct put *p = &d->blocks[d->nr_safe % BLOCKS_MAX];

		if (p->end > safe)
			break;
		for (; d->released < p->leases; d->released++) {
			int r = shmq_release(d->q, lease(d, d->released));

			if (r < 0)
				return tool_fail(r, d->args->from.name, NULL);
		}
		d->nr_safe++;
	}
	return 0;
}

static int wait_safe(struct drain *d)
{
	int rc = sink_wait(d->sink);

	return rc ? rc : release_safe(d);
}

static void count_put(struct drain *d)
{
	d->blocks[d->nr_put++ % BLOCKS_MAX] = (struct put){d->w.bytes, d->taken};
}

static int put(struct drain *d)
{
	int rc = 0;

	while (!rc && d->nr_put - d->nr_safe == BLOCKS_MAX)
		rc = wait_safe(d);
	if (!rc)
		rc = file_flush(&d->w);
	if (rc)
		return rc;
	count_put(d);
	tool_progress("moved", d->released, d->w.bytes);
	return release_safe(d);
}

/* Nothing is there to take. 0; -1 that is the end; an exit code. */
static int idle(struct drain *d)
{
	if (d->w.nr)
		return put(d);
	if (d->nr_safe < d->nr_put)
		return wait_safe(d);
	return d->args->until_empty ? -1 : 0;
}

static int move(struct drain *d)
{
	int rc = 0;

	while (!rc && !tool_signal && d->taken < d->args->count) {
		struct shmq_lease *l = lease(d, d->taken);
		bool wait = !d->args->until_empty && !d->w.nr && d->nr_safe == d->nr_put;
		int r;

		if (d->taken - d->released == HELD_MAX) {
			rc = d->w.nr ? put(d) : wait_safe(d);
			continue;
		}
		r = shmq_peek(d->q, d->lane, l, wait ? WAIT_NS : SHMQ_NOWAIT);
		if (r == -EAGAIN || r == -ETIMEDOUT) {
			rc = idle(d);
			continue;
		}
		if (r == -EINTR)
			continue;
		if (r < 0)
			return tool_fail(r, d->args->from.name, NULL);
		if (file_full(&d->w, l->info.len))
			rc = put(d);
		if (!rc)
			file_add(&d->w, l->data, &l->info);
		d->taken++;
	}
	return rc == -1 ? 0 : rc;
}

static int drain(struct drain *d)
{
	int rc = move(d);

	while (!rc && d->nr_put - d->nr_safe == BLOCKS_MAX)
		rc = wait_safe(d);
	if (!rc)
		rc = file_end(&d->w);
	if (!rc) {
		count_put(d);
		return release_safe(d);
	}
	sink_cut(d->sink);
	release_safe(d);
	return rc; /* what is still held goes back to its place when the queue is closed */
}

int main(int argc, char **argv)
{
	static const struct argp argp = {options, parse, "NAME[/LANE]", doc, NULL, NULL, NULL};
	struct args a = {.count = UINT64_MAX};
	struct drain d = {.args = &a, .lane = SHMQ_ANY_LANE};
	struct shmq_stat st;
	char size[TOOL_HUMAN_MAX];
	bool out;
	int fd, rc;

	tool_init();
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	tool_signals();
	rc = tool_open(&d.q, &st, a.from.name, a.open_flags | SHMQ_PREFAULT);
	if (!rc && *a.from.lane)
		rc = tool_lane(&st, a.from.lane, &d.lane);
	if (rc) {
		shmq_close(d.q);
		return rc;
	}
	out = !strcmp(a.to, "-");
	fd = out ? STDOUT_FILENO : file_make(a.to, "choose another name: nothing is overwritten");
	if (fd < 0) {
		shmq_close(d.q);
		return EX_CANTCREAT;
	}
	d.leases = calloc(HELD_MAX, sizeof(*d.leases));
	if (!d.leases)
		return tool_fail(-ENOMEM, "memory for messages in hand", NULL);
	rc = sink_open(&d.sink, fd, out ? "standard output" : a.to, file_room(st.item_size));
	if (!rc)
		rc = file_begin(&d.w, d.sink, &st);
	if (!rc)
		rc = drain(&d);
	if (d.released || !rc)
		tool_say("moved %ju message%s of %s to %s: %s%s%s", (uintmax_t)d.released,
			 tool_s(d.released), a.from.name, out ? "standard output" : a.to,
			 tool_bytes(sink_safe(d.sink), size),
			 tool_talk == TOOL_VERBOSE ? ", by " : "",
			 tool_talk == TOOL_VERBOSE ? sink_engine(d.sink) : "");
	sink_close(d.sink);
	shmq_close(d.q);
	free(d.leases);
	return tool_finish(rc);
}
