/* SPDX-License-Identifier: MIT */
/*
 * producer.c - put lines of stdin into the lane "normal" of the queue "hello".
 *
 *   cc -o producer producer.c $(pkg-config --cflags --libs shmq)
 *   shmq-create hello && seq 10 | ./producer
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <shmq.h>

int main(void)
{
	char line[64], words[128]; /* 64: the default item size */
	struct shmq *q;
	int err = shmq_open(&q, "hello", 0);

	while (!err && fgets(line, sizeof line, stdin))
		do /* wait for room, as long as it takes; go on after a signal */
			err = shmq_push(q, 1, line, strcspn(line, "\n"), SHMQ_FOREVER);
		while (err == -EINTR);
	if (err) {
		shmq_strerror(err, words, sizeof words);
		fprintf(stderr, "producer: %s\n", words);
		return 1;
	}
	shmq_close(q);
	return 0;
}
