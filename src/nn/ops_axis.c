/*
 * ops_axis.c
 *	  Operators along one axis: CumSum, Hardmax, LpNormalization, TopK,
 *	  ReverseSequence, Trilu.
 *
 * The data are outer x n x inner elements, n along the axis; where inner > 1,
 * the loops run over inner, which is contiguous.
 */
#include <math.h>

#include "nn/ops_util.h"

/* ---- CumSum: i[0] exclusive, i[1] reverse; the axis is an input ---- */

mr_code
nn_infer_cumsum(nn_infer_call *c)
{
	NN_TRY(nn_need_type(c, 0, nn_is_number));
	NN_TRY(nn_need_index(c, 1));
	if (nn_in(c, 1)->elements != 1)
		return nn_infer_fail(c, MR_INVALID, "the axis must be one number");
	NN_TRY(nn_get_int(c, "exclusive", 0, &c->p->i[0]));
	NN_TRY(nn_get_int(c, "reverse", 0, &c->p->i[1]));
	return nn_set_out(c, 0, nn_in(c, 0)->dtype, &nn_in(c, 0)->shape);
}

mr_code
nn_run_cumsum(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	bool		exclusive = c->p->i[0] != 0;
	bool		reverse = c->p->i[1] != 0;
	int64_t		axis,
				n,
				outer,
				inner,
				work = 0;

	if (x->elements == 0)
		return MR_OK;
	NN_INDEX(c, &c->in[1], 0, x->shape.rank, axis);
	nn_around_axis(&x->shape, (int) axis, &outer, &inner);
	n = x->shape.dims[axis];
	for (int64_t o = 0; o < outer; o++)
		for (int64_t i = 0; i < n; i++)
		{
			int64_t		at = reverse ? n - 1 - i : i;
			int64_t		from = reverse ? at + 1 : at - 1;	/* the sum so far */

			if (nn_stop(c, &work, inner + 4))
				return MR_CANCELED;
			NN_WITH_NUMBER(x->dtype,
						   const T *p = (const T *) x->data + o * n * inner;
						   T *y = (T *) c->out[0].data + (o * n + at) * inner;
						   const T *sum = (const T *) c->out[0].data + (o * n + from) * inner;
						   const T *v = p + (exclusive ? from : at) * inner;

						   if (i == 0)
							   for (int64_t k = 0; k < inner; k++)
								   y[k] = exclusive ? 0 : v[k];
						   else
							   for (int64_t k = 0; k < inner; k++)
								   y[k] = NN_WRAP(sum[k], +, v[k]);
				);
		}
	return MR_OK;
}

/* ---- Hardmax: like Softmax, i[0] rows, i[1] n, i[2] inner ---- */

mr_code
nn_run_hardmax(nn_run_call *c)
{
	int64_t		n = c->p->i[1],
				inner = c->p->i[2],
				work = 0;

	for (int64_t r = 0; r < c->p->i[0]; r++)
		for (int64_t k = 0; k < inner; k++)
		{
			const float *x = (const float *) c->in[0].data + r * n * inner + k;
			float	   *y = (float *) c->out[0].data + r * n * inner + k;
			int64_t		best = 0;

			if (nn_stop(c, &work, n * 2))
				return MR_CANCELED;
			for (int64_t i = 0; i < n; i++)
			{
				y[i * inner] = 0;
				if (x[i * inner] > x[best * inner])
					best = i;
			}
			if (n > 0)
				y[best * inner] = 1;
		}
	return MR_OK;
}

/* ---- LpNormalization: i[0] axis, i[1] p ---- */

mr_code
nn_infer_lp_normalization(nn_infer_call *c)
{
	NN_TRY(nn_need_float(c, 0));
	NN_TRY(nn_get_int(c, "axis", -1, &c->p->i[0]));
	NN_TRY(nn_norm_axis(c, &c->p->i[0], nn_in(c, 0)->shape.rank));
	NN_TRY(nn_get_int(c, "p", 2, &c->p->i[1]));
	if (c->p->i[1] != 1 && c->p->i[1] != 2)
		return nn_infer_fail(c, MR_INVALID, "attribute p must be 1 or 2");
	return nn_set_out(c, 0, nn_float32, &nn_in(c, 0)->shape);
}

mr_code
nn_run_lp_normalization(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	int64_t		n = x->shape.dims[c->p->i[0]];
	int64_t		outer,
				inner,
				work = 0;

	nn_around_axis(&x->shape, (int) c->p->i[0], &outer, &inner);
	for (int64_t o = 0; o < outer; o++)
		for (int64_t k = 0; k < inner; k++)
		{
			const float *p = (const float *) x->data + o * n * inner + k;
			float	   *y = (float *) c->out[0].data + o * n * inner + k;
			double		sum = 0;
			float		f;

			if (nn_stop(c, &work, n * 2))
				return MR_CANCELED;
			for (int64_t i = 0; i < n; i++)
				sum += c->p->i[1] == 1 ? fabs(p[i * inner]) : (double) p[i * inner] * p[i * inner];
			f = sum == 0 ? 0 : (float) (1 / (c->p->i[1] == 1 ? sum : sqrt(sum)));
			for (int64_t i = 0; i < n; i++)
				y[i * inner] = p[i * inner] * f;
		}
	return MR_OK;
}

