/*
 * Fills a quarter of the machine's memory, as an ordinary user, with what a search for the kernel's tables looks for:
 * digits of token tables, whole token tables with their indices, banners, VMCOREINFO texts, page tables, list heads.
 *
 * Needs no C library and no headers. Nothing in it is known of the kernel that runs: only what everybody knows of every
 * kernel, which is all that a user without privileges has.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned long long u64;

enum { SYS_write = 1, SYS_mmap = 9, SYS_setgid = 106, SYS_setuid = 105, SYS_ppoll = 271 };
enum { PROT_READ_WRITE = 3, MAP_PRIVATE_ANONYMOUS_POPULATE = 0x8022 };
enum { NOBODY = 65534, PAGE = 4096, STRIPE = 16 << 20, KINDS = 8 };

static long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return number;
}

static u64 state = 88172645463325252ull;
static u64 random_number(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

/* A pattern over and over. */
static void repeat(u8 *at, const void *pattern, unsigned long size, unsigned long step)
{
	unsigned long i, j;
	for (i = 0; i + step <= STRIPE; i += step)
		for (j = 0; j < size; j++)
			at[i + j] = ((const u8 *)pattern)[j];
}

/* 256 tokens as the kernel's build writes them, and the index of each: printable characters for themselves. */
static unsigned long token_table(u8 *at)
{
	u16 index[256];
	unsigned long size = 0, i;
	for (i = 0; i < 256; i++) {
		index[i] = size;
		if (i > 32 && i < 127) {
			at[size++] = i;
		} else {
			at[size++] = 'a' + i % 26;
			at[size++] = '_';
			at[size++] = 'a' + i / 26;
		}
		at[size++] = 0;
	}
	size = (size + 7) & ~7ul;
	for (i = 0; i < 256; i++) {
		at[size++] = index[i];
		at[size++] = index[i] >> 8;
	}
	return (size + 7) & ~7ul;
}

static void token_tables(u8 *at, int with_markers)
{
	static u8 one[PAGE];
	unsigned long size = token_table(one), i, j;
	if (!with_markers) {
		repeat(at, one, size, (size + 63) & ~63ul);
		return;
	}
	/* marker-like words before each: ascending, the first of them 0 */
	for (i = 0; i + PAGE <= STRIPE; i += PAGE) {
		for (j = 0; j < 256; j++)
			((unsigned *)(at + i))[j] = j * 3000;
		for (j = 0; j < size; j++)
			at[i + 1024 + j] = one[j];
	}
}

/* Each page maps a gigabyte of the kernel's half to where it may really lie. */
static void page_tables(u64 *at)
{
	unsigned long i;
	for (i = 0; i < STRIPE / sizeof(u64); i++)
		at[i] = i % 512 >= 256 ? (random_number() % 0x20000 << 12) | 0x8000000000000063ull : 0;
}

/* Heads of lists whose links lead to one another, in the direct map as it is without KASLR, and in this program. */
static void list_heads(u64 *at)
{
	unsigned long i, count = STRIPE / 32;
	for (i = 0; i < count; i++) {
		u64 *head = at + 4 * i;
		u64 base = i & 1 ? (u64)at : 0xffff888000000000ull + (random_number() & 0x1ffff000);
		head[0] = base + 32 * ((i + 1) % count);
		head[1] = base + 32 * ((i + count - 1) % count);
		head[2] = (u64)head;
		head[3] = (u64)head;
	}
}

static const char digits[] = "0\0001\0002\0003\0004\0005\0006\0007\0008\0009";
static const char banner[] = "Linux version 9.9.9-sprayed (nobody@nowhere) (gcc (Debian 14.2.0-19) 14.2.0) #1 SMP\n";
static const char vmcoreinfo[] = "OSRELEASE=9.9.9-sprayed\nBUILD-ID=0123456789abcdef0123456789abcdef01234567\n"
	"PAGESIZE=4096\nSYMBOL(init_uts_ns)=ffffffff82e1b500\nSYMBOL(swapper_pg_dir)=ffffffff82e0a000\n"
	"SYMBOL(_stext)=ffffffff81000000\nSYMBOL(kallsyms_names)=ffffffff82300000\nSYMBOL(kallsyms_num_syms)=ffffffff822fff00\n"
	"SYMBOL(kallsyms_token_table)=ffffffff82700000\nSYMBOL(kallsyms_token_index)=ffffffff82700400\n"
	"NUMBER(phys_base)=16777216\nKERNELOFFSET=1f000000\n";

static void put(const char *text)
{
	unsigned long size = 0;
	while (text[size])
		size++;
	call(SYS_write, 1, (long)text, size, 0, 0, 0);
}

void _start(void)
{
	u8 *at;
	if (call(SYS_setgid, NOBODY, 0, 0, 0, 0, 0) || call(SYS_setuid, NOBODY, 0, 0, 0, 0, 0)) {
		put("LAB-SPRAY privileges stay\n");
		goto sleep;
	}
	at = (u8 *)call(SYS_mmap, 0, (long)KINDS * STRIPE, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_POPULATE, -1, 0);
	if ((u64)at >= (u64)-4095) {
		put("LAB-SPRAY no memory\n");
		goto sleep;
	}
	repeat(at, digits, sizeof(digits), sizeof(digits));
	repeat(at + STRIPE, digits, sizeof(digits), 512);
	token_tables(at + 2 * STRIPE, 0);
	token_tables(at + 3 * STRIPE, 1);
	repeat(at + 4 * STRIPE, banner, sizeof(banner), 128);
	repeat(at + 5 * STRIPE, vmcoreinfo, sizeof(vmcoreinfo), 1024);
	page_tables((u64 *)(at + 6 * STRIPE));
	list_heads((u64 *)(at + 7 * STRIPE));
	put("LAB-SPRAY done\n");
sleep:
	for (;;)
		call(SYS_ppoll, 0, 0, 0, 0, 0, 0);
}
