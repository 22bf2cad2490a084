// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_gate - /dev/klp_gate: holds a task inside a function until it is released.
 *
 * The device has eight gates, all open at first. A task enters gate N by
 * reading at offset N * 4096, or by touching page N of a fresh mapping. While
 * the gate is closed the task sleeps inside the function of that gate:
 *
 *	0, 1, 2	klp_gate_wait()			uninterruptible
 *	3	klp_gate_wait_interruptible()	a signal ends it, the call restarts
 *	4	klp_gate_wait_second()		uninterruptible
 *	5, 6, 7	klp_gate_wait_plain()		uninterruptible; never patch this one
 *
 * The read returns "N original\n", or "N patched\n" when the function returned
 * non-zero, as those of the patches do. A read of several pages enters that many
 * gates in one system call, and returns a line for each. Lines of "close N" and
 * "open N" written to the device set the gates. Opening releases the tasks that
 * wait at that moment, even when the gate is closed again before they run. A
 * write with one invalid line changes nothing.
 *
 * Each gate has one page, which every mapping shows. copy_process() reads and
 * writes user memory at known places: with a page of this device at such a place,
 * a fork sleeps there, on an unmodified kernel. The task holds its mmap_lock
 * meanwhile, so other threads of its address space cannot mmap() or fork().
 *
 * /proc/klp_gate_waiting has a line "N TID" for each task asleep in a gate,
 * /sys/class/misc/klp_gate/open one digit per gate.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/device.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "klp_compat.h"
#include "klp_gate.h"

#define KLP_GATE_ALL	GENMASK(KLP_GATES - 1, 0)

/* A task in a closed gate; lives on that task's stack. */
struct klp_gate_waiter {
	struct list_head list;
	struct task_struct *task;
	unsigned int gate;
	bool released;
};

static DEFINE_SPINLOCK(klp_gate_lock);	/* protects the two below and all waiters */
static unsigned long klp_gate_open = KLP_GATE_ALL;
static LIST_HEAD(klp_gate_waiters);

static wait_queue_head_t klp_gate_queues[KLP_GATES];
static struct page *klp_gate_pages[KLP_GATES];

static bool klp_gate_pass(struct klp_gate_waiter *waiter, unsigned int n)
{
	bool open;

	spin_lock(&klp_gate_lock);
	open = klp_gate_open & BIT(n);
	if (!open) {
		waiter->task = current;
		waiter->gate = n;
		waiter->released = false;
		list_add_tail(&waiter->list, &klp_gate_waiters);
	}
	spin_unlock(&klp_gate_lock);
	return open;
}

static void klp_gate_leave(struct klp_gate_waiter *waiter)
{
	spin_lock(&klp_gate_lock);
	list_del(&waiter->list);
	spin_unlock(&klp_gate_lock);
}

/**
 * klp_gate_sleep - sleep until a gate is open; no signal ends it
 * @n: the gate
 */
noinline void klp_gate_sleep(unsigned int n)
{
	struct klp_gate_waiter waiter;

	if (WARN_ON_ONCE(n >= KLP_GATES) || klp_gate_pass(&waiter, n))
		return;
	wait_event(klp_gate_queues[n], READ_ONCE(waiter.released));
	klp_gate_leave(&waiter);
}
EXPORT_SYMBOL_GPL(klp_gate_sleep);

/**
 * klp_gate_sleep_interruptible - sleep until a gate is open or a signal is pending
 * @n: the gate
 *
 * Return: 0, or -ERESTARTSYS after a signal.
 */
noinline int klp_gate_sleep_interruptible(unsigned int n)
{
	struct klp_gate_waiter waiter;
	int ret;

	if (WARN_ON_ONCE(n >= KLP_GATES) || klp_gate_pass(&waiter, n))
		return 0;
	ret = wait_event_interruptible(klp_gate_queues[n], READ_ONCE(waiter.released));
	klp_gate_leave(&waiter);
	return ret;
}
EXPORT_SYMBOL_GPL(klp_gate_sleep_interruptible);

