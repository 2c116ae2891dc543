/* SPDX-License-Identifier: MIT */
/*
 * shmq-stat - what is in the queues, who uses them, once or again and again.
 *
 * The command line, and the looks that are taken once. What programs read (--json,
 * --columns, --names, --check) is a contract; the rest is for people.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stat.h"

enum {
	OPT_JSON = 256,
	OPT_WATCH,
	OPT_NAMES,
	OPT_AS_CREATE,
	OPT_NO_HEADER,
	OPT_BYTES,
	OPT_COLUMNS,
	OPT_CHECK,
	OPT_WARN,
	OPT_CRIT
};

static const struct argp_option options[] = {
	{"verbose", 'v', NULL, 0, "each lane and each participant", 0},
	{"json", OPT_JSON, NULL, 0, "all of it, for programs (schema shmq-stat/1)", 0},
	{"names", OPT_NAMES, NULL, 0, "only the names of the queues", 0},
	{"as-create", OPT_AS_CREATE, NULL, 0,
	 "the command that makes a queue of this shape", 0},
	{"watch", OPT_WATCH, "INTERVAL", OPTION_ARG_OPTIONAL,
	 "a line each second, or each INTERVAL (250ms, 5s), until interrupted", 1},
	{"columns", OPT_COLUMNS, "LIST", 0,
	 "columns of the table, separated by commas: --columns help lists them", 2},
	{"no-header", OPT_NO_HEADER, NULL, 0, "leave out the line of titles", 2},
	{"bytes", OPT_BYTES, NULL, 0, "sizes in bytes and ages in nanoseconds", 2},
	{"check", OPT_CHECK, NULL, 0,
	 "one line for a monitoring system; exit 0 ok, 1 warning, 2 critical, 3 unknown",
	 3},
	{"warn", OPT_WARN, "LIMITS", 0,
	 "with --check: depth=80% or depth=N (of any lane), "
	 "readers=N (or fewer), age=TIME, dead=N, letters=N, dropped=N; several with "
	 "commas (default depth=80%)",
	 3},
	{"crit", OPT_CRIT, "LIMITS", 0, "the same (default depth=95%)", 3},
	TOOL_OPT_HELP,
	{0},
};

static const char doc[] =
	"Show queues: the named ones, or all. Looking never disturbs a queue.\n\n"
	"  shmq-stat jobs -v\n"
	"  shmq-stat --no-header --columns queue,depth\n"
	"\vExit status: 0 done; 64 bad usage; 65 not a queue; 66 no such queue; "
	"74 stdout could not be written; 77 no permission. With --check 0 to 3.";

/* ---- options ---- */

static void show(struct stat_args *a, struct argp_state *state, enum stat_show what)
{
	if (a->show != STAT_TABLE && a->show != what)
		argp_error(state, "one of -v, --json, --names, --as-create and --check");
	a->show = what;
}

static void parse_columns(struct stat_args *a, struct argp_state *state, const char *arg)
{
	int n = 0;

	if (!strcmp(arg, "help")) {
		puts(stat_column_names());
		exit(tool_finish(0));
	}
	a->columns = true;
	for (;;) {
		size_t len = strcspn(arg, ",");
		int column = stat_column(arg, len);

		if (column < 0)
			argp_error(state, "there is no column '%.*s'; choose from %s",
				   (int)len, arg, stat_column_names());
		if (n == STAT_COLUMNS_MAX - 1)
			argp_error(state, "at most %d columns", STAT_COLUMNS_MAX - 1);
		a->format.columns[n++] = column;
		a->format.columns[n] = -1;
		if (!arg[len])
			return;
		arg += len + 1;
	}
}

static void parse_limits(struct stat_args *a, struct argp_state *state, const char *opt,
			 const char *arg, struct stat_limits *limits)
{
	a->limits = true;
	*limits = stat_no_limits;
	if (stat_parse_limits(arg, limits))
		argp_error(
			state,
			"%s '%s': write depth=80%%, depth=100, readers=0, age=5s, dead=1 "
			"or several with commas",
			opt, arg);
}

