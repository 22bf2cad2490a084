// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_console - a console that looks at the locks of a task (no livepatch).
 *
 * klp_try_switch_task() (kernel/livepatch/transition.c) logs with pr_debug() why a
 * task could not be switched. While a console prints such a line, the lock pi_lock
 * of that task, which is held while its stack is checked, must be free: printk()
 * may wake a task, and waits for consoles. A lock that somebody else holds for a
 * moment does not count.
 *
 * Parameters, to be read:
 *	lines	how many of these lines were printed
 *	locked	during how many of them the lock stayed taken
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/console.h>
#include <linux/ctype.h>
#include <linux/delay.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#define KLP_CONSOLE_POLLS	1000
#define KLP_CONSOLE_POLL_US	10

static unsigned int lines;
module_param(lines, uint, 0444);
MODULE_PARM_DESC(lines, "Lines of klp_try_switch_task() that were printed");

static unsigned int locked;
module_param(locked, uint, 0444);
MODULE_PARM_DESC(locked, "Lines during which the lock of their task was taken");

static const char *const klp_console_reasons[] = {
	" is running", " has an unreliable stack", " is sleeping on function ",
};

/* Returns the thread id in "livepatch: FUNCTION: COMM:TID REASON", or 0. */
static int klp_console_tid(const char *text)
{
	const char *end = NULL;
	unsigned int i;
	int tid = 0, unit = 1;

	if (!strstr(text, "livepatch: klp_"))
		return 0;
	for (i = 0; !end && i < ARRAY_SIZE(klp_console_reasons); i++)
		end = strstr(text, klp_console_reasons[i]);
	if (!end)
		return 0;
	for (; end > text && isdigit(end[-1]); end--, unit *= 10)
		tid += unit * (end[-1] - '0');
	return tid;
}

static bool klp_console_locked(int tid)
{
	struct task_struct *task;
	bool held = false;
	unsigned int i;

	rcu_read_lock();
	task = pid_task(find_vpid(tid), PIDTYPE_PID);
	for (i = 0; task && i < KLP_CONSOLE_POLLS; i++) {
		held = raw_spin_is_locked(&task->pi_lock);
		if (!held)
			break;
		udelay(KLP_CONSOLE_POLL_US);
	}
	rcu_read_unlock();
	return held;
}

static void klp_console_write(struct console *console, const char *text, unsigned int len)
{
	char line[256];
	int tid;

	len = min_t(unsigned int, len, sizeof(line) - 1);
	memcpy(line, text, len);
	line[len] = '\0';
	tid = klp_console_tid(line);
	if (!tid)
		return;
	if (klp_console_locked(tid))
		locked++;
	lines++;
}

static struct console klp_console = {
	.name = "klp",
	.write = klp_console_write,
	.flags = CON_ENABLED,
	.index = -1,
};

static int __init klp_test_console_init(void)
{
	register_console(&klp_console);
	return 0;
}

static void __exit klp_test_console_exit(void)
{
	unregister_console(&klp_console);
}

module_init(klp_test_console_init);
module_exit(klp_test_console_exit);
MODULE_DESCRIPTION("Livepatch test: a console that looks at the locks of a task");
MODULE_LICENSE("GPL");