/*
 * The functions of the gates. barrier() follows the sleep because a tail call
 * would become a jump, and the function would not be on the stack.
 */
static __klp_noipa int klp_gate_wait(unsigned int n)
{
	klp_gate_sleep(n);
	barrier();
	return klp_opaque(0);
}

static __klp_noipa int klp_gate_wait_second(unsigned int n)
{
	klp_gate_sleep(n);
	barrier();
	return klp_opaque(0);
}

static __klp_noipa int klp_gate_wait_plain(unsigned int n)
{
	klp_gate_sleep(n);
	barrier();
	return klp_opaque(0);
}

static __klp_noipa int klp_gate_wait_interruptible(unsigned int n)
{
	int ret;

	ret = klp_gate_sleep_interruptible(n);
	barrier();
	return ret;
}

static int klp_gate_enter(unsigned int n)
{
	switch (n) {
	case 0 ... 2:
		return klp_gate_wait(klp_opaque(n));
	case 3:
		return klp_gate_wait_interruptible(klp_opaque(n));
	case 4:
		return klp_gate_wait_second(klp_opaque(n));
	default:
		return klp_gate_wait_plain(klp_opaque(n));
	}
}

static ssize_t klp_gate_read(struct file *file, char __user *buf, size_t count, loff_t *ppos)
{
	unsigned long long n = *ppos >> PAGE_SHIFT;
	size_t pages = max_t(size_t, count >> PAGE_SHIFT, 1);
	char text[16 * KLP_GATES];
	size_t len = 0;
	int ret;

	if (*ppos < 0 || n >= KLP_GATES)
		return -EINVAL;
	/* A second read by the same reader, after the text: end of file. */
	if (offset_in_page(*ppos))
		return 0;

	for (; pages && n < KLP_GATES; pages--, n++) {
		ret = klp_gate_enter(n);
		if (ret < 0)
			return ret;
		len += scnprintf(text + len, sizeof(text) - len, "%llu %s\n", n,
				 ret ? "patched" : "original");
	}

	count = min_t(size_t, count, len);
	if (copy_to_user(buf, text, count))
		return -EFAULT;
	*ppos += count;
	return count;
}

static int klp_gate_parse(const char *line, unsigned long *opened, unsigned long *closed,
			  unsigned long *released)
{
	size_t skip;
	unsigned int n;
	bool open;
	int ret;

	skip = str_has_prefix(line, "open ");
	open = skip;
	if (!open)
		skip = str_has_prefix(line, "close ");
	if (!skip)
		return -EINVAL;
	ret = kstrtouint(line + skip, 10, &n);
	if (ret)
		return ret;
	if (n >= KLP_GATES)
		return -EINVAL;
	if (open) {
		*opened |= BIT(n);
		*closed &= ~BIT(n);
		*released |= BIT(n);
	} else {
		*opened &= ~BIT(n);
		*closed |= BIT(n);
	}
	return 0;
}

static ssize_t klp_gate_write(struct file *file, const char __user *buf, size_t count, loff_t *ppos)
{
	unsigned long opened = 0, closed = 0, released = 0;
	struct klp_gate_waiter *waiter;
	char *text, *cursor, *line;
	unsigned int n;
	int ret = 0;

	if (!count || count > PAGE_SIZE)
		return -EINVAL;
	text = memdup_user_nul(buf, count);
	if (IS_ERR(text))
		return PTR_ERR(text);

	cursor = text;
	while (!ret && (line = strsep(&cursor, "\n")))
		if (*line)
			ret = klp_gate_parse(line, &opened, &closed, &released);
	kfree(text);
	if (ret)
		return ret;

	spin_lock(&klp_gate_lock);
	klp_gate_open = (klp_gate_open | opened) & ~closed;
	list_for_each_entry(waiter, &klp_gate_waiters, list)
		if (released & BIT(waiter->gate))
			WRITE_ONCE(waiter->released, true);
	spin_unlock(&klp_gate_lock);

	for_each_set_bit(n, &released, KLP_GATES)
		wake_up_all(&klp_gate_queues[n]);
	return count;
}

