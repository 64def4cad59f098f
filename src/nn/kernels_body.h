/*
 * kernels_body.h
 *	  Everything but the tiles, compiled once in each instruction set's file:
 *	  activations with their vector exp, element-wise work, depthwise
 *	  convolution, pools, softmax, layout conversion, and the set's table.
 *
 * The including file defines VW (floats of a vector), vf and vi (vectors of
 * float and int32), vf_load/store/set1/fma/max/min/select, the tiles and
 * find_tile(), and the table's name, isa and rate.  max and min return their
 * second argument if either is NaN: written as max(limit, x) they keep NaNs.
 */
#include "nn/kernels_math.h"

/* ---- activations ---- */

/* act of a vector; kind is a compile-time constant of the caller. */
NN_INLINE vf
act_vec(vf x, const nn_act_kind kind, vf a, vf b)
{
	vf			zero = vf_set1(0);

	switch (kind)
	{
		case nn_act_none:
			return x;
		case nn_act_relu:
			return vf_max(zero, x);
		case nn_act_clip:
			return vf_min(b, vf_max(a, x));
		case nn_act_leaky:
			return vf_select((vi) (x < zero), a * x, x);
		case nn_act_sigmoid:
			return vf_sigmoid(x);
		case nn_act_silu:
			return vf_silu(x);
		case nn_act_tanh:
			return vf_tanh(x);
		case nn_act_hardsigmoid:
			return vf_min(vf_set1(1), vf_max(zero, vf_fma(a, x, b)));
		case nn_act_hardswish:
			return x * vf_min(vf_set1(1), vf_max(zero, vf_fma(x, vf_set1(1.0f / 6), vf_set1(0.5f))));
		case nn_act_gelu:
			return vf_gelu(x);
		case nn_act_elu:
			return vf_select((vi) (x < zero), a * vf_expm1(vf_min(zero, x)), x);
		case nn_act_exp:
			return vf_exp(x);
		case nn_act_gelu_tanh:
			{
				vf			u = x * vf_fma(x * x, vf_set1(0.79788456f * 0.044715f), vf_set1(0.79788456f));

				/* (1 + tanh u) / 2 = sigmoid(2 u) */
				return x * vf_sigmoid(u + u);
			}
		case nn_act_gelu_quick:
			return x * vf_sigmoid(x * vf_set1(1.702f));
	}
	return x;
}

/* n < VW floats as a vector, zeros behind. */
static vf
load_part(const float *p, size_t n)
{
	float		t[VW] = {0};

	memcpy(t, p, n * sizeof(float));
	return vf_load(t);
}

static void
store_part(float *p, vf v, size_t n)
{
	float		t[VW];

	vf_store(t, v);
	memcpy(p, t, n * sizeof(float));
}

NN_INLINE void
act_array(const float *x, float *y, size_t n, const nn_act_kind kind, nn_act act)
{
	vf			a = vf_set1(act.a),
				b = vf_set1(act.b);
	size_t		i = 0;

	for (; i + VW <= n; i += VW)
		vf_store(y + i, act_vec(vf_load(x + i), kind, a, b));
	if (i < n)
		store_part(y + i, act_vec(load_part(x + i, n - i), kind, a, b), n - i);
}

/* rows of n floats */
static void
activate_rows(const float *x, size_t ldx, float *y, size_t ldy, size_t rows, size_t n, nn_act act)
{
#define CASE(k) \
	case k: \
		for (size_t r = 0; r < rows; r++) \
			act_array(x + r * ldx, y + r * ldy, n, k, act); \
		return
	switch (act.kind)
	{
		CASE(nn_act_none);
		CASE(nn_act_relu);
		CASE(nn_act_clip);
		CASE(nn_act_leaky);
		CASE(nn_act_sigmoid);
		CASE(nn_act_silu);
		CASE(nn_act_tanh);
		CASE(nn_act_hardsigmoid);
		CASE(nn_act_hardswish);
		CASE(nn_act_gelu);
		CASE(nn_act_elu);
		CASE(nn_act_exp);
		CASE(nn_act_gelu_tanh);
		CASE(nn_act_gelu_quick);
	}
#undef CASE
}

