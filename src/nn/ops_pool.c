/*
 * ops_pool.c
 *	  Pools on plain tensors, over 1 to 3 dimensions: maximum with or without its
 *	  position, average, Lp norm, whole images, and MaxUnpool.
 *
 * A line of the result is filled cell by cell of the window: for one cell, every
 * output position whose cell lies inside the input.
 */
#include <math.h>

#include "nn/ops_util.h"

/* ---- MaxPool, AveragePool, LpPool ---- */

static bool
is_poolable(int dtype)
{
	return dtype == nn_float32 || dtype == nn_int8 || dtype == nn_uint8;
}

mr_code
nn_infer_pool(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = x->shape;

	if (c->n->op->kind == nn_kind_maxpool)
		NN_TRY(nn_need_type(c, 0, is_poolable));
	else
		NN_TRY(nn_need_float(c, 0));
	NN_TRY(nn_infer_window(c, NULL, &s));
	NN_TRY(nn_get_int(c, "count_include_pad", 0, &c->p->i[nn_w_count_pad]));
	NN_TRY(nn_get_int(c, "storage_order", 0, &c->p->i[nn_w_order]));
	NN_TRY(nn_get_int(c, "p", 2, &c->p->i[nn_w_norm]));
	c->p->i[nn_w_count_pad] = c->p->i[nn_w_count_pad] != 0;
	if (c->p->i[nn_w_norm] < 1)
		return nn_infer_fail(c, MR_INVALID, "attribute p must be positive");
	NN_TRY(nn_set_out(c, 1, nn_int64, &s));
	return nn_set_out(c, 0, x->dtype, &s);
}

/* A cell of the window over a line of the result. */
typedef struct cell
{
	const nn_tensor *x;
	nn_tensor  *y;
	int64_t		row;			/* first element of the line in y */
	int64_t		line;			/* first element of the input's line */
	int64_t		off,			/* position X reads line[X * step + off] */
				step;
	int64_t		from,
				to;				/* X whose cell is inside */
	int64_t    *index;			/* of the line; NULL: not wanted */
	int64_t		first,			/* index of the line's first element, and of the next ones */
				stride;
} cell;

static void
take_max(const cell *k)
{
	NN_WITH_NUMBER(k->y->dtype,
				   T *row = (T *) k->y->data + k->row;
				   const T *line = (const T *) k->x->data + k->line + k->off;

				   if (k->index == NULL)
					   for (int64_t X = k->from; X < k->to; X++)
					   {
						   const T		v = line[X * k->step];

						   row[X] = row[X] > v ? row[X] : v;
					   }
				   else
					   for (int64_t X = k->from; X < k->to; X++)
					   {
						   const T		v = line[X * k->step];

						   if (v > row[X] || k->index[X] < 0)
						   {
							   row[X] = v;
							   k->index[X] = k->first + (X * k->step + k->off) * k->stride;
						   }
					   }
		);
}

static void
take_sum(const cell *k, int64_t norm)
{
	float	   *row = (float *) k->y->data + k->row;
	const float *line = (const float *) k->x->data + k->line + k->off;

	for (int64_t X = k->from; X < k->to; X++)
	{
		float		v = line[X * k->step];

		row[X] += norm == 0 ? v : norm == 1 ? fabsf(v) : norm == 2 ? v * v : powf(fabsf(v), (float) norm);
	}
}

static void
start_line(nn_tensor *y, int64_t row, int64_t n, bool max)
{
	if (y->dtype == nn_float32)
		for (int64_t X = 0; X < n; X++)
			((float *) y->data)[row + X] = max ? -INFINITY : 0;
	else
		memset((uint8_t *) y->data + row, y->dtype == nn_int8 ? 0x80 : 0, (size_t) n);
}

/* Cells of a window at position `at` along an axis that count for an average. */
static int64_t
counted(int64_t at, int64_t kernel, int64_t stride, int64_t dilation, int64_t lo, int64_t hi, int64_t in, bool pads)
{
	int64_t		n = 0;

	for (int64_t k = 0; k < kernel; k++)
	{
		int64_t		v = at * stride - lo + k * dilation;

		/* stated pads may count, cells beyond them (ceil) do not */
		n += pads ? v < in + hi : v >= 0 && v < in;
	}
	return n;
}

