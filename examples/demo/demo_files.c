/* SPDX-License-Identifier: MIT */
/*
 * demo_files.c - send every line of a file through an existing queue: producer
 * processes push a part of the file each, over all lanes in turn; consumer processes
 * write what they pop to DIR/out.N. Each item carries producer, lane and number in
 * front of the line, by which the consumers see that the order is kept.
 *
 *   demo_files QUEUE FILE DIR [PRODUCERS CONSUMERS]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "demo.h"

#define IDLE_NS (DEMO_NS / 10)

struct head {
	uint64_t seq; /* of this producer in this lane */
	uint32_t producer;
	uint32_t lane;
};

struct job {
	const char *queue, *dir;
	const char *text; /* the file, mapped */
	size_t size;
	int producers, consumers;
	size_t item_size;
	int lanes;
	_Atomic int producers_left;
	_Atomic uint64_t pushed, popped, again, disordered;
	_Atomic uint64_t by_consumer[DEMO_MAX_PROCS];
};

/* Where part @p begins: at the first line that starts in it. */
static const char *part(const struct job *job, int p)
{
	const char *end = job->text + job->size, *at, *nl;

	at = job->text + job->size * (size_t)p / (size_t)job->producers;
	if (at == job->text || at == end)
		return at;
	nl = memchr(at - 1, '\n', (size_t)(end - (at - 1)));
	return nl ? nl + 1 : end;
}

static int push_line(struct shmq *q, struct head *head, char *item, size_t len)
{
	int err;

	memcpy(item, head, sizeof *head);
	do
		err = shmq_push(q, (int)head->lane, item, sizeof *head + len,
				SHMQ_FOREVER);
	while (err == -EINTR);
	return err;
}

static int produce(int number, void *arg)
{
	struct job *job = arg;
	struct shmq *q = demo_open(job->queue, 0);
	const char *at = part(job, number), *end = part(job, number + 1);
	char *item = malloc(job->item_size);
	uint64_t seqs[SHMQ_MAX_LANES] = {0}, lines = 0;

	while (item && at < end) {
		const char *nl = memchr(at, '\n', (size_t)(end - at));
		size_t len = (size_t)((nl ? nl : end) - at);
		struct head head = {.producer = (uint32_t)number,
				    .lane = (uint32_t)(lines++ % (uint64_t)job->lanes)};
		int err = len + sizeof head > job->item_size ? -EMSGSIZE : 0;

		head.seq = seqs[head.lane]++;
		if (!err) {
			memcpy(item + sizeof head, at, len);
			err = push_line(q, &head, item, len);
		}
		if (err)
			return demo_fail("push", err);
		at += len + 1;
	}
	atomic_fetch_add(&job->pushed, lines);
	atomic_fetch_sub(&job->producers_left, 1);
	shmq_close(q);
	return item ? 0 : 1;
}

static void check(struct job *job, const struct head *head, const struct shmq_info *info,
		  uint64_t next[][SHMQ_MAX_LANES])
{
	if (head->producer >= (uint32_t)job->producers || head->lane != info->lane) {
		atomic_fetch_add(&job->disordered, 1);
		return;
	}
	if (head->seq < next[head->producer][head->lane])
		atomic_fetch_add(&job->disordered, 1);
	next[head->producer][head->lane] = head->seq + 1;
	if (info->attempts > 1)
		atomic_fetch_add(&job->again, 1);
}

