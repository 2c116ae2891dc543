/* SPDX-License-Identifier: MIT */
/*
 * shmq-recover - give back what dead participants of a queue held.
 *
 * Whoever pushes or pops does the same within 100 ms; this command is for a queue that
 * nobody uses at the moment, and for people who want to see what happens.
 *
 * What is to be done is read from one look at the queue, and what was done from the
 * difference to a second one: the library tells how much it gave back, and the looks
 * tell where. If others were faster the result is the same and reads the same.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

enum { OPT_DRY_RUN = 256, OPT_ANY_OWNER };

struct args {
	const char *name;
	bool dry_run, yes;
	unsigned open_flags;
};

static const struct argp_option options[] = {
	{"dry-run", OPT_DRY_RUN, NULL, 0, "say what would be given back, change nothing",
	 0},
	{"yes", 'y', NULL, 0, "do not ask", 0},
	{"any-owner", OPT_ANY_OWNER, NULL, 0,
	 "accept a queue that belongs to another user", 1},
	TOOL_OPT_QUIET("do not say what was given back"),
	TOOL_OPT_VERBOSE("no effect: what was given back is said anyway"),
	TOOL_OPT_HELP,
	{0},
};

static const char doc[] =
	"Give back the messages that dead processes held, and detach those processes.\n\n"
	"  shmq-recover jobs --dry-run\n"
	"  shmq-recover jobs --yes\n"
	"\vExit status: 0 done, or there was nothing to do; 64 bad usage, or nobody to "
	"ask; "
	"65 not a queue; 66 no such queue; 75 something has to wait: try again; "
	"77 no permission.";

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;

	switch (key) {
	case OPT_DRY_RUN:
		a->dry_run = true;
		return 0;
	case 'y':
		a->yes = true;
		return 0;
	case OPT_ANY_OWNER:
		a->open_flags |= SHMQ_ANY_OWNER;
		return 0;
	case ARGP_KEY_ARG:
		if (a->name)
			argp_error(state, "one queue at a time: %s or %s?", a->name, arg);
		a->name = tool_queue(state, arg);
		return 0;
	case ARGP_KEY_END:
		if (!a->name)
			argp_error(state, "which queue?");
		if (a->dry_run && a->yes)
			argp_error(state, "--dry-run or --yes, not both");
		if (!a->dry_run && !a->yes && !isatty(STDIN_FILENO))
			argp_error(state, "nobody to ask, stdin is no terminal: "
					  "--yes does it, --dry-run looks");
		return 0;
	default:
		return tool_parse(key, arg, state);
	}
}

/* ---- what the dead hold ---- */

/* Of one lane, or of all of them. */
struct share {
	uint64_t items, last, pushes; /* last: items that have used up their deliveries */
	uint64_t bytes;               /* of the items */
	const struct shmq_hold *one;  /* any of the items */
};

struct plan {
	uint32_t pids[SHMQ_PARTICIPANTS_MAX]; /* of the dead */
	int nr_dead;
	uint64_t unknown; /* unfinished pushes that cannot be told from live ones */
	struct share lanes[SHMQ_MAX_LANES], all;
	int nr_lanes; /* that the dead hold something of */
};

static void add_hold(struct share *s, const struct shmq_stat *st,
		     const struct shmq_hold *h)
{
	char buf[TOOL_FATE_MAX];

	if (h->kind == SHMQ_HOLD_PUSH) {
		s->pushes++;
		return;
	}
	s->items++;
	s->last += tool_fate(st, h->lane, h->attempts + 1, 1, buf) != NULL;
	s->bytes += h->len;
	s->one = h;
}

/* Is @h still there in @after? A participant that died holds nothing new. */
static bool still_held(const struct tool_view *after, const struct shmq_hold *h)
{
	for (int i = 0; i < after->nr_holds; i++) {
		const struct shmq_hold *x = &after->holds[i];

		if (x->kind == h->kind && x->lane == h->lane && x->ticket == h->ticket &&
		    x->participant == h->participant && x->pid == h->pid)
			return true;
	}
	return false;
}

