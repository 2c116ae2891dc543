/* SPDX-License-Identifier: MIT */
/*
 * tool.c - the manners that all shmq-* commands share: what is said and when,
 * which number they exit with, how a queue and a lane are named on the command
 * line, and how they stop when asked to.
 *
 * Data goes to stdout and words to stderr. Errors are always printed and say what
 * to do next; success is reported to people only.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

enum tool_talk tool_talk;
volatile sig_atomic_t tool_signal;

/* ---- options ---- */

void tool_init(void)
{
	/* The wrong way round, so that use of the stream fails as if it were closed. */
	static const int modes[] = {O_WRONLY, O_RDONLY, O_RDONLY};
	static char version[80];

	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			open("/dev/null", modes[fd]); /* takes the lowest number: fd */
	snprintf(version, sizeof(version), "%s (libshmq) %s",
		 program_invocation_short_name, shmq_version());
	argp_program_version = version;
}

error_t tool_parse(int key, char *arg, struct argp_state *state)
{
	(void)arg;
	switch (key) {
	case 'q':
		tool_talk = TOOL_QUIET;
		return 0;
	case 'v':
		tool_talk = TOOL_VERBOSE;
		return 0;
	case 'h':
		argp_state_help(state, stdout, ARGP_HELP_STD_HELP);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

uint64_t tool_arg_size(struct argp_state *state, const char *opt, const char *arg)
{
	uint64_t v = 0;
	int err = tool_size(arg, &v);

	if (err == -ERANGE)
		argp_error(state, "%s %s: too large", opt, arg);
	else if (err)
		argp_error(
			state,
			"%s '%s' is not a size; write 4096, 64K (65536) or 64KB (64000)",
			opt, arg);
	return v;
}

uint64_t tool_arg_count(struct argp_state *state, const char *opt, const char *arg)
{
	uint64_t v = 0;

	if (tool_size(arg, &v) || !v)
		argp_error(state, "%s '%s' is not a number of 1 or more", opt, arg);
	return v;
}

int64_t tool_arg_time(struct argp_state *state, const char *opt, const char *arg)
{
	int64_t ns = 0;
	int err = tool_time(arg, &ns);

	if (err == -ERANGE)
		argp_error(state, "%s %s: too long", opt, arg);
	else if (err)
		argp_error(state, "%s '%s' is not a time; write 250ms, 1.5s or 2m", opt,
			   arg);
	return ns;
}

int tool_arg_delimiter(struct argp_state *state, const char *arg)
{
	int c = tool_delimiter(arg);

	if (c < 0)
		argp_error(state,
			   "--delimiter '%s' is not one byte; write ',', '\\n', '\\t', "
			   "'\\0' or x1e",
			   arg);
	return c;
}

/* ---- words ---- */

static bool progress_shown;

/* Other words take the place of the progress. */
static void progress_clear(void)
{
	if (progress_shown)
		fputs("\r\033[K", stderr);
	progress_shown = false;
}

void tool_progress(const char *done, uint64_t messages, uint64_t bytes)
{
	static uint64_t next_bytes;
	static double due;
	char size[TOOL_HUMAN_MAX];
	struct timespec t;
	double now;

	if (bytes < next_bytes)
		return;
	next_bytes = bytes + (1 << 20); /* seldom enough that asking for the time is free */
	clock_gettime(CLOCK_MONOTONIC, &t);
	now = (double)t.tv_sec + (double)t.tv_nsec / 1e9;
	if (due == 0)
		due = now + 1;
	if (now < due || tool_talk == TOOL_QUIET || !isatty(STDERR_FILENO))
		return;
	due = now + 0.25;
	fprintf(stderr, "\r\033[K%s %ju messages, %s", done, (uintmax_t)messages,
		tool_bytes(bytes, size));
	fflush(stderr);
	progress_shown = true;
}

void tool_error(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	progress_clear();
	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

void tool_say(const char *fmt, ...)
{
	va_list ap;

	if (tool_talk == TOOL_QUIET || (tool_talk == TOOL_AUTO && !isatty(STDERR_FILENO)))
		return;
	progress_clear();
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int tool_exit_code(int err)
{
	switch (-err) {
	case 0:
		return EX_OK;
	case ENOENT:
	case ECHRNG:
		return EX_NOINPUT;
	case EACCES:
	case EPERM:
		return EX_NOPERM;
	case EBADMSG:
	case EPROTONOSUPPORT:
	case EMSGSIZE:
		return EX_DATAERR;
	case EEXIST:
	case ENOSPC:
		return EX_CANTCREAT;
	case EAGAIN:
	case ETIMEDOUT:
		return EX_TEMPFAIL;
	case EINVAL:
	case EDOM:
	case ENAMETOOLONG:
		return EX_USAGE;
	default:
		return EX_OSERR;
	}
}

/* What helps after @err, as lines below the error. "" if nothing is known to. */
static const char *next_step(int err)
{
	switch (-err) {
	case ENOENT:
		return "\n  list the queues:  shmq-stat    make one:  shmq-create NAME";
	case EACCES:
		return "\n  share a queue:  shmq-create NAME --mode 0660 --group GROUP";
	case EBADMSG:
		return "\n  if it is in the way:  shmq-rm --force NAME    then:  "
		       "shmq-create NAME";
	case EPROTONOSUPPORT:
		return "\n  use the tools of the release that made it, or replace it:"
		       "  shmq-rm --force NAME";
	case EUSERS:
		return "\n  who is attached:  shmq-stat NAME -v    allow more:"
		       "  shmq-create --participants N";
	case ENOSPC:
	case ENOMEM:
		return "\n  see what it takes:  shmq-create --dry-run    "
		       "what is there:  shmq-stat";
	case EINVAL:
	case ENAMETOOLONG:
		return "\n  names are letters, digits and . _ - (at most 200); "
		       "a lane follows after /: jobs/high";
	default:
		return "";
	}
}

int tool_fail(int err, const char *what, const char *detail)
{
	char words[256];
	bool more = detail && *detail;

	if (err == -ENOENT)
		strcpy(words, "no such queue"); /* it has other meanings for programs */
	else
		shmq_strerror(err, words, sizeof(words));
	tool_error("%s: %s%s%s%s%s", what, words, more ? " (" : "", more ? detail : "",
		   more ? ")" : "", next_step(err));
	return tool_exit_code(err);
}

int tool_finish(int rc)
{
	if (!fflush(stdout) && !ferror(stdout))
		return rc;
	tool_error("stdout: %s", strerror(errno));
	return EX_IOERR;
}

/* ---- names, queues ---- */

void tool_target(struct argp_state *state, const char *arg, struct tool_target *t)
{
	const char *name = arg + (arg[0] == '/');
	const char *lane = strchrnul(name, '/');
	size_t len = (size_t)(lane - name);

	if (*t->name)
		argp_error(state, "one queue at a time: %s or %s?", t->name, arg);
	if (!len)
		argp_error(state, "'%s': a queue needs a name", arg);
	if (len >= sizeof(t->name))
		argp_error(state, "the name of a queue has at most %d bytes, not %zu",
			   SHMQ_NAME_MAX, len);
	memcpy(t->name, name, len);
	t->name[len] = '\0';
	t->lane[0] = '\0';
	if (!*lane)
		return;
	lane++;
	if (!*lane || strlen(lane) >= sizeof(t->lane))
		argp_error(state, "'%s': the name of a lane has 1 to %d bytes", arg,
			   SHMQ_LANE_NAME_MAX);
	strcpy(t->lane, lane);
}

const char *tool_queue(struct argp_state *state, const char *arg)
{
	struct tool_target t = {.name = ""};

	tool_target(state, arg, &t);
	if (t.lane[0])
		argp_error(state, "'%s' names a lane; give the queue only: %s", arg,
			   t.name);
	return arg + (arg[0] == '/');
}

int tool_open(struct shmq **q, struct shmq_stat *st, const char *name, unsigned flags)
{
	int err = shmq_open(q, name, flags);

	if (err == -EPERM && !(flags & SHMQ_ANY_OWNER)) {
		tool_error("%s: not yours (%s)\n  if you trust its owner:  --any-owner",
			   name, shmq_detail());
		return EX_NOPERM;
	}
	if (err)
		return tool_fail(err, name, shmq_detail());
	st->sz = sizeof(*st);
	err = shmq_stat(*q, st);
	if (!err)
		return 0;
	shmq_close(*q);
	*q = NULL;
	return tool_fail(err, name, NULL);
}

int tool_lane(const struct shmq_stat *st, const char *lane, int *out)
{
	char names[SHMQ_MAX_LANES * (SHMQ_LANE_NAME_MAX + 2)] = "";
	char *end;
	unsigned long n;

	for (uint32_t i = 0; i < st->nr_lanes; i++) {
		if (!strcmp(st->lanes[i].name, lane)) {
			*out = (int)i;
			return 0;
		}
		strcat(strcat(names, " "), st->lanes[i].name);
	}
	n = strtoul(lane, &end, 10);
	if (lane[0] >= '0' && lane[0] <= '9' && !*end && n < st->nr_lanes) {
		*out = (int)n;
		return 0;
	}
	tool_error("%s has no lane %s; it has:%s", st->name, lane, names);
	return EX_NOINPUT;
}

/* Participants of @q. Returns 0, or a negative errno. */
static int look_who(struct shmq *q, struct tool_view *v)
{
	int most = (int)v->st.max_participants, n;

	v->who = calloc(v->st.max_participants, sizeof(*v->who));
	if (!v->who)
		return -ENOMEM;
	n = shmq_participants(q, v->who, most);
	if (n < 0)
		return n;
	v->nr_who = n < most ? n : most;
	for (int i = 0; i < v->nr_who; i++)
		tool_printable(v->who[i].command);
	return 0;
}

/*
 * Holds of @q. Their number changes under traffic: there is room for some more than
 * were counted, and after a few tries those that did fit are enough.
 */
static int look_holds(struct shmq *q, struct tool_view *v)
{
	int room = 0, n = 64;

	for (int tries = 0; n > room && tries < 4; tries++) {
		free(v->holds);
		room = n + 64;
		v->holds = calloc((size_t)room, sizeof(*v->holds));
		if (!v->holds)
			return -ENOMEM;
		n = shmq_holds(q, v->holds, room);
		if (n < 0)
			return n;
	}
	v->nr_holds = n < room ? n : room;
	for (int i = 0; i < v->nr_holds; i++)
		tool_printable(v->holds[i].command);
	return 0;
}

static int look(const char *name, struct tool_view *v, bool holds)
{
	struct shmq *q;
	int err = shmq_open(&q, name, SHMQ_OBSERVE);

	memset(v, 0, sizeof(*v));
	if (err)
		return err;
	v->st.sz = sizeof(v->st);
	err = shmq_stat(q, &v->st);
	tool_printable(v->st.creator);
	if (!err)
		err = look_who(q, v);
	if (!err && holds)
		err = look_holds(q, v);
	shmq_close(q);
	if (err)
		tool_forget(v);
	return err;
}

int tool_look(const char *name, struct tool_view *v)
{
	return look(name, v, false);
}

int tool_look_holds(const char *name, struct tool_view *v)
{
	return look(name, v, true);
}

void tool_forget(struct tool_view *v)
{
	free(v->who);
	free(v->holds);
	v->who = NULL;
	v->holds = NULL;
	v->nr_who = v->nr_holds = 0;
}

/* ---- words about participants ---- */

static int by_pid(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

void tool_print_pids(FILE *f, uint32_t *pids, int n)
{
	int nr = 0;

	qsort(pids, (size_t)n, sizeof(*pids), by_pid);
	for (int i = 0; i < n; i++)
		if (!nr || pids[nr - 1] != pids[i])
			pids[nr++] = pids[i];
	fprintf(f, "pid%s ", nr == 1 ? "" : "s");
	for (int i = 0, end; i < nr; i = end + 1) {
		for (end = i; end + 1 < nr && pids[end + 1] == pids[end] + 1;)
			end++;
		fprintf(f, "%s%u", i ? ", " : "", pids[i]);
		if (end > i)
			fprintf(f, "-%u", pids[end]);
	}
}

const char *tool_role(uint32_t role)
{
	static const char *const roles[] = {"-", "producer", "consumer", "both"};

	return roles[role & 3];
}

const char *tool_fate(const struct shmq_stat *st, uint32_t lane, uint32_t delivery,
		      uint64_t n, char *buf)
{
	if (delivery < st->max_attempts || (int32_t)lane == st->dead_lane)
		return NULL;
	if (st->dead_lane < 0 || (uint32_t)st->dead_lane >= st->nr_lanes)
		return n == 1 ? "is dropped" : "are dropped";
	snprintf(buf, TOOL_FATE_MAX, "go%s to the dead-letter lane %s",
		 n == 1 ? "es" : "", st->lanes[st->dead_lane].name);
	return buf;
}

/* ---- signals ---- */

static timer_t nag; /* repeats the interruption until the tool has seen it */

static void stop(int signo)
{
	static const struct itimerspec every = {{0, 20000000}, {0, 20000000}};
	int saved = errno;

	if (signo != SIGALRM && !tool_signal) {
		tool_signal = signo;
		timer_settime(nag, 0, &every, NULL);
	}
	errno = saved;
}

void tool_signals(void)
{
	static const int stops[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	struct sigaction sa = {.sa_handler = stop}, old; /* no SA_RESTART: calls end */

	signal(SIGPIPE, SIG_IGN);
	if (timer_create(CLOCK_MONOTONIC, &ev, &nag))
		return; /* the default action of the signals still ends the tool */
	sigaction(SIGALRM, &sa, NULL);
	for (size_t i = 0; i < sizeof(stops) / sizeof(stops[0]); i++)
		if (!sigaction(stops[i], NULL, &old) && old.sa_handler != SIG_IGN)
			sigaction(stops[i], &sa, NULL);
}