static void
activate(const float *x, float *y, size_t n, nn_act act)
{
	if (act.kind == nn_act_none && x == y)
		return;
	activate_rows(x, 0, y, 0, 1, n, act);
}

/* Lines that hot loops clipped already: the other activations, padding lanes. */
static void
finish_lines(const nn_view *out, nn_act act, int y0, int y1)
{
	float		lo,
				hi;

	if (!nn_act_is_clip(act, &lo, &hi))
		for (int b = 0; b < nn_blocks(out->c); b++)
			for (int y = y0; y < y1; y++)
			{
				float	   *o = out->data + b * out->blk_pitch + y * out->row_pitch;

				activate(o, o, (size_t) out->w * NN_LANES, act);
			}
	if (nn_act_moves_zero(act))
		nn_zero_lanes(out, y0, y1);
}

/* ---- element-wise ---- */

NN_INLINE vf
binary_vec(const nn_binary op, vf x, vf y)
{
	switch (op)
	{
		case nn_add:
			return x + y;
		case nn_sub:
			return x - y;
		case nn_mul:
			return x * y;
		case nn_div:
			return x / y;
		case nn_min:			/* a NaN on either side stays one */
			return vf_select((vi) (x != x), x, vf_min(x, y));
		case nn_max:
			return vf_select((vi) (x != x), x, vf_max(x, y));
	}
	return x;
}

/* n floats; b advances by VW if step, or returns to its 16 floats (one pixel). */
NN_INLINE void
binary_array(const nn_binary op, const float *a, const float *b, float *y, size_t n, const bool pixel,
			 float lo, float hi)
{
	vf			l = vf_set1(lo),
				h = vf_set1(hi);
	size_t		i = 0;

	for (; i + VW <= n; i += VW)
	{
		vf			v = binary_vec(op, vf_load(a + i), vf_load(b + (pixel ? i % NN_LANES : i)));

		vf_store(y + i, vf_min(h, vf_max(l, v)));
	}
	if (i < n)
	{
		vf			v = binary_vec(op, load_part(a + i, n - i), load_part(b + i, n - i));

		store_part(y + i, vf_min(h, vf_max(l, v)), n - i);
	}
}

static void
binary_run(nn_binary op, const float *a, const float *b, float *y, size_t n, bool pixel, float lo, float hi)
{
#define CASE(o) \
	case o: \
		if (pixel) \
			binary_array(o, a, b, y, n, true, lo, hi); \
		else \
			binary_array(o, a, b, y, n, false, lo, hi); \
		return
	switch (op)
	{
		CASE(nn_add);
		CASE(nn_sub);
		CASE(nn_mul);
		CASE(nn_div);
		CASE(nn_min);
		CASE(nn_max);
	}
#undef CASE
}

static void
binary_flat(nn_binary op, const float *a, const float *b, float *y, size_t n, nn_act act)
{
	float		lo,
				hi;
	bool		clip = nn_act_is_clip(act, &lo, &hi);

	binary_run(op, a, b, y, n, false, lo, hi);
	if (!clip)
		activate(y, y, n, act);
}

static void
binary(nn_binary op, const nn_view *a, const nn_view *b, const nn_view *out, nn_act act, int y0, int y1)
{
	bool		pixel = b->h == 1 && b->w == 1 && (a->h != 1 || a->w != 1);
	float		lo,
				hi;

	nn_act_is_clip(act, &lo, &hi);
	for (int blk = 0; blk < nn_blocks(out->c); blk++)
		for (int y = y0; y < y1; y++)
			binary_run(op, a->data + blk * a->blk_pitch + y * a->row_pitch,
					   b->data + blk * b->blk_pitch + (pixel ? 0 : y * b->row_pitch),
					   out->data + blk * out->blk_pitch + y * out->row_pitch,
					   (size_t) out->w * NN_LANES, pixel, lo, hi);
	finish_lines(out, act, y0, y1);
	if (op == nn_div)			/* 0 / 0 */
		nn_zero_lanes(out, y0, y1);
}

