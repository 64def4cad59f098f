/*
 * ops_gather.c
 *	  Reading and writing by index: GatherElements, GatherND, Scatter*, OneHot.
 *
 * Elements are moved by their size; scattering with a reduction knows types.
 * Indices depend on data: each is checked when it is used.
 */
#include <math.h>

#include "nn/ops_util.h"

/* ---- GatherElements, ScatterElements: index tensor of the data's rank; i[0] = axis ---- */

/* The part of the data that an index tensor of this shape names, row by row: the
 * data's offset without the axis, and where in the index tensor the row starts. */
typedef struct rows
{
	const nn_shape *data,
			   *index;
	int64_t		stride[NN_MAX_RANK];	/* of the data */
	int64_t		at[NN_MAX_RANK];
	int64_t		off;			/* in the data */
	int64_t		cols;			/* of a row: the last dimension of the index */
	int			axis;
} rows;

static void
rows_start(rows *r, const nn_shape *data, const nn_shape *index, int axis)
{
	memset(r, 0, sizeof(*r));
	r->data = data;
	r->index = index;
	r->axis = axis;
	r->cols = index->dims[index->rank - 1];
	nn_row_major(data, r->stride);
}

static void
rows_next(rows *r)
{
	for (int i = r->index->rank - 2; i >= 0; i--)
	{
		int64_t		step = i == r->axis ? 0 : r->stride[i];

		r->off += step;
		if (++r->at[i] < r->index->dims[i])
			return;
		r->off -= step * r->index->dims[i];
		r->at[i] = 0;
	}
}

static mr_code
infer_elements(nn_infer_call *c, int data, int index)
{
	const nn_shape *x = &nn_in(c, data)->shape;
	const nn_shape *ix = &nn_in(c, index)->shape;

	NN_TRY(nn_need_index(c, index));
	if (x->rank < 1 || x->rank != ix->rank)
		return nn_infer_fail(c, MR_INVALID, "indices of %d dimensions for data of %d", ix->rank, x->rank);
	NN_TRY(nn_get_int(c, "axis", 0, &c->p->i[0]));
	NN_TRY(nn_norm_axis(c, &c->p->i[0], x->rank));
	for (int i = 0; i < x->rank; i++)
		if (i != c->p->i[0] && ix->dims[i] > x->dims[i])
			return nn_infer_fail(c, MR_INVALID, "the indices are larger than the data in dimension %d", i);
	return MR_OK;
}

mr_code
nn_infer_gather_elements(nn_infer_call *c)
{
	NN_TRY(infer_elements(c, 0, 1));
	return nn_set_out(c, 0, nn_in(c, 0)->dtype, &nn_in(c, 1)->shape);
}

mr_code
nn_run_gather_elements(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	const nn_tensor *ix = &c->in[1];
	int			axis = (int) c->p->i[0];
	int64_t		dim = x->shape.dims[axis];
	int64_t		work = 0;
	rows		r;

	rows_start(&r, &x->shape, &ix->shape, axis);
	for (int64_t o = 0; o < ix->elements; o += r.cols, rows_next(&r))
	{
		bool		last = axis == x->shape.rank - 1;

		if (nn_stop(c, &work, r.cols * 2))
			return MR_CANCELED;
		NN_WITH_SIZE(nn_dtype_size(x->dtype),
					 const T *src = (const T *) x->data + r.off;
					 T *dst = (T *) c->out[0].data + o;

					 for (int64_t j = 0; j < r.cols; j++)
					 {
						 int64_t		i;

						 NN_INDEX(c, ix, o + j, dim, i);
						 dst[j] = src[last ? i : i * r.stride[axis] + j];
					 }
			);
	}
	return MR_OK;
}

/* ---- reductions of scattered values ---- */

enum scatter
{
	scatter_none, scatter_add, scatter_mul, scatter_max, scatter_min
};

