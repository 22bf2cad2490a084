// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two actions, A on CPU 0 and B on CPU 1, which the host starts and holds, and
 * afterwards a look at what there is: `klp-harness race explore`.
 *
 *	klp-duel [STEP]...
 *
 * Does the steps of duel_prologue.h, and prints "klp-duel: ready 0xMAGIC", or
 * "klp-duel: failed: " and why. What is to be done comes through memory that it
 * shares with the host, see duel.h. When all of that has been undone, the host may have
 * it begin again. It does nothing by itself, and never ends.
 *
 * checkpatch: ignore VOLATILE: the host writes to that memory
 */

#include <err.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "duel.h"
#include "duel_epilogue.h"
#include "duel_hog.h"
#include "duel_prologue.h"
#include "duel_step.h"
#include "lib_common.h"

#define STACK_SIZE	65536
#define POLL_US		2000
#define B_POLL_US	1000
#define RETRY_POLLS	15UL	/* before the first one, twice as many before each other one */
#define PATH_ROOM	300
#define BEFORE_ALL	(-20)	/* a child of B's may spin on the same CPU */
#define REAP_TIMES	400
#define REAP_US		5000
#define MAGIC		0x6b6c702d00000000UL
#define PLACE_SIZE	16

volatile struct duel_words *duel_words;
struct duel_orders *duel_orders;
struct duel_findings *duel_findings;

/* Most places are "nop; ret"; one is "1: pause; jmp 1b", and one waits for a number. */
static const unsigned char passes[] = { 0x90, 0xc3 };
static const unsigned char spins[] = { 0xf3, 0x90, 0xeb, 0xfc };
/* 1: pause; cmp %rsi, (%rdi); jb 1b; ret */
static const unsigned char waits[] = { 0xf3, 0x90, 0x48, 0x39, 0x37, 0x72, 0xf9, 0xc3 };

