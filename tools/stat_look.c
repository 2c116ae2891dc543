/* SPDX-License-Identifier: MIT */
/*
 * stat_look.c - which queues there are, and one look at each of them.
 *
 * Every look opens the queue with SHMQ_OBSERVE: a read-only mapping that takes no
 * participant slot, so looking needs no more than read permission and changes
 * nothing. A queue that is looked at repeatedly is opened each time, so that one
 * that was removed or replaced is noticed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stat.h"

void stat_add_name(struct stat_names *all, const char *name)
{
	char **names = reallocarray(all->names, (size_t)all->n + 1, sizeof(*names));

	if (names)
		all->names = names;
	if (!names || !(names[all->n] = strdup(name)))
		exit(tool_fail(-ENOMEM, name, NULL));
	all->n++;
}

void stat_sum(const struct tool_view *v, struct stat_sum *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (uint32_t i = 0; i < v->st.nr_lanes; i++) {
		const struct shmq_lane_stat *lane = &v->st.lanes[i];

		sum->capacity += lane->capacity;
		sum->depth += lane->depth;
		sum->held += lane->held;
		sum->unfinished += lane->unfinished;
		sum->pushed += lane->pushed;
		sum->popped += lane->popped;
		sum->rejected += lane->rejected;
		sum->redelivered += lane->redelivered;
		sum->dead += lane->dead;
		sum->dropped += lane->dropped;
		if (lane->oldest_ns > sum->oldest_ns)
			sum->oldest_ns = lane->oldest_ns;
	}
	/* Before the first was moved there it is a lane like the others. */
	if (sum->dead && v->st.dead_lane >= 0)
		sum->letters = v->st.lanes[v->st.dead_lane & (SHMQ_MAX_LANES - 1)].depth;
	for (int i = 0; i < v->nr_who; i++) {
		if (!v->who[i].alive)
			continue;
		sum->producers += !!(v->who[i].role & SHMQ_ROLE_PRODUCER);
		sum->consumers += !!(v->who[i].role & SHMQ_ROLE_CONSUMER);
	}
}

static int listed(const char *name, void *all)
{
	stat_add_name(all, name);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int stat_list(struct stat_names *all)
{
	int err = shmq_list(listed, all);

	if (err < 0) {
		char words[128];

		shmq_strerror(err, words, sizeof(words));
		tool_error("%s: %s\n  set SHMQ_DIR to the directory of the queues",
			   shmq_dir(), words);
		return tool_exit_code(err);
	}
	if (all->n)
		qsort(all->names, (size_t)all->n, sizeof(*all->names), by_name);
	return 0;
}

void stat_free_names(struct stat_names *all)
{
	while (all->n)
		free(all->names[--all->n]);
	free(all->names);
	all->names = NULL;
}

void stat_free_views(struct stat_views *all)
{
	while (all->n)
		tool_forget(&all->views[--all->n]);
	free(all->views);
	all->views = NULL;
}

int stat_look(const struct stat_names *named, struct stat_views *all, bool report)
{
	struct stat_names found = {0};
	const struct stat_names *names = named->n ? named : &found;
	int rc = named->n ? 0 : stat_list(&found);

	all->n = 0;
	all->views = calloc((size_t)names->n + 1, sizeof(*all->views));
	if (!all->views)
		rc = tool_fail(-ENOMEM, "shmq-stat", NULL);
	for (int i = 0; all->views && i < names->n; i++) {
		int err = tool_look(names->names[i], &all->views[all->n]);

		if (!err)
			all->n++;
		else if (err == -ENOENT && !named->n)
			continue; /* removed since it was listed */
		else if (report)
			err = tool_fail(err, names->names[i], shmq_detail());
		else
			err = tool_exit_code(err);
		rc = rc ? rc : err;
	}
	stat_free_names(&found);
	return rc;
}