static mr_code
get_reduction(nn_infer_call *c, int64_t *out)
{
	static const char *const names[] = {"none", "add", "mul", "max", "min"};
	int			n = c->n->opset >= 18 ? 5 : c->n->opset >= 16 ? 3 : 1;

	*out = nn_get_choice(c, "reduction", "none", n, names);
	if (*out < 0)
		return nn_infer_fail(c, MR_UNSUPPORTED, "this reduction is not supported");
	if (*out != scatter_none)
		NN_TRY(nn_need_type(c, 0, nn_is_number));
	if (nn_in(c, 2)->dtype != nn_in(c, 0)->dtype)
		return nn_infer_fail(c, MR_INVALID, "data and updates differ in type");
	return MR_OK;
}

/* dst[0 .. n) takes src[0 .. n). */
static void
put(int64_t reduction, int dtype, void *dst, int64_t at, const void *src, int64_t from, int64_t n)
{
	size_t		size = nn_dtype_size(dtype);

	if (reduction == scatter_none)
	{
		memcpy((char *) dst + (size_t) at * size, (const char *) src + (size_t) from * size, (size_t) n * size);
		return;
	}
	NN_WITH_NUMBER(dtype,
				   T *d = (T *) dst + at;
				   const T *s = (const T *) src + from;

				   for (int64_t j = 0; j < n; j++)
					   switch (reduction)
					   {
						   case scatter_add: d[j] = NN_WRAP(d[j], +, s[j]); break;
						   case scatter_mul: d[j] = NN_WRAP(d[j], *, s[j]); break;
						   case scatter_max: d[j] = s[j] > d[j] ? s[j] : d[j]; break;
						   default: d[j] = s[j] < d[j] ? s[j] : d[j];
					   }
		);
}

static void
copy_data(nn_run_call *c)
{
	if (c->out[0].elements)
		memcpy(c->out[0].data, c->in[0].data, (size_t) c->out[0].elements * nn_dtype_size(c->out[0].dtype));
}

/* ScatterElements and its old name Scatter: i[1] = reduction. */
mr_code
nn_infer_scatter_elements(nn_infer_call *c)
{
	NN_TRY(infer_elements(c, 0, 1));
	NN_TRY(get_reduction(c, &c->p->i[1]));
	if (!nn_shape_equal(&nn_in(c, 1)->shape, &nn_in(c, 2)->shape))
		return nn_infer_fail(c, MR_INVALID, "indices and updates differ in shape");
	return nn_set_out(c, 0, nn_in(c, 0)->dtype, &nn_in(c, 0)->shape);
}

mr_code
nn_run_scatter_elements(nn_run_call *c)
{
	const nn_tensor *ix = &c->in[1];
	nn_tensor  *y = &c->out[0];
	int			axis = (int) c->p->i[0];
	bool		last = axis == y->shape.rank - 1;
	int64_t		dim = y->shape.dims[axis];
	int64_t		work = 0;
	rows		r;

	copy_data(c);
	rows_start(&r, &y->shape, &ix->shape, axis);
	for (int64_t o = 0; o < ix->elements; o += r.cols, rows_next(&r))
	{
		if (nn_stop(c, &work, r.cols * 4))
			return MR_CANCELED;
		for (int64_t j = 0; j < r.cols; j++)
		{
			int64_t		i;

			NN_INDEX(c, ix, o + j, dim, i);
			put(c->p->i[1], y->dtype, y->data, r.off + (last ? i : i * r.stride[axis] + j), c->in[2].data, o + j, 1);
		}
	}
	return MR_OK;
}

/* ---- GatherND, ScatterND: the last dimension of the index is a position ---- */

