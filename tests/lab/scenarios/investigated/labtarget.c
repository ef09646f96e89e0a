/*
 * Opens sockets of several families, has code in writable memory, and traces a child of its own.
 *
 * Needs no C library and no headers. Numbers and layouts are those of the kernel's user interface of x86-64
 * (arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/linux: in.h, in6.h, un.h, netlink.h, ptrace.h, mman.h).
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

enum {
	SYS_write = 1, SYS_mmap = 9, SYS_socket = 41, SYS_connect = 42, SYS_bind = 49, SYS_listen = 50,
	SYS_socketpair = 53, SYS_fork = 57, SYS_ptrace = 101, SYS_ppoll = 271,
};
enum { UNIX = 1, INET = 2, INET6 = 10, NETLINK = 16, PACKET = 17 };
enum { STREAM = 1, DGRAM = 2, RAW = 3, ICMP = 1, ETH_P_ARP = 0x0608 /* big-endian */ };
enum { READ_WRITE_EXECUTE = 7, READ_EXECUTE = 5, PRIVATE_ANONYMOUS = 0x22, PTRACE_TRACEME = 0 };

static long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return number;
}

/* One line: the name, a tab, and what the kernel returned, in hexadecimal. */
static long report(const char *name, long result)
{
	static const char newline[] = "\n";
	char digits[18], *at = digits + sizeof(digits);
	u32 length = 0;
	u64 rest = result;

	do
		*--at = "0123456789abcdef"[rest & 15];
	while (rest >>= 4);
	*--at = '\t';
	while (name[length])
		length++;
	call(SYS_write, 1, (long)name, length, 0, 0, 0);
	call(SYS_write, 1, (long)at, digits + sizeof(digits) - at, 0, 0, 0);
	call(SYS_write, 1, (long)newline, 1, 0, 0, 0);
	return result;
}

static long opened(const char *name, int family, int type, int protocol)
{
	return report(name, call(SYS_socket, family, type, protocol, 0, 0, 0));
}

/* An address of 127.0.0.1, or of any for port 7001. */
static void internet(long number, long file, u16 port)
{
	struct {
		u16 family, port;
		u32 address;
		u64 zero;
	} name = { INET, port << 8 | port >> 8, port == 7001 ? 0 : 0x0100007f, 0 };

	report("address", call(number, file, (long)&name, sizeof(name), 0, 0, 0));
}

static void internet6(long file, u16 port)
{
	struct {
		u16 family, port;
		u32 flow;
		u8 address[16];
		u32 scope;
	} name = { .family = INET6, .port = port << 8 | port >> 8, .address = { [15] = 1 } };

	report("address", call(SYS_bind, file, (long)&name, sizeof(name), 0, 0, 0));
}

static void sockets(void)
{
	struct {
		u16 family;
		char path[24];
	} file_name = { UNIX, "/tmp/lab.socket" }, abstract = { UNIX, "\0lab-abstract" };
	int pair[2] = { -1, -1 };
	long file;

	internet(SYS_bind, opened("udp", INET, DGRAM, 0), 7001);
	file = opened("udp connected", INET, DGRAM, 0);
	internet(SYS_bind, file, 7002);
	internet(SYS_connect, file, 7001);
	internet6(opened("udp6", INET6, DGRAM, 0), 7003);
	file = opened("tcp6", INET6, STREAM, 0);
	internet6(file, 7004);
	report("listen", call(SYS_listen, file, 8, 0, 0, 0, 0));
	opened("raw", INET, RAW, ICMP);
	file = opened("unix", UNIX, STREAM, 0);
	report("address", call(SYS_bind, file, (long)&file_name, 2 + sizeof("/tmp/lab.socket"), 0, 0, 0));
	report("listen", call(SYS_listen, file, 8, 0, 0, 0, 0));
	file = opened("unix abstract", UNIX, DGRAM, 0);
	report("address", call(SYS_bind, file, (long)&abstract, 2 + sizeof("_lab-abstract") - 1, 0, 0, 0));
	report("socketpair", call(SYS_socketpair, UNIX, DGRAM, 0, (long)pair, 0, 0));
	opened("netlink", NETLINK, RAW, 0);
	opened("packet", PACKET, DGRAM, ETH_P_ARP);
}

static void code(const char *name, long protection)
{
	static const u8 instructions[] = { 0x90, 0x90, 0x31, 0xc0, 0xc3 }; /* nop; nop; xor eax, eax; ret */
	u8 *at = (u8 *)report(name, call(SYS_mmap, 0, 8192, protection, PRIVATE_ANONYMOUS, -1, 0));

	if ((long)at > 0 && protection == READ_WRITE_EXECUTE)
		for (u32 i = 0; i < sizeof(instructions); i++)
			at[i] = instructions[i];
}

void _start(void)
{
	sockets();
	code("code in writable memory", READ_WRITE_EXECUTE);
	code("code without a file", READ_EXECUTE);
	if (report("child", call(SYS_fork, 0, 0, 0, 0, 0, 0)) == 0)
		report("traced", call(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0, 0, 0));
	for (;;)
		call(SYS_ppoll, 0, 0, 0, 0, 0, 0);
}
