/* SPDX-License-Identifier: MIT */
/*
 * doctor_queue.c - what is wrong with a queue.
 *
 * A queue at work always holds something that looks bad for an instant: an item whose
 * consumer has just died, a push whose owner can not be told yet. Participants clean
 * that up within 100 ms. So where the first look finds such a thing there is a second
 * one a little later, and only what both have seen is reported.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "doctor.h"

static const struct timespec second_look = {0, 250000000};

bool doctor_file(const char *name, struct stat *st)
{
	char *path;
	bool there;

	doctor_memory(asprintf(&path, "%s/shmq.%s", shmq_dir(), name) < 0 ? NULL : path);
	there = !stat(path, st);
	free(path);
	return there;
}

void doctor_add_queue(struct doctor *d, const char *name)
{
	struct doctor_queue *q;

	for (int i = 0; i < d->nr_queues; i++)
		if (!strcmp(d->queues[i].name, name))
			return;
	d->queues = doctor_memory(
		reallocarray(d->queues, (size_t)d->nr_queues + 1, sizeof(*d->queues)));
	q = &d->queues[d->nr_queues++];
	memset(q, 0, sizeof(*q));
	q->name = doctor_memory(strdup(name));
}

/* ---- looking ---- */

static void look(struct doctor_queue *q)
{
	struct stat st = {0};

	q->err = tool_look_holds(q->name, &q->view);
	free(q->detail);
	q->detail = q->err ? doctor_memory(strdup(shmq_detail())) : NULL;
	free(q->states);
	q->states = doctor_memory(calloc((size_t)q->view.nr_who + 1, 1));
	doctor_file(q->name, &st);
	for (int i = 0; i < q->view.nr_who; i++)
		q->states[i] = (char)doctor_state(&q->view.who[i], &st);
}

/* State of who holds @h: that of its process now. */
static enum doctor_state holder(const struct doctor_queue *q, const struct shmq_hold *h)
{
	if (!h->alive)
		return STATE_DEAD;
	for (int i = 0; i < q->view.nr_who; i++)
		if (q->view.who[i].index == h->participant)
			return q->states[i] == STATE_STOPPED ? STATE_STOPPED
							     : STATE_ALIVE;
	return STATE_ALIVE;
}

static bool owner_unknown(const struct shmq_hold *h)
{
	return h->participant == UINT32_MAX;
}

/* Is there anything that deserves a second look? */
static bool is_suspicious(const struct doctor_queue *q)
{
	for (int i = 0; i < q->view.nr_who; i++)
		if (!q->view.who[i].alive)
			return true;
	for (int i = 0; i < q->view.nr_holds; i++) {
		const struct shmq_hold *h = &q->view.holds[i];

		if (owner_unknown(h) || holder(q, h) != STATE_ALIVE)
			return true;
	}
	return false;
}

static bool same_hold(const struct shmq_hold *a, const struct shmq_hold *b)
{
	return a->kind == b->kind && a->lane == b->lane && a->ticket == b->ticket &&
	       a->participant == b->participant && a->pid == b->pid;
}

/* Of the holds in @q keep those that are in @before as well. */
static void keep_lasting_holds(struct doctor_queue *q, const struct tool_view *before)
{
	int n = 0;

	for (int i = 0; i < q->view.nr_holds; i++)
		for (int j = 0; j < before->nr_holds; j++)
			if (same_hold(&q->view.holds[i], &before->holds[j])) {
				q->view.holds[n++] = q->view.holds[i];
				break;
			}
	q->view.nr_holds = n;
}

/* Forget the dead that were not there, or not dead, at the first look. */
static void keep_lasting_dead(struct doctor_queue *q, const struct tool_view *before)
{
	int n = 0;

	for (int i = 0; i < q->view.nr_who; i++) {
		const struct shmq_participant *w = &q->view.who[i];
		bool keep = w->alive;

		for (int j = 0; !keep && j < before->nr_who; j++)
			keep = !before->who[j].alive &&
			       before->who[j].index == w->index &&
			       before->who[j].since_ns == w->since_ns;
		if (keep) {
			q->states[n] = q->states[i];
			q->view.who[n++] = *w;
		}
	}
	q->view.nr_who = n;
}

static void look_again(struct doctor_queue *q)
{
	struct tool_view before = q->view;

	memset(&q->view, 0, sizeof(q->view));
	look(q);
	if (!q->err) {
		keep_lasting_holds(q, &before);
		keep_lasting_dead(q, &before);
	}
	tool_forget(&before);
}

