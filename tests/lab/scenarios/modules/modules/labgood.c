// SPDX-License-Identifier: GPL-2.0
/* A module that is as it should be: with parameters, and symbols for others. */
#include <linux/module.h>

static int number = 7;
module_param(number, int, 0444);
static char *text = "lab";
module_param(text, charp, 0444);

int lab_for_all(int value)
{
	return value + number;
}
EXPORT_SYMBOL(lab_for_all);

int lab_for_gpl(int value)
{
	return value - number;
}
EXPORT_SYMBOL_GPL(lab_for_gpl);

int lab_for_some(int value)
{
	return value ^ number;
}
EXPORT_SYMBOL_NS_GPL(lab_for_some, LAB);

static int __init labgood_init(void)
{
	pr_info("labgood: %s\n", text);
	return 0;
}

static void __exit labgood_exit(void)
{
}

module_init(labgood_init);
module_exit(labgood_exit);
MODULE_VERSION("1.2");
MODULE_DESCRIPTION("a module of the lab");
MODULE_LICENSE("GPL");
