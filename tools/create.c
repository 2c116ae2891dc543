/* SPDX-License-Identifier: MIT */
/*
 * shmq-create - make a queue, or explain why the one that is there is another.
 *
 * The shape of a queue is its lanes, message size, participants, time stamps and what
 * becomes of messages that fail again and again; mode and group belong to it where they
 * were asked for. A queue of the same name is never changed and never replaced by this
 * command.
 */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "tool.h"

#define NUMBER_(n) #n
#define NUMBER(n)  NUMBER_(n) /* as a string */

enum {
	OPT_LANE = 256,
	OPT_MSG_SIZE,
	OPT_PARTICIPANTS,
	OPT_MODE,
	OPT_GROUP,
	OPT_STAMP,
	OPT_HUGE,
	OPT_MAX_ATTEMPTS,
	OPT_DEAD_LETTER,
	OPT_IF_MISSING,
	OPT_DRY_RUN
};

struct args {
	const char *name;
	struct shmq_config cfg;
	const char *dead_letter; /* lane, as given */
	bool lanes, mode, group; /* given, so they count in a comparison */
	bool if_missing, dry_run;
};

static const struct argp_option options[] = {
	{"lane", OPT_LANE, "NAME:CAPACITY", 0,
	 "one lane, the first one has the highest priority; up to 8 of them "
	 "(default: high:10000 normal:100000 low:50000)",
	 0},
	{"msg-size", OPT_MSG_SIZE, "SIZE", 0,
	 "bytes that a message may have (default 64); 64K is 65536, 64KB is 64000", 0},
	{"participants", OPT_PARTICIPANTS, "N", 0,
	 "producers and consumers attached at once (default 64)", 0},
	{"huge", OPT_HUGE, NULL, 0,
	 "ask for huge pages, which make large queues cheaper to use (Linux 6.1)", 0},
	{"stamp", OPT_STAMP, NULL, 0,
	 "keep the time of each push, so that ages can be shown", 0},
	{"max-attempts", OPT_MAX_ATTEMPTS, "N", 0,
	 "deliveries of a message that may fail, by death of the consumer or by its "
	 "wish, "
	 "before it is given up, 1 to " NUMBER(
		 SHMQ_ATTEMPTS_MAX) " (which is the default)",
	 0},
	{"dead-letter", OPT_DEAD_LETTER, "LANE", 0,
	 "lane that messages go to when they are given up (default: they are dropped)",
	 0},
	{"mode", OPT_MODE, "OCTAL", 0, "permission bits, set exactly (default 0600)", 1},
	{"group", OPT_GROUP, "GROUP", 0, "group of the queue, by name or number", 1},
	{"if-missing", OPT_IF_MISSING, NULL, 0,
	 "succeed if the queue exists with this shape", 2},
	{"dry-run", OPT_DRY_RUN, NULL, 0, "say what it would take, make nothing", 2},
	TOOL_OPT_QUIET("do not say what was made"),
	TOOL_OPT_VERBOSE("say what was made even if nobody is at the terminal"),
	TOOL_OPT_HELP,
	{0},
};

static const char doc[] =
	"Make a queue in shared memory.\n\n"
	"  shmq-create jobs --lane high:64 --lane normal:1K --msg-size 256\n"
	"  shmq-create jobs --if-missing --mode 0660 --group workers\n"
	"\vExit status: 0 made, or there already with --if-missing; 64 bad usage; "
	"73 exists, or no room; 77 no permission. All of the memory is reserved at once.";

/* ---- options ---- */

static void add_lane(struct args *a, struct argp_state *state, const char *arg)
{
	const char *colon = strchr(arg, ':');
	struct shmq_lane_config *lane;
	size_t len;

	if (!colon)
		argp_error(state, "--lane %s: write NAME:CAPACITY, as in high:64", arg);
	if (!a->lanes)
		a->cfg.nr_lanes = 0;
	a->lanes = true;
	if (a->cfg.nr_lanes == SHMQ_MAX_LANES)
		argp_error(state, "--lane %s: a queue has at most %d lanes", arg,
			   SHMQ_MAX_LANES);
	lane = &a->cfg.lanes[a->cfg.nr_lanes++];
	len = (size_t)(colon - arg);
	if (!len || len > SHMQ_LANE_NAME_MAX)
		argp_error(state, "--lane %s: the name of a lane has 1 to %d bytes", arg,
			   SHMQ_LANE_NAME_MAX);
	memset(lane->name, 0, sizeof(lane->name));
	memcpy(lane->name, arg, len);
	lane->capacity = tool_arg_count(state, "--lane capacity", colon + 1);
}

