/*
 * latent_kernels_avx2.c
 *	  The inner loops of latent space for AVX2.
 */
#if defined(__x86_64__)
#define QLT_KERNELS qlt_kernels_avx2
#include "quality/latent_kernels.h"
#else
typedef int qlt_not_this_processor;
#endif
