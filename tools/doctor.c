/* SPDX-License-Identifier: MIT */
/*
 * shmq-doctor - is anything wrong with the queues or with the machine they live on?
 *
 * Looks only: every queue is opened with SHMQ_OBSERVE. Each thing that was looked at
 * is one finding; what is wrong comes with the command that helps. What is said about
 * a queue at work holds for the moment of the look.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "doctor.h"

enum { OPT_JSON = 256, OPT_ROOT };

struct args {
	bool json;
	struct doctor doctor;
};

static const struct argp_option options[] = {
	{"verbose", 'v', NULL, 0, "also who is attached, and who holds what since when",
	 0},
	{"quiet", 'q', NULL, 0, "only what is wrong", 0},
	{"json", OPT_JSON, NULL, 0, "all of it, for programs (schema shmq-doctor/1)", 0},
	{"root", OPT_ROOT, "DIR", 0,
	 "read the configuration of the machine below DIR (default: /)", 1},
	TOOL_OPT_HELP,
	{0},
};

static const char doc[] =
	"Say what is wrong with queues, the named ones or all, and with the "
	"machine.\n\n"
	"  shmq-doctor\n"
	"  shmq-doctor jobs -v\n"
	"\vExit status: 0 nothing is wrong; 1 warnings; 2 problems; 64 bad usage; "
	"74 stdout could not be written. Nothing is changed.";

/* ---- findings ---- */

void *doctor_memory(void *p)
{
	if (!p)
		exit(tool_fail(-ENOMEM, "shmq-doctor", NULL));
	return p;
}

static char *format(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));

static char *format(const char *fmt, va_list ap)
{
	char *text;

	return doctor_memory(vasprintf(&text, fmt, ap) < 0 ? NULL : text);
}

void doctor_add(struct doctor *d, enum doctor_level level, const char *id,
		const struct doctor_queue *q, const char *lane, const char *fmt, ...)
{
	struct doctor_finding *f;
	va_list ap;

	d->findings = doctor_memory(reallocarray(d->findings, (size_t)d->nr_findings + 1,
						 sizeof(*d->findings)));
	f = &d->findings[d->nr_findings++];
	*f = (struct doctor_finding){
		.level = level, .id = id, .queue = q ? q->name : NULL, .lane = lane};
	va_start(ap, fmt);
	f->text = format(fmt, ap);
	va_end(ap);
	d->count[level]++;
}

void doctor_fix(struct doctor *d, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	d->findings[d->nr_findings - 1].fix = format(fmt, ap);
	va_end(ap);
}

static void free_all(struct doctor *d)
{
	for (int i = 0; i < d->nr_findings; i++) {
		free(d->findings[i].text);
		free(d->findings[i].fix);
	}
	free(d->findings);
	for (int i = 0; i < d->nr_queues; i++) {
		tool_forget(&d->queues[i].view);
		free(d->queues[i].name);
		free(d->queues[i].detail);
		free(d->queues[i].states);
	}
	free(d->queues);
}

/* ---- words ---- */

static void print_finding(const struct doctor_finding *f)
{
	static const char *const words[] = {"ok  ", "WARN", "FAIL"};

	if (f->level == DOCTOR_OK && tool_talk == TOOL_QUIET)
		return;
	printf("  %s  ", words[f->level]);
	if (f->queue)
		printf("%s%s%s%s", f->queue, f->lane ? "/" : "", f->lane ? f->lane : "",
		       *f->text ? ": " : "");
	puts(f->text);
	if (f->fix)
		printf("        fix: %s\n", f->fix);
}

static void print_count(const struct doctor *d)
{
	int problems = d->count[DOCTOR_FAIL], warnings = d->count[DOCTOR_WARN];

	if (!problems && !warnings) {
		puts("nothing is wrong");
		return;
	}
	if (problems)
		printf("%d problem%s%s", problems, tool_s((uint64_t)problems),
		       warnings ? ", " : "");
	if (warnings)
		printf("%d warning%s", warnings, tool_s((uint64_t)warnings));
	putchar('\n');
}

static void print_all(const struct doctor *d)
{
	bool titles = tool_talk != TOOL_QUIET;
	int i = 0;

	if (titles)
		puts("machine");
	for (; i < d->nr_findings && !d->findings[i].queue; i++)
		print_finding(&d->findings[i]);
	if (titles)
		puts("queues");
	if (titles && !d->nr_queues)
		printf("  ok    none in %s\n", shmq_dir());
	for (i = 0; i < d->nr_queues; i++) {
		const struct doctor_queue *q = &d->queues[i];

		for (int j = q->first; j < q->first + q->nr; j++)
			print_finding(&d->findings[j]);
		if (tool_talk == TOOL_VERBOSE)
			doctor_print_queue(q);
	}
	if (titles)
		print_count(d);
}

/* ---- command line ---- */

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;

	switch (key) {
	case OPT_JSON:
		a->json = true;
		return 0;
	case OPT_ROOT:
		a->doctor.root = arg;
		return 0;
	case ARGP_KEY_ARG:
		doctor_add_queue(&a->doctor, tool_queue(state, arg));
		return 0;
	default:
		return tool_parse(key, arg, state);
	}
}

static int listed(const char *name, void *doctor)
{
	doctor_add_queue(doctor, name);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct doctor_queue *x = a, *y = b;

	return strcmp(x->name, y->name);
}

int main(int argc, char **argv)
{
	static const struct argp argp = {options, parse, "[NAME...]", doc,
					 NULL,    NULL,  NULL};
	struct args a = {.doctor = {.root = ""}};
	struct doctor *d = &a.doctor;
	int rc;

	tool_init();
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	if (!d->nr_queues)
		shmq_list(listed, d); /* a directory that is missing is a finding below */
	if (d->nr_queues)
		qsort(d->queues, (size_t)d->nr_queues, sizeof(*d->queues), by_name);
	doctor_machine(d);
	doctor_queues(d);
	rc = d->count[DOCTOR_FAIL]   ? DOCTOR_FAIL
	     : d->count[DOCTOR_WARN] ? DOCTOR_WARN
				     : DOCTOR_OK;
	if (!a.json)
		print_all(d);
	else if (doctor_print_json(d))
		rc = tool_fail(-ENOMEM, "shmq-doctor", NULL);
	free_all(d);
	return tool_finish(rc);
}
