/* SPDX-License-Identifier: MIT */
/*
 * stat_table.c - what shmq-stat prints for people: tables whose columns are as wide
 * as their longest cell. Two tables of queues with the same --columns always have
 * the same columns in the same order, whatever the queues hold.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "stat.h"

/* ---- a table of strings ---- */

struct table {
	int nr_columns, nr_cells;
	const char *left; /* one letter per column: l or r */
	char **cells;     /* row by row */
	bool failed;      /* out of memory: nothing will be printed */
};

static void cell(struct table *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void cell(struct table *t, const char *fmt, ...)
{
	size_t n = (size_t)t->nr_cells + 1;
	char **cells = reallocarray(t->cells, n, sizeof(*cells));
	va_list ap;

	if (!cells) {
		t->failed = true;
		return;
	}
	t->cells = cells;
	va_start(ap, fmt);
	if (vasprintf(&cells[t->nr_cells], fmt, ap) < 0)
		t->failed = true;
	else
		t->nr_cells++;
	va_end(ap);
}

static void table_print(const struct table *t)
{
	int width[STAT_COLUMNS_MAX] = {0};

	for (int i = 0; i < t->nr_cells; i++) {
		int len = (int)strlen(t->cells[i]), c = i % t->nr_columns;

		width[c] = len > width[c] ? len : width[c];
	}
	for (int i = 0; i < t->nr_cells; i++) {
		int c = i % t->nr_columns;
		bool last = c == t->nr_columns - 1;

		if (t->left[c] == 'r')
			printf("%*s", width[c], t->cells[i]);
		else
			printf("%-*s", last ? 0 : width[c], t->cells[i]);
		fputs(last ? "\n" : "  ", stdout);
	}
}

/* Print the table if it is complete and free it. Returns 0 or -ENOMEM. */
static int table_end(struct table *t)
{
	if (!t->failed)
		table_print(t);
	for (int i = 0; i < t->nr_cells; i++)
		free(t->cells[i]);
	free(t->cells);
	return t->failed ? -ENOMEM : 0;
}

/* ---- cells ---- */

struct row { /* what a cell of the table of queues is made from */
	const struct tool_view *v;
	struct stat_sum sum;
	bool bytes;
};

static void cell_number(struct table *t, uint64_t n)
{
	cell(t, "%ju", (uintmax_t)n);
}

static void cell_bytes(struct table *t, uint64_t n, bool plain)
{
	char human[TOOL_HUMAN_MAX];

	if (plain)
		cell_number(t, n);
	else
		cell(t, "%s", tool_bytes(n, human));
}

static void cell_age(struct table *t, uint64_t ns, bool plain)
{
	char human[TOOL_HUMAN_MAX];

	if (plain)
		cell_number(t, ns);
	else
		cell(t, "%s", ns ? tool_age(ns, human) : "-");
}

static void cell_use(struct table *t, uint64_t depth, uint64_t capacity)
{
	cell(t, "%.0f%%", capacity ? 100.0 * (double)depth / (double)capacity : 0.0);
}

static bool is_full(const struct shmq_lane_stat *lane)
{
	return lane->depth + lane->unfinished >= lane->capacity;
}

/* "ok", or what an operator has to know: "FULL, nobody reads", "high FULL, 1 dead". */
static void cell_state(struct table *t, const struct row *r)
{
	const struct shmq_stat *st = &r->v->st;
	char buf[SHMQ_MAX_LANES * (SHMQ_LANE_NAME_MAX + 8) + 80];
	size_t len = 0;
	uint32_t nr_full = 0;

	for (uint32_t i = 0; i < st->nr_lanes; i++)
		nr_full += is_full(&st->lanes[i]);
	buf[0] = '\0';
	if (nr_full && nr_full == st->nr_lanes)
		len += (size_t)snprintf(buf, sizeof(buf), "FULL");
	else
		for (uint32_t i = 0; i < st->nr_lanes; i++)
			if (is_full(&st->lanes[i]))
				len += (size_t)snprintf(buf + len, sizeof(buf) - len,
							"%s%s FULL", len ? ", " : "",
							st->lanes[i].name);
	if (nr_full && !r->sum.consumers)
		len += (size_t)snprintf(buf + len, sizeof(buf) - len, ", nobody reads");
	if (st->nr_dead)
		len += (size_t)snprintf(buf + len, sizeof(buf) - len, "%s%u dead",
					len ? ", " : "", st->nr_dead);
	if (r->sum.letters)
		len += (size_t)snprintf(buf + len, sizeof(buf) - len,
					"%s%ju dead letter%s", len ? ", " : "",
					(uintmax_t)r->sum.letters,
					tool_s(r->sum.letters));
	cell(t, "%s", len ? buf : "ok");
}

/* ---- the table of queues ---- */

enum column {
	COL_QUEUE,
	COL_LANES,
	COL_DEPTH,
	COL_HELD,
	COL_CAP,
	COL_USE,
	COL_PROD,
	COL_CONS,
	COL_SIZE,
	COL_STATE,
	COL_PUSHED,
	COL_POPPED,
	COL_REJECTED,
	COL_AGAIN,
	COL_OLDEST,
	COL_DEAD,
	COL_LETTERS,
	COL_DROPPED,
	COL_MSGSIZE,
	COL_MODE,
	COL_UID,
	COL_GID,
	NR_COLUMNS
};

static const struct {
	const char *name, *header;
	char align;
} columns[NR_COLUMNS] = {
	[COL_QUEUE] = {"queue", "QUEUE", 'l'},
	[COL_LANES] = {"lanes", "LANES", 'r'},
	[COL_DEPTH] = {"depth", "DEPTH", 'r'},
	[COL_HELD] = {"held", "HELD", 'r'},
	[COL_CAP] = {"cap", "CAP", 'r'},
	[COL_USE] = {"use", "USE%", 'r'},
	[COL_PROD] = {"prod", "PROD", 'r'},
	[COL_CONS] = {"cons", "CONS", 'r'},
	[COL_SIZE] = {"size", "SIZE", 'l'},
	[COL_STATE] = {"state", "STATE", 'l'},
	[COL_PUSHED] = {"pushed", "PUSHED", 'r'},
	[COL_POPPED] = {"popped", "POPPED", 'r'},
	[COL_REJECTED] = {"rejected", "REJECTED", 'r'},
	[COL_AGAIN] = {"again", "AGAIN", 'r'},
	[COL_OLDEST] = {"oldest", "OLDEST", 'r'},
	[COL_DEAD] = {"dead", "DEAD", 'r'},
	[COL_LETTERS] = {"letters", "LETTERS", 'r'},
	[COL_DROPPED] = {"dropped", "DROPPED", 'r'},
	[COL_MSGSIZE] = {"msgsize", "MSGSIZE", 'r'},
	[COL_MODE] = {"mode", "MODE", 'r'},
	[COL_UID] = {"uid", "UID", 'r'},
	[COL_GID] = {"gid", "GID", 'r'},
};

int stat_column(const char *name, size_t len)
{
	for (int i = 0; i < NR_COLUMNS; i++)
		if (strlen(columns[i].name) == len &&
		    !strncasecmp(columns[i].name, name, len))
			return i;
	return -1;
}

const char *stat_column_names(void)
{
	static char names[NR_COLUMNS * 12];

	names[0] = '\0';
	for (int i = 0; i < NR_COLUMNS; i++)
		strcat(strcat(names, i ? "," : ""), columns[i].name);
	return names;
}

static void add_cell(struct table *t, const struct row *r, int column)
{
	const struct shmq_stat *st = &r->v->st;
	const uint64_t numbers[NR_COLUMNS] = {
		[COL_LANES] = st->nr_lanes,
		[COL_DEPTH] = r->sum.depth,
		[COL_HELD] = r->sum.held,
		[COL_CAP] = r->sum.capacity,
		[COL_PROD] = r->sum.producers,
		[COL_CONS] = r->sum.consumers,
		[COL_PUSHED] = r->sum.pushed,
		[COL_POPPED] = r->sum.popped,
		[COL_REJECTED] = r->sum.rejected,
		[COL_AGAIN] = r->sum.redelivered,
		[COL_DEAD] = st->nr_dead,
		[COL_LETTERS] = r->sum.letters,
		[COL_DROPPED] = r->sum.dropped,
		[COL_UID] = st->uid,
		[COL_GID] = st->gid,
	};

	switch (column) {
	case COL_QUEUE:
		cell(t, "%s", st->name);
		break;
	case COL_USE:
		cell_use(t, r->sum.depth, r->sum.capacity);
		break;
	case COL_SIZE:
		cell_bytes(t, st->region_bytes, r->bytes);
		break;
	case COL_MSGSIZE:
		cell_bytes(t, st->item_size, r->bytes);
		break;
	case COL_OLDEST:
		cell_age(t, r->sum.oldest_ns, r->bytes);
		break;
	case COL_MODE:
		cell(t, "%04o", st->mode);
		break;
	case COL_STATE:
		cell_state(t, r);
		break;
	default:
		cell_number(t, numbers[column]);
	}
}

int stat_print_table(const struct tool_view *views, int n, const struct stat_format *fmt)
{
	char align[STAT_COLUMNS_MAX + 1] = "";
	struct table t = {.left = align};

	for (; fmt->columns[t.nr_columns] >= 0; t.nr_columns++) {
		align[t.nr_columns] = columns[fmt->columns[t.nr_columns]].align;
		if (fmt->header)
			cell(&t, "%s", columns[fmt->columns[t.nr_columns]].header);
	}
	for (int i = 0; i < n; i++) {
		struct row r = {.v = &views[i], .bytes = fmt->bytes};

		stat_sum(r.v, &r.sum);
		for (int c = 0; c < t.nr_columns; c++)
			add_cell(&t, &r, fmt->columns[c]);
	}
	return table_end(&t);
}

/* ---- one queue in detail ---- */

static void cells(struct table *t, const char *const *texts)
{
	for (t->nr_columns = 0; texts[t->nr_columns]; t->nr_columns++)
		cell(t, "%s", texts[t->nr_columns]);
}

static int print_lanes(const struct tool_view *v, bool bytes)
{
	static const char *const header[] = {
		"LANE",     "DEPTH", "HELD",   "CAP",  "USE%",    "PUSHED", "POPPED",
		"REJECTED", "AGAIN", "OLDEST", "DEAD", "DROPPED", NULL};
	struct table t = {.left = "lrrrrrrrrrrr"};

	cells(&t, header);
	for (uint32_t i = 0; i < v->st.nr_lanes; i++) {
		const struct shmq_lane_stat *lane = &v->st.lanes[i];

		cell(&t, "%s", lane->name);
		cell_number(&t, lane->depth);
		cell_number(&t, lane->held);
		cell_number(&t, lane->capacity);
		cell_use(&t, lane->depth, lane->capacity);
		cell_number(&t, lane->pushed);
		cell_number(&t, lane->popped);
		cell_number(&t, lane->rejected);
		cell_number(&t, lane->redelivered);
		cell_age(&t, lane->oldest_ns, bytes);
		cell_number(&t, lane->dead);
		cell_number(&t, lane->dropped);
	}
	return table_end(&t);
}

static int print_participants(const struct tool_view *v, bool bytes)
{
	static const char *const header[] = {"PID",   "ROLE",   "COMMAND", "SINCE",
					     "HELD",  "PUSHED", "POPPED",  "REJECTED",
					     "STATE", NULL};
	struct table t = {.left = "llllrrrrl"};

	if (!v->nr_who)
		return 0;
	cells(&t, header);
	for (int i = 0; i < v->nr_who; i++) {
		const struct shmq_participant *who = &v->who[i];

		cell_number(&t, who->pid);
		cell(&t, "%s", tool_role(who->role));
		cell(&t, "%s", who->command);
		cell_age(&t, tool_since(who->since_ns), bytes);
		cell_number(&t, who->held);
		cell_number(&t, who->pushed);
		cell_number(&t, who->popped);
		cell_number(&t, who->rejected);
		cell(&t, "%s", who->alive ? "alive" : "dead");
	}
	return table_end(&t);
}

int stat_print_verbose(const struct tool_view *v, const struct stat_format *fmt)
{
	const struct shmq_stat *st = &v->st;
	const struct passwd *pw = getpwuid(st->uid);
	char size[TOOL_HUMAN_MAX], age[TOOL_HUMAN_MAX], uid[12], gid[12];
	const struct group *gr = getgrgid(st->gid);
	int err;

	snprintf(uid, sizeof(uid), "%u", st->uid);
	snprintf(gid, sizeof(gid), "%u", st->gid);
	if (fmt->bytes)
		snprintf(size, sizeof(size), "%ju", (uintmax_t)st->region_bytes);
	else
		tool_bytes(st->region_bytes, size);
	printf("%s   %s   %s:%s %04o   layout %u.%u   created %s ago by pid %u (%s)\n",
	       st->name, size, pw ? pw->pw_name : uid, gr ? gr->gr_name : gid, st->mode,
	       st->format_major, st->format_minor,
	       tool_age(tool_since(st->created_ns), age), st->creator_pid, st->creator);
	printf("messages of up to %ju B   %u of %u segments free   %u of %u "
	       "participants%s\n",
	       (uintmax_t)st->item_size, st->segments_free, st->segments,
	       st->nr_participants + st->nr_dead, st->max_participants,
	       st->flags & SHMQ_STAMP ? "   time stamps" : "");
	if (st->flags & SHMQ_HUGE)
		printf("   huge pages");
	printf("given up after %u deliver%s that failed: ", st->max_attempts,
	       st->max_attempts == 1 ? "y" : "ies");
	if (st->dead_lane < 0)
		puts("dropped");
	else
		printf("to lane %s\n",
		       st->lanes[st->dead_lane & (SHMQ_MAX_LANES - 1)].name);
	err = print_lanes(v, fmt->bytes);
	return err ? err : print_participants(v, fmt->bytes);
}

void stat_print_command(const struct tool_view *v)
{
	const struct shmq_stat *st = &v->st;

	/* A leading / is not part of the name; it keeps "-x" from being an option. */
	printf("shmq-create %s%s", st->name[0] == '-' ? "/" : "", st->name);
	for (uint32_t i = 0; i < st->nr_lanes; i++)
		printf(" --lane %s:%ju", st->lanes[i].name,
		       (uintmax_t)st->lanes[i].capacity);
	printf(" --msg-size %ju --participants %u --mode %04o", (uintmax_t)st->item_size,
	       st->max_participants, st->mode);
	if (st->mode & 0070)
		printf(" --group %u", st->gid);
	fputs(st->flags & SHMQ_STAMP ? " --stamp" : "", stdout);
	fputs(st->flags & SHMQ_HUGE ? " --huge" : "", stdout);
	if (st->max_attempts != SHMQ_ATTEMPTS_MAX)
		printf(" --max-attempts %u", st->max_attempts);
	if (st->dead_lane >= 0)
		printf(" --dead-letter %s",
		       st->lanes[st->dead_lane & (SHMQ_MAX_LANES - 1)].name);
	putchar('\n');
}
