// SPDX-License-Identifier: GPL-2.0
/* Takes itself off the list of modules and out of /sys/module, as those do that do not want to be seen. */
#include <linux/kobject.h>
#include <linux/list.h>
#include <linux/module.h>

int labhidden_calls;

noinline int labhidden_function(int value)
{
	return value + ++labhidden_calls;
}

static int __init labhidden_init(void)
{
	labhidden_function(1);
	list_del(&THIS_MODULE->list);
	kobject_del(&THIS_MODULE->mkobj.kobj);
	return 0;
}

module_init(labhidden_init);
MODULE_LICENSE("GPL");
