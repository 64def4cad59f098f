/*
 * kernels_low_avx2.c
 *	  Everything of few bits but the tiles, for AVX2.
 */
#if defined(__x86_64__)
#include "nn/kernels_low_core.h"
#include "nn/vec_avx2.h"

#define BODY avx2
#define ACTIVATE nn_kernels_avx2.activate
#include "nn/kernels_low_body.h"

#endif							/* __x86_64__ */