/* ---- a queue that can not be looked at ---- */

static void check_open(struct doctor *d, const struct doctor_queue *q)
{
	bool denied = q->err == -EACCES;
	char words[256];

	shmq_strerror(q->err, words, sizeof(words));
	doctor_add(d, denied ? DOCTOR_WARN : DOCTOR_FAIL,
		   denied ? "no-access" : "no-queue", q, NULL, "%s%s%s%s", words,
		   *q->detail ? " (" : "", q->detail, *q->detail ? ")" : "");
	switch (-q->err) {
	case ENOENT:
		doctor_fix(d, "see which there are: shmq-stat --names");
		break;
	case EACCES:
		doctor_fix(d, "look as its owner or as root");
		break;
	case EPERM:
		doctor_fix(d, "chmod o-w %s/shmq.%s", shmq_dir(), q->name);
		break;
	case EPROTONOSUPPORT:
		doctor_fix(d,
			   "use the tools of the release that made it, or replace it: "
			   "shmq-rm --force %s",
			   q->name);
		break;
	case EBADMSG:
		doctor_fix(d, "if it is in the way: shmq-rm --force %s", q->name);
		break;
	}
}

/* ---- pages ---- */

/* Is any of the queue in huge pages? True in doubt. */
static bool has_huge_pages(const char *name)
{
	char line[PATH_MAX + 128], file[SHMQ_NAME_MAX + 16];
	bool here = false, huge = false, seen = false;
	unsigned long kib;
	struct shmq *q;
	FILE *f;

	if (shmq_open(&q, name, SHMQ_OBSERVE | SHMQ_PREFAULT))
		return true;
	snprintf(file, sizeof(file), "/shmq.%s\n", name);
	f = fopen("/proc/self/smaps", "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (strchr(line, '/'))
			here = strstr(line, file);
		seen |= here;
		huge |= here && sscanf(line, "ShmemPmdMapped: %lu", &kib) == 1 && kib;
	}
	if (f)
		fclose(f);
	shmq_close(q);
	return huge || !seen;
}

static void check_pages(struct doctor *d, const struct doctor_queue *q)
{
	if (!(q->view.st.flags & SHMQ_HUGE) || has_huge_pages(q->name))
		return;
	doctor_add(d, DOCTOR_WARN, "huge-pages", q, NULL,
		   "it asks for huge pages and has none: it takes less than 2 MiB, or the kernel "
		   "(before Linux 6.1) or free memory, which is in small pieces, did not give any");
	doctor_fix(d, "make a larger queue; or mount -o remount,huge=advise %s, or "
		   "echo 1 > /proc/sys/vm/compact_memory, then make it again", shmq_dir());
}

/* ---- participants ---- */

static void check_participants(struct doctor *d, const struct doctor_queue *q)
{
	const struct shmq_stat *st = &q->view.st;

	for (int i = 0; i < q->view.nr_who; i++) {
		const struct shmq_participant *w = &q->view.who[i];
		bool holds = false;

		for (int j = 0; j < q->view.nr_holds; j++)
			holds |= q->view.holds[j].participant == w->index;
		if (w->alive || holds) /* what it holds is a finding of its own */
			continue;
		doctor_add(d, DOCTOR_WARN, "dead", q, NULL,
			   "pid %u (%s) is dead and still attached; it holds nothing",
			   w->pid, w->command);
		doctor_fix(d, "shmq-recover %s", q->name);
	}
	if ((uint64_t)st->nr_participants * 10 < (uint64_t)st->max_participants * 9)
		return;
	doctor_add(d, DOCTOR_WARN, "participants", q, NULL,
		   "%u of %u participants are attached: soon nobody can attach any more",
		   st->nr_participants, st->max_participants);
	doctor_fix(d,
		   "see who they are: shmq-stat %s -v    make it with more: "
		   "shmq-create --participants N",
		   q->name);
}

/* ---- holds ---- */

/* What one participant holds of one lane. */
struct group {
	const struct shmq_hold *first;
	uint64_t n, last; /* last: of those, the ones for which this was the last try */
	uint64_t oldest_ns;
};

/* The group of holds[@i], or false if an earlier one has been its first. */
static bool make_group(const struct doctor_queue *q, int i, struct group *g)
{
	const struct shmq_hold *first = &q->view.holds[i];
	char buf[TOOL_FATE_MAX];

	*g = (struct group){.first = first};
	for (int j = 0; j < q->view.nr_holds; j++) {
		const struct shmq_hold *h = &q->view.holds[j];

		if (h->kind != first->kind || h->lane != first->lane ||
		    h->participant != first->participant)
			continue;
		if (j < i)
			return false;
		g->n++;
		g->last += h->kind == SHMQ_HOLD_ITEM &&
			   tool_fate(&q->view.st, h->lane, h->attempts + 1, 1, buf);
		if (h->age_ns > g->oldest_ns)
			g->oldest_ns = h->age_ns;
	}
	return true;
}