/* The lane of --dead-letter, by name or by number. */
static void find_dead_letter(struct args *a, struct argp_state *state)
{
	char names[SHMQ_MAX_LANES * (SHMQ_LANE_NAME_MAX + 2)] = "";
	unsigned long n;
	char *end;

	for (uint32_t i = 0; i < a->cfg.nr_lanes; i++) {
		if (!strcmp(a->cfg.lanes[i].name, a->dead_letter)) {
			a->cfg.dead_lane = (int32_t)i;
			return;
		}
		strcat(strcat(names, " "), a->cfg.lanes[i].name);
	}
	n = strtoul(a->dead_letter, &end, 10);
	if (a->dead_letter[0] < '0' || a->dead_letter[0] > '9' || *end ||
	    n >= a->cfg.nr_lanes)
		argp_error(state,
			   "--dead-letter '%s': there is no such lane; choose from%s",
			   a->dead_letter, names);
	a->cfg.dead_lane = (int32_t)n;
}

static uint32_t parse_mode(struct argp_state *state, const char *arg)
{
	char *end;
	unsigned long mode = strtoul(arg, &end, 8);

	if (arg[0] < '0' || arg[0] > '7' || *end || mode > 0777)
		argp_error(state, "--mode '%s' is not an octal mode; write 0600 or 0660",
			   arg);
	return (uint32_t)mode;
}

static uint32_t parse_group(struct argp_state *state, const char *arg)
{
	const struct group *gr = getgrnam(arg);
	unsigned long gid;
	char *end;

	if (gr)
		return gr->gr_gid;
	gid = strtoul(arg, &end, 10);
	if (arg[0] < '0' || arg[0] > '9' || *end || gid >= UINT32_MAX)
		argp_error(state, "--group '%s': there is no such group", arg);
	return (uint32_t)gid;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;
	uint64_t n;

	switch (key) {
	case OPT_LANE:
		add_lane(a, state, arg);
		return 0;
	case OPT_MSG_SIZE:
		a->cfg.item_size = tool_arg_size(state, "--msg-size", arg);
		return 0;
	case OPT_PARTICIPANTS:
		n = tool_arg_count(state, "--participants", arg);
		a->cfg.max_participants = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
		return 0;
	case OPT_MODE:
		a->cfg.mode = parse_mode(state, arg);
		a->mode = true;
		return 0;
	case OPT_GROUP:
		a->cfg.gid = parse_group(state, arg);
		a->group = true;
		return 0;
	case OPT_STAMP:
		a->cfg.flags |= SHMQ_STAMP;
		return 0;
	case OPT_HUGE:
		a->cfg.flags |= SHMQ_HUGE;
		return 0;
	case OPT_MAX_ATTEMPTS:
		n = tool_arg_count(state, "--max-attempts", arg);
		a->cfg.max_attempts = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
		return 0;
	case OPT_DEAD_LETTER:
		a->dead_letter = arg;
		return 0;
	case OPT_IF_MISSING:
		a->if_missing = true;
		return 0;
	case OPT_DRY_RUN:
		a->dry_run = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->name)
			argp_error(state, "one queue at a time: %s or %s?", a->name, arg);
		a->name = tool_queue(state, arg);
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which queue?");
		return 0;
	case ARGP_KEY_END:
		if (a->dead_letter)
			find_dead_letter(a, state);
		return 0;
	default:
		return tool_parse(key, arg, state);
	}
}

/* ---- the queue that is there already ---- */

/* One difference, on a line of its own below the error. */
static void differ(int *nr, const struct args *a, const char *line)
{
	if (!(*nr)++)
		tool_error("%s exists with another shape", a->name);
	fprintf(stderr, "  %s\n", line);
}

