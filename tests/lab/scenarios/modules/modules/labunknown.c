// SPDX-License-Identifier: GPL-2.0
/* Needs a symbol that nobody has. */
#include <linux/module.h>

int lab_of_nobody(int value);

static int __init labunknown_init(void)
{
	return lab_of_nobody(1);
}

module_init(labunknown_init);
MODULE_LICENSE("GPL");
