/*
 * similarity_avx512.c
 *	  Kernels of similarity for AVX-512 (F, BW, DQ, VL).
 */
#if defined(__x86_64__)
#define SIM_KERNELS sim_kernels_avx512
#include "text/similarity_kernels.h"
#else
typedef int sim_not_this_processor;
#endif
