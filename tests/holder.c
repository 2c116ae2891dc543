/* SPDX-License-Identifier: MIT */
/*
 * hold - a process that holds something of a queue until it is killed; for
 * test_tools.sh, which needs what no tool can be made to hold.
 *
 *   hold NAME LANE peek N       take N items and do not finish them
 *   hold NAME LANE reserve      reserve the next item and do not commit it
 *   hold NAME LANE push POINT   push an item, and stay at push:POINT or push_one:POINT
 *
 * Prints "holding" when it does; exits 1 with the error if it can not.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <shmq.h>

#include "../lib/point.h"

static const char *stay_at;

static void holding(void)
{
	puts("holding");
	fflush(stdout);
	for (;;)
		pause();
}

static void at_point(const char *name)
{
	if (!strncmp(name, "push", 4) && !strcmp(strchr(name, ':') + 1, stay_at))
		holding();
}

static int hold(struct shmq *q, int lane, const char *what, const char *arg)
{
	struct shmq_lease leases[64];
	void *buf;
	int err = 0, n = atoi(arg);

	if (!strcmp(what, "push")) {
		stay_at = arg;
		shmq_point_hook = at_point;
		err = shmq_push(q, lane, arg, strlen(arg), SHMQ_NOWAIT);
		return err ? err : -ENOENT; /* it does not come by there */
	}
	if (!strcmp(what, "reserve"))
		return shmq_reserve(q, lane, &buf, SHMQ_NOWAIT);
	for (int i = 0; !err && i < n && i < 64; i++)
		err = shmq_peek(q, lane, &leases[i], SHMQ_NOWAIT);
	return err;
}

int main(int argc, char **argv)
{
	struct shmq *q;
	int err = argc < 4 ? -EINVAL : shmq_open(&q, argv[1], 0);

	if (!err)
		err = hold(q, atoi(argv[2]), argv[3], argc > 4 ? argv[4] : "0");
	if (err) {
		printf("error %d\n", err);
		return 1;
	}
	holding();
}
