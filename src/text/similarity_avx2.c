/*
 * similarity_avx2.c
 *	  Kernels of similarity for AVX2 and FMA.
 */
#if defined(__x86_64__)
#define SIM_KERNELS sim_kernels_avx2
#include "text/similarity_kernels.h"
#else
typedef int sim_not_this_processor;
#endif
