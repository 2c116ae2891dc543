/* SPDX-License-Identifier: MIT */
/*
 * shmq-dump - copy what waits in a queue to a file or a pipe, or show it. The queue is
 * opened read-only, and nobody who uses it is hindered.
 */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

enum { OPT_TEXT = 256, OPT_RAW, OPT_HEX, OPT_JSON, OPT_FORCE };

enum form { FORM_FILE, FORM_TEXT, FORM_RAW, FORM_HEX, FORM_JSON };

struct args {
	struct tool_target from;
	const char *out;
	uint64_t count;
	enum form form;
	bool force;
};

static const struct argp_option options[] = {
	{"output", 'o', "FILE", 0, "write to FILE, which must not exist; - is stdout", 0},
	{"force", OPT_FORCE, NULL, 0, "replace FILE if it exists", 0},
	{"text", OPT_TEXT, NULL, 0,
	 "print the messages: lane, number, how long they have waited, bytes, text", 1},
	{"raw", OPT_RAW, NULL, 0, "print nothing but the messages, each on a line", 1},
	{"hex", OPT_HEX, NULL, 0, "print them in hexadecimal", 1},
	{"json", OPT_JSON, NULL, 0, "print an object a line", 1},
	{"count", 'n', "N", 0, "at most N messages", 1},
	TOOL_OPT_QUIET("do not say how many were copied"),
	TOOL_OPT_VERBOSE("say it even if nobody is at the terminal, and how it was written"),
	TOOL_OPT_HELP,
	{0},
};

static const char doc[] =
	"Copy the messages that wait in a queue. They stay where they are.\n\n"
	"  shmq-dump jobs -o jobs.shmqd\n"
	"  shmq-dump jobs/high --text --count 2\n"
	"\vshmq-restore(1) puts such a file into a queue again. Exit status: 0; 64 bad usage; "
	"65 not a queue; 66 no such queue or lane; 73 FILE exists or cannot be made; 74 it "
	"cannot be written; 77 no permission; 130 interrupted.";

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;

	switch (key) {
	case 'o':
		a->out = arg;
		return 0;
	case OPT_FORCE:
		a->force = true;
		return 0;
	case OPT_TEXT:
		a->form = FORM_TEXT;
		return 0;
	case OPT_RAW:
		a->form = FORM_RAW;
		return 0;
	case OPT_HEX:
		a->form = FORM_HEX;
		return 0;
	case OPT_JSON:
		a->form = FORM_JSON;
		return 0;
	case 'n':
		a->count = tool_arg_count(state, "--count", arg);
		return 0;
	case ARGP_KEY_ARG:
		tool_target(state, arg, &a->from);
		return 0;
	case ARGP_KEY_END:
		if (!*a->from.name)
			argp_error(state, "which queue? (shmq-stat --names lists them)");
		if (a->form == FORM_FILE && !a->out)
			argp_error(state, "say where to: -o FILE, -o - for stdout, or how to print: "
					  "--text, --raw, --hex or --json");
		if (a->form != FORM_FILE && a->out)
			argp_error(state, "what is printed goes to stdout: give no -o");
		return 0;
	default:
		return tool_parse(key, arg, state);
	}
}

/* ---- for people and programs ---- */

static void print_text(const struct shmq_stat *st, const unsigned char *buf,
		       const struct shmq_info *info, uint64_t n)
{
	char age[TOOL_HUMAN_MAX] = "-";

	if (info->wait_ns)
		tool_age(info->wait_ns, age);
	printf("%s  #%ju  %s  %u B  ", st->lanes[info->lane].name, (uintmax_t)n, age, info->len);
	for (uint32_t i = 0; i < info->len; i++)
		putchar(buf[i] >= 32 && buf[i] != 127 ? buf[i] : '.');
	putchar('\n');
}

static void print_hex(const struct shmq_stat *st, const unsigned char *buf,
		      const struct shmq_info *info, uint64_t n)
{
	char age[TOOL_HUMAN_MAX];

	printf("%s  #%ju  %u B", st->lanes[info->lane].name, (uintmax_t)n, info->len);
	if (info->wait_ns)
		printf(", pushed %s ago", tool_age(info->wait_ns, age));
	if (info->attempts > 1)
		printf(", delivered %u time%s before", info->attempts - 1u,
		       tool_s(info->attempts - 1u));
	putchar('\n');
	for (uint32_t at = 0; at < info->len; at += 16) {
		uint32_t i, end = info->len - at < 16 ? info->len : at + 16;

		printf("  %06x ", at);
		for (i = at; i < at + 16; i++)
			i < end ? printf(" %02x", buf[i]) : printf("   ");
		printf("  |");
		for (i = at; i < end; i++)
			putchar(buf[i] >= 32 && buf[i] < 127 ? buf[i] : '.');
		puts("|");
	}
}

/* The message as "text" if it is UTF-8 without zeros, else as "hex". */
static int print_json(const struct shmq_stat *st, const unsigned char *buf,
		      const struct shmq_info *info, uint64_t n)
{
	static const char digits[] = "0123456789abcdef";
	json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:i}", "lane", st->lanes[info->lane].name,
			      "number", (json_int_t)n, "bytes", (json_int_t)info->len, "wait_ns",
			      (json_int_t)info->wait_ns, "deliveries", info->attempts - 1);
	json_t *text = memchr(buf, 0, info->len) ? NULL :
		       json_stringn((const char *)buf, info->len);
	int rc = -1;

	if (text) {
		rc = json_object_set_new(o, "text", text);
	} else {
		char *hex = malloc(2 * (size_t)info->len + 1);

		for (uint32_t i = 0; hex && i < info->len; i++) {
			hex[2 * i] = digits[buf[i] >> 4];
			hex[2 * i + 1] = digits[buf[i] & 15];
		}
		if (hex)
			rc = json_object_set_new(o, "hex", json_stringn(hex, 2 * info->len));
		free(hex);
	}
	if (!rc)
		rc = json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(o);
	return rc ? tool_fail(-ENOMEM, "memory for a message", NULL) : 0;
}

