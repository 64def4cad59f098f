/*
 * kernels_u8_amx.c
 *	  The uint8 tiles with AMX-INT8.
 */
#if defined(__x86_64__)
#include "nn/kernels_low_core.h"
#include "nn/vec_avx512.h"

#define AMX_DOT amx_dot_u8
#define VECTOR_TILE nn_low_tile_u8_avx512_vnni
#define LOW_TILES "nn/kernels_low_amx.h"
#define TILE_NB 2
#define SET amx
#define BODY avx512
#define NAME "amx u8"
#define RATE 400e6
#include "nn/kernels_low_u8.h"

#endif							/* __x86_64__ */
