// SPDX-License-Identifier: GPL-2.0
/* Uses what labgood exports. */
#include <linux/module.h>

int lab_for_all(int value);
int lab_for_gpl(int value);
int lab_for_some(int value);

static int __init labuser_init(void)
{
	pr_info("labuser: %d\n", lab_for_all(1) + lab_for_gpl(2) + lab_for_some(3));
	return 0;
}

static void __exit labuser_exit(void)
{
}

module_init(labuser_init);
module_exit(labuser_exit);
MODULE_IMPORT_NS(LAB);
MODULE_LICENSE("GPL");
