/*
 * isa.h
 *	  The instruction sets the engine has kernels for.
 *
 * Each level contains those before it.  A plan names the least level that its
 * kernels differ by: float32 knows none above AVX-512, int8 and bfloat16 do.
 */
#ifndef MILLRACE_NN_ISA_H
#define MILLRACE_NN_ISA_H

#include <stdbool.h>

/* Stored in compiled files: never renumber. */
typedef enum nn_isa
{
	nn_isa_auto = 0,			/* the best this CPU has */
	nn_isa_portable = 1,		/* plain C: any CPU */
	nn_isa_avx2 = 2,			/* AVX2 and FMA */
	nn_isa_avx512 = 3,			/* AVX-512 F, BW, DQ and VL */
	nn_isa_avx512_vnni = 4,		/* and dot products of bytes */
	nn_isa_avx512_bf16 = 5,		/* and of bfloat16 */
	nn_isa_amx = 6,				/* and tiles of both */
	nn_isa_last = nn_isa_amx
} nn_isa;

/* Does this CPU, and the operating system on it, run isa?  For AMX the system
 * is asked once in a process for permission to use the tiles. */
extern bool nn_isa_available(nn_isa isa);

/* The best available instruction set; never nn_isa_auto. */
extern nn_isa nn_isa_best(void);

/* "auto", "portable", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx". */
extern const char *nn_isa_name(nn_isa isa);

/* The level whose kernels a float32 plan for isa uses. */
static inline nn_isa
nn_isa_f32(nn_isa isa)
{
	return isa > nn_isa_avx512 ? nn_isa_avx512 : isa;
}

#endif							/* MILLRACE_NN_ISA_H */
