/*
 * kernels_portable.c
 *	  The learning core's inner loops for any processor.
 */
#define LRN_KERNELS lrn_kernels_portable
#include "learn/kernels_impl.h"