static void
divide_line(nn_run_call *c, const nn_volume *x, const nn_volume *y, int64_t row, int64_t Y, int64_t Z)
{
	const int64_t *p = c->p->i;
	bool		pads = p[nn_w_count_pad] != 0;
	float	   *r = (float *) c->out[0].data + row;
	int64_t		outer = counted(Z, p[nn_w_kd], p[nn_w_sd], p[nn_w_dd], p[nn_w_pf], p[nn_w_pk], x->d, pads) *
		counted(Y, p[nn_w_kh], p[nn_w_sh], p[nn_w_dh], p[nn_w_pt], p[nn_w_pb], x->h, pads);

	for (int64_t X = 0; X < y->w; X++)
	{
		int64_t		n = outer * counted(X, p[nn_w_kw], p[nn_w_sw], p[nn_w_dw], p[nn_w_pl], p[nn_w_pr], x->w, pads);

		r[X] = n ? r[X] / (float) n : 0;
	}
}

static void
root_line(float *r, int64_t n, int64_t norm)
{
	for (int64_t X = 0; X < n; X++)
		r[X] = norm == 1 ? r[X] : norm == 2 ? sqrtf(r[X]) : powf(r[X], 1 / (float) norm);
}

mr_code
nn_run_pool(nn_run_call *c)
{
	const int64_t *p = c->p->i;
	bool		max = c->op->kind == nn_kind_maxpool,
				average = c->op->kind == nn_kind_avgpool;
	nn_volume	x = nn_volume_of(&c->in[0].shape),
				y = nn_volume_of(&c->out[0].shape);
	int64_t    *indices = c->n_out > 1 ? c->out[1].data : NULL;
	bool		by_column = p[nn_w_order] != 0;
	int64_t		work = 0;
	cell		k = {.x = &c->in[0],.y = &c->out[0],.step = p[nn_w_sw]};

	k.stride = by_column ? x.d * x.h : 1;
	for (int64_t l = 0; l < y.n * y.c * y.d * y.h; l++)
	{
		int64_t		Y = l % y.h,
					Z = l / y.h % y.d,
					plane = l / (y.h * y.d);

		if (nn_stop(c, &work, y.w * p[nn_w_kd] * p[nn_w_kh] * p[nn_w_kw]))
			return MR_CANCELED;
		k.row = l * y.w;
		k.index = indices ? indices + k.row : NULL;
		start_line(k.y, k.row, y.w, max);
		for (int64_t X = 0; indices && X < y.w; X++)
			k.index[X] = -1;
		for (int64_t t = 0; t < p[nn_w_kd] * p[nn_w_kh]; t++)
		{
			int64_t		sz = Z * p[nn_w_sd] - p[nn_w_pf] + t / p[nn_w_kh] * p[nn_w_dd];
			int64_t		sy = Y * p[nn_w_sh] - p[nn_w_pt] + t % p[nn_w_kh] * p[nn_w_dh];

			if (sz < 0 || sz >= x.d || sy < 0 || sy >= x.h)
				continue;
			k.line = ((plane * x.d + sz) * x.h + sy) * x.w;
			k.first = by_column ? plane * x.d * x.h * x.w + sz + sy * x.d : k.line;
			for (int64_t tap = 0; tap < p[nn_w_kw]; tap++)
			{
				k.off = tap * p[nn_w_dw] - p[nn_w_pl];
				nn_span(k.off, k.step, x.w, y.w, &k.from, &k.to);
				if (max)
					take_max(&k);
				else
					take_sum(&k, average ? 0 : p[nn_w_norm]);
			}
		}
		if (average)
			divide_line(c, &x, &y, k.row, Y, Z);
		else if (!max)
			root_line((float *) c->out[0].data + k.row, y.w, p[nn_w_norm]);
	}
	return MR_OK;
}

