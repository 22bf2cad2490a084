/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The memory that klp-duel shares with the host, which reads and writes it by its
 * physical address (harness/tools/race/explore/duel.py has the same offsets), and
 * the places in user mode at which the host stops it.
 *
 * checkpatch: ignore VOLATILE: the host writes to that memory
 */

#ifndef DUEL_H
#define DUEL_H

#define DUEL_PAGE	4096
#define DUEL_PAGES	3
#define DUEL_STEPS	8	/* the most that A, or B, can do */
#define DUEL_STATES	4	/* how often a child reads its patch state */
#define DUEL_MODULES	4	/* of how many that A, or B, loads it is said where they are */
#define DUEL_EARLIER	7	/* and of how many that are loaded before */
#define DUEL_BASE	0x6b6c70000000UL	/* at an address that no other program has */
#define DUEL_PLACES	0x6b6c70010000UL
#define DUEL_RETRY	"klp_retry"	/* a module that stays */
#define DUEL_FD		100	/* of the pages, for a program that is executed */

/* Each page ends with the magic, its number added, and the complement of that. */
struct duel_words {
	unsigned long arm;		/* 0: the host: get ready; 2: the hog too */
	unsigned long a_ready, b_ready;	/* 8, 16 */
	unsigned long a_go, b_go;	/* 24, 32: the host: so many steps may begin */
	unsigned long a_done, b_done;		/* 40, 48: how many have ended */
	unsigned long e_go, e_done;		/* 56, 64 */
	unsigned long stop;			/* 72: children that spin end */
	unsigned long bad;		/* 80: how many things were wrong */
	long child[DUEL_STATES];	/* 88: the patch states that a child has read */
	unsigned long a_error[DUEL_STEPS];	/* 120: an errno for each step */
	unsigned long b_error[DUEL_STEPS];	/* 184 */
	unsigned long hog;			/* 248: the host: keep CPU 0 from A */
	unsigned long settle_go, settle_done;	/* 256, 264: wait so many times until it settles */
	unsigned long retry_go, retries;	/* 272, 280: the host: retry so often; it was */
	unsigned long child_cpu;	/* 288: on which a child spins, if there is one */
	unsigned long held;		/* 296: the host: a CPU is held */
	/* What is above begins at 0 with each round. */
	unsigned long rounds, again;	/* 304, 312: how many have begun; the host: begin so many */
	char room[DUEL_PAGE - 320 - 16];
	unsigned long magic[2];
};

/* A module that was loaded here, and where its sections are. */
struct duel_module {
	char name[48];
	unsigned long text, data;
};

/* What to do, in lines; and the modules that this has loaded, and those from before it. */
struct duel_orders {
	char a[1024], b[1024], after[1024];
	struct duel_module a_modules[DUEL_MODULES], b_modules[DUEL_MODULES];
	struct duel_module earlier[DUEL_EARLIER];
	char room[DUEL_PAGE - 3 * 1024 - (8 + DUEL_EARLIER) * 64 - 16];
	unsigned long magic[2];
};

struct duel_findings {
	char problems[2040];
	char state[2040];
	unsigned long magic[2];
};

extern volatile struct duel_words *duel_words;
extern struct duel_orders *duel_orders;
extern struct duel_findings *duel_findings;

/* Places at which the host has its breakpoints. */
enum duel_place {
	DUEL_A_END,	/* after each step */
	DUEL_B_BEGIN,
	DUEL_E_END,
	DUEL_HOG,	/* the hog has the CPU */
	DUEL_SPIN,	/* a loop for a CPU that is held in user mode */
	DUEL_A_WAIT,	/* a loop in which A waits for its first step */
};

/* Maps what is shared; @fresh: makes it. */
void duel_map(int fresh);
void duel_pass(enum duel_place place);
void duel_pin(int cpu);
/* Waits on a CPU, under a name, until the host wants this round to begin. */
void duel_await_arm(int cpu, const char *name);
void duel_nap(long us);

#endif /* DUEL_H */
