/*
 * pairs_avx2.c
 *	  The inner loops of near pairs for AVX2 and FMA.
 */
#if defined(__x86_64__)
#define QLT_KERNELS qlt_pairs_avx2
#include "quality/pairs_kernels.h"
#else
typedef int qlt_not_this_processor;
#endif
