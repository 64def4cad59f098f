/*
 * isa.h
 *	  The instruction sets the engine has kernels for.
 */
#ifndef MILLRACE_NN_ISA_H
#define MILLRACE_NN_ISA_H

#include <stdbool.h>

typedef enum nn_isa
{
	nn_isa_auto = 0,			/* the best this CPU has */
	nn_isa_portable,			/* plain C: any CPU */
	nn_isa_avx2,				/* AVX2 and FMA */
	nn_isa_avx512				/* AVX-512 F, BW, DQ and VL */
} nn_isa;

/* Does this CPU, and the operating system on it, run isa? */
extern bool nn_isa_available(nn_isa isa);

/* The best available instruction set; never nn_isa_auto. */
extern nn_isa nn_isa_best(void);

/* "auto", "portable", "avx2", "avx512". */
extern const char *nn_isa_name(nn_isa isa);

#endif							/* MILLRACE_NN_ISA_H */
