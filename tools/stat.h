/* SPDX-License-Identifier: MIT */
/*
 * stat.h - the parts of shmq-stat: stat.c reads the command line, stat_look.c looks
 * at queues, the others show what was seen. Only stat_look.c opens a queue.
 */
#ifndef SHMQ_STAT_H
#define SHMQ_STAT_H

#include "tool.h"

/* ---- stat_look.c ---- */

struct stat_sum { /* one queue, all lanes and participants together */
	uint64_t capacity, depth, held, unfinished, pushed, popped, rejected, redelivered;
	uint64_t dead, dropped; /* given up: to the dead-letter lane, or not */
	uint64_t letters;       /* that wait in the dead-letter lane */
	uint64_t oldest_ns;
	unsigned producers, consumers; /* alive */
};

struct stat_names {
	char **names;
	int n;
};

struct stat_views {
	struct tool_view *views;
	int n;
};

void stat_sum(const struct tool_view *v, struct stat_sum *sum);
/* Adds a copy of @name, or exits if there is no memory. */
void stat_add_name(struct stat_names *all, const char *name);
void stat_free_names(struct stat_names *all);
/* All queue names there are, sorted. Returns 0, or an exit code. */
int stat_list(struct stat_names *all);
/*
 * Look at the queues that were named, or at all of them if none was. What cannot be
 * read is reported (if @report) and left out. Returns 0, or the exit code of the
 * first that could not; @all is to be freed in any case.
 */
int stat_look(const struct stat_names *named, struct stat_views *all, bool report);
void stat_free_views(struct stat_views *all);

/* ---- stat_table.c ---- */

/* Number of the column called @name (any case), or -1. */
int stat_column(const char *name, size_t len);
/* Names of all columns, for messages: "queue,lanes,...". */
const char *stat_column_names(void);

#define STAT_COLUMNS_MAX 32

struct stat_format {
	int columns[STAT_COLUMNS_MAX]; /* of stat_column(); -1 ends it */
	bool header, bytes; /* bytes: sizes and times as plain numbers of bytes and ns */
};

/* One line per queue. Returns 0 or -ENOMEM. */
int stat_print_table(const struct tool_view *views, int n, const struct stat_format *fmt);
/* Lanes and participants of one queue. Returns 0 or -ENOMEM. */
int stat_print_verbose(const struct tool_view *v, const struct stat_format *fmt);
/* The command that makes a queue of this shape. */
void stat_print_command(const struct tool_view *v);

/* ---- stat_json.c ---- */

/* One document of schema shmq-stat/1; on one line if @compact. 0 or -ENOMEM. */
int stat_print_json(const struct tool_view *views, int n, bool compact);

/* ---- stat_check.c ---- */

enum { CHECK_OK, CHECK_WARNING, CHECK_CRITICAL, CHECK_UNKNOWN };

struct stat_limits { /* what one of --warn and --crit says; negative: nothing */
	double depth_percent;
	int64_t depth, readers, dead, age_ns, letters, dropped;
};

extern const struct stat_limits stat_no_limits;

/* Parse "depth=80%,readers=0,age=5s,dead=1,letters=1,dropped=1". Returns 0 or -EINVAL. */
int stat_parse_limits(const char *arg, struct stat_limits *limits);
/* Print the line for a monitoring system. Returns the exit code, 0 to 2. */
int stat_check(const struct tool_view *v, const struct stat_limits *warn,
	       const struct stat_limits *crit);

/* ---- stat_watch.c ---- */

enum stat_show {
	STAT_TABLE,
	STAT_VERBOSE,
	STAT_JSON,
	STAT_NAMES,
	STAT_COMMAND,
	STAT_CHECK
};

struct stat_args {                /* the command line */
	struct stat_names queues; /* none: all there are */
	enum stat_show show;
	bool watch, columns, limits;
	int64_t interval_ns;
	struct stat_format format;
	struct stat_limits warn, crit;
};

/* Until a signal, or a named queue has gone. Returns the exit code. */
int stat_watch(const struct stat_args *a);

#endif
