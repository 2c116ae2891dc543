/* SPDX-License-Identifier: MIT */
/*
 * shmq-push - put lines of stdin, or arguments, into a lane; each is a message.
 *
 * What can be read is pushed before more is read: a complete message never waits
 * for the next one, however slowly stdin delivers, and a fast stdin is pushed in
 * batches. Messages arrive in the order they came, each whole. When this command
 * stops early it says how many were accepted and which was the first that was not.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

enum { OPT_DELIMITER = 256, OPT_LANE, OPT_TIMEOUT, OPT_WHEN_FULL, OPT_ANY_OWNER };

enum { BATCH = 64, READ_AHEAD = 64 * 1024 };

enum when_full { WHEN_FULL_STOP, WHEN_FULL_WAIT, WHEN_FULL_SKIP };

struct args {
	struct tool_target to;
	char **texts; /* NULL: messages come from stdin */
	int nr_texts;
	int delimiter;
	const char *lane;
	uint64_t count; /* at most so many messages */
	int64_t timeout_ns;
	bool timeout;
	enum when_full when_full;
	unsigned open_flags;
};

struct push {
	const struct args *args;
	struct shmq *q;
	struct shmq_stat st;
	int lane;
	char label[SHMQ_NAME_MAX + SHMQ_LANE_NAME_MAX + 2]; /* jobs/high */
	uint64_t pushed, skipped; /* their sum: number of the message before the next */
	struct iovec batch[BATCH];
	int nr_batch;
};

static const struct argp_option options[] = {
	{"lane", OPT_LANE, "LANE", 0,
	 "lane to push into, by name or number "
	 "(default: the only one, or the one called normal)",
	 0},
	{"null", '0', NULL, 0, "messages end with a NUL byte, as from find -print0", 0},
	{"delimiter", OPT_DELIMITER, "CHAR", 0,
	 "messages end with this byte (default \\n): c, \\n, \\t, \\0 or xNN", 0},
	{"count", 'n', "N", 0, "push at most N messages", 0},
	{"when-full", OPT_WHEN_FULL, "stop|wait|skip", 0,
	 "what to do with a message that finds no room: stop (default), "
	 "wait for room, or count it and go on",
	 1},
	{"timeout", OPT_TIMEOUT, "TIME", 0,
	 "wait so long for room before that: 250ms, 1.5s, 2m", 1},
	{"any-owner", OPT_ANY_OWNER, NULL, 0,
	 "accept a queue that belongs to another user", 2},
	TOOL_OPT_QUIET("do not say how many were pushed"),
	TOOL_OPT_VERBOSE("say it even if nobody is at the terminal"),
	TOOL_OPT_HELP,
	{0},
};

static const char doc[] = "Push each line of stdin, or each TEXT, as one message.\n\n"
			  "  shmq-push jobs --lane high \"hello\"\n"
			  "  find . -print0 | shmq-push -0 jobs/normal --when-full=wait\n"
			  "\vA TEXT that begins with - goes after --.\n"
			  "Exit status: 0 all pushed; 64 bad usage; 65 a message is "
			  "too long, or not a queue; 66 no such queue or lane; "
			  "74 stdin could not be read; 75 full; 77 no permission; "
			  "130 interrupted.";

/* ---- options ---- */

static enum when_full parse_when_full(struct argp_state *state, const char *arg)
{
	if (!strcmp(arg, "wait"))
		return WHEN_FULL_WAIT;
	if (!strcmp(arg, "skip"))
		return WHEN_FULL_SKIP;
	if (strcmp(arg, "stop"))
		argp_error(state, "--when-full '%s': write stop, wait or skip", arg);
	return WHEN_FULL_STOP;
}

static error_t parse_arg(struct args *a, const char *arg, struct argp_state *state)
{
	if (!a->to.name[0]) {
		tool_target(state, arg, &a->to);
		return 0;
	}
	a->texts = state->argv + state->next - 1;
	a->nr_texts = state->argc - state->next + 1;
	state->next = state->argc;
	return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;

	switch (key) {
	case OPT_LANE:
		a->lane = arg;
		return 0;
	case '0':
		a->delimiter = '\0';
		return 0;
	case OPT_DELIMITER:
		a->delimiter = tool_arg_delimiter(state, arg);
		return 0;
	case 'n':
		a->count = tool_arg_count(state, "--count", arg);
		return 0;
	case OPT_WHEN_FULL:
		a->when_full = parse_when_full(state, arg);
		return 0;
	case OPT_TIMEOUT:
		a->timeout_ns = tool_arg_time(state, "--timeout", arg);
		a->timeout = true;
		return 0;
	case OPT_ANY_OWNER:
		a->open_flags |= SHMQ_ANY_OWNER;
		return 0;
	case ARGP_KEY_ARG:
		return parse_arg(a, arg, state);
	case ARGP_KEY_END:
		if (!a->to.name[0])
			argp_error(state, "which queue?");
		if (a->lane && a->to.lane[0])
			argp_error(state, "the lane is given twice: %s/%s and --lane %s",
				   a->to.name, a->to.lane, a->lane);
		if (!a->texts && isatty(STDIN_FILENO))
			argp_state_help(state, stderr,
					(ARGP_HELP_STD_HELP & ~ARGP_HELP_EXIT_OK) |
						ARGP_HELP_EXIT_ERR);
		return 0;
	default:
		return tool_parse(key, arg, state);
	}
}

