/*
 * int8_rows.h
 *	  Rows on their way into and out of an int8 product, each with a scale and zero
 *	  point of its own: the functions, and behind INT8_ROWS_SET their body, compiled
 *	  in each instruction set's file.
 *
 * A row x becomes bytes b with x = scale (b - zero), over its range and 0 as ONNX's
 * DynamicQuantizeLinear.  The product of the bytes is then y = sum b w (weights w
 * with their columns' scales); what is meant is scale (y - zero worth) + bias,
 * worth being the sum of a column's weights.
 */
#ifndef MILLRACE_TEXT_INT8_ROWS_H
#define MILLRACE_TEXT_INT8_ROWS_H

#include <stddef.h>
#include <stdint.h>

typedef struct txt_row_scale
{
	float		scale,
				zero;
} txt_row_scale;

typedef struct txt_int8_rows
{
	/* of x times factor, number by number */
	txt_row_scale (*quantize) (const float *x, const float *factor, size_t n, uint8_t *bytes);
	/* y in place, residual added if there is one */
	void		(*finish) (float *y, size_t n, txt_row_scale s, const float *worth, const float *bias, const float *res);
} txt_int8_rows;

extern const txt_int8_rows txt_int8_rows_portable;
#if defined(__x86_64__)
extern const txt_int8_rows txt_int8_rows_avx2;
extern const txt_int8_rows txt_int8_rows_avx512;
#endif

#endif							/* MILLRACE_TEXT_INT8_ROWS_H */

#ifdef INT8_ROWS_SET

#include <math.h>
#include <string.h>

static txt_row_scale
quantize(const float *x, const float *factor, size_t n, uint8_t *bytes)
{
	vf			lo = vf_set1(0),
				hi = vf_set1(0),
				times,
				zero;
	float		least = 0,
				most,
				scale,
				inverse,
				z;
	size_t		i = 0;

	for (; i + VW <= n; i += VW)
	{
		vf			v = vf_load(x + i) * vf_load(factor + i);

		lo = vf_max(vf_set1(0) - v, lo);
		hi = vf_max(v, hi);
	}
	least = -vf_top(lo);
	most = vf_top(hi);
	for (; i < n; i++)
	{
		float		v = x[i] * factor[i];

		least = v < least ? v : least;
		most = v > most ? v : most;
	}
	scale = (most - least) / 255;
	if (!(scale > 1e-30f) || isinf(scale))
		scale = 1;				/* all zeros; infinities have no sensible scale */
	inverse = 1 / scale;
	z = nearbyintf(-least * inverse);
	z = z < 255 ? z : 255;
	times = vf_set1(inverse);
	zero = vf_set1(z);
	for (i = 0; i + VW <= n; i += VW)
		vi_store_u8(bytes + i, vi_round(vf_min(vf_max(vf_fma(vf_load(x + i) * vf_load(factor + i), times, zero), vf_set1(0)),
												 vf_set1(255))));
	if (i < n)
	{
		float		rest[VW] = {0};
		uint8_t		last[VW];

		for (size_t j = i; j < n; j++)
			rest[j - i] = x[j] * factor[j];
		vi_store_u8(last, vi_round(vf_min(vf_max(vf_fma(vf_load(rest), times, zero), vf_set1(0)), vf_set1(255))));
		memcpy(bytes + i, last, n - i);
	}
	return (txt_row_scale) {scale, z};
}

static void
finish(float *y, size_t n, txt_row_scale s, const float *worth, const float *bias, const float *res)
{
	vf			scale = vf_set1(s.scale),
				less = vf_set1(-s.scale * s.zero);
	size_t		i = 0;

	for (; i + VW <= n; i += VW)
	{
		vf			v = vf_fma(vf_load(worth + i), less, vf_fma(vf_load(y + i), scale, vf_load(bias + i)));

		if (res)
			v = v + vf_load(res + i);
		vf_store(y + i, v);
	}
	for (; i < n; i++)
		y[i] = fmaf(worth[i], -s.scale * s.zero, fmaf(y[i], s.scale, bias[i])) + (res ? res[i] : 0);
}

const txt_int8_rows INT8_ROWS_SET = {quantize, finish};

#endif							/* INT8_ROWS_SET */