/* The first wait without a result that began after the last producer is the end. */
static int consume_to(struct job *job, struct shmq *q, FILE *out, int number)
{
	static uint64_t next[DEMO_MAX_PROCS][SHMQ_MAX_LANES];
	char *item = malloc(job->item_size);
	struct shmq_info info;
	struct head head;
	uint64_t lines = 0;
	ssize_t n = 0;
	int last = 0;

	while (item && (n >= 0 || n == -EINTR || !last)) {
		last = !job->producers_left;
		n = shmq_pop(q, SHMQ_ANY_LANE, item, job->item_size, &info, IDLE_NS);
		if (n >= (ssize_t)sizeof head) {
			memcpy(&head, item, sizeof head);
			check(job, &head, &info, next);
			fwrite(item + sizeof head, 1, (size_t)n - sizeof head, out);
			putc('\n', out);
			lines++;
		} else if (n != -EINTR && n != -ETIMEDOUT) {
			return demo_fail("pop", n < 0 ? (int)n : -EBADMSG);
		}
	}
	job->by_consumer[number] = lines;
	atomic_fetch_add(&job->popped, lines);
	return item ? 0 : 1;
}

static int consume(int number, void *arg)
{
	struct job *job = arg;
	struct shmq *q = demo_open(job->queue, 0);
	char path[4096];
	FILE *out;
	int failed;

	snprintf(path, sizeof path, "%s/out.%d", job->dir, number);
	out = fopen(path, "w");
	if (!out)
		return demo_fail(path, -errno);
	failed = consume_to(job, q, out, number);
	if (fclose(out))
		failed = demo_fail(path, -errno);
	shmq_close(q);
	return failed;
}

static void map_file(struct job *job, const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		exit(demo_fail(path, -errno));
	if (st.st_size == 0)
		exit(demo_fail(path, -ENODATA));
	job->size = (size_t)st.st_size;
	job->text = mmap(NULL, job->size, PROT_READ, MAP_SHARED, fd, 0);
	if (job->text == MAP_FAILED)
		exit(demo_fail(path, -errno));
	close(fd);
}

static void learn_shape(struct job *job)
{
	struct shmq_stat st = {.sz = sizeof st};
	struct shmq *q = demo_open(job->queue, SHMQ_OBSERVE);
	int err = shmq_stat(q, &st);

	if (err)
		exit(demo_fail("stat", err));
	job->item_size = st.item_size;
	job->lanes = (int)st.nr_lanes;
	shmq_close(q);
}

static int report(const struct job *job, int64_t took)
{
	int i;

	printf("  %s lines from %d producers over %d lanes to %d consumers (",
	       demo_count(job->popped), job->producers, job->lanes, job->consumers);
	for (i = 0; i < job->consumers; i++)
		printf("%s%s", i ? " " : "", demo_count(job->by_consumer[i]));
	printf(") in %.2f s\n  pushed %s, popped %s, delivered again %s, out of order "
	       "%s\n",
	       (double)took / 1e9, demo_count(job->pushed), demo_count(job->popped),
	       demo_count(job->again), demo_count(job->disordered));
	return job->pushed == job->popped && !job->disordered && !job->again ? 0 : 1;
}

static int run(struct job *job)
{
	int64_t begin = demo_now();
	int i, left;

	job->producers_left = job->producers;
	for (i = 0; i < job->consumers; i++)
		demo_start(consume, i, job);
	for (i = 0; i < job->producers; i++)
		demo_start(produce, i, job);
	while ((left = demo_check_children()) > 0)
		usleep(1000);
	return left ? 1 : report(job, demo_now() - begin);
}

int main(int argc, char **argv)
{
	struct job *job = demo_shared(sizeof *job);

	if (argc != 4 && argc != 6) {
		fprintf(stderr,
			"usage: demo_files QUEUE FILE DIR [PRODUCERS CONSUMERS]\n");
		return 64;
	}
	job->queue = argv[1];
	job->dir = argv[3];
	job->producers = argc == 6 ? atoi(argv[4]) : 8;
	job->consumers = argc == 6 ? atoi(argv[5]) : 4;
	if (job->producers < 1 || job->producers > DEMO_MAX_PROCS || job->consumers < 1 ||
	    job->consumers > DEMO_MAX_PROCS)
		return demo_fail("1 to 64 producers and consumers", -EINVAL);
	map_file(job, argv[2]);
	learn_shape(job);
	return run(job);
}