static void
scale_shift(const nn_view *in, const float *scale, const float *shift, const nn_view *out, nn_act act,
			int y0, int y1)
{
	float		lo,
				hi;
	vf			l,
				h;

	nn_act_is_clip(act, &lo, &hi);
	l = vf_set1(lo);
	h = vf_set1(hi);
	for (int blk = 0; blk < nn_blocks(out->c); blk++)
	{
		float		s[NN_LANES] = {0},
					t[NN_LANES] = {0};
		int			c0 = blk * NN_LANES;
		int			n = out->c - c0 < NN_LANES ? out->c - c0 : NN_LANES;

		for (int i = 0; i < n; i++)
		{
			s[i] = scale ? scale[c0 + i] : 1;
			t[i] = shift ? shift[c0 + i] : 0;
		}
		for (int y = y0; y < y1; y++)
		{
			const float *x = in->data + blk * in->blk_pitch + y * in->row_pitch;
			float	   *o = out->data + blk * out->blk_pitch + y * out->row_pitch;

			for (int i = 0; i < out->w * NN_LANES; i += VW)
			{
				vf			v = vf_fma(vf_load(x + i), vf_load(s + i % NN_LANES), vf_load(t + i % NN_LANES));

				vf_store(o + i, vf_min(h, vf_max(l, v)));
			}
		}
	}
	finish_lines(out, act, y0, y1);
}

#include "nn/kernels_depthwise.h"
#include "nn/kernels_spatial.h"
#define WINO_LOAD(p, lane) vf_load((p) + (lane))
#define WINO_STORE(p, lane, y) vf_store((p) + (lane), y)
#define WINO_SILU vf_silu
#define WINO_KEEP(p, lane, y) vf_store((p) + (lane), y)
#include "nn/kernels_winograd.h"

/* ---- softmax ---- */

static void
softmax(const float *x, float *y, size_t rows, size_t n, bool logarithm)
{
	for (size_t r = 0; r < rows; r++, x += n, y += n)
	{
		vf			m = vf_set1(-INFINITY),
					sum = vf_set1(0);
		float		t[VW];
		float		top = -INFINITY,
					total = 0;
		size_t		i = 0;

		for (; i + VW <= n; i += VW)
			m = vf_max(m, vf_load(x + i));
		vf_store(t, m);
		for (int v = 0; v < VW; v++)
			top = t[v] > top || isnan(t[v]) ? t[v] : top;
		for (size_t k = i; k < n; k++)
			top = x[k] > top || isnan(x[k]) ? x[k] : top;
		m = vf_set1(top);
		for (i = 0; i + VW <= n; i += VW)
		{
			vf			d = vf_load(x + i) - m;
			vf			e = vf_exp(d);

			sum = sum + e;
			vf_store(y + i, logarithm ? d : e);
		}
		vf_store(t, sum);
		for (int v = 0; v < VW; v++)
			total += t[v];
		if (i < n)
		{
			vf			d = load_part(x + i, n - i) - m;
			vf			e = vf_exp(d);

			vf_store(t, e);
			for (size_t k = 0; k < n - i; k++)
				total += t[k];
			store_part(y + i, logarithm ? d : e, n - i);
		}
		m = vf_set1(logarithm ? logf(total) : 1 / total);
		for (i = 0; i + VW <= n; i += VW)
			vf_store(y + i, logarithm ? vf_load(y + i) - m : vf_load(y + i) * m);
		if (i < n)
		{
			vf			v = load_part(y + i, n - i);

			store_part(y + i, logarithm ? v - m : v * m, n - i);
		}
	}
}

#include "nn/kernels_rows.h"

/* ---- the table ---- */