void duel_map(int fresh)
{
	size_t size = DUEL_PAGES * DUEL_PAGE;
	unsigned char *places;
	int n, fd;

	if (fresh) {
		fd = memfd_create("klp-duel", 0);
		if (fd < 0 || ftruncate(fd, size) || dup2(fd, DUEL_FD) < 0)
			err(1, "memfd_create");
		close(fd);
	}
	duel_words = mmap((void *)DUEL_BASE, size, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, DUEL_FD, 0);
	places = mmap((void *)DUEL_PLACES, DUEL_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (duel_words == MAP_FAILED || places == MAP_FAILED)
		err(1, "mmap");
	duel_orders = (void *)(DUEL_BASE + DUEL_PAGE);
	duel_findings = (void *)(DUEL_BASE + 2 * DUEL_PAGE);
	for (n = 0; n < DUEL_SPIN; n++)
		memcpy(places + n * PLACE_SIZE, passes, sizeof(passes));
	memcpy(places + DUEL_SPIN * PLACE_SIZE, spins, sizeof(spins));
	memcpy(places + DUEL_A_WAIT * PLACE_SIZE, waits, sizeof(waits));
}

void duel_pass(enum duel_place place)
{
	((void (*)(void))(DUEL_PLACES + place * PLACE_SIZE))();
}

void duel_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

void duel_nap(long us)
{
	struct timespec time = timespec_of_us(us);

	nanosleep(&time, NULL);
}

static void await(volatile unsigned long *word, unsigned long least)
{
	while (*word < least)
		__builtin_ia32_pause();
}

static void take_modules(struct duel_module *modules, int most)
{
	step_modules = modules;
	step_modules_most = most;
}

void duel_await_arm(int cpu, const char *name)
{
	duel_pin(cpu);
	prctl(PR_SET_NAME, name);
	while (!duel_words->arm)
		duel_nap(POLL_US);
}

/* Splits orders into lines; returns how many there are. */
static int split(char *orders, char **lines)
{
	int count = 0;
	char *line;

	while ((line = strsep(&orders, "\n")) && count < DUEL_STEPS)
		if (*line)
			lines[count++] = line;
	return count;
}

static void begin_a(void)
{
	void (*wait_for)(volatile unsigned long *word, unsigned long least);

	wait_for = (void *)(DUEL_PLACES + DUEL_A_WAIT * PLACE_SIZE);
	duel_words->a_ready = 1;
	wait_for(&duel_words->a_go, 1);
}

static int leave_thread(void *unused)
{
	prctl(PR_SET_NAME, "klp-duel-a");
	begin_a();
	syscall(SYS_exit, 0);
	return !!unused;
}

/* A task for which nobody waits ends: a thread, or with "leader" a process. */
static void leave(bool is_leader)
{
	int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
	char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	int tid;

	signal(SIGCHLD, SIG_IGN);
	tid = clone(leave_thread, stack + STACK_SIZE, is_leader ? SIGCHLD : flags, NULL);
	if (tid < 0)
		err(1, "clone");
	/* It has left when nobody can be signalled, and this CPU is free again. */
	while (is_leader ? !kill(tid, 0) : !tgkill(getpid(), tid, 0))
		duel_nap(POLL_US);
	duel_words->a_done = 1;
	duel_pass(DUEL_A_END);
}

static void execute(void)
{
	char *const again[] = { "klp-duel", "executed", NULL };

	begin_a();
	execv("/proc/self/exe", again);
	duel_words->a_error[0] = errno;
}

/* Stays in user mode, where it switches by its own mark only. */
static void end_executed(void)
{
	duel_map(0);
	duel_words->a_done = 1;
	duel_pass(DUEL_A_END);
	while (!duel_words->stop)
		__builtin_ia32_pause();
}

static void do_steps_a(char **lines, int count)
{
	int n;

	for (n = 0; n < count; n++) {
		if (!n)
			begin_a();
		await(&duel_words->a_go, n + 1);
		duel_words->a_error[n] = step_do(lines[n]);
		duel_words->a_done = n + 1;
		duel_pass(DUEL_A_END);
	}
}

static void be_a(void)
{
	char *lines[DUEL_STEPS];
	int count;

	duel_await_arm(0, "klp-duel-a");
	take_modules(duel_orders->a_modules, DUEL_MODULES);
	count = split(duel_orders->a, lines);
	if (count && (!strcmp(lines[0], "leave") || !strcmp(lines[0], "leave leader")))
		leave(strcmp(lines[0], "leave"));
	else if (count && !strcmp(lines[0], "execute"))
		execute();
	else
		do_steps_a(lines, count);
	for (;;)
		pause();
}

static void be_b(void)
{
	char *lines[DUEL_STEPS];
	int count, n;

	duel_await_arm(1, "klp-duel-b");
	take_modules(duel_orders->b_modules, DUEL_MODULES);
	count = split(duel_orders->b, lines);
	duel_words->b_ready = 1;
	/* Asleep, so that a transition of A's does not wait for B until the next tick. */
	while (!duel_words->b_go)
		duel_nap(B_POLL_US);
	for (n = 0; n < count; n++) {
		await(&duel_words->b_go, n + 1);
		duel_pass(DUEL_B_BEGIN);
		duel_words->b_error[n] = step_do(lines[n]);
		duel_words->b_done = n + 1;
	}
	for (;;)
		pause();
}

static pid_t started[3];

static pid_t start(void (*be)(void))
{
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (!pid)
		be();
	return pid;
}

/*
 * Prepares a round, up to where A and B wait for the host. Until they have ended, this task
 * stays on CPU 1, out of A's way.
 */
static void begin(char **steps)
{
	memset((void *)duel_words, 0, offsetof(struct duel_words, rounds));
	memset(duel_orders, 0, offsetof(struct duel_orders, room));
	memset(duel_findings, 0, offsetof(struct duel_findings, magic));
	take_modules(duel_orders->earlier, DUEL_EARLIER);
	if (prologue_do(steps))
		return;
	started[0] = start(be_a);
	started[1] = start(be_b);
	started[2] = start(hog_be);
}

/* Ends A, B, and all that they have started. */
static void end_tasks(void)
{
	unsigned int times, n;
	pid_t pid;

	for (n = 0; n < ARRAY_SIZE(started); n++)
		kill(started[n], SIGKILL);
	for (times = 0; times < REAP_TIMES; times++) {
		do {
			pid = waitpid(-1, NULL, WNOHANG);
		} while (pid > 0);
		if (pid < 0)
			return;
		duel_nap(REAP_US);
	}
	epilogue_complain("a task does not end");
}

/*
 * A child that spins is switched while something else runs on its CPU, and that would hide
 * that it has a wrong state.
 */
static void settle(void)
{
	duel_pin(!duel_words->child_cpu);
	epilogue_settle(true);
}

/* e_go is 1 to have it settle first, and 2 when it has settled. */
static void observe(unsigned long round)
{
	unsigned long retried = 0, polls = 0;
	char text[PATH_ROOM];

	prctl(PR_SET_NAME, "klp-duel-e");
	setpriority(PRIO_PROCESS, 0, BEFORE_ALL);
	while (!duel_words->e_go) {
		if (retried < duel_words->retry_go && ++polls >= RETRY_POLLS << retried) {
			step_retry_now(MOST_RETRIES);
			retried++;
			polls = 0;
		}
		if (duel_words->settle_done < duel_words->settle_go) {
			settle();
			duel_words->settle_done++;
			duel_pass(DUEL_E_END);
		}
		duel_nap(POLL_US);
	}
	if (duel_words->e_go == 1)
		settle();
	epilogue_describe();
	duel_words->stop = 1;
	epilogue_undo();
	end_tasks();
	/* All that was logged before has then been printed. */
	snprintf(text, sizeof(text), "klp-duel: round %lu has ended\n", round);
	step_write("/dev/kmsg", text);
	duel_words->e_done = 1;
	duel_pass(DUEL_E_END);
	while (duel_words->again <= round)
		duel_nap(POLL_US);
	setpriority(PRIO_PROCESS, 0, 0);
}

static void set_magic(unsigned long magic)
{
	int n;

	for (n = 0; n < DUEL_PAGES; n++) {
		unsigned long *end = (unsigned long *)(DUEL_BASE + (n + 1) * DUEL_PAGE) - 2;

		end[0] = magic + n;
		end[1] = ~(magic + n);
	}
}

int main(int argc, char **argv)
{
	unsigned long magic = MAGIC + ((unsigned long)getpid() << 8), round;

	if (argc > 1 && !strcmp(argv[1], "executed")) {
		end_executed();
		for (;;)
			pause();
	}
	duel_map(1);
	set_magic(magic);
	mlockall(MCL_CURRENT);
	signal(SIGHUP, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (round = 1;; round++) {
		begin(argv + 1);
		if (duel_words->bad)
			printf("klp-duel: failed: %s\n", duel_findings->problems);
		else if (round == 1)
			printf("klp-duel: ready %#lx\n", magic);
		fflush(stdout);
		duel_words->rounds = round;
		duel_pass(DUEL_E_END);
		observe(round);
	}
}
