/*
 * kernels_w16_portable.c
 *	  The tiles with weights in bfloat16, all else in float32, for any CPU.
 */
#include "nn/kernels_low_core.h"
#include "nn/vec_portable.h"

#define TILE_MR 4
#define TILE_NB 1
#define TILE_KU 1
#define TILE_SIZES SIZES_4
#define TILE_PAIRS PAIRS_4
#define SET portable
#define BODY portable
#define NAME "portable w16"
#define RATE 8e6
#define LOW_F32_OPS nn_ops_portable
#include "nn/kernels_low_w16.h"
