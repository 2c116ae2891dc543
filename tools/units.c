/* SPDX-License-Identifier: MIT */
/*
 * units.c - numbers with units, both ways: what people write in options and what
 * they read in the output. Nothing here prints or depends on the locale.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "tool.h"

/* Digits at the start of @s. Returns what follows, or NULL. */
static const char *digits(const char *s, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)*s))
		return NULL;
	errno = 0;
	*out = strtoull(s, &end, 10);
	return errno ? NULL : end;
}

int tool_size(const char *s, uint64_t *out)
{
	static const char prefixes[] = "KMGT";
	const char *unit = digits(s, out), *p;
	uint64_t base = 1024;

	if (!unit)
		return isdigit((unsigned char)*s) ? -ERANGE : -EINVAL;
	if (!*unit || !strcasecmp(unit, "B"))
		return 0;
	p = strchr(prefixes, toupper((unsigned char)*unit));
	if (!p)
		return -EINVAL;
	if (!strcasecmp(unit + 1, "B"))
		base = 1000;
	else if (unit[1] && strcasecmp(unit + 1, "iB"))
		return -EINVAL;
	for (; p >= prefixes; p--)
		if (__builtin_mul_overflow(*out, base, out))
			return -ERANGE;
	return 0;
}

int tool_time(const char *s, int64_t *out_ns)
{
	static const struct {
		const char *unit;
		double ns;
	} units[] = {
		{"", 1e9},   {"ns", 1},     {"us", 1e3},   {"ms", 1e6},    {"s", 1e9},
		{"m", 60e9}, {"min", 60e9}, {"h", 3600e9}, {"d", 86400e9},
	};
	const char *unit = s + strspn(s, "0123456789.");
	char *end;
	double v;

	if (unit == s)
		return -EINVAL;
	v = strtod(s, &end);
	if (end != unit) /* "1.2.3", or an exponent */
		return -EINVAL;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(unit, units[i].unit))
			continue;
		v *= units[i].ns;
		if (v >= 9.2e18)
			return -ERANGE;
		*out_ns = (int64_t)v;
		return 0;
	}
	return -EINVAL;
}

int tool_delimiter(const char *s)
{
	static const char names[] = "ntr0\\", bytes[] = "\n\t\r\0\\";
	const char *p;

	if (s[0] && !s[1])
		return (unsigned char)s[0];
	if (s[0] == '\\' && s[1] && !s[2] && (p = strchr(names, s[1])))
		return bytes[p - names];
	if (s[0] == '\\')
		s++;
	if (s[0] == 'x' && isxdigit((unsigned char)s[1]) &&
	    isxdigit((unsigned char)s[2]) && !s[3])
		return (int)strtol(s + 1, NULL, 16);
	return -EINVAL;
}

/* "1.4", "12", "213": one decimal where it says something. */
static void three_digits(double v, const char *unit, char *buf)
{
	int tenths = (int)(v * 10 + 0.5);

	if (tenths < 1000 && tenths % 10)
		snprintf(buf, TOOL_HUMAN_MAX, "%d.%d %s", tenths / 10, tenths % 10, unit);
	else
		snprintf(buf, TOOL_HUMAN_MAX, "%.0f %s", v, unit);
}

const char *tool_bytes(uint64_t bytes, char *buf)
{
	static const char *const units[] = {"B",   "KiB", "MiB", "GiB",
					    "TiB", "PiB", "EiB"};
	double v = (double)bytes;
	int i = 0;

	for (; v >= 1023.5 && i < 6; i++)
		v /= 1024;
	three_digits(v, units[i], buf);
	return buf;
}

const char *tool_age(uint64_t ns, char *buf)
{
	static const struct {
		const char *unit;
		double ns;
	} units[] = {
		{"d", 86400e9}, {"h", 3600e9}, {"min", 60e9}, {"s", 1e9},
		{"ms", 1e6},    {"us", 1e3},   {"ns", 1},
	};
	size_t i = 0;

	while (i < 6 && (double)ns < units[i].ns)
		i++;
	if (i < 3) /* 90 minutes are "1 h": ages of people, not of machines */
		snprintf(buf, TOOL_HUMAN_MAX, "%d %s", (int)((double)ns / units[i].ns),
			 units[i].unit);
	else
		three_digits((double)ns / units[i].ns, units[i].unit, buf);
	return buf;
}

const char *tool_s(uint64_t n)
{
	return n == 1 ? "" : "s";
}

char *tool_printable(char *s)
{
	for (char *p = s; *p; p++)
		if (!isascii((unsigned char)*p) || !isprint((unsigned char)*p))
			*p = '?';
	return s;
}

uint64_t tool_since(uint64_t then_ns)
{
	struct timespec ts;
	uint64_t now;

	clock_gettime(CLOCK_REALTIME, &ts);
	now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	return now > then_ns ? now - then_ns : 0;
}
