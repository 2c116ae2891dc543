/* SPDX-License-Identifier: MIT */
/* bench_files.c - the result of shmq-bench as JSON, as percentiles, and as a picture. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "bench.h"

/* ---- JSON ---- */

static void add_percentile(void *to, double share, uint64_t value, uint64_t n)
{
	json_array_append_new(to, json_pack("{s:f, s:I, s:I}", "percent", share * 100, "ns",
					    (json_int_t)value, "count", (json_int_t)n));
}

static bool write_json(const struct bench *b, const struct bench_result *r, FILE *f)
{
	json_t *percentiles = json_array(), *root;
	bool ok;

	histogram_each(&r->waits, add_percentile, percentiles);
	root = json_pack(
		"{s:s, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:f},"
		" s:{s:I, s:I, s:I, s:b, s:I, s:I, s:b, s:f, s:f, s:f, s:f},"
		" s:{s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:o},"
		" s:{s:s, s:i, s:f, s:s, s:s, s:s}}",
		"schema", "shmq-bench/1",
		"options", "producers", (json_int_t)b->producers, "consumers",
		(json_int_t)b->consumers, "msg_size", (json_int_t)b->msg_size, "lanes",
		(json_int_t)b->lanes, "capacity", (json_int_t)b->capacity, "batch",
		(json_int_t)b->batch, "rate", (json_int_t)b->rate, "seed", (json_int_t)b->seed,
		"busy", b->busy, "pinned", b->pin, "duration_s", (double)b->duration_ns / 1e9,
		"result", "pushed", (json_int_t)r->pushed, "popped", (json_int_t)r->popped, "full",
		(json_int_t)r->full, "each_once", r->same, "damaged", (json_int_t)r->damaged,
		"out_of_order", (json_int_t)r->disordered, "interrupted", r->interrupted, "seconds",
		r->seconds, "rate", r->rate, "cpu_seconds_producers", r->cpu_producers,
		"cpu_seconds_consumers", r->cpu_consumers,
		"wait", "timed", (json_int_t)r->waits.total, "timed_every",
		(json_int_t)r->timed_every, "mean_ns", histogram_mean(&r->waits), "p50_ns",
		(json_int_t)histogram_at(&r->waits, .5), "p90_ns",
		(json_int_t)histogram_at(&r->waits, .9), "p99_ns",
		(json_int_t)histogram_at(&r->waits, .99), "p99_9_ns",
		(json_int_t)histogram_at(&r->waits, .999), "p99_99_ns",
		(json_int_t)histogram_at(&r->waits, .9999), "max_ns", (json_int_t)r->waits.max,
		"percentiles", percentiles,
		"machine", "cpu", r->cpu, "cpus", r->cpus, "load", r->load, "governor", r->governor,
		"kernel", r->kernel, "libshmq", shmq_version());
	ok = root && json_dumpf(root, f, JSON_INDENT(2)) == 0 && fputc('\n', f) != EOF;
	json_decref(root);
	return ok;
}

/* ---- a picture: wait by percentile, both scales logarithmic ---- */

enum { WIDTH = 720, HEIGHT = 400, LEFT = 76, RIGHT = 24, TOP = 56, BOTTOM = 52 };

struct plot {
	FILE *f;
	double nines;     /* of the last percentile */
	double low, high; /* decades of nanoseconds */
	bool begun;
};

static double plot_x(const struct plot *p, double share)
{
	double nines = share < 1 ? -log10(1 - share) : p->nines;

	return LEFT + (WIDTH - LEFT - RIGHT) * (nines < p->nines ? nines : p->nines) / p->nines;
}

static double plot_y(const struct plot *p, double ns)
{
	double at = (log10(ns < 1 ? 1 : ns) - p->low) / (p->high - p->low);

	return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (at < 0 ? 0 : at > 1 ? 1 : at);
}

static void plot_point(void *arg, double share, uint64_t value, uint64_t n)
{
	struct plot *p = arg;

	(void)n;
	fprintf(p->f, "%s%.1f,%.1f", p->begun ? " " : "", plot_x(p, share),
		plot_y(p, (double)value));
	p->begun = true;
}

