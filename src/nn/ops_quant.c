/*
 * ops_quant.c
 *	  Between floats and 8 or 16 bits: QuantizeLinear, DequantizeLinear,
 *	  DynamicQuantizeLinear.
 */
#include "nn/ops_quant.h"

/* ---- QuantizeLinear, DequantizeLinear ----
 *
 * A scale belongs to the whole tensor, to an index of an axis, or (since opset
 * 21) to a block of indices of it.  x is seen as outer x len x inner; element
 * (o, a, n) has scale number o * stride_o + a / block * stride_a + n * stride_n.
 */
enum
{
	q_outer, q_len, q_inner, q_block, q_stride_o, q_stride_a, q_stride_n
};

static mr_code
infer_scales(nn_infer_call *c)
{
	const nn_value *x = nn_in(c, 0);
	const nn_value *scale = nn_in(c, 1);
	const nn_value *zero = nn_in(c, 2);
	int64_t    *p = c->p->i;
	int64_t		axis,
				block;

	NN_TRY(nn_need_float(c, 1));
	NN_TRY(nn_get_int(c, "axis", 1, &axis));
	NN_TRY(nn_get_int(c, "block_size", 0, &block));
	if (zero && zero->elements != scale->elements)
		return nn_infer_fail(c, MR_INVALID, "scale and zero point have different shapes");
	p[q_outer] = p[q_len] = p[q_block] = 1;
	p[q_inner] = x->elements;
	if (scale->elements == 1 && scale->shape.rank <= 1 && block == 0)
		return MR_OK;
	if (c->n->opset < 13)
		return nn_infer_fail(c, MR_INVALID, "scales per axis came with opset 13");
	NN_TRY(nn_norm_axis(c, &axis, x->shape.rank));
	for (int i = 0; i < axis; i++)
		p[q_outer] *= x->shape.dims[i];
	p[q_len] = x->shape.dims[axis];
	p[q_inner] = p[q_outer] && p[q_len] ? x->elements / p[q_outer] / p[q_len] : 0;
	p[q_stride_a] = 1;
	if (block == 0)
	{
		if (scale->shape.rank != 1 || scale->elements != p[q_len])
			return nn_infer_fail(c, MR_INVALID, "%lld scales for %lld indices of axis %lld", (long long) scale->elements,
								 (long long) p[q_len], (long long) axis);
		return MR_OK;
	}
	if (block < 0 || block > NN_MAX_DIM || scale->shape.rank != x->shape.rank)
		return nn_infer_fail(c, MR_INVALID, "block_size or scale does not fit");
	for (int i = 0; i < x->shape.rank; i++)
		if (scale->shape.dims[i] != (i == axis ? (p[q_len] + block - 1) / block : x->shape.dims[i]))
			return nn_infer_fail(c, MR_INVALID, "the scale does not fit the blocks of dimension %d", i);
	p[q_block] = block;
	p[q_stride_n] = 1;
	p[q_stride_a] = p[q_inner];
	p[q_stride_o] = p[q_inner] * scale->shape.dims[axis];
	return MR_OK;
}

mr_code
nn_infer_quantize(nn_infer_call *c)
{
	const nn_value *x = nn_in(c, 0);
	const nn_value *zero = nn_in(c, 2);
	int64_t		dtype;

	if (x->dtype != nn_float32 && x->dtype != nn_int32)
		return nn_infer_fail(c, MR_UNSUPPORTED, "type %s is not supported", nn_dtype_name((nn_dtype) x->dtype));
	NN_TRY(nn_get_int(c, "output_dtype", 0, &dtype));
	if (zero && dtype && dtype != zero->dtype)
		return nn_infer_fail(c, MR_INVALID, "output_dtype is not the type of the zero point");
	dtype = zero ? zero->dtype : dtype ? dtype : nn_uint8;
	if (!nn_q_is_8bit((int) dtype) && dtype != nn_uint16 && dtype != nn_int16)
		return nn_infer_fail(c, MR_UNSUPPORTED, "quantising to type %s is not supported", nn_dtype_name((nn_dtype) dtype));
	NN_TRY(infer_scales(c));
	return nn_set_out(c, 0, (int) dtype, &x->shape);
}

