/*
 * kernels_w16_avx512.c
 *	  The tiles with weights in bfloat16, all else in float32, for AVX-512.
 */
#if defined(__x86_64__)
#include "nn/kernels_low_core.h"
#include "nn/vec_avx512.h"

#define TILE_MR 14
#define TILE_NB 2
#define TILE_KU 1
#define TILE_SIZES SIZES_14
#define TILE_PAIRS PAIRS_14
#define SET avx512
#define BODY avx512
#define NAME "avx512 w16"
#define RATE 60e6
#define LOW_F32_OPS nn_ops_avx512
#include "nn/kernels_low_w16.h"

#endif							/* __x86_64__ */
