/*
 * ops_quant.h
 *	  Numbers of the quantised operators: real = (q - zero point) * scale.
 *
 * Rounding is half to even, results saturate.
 */
#ifndef MILLRACE_NN_OPS_QUANT_H
#define MILLRACE_NN_OPS_QUANT_H

#include <math.h>

#include "nn/ops_impl.h"

static inline int32_t
nn_q_value(const nn_tensor *t, int64_t i)
{
	switch (t->dtype)
	{
		case nn_uint8:
			return ((const uint8_t *) t->data)[i];
		case nn_int8:
			return ((const int8_t *) t->data)[i];
		case nn_uint16:
			return ((const uint16_t *) t->data)[i];
		case nn_int16:
			return ((const int16_t *) t->data)[i];
	}
	return ((const int32_t *) t->data)[i];
}

/* A zero point; 0 if the input is omitted. */
static inline int32_t
nn_q_zero(const nn_run_call *c, int k, int64_t i)
{
	return k < c->n_in && c->in[k].data ? nn_q_value(&c->in[k], i) : 0;
}

static inline void
nn_q_limits(int dtype, float *lo, float *hi)
{
	*lo = dtype == nn_int8 ? -128 : dtype == nn_int16 ? -32768 : 0;
	*hi = dtype == nn_int8 ? 127 : dtype == nn_uint8 ? 255 : dtype == nn_int16 ? 32767 : 65535;
}

/* round(x) + zero, saturated; NaN becomes the lower limit. */
static inline int32_t
nn_q_saturate(float x, float zero, float lo, float hi)
{
	x = rintf(x) + zero;
	return !(x > lo) ? (int32_t) lo : x < hi ? (int32_t) x : (int32_t) hi;
}

static inline void
nn_q_store(nn_tensor *t, int64_t i, int32_t v)
{
	if (nn_dtype_size(t->dtype) == 1)
		((uint8_t *) t->data)[i] = (uint8_t) v;
	else
		((uint16_t *) t->data)[i] = (uint16_t) v;
}

static inline bool
nn_q_is_8bit(int dtype)
{
	return dtype == nn_uint8 || dtype == nn_int8;
}

#endif							/* MILLRACE_NN_OPS_QUANT_H */
