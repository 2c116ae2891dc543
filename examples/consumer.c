/* SPDX-License-Identifier: MIT */
/*
 * consumer.c - print what is in the queue "hello", the highest lane first, until
 * nothing has come for a second. Start as many as you like: each item goes to one.
 *
 *   cc -o consumer consumer.c $(pkg-config --cflags --libs shmq)
 *   ./consumer
 */
#include <errno.h>
#include <stdio.h>

#include <shmq.h>

int main(void)
{
	char item[64], words[128];
	struct shmq *q;
	ssize_t n = shmq_open(&q, "hello", 0);

	while (n >= 0 || n == -EINTR) {
		n = shmq_pop(q, SHMQ_ANY_LANE, item, sizeof item, NULL,
			     INT64_C(1000000000));
		if (n >= 0)
			printf("%.*s\n", (int)n, item);
	}
	if (n != -ETIMEDOUT) {
		shmq_strerror((int)n, words, sizeof words);
		fprintf(stderr, "consumer: %s\n", words);
		return 1;
	}
	shmq_close(q);
	return 0;
}
