/* SPDX-License-Identifier: MIT */
/*
 * shmq-rm - remove queues, unless somebody is using one of them.
 *
 * All of the named queues are looked at first; if one of them is refused none is
 * removed. Between the look and the removal somebody may still attach: that process
 * goes on with a queue that has no name any more, and nothing else breaks.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

enum { OPT_STALE = 256, OPT_DRY_RUN };

struct queue {
	const char *name;
	bool keep;  /* in use, and --stale says to leave it */
	bool known; /* the two below are */
	uint64_t bytes, depth;
};

struct args {
	bool force, stale, dry_run;
	struct queue *queues;
	int nr_queues;
};

static const struct argp_option options[] = {
	{"force", 'f', NULL, 0,
	 "remove the name even if it is in use, or is no queue; who has it open goes on",
	 0},
	{"stale", OPT_STALE, NULL, 0, "leave those in use alone, without an error", 0},
	{"dry-run", OPT_DRY_RUN, NULL, 0, "say what would be removed, remove nothing", 0},
	TOOL_OPT_QUIET("do not say what was removed"),
	TOOL_OPT_VERBOSE("say it even if nobody is at the terminal"),
	TOOL_OPT_HELP,
	{0},
};

static const char doc[] =
	"Remove queues and the messages in them, unless they are in use.\n\n"
	"  shmq-rm jobs\n"
	"  shmq-rm --stale $(shmq-stat --names)\n"
	"\vExit status: 0 removed; 64 bad usage; 65 not a queue; 66 no such queue; "
	"69 in use, nothing removed; 77 no permission.";

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;

	switch (key) {
	case 'f':
		a->force = true;
		return 0;
	case OPT_STALE:
		a->stale = true;
		return 0;
	case OPT_DRY_RUN:
		a->dry_run = true;
		return 0;
	case ARGP_KEY_ARG:
		a->queues[a->nr_queues++].name = tool_queue(state, arg);
		return 0;
	case ARGP_KEY_END:
		if (a->force && a->stale)
			argp_error(state, "--force or --stale, not both");
		/* $(shmq-stat --names) may well be nothing */
		if (!a->nr_queues && !a->stale)
			argp_error(state, "which queue?");
		return 0;
	default:
		return tool_parse(key, arg, state);
	}
}

/* ---- who is there ---- */

/*
 * "5 live producers (pids 51001-51005), 1 live consumer (pid 7)" to @f, by role.
 * Returns the number of live participants.
 */
static int print_live(FILE *f, const struct tool_view *v)
{
	static const char *const kinds[] = {"participant", "producer", "consumer",
					    "producer and consumer"};
	uint32_t pids[SHMQ_PARTICIPANTS_MAX];
	int total = 0;

	for (uint32_t role = 0; role < 4; role++) {
		int n = 0;

		for (int i = 0; i < v->nr_who && n < SHMQ_PARTICIPANTS_MAX; i++)
			if (v->who[i].alive && (v->who[i].role & 3) == role)
				pids[n++] = v->who[i].pid;
		if (!n)
			continue;
		fprintf(f, "%s%d live %s%s (", total ? ", " : "", n, kinds[role],
			tool_s((uint64_t)n));
		tool_print_pids(f, pids, n);
		fputc(')', f);
		total += n;
	}
	return total;
}

/* "5 live producers (pids 1-5)", or NULL if nobody is attached and alive. */
static char *live(const struct tool_view *v)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	int n = f ? print_live(f, v) : 0;

	if (!f || fclose(f))
		exit(tool_fail(-ENOMEM, v->st.name, NULL));
	if (n)
		return text;
	free(text);
	return NULL;
}

/* ---- removing ---- */

static int refuse(const char *name, const char *who)
{
	tool_error("%s has %s; nothing removed.  --force removes the name anyway", name,
		   who);
	return EX_UNAVAILABLE;
}

/* Look before anything is removed. Returns 0, or the exit code of a refusal. */
static int inspect(const struct args *a, struct queue *q)
{
	struct tool_view v;
	int err = tool_look(q->name, &v), rc = 0;
	char *who;

	if (err)
		return a->force && err != -ENOENT
			       ? 0
			       : tool_fail(err, q->name, shmq_detail());
	q->known = true;
	q->bytes = v.st.region_bytes;
	for (uint32_t i = 0; i < v.st.nr_lanes; i++)
		q->depth += v.st.lanes[i].depth;
	who = live(&v);
	if (who && a->stale) {
		q->keep = true;
		tool_say("kept %s: %s", q->name, who);
	} else if (who && !a->force) {
		rc = refuse(q->name, who);
	}
	free(who);
	tool_forget(&v);
	return rc;
}

static void report(const struct args *a, const struct queue *q)
{
	const char *verb = a->dry_run ? "would remove" : "removed";
	char text[SHMQ_NAME_MAX + 120], human[TOOL_HUMAN_MAX];

	if (q->known)
		snprintf(text, sizeof(text), "%s %s: %s, %ju message%s waiting", verb,
			 q->name, tool_bytes(q->bytes, human), (uintmax_t)q->depth,
			 tool_s(q->depth));
	else
		snprintf(text, sizeof(text), "%s %s: not readable as a queue", verb,
			 q->name);
	if (a->dry_run)
		puts(text);
	else
		tool_say("%s", text);
}

static int remove_queue(const struct args *a, const struct queue *q)
{
	int err = a->dry_run ? 0 : shmq_unlink(q->name);

	if (err == -ENOENT) /* it was there a moment ago: somebody was faster */
		return 0;
	if (err)
		return tool_fail(err, q->name, shmq_detail());
	report(a, q);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {options, parse, "NAME...", doc,
					 NULL,    NULL,  NULL};
	struct args a = {0};
	int rc = 0;

	tool_init();
	a.queues = calloc((size_t)argc, sizeof(*a.queues));
	if (!a.queues)
		return tool_fail(-ENOMEM, "shmq-rm", NULL);
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	for (int i = 0; i < a.nr_queues; i++) {
		int refused = inspect(&a, &a.queues[i]);

		rc = rc ? rc : refused;
	}
	for (int i = 0; !rc && i < a.nr_queues; i++)
		if (!a.queues[i].keep)
			rc = remove_queue(&a, &a.queues[i]);
	free(a.queues);
	return tool_finish(rc);
}
