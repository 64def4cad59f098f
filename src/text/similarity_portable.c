/*
 * similarity_portable.c
 *	  Kernels of similarity for any processor.
 */
#define SIM_KERNELS sim_kernels_portable
#include "text/similarity_kernels.h"
