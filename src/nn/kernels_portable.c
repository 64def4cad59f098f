/*
 * kernels_portable.c
 *	  The kernels for any CPU: C and the compiler's vectors of 4 floats (SSE2,
 *	  NEON, or plain floats where there is neither).
 *
 * Multiplications and additions round separately (no FMA is assumed).
 */
#include "nn/kernels_core.h"
#include "nn/vec_portable.h"

#define TILE_MR 3
#define TILE_NB 1
#define TILE_KU 2
#include "nn/kernels_tile.h"

#define STRIDE(s) TILE(1, 1, s) TILE(2, 1, s) TILE(3, 1, s)
STRIDE(16)
STRIDE(32)
STRIDE(1)
STRIDE(2)
TILE2(2, 1, 16, 1)
TILE2(2, 1, 32, 1)

static nn_tile_fn
find_tile(int mr, int nb, int stride, int half)
{
	static const nn_tile_fn one[4][3] = {
		{tile_1x1s16, tile_2x1s16, tile_3x1s16},
		{tile_1x1s32, tile_2x1s32, tile_3x1s32},
		{tile_1x1s1, tile_2x1s1, tile_3x1s1},
		{tile_1x1s2, tile_2x1s2, tile_3x1s2},
	};
	int			s = stride == 16 ? 0 : stride == 32 ? 1 : stride == 1 ? 2 : stride == 2 ? 3 : -1;

	if (s < 0 || nb != 1 || mr < 1 || mr > TILE_MR)
		return NULL;
	if (half != mr)
		return mr != 2 || s > 1 ? NULL : s == 0 ? tile2_2x1s16h1 : tile2_2x1s32h1;
	return one[s][mr - 1];
}

#define KERNELS nn_kernels_portable
#define KERNELS_OPS nn_ops_portable
#define KERNELS_ISA nn_isa_portable
#define KERNELS_NAME "portable"
#define KERNELS_RATE 10e6
#include "nn/kernels_body.h"
