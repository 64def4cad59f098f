/*
 * isa.h
 *	  The instruction sets the kernels exist for, and which of them this machine
 *	  can run.
 *
 * Each set beyond portable C is compiled in files of its own (kernels_avx2*.c,
 * kernels_avx512*.c), so that the library loads anywhere and chooses at run time.
 */
#ifndef MILLRACE_NN_ISA_H
#define MILLRACE_NN_ISA_H

#include <stdbool.h>

/* Values are stored in compiled files: never renumber. */
typedef enum nn_isa
{
	nn_isa_auto = 0,			/* the best one; never stored */
	nn_isa_portable = 1,		/* C and the compiler's 16-byte vectors */
	nn_isa_avx2 = 2,			/* AVX2, FMA */
	nn_isa_avx512 = 3			/* AVX-512 F, BW, DQ, VL */
} nn_isa;

/* The best set that processor, operating system and this build offer. */
extern nn_isa nn_isa_best(void);

/* May this one be forced here?  (auto and portable: always) */
extern bool nn_isa_usable(nn_isa isa);

/* "auto", "portable", "avx2", "avx512"; NULL for any other value. */
extern const char *nn_isa_name(nn_isa isa);

#endif							/* MILLRACE_NN_ISA_H */