static void plot_grid(const struct plot *p)
{
	static const char *const marks[] = {"0%", "90%", "99%", "99.9%", "99.99%", "99.999%",
					    "99.9999%", "99.99999%", "99.999999%"};
	static const char *const units[] = {"ns", "us", "ms", "s"};

	for (int d = (int)p->low; d <= (int)p->high; d++) {
		double y = plot_y(p, pow(10, d));

		fprintf(p->f, "<line x1='%d' x2='%d' y1='%.1f' y2='%.1f' stroke='#ddd'/>\n", LEFT,
			WIDTH - RIGHT, y, y);
		fprintf(p->f, "<text x='%d' y='%.1f' text-anchor='end'>%.0f %s</text>\n", LEFT - 8,
			y + 4, pow(10, d % 3), units[d / 3 < 3 ? d / 3 : 3]);
	}
	for (int n = 0; n < 9 && n <= p->nines; n++) {
		double x = plot_x(p, 1 - pow(10, -n));

		fprintf(p->f, "<line x1='%.1f' x2='%.1f' y1='%d' y2='%d' stroke='#ddd'/>\n", x, x,
			TOP, HEIGHT - BOTTOM);
		fprintf(p->f, "<text x='%.1f' y='%d' text-anchor='middle'>%s</text>\n", x,
			HEIGHT - BOTTOM + 18, marks[n]);
	}
}

static bool write_svg(const struct bench *b, const struct bench_result *r, FILE *f)
{
	double low = (double)histogram_at(&r->waits, 0), high = (double)r->waits.max;
	double total = (double)r->waits.total;
	struct plot p = {.f = f};

	p.low = floor(log10(low < 1 ? 1 : low));
	p.high = ceil(log10(high < 10 ? 10 : high));
	if (p.high <= p.low)
		p.high = p.low + 1;
	p.nines = ceil(log10(total < 10 ? 10 : total));
	fprintf(f, "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' "
		"font-family='sans-serif' font-size='12'>\n"
		"<rect width='%d' height='%d' fill='white'/>\n", WIDTH, HEIGHT, WIDTH, HEIGHT);
	fprintf(f, "<text x='%d' y='24' font-size='15'>How long messages wait: %u producer%s, %u "
		"consumer%s, %ju bytes</text>\n", LEFT, b->producers, tool_s(b->producers),
		b->consumers, tool_s(b->consumers), (uintmax_t)b->msg_size);
	fprintf(f, "<text x='%d' y='42' fill='#555'>%.0f messages/s; %s, kernel %s, libshmq %s"
		"</text>\n", LEFT, r->rate, r->cpu, r->kernel, shmq_version());
	plot_grid(&p);
	fprintf(f, "<polyline fill='none' stroke='#0a58a6' stroke-width='2' points='");
	histogram_each(&r->waits, plot_point, &p);
	fprintf(f, "'/>\n<text x='%d' y='%d' text-anchor='middle'>share of the messages that "
		"waited no longer</text>\n</svg>\n", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12);
	return !ferror(f);
}

static bool write_hgrm(const struct bench *b, const struct bench_result *r, FILE *f)
{
	(void)b;
	histogram_print(&r->waits, f);
	return !ferror(f);
}

/* ---- files ---- */

static int write_file(const char *path, const struct bench *b, const struct bench_result *r,
		      bool (*write)(const struct bench *, const struct bench_result *, FILE *))
{
	bool ok;
	FILE *f;

	if (!path)
		return 0;
	if (!strcmp(path, "-"))
		return write(b, r, stdout) ? 0 : EX_IOERR;
	f = fopen(path, "we");
	ok = f && write(b, r, f);
	if (f && fclose(f))
		ok = false;
	if (!ok) {
		tool_error("%s: %s", path, strerror(errno));
		return EX_IOERR;
	}
	return 0;
}

int bench_files(const struct bench *b, const struct bench_result *r)
{
	int rc = write_file(b->json, b, r, write_json);

	if (!rc)
		rc = write_file(b->hgrm, b, r, write_hgrm);
	return rc ? rc : write_file(b->svg, b, r, write_svg);
}
