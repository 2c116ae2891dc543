/* SPDX-License-Identifier: MIT */
/*
 * test_symbols.c - the shared library given as argument exports the functions of
 * <shmq.h>, or those that are given too, and nothing else.
 */
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static char *const shmq_api[] = {
	"shmq_config_init", "shmq_region_size", "shmq_create", "shmq_unlink",
	"shmq_dir", "shmq_list", "shmq_open", "shmq_dup", "shmq_close",
	"shmq_push", "shmq_push_n", "shmq_pop", "shmq_pop_n", "shmq_pressure",
	"shmq_reserve", "shmq_commit", "shmq_abort", "shmq_peek", "shmq_release",
	"shmq_requeue", "shmq_pollfd", "shmq_wait_any", "shmq_arm",
	"shmq_recover", "shmq_holds",
	"shmq_refused", "shmq_stat", "shmq_participants", "shmq_strerror",
	"shmq_detail", "shmq_version", "shmq_walk_begin", "shmq_walk_next", "shmq_walk_end",
};

enum { NR_API = sizeof(shmq_api) / sizeof(shmq_api[0]) };

static char *const *api = shmq_api;
static int nr_api = NR_API;

struct result {
	bool found[NR_API];
	unsigned others;
};

static void symbol(struct result *r, const char *name)
{
	for (int i = 0; i < nr_api; i++)
		if (!strcmp(name, api[i])) {
			r->found[i] = true;
			return;
		}
	printf("# exported too: %s\n", name);
	r->others++;
}

static void scan(struct result *r, const char *elf)
{
	const ElfW(Ehdr) *e = (const void *)elf;
	const ElfW(Shdr) *sh = (const void *)(elf + e->e_shoff);

	for (int i = 0; i < e->e_shnum; i++) {
		const ElfW(Sym) *s = (const void *)(elf + sh[i].sh_offset);
		const char *names;

		if (sh[i].sh_type != SHT_DYNSYM)
			continue;
		names = elf + sh[sh[i].sh_link].sh_offset;
		for (size_t k = 0; k < sh[i].sh_size / sizeof(*s); k++)
			/* Not what it imports, nor the names of versions. */
			if (s[k].st_shndx != SHN_UNDEF &&
			    s[k].st_shndx != SHN_ABS &&
			    (s[k].st_info >> 4) != STB_LOCAL)
				symbol(r, names + s[k].st_name);
	}
}

int main(int argc, char **argv)
{
	struct result r = { 0 };
	struct stat st;
	int missing = 0, fd = argc > 1 ? open(argv[1], O_RDONLY) : -1;
	char *elf;

	if (argc > 2 && argc - 2 <= NR_API) {
		api = argv + 2;
		nr_api = argc - 2;
	}
	if (fd < 0 || fstat(fd, &st))
		return 1;
	elf = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (elf == MAP_FAILED || memcmp(elf, ELFMAG, SELFMAG))
		return 1;
	scan(&r, elf);
	for (int i = 0; i < nr_api; i++)
		if (!r.found[i]) {
			printf("# not exported: %s\n", api[i]);
			missing++;
		}
	printf("1..2\n%s 1 - every function of the header is exported\n",
	       missing ? "not ok" : "ok");
	printf("%s 2 - nothing else is\n", r.others ? "not ok" : "ok");
	return missing || r.others;
}