static void compare_lanes(const struct args *a, const struct shmq_stat *st, int *nr)
{
	char line[160];

	if (st->nr_lanes != a->cfg.nr_lanes) {
		snprintf(line, sizeof(line), "it has %u lane%s, you asked for %u",
			 st->nr_lanes, tool_s(st->nr_lanes), a->cfg.nr_lanes);
		differ(nr, a, line);
	}
	for (uint32_t i = 0; i < st->nr_lanes && i < a->cfg.nr_lanes; i++) {
		const struct shmq_lane_stat *is = &st->lanes[i];
		const struct shmq_lane_config *want = &a->cfg.lanes[i];

		if (strcmp(is->name, want->name))
			snprintf(line, sizeof(line),
				 "lane %u is called %s, you asked for %s", i, is->name,
				 want->name);
		else if (is->capacity != want->capacity)
			snprintf(line, sizeof(line),
				 "lane %s holds %ju message%s, you asked for %ju",
				 is->name, (uintmax_t)is->capacity, tool_s(is->capacity),
				 (uintmax_t)want->capacity);
		else
			continue;
		differ(nr, a, line);
	}
}

/* Name of a dead-letter lane. */
static const char *dead_lane(int32_t lane, const char *name)
{
	return lane == SHMQ_DROP ? "none" : name;
}

static void compare_giving_up(const struct args *a, const struct shmq_stat *st, int *nr)
{
	int32_t is = st->dead_lane, want = a->cfg.dead_lane;
	char line[160];

	if (st->max_attempts != a->cfg.max_attempts) {
		snprintf(line, sizeof(line),
			 "it gives up after %u deliver%s, you asked for %u",
			 st->max_attempts, st->max_attempts == 1 ? "y" : "ies",
			 a->cfg.max_attempts);
		differ(nr, a, line);
	}
	if (is != want) {
		snprintf(line, sizeof(line),
			 "its dead-letter lane is %s, you asked for %s",
			 dead_lane(is, st->lanes[is & (SHMQ_MAX_LANES - 1)].name),
			 dead_lane(want, a->cfg.lanes[want & (SHMQ_MAX_LANES - 1)].name));
		differ(nr, a, line);
	}
}

/* Number of differences; all of them are printed. */
static int compare(const struct args *a, const struct shmq_stat *st)
{
	char line[160];
	int nr = 0;

	compare_lanes(a, st, &nr);
	if (st->item_size != a->cfg.item_size) {
		snprintf(line, sizeof(line),
			 "messages have up to %ju B, you asked for %ju",
			 (uintmax_t)st->item_size, (uintmax_t)a->cfg.item_size);
		differ(&nr, a, line);
	}
	if (st->max_participants != a->cfg.max_participants) {
		snprintf(line, sizeof(line),
			 "it takes %u participant%s, you asked for %u",
			 st->max_participants, tool_s(st->max_participants),
			 a->cfg.max_participants);
		differ(&nr, a, line);
	}
	if ((st->flags ^ a->cfg.flags) & SHMQ_STAMP)
		differ(&nr, a,
		       st->flags & SHMQ_STAMP
			       ? "it keeps time stamps, you did not ask for --stamp"
			       : "it keeps no time stamps, you asked for --stamp");
	if ((st->flags ^ a->cfg.flags) & SHMQ_HUGE)
		differ(&nr, a,
		       st->flags & SHMQ_HUGE
			       ? "it asks for huge pages, you did not ask for --huge"
			       : "it does not ask for huge pages, you asked for --huge");
	compare_giving_up(a, st, &nr);
	if (a->mode && st->mode != a->cfg.mode) {
		snprintf(line, sizeof(line), "its mode is %04o, you asked for %04o",
			 st->mode, a->cfg.mode);
		differ(&nr, a, line);
	}
	if (a->group && st->gid != a->cfg.gid) {
		snprintf(line, sizeof(line), "its group is %u, you asked for %u", st->gid,
			 a->cfg.gid);
		differ(&nr, a, line);
	}
	return nr;
}

/*
 * The name is taken. Returns the exit code; -ENOENT if the queue has just gone
 * and it is worth another try.
 */
