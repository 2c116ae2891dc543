/* SPDX-License-Identifier: MIT */
/* options.c - numbers, shapes and contenders in the options of the benchmarks. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

long bench_number(struct argp_state *st, const char *arg, long least, long most)
{
	char *end;
	long n = strtol(arg, &end, 10);

	if (end == arg || *end || n < least || n > most)
		argp_error(st, "'%s': give a number from %ld to %ld", arg, least, most);
	return n;
}

double bench_real(struct argp_state *st, const char *arg, double least, double most)
{
	char *end;
	double n = strtod(arg, &end);

	if (end == arg || *end || !(n >= least && n <= most))
		argp_error(st, "'%s': give a number from %g to %g", arg, least, most);
	return n;
}

void bench_parse_shape(struct argp_state *st, const char *arg, int *producers, int *consumers)
{
	char over;

	if (sscanf(arg, "%dx%d%c", producers, consumers, &over) != 2 || *producers < 1 ||
	    *consumers < 1 || *producers > BENCH_MAX_PROCS ||
	    *consumers > BENCH_MAX_PROCS - *producers)
		argp_error(st, "'%s': give a shape like 8x4, up to %d processes", arg,
			   BENCH_MAX_PROCS);
}

size_t bench_parse_size(struct argp_state *st, const char *arg, size_t least)
{
	size_t size = (size_t)bench_number(st, arg, (long)least, 1 << 20);

	if (size % 8)
		argp_error(st, "the size must be a multiple of 8");
	return size;
}

void bench_parse_contenders(struct argp_state *st, char *arg, int chosen[BENCH_MAX_ENTRIES])
{
	const char *wrong = bench_choose(arg, chosen);

	if (wrong)
		argp_error(st, "no contender '%s'", wrong);
}
