// SPDX-License-Identifier: GPL-2.0
/* Takes itself off the list of modules, but not out of /sys/module. */
#include <linux/list.h>
#include <linux/module.h>

int labunlisted_calls;

noinline int labunlisted_function(int value)
{
	return value + ++labunlisted_calls;
}

static int __init labunlisted_init(void)
{
	labunlisted_function(1);
	list_del(&THIS_MODULE->list);
	return 0;
}

module_init(labunlisted_init);
MODULE_LICENSE("GPL");
