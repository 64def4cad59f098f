/*
 * kernels_avx2.c
 *	  The learning core's inner loops for AVX2.
 */
#if defined(__x86_64__)
#define LRN_KERNELS lrn_kernels_avx2
#include "learn/kernels_impl.h"
#else
typedef int lrn_not_this_processor;
#endif
