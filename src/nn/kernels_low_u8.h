/*
 * kernels_low_u8.h
 *	  What the tiles of uint8 have in common on all instruction sets: sums are
 *	  int32, values are sum * mult + add, elements are bytes.
 *
 * The including file has defined va_dot() and the tile's size.
 */
typedef vi va;

#define va_load(p) vi_load(p)
#define w_load(p) vi_load(p)
#define W_BYTES 4
#define E_BYTES 1

/* As the portable set: each product and sum rounds. */
static inline vf
va_value(va acc, const nn_low_job *j, int v)
{
	vf			f = vf_from_vi(acc) * vf_load(j->mult + v);

	if (j->add)
		f = f + vf_load(j->add + v);
	return f;
}

#define E_RESIDUAL(j, r) \
	((vf_from_vi(vi_load_u8((const uint8_t *) (r))) - vf_set1((j)->res_zero)) * vf_set1((j)->res_mult))

static inline void
e_store(char *p, vf x, vi zero)
{
	vi_store_u8((uint8_t *) p, vi_round(x) + zero);
}

#if TILE_NB == 2				/* 512-bit vectors: two of them are one of 16-bit numbers */
static inline void
store_blocks(const nn_low_job *j, char *p, const vf *x)
{
	/* the drive saw to it that no sum leaves int32; rounding before the clip is the same */
	__m512i		h = _mm512_packs_epi32((__m512i) vi_round(x[0]), (__m512i) vi_round(x[1]));
	__m256i		b;

	h = _mm512_adds_epi16(h, _mm512_set1_epi16((int16_t) j->zero));
	h = _mm512_min_epi16(_mm512_max_epi16(h, _mm512_set1_epi16(j->least)), _mm512_set1_epi16(j->most));
	b = _mm512_cvtepi16_epi8(h);	/* quarters of both by turns */
	_mm256_storeu_si256((__m256i *) p, _mm256_permutevar8x32_epi32(b, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7)));
}
#define E_STORE_BLOCKS store_blocks
#endif

#define KIND u8
#define STEM 8
#ifndef LOW_TILES
#define LOW_TILES "nn/kernels_low_tile.h"
#endif
#include LOW_TILES

#define LOW_ELEM nn_elem_u8
#define LOW_ROW NN_LOW_NAME(row_u8, BODY)
#define LOW_WORDS NN_LOW_NAME(words_u8, BODY)
#include "nn/kernels_low_table.h"
