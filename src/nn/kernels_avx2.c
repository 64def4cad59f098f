/*
 * kernels_avx2.c
 *	  The kernels with AVX2 and FMA: tiles of up to 6 pixels
 *	  x 16 couts (12 of 16 registers are accumulators).
 *
 * Chosen at run time only where processor and system have both.
 */
#if defined(__x86_64__)
#include "nn/kernels_core.h"
#include "nn/vec_avx2.h"

#define TILE_MR 6
#define TILE_NB 1
#define TILE_KU 2
#include "nn/kernels_tile.h"

/* Pixels 16 or 32 floats apart (strides 1 and 2), 1 or 2 (planes of a stem). */
#define TILES_1(s) \
	TILE(1, 1, s) TILE(2, 1, s) TILE(3, 1, s) TILE(4, 1, s) TILE(5, 1, s) TILE(6, 1, s)
TILES_1(16) TILES_1(32) TILES_1(1) TILES_1(2)

/* Two short lines side by side, and full tiles across the end of a line. */
#define PAIRS(s) \
	TILE2(2, 1, s, 1) TILE2(4, 1, s, 2) TILE2(6, 1, s, 1) TILE2(6, 1, s, 2) \
	TILE2(6, 1, s, 3) TILE2(6, 1, s, 4) TILE2(6, 1, s, 5)
PAIRS(16) PAIRS(32)

static nn_tile_fn
find_tile(int mr, int nb, int stride, int half)
{
	static const nn_tile_fn one[4][TILE_NB][TILE_MR] = {
		{{tile_1x1s16, tile_2x1s16, tile_3x1s16, tile_4x1s16, tile_5x1s16, tile_6x1s16}},
		{{tile_1x1s32, tile_2x1s32, tile_3x1s32, tile_4x1s32, tile_5x1s32, tile_6x1s32}},
		{{tile_1x1s1, tile_2x1s1, tile_3x1s1, tile_4x1s1, tile_5x1s1, tile_6x1s1}},
		{{tile_1x1s2, tile_2x1s2, tile_3x1s2, tile_4x1s2, tile_5x1s2, tile_6x1s2}},
	};
	static const nn_tile_fn across[2][TILE_MR - 1] = {
		{tile2_6x1s16h1, tile2_6x1s16h2, tile2_6x1s16h3, tile2_6x1s16h4, tile2_6x1s16h5},
		{tile2_6x1s32h1, tile2_6x1s32h2, tile2_6x1s32h3, tile2_6x1s32h4, tile2_6x1s32h5},
	};
	static const nn_tile_fn pair[2][2] = {
		{tile2_2x1s16h1, tile2_4x1s16h2},
		{tile2_2x1s32h1, tile2_4x1s32h2},
	};
	int			s = stride == 16 ? 0 : stride == 32 ? 1 : stride == 1 ? 2 : stride == 2 ? 3 : -1;

	if (s < 0 || nb < 1 || nb > TILE_NB || mr < 1 || mr > TILE_MR)
		return NULL;
	if (half != mr)
	{
		if (s > 1 || half < 1 || half > mr)
			return NULL;
		return mr == TILE_MR ? across[s][half - 1] : half * 2 == mr ? pair[s][half - 1] : NULL;
	}
	return one[s][nb - 1][mr - 1];
}

#define KERNELS nn_kernels_avx2
#define KERNELS_OPS nn_ops_avx2
#define KERNELS_ISA nn_isa_avx2
#define KERNELS_NAME "avx2"
#define KERNELS_RATE 30e6
#include "nn/kernels_body.h"

#endif							/* __x86_64__ */
