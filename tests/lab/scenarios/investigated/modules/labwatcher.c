// SPDX-License-Identifier: GPL-2.0
/* Watches the kernel in the open: by a hook of ftrace, one of netfilter, and a thread. */
#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/version.h>
#include <net/net_namespace.h>

/* commit d19ad0775dcd: the registers of a callback are ftrace_regs since 5.11 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
#define ftrace_regs pt_regs
#endif

static unsigned long labwatcher_seen;

static void notrace labwatcher_traced(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				      struct ftrace_regs *regs)
{
	labwatcher_seen++;
}

static struct ftrace_ops labwatcher_ops = { .func = labwatcher_traced };

static unsigned int labwatcher_packet(void *unused, struct sk_buff *packet, const struct nf_hook_state *state)
{
	labwatcher_seen++;
	return NF_ACCEPT;
}

static const struct nf_hook_ops labwatcher_hook = {
	.hook = labwatcher_packet, .pf = NFPROTO_IPV4, .hooknum = NF_INET_LOCAL_IN, .priority = -4242,
};

static int labwatcher_thread(void *unused)
{
	while (!kthread_should_stop())
		msleep_interruptible(1000);
	return 0;
}

static int __init labwatcher_init(void)
{
	struct task_struct *thread = kthread_run(labwatcher_thread, NULL, "labwatcher");
	int error = ftrace_set_filter(&labwatcher_ops, "vfs_rmdir", strlen("vfs_rmdir"), 0);

	error = error ?: register_ftrace_function(&labwatcher_ops);
	error = error ?: nf_register_net_hook(&init_net, &labwatcher_hook);
	pr_info("LAB-FACT labwatcher.thread %px\n", labwatcher_thread);
	return IS_ERR(thread) ? PTR_ERR(thread) : error;
}

module_init(labwatcher_init);
MODULE_LICENSE("GPL");
