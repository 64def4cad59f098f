/*
 * kernels_low_tile.h
 *	  The tile of all convolutions and products of few bits, compiled once for
 *	  each kind and instruction set.
 *
 * It is the tile of kernels_tile.h over words.  The including file defines, beside
 * what kernels_low_finish.h asks for,
 *
 *		va_load()				the values that a vector of sums starts from
 *		vx, x_load()			a word of activations in all lanes
 *		vw, w_load(), W_BYTES	a vector of weights, of W_BYTES a lane
 *		va_dot(acc, x, w)		add the products of the lanes' 1, 2 or 4 channels
 *		TILE_MR, TILE_NB, TILE_KU	largest tile; words unrolled
 *		TILE_SIZES, TILE_PAIRS	the lists below that go up to TILE_MR
 *		STEM					bytes between the pixels of a stem of 3 channels, stride 2
 */
#if defined(__clang__)
#define NN_UNROLL _Pragma("unroll")
#else
#define NN_UNROLL _Pragma("GCC unroll 32")
#endif
#include "nn/kernels_low_finish.h"

/* One word of K: p and q point at the first pixels' in both lines. */
NN_INLINE void
tile_k(va *acc, const char *p, const char *q, const char *b, const int mr, const int nv, const size_t stride,
	   const int half)
{
	vw			w[NV_BLOCK * TILE_NB];

	NN_UNROLL
	for (int v = 0; v < nv; v++)
		w[v] = w_load(b + v * VW * W_BYTES);
	NN_UNROLL
	for (int i = 0; i < mr; i++)
	{
		vx			x = x_load(i < half ? p + i * stride : q + (i - half) * stride);

		NN_UNROLL
		for (int v = 0; v < nv; v++)
			acc[i * nv + v] = va_dot(acc[i * nv + v], x, w[v]);
	}
}

/* mr pixels, half (a count) of them at a0, o0, r0; nb blocks of couts; stride 0:
 * the job's. */
NN_INLINE void
tile_run(const nn_low_job *j, const char *a0, const char *a1, char *o0, char *o1, const char *r0,
		 const char *r1, const int mr, const int nb, const size_t fixed, const int half)
{
	va			acc[TILE_MR * TILE_NB * NV_BLOCK];
	const int	nv = nb * NV_BLOCK;
	const size_t stride = fixed ? fixed : j->stride;
	/* Where neighbouring pixels overlap (stems) gcc would keep what they share in
	 * registers from one word to the next, and spill: no unrolling, and a barrier. */
	const int	ku = fixed < NN_ALIGN ? 1 : TILE_KU;
	const char *b = j->b;
	const nn_step *step = j->step;
	const nn_step *end = step + j->nsteps;
	const char *ahead = j->ahead;

	NN_UNROLL
	for (int v = 0; v < nv; v++)
	{
		va			x = va_load((const char *) j->start + v * VW * WORD);

		NN_UNROLL
		for (int i = 0; i < mr; i++)
			acc[i * nv + v] = x;
	}
	for (; step < end; step++)
	{
		const char *p = a0 + step->off;
		const char *q = a1 + step->off;
		int			k = step->ki;

		for (int i = j->ahead_lines; i > 0; i--, ahead += NN_ALIGN)
			__builtin_prefetch(ahead, 0, 2);
		for (; ku > 1 && k >= ku; k -= ku)
		{
			NN_UNROLL
			for (int u = 0; u < ku; u++)
				tile_k(acc, p + u * WORD, q + u * WORD, b + u * nv * VW * W_BYTES, mr, nv, stride, half);
			p += ku * WORD;
			q += ku * WORD;
			b += ku * nv * VW * W_BYTES;
		}
		for (; k > 0; k--, p += WORD, q += WORD, b += nv * VW * W_BYTES)
		{
			tile_k(acc, p, q, b, mr, nv, stride, half);
			if (ku == 1)
				__asm__ __volatile__("" ::: "memory");
		}
	}
	if (j->through)
	{
		va			sums[TILE_MR * TILE_NB * NV_BLOCK];
		const bool	there = j->through == nn_through_sums;
		char	   *to = there ? o0 : (char *) sums;
		size_t		pix = there ? j->out_pix : nv * sizeof(va),
					blk = there ? j->out_blk : NV_BLOCK * sizeof(va);

		NN_UNROLL
		for (int i = 0; i < mr; i++)
			NN_UNROLL
			for (int v = 0; v < nv; v++)
				memcpy(to + i * pix + v / NV_BLOCK * blk + v % NV_BLOCK * sizeof(va), &acc[i * nv + v], sizeof(va));
		if (!there)
			tile_through(j, sums, o0, o1, r0, r1, mr, nv, half);
	}
	else if (r0)
		tile_finish(j, acc, o0, o1, r0, r1, mr, nv, half);
	else
		tile_finish(j, acc, o0, o1, NULL, NULL, mr, nv, half);
}

