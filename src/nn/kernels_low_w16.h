/*
 * kernels_low_w16.h
 *	  What the tiles of bfloat16 weights and float32 arithmetic have in common on
 *	  all instruction sets.
 */
typedef vf va;
typedef vf vx;
typedef vf vw;

#define va_load(p) vf_load((const float *) (p))
#define x_load(p) vf_set1(*(const float *) (p))
#define w_load(p) vf_load_bf16((const uint16_t *) (p))
#define va_dot(acc, x, w) vf_fma(x, w, acc)
#define va_value(acc, j, v) (acc)
#define W_BYTES 2
#define E_BYTES 4
#define E_RESIDUAL(j, r) vf_load((const float *) (r))

static inline void
e_store(char *p, vf x, vi zero)
{
	(void) zero;
	vf_store((float *) p, x);
}

#define KIND w16
#define STEM 24
#include "nn/kernels_low_tile.h"

/* Winograd's method: all but the weights is that of float32. */
#include "nn/kernels_low_winograd.h"

static void
winograd(const nn_conv *cv, const void *pack, const nn_low_view *in, const nn_low_view *res, const nn_low_view *out,
		 int y0, int y1, void *scratch)
{
	nn_wino_ops wino = LOW_F32_OPS.wino;

	wino.weights = wino_weights;
	wino.sums = wino_sums;
	nn_drive_winograd(&LOW_F32_OPS, &wino, cv, pack, &in->v, res ? &res->v : NULL, &out->v, y0, y1, scratch);
	if (cv->act.kind != nn_act_silu)
		nn_drive_finish(&LOW_F32_OPS, cv->act, &out->v, y0, y1);
}

#define LOW_ELEM nn_elem_f32
#define LOW_ROW nn_low_row_f32
#define LOW_WORDS nn_low_words_f32
#define LOW_ONLY_TILES
#include "nn/kernels_low_table.h"