static bool still_attached(const struct tool_view *after,
			   const struct shmq_participant *w)
{
	for (int i = 0; i < after->nr_who; i++)
		if (after->who[i].index == w->index &&
		    after->who[i].since_ns == w->since_ns)
			return true;
	return false;
}

/* What the dead hold in @before and, if there is an @after, no more in @after. */
static void make_plan(struct plan *p, const struct tool_view *before,
		      const struct tool_view *after)
{
	memset(p, 0, sizeof(*p));
	for (int i = 0; i < before->nr_who && p->nr_dead < SHMQ_PARTICIPANTS_MAX; i++) {
		const struct shmq_participant *w = &before->who[i];

		if (!w->alive && !(after && still_attached(after, w)))
			p->pids[p->nr_dead++] = w->pid;
	}
	for (int i = 0; i < before->nr_holds; i++) {
		const struct shmq_hold *h = &before->holds[i];

		if (h->lane >= before->st.nr_lanes || (after && still_held(after, h)))
			continue;
		if (h->participant == UINT32_MAX) {
			p->unknown++;
		} else if (!h->alive) {
			add_hold(&p->lanes[h->lane], &before->st, h);
			add_hold(&p->all, &before->st, h);
		}
	}
	for (uint32_t i = 0; i < before->st.nr_lanes; i++)
		p->nr_lanes += p->lanes[i].items || p->lanes[i].pushes;
}

/* ---- words ---- */

/* " (ticket 771, 96 B, pushed 12 s ago)", or " (288 B)" for several. */
static void print_size(const struct share *s)
{
	char human[TOOL_HUMAN_MAX];

	if (s->items != 1) {
		printf(" (%s)", tool_bytes(s->bytes, human));
		return;
	}
	printf(" (ticket %ju, %u B", (uintmax_t)s->one->ticket, s->one->len);
	if (s->one->age_ns)
		printf(", pushed %s ago", tool_age(s->one->age_ns, human));
	putchar(')');
}

/* "jobs/normal: would return 1 message ... and close 1 unfinished push", no newline. */
static void print_share(const struct tool_view *v, const struct share *s, uint32_t lane,
			bool would)
{
	const char *sep = would ? "would " : "";

	printf("%s/%s: ", v->st.name, v->st.lanes[lane].name);
	if (s->items) {
		printf("%s%s %ju message%s", sep, would ? "return" : "returned",
		       (uintmax_t)s->items, tool_s(s->items));
		sep = ", ";
	}
	if (s->items && would)
		print_size(s);
	if (s->pushes)
		printf("%s%s %ju unfinished push%s", sep, would ? "close" : "closed",
		       (uintmax_t)s->pushes, s->pushes == 1 ? "" : "es");
}

/* What returned and will not be delivered again. */
static void print_fate(const struct tool_view *v, const struct plan *p)
{
	char buf[TOOL_FATE_MAX];

	for (uint32_t i = 0; i < v->st.nr_lanes; i++) {
		uint64_t n = p->lanes[i].last;

		if (n)
			printf("%s/%s: %ju message%s, after %u deliver%s, %s\n",
			       v->st.name, v->st.lanes[i].name, (uintmax_t)n, tool_s(n),
			       v->st.max_attempts, v->st.max_attempts == 1 ? "y" : "ies",
			       tool_fate(&v->st, i, v->st.max_attempts, n, buf));
	}
}

