/*
 * ops_make.c
 *	  Tensors that come from numbers: Range, EyeLike, window functions,
 *	  MelWeightMatrix.
 *
 * What determines a shape must be constant, so most of these vanish in constant
 * folding; run() is what folds them.
 */
#include <math.h>

#include "nn/onnx.h"
#include "nn/ops_util.h"

/* A constant scalar input as a double. */
static mr_code
const_number(nn_infer_call *c, int k, double *out)
{
	nn_value   *v = nn_in(c, k);

	NN_TRY(nn_need_type(c, k, nn_is_number));
	NN_TRY(nn_need_const(c, k));
	if (v->elements != 1)
		return nn_infer_fail(c, MR_INVALID, "input %d must be one number", k);
	NN_WITH_NUMBER(v->dtype, *out = (double) *(const T *) v->data;);
	return MR_OK;
}

/* The type named by an attribute, as the engine stores it. */
static mr_code
output_type(nn_infer_call *c, const char *name, int64_t dflt, int *dtype)
{
	int64_t		to;

	NN_TRY(nn_get_int(c, name, dflt, &to));
	if (to <= 0 || to > 16 || nn_dtype_size((int) to) == 0)
		return nn_infer_fail(c, MR_UNSUPPORTED, "type %lld of attribute %s is not supported", (long long) to, name);
	*dtype = nn_onnx_storage((int32_t) to);
	return MR_OK;
}

/* ---- Range ---- */

mr_code
nn_infer_range(nn_infer_call *c)
{
	double		start,
				limit,
				delta,
				n;
	nn_shape	s = {1, {0}};

	NN_TRY(const_number(c, 0, &start));
	NN_TRY(const_number(c, 1, &limit));
	NN_TRY(const_number(c, 2, &delta));
	if (nn_in(c, 0)->dtype != nn_in(c, 1)->dtype || nn_in(c, 0)->dtype != nn_in(c, 2)->dtype)
		return nn_infer_fail(c, MR_INVALID, "start, limit and delta differ in type");
	n = ceil((limit - start) / delta);
	if (!(n <= (double) NN_MAX_DIM))
		return nn_infer_fail(c, MR_INVALID, "no finite range");
	s.dims[0] = n > 0 ? (int64_t) n : 0;
	return nn_set_out(c, 0, nn_in(c, 0)->dtype, &s);
}

mr_code
nn_run_range(nn_run_call *c)
{
	int64_t		work = 0;

	NN_WITH_NUMBER(c->out[0].dtype,
				   const T start = *(const T *) c->in[0].data;
				   const T delta = *(const T *) c->in[2].data;
				   T *y = c->out[0].data;

				   for (int64_t i = 0; i < c->out[0].elements; i++)
				   {
					   const T		step = NN_WRAP(delta, *, (T) i);

					   if (nn_stop(c, &work, 1))
						   return MR_CANCELED;
					   y[i] = NN_WRAP(start, +, step);
				   }
		);
	return MR_OK;
}

/* ---- EyeLike: i[0] = diagonal ---- */

mr_code
nn_infer_eye_like(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	int			dtype;

	NN_TRY(output_type(c, "dtype", x->declared, &dtype));
	NN_TRY(nn_get_int(c, "k", 0, &c->p->i[0]));
	if (x->shape.rank != 2 || c->p->i[0] > NN_MAX_DIM || c->p->i[0] < -NN_MAX_DIM)
		return nn_infer_fail(c, MR_INVALID, "the input must be a matrix");
	return nn_set_out(c, 0, dtype, &x->shape);
}

mr_code
nn_run_eye_like(nn_run_call *c)
{
	nn_tensor  *y = &c->out[0];
	int64_t		cols = y->shape.dims[1];

	memset(y->data, 0, (size_t) y->elements * nn_dtype_size(y->dtype));
	for (int64_t i = 0; i < y->shape.dims[0]; i++)
		if (i + c->p->i[0] >= 0 && i + c->p->i[0] < cols)
			NN_WITH_NUMBER_OR_BOOL(y->dtype, ((T *) y->data)[i * cols + i + c->p->i[0]] = 1;);
	return MR_OK;
}

/* ---- HannWindow, HammingWindow, BlackmanWindow (op->arg): i[0] = periodic ---- */

