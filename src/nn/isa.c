/*
 * isa.c
 *	  Which instruction sets this CPU runs, asked of the CPU itself.
 */
#include "nn/isa.h"

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
#else
		case nn_isa_avx2:
		case nn_isa_avx512:
			return false;
#endif
	}
	return false;
}

nn_isa
nn_isa_best(void)
{
	if (nn_isa_available(nn_isa_avx512))
		return nn_isa_avx512;
	if (nn_isa_available(nn_isa_avx2))
		return nn_isa_avx2;
	return nn_isa_portable;
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
	}
	return "unknown";
}
