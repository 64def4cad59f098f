/*
 * latent_kernels_portable.c
 *	  The inner loops of latent space for any processor.
 */
#define QLT_KERNELS qlt_kernels_portable
#include "quality/latent_kernels.h"
