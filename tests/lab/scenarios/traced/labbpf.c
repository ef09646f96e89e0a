/*
 * Loads BPF programs of several kinds, says of each how that went, and sleeps so that they stay.
 *
 * Needs no C library and no headers, so that a bare cross compiler builds it for every guest. Numbers and layouts are
 * those of the kernel's user interface (include/uapi/linux/bpf.h, btf.h and each architecture's table of calls).
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#if defined(__x86_64__)
enum { SYS_read = 0, SYS_write = 1, SYS_openat = 257, SYS_ppoll = 271, SYS_bpf = 321 };
static long call(long number, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return number;
}
#elif defined(__i386__)
enum { SYS_read = 3, SYS_write = 4, SYS_openat = 295, SYS_ppoll = 309, SYS_bpf = 357 };
static long call(long number, long a, long b, long c, long d)
{
	__asm__ volatile("int $0x80" : "+a"(number) : "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
	return number;
}
#elif defined(__aarch64__)
enum { SYS_read = 63, SYS_write = 64, SYS_openat = 56, SYS_ppoll = 73, SYS_bpf = 280 };
static long call(long number, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c, x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}
#elif defined(__s390x__)
enum { SYS_read = 3, SYS_write = 4, SYS_openat = 288, SYS_ppoll = 302, SYS_bpf = 351 };
static long call(long number, long a, long b, long c, long d)
{
	register long r1 __asm__("1") = number, r2 __asm__("2") = a, r3 __asm__("3") = b;
	register long r4 __asm__("4") = c, r5 __asm__("5") = d;
	__asm__ volatile("svc 0" : "+d"(r2) : "d"(r1), "d"(r3), "d"(r4), "d"(r5) : "memory");
	return r2;
}
#endif

enum { PROG_LOAD = 5, RAW_TRACEPOINT_OPEN = 17, LINK_CREATE = 28 };
enum { SOCKET_FILTER = 1, KPROBE = 2, TRACEPOINT = 5, XDP = 6, TRACING = 26 };
enum { TRACE_FENTRY = 24, ATTACH_XDP = 37, XDP_SKB_MODE = 2, LOOPBACK = 1 };
enum { CALL = 0x85, EXIT = 0x95, MOVE = 0xb7 };

struct instruction {
	u8 code;
	u8 destination : 4, source : 4;
	short offset;
	int value;
};

static const struct instruction plain[] = { { MOVE, 0, 0, 0, 1 }, { EXIT, 0, 0, 0, 0 } };
static const struct instruction zero[] = { { MOVE, 0, 0, 0, 0 }, { EXIT, 0, 0, 0, 0 } };
static const struct instruction calling[] = { /* a function of its own, which is compiled apart */
	{ CALL, 0, 1, 0, 1 }, { EXIT, 0, 0, 0, 0 }, { MOVE, 0, 0, 0, 2 }, { EXIT, 0, 0, 0, 0 },
};

static union {
	struct {
		u32 type, count;
		u64 instructions, license;
		u32 log_level, log_size;
		u64 log;
		u32 version, flags;
		char name[16];
		u32 device, attach_type, types, function_size;
		u64 functions;
		u32 function_count, line_size;
		u64 lines;
		u32 line_count, attach_id;
	} load;
	struct {
		u32 program, target, attach_type, flags;
	} link;
	struct {
		u64 name;
		u32 program;
	} tracepoint;
	u8 bytes[128];
} attributes;

static void clear(void)
{
	for (u32 i = 0; i < sizeof(attributes); i++)
		attributes.bytes[i] = 0;
}

static u64 pointer(const void *to)
{
	return (unsigned long)to;
}

static void say(const char *text)
{
	u32 length = 0;
	while (text[length])
		length++;
	call(SYS_write, 1, (long)text, length, 0);
}

/* One line: the name, a tab, and what the kernel returned. */
static void report(const char *name, long result)
{
	char digits[24], *at = digits + sizeof(digits);
	unsigned long rest = result < 0 ? -result : result;

	*--at = 0;
	*--at = '\n';
	do
		*--at = '0' + rest % 10;
	while (rest /= 10);
	if (result < 0)
		*--at = '-';
	*--at = '\t';
	say(name);
	say(at);
}

static long load(u32 type, const char *name, const struct instruction *instructions, u32 count, u32 attach_id)
{
	clear();
	attributes.load.type = type;
	attributes.load.count = count;
	attributes.load.instructions = pointer(instructions);
	attributes.load.license = pointer("GPL");
	for (u32 i = 0; name[i]; i++)
		attributes.load.name[i] = name[i];
	if (attach_id) {
		attributes.load.attach_type = TRACE_FENTRY;
		attributes.load.attach_id = attach_id;
	}
	long result = call(SYS_bpf, PROG_LOAD, (long)&attributes, sizeof(attributes.load), 0);
	report(name, result);
	return result;
}

static u32 types[8 << 20];

static int same(const char *one, const char *other)
{
	while (*one && *one == *other)
		one++, other++;
	return *one == *other;
}

/* The number of a function in the kernel's own types (BTF), 0 if there is none. */
static u32 function_id(const char *wanted)
{
	static const u8 fixed[32] = { [1] = 1, [3] = 3, [14] = 1, [17] = 1 };
	static const u8 each[32] = { [4] = 3, [5] = 3, [6] = 2, [13] = 2, [15] = 3, [19] = 3 };
	long file = call(SYS_openat, -100, (long)"/sys/kernel/btf/vmlinux", 0, 0), size = 0, got;

	if (file < 0)
		return 0;
	while ((got = call(SYS_read, file, (long)types + size, sizeof(types) - size, 0)) > 0)
		size += got;
	if (size < 24)
		return 0;
	const u32 *at = types + (types[1] + types[2]) / 4, *end = at + types[3] / 4;
	const char *names = (const char *)types + types[1] + types[4];
	for (u32 id = 1; at < end; id++) {
		u32 kind = at[1] >> 24 & 31;
		if (kind == 12 && same(names + at[0], wanted))
			return id;
		at += 3 + fixed[kind] + each[kind] * (at[1] & 0xffff);
	}
	return 0;
}

void _start(void)
{
	u32 id = function_id("bpf_fentry_test1");
	long program;

	load(SOCKET_FILTER, "lab_filter", plain, 2, 0);
	load(SOCKET_FILTER, "lab_calling", calling, 4, 0);
	load(KPROBE, "lab_kprobe", zero, 2, 0);
	load(TRACEPOINT, "lab_tracepoint", zero, 2, 0);

	program = load(XDP, "lab_xdp", calling, 4, 0); /* attached, it gets a dispatcher */
	clear();
	attributes.link.program = program;
	attributes.link.target = LOOPBACK;
	attributes.link.attach_type = ATTACH_XDP;
	attributes.link.flags = XDP_SKB_MODE;
	report("link of lab_xdp", call(SYS_bpf, LINK_CREATE, (long)&attributes, sizeof(attributes.link), 0));

	report("bpf_fentry_test1", id);
	if (id) { /* attached, it gets a trampoline */
		program = load(TRACING, "lab_fentry", zero, 2, id);
		clear();
		attributes.tracepoint.program = program;
		report("link of lab_fentry",
		       call(SYS_bpf, RAW_TRACEPOINT_OPEN, (long)&attributes, sizeof(attributes.tracepoint), 0));
	}
	say("done\n");
	for (;;)
		call(SYS_ppoll, 0, 0, 0, 0);
}