/*
 * Add "ticket 771 is held by pid 7 (worker), which is dead; pushed 12 s ago", or with
 * "3 messages are held" or an unfinished push. Without @state the owner is unknown.
 */
static void add_group(struct doctor *d, enum doctor_level level, const char *id,
		      const struct doctor_queue *q, const struct group *g,
		      const char *state)
{
	const struct shmq_hold *h = g->first;
	bool item = h->kind == SHMQ_HOLD_ITEM, known = h->lane < q->view.st.nr_lanes;
	char what[80], who[80] = "somebody who can not be told yet", age[TOOL_HUMAN_MAX];

	if (g->n == 1)
		snprintf(what, sizeof(what), "ticket %ju%s is", (uintmax_t)h->ticket,
			 item ? "" : ", an unfinished push,");
	else
		snprintf(what, sizeof(what), "%ju %s are", (uintmax_t)g->n,
			 item ? "messages" : "unfinished pushes");
	if (state)
		snprintf(who, sizeof(who), "pid %u (%s), which is %s", h->pid, h->command,
			 state);
	doctor_add(d, level, id, q, known ? q->view.st.lanes[h->lane].name : "?",
		   "%s held by %s%s%s%s", what, who, g->oldest_ns ? "; pushed " : "",
		   g->oldest_ns ? tool_age(g->oldest_ns, age) : "",
		   g->oldest_ns ? " ago" : "");
}

static void fix_dead(struct doctor *d, const struct doctor_queue *q,
		     const struct group *g)
{
	uint32_t most = q->view.st.max_attempts;
	char buf[TOOL_FATE_MAX];

	if (g->first->kind == SHMQ_HOLD_PUSH)
		doctor_fix(d,
			   "shmq-recover %s      (a push that is not finished is undone)",
			   q->name);
	else if (!g->last)
		doctor_fix(d,
			   "shmq-recover %s      (the message%s back to the head of the "
			   "lane)",
			   q->name, g->n == 1 ? " goes" : "s go");
	else
		doctor_fix(d,
			   "shmq-recover %s      (%ju message%s, after %u deliver%s, %s)",
			   q->name, (uintmax_t)g->last, tool_s(g->last), most,
			   most == 1 ? "y" : "ies",
			   tool_fate(&q->view.st, g->first->lane, most, g->last, buf));
}

static void check_holds(struct doctor *d, const struct doctor_queue *q)
{
	for (int i = 0; i < q->view.nr_holds; i++) {
		const struct shmq_hold *h = &q->view.holds[i];
		struct group g;

		if (!make_group(q, i, &g))
			continue;
		if (owner_unknown(h)) {
			add_group(d, DOCTOR_WARN, "owner-unknown", q, &g, NULL);
			doctor_fix(d, "see who is stopped or dead: shmq-doctor %s -v",
				   q->name);
		} else if (holder(q, h) == STATE_DEAD) {
			add_group(d, DOCTOR_FAIL, "held-by-dead", q, &g, "dead");
			fix_dead(d, q, &g);
		} else if (holder(q, h) == STATE_STOPPED) {
			add_group(d, DOCTOR_WARN, "held-by-stopped", q, &g, "stopped");
			doctor_fix(d,
				   "let it go on: kill -CONT %u    or give it up: kill "
				   "-KILL %u",
				   h->pid, h->pid);
		}
	}
}

/* ---- lanes ---- */

static void check_lane(struct doctor *d, const struct doctor_queue *q, uint32_t i,
		       bool readers)
{
	const struct shmq_lane_stat *lane = &q->view.st.lanes[i];
	uint64_t used = lane->depth + lane->unfinished;

	if (used * 100 >= lane->capacity * 95) {
		doctor_add(d, DOCTOR_WARN, "full", q, lane->name,
			   "%ju%% full (%ju of %ju)%s",
			   (uintmax_t)(used * 100 / lane->capacity), (uintmax_t)used,
			   (uintmax_t)lane->capacity, readers ? "" : ", nobody reads");
		doctor_fix(d,
			   readers ? "start more consumers, or see who is slow: "
				     "shmq-stat %s -v"
				   : "start a consumer; take a look with: shmq-pop %s",
			   q->name);
	}
	if (lane->dropped) {
		doctor_add(d, DOCTOR_WARN, "dropped", q, lane->name,
			   "%ju message%s dropped after %u failed deliver%s",
			   (uintmax_t)lane->dropped, tool_s(lane->dropped),
			   q->view.st.max_attempts,
			   q->view.st.max_attempts == 1 ? "y" : "ies");
		doctor_fix(d, "find out why consumers fail; keep such messages: "
			      "shmq-create --dead-letter LANE");
	}
}