/* ---- words ---- */

/* "line 65 ("the first bytes...")": the message that comes next. */
static void describe(const struct push *p, const struct iovec *item, char *buf,
		     size_t size)
{
	const char *kind = p->args->texts               ? "argument"
			   : p->args->delimiter == '\n' ? "line"
							: "message";
	bool cut = item->iov_len > 40;
	char text[41];
	size_t len = cut ? 40 : item->iov_len;

	for (size_t i = 0; i < len; i++) {
		char c = ((const char *)item->iov_base)[i];

		text[i] = c ? c : '?';
	}
	text[len] = '\0';
	snprintf(buf, size, "%s %ju (\"%s\"%s)", kind,
		 (uintmax_t)(p->pushed + p->skipped + 1), tool_printable(text),
		 cut ? "..." : "");
}

static int say_full(const struct push *p, int err, const struct iovec *item)
{
	struct shmq_pressure full = {0};
	char what[120], waited[TOOL_HUMAN_MAX + 8] = "", age[TOOL_HUMAN_MAX];

	shmq_refused(p->q, &full);
	describe(p, item, what, sizeof(what));
	if (err == -ETIMEDOUT)
		snprintf(waited, sizeof(waited), " after %s",
			 tool_age((uint64_t)p->args->timeout_ns, age));
	tool_error(
		"%s is%s full%s (%ju of %ju); %ju pushed, 1 refused\n"
		"  not pushed:  %s%s\n"
		"  wait for room: --when-full=wait    count and go on: --when-full=skip",
		p->label, err == -ETIMEDOUT ? " still" : "", waited,
		(uintmax_t)full.depth, (uintmax_t)full.capacity, (uintmax_t)p->pushed,
		what,
		p->args->texts && p->pushed + 1 == (uint64_t)p->args->nr_texts
			? ""
			: " and what follows");
	return EX_TEMPFAIL;
}

static int say_too_long(const struct push *p, const struct iovec *item)
{
	char what[120];

	describe(p, item, what, sizeof(what));
	tool_error(
		"%s is longer than the %ju B that a message of %s may have; %ju pushed",
		what, (uintmax_t)p->st.item_size, p->args->to.name, (uintmax_t)p->pushed);
	return EX_DATAERR;
}

static int say_interrupted(const struct push *p)
{
	if (tool_talk != TOOL_QUIET)
		tool_error("interrupted; %ju message%s pushed to %s",
			   (uintmax_t)p->pushed, tool_s(p->pushed), p->label);
	return 128 + tool_signal;
}

/* The end of the input: report and return the exit code. */
static int say_done(const struct push *p)
{
	if (p->skipped) {
		tool_error("%s was full: %ju pushed, %ju skipped", p->label,
			   (uintmax_t)p->pushed, (uintmax_t)p->skipped);
		return EX_TEMPFAIL;
	}
	tool_say("pushed %ju message%s to %s", (uintmax_t)p->pushed, tool_s(p->pushed),
		 p->label);
	return 0;
}

/* ---- pushing ---- */

/* Push the whole batch and empty it. Returns 0, or an exit code. */
static int flush(struct push *p)
{
	const struct args *a = p->args;
	int64_t timeout_ns = a->timeout                       ? a->timeout_ns
			     : a->when_full == WHEN_FULL_WAIT ? SHMQ_FOREVER
							      : SHMQ_NOWAIT;

	for (int i = 0; i < p->nr_batch;) {
		int n;

		if (tool_signal)
			return say_interrupted(p);
		n = shmq_push_n(p->q, p->lane, &p->batch[i], p->nr_batch - i, timeout_ns);
		if (n > 0) {
			p->pushed += (uint64_t)n;
			i += n;
		} else if (n == -EAGAIN || n == -ETIMEDOUT) {
			if (a->when_full != WHEN_FULL_SKIP)
				return say_full(p, n, &p->batch[i]);
			p->skipped++;
			i++;
		} else if (n != -EINTR) {
			return tool_fail(n, p->label, NULL);
		}
	}
	p->nr_batch = 0;
	return 0;
}

/* True when --count is reached by what is pushed and what is in the batch. */
static bool enough(const struct push *p)
{
	return p->pushed + p->skipped + (uint64_t)p->nr_batch >= p->args->count;
}

