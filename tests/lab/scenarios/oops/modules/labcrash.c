// SPDX-License-Identifier: GPL-2.0
/*
 * Goes wrong when told to: a word written to /proc/labcrash chooses how. The writer is killed by the oops; the kernel
 * goes on.
 */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/sched/debug.h>
#include <linux/string.h>
#include <linux/uaccess.h>

static int *volatile nowhere;

static noinline void labcrash_deep(const char *what)
{
	if (strstarts(what, "null"))
		*nowhere = 1;
	else if (strstarts(what, "bug"))
		BUG();
	else if (strstarts(what, "warn"))
		WARN(1, "labcrash: as told\n");
	else
		dump_stack();
}

static noinline void labcrash_call(const char *what)
{
	labcrash_deep(what);
	barrier();
}

static ssize_t labcrash_write(struct file *file, const char __user *text, size_t count, loff_t *at)
{
	char what[16] = "";

	if (copy_from_user(what, text, min(count, sizeof(what) - 1)))
		return -EFAULT;
	labcrash_call(what);
	return count;
}

static const struct proc_ops operations = { .proc_write = labcrash_write };

static int __init labcrash_init(void)
{
	return proc_create("labcrash", 0200, NULL, &operations) ? 0 : -ENOMEM;
}

module_init(labcrash_init);
MODULE_DESCRIPTION("oopses of the lab");
MODULE_LICENSE("GPL");
