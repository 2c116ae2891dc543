/* SPDX-License-Identifier: MIT */
/*
 * report.c - the line that says on what machine figures were taken, and medians.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench.h"

static void cpu_model(char *buf, size_t size)
{
	char line[256];
	FILE *f = fopen("/proc/cpuinfo", "r");

	snprintf(buf, size, "unknown processor");
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
			snprintf(buf, size, "%s", strchr(line, ':') + 2);
			break;
		}
	if (f)
		fclose(f);
	for (; *buf; buf++) /* a word for JSON without escapes */
		if (*buf == '"' || *buf == '\\' || (unsigned char)*buf < ' ')
			*buf = *buf == '\n' ? '\0' : ' ';
}

void bench_print_machine(int json)
{
	struct utsname un;
	char model[128];
	double load = 0;

	uname(&un);
	cpu_model(model, sizeof model);
	if (getloadavg(&load, 1) != 1)
		load = -1;
	printf(json ? "{\"type\":\"machine\",\"cpu\":\"%s\",\"cpus\":%ld,\"kernel\":\"%s\","
		      "\"arch\":\"%s\",\"load\":%.2f}\n" :
		      "machine  %s, %ld cpus, kernel %s %s, load %.2f\n",
	       model, sysconf(_SC_NPROCESSORS_ONLN), un.release, un.machine, load);
	fflush(stdout); /* or the children print it again */
}

int bench_ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_median(const double *sorted, int n)
{
	return n ? (sorted[(n - 1) / 2] + sorted[n / 2]) / 2 : 0;
}
