/*
 * ops_cast.c
 *	  Cast and CastLike among all numeric types.
 *
 * Half types are float32 here: a cast to one rounds the value to what the half
 * type can hold, to nearest even (params.i[0]: 0 no rounding, 1 float16,
 * 2 bfloat16).  Floats become integers by truncation; what does not fit
 * saturates, NaN becomes 0.  Integers become integers by their low bits.
 */
#include <math.h>

#include "nn/onnx.h"
#include "nn/ops_util.h"

enum rounding
{
	round_none = 0, round_float16 = 1, round_bfloat16 = 2
};

/* op->arg 1, CastLike: to the type of input 1. */
mr_code
nn_infer_cast(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	int64_t		to;

	if (c->n->op->arg)
		to = nn_in(c, 1)->declared;
	else
		NN_TRY(nn_get_int(c, "to", 0, &to));
	if (to <= 0 || to > 16 || nn_dtype_size((int) to) == 0)
		return nn_infer_fail(c, MR_UNSUPPORTED, "casts to %s are not supported",
							 to < 0 || to > 64 ? "this type" : nn_dtype_name((nn_dtype) to));
	if (to != x->declared)
		c->p->i[0] = to == nn_float16 ? round_float16 : to == nn_bfloat16 ? round_bfloat16 : round_none;
	NN_TRY(nn_set_out(c, 0, nn_onnx_storage((int32_t) to), &x->shape));
	if (nn_out(c, 0))
		nn_out(c, 0)->declared = (int32_t) to;
	return MR_OK;
}

/* The nearest float16, as a float: 10 bits of mantissa, or multiples of 2^-24. */
static inline float
to_float16(float x)
{
	uint32_t	bits;
	uint32_t	size;
	float		y;

	memcpy(&bits, &x, 4);
	size = bits & 0x7fffffff;
	if (size < 0x38800000)
		return rintf(x * 16777216.0f) * (1 / 16777216.0f);
	if (size > 0x7f800000)
		return x;
	size = size >= 0x477ff000 ? 0x7f800000 : (size + 0xfff + (size >> 13 & 1)) & ~UINT32_C(0x1fff);
	bits = (bits & 0x80000000) | size;
	memcpy(&y, &bits, 4);
	return y;
}

/* The nearest bfloat16: the upper half of the float's bits. */
static inline float
to_bfloat16(float x)
{
	uint32_t	bits;
	float		y;

	if (x != x)
		return x;
	memcpy(&bits, &x, 4);
	bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
	memcpy(&y, &bits, 4);
	return y;
}

static void
cast_to_float(const nn_tensor *x, float *y, int64_t from, int64_t n)
{
	NN_WITH_NUMBER_OR_BOOL(x->dtype,
						   for (int64_t i = from; i < from + n; i++)
							   y[i] = (float) ((const T *) x->data)[i];
		);
}

static void
cast_to_bool(const nn_tensor *x, uint8_t *y, int64_t from, int64_t n)
{
	NN_WITH_NUMBER_OR_BOOL(x->dtype,
						   for (int64_t i = from; i < from + n; i++)
							   y[i] = ((const T *) x->data)[i] != 0;
		);
}

static void
float_to_integer(const float *x, nn_tensor *y, int64_t from, int64_t n)
{
	NN_WITH_INTEGER(y->dtype,
					const bool is_signed = (T) -1 < 1;
					const int bits = (int) sizeof(T) * 8;
					const T least = is_signed ? (T) (UINT64_C(1) << (bits - 1)) : 0;
					const float lo = is_signed ? -ldexpf(1, bits - 1) : 0;
					const float hi = ldexpf(1, is_signed ? bits - 1 : bits);

					for (int64_t i = from; i < from + n; i++)
						((T *) y->data)[i] = x[i] != x[i] ? 0 : x[i] <= lo ? least : x[i] >= hi ? (T) ~least : (T) x[i];
		);
}

/* By way of 64 bits: what a narrower type cuts off is the same from there. */
static void
integer_to_integer(const nn_tensor *x, nn_tensor *y, int64_t from, int64_t n)
{
	uint64_t	wide[256];

	for (int64_t done = 0; done < n; done += 256)
	{
		int			now = n - done < 256 ? (int) (n - done) : 256;

		NN_WITH_NUMBER_OR_BOOL(x->dtype,
							   for (int i = 0; i < now; i++)
								   wide[i] = (uint64_t) ((const T *) x->data)[from + done + i];
			);
		NN_WITH_INTEGER(y->dtype,
						for (int i = 0; i < now; i++)
							((T *) y->data)[from + done + i] = (T) wide[i];
			);
	}
}

mr_code
nn_run_cast(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	nn_tensor  *y = &c->out[0];
	float	   *f = y->data;

	for (int64_t at = 0; at < x->elements; at += NN_STOP_WORK / 4)
	{
		int64_t		n = x->elements - at < NN_STOP_WORK / 4 ? x->elements - at : NN_STOP_WORK / 4;

		if (at && mr_interrupted(c->env))
			return MR_CANCELED;
		if (y->dtype == nn_bool)
			cast_to_bool(x, y->data, at, n);
		else if (y->dtype == nn_float32)
			cast_to_float(x, f, at, n);
		else if (x->dtype == nn_float32)
			float_to_integer(x->data, y, at, n);
		else
			integer_to_integer(x, y, at, n);
		if (c->p->i[0] == round_float16)
			for (int64_t i = at; i < at + n; i++)
				f[i] = to_float16(f[i]);
		else if (c->p->i[0] == round_bfloat16)
			for (int64_t i = at; i < at + n; i++)
				f[i] = to_bfloat16(f[i]);
	}
	return MR_OK;
}