/* Put one message into the batch. It must stay where it is until flush(). */
static int add(struct push *p, char *text, size_t len)
{
	struct iovec item = {text, len};
	int rc;

	if (len > p->st.item_size) {
		rc = flush(p);
		return rc ? rc : say_too_long(p, &item);
	}
	p->batch[p->nr_batch++] = item;
	return p->nr_batch == BATCH ? flush(p) : 0;
}

static int push_texts(struct push *p)
{
	char **texts = p->args->texts;
	int rc = 0;

	for (int i = 0; !rc && i < p->args->nr_texts && !enough(p); i++)
		rc = add(p, texts[i], strlen(texts[i]));
	if (!rc)
		rc = flush(p);
	return rc ? rc : say_done(p);
}

/* ---- stdin ---- */

/* read() that also waits on a non-blocking stdin. -EINTR when asked to stop. */
static ssize_t read_some(char *buf, size_t size)
{
	struct pollfd pfd = {.fd = STDIN_FILENO, .events = POLLIN};

	while (!tool_signal) {
		ssize_t n = read(STDIN_FILENO, buf, size);

		if (n >= 0)
			return n;
		if (errno == EAGAIN)
			poll(&pfd, 1, -1);
		else if (errno != EINTR)
			return -errno;
	}
	return -EINTR;
}

/*
 * Push all complete messages of the @len bytes at @buf. The rest, the beginning of
 * a message, is moved to the front; *@rest is its length.
 */
static int push_complete(struct push *p, char *buf, size_t len, size_t *rest)
{
	char *next = buf, *end = buf + len, *stop;
	int rc = 0;

	while (!rc && !enough(p) &&
	       (stop = memchr(next, p->args->delimiter, (size_t)(end - next)))) {
		rc = add(p, next, (size_t)(stop - next));
		next = stop + 1;
	}
	if (!rc)
		rc = flush(p);
	*rest = (size_t)(end - next);
	memmove(buf, next, *rest);
	return rc;
}

static int push_stdin(struct push *p)
{
	size_t size = p->st.item_size + 1 + READ_AHEAD, rest = 0;
	char *buf = malloc(size);
	int rc = buf ? 0 : tool_fail(-ENOMEM, p->label, NULL);

	while (!rc && !enough(p)) {
		ssize_t n = read_some(buf + rest, size - rest);

		if (n == -EINTR) {
			rc = say_interrupted(p);
		} else if (n < 0) {
			tool_error("stdin: %s; %ju pushed", strerror((int)-n),
				   (uintmax_t)p->pushed);
			rc = EX_IOERR;
		} else if (!n) { /* what has no delimiter at the end is a message too */
			if (rest)
				rc = add(p, buf, rest);
			break;
		} else {
			rc = push_complete(p, buf, rest + (size_t)n, &rest);
			if (!rc && rest > p->st.item_size && !enough(p))
				rc = say_too_long(p, &(struct iovec){buf, rest});
		}
	}
	if (!rc)
		rc = flush(p);
	free(buf);
	return rc ? rc : say_done(p);
}

/* ---- the lane ---- */

/* The lane that was asked for; without a wish the one that is meant. */
static int choose_lane(struct push *p)
{
	const struct args *a = p->args;
	const char *lane = a->lane ? a->lane : a->to.lane;
	int rc = 0;

	if (!*lane && p->st.nr_lanes > 1) {
		lane = "normal";
		for (uint32_t i = 0; i < p->st.nr_lanes; i++)
			if (!strcmp(p->st.lanes[i].name, lane))
				p->lane = (int)i;
		if (p->lane < 0) {
			tool_error("%s has %u lanes and none is called normal: "
				   "name one, as in %s/%s",
				   a->to.name, p->st.nr_lanes, a->to.name,
				   p->st.lanes[0].name);
			return EX_USAGE;
		}
	} else if (*lane) {
		rc = tool_lane(&p->st, lane, &p->lane);
	} else {
		p->lane = 0;
	}
	if (!rc)
		snprintf(p->label, sizeof(p->label), "%s/%s", a->to.name,
			 p->st.lanes[p->lane].name);
	return rc;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		options, parse, "NAME[/LANE] [TEXT...]", doc, NULL, NULL, NULL};
	struct args a = {.delimiter = '\n', .count = UINT64_MAX};
	struct push p = {.args = &a, .lane = -1};
	int rc;

	tool_init();
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	tool_signals();
	rc = tool_open(&p.q, &p.st, a.to.name, a.open_flags);
	if (rc)
		return rc;
	rc = choose_lane(&p);
	if (!rc)
		rc = a.texts ? push_texts(&p) : push_stdin(&p);
	shmq_close(p.q);
	return rc;
}
