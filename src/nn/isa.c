/*
 * isa.c
 *	  Which instruction sets this CPU runs, asked of the CPU itself.
 */
#include "nn/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdint.h>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

/* of asm/prctl.h, absent from older systems */
#define REQUEST_XSTATE 0x1023	/* ARCH_REQ_XCOMP_PERM */
#define XSTATE_TILES 18			/* XFEATURE_XTILEDATA */
#endif

/* A bit of CPUID leaf 7, by subleaf and register (0: eax ... 3: edx). */
static bool
cpu_has(unsigned subleaf, int reg, int bit)
{
	unsigned	r[4];

	return __get_cpuid_count(7, subleaf, &r[0], &r[1], &r[2], &r[3]) && (r[reg] >> bit & 1);
}

/* Tiles: the CPU has them, the system saves them, and lets this process use
 * them (Linux grows the signal frames of a process that asked). */
static bool
tiles_allowed(void)
{
	static int	answer = -1;
	uint32_t	lo,
				hi;

	if (answer >= 0)
		return answer;
	answer = 0;
	if (!cpu_has(0, 3, 22) || !cpu_has(0, 3, 24) || !cpu_has(0, 3, 25))
		return false;			/* AMX-BF16, AMX-TILE, AMX-INT8 */
	__asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	if ((lo >> 17 & 3) != 3)
		return false;
#if defined(__linux__)
	answer = syscall(SYS_arch_prctl, REQUEST_XSTATE, XSTATE_TILES) == 0;
#endif
	return answer;
}
#endif

bool
nn_isa_available(nn_isa isa)
{
	switch (isa)
	{
		case nn_isa_auto:
		case nn_isa_portable:
			return true;
#if defined(__x86_64__)
			/* libgcc's tests include the operating system's XSAVE state. */
		case nn_isa_avx2:
			return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
		case nn_isa_avx512:
			return nn_isa_available(nn_isa_avx2) &&
				__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
				__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
		case nn_isa_avx512_vnni:
			return nn_isa_available(nn_isa_avx512) && cpu_has(0, 2, 11);
		case nn_isa_avx512_bf16:
			return nn_isa_available(nn_isa_avx512_vnni) && cpu_has(1, 0, 5);
		case nn_isa_amx:
			return nn_isa_available(nn_isa_avx512_bf16) && tiles_allowed();
#else
		default:
			return false;
#endif
	}
	return false;
}

nn_isa
nn_isa_best(void)
{
	/* Asked at every call: CPUID takes 20 us and more in a virtual machine. */
	static nn_isa best = nn_isa_auto;
	nn_isa		isa = nn_isa_last;

	if (best != nn_isa_auto)
		return best;
	while (!nn_isa_available(isa))
		isa--;
	best = isa;
	return isa;
}

const char *
nn_isa_name(nn_isa isa)
{
	switch (isa)
	{
		case nn_isa_auto:
			return "auto";
		case nn_isa_portable:
			return "portable";
		case nn_isa_avx2:
			return "avx2";
		case nn_isa_avx512:
			return "avx512";
		case nn_isa_avx512_vnni:
			return "avx512_vnni";
		case nn_isa_avx512_bf16:
			return "avx512_bf16";
		case nn_isa_amx:
			return "amx";
	}
	return "unknown";
}
