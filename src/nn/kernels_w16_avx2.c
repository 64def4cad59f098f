/*
 * kernels_w16_avx2.c
 *	  The tiles with weights in bfloat16, all else in float32, for AVX2.
 */
#if defined(__x86_64__)
#include "nn/kernels_low_core.h"
#include "nn/vec_avx2.h"

#define TILE_MR 6
#define TILE_NB 1
#define TILE_KU 1
#define TILE_SIZES SIZES_6
#define TILE_PAIRS PAIRS_6
#define SET avx2
#define BODY avx2
#define NAME "avx2 w16"
#define RATE 30e6
#define LOW_F32_OPS nn_ops_avx2
#include "nn/kernels_low_w16.h"

#endif							/* __x86_64__ */
