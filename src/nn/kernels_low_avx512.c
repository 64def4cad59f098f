/*
 * kernels_low_avx512.c
 *	  Everything of few bits but the tiles, for AVX-512.
 */
#if defined(__x86_64__)
#include "nn/kernels_low_core.h"
#include "nn/vec_avx512.h"

#define BODY avx512
#define ACTIVATE nn_kernels_avx512.activate
#include "nn/kernels_low_body.h"

#endif							/* __x86_64__ */