static int print_message(const struct args *a, const struct shmq_stat *st, const void *buf,
			 const struct shmq_info *info, uint64_t n)
{
	switch (a->form) {
	case FORM_TEXT:
		print_text(st, buf, info, n);
		break;
	case FORM_HEX:
		print_hex(st, buf, info, n);
		break;
	case FORM_JSON:
		return print_json(st, buf, info, n);
	default:
		fwrite(buf, 1, info->len, stdout);
		putchar('\n');
	}
	return ferror(stdout) ? EX_IOERR : 0; /* tool_finish() says why */
}

/* ---- the walk ---- */

static int copy_all(const struct args *a, const struct shmq_stat *st, struct shmq_walk *walk,
		    struct file_writer *w, uint64_t *n)
{
	char *buf = malloc(st->item_size);
	struct shmq_info info;
	int rc = 0;

	if (!buf)
		return tool_fail(-ENOMEM, "memory for a message", NULL);
	for (*n = 0; !rc && *n < a->count; ++*n) {
		ssize_t len = shmq_walk_next(walk, buf, st->item_size, &info);

		if (len == -EAGAIN)
			break;
		if (len < 0) {
			rc = tool_fail((int)len, a->from.name, NULL);
			break;
		}
		if (w && file_full(w, info.len))
			rc = file_flush(w);
		if (w)
			tool_progress("copied", *n, w->bytes);
		if (w && !rc)
			file_add(w, buf, &info);
		else if (!w)
			rc = print_message(a, st, buf, &info, *n + 1);
		if (!rc && tool_signal)
			rc = 128 + tool_signal;
	}
	free(buf);
	return rc;
}

/* The copy at @path is finished, or half a copy: then it is none, the queue has it all. */
static int keep_file(const struct args *a, char *path, int fd, int rc)
{
	if (close(fd) < 0 && !rc)
		rc = tool_fail(-errno, path, NULL);
	if (!rc && a->force && rename(path, a->out) < 0)
		rc = tool_fail(-errno, a->out, NULL);
	if (rc)
		unlink(path);
	return rc;
}

static int dump_to_file(const struct args *a, const struct shmq_stat *st,
			struct shmq_walk *walk)
{
	bool out = !strcmp(a->out, "-");
	char path[PATH_MAX];
	int fd, rc;
	struct file_writer w = {0};
	struct sink *sink = NULL;
	char size[TOOL_HUMAN_MAX];
	uint64_t n = 0;

	/* What --force replaces is there until the copy is whole. */
	snprintf(path, sizeof(path), "%s%s", a->out, a->force ? ".part" : "");
	fd = out ? STDOUT_FILENO : file_make(path, a->force ? NULL : "--force replaces it");
	if (fd < 0)
		return EX_CANTCREAT;
	rc = sink_open(&sink, fd, out ? "standard output" : a->out, file_room(st->item_size));
	if (!rc)
		rc = file_begin(&w, sink, st);
	if (!rc)
		rc = copy_all(a, st, walk, &w, &n);
	if (!rc)
		rc = file_end(&w);
	if (!rc) {
		uint64_t held = 0;

		for (uint32_t i = 0; i < st->nr_lanes; i++)
			held += st->lanes[i].held;
		tool_say("copied %ju message%s of %s to %s: %s%s%s", (uintmax_t)n, tool_s(n),
			 a->from.name, out ? "standard output" : a->out, tool_bytes(w.bytes, size),
			 tool_talk == TOOL_VERBOSE ? ", by " : "",
			 tool_talk == TOOL_VERBOSE ? sink_engine(sink) : "");
		if (held)
			tool_say("%ju more %s held by consumers, and not in it", (uintmax_t)held,
				 held == 1 ? "was" : "were");
	}
	sink_close(sink);
	return out ? rc : keep_file(a, path, fd, rc);
}

int main(int argc, char **argv)
{
	static const struct argp argp = {options, parse, "NAME[/LANE]", doc, NULL, NULL, NULL};
	struct args a = {.count = UINT64_MAX};
	struct shmq_walk *walk = NULL;
	struct tool_view v;
	struct shmq *q = NULL;
	uint64_t n;
	int lane = SHMQ_ANY_LANE, rc;

	tool_init();
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	tool_signals();
	rc = tool_look(a.from.name, &v);
	if (rc < 0)
		return tool_fail(rc, a.from.name, shmq_detail());
	rc = *a.from.lane ? tool_lane(&v.st, a.from.lane, &lane) : 0;
	if (!rc) {
		rc = shmq_open(&q, a.from.name, SHMQ_OBSERVE | SHMQ_PREFAULT);
		if (rc < 0)
			rc = tool_fail(rc, a.from.name, shmq_detail());
	}
	if (!rc) {
		rc = shmq_walk_begin(q, lane, &walk);
		if (rc < 0)
			rc = tool_fail(rc, a.from.name, NULL);
		else if (a.form == FORM_FILE)
			rc = dump_to_file(&a, &v.st, walk);
		else
			rc = copy_all(&a, &v.st, walk, NULL, &n);
	}
	shmq_walk_end(walk);
	shmq_close(q);
	tool_forget(&v);
	return tool_finish(rc);
}