#define LOW_ARGS const nn_low_job *j, const char *a0, const char *a1, char *o0, char *o1, \
				 const char *r0, const char *r1

/* A tile of one line, and one of two: half of the pixels each. */
#define TILE(mr, nb, stride) \
static void \
low_##mr##x##nb##_##stride(LOW_ARGS) \
{ \
	tile_run(j, a0, a1, o0, o1, r0, r1, mr, nb, stride, mr); \
}
#define TILE2(mr, nb, stride) \
static void \
low2_##mr##x##nb##_##stride(LOW_ARGS) \
{ \
	tile_run(j, a0, a1, o0, o1, r0, r1, mr, nb, stride, mr / 2); \
}

/* All sizes for a stride: T(pixels, blocks, stride). */
#define SIZES_4(T, nb, s) T(1, nb, s) T(2, nb, s) T(3, nb, s) T(4, nb, s)
#define SIZES_6(T, nb, s) SIZES_4(T, nb, s) T(5, nb, s) T(6, nb, s)
#define SIZES_12(T, nb, s) SIZES_6(T, nb, s) T(7, nb, s) T(8, nb, s) \
	T(9, nb, s) T(10, nb, s) T(11, nb, s) T(12, nb, s)
#define SIZES_14(T, nb, s) SIZES_12(T, nb, s) T(13, nb, s) T(14, nb, s)
#define PAIRS_4(T, nb, s) T(2, nb, s) T(4, nb, s)
#define PAIRS_6(T, nb, s) PAIRS_4(T, nb, s) T(6, nb, s)
#define PAIRS_12(T, nb, s) PAIRS_6(T, nb, s) T(8, nb, s) T(10, nb, s) T(12, nb, s)
#define PAIRS_14(T, nb, s) PAIRS_12(T, nb, s) T(14, nb, s)
#define TILE_NAME(mr, nb, s) low_##mr##x##nb##_##s,
#define TILE2_NAME(mr, nb, s) low2_##mr##x##nb##_##s,

/* Strides 1 and 2 of views, stems, and a few sizes for any other. */
TILE_SIZES(TILE, TILE_NB, 64)
TILE_SIZES(TILE, TILE_NB, 128)
TILE_SIZES(TILE, TILE_NB, STEM)
TILE_PAIRS(TILE2, TILE_NB, 64)
TILE_PAIRS(TILE2, TILE_NB, 128)
SIZES_4(TILE, TILE_NB, 0)
#if TILE_NB > 1					/* a last panel of one block */
TILE_SIZES(TILE, 1, 64)
SIZES_4(TILE, 1, 0)
#endif

#define TILE_ANY 4

nn_low_tile_fn
NN_LOW_JOIN(tile, KIND, SET) (int mr, int nb, int stride, int half)
{
	static const nn_low_tile_fn view1[] = {TILE_SIZES(TILE_NAME, TILE_NB, 64)};
	static const nn_low_tile_fn view2[] = {TILE_SIZES(TILE_NAME, TILE_NB, 128)};
	static const nn_low_tile_fn stem[] = {TILE_SIZES(TILE_NAME, TILE_NB, STEM)};
	static const nn_low_tile_fn pair1[] = {TILE_PAIRS(TILE2_NAME, TILE_NB, 64)};
	static const nn_low_tile_fn pair2[] = {TILE_PAIRS(TILE2_NAME, TILE_NB, 128)};
	static const nn_low_tile_fn any[] = {SIZES_4(TILE_NAME, TILE_NB, 0)};
#if TILE_NB > 1
	static const nn_low_tile_fn narrow[] = {TILE_SIZES(TILE_NAME, 1, 64)};
	static const nn_low_tile_fn narrow_any[] = {SIZES_4(TILE_NAME, 1, 0)};

	if (nb == 1)
	{
		if (half != mr || mr > TILE_MR)
			return NULL;
		return stride == 64 ? narrow[mr - 1] : stride == 0 && mr <= TILE_ANY ? narrow_any[mr - 1] : NULL;
	}
#endif
	if (nb > TILE_NB || mr > TILE_MR)
		return NULL;
	if (half != mr)
		return half * 2 != mr ? NULL : stride == 64 ? pair1[half - 1] : stride == 128 ? pair2[half - 1] : NULL;
	switch (stride)
	{
		case 64:
			return view1[mr - 1];
		case 128:
			return view2[mr - 1];
		case STEM:
			return stem[mr - 1];
		case 0:
			return mr <= TILE_ANY ? any[mr - 1] : NULL;
		default:
			return NULL;
	}
}