static size_t
wino_weights(const nn_conv *cv)
{
	return sizeof(float) * (size_t) cv->cin * NN_LANES * nn_blocks(cv->cout);
}

static void
wino_sums(const nn_conv *cv, const void *b, const float *a, size_t a_blk, int m, float *o, size_t o_blk, void *rest)
{
	(void) rest;
	nn_drive_sums(&KERNELS_OPS, cv->cin, cv->cout, b, a, a_blk, m, o, o_blk);
}

const nn_isa_ops KERNELS_OPS = {
	.isa = KERNELS_ISA,
	.max_mr = TILE_MR,
	.tile = find_tile,
#ifdef TILE3_MR
	.max_mr3 = TILE3_MR,
	.tile3 = find_tile3,
#endif
	.activate = activate,
	.depthwise_line = depthwise_line,
	.wino = {wino_input, wino_output, 1, wino_weights, wino_sums},
};

static size_t
conv_scratch(const nn_conv *cv, int in_h, int in_w, int out_h, int out_w)
{
	return nn_drive_conv_scratch(&KERNELS_OPS, cv, in_h, in_w, out_h, out_w);
}

static void
conv(const nn_conv *cv, const void *pack, const nn_view *in, const nn_view *res, const nn_view *out,
	 int y0, int y1, void *scratch)
{
	nn_drive_conv(&KERNELS_OPS, cv, pack, in, res, out, y0, y1, scratch);
}

static void
conv_planar(const nn_conv *cv, const void *pack, const float *in, int in_h, int in_w, const nn_view *res,
			const nn_view *out, int y0, int y1, void *scratch)
{
	nn_drive_conv_planar(&KERNELS_OPS, cv, pack, in, in_h, in_w, res, out, y0, y1, scratch);
}

static size_t
mbconv_scratch(const nn_mbconv *mb, int in_h, int in_w, int out_h, int out_w)
{
	return nn_drive_mbconv_scratch(&KERNELS_OPS, mb, in_h, in_w, out_h, out_w);
}

static void
mbconv(const nn_mbconv *mb, const void *const *packs, const nn_view *in, const nn_view *res, const nn_view *out,
	   int y0, int y1, void *scratch)
{
	nn_drive_mbconv(&KERNELS_OPS, mb, packs, in, res, out, y0, y1, scratch);
}

static size_t
winograd_scratch(const nn_conv *cv, int out_h, int out_w)
{
	return nn_drive_winograd_scratch(&KERNELS_OPS, cv, out_h, out_w);
}

static void
winograd(const nn_conv *cv, const void *pack, const nn_view *in, const nn_view *res, const nn_view *out,
		 int y0, int y1, void *scratch)
{
	nn_drive_winograd(&KERNELS_OPS, &KERNELS_OPS.wino, cv, pack, in, res, out, y0, y1, scratch);
	if (cv->act.kind != nn_act_silu)
		nn_drive_finish(&KERNELS_OPS, cv->act, out, y0, y1);
}

const nn_kernels KERNELS = {
	.isa = KERNELS_ISA,
	.name = KERNELS_NAME,
	.mac_rate = KERNELS_RATE,
	.conv_scratch = conv_scratch,
	.conv = conv,
	.conv_planar = conv_planar,
	.winograd_scratch = winograd_scratch,
	.winograd = winograd,
	.depthwise = depthwise,
	.mbconv_scratch = mbconv_scratch,
	.mbconv = mbconv,
	.maxpool = maxpool,
	.avgpool = avgpool,
	.global_avgpool = global_avgpool,
	.global_maxpool = global_maxpool,
	.binary = binary,
	.scale_shift = scale_shift,
	.gemm_scratch = gemm_scratch,
	.gemm = gemm,
	.attend_scratch = attend_scratch,
	.attend = attend,
	.layernorm = layernorm,
	.softmax = softmax,
	.activate = activate,
	.binary_flat = binary_flat,
	.to_blocked = to_blocked,
	.from_blocked = from_blocked,
	.copy_channels = copy_channels,
};
