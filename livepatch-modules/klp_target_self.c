// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_self - a function from which a livepatch is enabled and disabled.
 *
 * klp_self() makes a call, and then sleeps in gate 5. A task that loads a
 * livepatch of klp_self(), or writes to the attribute "enabled" of one, in that
 * call has the function on its own stack. Write to /proc/klp_self:
 *
 *	inside NAME VALUE	writes VALUE to /sys/kernel/livepatch/NAME/enabled
 *				inside klp_self()
 *	beside NAME VALUE	the same, with no such function on the stack
 *
 * The log has "write: patch state N", the state of the writer after its write.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "klp_compat.h"
#include "klp_gate.h"
#include "klp_self.h"

#define KLP_SELF_LINE	128

struct klp_self_write {
	char name[MODULE_NAME_LEN];
	char value[2];
};

/* barrier(): the sleep must not be a tail call. */
__klp_noipa int klp_self(int (*call)(void *data), void *data)
{
	int ret;

	ret = call(data);
	klp_gate_sleep(KLP_SELF_GATE);
	barrier();
	return ret;
}
EXPORT_SYMBOL_GPL(klp_self);

static int klp_self_write_enabled(void *data)
{
	struct klp_self_write *wanted = data;
	char path[KLP_SELF_LINE];
	struct file *file;
	loff_t pos = 0;
	ssize_t written;

	snprintf(path, sizeof(path), "/sys/kernel/livepatch/%s/enabled", wanted->name);
	file = filp_open(path, O_WRONLY, 0);
	if (IS_ERR(file))
		return PTR_ERR(file);
	written = kernel_write(file, wanted->value, strlen(wanted->value), &pos);
	pr_info("write: patch state %d\n", current->patch_state);
	filp_close(file, NULL);
	return written < 0 ? written : 0;
}

static ssize_t klp_self_proc_write(struct file *file, const char __user *buf, size_t count,
				   loff_t *pos)
{
	struct klp_self_write wanted;
	char line[KLP_SELF_LINE], where[sizeof("inside")];
	int ret;

	if (count >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, buf, count))
		return -EFAULT;
	line[count] = '\0';
	if (sscanf(line, "%6s %55s %1s", where, wanted.name, wanted.value) != 3)
		return -EINVAL;
	if (!strcmp(where, "inside"))
		ret = klp_self(klp_self_write_enabled, &wanted);
	else
		ret = klp_self_write_enabled(&wanted);
	return ret ?: count;
}

static const struct proc_ops klp_self_proc_ops = {
	.proc_write = klp_self_proc_write,
};

static int __init klp_target_self_init(void)
{
	return proc_create("klp_self", 0200, NULL, &klp_self_proc_ops) ? 0 : -ENOMEM;
}

static void __exit klp_target_self_exit(void)
{
	remove_proc_entry("klp_self", NULL);
}

module_init(klp_target_self_init);
module_exit(klp_target_self_exit);
MODULE_DESCRIPTION("Livepatch test target: a function from which livepatches are enabled");
MODULE_LICENSE("GPL");
