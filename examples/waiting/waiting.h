/* SPDX-License-Identifier: MIT */
/* waiting.h - what the examples have in common: a queue, and what is done with an item. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shmq.h>

static bool done; /* an item "end" has come */

static void fail(int err)
{
	char words[128];

	shmq_strerror(err, words, sizeof words);
	fprintf(stderr, "%s %s\n", words, shmq_detail());
	exit(1);
}

static inline struct shmq *attach(const char *name)
{
	struct shmq *q;
	int err = shmq_open(&q, name, 0);

	if (err < 0)
		fail(err);
	return q;
}

static void work(const char *item, ssize_t len)
{
	done |= len == 3 && !memcmp(item, "end", 3);
	printf("%.*s\n", (int)len, item);
	fflush(stdout);
}