/* ---- GlobalAveragePool, GlobalMaxPool, GlobalLpPool (op->arg 1): i[0] = p ---- */

mr_code
nn_infer_global_pool(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = x->shape;

	NN_TRY(nn_need_float(c, 0));
	NN_TRY(nn_get_int(c, "p", 2, &c->p->i[0]));
	if (s.rank < 2 || c->p->i[0] < 1)
		return nn_infer_fail(c, MR_INVALID, "input of %d dimensions, or p is not positive", s.rank);
	for (int i = 2; i < s.rank; i++)
	{
		if (s.dims[i] < 1)
			return nn_infer_fail(c, MR_INVALID, "empty input");
		s.dims[i] = 1;
	}
	return nn_set_out(c, 0, nn_float32, &s);
}

mr_code
nn_run_global_pool(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	int64_t		planes = c->out[0].elements;
	int64_t		cells = planes ? x->elements / planes : 0;
	const float *p = x->data;
	int64_t		norm = c->op->arg ? c->p->i[0] : 0;
	int64_t		work = 0;

	for (int64_t n = 0; n < planes; n++, p += cells)
	{
		double		sum = 0;
		float		top = -INFINITY;

		if (nn_stop(c, &work, cells * (norm > 2 ? 32 : 2)))
			return MR_CANCELED;
		for (int64_t i = 0; i < cells; i++)
		{
			sum += norm == 0 ? p[i] : norm == 1 ? fabsf(p[i]) : norm == 2 ? (double) p[i] * p[i] : pow(fabsf(p[i]), (double) norm);
			top = p[i] > top ? p[i] : top;
		}
		((float *) c->out[0].data)[n] = c->op->kind == nn_kind_global_maxpool ? top :
			(float) (norm ? pow(sum, 1 / (double) norm) : sum / (double) cells);
	}
	return MR_OK;
}

/* ---- MaxUnpool: values, their positions in the result, its shape (may be omitted) ---- */

mr_code
nn_infer_max_unpool(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0),
			   *ix = nn_in(c, 1);
	nn_shape	s = x->shape;

	if (ix->dtype != nn_int64 || !nn_shape_equal(&x->shape, &ix->shape))
		return nn_infer_fail(c, MR_INVALID, "positions do not fit the values");
	NN_TRY(nn_infer_window_back(c, NULL, &s));
	/* positions count in this shape, even where a larger one is asked for */
	memcpy(c->p->i + nn_w_unpooled, s.dims, sizeof(s.dims));
	if (nn_in(c, 2))
	{
		NN_TRY(nn_const_ints(c, 2, NN_MAX_RANK, s.dims, &s.rank));
		for (int i = 0; i < s.rank && s.rank == x->shape.rank; i++)
			if (s.dims[i] < c->p->i[nn_w_unpooled + i])
				return nn_infer_fail(c, MR_INVALID, "output shape is too small");
	}
	if (s.rank != x->shape.rank)
		return nn_infer_fail(c, MR_INVALID, "output shape of %d dimensions", s.rank);
	return nn_set_out(c, 0, x->dtype, &s);
}

mr_code
nn_run_max_unpool(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	nn_tensor  *y = &c->out[0];
	const int64_t *dims = c->p->i + nn_w_unpooled;
	size_t		size = nn_dtype_size(y->dtype);
	int64_t		positions = 1,
				work = 0;

	for (int i = 0; i < y->shape.rank; i++)
		positions *= dims[i];
	memset(y->data, 0, (size_t) y->elements * size);
	NN_WITH_SIZE(size,
				 for (int64_t i = 0; i < x->elements; i++)
				 {
					 int64_t		at,
								off = 0,
								stride = 1;

					 if (nn_stop(c, &work, 16))
						 return MR_CANCELED;
					 NN_INDEX(c, &c->in[1], i, positions, at);
					 for (int k = y->shape.rank - 1; k >= 0; at /= dims[k], stride *= y->shape.dims[k--])
						 off += at % dims[k] * stride;
					 ((T *) y->data)[off] = ((const T *) x->data)[i];
				 }
		);
	return MR_OK;
}
