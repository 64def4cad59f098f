/*
 * kernels_match.h
 *	  Rows against rows, compiled once an instruction set: vf (LANES floats),
 *	  LOAD, FMA, SUM and MATCH, the name, come from the including file.
 *
 * A dot product is one chain of FMAs a lane, in the order of k, and then the
 * lanes' sum, whatever the tile's size: it has the same bits wherever its rows lie.
 */
#include "text/bert_score.h"

#define TILE 4					/* rows of a by rows of b: 16 sums in registers */

#if defined(__clang__)
#define MATCH_UNROLL _Pragma("unroll")
#else
#define MATCH_UNROLL _Pragma("GCC unroll 16")
#endif

static inline __attribute__((always_inline)) void
match_tile(const float *a, const float *b, int stride, const int ma, const int mb, float *a_best, float *b_best)
{
	vf			acc[TILE * TILE_B];

	MATCH_UNROLL
	for (int i = 0; i < ma * mb; i++)
		acc[i] = ZERO;
	for (int k = 0; k < stride; k += LANES)
	{
		vf			x[TILE];

		MATCH_UNROLL
		for (int i = 0; i < ma; i++)
			x[i] = LOAD(a + (size_t) i * stride + k);
		MATCH_UNROLL
		for (int j = 0; j < mb; j++)
		{
			vf			y = LOAD(b + (size_t) j * stride + k);

			MATCH_UNROLL
			for (int i = 0; i < ma; i++)
				acc[j * ma + i] = FMA(x[i], y, acc[j * ma + i]);
		}
	}
	MATCH_UNROLL
	for (int j = 0; j < mb; j++)
	{
		MATCH_UNROLL
		for (int i = 0; i < ma; i++)
		{
			float		dot = SUM(acc[j * ma + i]);

			a_best[i] = dot > a_best[i] ? dot : a_best[i];
			b_best[j] = dot > b_best[j] ? dot : b_best[j];
		}
	}
}

void
MATCH(const float *a, int na, const float *b, int nb, int stride, float *a_best, float *b_best)
{
	for (int i = 0; i < na; i += na - i >= TILE ? TILE : 1)
	{
		const float *x = a + (size_t) i * stride;
		int			j = 0;

		if (na - i >= TILE)
			for (; j + TILE_B <= nb; j += TILE_B)
				match_tile(x, b + (size_t) j * stride, stride, TILE, TILE_B, a_best + i, b_best + j);
		else
			for (; j + TILE_B <= nb; j += TILE_B)
				match_tile(x, b + (size_t) j * stride, stride, 1, TILE_B, a_best + i, b_best + j);
		for (; j < nb; j++)
			for (int r = i; r < (na - i >= TILE ? i + TILE : i + 1); r++)
				match_tile(a + (size_t) r * stride, b + (size_t) j * stride, stride, 1, 1, a_best + r, b_best + j);
	}
}
