// SPDX-License-Identifier: GPL-2.0-only
/* Runs the functions of statements.c with the mutant on that is named. */
#include "statements.c"
#include <stdlib.h>

#ifndef ORIGINAL
unsigned int klp_mutant;
unsigned char klp_mutants_seen[1024];
#endif

int main(int argc, char **argv)
{
	int a, b;

#ifndef ORIGINAL
	klp_mutant = strtoul(argv[1], NULL, 10);
#endif
	for (a = -1; a < 6; a++) {
		printf("%d: %d\n", a, start(a));
		for (b = -1; b < 5; b++)
			printf("%d %d\n", both(a, b), either(a, b));
		end(a - 1);
	}
#ifndef ORIGINAL
	if (argc > 2)
		for (a = 0; a < 1024; a++)
			fprintf(stderr, "%d", klp_mutants_seen[a]);
#endif
	return 0;
}
