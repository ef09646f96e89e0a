// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's own answers: lines written to /proc/labsprint are an address and an offset, both in hexadecimal, and come
 * back with the symbol there; lines written to /proc/labnames are names, and come back with their addresses.
 */
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#define ROOM (1 << 20)

static char *questions;
static size_t length;
static unsigned long (*lookup_name)(const char *name);

static ssize_t ask(struct file *file, const char __user *text, size_t count, loff_t *at)
{
	if (!*at)
		length = 0;
	if (length + count >= ROOM)
		return -ENOSPC;
	if (copy_from_user(questions + length, text, count))
		return -EFAULT;
	length += count;
	questions[length] = 0;
	*at += count;
	return count;
}

static int answer_addresses(struct seq_file *out, void *unused)
{
	static char symbol[KSYM_SYMBOL_LEN];
	unsigned long long address, offset;
	const char *line;

	for (line = questions; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		if (sscanf(line, "%llx %llx", &address, &offset) != 2)
			continue;
		sprint_symbol(symbol, address + offset);
		seq_printf(out, "%llx\t%s\n", address + offset, symbol);
	}
	return 0;
}

static int answer_names(struct seq_file *out, void *unused)
{
	static char name[KSYM_NAME_LEN];
	const char *line;
	size_t size;

	for (line = questions; line && *line; line += size + (line[size] == '\n')) {
		size = strcspn(line, "\n");
		strscpy(name, line, min(size + 1, sizeof(name)));
		seq_printf(out, "%s\t%lx\n", name, lookup_name(name));
		cond_resched();
	}
	return 0;
}

static int open_addresses(struct inode *inode, struct file *file)
{
	return single_open_size(file, answer_addresses, NULL, ROOM);
}

static int open_names(struct inode *inode, struct file *file)
{
	return single_open_size(file, answer_names, NULL, ROOM);
}

static const struct proc_ops addresses = {
	.proc_open = open_addresses, .proc_read = seq_read, .proc_write = ask, .proc_release = single_release,
};
static const struct proc_ops names = {
	.proc_open = open_names, .proc_read = seq_read, .proc_write = ask, .proc_release = single_release,
};

static int __init labsymbols_init(void)
{
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	int error = register_kprobe(&probe);

	if (error)
		return error;
	lookup_name = (void *)probe.addr;
	unregister_kprobe(&probe);
	questions = vzalloc(ROOM);
	if (!questions)
		return -ENOMEM;
	proc_create("labsprint", 0600, NULL, &addresses);
	proc_create("labnames", 0600, NULL, &names);
	return 0;
}

module_init(labsymbols_init);
MODULE_LICENSE("GPL");
