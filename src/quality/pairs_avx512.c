/*
 * pairs_avx512.c
 *	  The inner loops of near pairs for AVX-512 (F, BW, DQ, VL).
 */
#if defined(__x86_64__)
#define QLT_KERNELS qlt_pairs_avx512
#include "quality/pairs_kernels.h"
#else
typedef int qlt_not_this_processor;
#endif