/* i[0] = batch_dims, i[1] = length of a position, i[2] = elements of a slice. */
static mr_code
infer_positions(nn_infer_call *c, int64_t batch)
{
	const nn_shape *x = &nn_in(c, 0)->shape;
	const nn_shape *ix = &nn_in(c, 1)->shape;
	int64_t		slice = 1;

	NN_TRY(nn_need_index(c, 1));
	if (x->rank < 1 || ix->rank < 1 || batch < 0 || batch >= ix->rank || batch >= x->rank ||
		ix->dims[ix->rank - 1] < 0 || ix->dims[ix->rank - 1] > x->rank - batch)
		return nn_infer_fail(c, MR_INVALID, "the indices do not fit the data");
	for (int i = 0; i < batch; i++)
		if (x->dims[i] != ix->dims[i])
			return nn_infer_fail(c, MR_INVALID, "data and indices differ in batch dimension %d", i);
	for (int64_t i = batch + ix->dims[ix->rank - 1]; i < x->rank; i++)
		slice *= x->dims[i];
	c->p->i[0] = batch;
	c->p->i[1] = ix->dims[ix->rank - 1];
	c->p->i[2] = slice;
	return MR_OK;
}

/* Offset in the data of position k, batch b. */
static mr_code
position(nn_run_call *c, const nn_shape *data, const int64_t *stride, int64_t k, int64_t *off)
{
	int64_t		at = 0;
	int			batch = (int) c->p->i[0];

	for (int i = 0; i < c->p->i[1]; i++)
	{
		int64_t		v;

		NN_INDEX(c, &c->in[1], k * c->p->i[1] + i, data->dims[batch + i], v);
		at += v * stride[batch + i];
	}
	*off = at;
	return MR_OK;
}

mr_code
nn_infer_gather_nd(nn_infer_call *c)
{
	const nn_shape *x = &nn_in(c, 0)->shape;
	const nn_shape *ix = &nn_in(c, 1)->shape;
	nn_shape	s = {0};
	int64_t		batch;

	NN_TRY(nn_get_int(c, "batch_dims", 0, &batch));
	NN_TRY(infer_positions(c, batch));
	if (ix->rank - 1 + x->rank - (batch + c->p->i[1]) > NN_MAX_RANK)
		return nn_infer_fail(c, MR_UNSUPPORTED, "output of more than %d dimensions", NN_MAX_RANK);
	for (int i = 0; i < ix->rank - 1; i++)
		s.dims[s.rank++] = ix->dims[i];
	for (int64_t i = batch + c->p->i[1]; i < x->rank; i++)
		s.dims[s.rank++] = x->dims[i];
	return nn_set_out(c, 0, nn_in(c, 0)->dtype, &s);
}

mr_code
nn_run_gather_nd(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	size_t		size = nn_dtype_size(x->dtype);
	int64_t		slice = c->p->i[2];
	int64_t		stride[NN_MAX_RANK];
	int64_t		batches = 1,
				n,
				per_batch,
				work = 0;
	char	   *dst = c->out[0].data;

	if (c->out[0].elements == 0)
		return MR_OK;
	nn_row_major(&x->shape, stride);
	for (int i = 0; i < c->p->i[0]; i++)
		batches *= x->shape.dims[i];
	n = c->out[0].elements / slice;
	per_batch = n / batches;
	for (int64_t k = 0; k < n; k++)
	{
		int64_t		off;

		if (nn_stop(c, &work, slice + 8))
			return MR_CANCELED;
		NN_TRY(position(c, &x->shape, stride, k, &off));
		off += k / per_batch * (x->elements / batches);
		memcpy(dst, (const char *) x->data + (size_t) off * size, (size_t) slice * size);
		dst += (size_t) slice * size;
	}
	return MR_OK;
}

mr_code
nn_infer_scatter_nd(nn_infer_call *c)
{
	const nn_shape *x = &nn_in(c, 0)->shape;
	const nn_shape *ix = &nn_in(c, 1)->shape;
	const nn_shape *u = &nn_in(c, 2)->shape;
	bool		fits;

	NN_TRY(infer_positions(c, 0));
	NN_TRY(get_reduction(c, &c->p->i[3]));
	fits = u->rank == ix->rank - 1 + x->rank - c->p->i[1];
	for (int i = 0; fits && i < u->rank; i++)
		fits = u->dims[i] == (i < ix->rank - 1 ? ix->dims[i] : x->dims[i - (ix->rank - 1) + c->p->i[1]]);
	if (!fits)
		return nn_infer_fail(c, MR_INVALID, "the updates do not fit data and indices");
	return nn_set_out(c, 0, nn_in(c, 0)->dtype, x);
}

