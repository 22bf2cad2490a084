// SPDX-License-Identifier: GPL-2.0-only
/*
 * All programs in one: it is the one whose name is argv[0], as its caller or a
 * link gives it.
 *
 * The Makefile renames main() of klp_NAME.c to NAME_main(), and lists the names
 * in programs.h.
 *
 * checkpatch: ignore TRAILING_SEMICOLON: the macro makes a declaration of each
 * name in the list
 */

#include <stdio.h>
#include <string.h>

#include "lib_common.h"

#define PROGRAM(name)	int name##_main(int argc, char **argv);
#include "programs.h"
#undef PROGRAM

#define PROGRAM(name)	{ "klp-" #name, name##_main },
static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
} programs[] = {
#include "programs.h"
};

#define USAGE_EXIT	2

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int main(int argc, char **argv)
{
	const char *name = argc > 0 ? last_part(argv[0]) : "";

	for (size_t i = 0; i < ARRAY_SIZE(programs); i++)
		if (!strcmp(programs[i].name, name))
			return programs[i].main(argc, argv);
	fprintf(stderr, "klp-programs: started as %s, and has no program of that name\n", name);
	return USAGE_EXIT;
}
