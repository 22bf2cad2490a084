// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two actions, A on CPU 0 and B on CPU 1, which the host starts and holds, and
 * afterwards a look at what there is: `klp-harness race explore`.
 *
 *	klp-duel
 *
 * Prints "klp-duel: ready 0xMAGIC". What is to be done comes through memory that it
 * shares with the host, see duel.h. It does nothing by itself, and never ends.
 *
 * checkpatch: ignore VOLATILE: the host writes to that memory
 */

#include <err.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "duel.h"
#include "duel_epilogue.h"
#include "duel_step.h"
#include "lib_common.h"

#define STACK_SIZE	65536
#define POLL_US		2000
#define ABOVE_HOG	2
#define PATH_ROOM	300
#define MAGIC		0x6b6c702d00000000UL
#define PLACE_SIZE	16

volatile struct duel_words *duel_words;
struct duel_orders *duel_orders;
struct duel_findings *duel_findings;

/* Each place is "nop; ret", the last one "1: pause; jmp 1b". */
static const unsigned char passes[] = { 0x90, 0xc3 };
static const unsigned char spins[] = { 0xf3, 0x90, 0xeb, 0xfc };

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
	for (n = DUEL_A_BEGIN; n < DUEL_SPIN; n++)
		memcpy(places + n * PLACE_SIZE, passes, sizeof(passes));
	memcpy(places + DUEL_SPIN * PLACE_SIZE, spins, sizeof(spins));
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

static void await_arm(int cpu, const char *name)
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
	duel_words->a_ready = 1;
	await(&duel_words->a_go, 1);
	duel_pass(DUEL_A_BEGIN);
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

	await_arm(0, "klp-duel-a");
	step_modules = duel_orders->a_modules;
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

	await_arm(1, "klp-duel-b");
	step_modules = duel_orders->b_modules;
	count = split(duel_orders->b, lines);
	duel_words->b_ready = 1;
	for (n = 0; n < count; n++) {
		await(&duel_words->b_go, n + 1);
		duel_pass(DUEL_B_BEGIN);
		duel_words->b_error[n] = step_do(lines[n]);
		duel_words->b_done = n + 1;
		duel_pass(DUEL_B_END);
	}
	for (;;)
		pause();
}

static int raise_kthread(const char *pid, void *prefixes)
{
	struct sched_param above = { .sched_priority = ABOVE_HOG };
	const char *const *prefix;
	char path[PATH_ROOM], name[PATH_ROOM];

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	if (*pid < '0' || *pid > '9' || step_read(path, name, sizeof(name)))
		return 0;
	for (prefix = prefixes; *prefix; prefix++)
		if (!strncmp(name, *prefix, strlen(*prefix)))
			sched_setscheduler(atoi(pid), SCHED_FIFO, &above);
	return 0;
}

/*
 * While hog is set, this task has CPU 0, and A does not. What the kernel itself does
 * on that CPU still goes on: its threads have a higher priority.
 */
static void be_hog(void)
{
	static const char *const threads[] = { "kworker/0:", "ksoftirqd/0", "rcu", "cpuhp", NULL };
	struct sched_param low = { .sched_priority = 1 };

	await_arm(0, "klp-duel-hog");
	if (duel_words->arm < 2)
		for (;;)
			pause();
	step_write("/proc/sys/kernel/sched_rt_runtime_us", "-1");
	step_each("/proc", raise_kthread, (void *)threads);
	sched_setscheduler(0, SCHED_FIFO, &low);
	for (;;) {
		while (!duel_words->hog)
			duel_nap(POLL_US);
		duel_pass(DUEL_HOG);
		while (duel_words->hog)
			__builtin_ia32_pause();
	}
}

/* e_go is 1 to have it settle first, and 2 when it has settled. */
static void be_observer(void)
{
	prctl(PR_SET_NAME, "klp-duel-e");
	while (!duel_words->e_go) {
		if (duel_words->settle_done < duel_words->settle_go) {
			epilogue_settle();
			duel_words->settle_done++;
			duel_pass(DUEL_E_END);
		}
		duel_nap(POLL_US);
	}
	if (duel_words->e_go == 1)
		epilogue_settle();
	epilogue_describe();
	duel_words->stop = 1;
	epilogue_undo();
	/* All that was logged before has then been printed. */
	step_write("/dev/kmsg", "klp-duel: ended\n");
	duel_words->e_done = 1;
	duel_pass(DUEL_E_END);
	for (;;)
		pause();
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

static void start(void (*be)(void))
{
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (!pid)
		be();
}

int main(int argc, char **argv)
{
	unsigned long magic = MAGIC + ((unsigned long)getpid() << 8);

	if (argc > 1 && !strcmp(argv[1], "executed")) {
		end_executed();
		for (;;)
			pause();
	}
	duel_map(1);
	set_magic(magic);
	mlockall(MCL_CURRENT);
	signal(SIGHUP, SIG_IGN);
	start(be_a);
	start(be_b);
	start(be_hog);
	printf("klp-duel: ready %#lx\n", magic);
	fflush(stdout);
	be_observer();
	return 0;
}