/* ---- TopK: i[0] axis, i[1] k, i[2] largest ---- */

mr_code
nn_infer_topk(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = x->shape;
	int64_t    *p = c->p->i;
	int			n = 1;

	NN_TRY(nn_need_type(c, 0, nn_is_number));
	NN_TRY(nn_get_int(c, "axis", -1, &p[0]));
	NN_TRY(nn_norm_axis(c, &p[0], s.rank));
	NN_TRY(nn_get_int(c, "largest", 1, &p[2]));
	if (c->n->opset < 10)
		NN_TRY(nn_get_int(c, "k", -1, &p[1]));
	else
		NN_TRY(nn_const_ints(c, 1, 1, &p[1], &n));
	if (n != 1 || p[1] < 0 || p[1] > s.dims[p[0]])
		return nn_infer_fail(c, MR_INVALID, "k of %lld for %lld elements", (long long) p[1], (long long) s.dims[p[0]]);
	s.dims[p[0]] = p[1];
	NN_TRY(nn_set_out(c, 1, nn_int64, &s));
	return nn_set_out(c, 0, x->dtype, &s);
}

/* The results are a heap of the best so far, the worst of them on top; among
 * equals the earlier is the better. */
#define DEFINE_TOPK(T) \
static inline bool \
worse_##T(T a, int64_t ia, T b, int64_t ib, bool largest) \
{ \
	return a == b ? ia > ib : largest ? a < b : a > b; \
} \
static void \
sink_##T(T *v, int64_t *ix, int64_t step, int64_t n, bool largest) \
{ \
	const T		top = v[0]; \
	const int64_t top_ix = ix[0]; \
	int64_t		i = 0; \
	for (int64_t child; (child = 2 * i + 1) < n; i = child) \
	{ \
		if (child + 1 < n && worse_##T(v[(child + 1) * step], ix[(child + 1) * step], \
									   v[child * step], ix[child * step], largest)) \
			child++; \
		if (!worse_##T(v[child * step], ix[child * step], top, top_ix, largest)) \
			break; \
		v[i * step] = v[child * step]; \
		ix[i * step] = ix[child * step]; \
	} \
	v[i * step] = top; \
	ix[i * step] = top_ix; \
} \
static void \
rise_##T(T *v, int64_t *ix, int64_t step, int64_t i, bool largest) \
{ \
	const T		x = v[i * step]; \
	const int64_t at = ix[i * step]; \
	for (int64_t up; i > 0 && (up = (i - 1) / 2, worse_##T(x, at, v[up * step], ix[up * step], largest)); i = up) \
	{ \
		v[i * step] = v[up * step]; \
		ix[i * step] = ix[up * step]; \
	} \
	v[i * step] = x; \
	ix[i * step] = at; \
} \
static mr_code \
topk_##T(nn_run_call *c, const T *x, T *v, int64_t *ix, int64_t n, int64_t step, int64_t k, int64_t *work) \
{ \
	const bool	largest = c->p->i[2] != 0; \
	for (int64_t i = 0; i < n; i++) \
	{ \
		if (nn_stop(c, work, 16)) \
			return MR_CANCELED; \
		if (i < k) \
		{ \
			v[i * step] = x[i * step]; \
			ix[i * step] = i; \
			rise_##T(v, ix, step, i, largest); \
		} \
		else if (worse_##T(v[0], ix[0], x[i * step], i, largest)) \
		{ \
			v[0] = x[i * step]; \
			ix[0] = i; \
			sink_##T(v, ix, step, k, largest); \
		} \
	} \
	for (int64_t i = k - 1; i > 0; i--) \
	{ \
		const T		worst = v[0]; \
		const int64_t at = ix[0]; \
		if (nn_stop(c, work, 32)) \
			return MR_CANCELED; \
		v[0] = v[i * step]; \
		ix[0] = ix[i * step]; \
		sink_##T(v, ix, step, i, largest); \
		v[i * step] = worst; \
		ix[i * step] = at; \
	} \
	return MR_OK; \
}

DEFINE_TOPK(float)
DEFINE_TOPK(int8_t)
DEFINE_TOPK(uint8_t)
DEFINE_TOPK(int16_t)
DEFINE_TOPK(uint16_t)
DEFINE_TOPK(int32_t)
DEFINE_TOPK(uint32_t)
DEFINE_TOPK(int64_t)
DEFINE_TOPK(uint64_t)

mr_code
nn_run_topk(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	int64_t		n = x->shape.dims[c->p->i[0]];
	int64_t		k = c->p->i[1];
	int64_t		outer,
				inner,
				work = 0;

	nn_around_axis(&x->shape, (int) c->p->i[0], &outer, &inner);
	for (int64_t o = 0; k > 0 && o < outer * inner; o++)
	{
		int64_t		from = o / inner * n * inner + o % inner;
		int64_t		to = o / inner * k * inner + o % inner;
		int64_t    *ix = (int64_t *) c->out[1].data + to;

#define CASE(dtype, T) \
		case dtype: \
			NN_TRY(topk_##T(c, (const T *) x->data + from, (T *) c->out[0].data + to, ix, n, inner, k, &work)); \
			break
		switch (x->dtype)
		{
				CASE(nn_float32, float);
				CASE(nn_int8, int8_t);
				CASE(nn_uint8, uint8_t);
				CASE(nn_int16, int16_t);
				CASE(nn_uint16, uint16_t);
				CASE(nn_int32, int32_t);
				CASE(nn_uint32, uint32_t);
				CASE(nn_int64, int64_t);
				CASE(nn_uint64, uint64_t);
		}
#undef CASE
	}
	return MR_OK;
}

/* ---- ReverseSequence: i[0] batch axis, i[1] time axis ---- */

mr_code
nn_infer_reverse_sequence(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0),
			   *lens = nn_in(c, 1);

	NN_TRY(nn_need_index(c, 1));
	NN_TRY(nn_get_int(c, "batch_axis", 1, &c->p->i[0]));
	NN_TRY(nn_get_int(c, "time_axis", 0, &c->p->i[1]));
	if (x->shape.rank < 2 || c->p->i[0] + c->p->i[1] != 1 || (c->p->i[0] != 0 && c->p->i[0] != 1))
		return nn_infer_fail(c, MR_INVALID, "batch and time must be the first two axes");
	if (lens->shape.rank != 1 || lens->elements != x->shape.dims[c->p->i[0]])
		return nn_infer_fail(c, MR_INVALID, "%lld lengths for %lld sequences", (long long) lens->elements,
							 (long long) x->shape.dims[c->p->i[0]]);
	return nn_set_out(c, 0, x->dtype, &x->shape);
}

mr_code
nn_run_reverse_sequence(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	int			time_axis = (int) c->p->i[1];
	int64_t		d0 = x->shape.dims[0],
				d1 = x->shape.dims[1],
				steps = x->shape.dims[time_axis];
	size_t		run = x->elements ? (size_t) (x->elements / (d0 * d1)) * nn_dtype_size(x->dtype) : 0;
	int64_t		work = 0;

	for (int64_t a = 0; run && a < d0; a++)
		for (int64_t b = 0; b < d1; b++)
		{
			int64_t		t = time_axis ? b : a;
			int64_t		len = nn_index_at(&c->in[1], time_axis ? a : b);
			int64_t		from;

			if (len < 0 || len > steps)
				return nn_bad_index(c, len, steps);
			if (nn_stop(c, &work, (int64_t) run))
				return MR_CANCELED;
			from = t < len ? len - 1 - t : t;
			memcpy((char *) c->out[0].data + (size_t) (a * d1 + b) * run,
				   (const char *) x->data + (size_t) (time_axis ? a * d1 + from : from * d1 + b) * run, run);
		}
	return MR_OK;
}

/* ---- Trilu: i[0] upper; the diagonal is an input ---- */

mr_code
nn_infer_trilu(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0),
			   *k = nn_in(c, 1);

	NN_TRY(nn_need_index(c, 1));
	NN_TRY(nn_get_int(c, "upper", 1, &c->p->i[0]));
	if (x->shape.rank < 2 || (k && k->elements != 1))
		return nn_infer_fail(c, MR_INVALID, "the input must be matrices, the diagonal one number");
	return nn_set_out(c, 0, x->dtype, &x->shape);
}

mr_code
nn_run_trilu(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	int64_t		rows = x->shape.dims[x->shape.rank - 2],
				cols = x->shape.dims[x->shape.rank - 1];
	size_t		size = nn_dtype_size(x->dtype);
	int64_t		k = c->n_in > 1 && c->in[1].data ? nn_index_at(&c->in[1], 0) : 0;
	int64_t		work = 0;

	k = k < -rows ? -rows : k > cols ? cols : k;
	for (int64_t r = 0; cols && r < x->elements / cols; r++)
	{
		int64_t		edge = r % rows + k + (c->p->i[0] ? 0 : 1);	/* the first column on the right side */
		int64_t		from,
					to;
		char	   *y = (char *) c->out[0].data + (size_t) (r * cols) * size;

		if (nn_stop(c, &work, cols))
			return MR_CANCELED;
		edge = edge < 0 ? 0 : edge > cols ? cols : edge;
		from = c->p->i[0] ? edge : 0;
		to = c->p->i[0] ? cols : edge;
		memset(y, 0, (size_t) cols * size);
		memcpy(y + (size_t) from * size, (const char *) x->data + (size_t) (r * cols + from) * size,
			   (size_t) (to - from) * size);
	}
	return MR_OK;
}
