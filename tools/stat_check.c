/* SPDX-License-Identifier: MIT */
/*
 * stat_check.c - shmq-stat --check: one line and one of 0, 1, 2 for a monitoring
 * system, as its plug-ins do. A limit that is met counts; the worst one decides.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stat.h"

const struct stat_limits stat_no_limits = {-1, -1, -1, -1, -1, -1, -1};

/* ---- limits ---- */

static int parse_number(const char *s, int64_t *out)
{
	uint64_t n;
	int err = tool_size(s, &n);

	if (err || n > INT64_MAX)
		return -EINVAL;
	*out = (int64_t)n;
	return 0;
}

static int parse_limit(char *key, struct stat_limits *limits)
{
	char *value = strchr(key, '='), *end;
	size_t len;

	if (!value)
		return -EINVAL;
	*value++ = '\0';
	len = strlen(value);
	if (!strcmp(key, "depth") && len > 1 && value[len - 1] == '%') {
		limits->depth_percent = strtod(value, &end);
		return value[strspn(value, "0123456789.")] == '%' && *end == '%'
			       ? 0
			       : -EINVAL;
	}
	if (!strcmp(key, "depth"))
		return parse_number(value, &limits->depth);
	if (!strcmp(key, "readers"))
		return parse_number(value, &limits->readers);
	if (!strcmp(key, "dead"))
		return parse_number(value, &limits->dead);
	if (!strcmp(key, "letters"))
		return parse_number(value, &limits->letters);
	if (!strcmp(key, "dropped"))
		return parse_number(value, &limits->dropped);
	if (!strcmp(key, "age"))
		return tool_time(value, &limits->age_ns);
	return -EINVAL;
}

int stat_parse_limits(const char *arg, struct stat_limits *limits)
{
	char *copy = strdup(arg), *rest = copy, *one;
	int err = copy ? 0 : -ENOMEM;

	while (!err && (one = strsep(&rest, ",")))
		err = parse_limit(one, limits);
	free(copy);
	return err;
}

/* ---- the verdict ---- */

static int worse(int a, int b)
{
	return a > b ? a : b;
}

/* Items from which on the limit is met in this lane; negative: never. */
static int64_t depth_limit(const struct stat_limits *l, const struct shmq_lane_stat *lane)
{
	double share = l->depth_percent * (double)lane->capacity / 100;
	int64_t items = (int64_t)share;

	if (l->depth_percent < 0)
		return l->depth;
	items += (double)items < share; /* 80% of 4 is met by 4, not by 3 */
	return l->depth >= 0 && l->depth < items ? l->depth : items;
}

static bool reaches(uint64_t value, int64_t limit)
{
	return limit >= 0 && value >= (uint64_t)limit;
}

static int judge_lane(const struct shmq_lane_stat *lane, const struct stat_limits *l)
{
	return reaches(lane->depth, depth_limit(l, lane)) ||
	       (lane->oldest_ns && reaches(lane->oldest_ns, l->age_ns));
}

static int judge_queue(const struct tool_view *v, const struct stat_sum *sum,
		       const struct stat_limits *l)
{
	return (l->readers >= 0 && sum->consumers <= (uint64_t)l->readers) ||
	       reaches(v->st.nr_dead, l->dead) || reaches(sum->letters, l->letters) ||
	       reaches(sum->dropped, l->dropped);
}

/* The lane that people should hear about: the worst, then the fullest. */
static const struct shmq_lane_stat *worst_lane(const struct tool_view *v,
					       const struct stat_limits *warn,
					       const struct stat_limits *crit, int *state)
{
	const struct shmq_lane_stat *worst = &v->st.lanes[0];

	*state = CHECK_OK;
	for (uint32_t i = 0; i < v->st.nr_lanes; i++) {
		const struct shmq_lane_stat *lane = &v->st.lanes[i];
		int is = judge_lane(lane, crit) ? CHECK_CRITICAL : judge_lane(lane, warn);

		if (is > *state ||
		    (is == *state && (double)lane->depth / lane->capacity >
					     (double)worst->depth / worst->capacity))
			worst = lane;
		*state = worse(*state, is);
	}
	return worst;
}

static void print_limit(int64_t limit)
{
	if (limit >= 0)
		printf("%jd", (intmax_t)limit);
	putchar(';');
}

/* "depth=8192;6554;7783;0;8192": value, warn, crit, minimum, maximum. */
static void print_numbers(const struct tool_view *v, const struct stat_limits *warn,
			  const struct stat_limits *crit)
{
	fputs(" |", stdout);
	for (uint32_t i = 0; i < v->st.nr_lanes; i++) {
		const struct shmq_lane_stat *lane = &v->st.lanes[i];

		if (v->st.nr_lanes == 1)
			printf(" depth=%ju;", (uintmax_t)lane->depth);
		else
			printf(" depth_%s=%ju;", lane->name, (uintmax_t)lane->depth);
		print_limit(depth_limit(warn, lane));
		print_limit(depth_limit(crit, lane));
		printf("0;%ju", (uintmax_t)lane->capacity);
	}
	putchar('\n');
}

int stat_check(const struct tool_view *v, const struct stat_limits *warn,
	       const struct stat_limits *crit)
{
	static const char *const words[] = {"OK", "WARNING", "CRITICAL"};
	const struct shmq_lane_stat *lane;
	char age[TOOL_HUMAN_MAX];
	struct stat_sum sum;
	int state;

	stat_sum(v, &sum);
	lane = worst_lane(v, warn, crit, &state);
	state = worse(state, judge_queue(v, &sum, crit) ? CHECK_CRITICAL
							: judge_queue(v, &sum, warn));
	printf("%s %s%s%s: depth %ju of %ju (%.0f%%)", words[state], v->st.name,
	       v->st.nr_lanes > 1 ? "/" : "", v->st.nr_lanes > 1 ? lane->name : "",
	       (uintmax_t)lane->depth, (uintmax_t)lane->capacity,
	       100.0 * (double)lane->depth / (double)lane->capacity);
	if (lane->oldest_ns)
		printf(", oldest %s", tool_age(lane->oldest_ns, age));
	if (sum.consumers)
		printf(", %u live reader%s", sum.consumers, tool_s(sum.consumers));
	else
		fputs(", no live reader", stdout);
	if (v->st.nr_dead)
		printf(", %u dead", v->st.nr_dead);
	if (sum.letters)
		printf(", %ju dead letter%s", (uintmax_t)sum.letters,
		       tool_s(sum.letters));
	if (sum.dropped)
		printf(", %ju dropped", (uintmax_t)sum.dropped);
	print_numbers(v, warn, crit);
	return state;
}