/* A line per lane, and who is detached at the end of the only one or on its own. */
static void print_plan(const struct tool_view *v, struct plan *p, bool would)
{
	for (uint32_t i = 0; i < v->st.nr_lanes; i++) {
		if (!p->lanes[i].items && !p->lanes[i].pushes)
			continue;
		print_share(v, &p->lanes[i], i, would);
		if (p->nr_lanes > 1 || !p->nr_dead)
			putchar('\n');
	}
	if (p->nr_dead) {
		if (p->nr_lanes == 1)
			fputs(would ? " and detach " : ", detached ", stdout);
		else
			printf("%s: %s ", v->st.name,
			       would ? "would detach" : "detached");
		tool_print_pids(stdout, p->pids, p->nr_dead);
		putchar('\n');
	}
	print_fate(v, p);
}

/* ---- acting ---- */

static bool ask(const char *name)
{
	char answer[16];

	printf("recover %s? [y/N] ", name);
	fflush(stdout);
	return fgets(answer, sizeof(answer), stdin) && (answer[0] | 32) == 'y';
}

/* Returns 0, or an exit code. */
static int recover(const struct args *a, struct shmq_recovered *done)
{
	struct shmq *q;
	struct shmq_stat st;
	int err, rc = tool_open(&q, &st, a->name, a->open_flags);

	if (rc)
		return rc;
	*done = (struct shmq_recovered){.sz = sizeof(*done)};
	err = shmq_recover(q, done);
	shmq_close(q);
	return err ? tool_fail(err, a->name, NULL) : 0;
}

/* Say what was done, seen from @before. Returns the exit code. */
static int report(const struct args *a, const struct tool_view *before,
		  const struct shmq_recovered *done)
{
	struct tool_view after;
	struct plan p;
	int err = tool_look_holds(a->name, &after);

	if (err)
		return tool_fail(err, a->name, shmq_detail());
	make_plan(&p, before, &after);
	tool_forget(&after);
	if (tool_talk != TOOL_QUIET) {
		print_plan(before, &p, false);
		/* Some more may have died after the first look. */
		if (done->items > p.all.items || done->tickets > p.all.pushes ||
		    done->participants > (uint32_t)p.nr_dead)
			printf("%s: in all, %ju message%s, %ju unfinished push%s and "
			       "%u dead participant%s\n",
			       a->name, (uintmax_t)done->items, tool_s(done->items),
			       (uintmax_t)done->tickets, done->tickets == 1 ? "" : "es",
			       done->participants, tool_s(done->participants));
	}
	if (!done->deferred)
		return 0;
	tool_error("%s: %u dead participant%s must wait: an unfinished push can not be "
		   "told from that of a live process\n"
		   "  try again in a moment; if it stays so, see who is stopped:  "
		   "shmq-doctor %s -v",
		   a->name, done->deferred, tool_s(done->deferred), a->name);
	return EX_TEMPFAIL;
}

static int look_and_act(const struct args *a, const struct tool_view *v)
{
	struct shmq_recovered done;
	struct plan p;
	int rc;

	make_plan(&p, v, NULL);
	if (!p.nr_dead && !p.nr_lanes) {
		if (tool_talk != TOOL_QUIET)
			printf("%s: nothing to do, nobody who is attached is dead\n",
			       a->name);
		return 0;
	}
	if (!a->yes)
		print_plan(v, &p, true);
	if (!a->yes && p.unknown)
		printf("%s: %ju unfinished push%s of others or of the dead, which can "
		       "not "
		       "be told yet\n",
		       a->name, (uintmax_t)p.unknown, p.unknown == 1 ? "" : "es");
	if (a->dry_run)
		return 0;
	if (!a->yes && !ask(a->name)) {
		tool_say("nothing was changed");
		return 0;
	}
	rc = recover(a, &done);
	return rc ? rc : report(a, v, &done);
}

int main(int argc, char **argv)
{
	static const struct argp argp = {options, parse, "NAME", doc, NULL, NULL, NULL};
	struct args a = {0};
	struct tool_view v;
	int err, rc;

	tool_init();
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	err = tool_look_holds(a.name, &v);
	if (err)
		return tool_fail(err, a.name, shmq_detail());
	rc = look_and_act(&a, &v);
	tool_forget(&v);
	return tool_finish(rc);
}