mr_code
nn_run_quantize(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	const float *scale = c->in[1].data;
	nn_tensor  *y = &c->out[0];
	const int64_t *p = c->p->i;
	float		lo,
				hi;
	int64_t		i = 0;

	nn_q_limits(y->dtype, &lo, &hi);
	for (int64_t o = 0; o < p[q_outer]; o++)
		for (int64_t a = 0; a < p[q_len]; a++)
		{
			int64_t		k = o * p[q_stride_o] + a / p[q_block] * p[q_stride_a];

			for (int64_t n = 0; n < p[q_inner]; n++, i++, k += p[q_stride_n])
			{
				float		v = x->dtype == nn_float32 ? ((const float *) x->data)[i] :
					(float) ((const int32_t *) x->data)[i];

				if (i % (NN_STOP_WORK / 8) == 0 && mr_interrupted(c->env))
					return MR_CANCELED;
				nn_q_store(y, i, nn_q_saturate(v / scale[k], (float) nn_q_zero(c, 2, k), lo, hi));
			}
		}
	return MR_OK;
}

mr_code
nn_infer_dequantize(nn_infer_call *c)
{
	const nn_value *x = nn_in(c, 0);
	const nn_value *zero = nn_in(c, 2);

	if (!nn_q_is_8bit(x->dtype) && x->dtype != nn_uint16 && x->dtype != nn_int16 && x->dtype != nn_int32)
		return nn_infer_fail(c, MR_UNSUPPORTED, "type %s is not supported", nn_dtype_name((nn_dtype) x->dtype));
	if (zero && zero->dtype != x->dtype)
		return nn_infer_fail(c, MR_INVALID, "the zero point has another type than the input");
	NN_TRY(infer_scales(c));
	return nn_set_out(c, 0, nn_float32, &x->shape);
}

mr_code
nn_run_dequantize(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	const float *scale = c->in[1].data;
	float	   *y = c->out[0].data;
	const int64_t *p = c->p->i;
	int64_t		i = 0;

	for (int64_t o = 0; o < p[q_outer]; o++)
		for (int64_t a = 0; a < p[q_len]; a++)
		{
			int64_t		k = o * p[q_stride_o] + a / p[q_block] * p[q_stride_a];

			for (int64_t n = 0; n < p[q_inner]; n++, i++, k += p[q_stride_n])
			{
				if (i % (NN_STOP_WORK / 8) == 0 && mr_interrupted(c->env))
					return MR_CANCELED;
				y[i] = (float) ((int64_t) nn_q_value(x, i) - nn_q_zero(c, 2, k)) * scale[k];
			}
		}
	return MR_OK;
}

/* ---- DynamicQuantizeLinear: uint8 by the range of the data and zero ---- */

mr_code
nn_infer_dynamic_quantize(nn_infer_call *c)
{
	const nn_value *x = nn_in(c, 0);
	const nn_shape scalar = {0, {0}};

	NN_TRY(nn_need_float(c, 0));
	NN_TRY(nn_set_out(c, 0, nn_uint8, &x->shape));
	NN_TRY(nn_set_out(c, 1, nn_float32, &scalar));
	return nn_set_out(c, 2, nn_uint8, &scalar);
}

mr_code
nn_run_dynamic_quantize(nn_run_call *c)
{
	const float *x = c->in[0].data;
	int64_t		n = c->in[0].elements;
	float		lo = 0,
				hi = 0,
				scale;
	int32_t		zero;

	for (int64_t i = 0; i < n; i++)
	{
		if (i % (NN_STOP_WORK / 4) == 0 && mr_interrupted(c->env))
			return MR_CANCELED;
		lo = x[i] < lo ? x[i] : lo;
		hi = x[i] > hi ? x[i] : hi;
	}
	scale = hi == lo ? 1 : (hi - lo) / 255;
	zero = nn_q_saturate(0 - lo / scale, 0, 0, 255);
	for (int64_t i = 0; c->out[0].data && i < n; i++)
	{
		if (i % (NN_STOP_WORK / 8) == 0 && mr_interrupted(c->env))
			return MR_CANCELED;
		((uint8_t *) c->out[0].data)[i] = (uint8_t) nn_q_saturate(x[i] / scale, (float) zero, 0, 255);
	}
	if (c->n_out > 1 && c->out[1].data)
		*(float *) c->out[1].data = scale;
	if (c->n_out > 2 && c->out[2].data)
		*(uint8_t *) c->out[2].data = (uint8_t) zero;
	return MR_OK;
}
