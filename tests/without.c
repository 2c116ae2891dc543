/* SPDX-License-Identifier: MIT */
/*
 * without.c - run a command for which the kernel refuses some system calls, as old
 * kernels and the profiles of containers do.
 *
 *   without [-e ERRNO] CALL[,CALL]... COMMAND [ARG]...
 *
 * CALL is futex_waitv, io_uring, inotify or membarrier; ERRNO is ENOSYS (the default) or
 * EPERM. Exits as the command does; where filters are not permitted it is a skipped test.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "the number of this architecture is missing"
#endif

static const struct {
	const char *name;
	uint32_t nr[3];
} calls[] = {
	{ "futex_waitv", { 449, 449, 449 } },
	{ "io_uring", { 425, 426, 427 } },
	{ "inotify", { SYS_inotify_init1, SYS_inotify_add_watch, SYS_inotify_rm_watch } },
	{ "membarrier", { SYS_membarrier, SYS_membarrier, SYS_membarrier } },
};

enum { NR_CALLS = sizeof(calls) / sizeof(calls[0]) };

static struct sock_filter program[4 + 6 * NR_CALLS + 1];
static unsigned short nr_steps;

static void step(uint16_t code, uint8_t yes, uint8_t no, uint32_t k)
{
	program[nr_steps++] = (struct sock_filter)BPF_JUMP(code, k, yes, no);
}

static int refuse(char *list, int err)
{
	step(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, arch));
	step(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, ARCH);
	step(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
	step(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
	for (char *name = strtok(list, ","); name; name = strtok(NULL, ",")) {
		int i = 0;

		while (i < NR_CALLS && strcmp(calls[i].name, name))
			i++;
		if (i == NR_CALLS || nr_steps + 7u > sizeof(program) / sizeof(program[0])) {
			fprintf(stderr, "without: %s: no such call\n", name);
			return 64;
		}
		for (int k = 0; k < 3; k++) {
			step(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, calls[i].nr[k]);
			step(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | (uint32_t)err);
		}
	}
	step(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
	return 0;
}

int main(int argc, char **argv)
{
	struct sock_fprog filter = { .filter = program };
	int err = ENOSYS, status;

	argv++;
	if (argc > 3 && !strcmp(*argv, "-e")) {
		err = strcmp(argv[1], "EPERM") ? ENOSYS : EPERM;
		argv += 2;
		argc -= 2;
	}
	if (argc < 3) {
		fprintf(stderr, "usage: without [-e ERRNO] CALL[,CALL]... COMMAND [ARG]...\n");
		return 64;
	}
	status = refuse(argv[0], err);
	if (status)
		return status;
	filter.len = nr_steps;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) {
		printf("1..0 # SKIP filters of system calls are not permitted\n");
		return 0;
	}
	execvp(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