mr_code
nn_run_scatter_nd(nn_run_call *c)
{
	nn_tensor  *y = &c->out[0];
	int64_t		slice = c->p->i[2];
	int64_t		n = slice ? c->in[2].elements / slice : 0;
	int64_t		stride[NN_MAX_RANK];
	int64_t		work = 0;

	copy_data(c);
	nn_row_major(&y->shape, stride);
	for (int64_t k = 0; k < n; k++)
	{
		int64_t		off;

		if (nn_stop(c, &work, slice + 8))
			return MR_CANCELED;
		NN_TRY(position(c, &y->shape, stride, k, &off));
		put(c->p->i[3], y->dtype, y->data, off, c->in[2].data, k * slice, slice);
	}
	return MR_OK;
}

/* ---- OneHot: indices, depth, values (off, on); i[0] = axis, i[1] = depth ---- */

mr_code
nn_infer_one_hot(nn_infer_call *c)
{
	nn_value   *ix = nn_in(c, 0),
			   *depth = nn_in(c, 1),
			   *values = nn_in(c, 2);
	nn_shape	s = {0};
	float		d;
	int			n;

	NN_TRY(nn_need_type(c, 0, nn_is_number));
	NN_TRY(nn_get_int(c, "axis", -1, &c->p->i[0]));
	NN_TRY(nn_norm_axis(c, &c->p->i[0], ix->shape.rank + 1));
	if (depth->elements != 1 || values->elements != 2)
		return nn_infer_fail(c, MR_INVALID, "depth must be one number, values two");
	if (depth->dtype == nn_float32)
	{
		NN_TRY(nn_const_float(c, 1, 0, &d));
		c->p->i[1] = d >= 1 && d < (float) NN_MAX_DIM ? (int64_t) d : 0;
	}
	else
		NN_TRY(nn_const_ints(c, 1, 1, &c->p->i[1], &n));
	if (c->p->i[1] < 1 || c->p->i[1] > NN_MAX_DIM)
		return nn_infer_fail(c, MR_INVALID, "depth is out of range");
	if (ix->shape.rank >= NN_MAX_RANK)
		return nn_infer_fail(c, MR_UNSUPPORTED, "output of more than %d dimensions", NN_MAX_RANK);
	for (int i = 0; i <= ix->shape.rank; i++)
		s.dims[i] = i == c->p->i[0] ? c->p->i[1] : ix->shape.dims[i - (i > c->p->i[0])];
	s.rank = ix->shape.rank + 1;
	return nn_set_out(c, 0, values->dtype, &s);
}

/* NaN for a type that is no number. */
static double
number_at(const nn_tensor *x, int64_t i)
{
	NN_WITH_NUMBER(x->dtype, return (double) ((const T *) x->data)[i];);
	return NAN;
}

mr_code
nn_run_one_hot(nn_run_call *c)
{
	const nn_tensor *ix = &c->in[0];
	nn_tensor  *y = &c->out[0];
	int64_t		depth = c->p->i[1];
	int64_t		outer,
				inner,
				work = 0;

	nn_around_axis(&y->shape, (int) c->p->i[0], &outer, &inner);
	NN_WITH_SIZE(nn_dtype_size(y->dtype),
				 const T *v = c->in[2].data;
				 T *dst = y->data;

				 for (int64_t i = 0; i < y->elements; i++)
					 dst[i] = v[0];
				 for (int64_t o = 0; o < ix->elements; o++)
				 {
					 double		at;

					 if (nn_stop(c, &work, 8))
						 return MR_CANCELED;
					 at = number_at(ix, o);
					 at += at < 0 ? (double) depth : 0;
					 if (at >= 0 && at < (double) depth)
						 dst[(o / inner * depth + (int64_t) at) * inner + o % inner] = v[1];
				 }
		);
	return MR_OK;
}
