/* SPDX-License-Identifier: MIT */
/*
 * tool.h - what the shmq-* commands share: words on stderr, exit codes, units,
 * names, signals and one look at a queue. The commands use <shmq.h> like any
 * other program and nothing of the library's inside.
 *
 * Convention: a function that returns "an exit code" has already told the user
 * what is wrong; one that returns a negative errno has printed nothing.
 */
#ifndef SHMQ_TOOL_H
#define SHMQ_TOOL_H

#include <argp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sysexits.h>

#include <shmq.h>

#define TOOL_HUMAN_MAX 24 /* buffer for one human number */

/* ---- options every command has: -q, -v, -h, --version ---- */

#define TOOL_OPT_HELP                                                                    \
	{                                                                                \
		NULL, 'h', NULL, OPTION_HIDDEN, NULL, -1                                 \
	}
#define TOOL_OPT_QUIET(doc)                                                              \
	{                                                                                \
		"quiet", 'q', NULL, 0, doc, 8                                            \
	}
#define TOOL_OPT_VERBOSE(doc)                                                            \
	{                                                                                \
		"verbose", 'v', NULL, 0, doc, 8                                          \
	}

enum tool_talk { TOOL_QUIET = -1, TOOL_AUTO, TOOL_VERBOSE };
extern enum tool_talk tool_talk;

/*
 * tool_init - to be called first: sets what --version prints. A standard stream
 * that is closed stays unusable, but its number is taken, so that no queue is
 * opened in its place and written to as if it were the stream.
 */
void tool_init(void);

/* tool_parse - the parser's default case: handles the keys above. */
error_t tool_parse(int key, char *arg, struct argp_state *state);

/* Value of an option, or argp_error(), which exits 64 and names the option. */
uint64_t tool_arg_size(struct argp_state *state, const char *opt, const char *arg);
uint64_t tool_arg_count(struct argp_state *state, const char *opt, const char *arg);
int64_t tool_arg_time(struct argp_state *state, const char *opt, const char *arg);
int tool_arg_delimiter(struct argp_state *state, const char *arg);

/* ---- units ---- */

/* "64K" = "64KiB" = 65536, "64KB" = 64000. Returns 0; -EINVAL; -ERANGE. */
int tool_size(const char *s, uint64_t *out);
/* "250ms", "1.5s", "2m"; a bare number is seconds. Returns 0; -EINVAL; -ERANGE. */
int tool_time(const char *s, int64_t *out_ns);
/* One byte: "c", "\n", "\0", "\t", "xNN". Returns 0..255; -EINVAL. */
int tool_delimiter(const char *s);
/* "1.4 MiB", "2 h": @buf has TOOL_HUMAN_MAX bytes and is returned. */
const char *tool_bytes(uint64_t bytes, char *buf);
const char *tool_age(uint64_t ns, char *buf);
/* "1 message", "3 messages": what follows the number. */
const char *tool_s(uint64_t n);
/* Replace what would disturb a terminal or JSON by '?', in place. */
char *tool_printable(char *s);
/* Nanoseconds from @then_ns (CLOCK_REALTIME) to now; 0 if that is to come. */
uint64_t tool_since(uint64_t then_ns);

/* ---- words ---- */

/* "shmq-push: ...", always printed. @fmt may go on with lines of its own. */
void tool_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* For people: printed with -v, or on a terminal without -q. */
void tool_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/*
 * What was done until now, on a terminal, from a second after the first call on. Cheap
 * enough to be called for every message.
 */
void tool_progress(const char *done, uint64_t messages, uint64_t bytes);

/* tool_exit_code - the sysexits number of a negative errno of the library. */
int tool_exit_code(int err);

/*
 * tool_fail - print "shmq-push: @what: words (@detail)" and what to do next.
 * @detail may be "" or NULL. Returns the exit code.
 */
int tool_fail(int err, const char *what, const char *detail);

/* tool_finish - write out stdout. Returns @rc, or EX_IOERR if that failed. */
int tool_finish(int rc);

/* ---- names, queues ---- */

struct tool_target { /* "jobs" or "jobs/high" */
	char name[SHMQ_NAME_MAX + 1];
	char lane[SHMQ_LANE_NAME_MAX + 1]; /* "" if none was named */
};

/* tool_target - take @arg apart; a leading / is dropped. argp_error() if bad, or if @t has
 * one already. */
void tool_target(struct argp_state *state, const char *arg, struct tool_target *t);

/* tool_queue - as tool_target(), but a lane is an error. Returns the name. */
const char *tool_queue(struct argp_state *state, const char *arg);

/*
 * tool_open - shmq_open() for a producer or consumer and the first shmq_stat().
 * Returns 0, or an exit code.
 */
int tool_open(struct shmq **q, struct shmq_stat *st, const char *name, unsigned flags);

/* tool_lane - number of the lane called @lane. Returns 0, or an exit code. */
int tool_lane(const struct shmq_stat *st, const char *lane, int *out);

struct tool_view { /* one look at a queue, read-only */
	struct shmq_stat st;
	struct shmq_participant *who;
	int nr_who;
	struct shmq_hold *holds; /* of tool_look_holds() only */
	int nr_holds;
};

/*
 * tool_look - returns 0, or a negative errno with shmq_detail() of the open; then
 * there is nothing to forget.
 */
int tool_look(const char *name, struct tool_view *v);
/* The same, and who holds what at the moment. */
int tool_look_holds(const char *name, struct tool_view *v);
/* tool_forget - free what a look has filled. */
void tool_forget(struct tool_view *v);

/* ---- words about participants ---- */

/* "pid 7" or "pids 12, 51001-51005"; one that comes twice counts once. Sorts @pids. */
void tool_print_pids(FILE *f, uint32_t *pids, int n);
/* "producer", "consumer", "both" or "-". */
const char *tool_role(uint32_t role);
/*
 * What becomes of @n items of @lane of which delivery number @delivery has failed:
 * "goes to the dead-letter lane dead" or "is dropped" (both when somebody pops there
 * next), or NULL if they are delivered again. @buf has TOOL_FATE_MAX bytes.
 */
#define TOOL_FATE_MAX 64
const char *tool_fate(const struct shmq_stat *st, uint32_t lane, uint32_t delivery,
		      uint64_t n, char *buf);

/* ---- signals ---- */

/* The signal that asks to stop, or 0. */
extern volatile sig_atomic_t tool_signal;

/*
 * tool_signals - SIGINT, SIGTERM and SIGHUP set tool_signal and interrupt the
 * system call or shmq wait in progress. One that comes between the look at
 * tool_signal and the call interrupts the call 20 ms later. SIGPIPE becomes
 * EPIPE. Signals that were ignored at start stay so.
 */
void tool_signals(void);

#endif
