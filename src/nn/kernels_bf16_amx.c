/*
 * kernels_bf16_amx.c
 *	  The bfloat16 tiles with AMX-BF16.
 */
#if defined(__x86_64__)
#include "nn/kernels_low_core.h"
#include "nn/vec_avx512.h"

#define AMX_DOT amx_dot_bf16
#define VECTOR_TILE nn_low_tile_bf16_avx512_bf16
#define LOW_TILES "nn/kernels_low_amx.h"
#define TILE_NB 2
#define SET amx
#define BODY avx512
#define NAME "amx bf16"
#define RATE 200e6
#include "nn/kernels_low_bf16.h"

#endif							/* __x86_64__ */
