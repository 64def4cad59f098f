/*
 * kernels_low_bf16.h
 *	  What the tiles of bfloat16 have in common: sums are float32, elements are
 *	  rounded to bfloat16.
 */
typedef vf va;

#define va_load(p) vf_load((const float *) (p))
#define w_load(p) vi_load(p)
#define va_value(acc, j, v) (acc)
#define W_BYTES 4
#define E_BYTES 2
#define E_RESIDUAL(j, r) vf_load_bf16((const uint16_t *) (r))

static inline void
e_store(char *p, vf x, vi zero)
{
	(void) zero;
	_mm256_storeu_si256((__m256i *) p, (__m256i) _mm512_cvtneps_pbh(x));
}

/* x sigmoid(x) to 13 bits: enough for what is rounded to 8.  Below -120 it is 0, as
 * is the reciprocal of infinity. */
static inline __attribute__((always_inline)) vf
silu_short(vf x)
{
	vf			c = vf_max(vf_set1(-120), x),
				t = c * vf_set1(-1.44269504f),
				n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
				f = t - n,
				p = vf_set1(0.0551716668f);

	p = vf_fma(p, f, vf_set1(0.242611135f));
	p = vf_fma(p, f, vf_set1(0.693260987f));
	p = vf_fma(p, f, vf_set1(0.999928073f));
	return c * _mm512_rcp14_ps(vf_set1(1) + _mm512_scalef_ps(p, n));
}

static inline void
store_silu(const nn_low_job *j, char *o, const vf *f, int nb)
{
	if (nb == 2 && j->out_blk == VW * E_BYTES)
		_mm512_storeu_si512(o, (__m512i) _mm512_cvtne2ps_pbh(silu_short(f[1]), silu_short(f[0])));
	else
		for (int v = 0; v < nb; v++)
			e_store(o + v * j->out_blk, silu_short(f[v]), vi_set1(0));
}

#define E_STORE_SILU store_silu

/* n elements, float32 or bfloat16 already, as bfloat16: rows of products on their way in. */
static void
row_bf16(const void *in, nn_quant q, char *out, int n)
{
	const float *x = in;
	int			i = 0;

	if (q.elem != nn_elem_f32)
	{
		NN_LOW_NAME(row_bf16, BODY) (in, q, out, n);
		return;
	}
	for (; i + VW <= n; i += VW)
		e_store(out + i * E_BYTES, vf_load(x + i), vi_set1(0));
	if (i < n)
	{
		float		rest[VW] = {0};
		char		t[VW * E_BYTES];

		memcpy(rest, x + i, (size_t) (n - i) * sizeof(float));
		e_store(t, vf_load(rest), vi_set1(0));
		memcpy(out + i * E_BYTES, t, (size_t) (n - i) * E_BYTES);
	}
}

#define KIND bf16
#define STEM 16
#ifndef LOW_TILES
#define LOW_TILES "nn/kernels_low_tile.h"
#endif
#include LOW_TILES

#ifdef LOW_F32_OPS
/* Winograd's method: transforms in float32, products of bfloat16. */
#define WINO_LOAD(p, lane) vf_load_bf16((const uint16_t *) (p) + (lane))
#define WINO_STORE(p, lane, y) e_store((char *) ((uint16_t *) (p) + (lane)), y, vi_set1(0))
#define WINO_KEEP WINO_STORE
#define WINO_SILU silu_short
#include "nn/kernels_winograd.h"

#include "nn/kernels_low_winograd.h"

static const nn_wino_ops wino_ops = {wino_input, wino_output, 2, wino_weights, wino_sums};

static void
winograd(const nn_conv *cv, const void *pack, const nn_low_view *in, const nn_low_view *res, const nn_low_view *out,
		 int y0, int y1, void *scratch)
{
	nn_drive_winograd(&LOW_F32_OPS, &wino_ops, cv, pack, &in->v, res ? &res->v : NULL, &out->v, y0, y1, scratch);
	nn_low_zero_lanes(out, y0, y1);
}
#endif

#define LOW_ELEM nn_elem_bf16
#define LOW_ROW row_bf16
#define LOW_WORDS NN_LOW_NAME(words_bf16, BODY)
#include "nn/kernels_low_table.h"