mr_code
nn_infer_window_function(nn_infer_call *c)
{
	nn_shape	s = {1, {0}};
	double		size;
	int			dtype;

	NN_TRY(output_type(c, "output_datatype", nn_float32, &dtype));
	NN_TRY(nn_get_int(c, "periodic", 1, &c->p->i[0]));
	NN_TRY(const_number(c, 0, &size));
	if (!(size >= 0 && size <= NN_MAX_DIM))
		return nn_infer_fail(c, MR_INVALID, "size %g is out of range", size);
	s.dims[0] = (int64_t) size;
	return nn_set_out(c, 0, dtype, &s);
}

mr_code
nn_run_window_function(nn_run_call *c)
{
	static const double coefficients[3][3] = {{0.5, 0.5, 0}, {25.0 / 46, 21.0 / 46, 0}, {0.42, 0.5, 0.08}};
	const double *a = coefficients[c->op->arg];
	nn_tensor  *y = &c->out[0];
	int64_t		n = y->elements;
	double		period = c->p->i[0] ? (double) n : n > 1 ? (double) (n - 1) : 1;
	int64_t		work = 0;

	for (int64_t i = 0; i < n; i++)
	{
		double		t = 2 * M_PI * (double) i / period;
		double		v = a[0] - a[1] * cos(t) + a[2] * cos(2 * t);

		if (nn_stop(c, &work, 64))
			return MR_CANCELED;
		NN_WITH_NUMBER(y->dtype, ((T *) y->data)[i] = (T) v;);
	}
	return MR_OK;
}

/* ---- MelWeightMatrix: bins, DFT length, sample rate, lower and upper edge in Hz ---- */

mr_code
nn_infer_mel(nn_infer_call *c)
{
	nn_shape	s = {2, {0}};
	double		v[5];
	int			dtype;

	NN_TRY(output_type(c, "output_datatype", nn_float32, &dtype));
	for (int k = 0; k < 5; k++)
		NN_TRY(const_number(c, k, &v[k]));
	if (!(v[0] >= 1 && v[0] <= 65536 && v[1] >= 1 && v[1] <= 1 << 24 && v[2] >= 1 && v[3] >= 0 && v[4] >= v[3]))
		return nn_infer_fail(c, MR_INVALID, "bins, length, rate or edges are out of range");
	s.dims[0] = (int64_t) v[1] / 2 + 1;
	s.dims[1] = (int64_t) v[0];
	return nn_set_out(c, 0, dtype, &s);
}

static double
mel_bin(double i, double bins, double low, double high, double length, double rate)
{
	double		lo = 2595 * log10(1 + low / 700),
				hi = 2595 * log10(1 + high / 700);
	double		hz = 700 * (pow(10, (lo + i * (hi - lo) / (bins + 2)) / 2595) - 1);

	return floor((length + 1) * hz / rate);
}

mr_code
nn_run_mel(nn_run_call *c)
{
	nn_tensor  *y = &c->out[0];
	int64_t		rows = y->shape.dims[0],
				cols = y->shape.dims[1];
	double		v[5] = {0};
	int64_t		work = 0;

	for (int k = 0; k < 5; k++)
		NN_WITH_NUMBER(c->in[k].dtype, v[k] = (double) *(const T *) c->in[k].data;);
	memset(y->data, 0, (size_t) y->elements * nn_dtype_size(y->dtype));
	for (int64_t b = 0; b < cols; b++)
	{
		double		lo = mel_bin((double) b, v[0], v[3], v[4], v[1], v[2]),
					mid = mel_bin((double) b + 1, v[0], v[3], v[4], v[1], v[2]),
					hi = mel_bin((double) b + 2, v[0], v[3], v[4], v[1], v[2]);

		for (int64_t r = 0; r < rows; r++)
		{
			double		f = (double) r;
			double		w = f == mid && lo == mid ? 1 : f >= lo && f <= mid && lo != mid ? (f - lo) / (mid - lo) :
				f >= mid && f < hi && hi != mid ? (hi - f) / (hi - mid) : 0;

			if (nn_stop(c, &work, 8))
				return MR_CANCELED;
			NN_WITH_NUMBER(y->dtype, ((T *) y->data)[r * cols + b] = (T) w;);
		}
	}
	return MR_OK;
}
