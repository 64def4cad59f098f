/*
 * kernels_avx512.c
 *	  The learning core's inner loops for AVX-512 (F, BW, DQ, VL).
 */
#if defined(__x86_64__)
#define LRN_KERNELS lrn_kernels_avx512
#include "learn/kernels_impl.h"
#else
typedef int lrn_not_this_processor;
#endif
