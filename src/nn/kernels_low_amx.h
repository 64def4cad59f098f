/*
 * kernels_low_amx.h
 *	  The tiles of few bits with AMX: up to 32 pixels x 32 couts in four tile
 *	  registers of sums, steps of 16 words (packs for AMX have whole blocks).
 *
 * A register of activations is a block of 16 pixels as it lies in a view, one of
 * weights 16 words x 16 couts as they lie in a pack.  The sums go through memory
 * to the same end as those of vectors.  Stems, which AMX does not suit, are done
 * by the vector tiles, VECTOR_TILE, of the same kind.
 */
#include "nn/amx.h"

#define NN_UNROLL
#include "nn/kernels_low_finish.h"

/* Registers: sums of pixels 0-15 and 16-31 by blocks of couts, activations, weights. */
#define C_LOW 0
#define C_LOW_2 1
#define C_HIGH 2
#define C_HIGH_2 3
#define A_LOW 4
#define A_HIGH 5
#define B_1 6
#define B_2 7

static void
amx_run(const nn_low_job *j, const char *a, char *o, const char *r, int mr, int nb)
{
	va			sums[2 * AMX_ROWS * TILE_NB];
	const char *b = j->b;
	size_t		row = (size_t) nb * sizeof(va);

	amx_load(C_LOW, j->start, 0);	/* each row the same */
	if (nb > 1)
		amx_load(C_LOW_2, (const char *) j->start + sizeof(va), 0);
	if (mr > AMX_ROWS)
	{
		amx_load(C_HIGH, j->start, 0);
		if (nb > 1)
			amx_load(C_HIGH_2, (const char *) j->start + sizeof(va), 0);
	}
	for (int i = 0; i < j->nsteps; i++, b += NN_LANES * row)
	{
		const char *p = a + j->step[i].off;

		amx_load(A_LOW, p, j->stride);
		amx_load(B_1, b, row);
		AMX_DOT(C_LOW, A_LOW, B_1);
		if (nb > 1)
		{
			amx_load(B_2, b + sizeof(va), row);
			AMX_DOT(C_LOW_2, A_LOW, B_2);
		}
		if (mr > AMX_ROWS)
		{
			amx_load(A_HIGH, p + AMX_ROWS * j->stride, j->stride);
			AMX_DOT(C_HIGH, A_HIGH, B_1);
			if (nb > 1)
				AMX_DOT(C_HIGH_2, A_HIGH, B_2);
		}
	}
	amx_store(C_LOW, sums, row);
	if (nb > 1)
		amx_store(C_LOW_2, sums + 1, row);
	if (mr > AMX_ROWS)
	{
		amx_store(C_HIGH, sums + AMX_ROWS * nb, row);
		if (nb > 1)
			amx_store(C_HIGH_2, sums + AMX_ROWS * nb + 1, row);
	}
	if (j->through)
		tile_through(j, sums, o, o, r, r, mr, nb, mr);
	else
		tile_finish(j, sums, o, o, r, r, mr, nb, mr);
}

/* The registers' shapes for tiles of mr pixels; 0: give them back. */
static void
amx_configure(int mr)
{
	amx_config	c = {.palette = 1};

	if (mr == 0)
	{
		amx_release();
		return;
	}
	for (int t = 0; t < AMX_TILES; t++)
	{
		bool		high = t == C_HIGH || t == C_HIGH_2 || t == A_HIGH;
		int			rows = t >= B_1 ? AMX_ROWS : high ? mr - AMX_ROWS : mr < AMX_ROWS ? mr : AMX_ROWS;

		if (rows > 0)
		{
			c.rows[t] = (uint8_t) rows;
			c.bytes[t] = 64;
		}
	}
	amx_load_config(&c);
}

#define AMX_TILE(mr, nb) \
static void \
amx_##mr##x##nb(const nn_low_job *j, const char *a0, const char *a1, char *o0, char *o1, const char *r0, \
				const char *r1) \
{ \
	amx_run(j, a0, o0, r0, mr, nb); \
}
#define AMX_SIZES(T, nb) \
	T(1, nb) T(2, nb) T(3, nb) T(4, nb) T(5, nb) T(6, nb) T(7, nb) T(8, nb) \
	T(9, nb) T(10, nb) T(11, nb) T(12, nb) T(13, nb) T(14, nb) T(15, nb) T(16, nb) \
	T(17, nb) T(18, nb) T(19, nb) T(20, nb) T(21, nb) T(22, nb) T(23, nb) T(24, nb) \
	T(25, nb) T(26, nb) T(27, nb) T(28, nb) T(29, nb) T(30, nb) T(31, nb) T(32, nb)
#define AMX_NAME(mr, nb) amx_##mr##x##nb,
AMX_SIZES(AMX_TILE, 1)
AMX_SIZES(AMX_TILE, 2)

nn_low_tile_fn
NN_LOW_JOIN(tile, KIND, SET) (int mr, int nb, int stride, int half)
{
	static const nn_low_tile_fn one[] = {AMX_SIZES(AMX_NAME, 1)};
	static const nn_low_tile_fn two[] = {AMX_SIZES(AMX_NAME, 2)};

	/* no pairs of lines by vectors: their sums may differ in the last bit */
	if (stride == 0 || half != mr)
		return NULL;
	return nb == 1 ? one[mr - 1] : two[mr - 1];
}

#define CONFIGURE amx_configure
#define STEM_TILE VECTOR_TILE
#define MAX_MR (2 * AMX_ROWS)