static int taken(const struct args *a)
{
	struct tool_view v;
	int err = tool_look(a->name, &v);

	if (err == -ENOENT)
		return err;
	if (err)
		return tool_fail(err, a->name, shmq_detail());
	tool_forget(&v);
	if (compare(a, &v.st)) {
		fprintf(stderr,
			"  keep it:     shmq-create --if-missing with its shape   "
			"(shmq-stat %s --as-create prints it)\n"
			"  replace it:  shmq-rm %s\n",
			a->name, a->name);
		return EX_CANTCREAT;
	}
	if (a->if_missing) {
		if (tool_talk == TOOL_VERBOSE)
			tool_say("%s exists with this shape", a->name);
		return 0;
	}
	tool_error("%s exists, with this very shape\n"
		   "  keep it:     shmq-create --if-missing\n"
		   "  replace it:  shmq-rm %s",
		   a->name, a->name);
	return EX_CANTCREAT;
}

/* ---- making ---- */

static void describe(FILE *f, const struct args *a, const char *verb, uint64_t bytes)
{
	const struct shmq_config *cfg = &a->cfg;
	uint64_t messages = 0;
	char human[TOOL_HUMAN_MAX];
	int name_width = 0, cap_width = 0;

	for (uint32_t i = 0; i < cfg->nr_lanes; i++) {
		int len = (int)strlen(cfg->lanes[i].name);
		int digits = snprintf(NULL, 0, "%ju", (uintmax_t)cfg->lanes[i].capacity);

		messages += cfg->lanes[i].capacity;
		name_width = len > name_width ? len : name_width;
		cap_width = digits > cap_width ? digits : cap_width;
	}
	fprintf(f, "%s %s: %u lane%s, %ju message%s of up to %ju B, %s reserved\n", verb,
		a->name, cfg->nr_lanes, tool_s(cfg->nr_lanes), (uintmax_t)messages,
		tool_s(messages), (uintmax_t)cfg->item_size, tool_bytes(bytes, human));
	for (uint32_t i = 0; i < cfg->nr_lanes; i++)
		fprintf(f, "  %u %-*s   %*ju%s%s\n", i, name_width, cfg->lanes[i].name,
			cap_width, (uintmax_t)cfg->lanes[i].capacity,
			!i && cfg->nr_lanes > 1 ? "   taken first" : "",
			(int32_t)i == cfg->dead_lane ? "   dead letters" : "");
}

static int no_directory(const struct args *a)
{
	tool_error("%s: there is no directory %s\n  set SHMQ_DIR to a tmpfs that exists",
		   a->name, shmq_dir());
	return EX_CANTCREAT;
}

/* Returns the exit code, or -ENOENT as taken(). */
static int dry_run(const struct args *a, uint64_t bytes)
{
	char human[TOOL_HUMAN_MAX];
	struct statvfs fs;
	struct tool_view v;
	int err = tool_look(a->name, &v);

	if (!err)
		tool_forget(&v);
	if (err != -ENOENT)
		return taken(a);
	if (statvfs(shmq_dir(), &fs))
		return no_directory(a);
	describe(stdout, a, "would create", bytes);
	printf("%ju bytes; %s has %s free\n", (uintmax_t)bytes, shmq_dir(),
	       tool_bytes((uint64_t)fs.f_bavail * fs.f_frsize, human));
	if (bytes > (uint64_t)fs.f_bavail * fs.f_frsize)
		return tool_fail(-ENOSPC, a->name, NULL);
	return 0;
}

static int create(const struct args *a, uint64_t bytes)
{
	int err = shmq_create(a->name, &a->cfg);

	if (err == -EEXIST)
		return taken(a);
	if (err == -ENOENT)
		return no_directory(a);
	if (err)
		return tool_fail(err, a->name, shmq_detail());
	if (tool_talk == TOOL_VERBOSE ||
	    (tool_talk == TOOL_AUTO && isatty(STDERR_FILENO))) {
		describe(stderr, a, "created", bytes);
		fprintf(stderr,
			"try:  shmq-push %s --lane %s \"hello\"    shmq-stat %s\n",
			a->name, a->cfg.lanes[0].name, a->name);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {options, parse, "NAME", doc, NULL, NULL, NULL};
	struct args a = {0};
	uint64_t bytes;
	int rc;

	tool_init();
	shmq_config_init(&a.cfg, sizeof(a.cfg));
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	rc = shmq_region_size(&a.cfg, &bytes);
	if (rc)
		return tool_fail(rc, a.name, shmq_detail());
	do {
		rc = a.dry_run ? dry_run(&a, bytes) : create(&a, bytes);
	} while (rc == -ENOENT); /* removed by others between two steps: look again */
	return tool_finish(rc);
}
