// SPDX-License-Identifier: GPL-2.0
/* Exports a symbol that labgood has exported. */
#include <linux/module.h>

int lab_for_all(int value)
{
	return value;
}
EXPORT_SYMBOL(lab_for_all);

static int __init labtwice_init(void)
{
	return 0;
}

module_init(labtwice_init);
MODULE_LICENSE("GPL");