static void check_args(const struct stat_args *a, struct argp_state *state)
{
	if (a->show == STAT_CHECK && a->queues.n != 1)
		argp_error(state, "--check looks at one queue: name it");
	if (a->show == STAT_NAMES && a->queues.n)
		argp_error(state, "--names lists all queues; leave out %s",
			   a->queues.names[0]);
	if (a->limits && a->show != STAT_CHECK)
		argp_error(state, "--warn and --crit go with --check");
	if (a->watch && a->show != STAT_TABLE && a->show != STAT_JSON)
		argp_error(state, "--watch goes with the table or --json only");
	if (a->columns && (a->watch || a->show != STAT_TABLE))
		argp_error(state, "--columns goes with the table only");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct stat_args *a = state->input;

	switch (key) {
	case 'v':
		show(a, state, STAT_VERBOSE);
		return 0;
	case OPT_JSON:
		show(a, state, STAT_JSON);
		return 0;
	case OPT_NAMES:
		show(a, state, STAT_NAMES);
		return 0;
	case OPT_AS_CREATE:
		show(a, state, STAT_COMMAND);
		return 0;
	case OPT_CHECK:
		show(a, state, STAT_CHECK);
		return 0;
	case OPT_WATCH:
		a->watch = true;
		if (arg)
			a->interval_ns = tool_arg_time(state, "--watch", arg);
		if (a->interval_ns < 10000000)
			argp_error(state, "--watch %s: too short, 10ms is the least",
				   arg);
		return 0;
	case OPT_COLUMNS:
		parse_columns(a, state, arg);
		return 0;
	case OPT_NO_HEADER:
		a->format.header = false;
		return 0;
	case OPT_BYTES:
		a->format.bytes = true;
		return 0;
	case OPT_WARN:
		parse_limits(a, state, "--warn", arg, &a->warn);
		return 0;
	case OPT_CRIT:
		parse_limits(a, state, "--crit", arg, &a->crit);
		return 0;
	case ARGP_KEY_ARG:
		stat_add_name(&a->queues, tool_queue(state, arg));
		return 0;
	case ARGP_KEY_END:
		check_args(a, state);
		return 0;
	default:
		return tool_parse(key, arg, state);
	}
}

/* ---- once ---- */

static int print_names(void)
{
	struct stat_names all = {0};
	int rc = stat_list(&all);

	for (int i = 0; i < all.n; i++)
		puts(all.names[i]);
	stat_free_names(&all);
	return rc;
}

static int check(const struct stat_args *a)
{
	struct tool_view v;
	int err = tool_look(a->queues.names[0], &v), rc;

	if (err) {
		char words[128];

		shmq_strerror(err, words, sizeof(words));
		printf("UNKNOWN %s: %s\n", a->queues.names[0], words);
		return CHECK_UNKNOWN;
	}
	rc = stat_check(&v, &a->warn, &a->crit);
	tool_forget(&v);
	return rc;
}

static int print(const struct stat_args *a, const struct stat_views *all)
{
	int err = 0;

	if (a->show == STAT_JSON)
		return stat_print_json(all->views, all->n, false);
	if (a->show == STAT_TABLE && all->n)
		return stat_print_table(all->views, all->n, &a->format);
	for (int i = 0; !err && i < all->n; i++) {
		if (i && a->show == STAT_VERBOSE)
			putchar('\n');
		if (a->show == STAT_VERBOSE)
			err = stat_print_verbose(&all->views[i], &a->format);
		else
			stat_print_command(&all->views[i]);
	}
	return err;
}

static int once(const struct stat_args *a)
{
	struct stat_views all;
	int rc = stat_look(&a->queues, &all, true);

	if (all.views && print(a, &all))
		rc = tool_fail(-ENOMEM, "shmq-stat", NULL);
	if (!rc && !all.n && a->show != STAT_JSON)
		tool_say("no queues in %s\n  make one:  shmq-create NAME", shmq_dir());
	stat_free_views(&all);
	return rc;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {options, parse, "[NAME...]", doc,
					 NULL,    NULL,  NULL};
	struct stat_args a = {
		.interval_ns = 1000000000,
		.format = {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, -1}, true, false},
		.warn = stat_no_limits,
		.crit = stat_no_limits,
	};
	int rc;

	tool_init();
	a.warn.depth_percent = 80;
	a.crit.depth_percent = 95;
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	if (a.watch)
		rc = stat_watch(&a);
	else if (a.show == STAT_NAMES)
		rc = print_names();
	else if (a.show == STAT_CHECK)
		rc = check(&a);
	else
		rc = once(&a);
	stat_free_names(&a.queues);
	return tool_finish(rc);
}