static void check_lanes(struct doctor *d, const struct doctor_queue *q)
{
	const struct shmq_stat *st = &q->view.st;
	uint64_t dead = 0;
	bool readers = false;

	for (int i = 0; i < q->view.nr_who; i++)
		readers |=
			q->view.who[i].alive && q->view.who[i].role & SHMQ_ROLE_CONSUMER;
	for (uint32_t i = 0; i < st->nr_lanes; i++) {
		dead += st->lanes[i].dead;
		check_lane(d, q, i, readers);
	}
	for (uint32_t i = 0; i < st->nr_lanes; i++) {
		const struct shmq_lane_stat *lane = &st->lanes[i];

		if ((int32_t)i != st->dead_lane || !dead || !lane->depth)
			continue;
		doctor_add(d, DOCTOR_WARN, "dead-letters", q, lane->name,
			   "%ju dead letter%s wait%s: given up after %u deliver%s",
			   (uintmax_t)lane->depth, tool_s(lane->depth),
			   lane->depth == 1 ? "s" : "", st->max_attempts,
			   st->max_attempts == 1 ? "y" : "ies");
		doctor_fix(d, "take them out: shmq-pop %s/%s --all", q->name, lane->name);
	}
}

/* ---- all of it ---- */

static void check(struct doctor *d, struct doctor_queue *q)
{
	q->first = d->nr_findings;
	if (q->err) {
		check_open(d, q);
	} else {
		check_holds(d, q);
		check_pages(d, q);
		check_participants(d, q);
		check_lanes(d, q);
	}
	if (q->first == d->nr_findings)
		doctor_add(d, DOCTOR_OK, "queue", q, NULL, "%s", "");
	q->nr = d->nr_findings - q->first;
}

void doctor_queues(struct doctor *d)
{
	bool *again = doctor_memory(calloc((size_t)d->nr_queues + 1, sizeof(*again)));
	bool any = false;

	for (int i = 0; i < d->nr_queues; i++) {
		look(&d->queues[i]);
		again[i] = is_suspicious(&d->queues[i]);
		any |= again[i];
	}
	if (any)
		nanosleep(&second_look, NULL);
	for (int i = 0; i < d->nr_queues; i++) {
		if (again[i])
			look_again(&d->queues[i]);
		check(d, &d->queues[i]);
	}
	free(again);
}

/* ---- who is attached, and holds what ---- */

static void print_hold(const struct tool_view *v, const struct shmq_hold *h)
{
	char age[TOOL_HUMAN_MAX];

	printf("          %s/%s ticket %ju", v->st.name,
	       h->lane < v->st.nr_lanes ? v->st.lanes[h->lane].name : "?",
	       (uintmax_t)h->ticket);
	if (h->kind == SHMQ_HOLD_PUSH)
		fputs("  unfinished push", stdout);
	else
		printf("  %u B  delivery %u", h->len, h->attempts + 1);
	if (h->age_ns)
		printf("  pushed %s ago", tool_age(h->age_ns, age));
	putchar('\n');
}

void doctor_print_queue(const struct doctor_queue *q)
{
	const struct tool_view *v = &q->view;
	char age[TOOL_HUMAN_MAX];

	for (int i = 0; i < v->nr_who; i++) {
		const struct shmq_participant *w = &v->who[i];

		printf("        pid %u  %s  %s  attached %s ago  %s\n", w->pid,
		       w->command, tool_role(w->role),
		       tool_age(tool_since(w->since_ns), age),
		       doctor_state_name(q->states[i]));
		for (int j = 0; j < v->nr_holds; j++)
			if (v->holds[j].participant == w->index)
				print_hold(v, &v->holds[j]);
	}
	for (int j = 0, title = 0; j < v->nr_holds; j++) {
		if (!owner_unknown(&v->holds[j]))
			continue;
		if (!title++)
			puts("        somebody who can not be told yet");
		print_hold(v, &v->holds[j]);
	}
}
