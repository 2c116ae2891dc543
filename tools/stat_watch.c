/* SPDX-License-Identifier: MIT */
/*
 * stat_watch.c - shmq-stat --watch: a line per queue and interval, appended, so that
 * it can be piped, logged and scrolled. Rates are those between two looks at the
 * same queue; one that was made anew under its name starts without.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stat.h"

enum { WATCH_HEADER_EVERY = 20 };

struct last { /* the look before, for the rates */
	char name[SHMQ_NAME_MAX + 1];
	uint64_t created_ns;
	struct stat_sum sum;
	double seconds;
};

struct watch {
	struct last *last;
	int nr_last;
	int lines; /* printed since the header */
	bool name; /* more than one queue: say which */
	bool header;
};

static double monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* The look before of the same queue, or NULL: it is new, or a new one by that name. */
static const struct last *find_last(const struct watch *w, const struct shmq_stat *st)
{
	for (int i = 0; i < w->nr_last; i++)
		if (!strcmp(w->last[i].name, st->name))
			return w->last[i].created_ns == st->created_ns ? &w->last[i]
								       : NULL;
	return NULL;
}

static void print_rate(const struct last *last, uint64_t before, uint64_t now,
		       double seconds)
{
	if (!last || seconds <= last->seconds)
		printf("  %7s", "-");
	else
		printf("  %7.0f", (double)(now - before) / (seconds - last->seconds));
}

static void watch_line(struct watch *w, const struct tool_view *v, struct last *now)
{
	const struct last *last = find_last(w, &v->st);
	const struct stat_sum none = {0}, *was = last ? &last->sum : &none;
	char clock[16], age[TOOL_HUMAN_MAX];
	time_t t = time(NULL);

	strcpy(now->name, v->st.name);
	now->created_ns = v->st.created_ns;
	now->seconds = monotonic();
	stat_sum(v, &now->sum);
	if (w->header && w->lines % WATCH_HEADER_EVERY == 0)
		printf("    time   depth   held     in/s    out/s   full/s    oldest%s\n",
		       w->name ? "  queue" : "");
	w->lines++;
	strftime(clock, sizeof(clock), "%H:%M:%S", localtime(&t));
	printf("%s %7ju  %5ju", clock, (uintmax_t)now->sum.depth,
	       (uintmax_t)now->sum.held);
	print_rate(last, was->pushed, now->sum.pushed, now->seconds);
	print_rate(last, was->popped, now->sum.popped, now->seconds);
	print_rate(last, was->rejected, now->sum.rejected, now->seconds);
	printf("  %8s%s%s\n",
	       now->sum.oldest_ns ? tool_age(now->sum.oldest_ns, age) : "-",
	       w->name ? "  " : "", w->name ? v->st.name : "");
}

/* The next interval ends at *@next, not earlier than now: no lines to catch up. */
static void wait_until_next(struct timespec *next, int64_t interval_ns)
{
	struct timespec now;
	int64_t ns = next->tv_nsec + interval_ns;

	next->tv_sec += ns / 1000000000;
	next->tv_nsec = ns % 1000000000;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (next->tv_sec < now.tv_sec)
		*next = now;
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL);
}

/* One line per queue. Returns 0, or an exit code. */
static int watch_lines(struct watch *w, const struct stat_views *all)
{
	struct last *now = calloc((size_t)all->n + 1, sizeof(*now));

	if (!now)
		return tool_fail(-ENOMEM, "shmq-stat", NULL);
	for (int i = 0; i < all->n; i++)
		watch_line(w, &all->views[i], &now[i]);
	free(w->last);
	w->last = now;
	w->nr_last = all->n;
	return 0;
}

int stat_watch(const struct stat_args *a)
{
	struct watch w = {.name = a->queues.n != 1, .header = a->format.header};
	struct timespec next;
	int rc = 0;

	tool_signals();
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (bool first = true; !rc && !tool_signal; first = false) {
		struct stat_views all;

		rc = stat_look(&a->queues, &all, first || a->queues.n);
		if (!a->queues.n && all.views)
			rc = 0; /* told once; the others go on */
		if (!rc && a->show == STAT_JSON)
			rc = stat_print_json(all.views, all.n, true)
				     ? tool_fail(-ENOMEM, "shmq-stat", NULL)
				     : 0;
		else if (!rc)
			rc = watch_lines(&w, &all);
		stat_free_views(&all);
		rc = tool_finish(rc);
		if (!rc && !tool_signal)
			wait_until_next(&next, a->interval_ns);
	}
	free(w.last);
	return rc;
}