static vm_fault_t klp_gate_fault(struct vm_fault *vmf)
{
	struct page *page;

	if (vmf->pgoff >= KLP_GATES)
		return VM_FAULT_SIGBUS;
	page = klp_gate_pages[vmf->pgoff];

	/*
	 * After a signal, an access from user mode is repeated once the signal
	 * has been handled. An access by the kernel would fault again at once,
	 * forever, so it fails with EFAULT.
	 */
	if (klp_gate_enter(vmf->pgoff) < 0)
		return vmf->flags & FAULT_FLAG_USER ? VM_FAULT_NOPAGE : VM_FAULT_SIGBUS;

	get_page(page);
	vmf->page = page;
	return 0;
}

static const struct vm_operations_struct klp_gate_vm_ops = {
	.fault = klp_gate_fault,
};

static int klp_gate_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &klp_gate_vm_ops;
	return 0;
}

static const struct file_operations klp_gate_fops = {
	.owner = THIS_MODULE,
	.llseek = default_llseek,
	.read = klp_gate_read,
	.write = klp_gate_write,
	.mmap = klp_gate_mmap,
};

/* Not in sysfs, where a file has one page at most: thousands of tasks may sleep. */
static int klp_gate_waiting_show(struct seq_file *m, void *unused)
{
	struct klp_gate_waiter *waiter;

	spin_lock(&klp_gate_lock);
	list_for_each_entry(waiter, &klp_gate_waiters, list) {
		/* Not asleep yet, or already woken. */
		if (waiter->released || task_is_running(waiter->task))
			continue;
		seq_printf(m, "%u %d\n", waiter->gate, task_pid_nr(waiter->task));
	}
	spin_unlock(&klp_gate_lock);
	return 0;
}

static ssize_t open_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	unsigned long open = READ_ONCE(klp_gate_open);
	unsigned int n;
	int len = 0;

	for (n = 0; n < KLP_GATES; n++)
		len += sysfs_emit_at(buf, len, "%d", !!(open & BIT(n)));
	len += sysfs_emit_at(buf, len, "\n");
	return len;
}
static DEVICE_ATTR_RO(open);

static struct attribute *klp_gate_attrs[] = {
	&dev_attr_open.attr,
	NULL
};
ATTRIBUTE_GROUPS(klp_gate);

static struct miscdevice klp_gate_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "klp_gate",
	.fops = &klp_gate_fops,
	.groups = klp_gate_groups,
	.mode = 0600,
};

static void klp_gate_free_pages(void)
{
	unsigned int n;

	for (n = 0; n < KLP_GATES; n++)
		if (klp_gate_pages[n])
			put_page(klp_gate_pages[n]);
}

static int __init klp_target_gate_init(void)
{
	unsigned int n;
	int ret;

	for (n = 0; n < KLP_GATES; n++) {
		init_waitqueue_head(&klp_gate_queues[n]);
		klp_gate_pages[n] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!klp_gate_pages[n]) {
			ret = -ENOMEM;
			goto err_pages;
		}
	}

	if (!proc_create_single("klp_gate_waiting", 0400, NULL, klp_gate_waiting_show)) {
		ret = -ENOMEM;
		goto err_pages;
	}

	ret = misc_register(&klp_gate_device);
	if (ret)
		goto err_proc;
	return 0;

err_proc:
	remove_proc_entry("klp_gate_waiting", NULL);
err_pages:
	klp_gate_free_pages();
	return ret;
}

/* No task is asleep: a task in a gate has the file open, which pins the module. */
static void __exit klp_target_gate_exit(void)
{
	misc_deregister(&klp_gate_device);
	remove_proc_entry("klp_gate_waiting", NULL);
	klp_gate_free_pages();
}

module_init(klp_target_gate_init);
module_exit(klp_target_gate_exit);
MODULE_DESCRIPTION("Livepatch test target: gates that hold a task inside a function");
MODULE_LICENSE("GPL");
