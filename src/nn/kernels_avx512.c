/*
 * kernels_avx512.c
 *	  The kernels with AVX-512: tiles of up to 14 pixels x
 *	  32 couts (28 of 32 registers are accumulators).
 *
 * Chosen at run time only where processor and system have F, BW, DQ and VL.
 */
#if defined(__x86_64__)
#include "nn/kernels_core.h"
#include "nn/vec_avx512.h"

#define TILE_MR 14
#define TILE_NB 2
#define TILE_KU 2
#define TILE3_MR 16
#include "nn/kernels_tile.h"

/* Pixels 16 or 32 floats apart (strides 1 and 2), 1 or 2 (planes of a stem). */
#define TILES_1(s) \
	TILE(1, 1, s) TILE(2, 1, s) TILE(3, 1, s) TILE(4, 1, s) TILE(5, 1, s) TILE(6, 1, s) TILE(7, 1, s) \
	TILE(8, 1, s) TILE(9, 1, s) TILE(10, 1, s) TILE(11, 1, s) TILE(12, 1, s) TILE(13, 1, s) \
	TILE(14, 1, s)
#define TILES_2(s) \
	TILE(1, 2, s) TILE(2, 2, s) TILE(3, 2, s) TILE(4, 2, s) TILE(5, 2, s) TILE(6, 2, s) TILE(7, 2, s) \
	TILE(8, 2, s) TILE(9, 2, s) TILE(10, 2, s) TILE(11, 2, s) TILE(12, 2, s) TILE(13, 2, s) \
	TILE(14, 2, s)
TILES_1(16) TILES_1(32) TILES_1(1) TILES_1(2)
TILES_2(16) TILES_2(32) TILES_2(1) TILES_2(2)

#define PAIRS(nb, s) \
	TILE2(2, nb, s, 1) TILE2(4, nb, s, 2) TILE2(6, nb, s, 3) TILE2(8, nb, s, 4) \
	TILE2(10, nb, s, 5) TILE2(12, nb, s, 6) TILE2(14, nb, s, 7)
PAIRS(1, 16) PAIRS(1, 32) PAIRS(2, 16) PAIRS(2, 32)

static nn_tile_fn
find_tile(int mr, int nb, int stride, int half)
{
	static const nn_tile_fn one[4][TILE_NB][TILE_MR] = {
		{{tile_1x1s16, tile_2x1s16, tile_3x1s16, tile_4x1s16, tile_5x1s16, tile_6x1s16,
			tile_7x1s16, tile_8x1s16, tile_9x1s16, tile_10x1s16, tile_11x1s16, tile_12x1s16,
			tile_13x1s16, tile_14x1s16},
		{tile_1x2s16, tile_2x2s16, tile_3x2s16, tile_4x2s16, tile_5x2s16, tile_6x2s16,
			tile_7x2s16, tile_8x2s16, tile_9x2s16, tile_10x2s16, tile_11x2s16, tile_12x2s16,
			tile_13x2s16, tile_14x2s16}},
		{{tile_1x1s32, tile_2x1s32, tile_3x1s32, tile_4x1s32, tile_5x1s32, tile_6x1s32,
			tile_7x1s32, tile_8x1s32, tile_9x1s32, tile_10x1s32, tile_11x1s32, tile_12x1s32,
			tile_13x1s32, tile_14x1s32},
		{tile_1x2s32, tile_2x2s32, tile_3x2s32, tile_4x2s32, tile_5x2s32, tile_6x2s32,
			tile_7x2s32, tile_8x2s32, tile_9x2s32, tile_10x2s32, tile_11x2s32, tile_12x2s32,
			tile_13x2s32, tile_14x2s32}},
		{{tile_1x1s1, tile_2x1s1, tile_3x1s1, tile_4x1s1, tile_5x1s1, tile_6x1s1, tile_7x1s1,
			tile_8x1s1, tile_9x1s1, tile_10x1s1, tile_11x1s1, tile_12x1s1, tile_13x1s1, tile_14x1s1},
		{tile_1x2s1, tile_2x2s1, tile_3x2s1, tile_4x2s1, tile_5x2s1, tile_6x2s1, tile_7x2s1,
			tile_8x2s1, tile_9x2s1, tile_10x2s1, tile_11x2s1, tile_12x2s1, tile_13x2s1, tile_14x2s1}},
		{{tile_1x1s2, tile_2x1s2, tile_3x1s2, tile_4x1s2, tile_5x1s2, tile_6x1s2, tile_7x1s2,
			tile_8x1s2, tile_9x1s2, tile_10x1s2, tile_11x1s2, tile_12x1s2, tile_13x1s2, tile_14x1s2},
		{tile_1x2s2, tile_2x2s2, tile_3x2s2, tile_4x2s2, tile_5x2s2, tile_6x2s2, tile_7x2s2,
			tile_8x2s2, tile_9x2s2, tile_10x2s2, tile_11x2s2, tile_12x2s2, tile_13x2s2, tile_14x2s2}},
	};
	static const nn_tile_fn pair[2][TILE_NB][TILE_MR / 2] = {
		{{tile2_2x1s16h1, tile2_4x1s16h2, tile2_6x1s16h3, tile2_8x1s16h4, tile2_10x1s16h5, tile2_12x1s16h6,
			tile2_14x1s16h7},
		{tile2_2x2s16h1, tile2_4x2s16h2, tile2_6x2s16h3, tile2_8x2s16h4, tile2_10x2s16h5, tile2_12x2s16h6,
			tile2_14x2s16h7}},
		{{tile2_2x1s32h1, tile2_4x1s32h2, tile2_6x1s32h3, tile2_8x1s32h4, tile2_10x1s32h5, tile2_12x1s32h6,
			tile2_14x1s32h7},
		{tile2_2x2s32h1, tile2_4x2s32h2, tile2_6x2s32h3, tile2_8x2s32h4, tile2_10x2s32h5, tile2_12x2s32h6,
			tile2_14x2s32h7}},
	};
	int			s = stride == 16 ? 0 : stride == 32 ? 1 : stride == 1 ? 2 : stride == 2 ? 3 : -1;

	if (s < 0 || nb < 1 || nb > TILE_NB || mr < 1 || mr > TILE_MR)
		return NULL;
	if (half != mr)
		return s > 1 || half * 2 != mr ? NULL : pair[s][nb - 1][half - 1];
	return one[s][nb - 1][mr - 1];
}

/* 16 sums, 3 weights and the broadcasts: for panels of one block. */
TILE3(1) TILE3(2) TILE3(3) TILE3(4) TILE3(5) TILE3(6) TILE3(7) TILE3(8)
TILE3(9) TILE3(10) TILE3(11) TILE3(12) TILE3(13) TILE3(14) TILE3(15) TILE3(16)

static nn_tile_fn
find_tile3(int mr)
{
	static const nn_tile_fn tiles[TILE3_MR] = {
		tile3_1, tile3_2, tile3_3, tile3_4, tile3_5, tile3_6, tile3_7, tile3_8,
		tile3_9, tile3_10, tile3_11, tile3_12, tile3_13, tile3_14, tile3_15, tile3_16
	};

	return mr < 1 || mr > TILE3_MR ? NULL : tiles[mr - 1];
}

#define KERNELS nn_kernels_avx512
#define KERNELS_OPS nn_ops_avx512
#define KERNELS_ISA nn_isa_avx512
#define KERNELS_NAME "avx512"
#define KERNELS_RATE 60e6
#include "nn/kernels_body.h"

#endif							/* __x86_64__ */
