/*
 * ops_pad.c
 *	  Pad, CenterCropPad and Col2Im.
 *
 * Pads in params: i[0..rank) before, i[8..8+rank) after (negative: cropped),
 * i[16] = mode, i[17] = the fill value's bytes; f[0] the same as a float, for the
 * planner.
 */
#include <math.h>

#include "nn/ops_util.h"

enum mode
{
	pad_constant, pad_reflect, pad_edge, pad_wrap
};

static mr_code
fill_value(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0),
			   *v = nn_in(c, 2);

	if (c->n->opset < 11)
	{
		NN_TRY(nn_get_float(c, "value", 0, &c->p->f[0]));
		if (x->dtype == nn_float32)
			memcpy(&c->p->i[17], &c->p->f[0], sizeof(float));
		else if (c->p->f[0] != 0)
			return nn_infer_fail(c, MR_UNSUPPORTED, "fill values are supported for float only");
		return MR_OK;
	}
	if (v == NULL || v->elements == 0)
		return MR_OK;
	NN_TRY(nn_need_const(c, 2));
	if (v->elements != 1 || v->dtype != x->dtype)
		return nn_infer_fail(c, MR_INVALID, "the fill value must be one number of the input's type");
	memcpy(&c->p->i[17], v->data, nn_dtype_size(v->dtype));
	if (v->dtype == nn_float32)
		c->p->f[0] = *(const float *) v->data;
	return MR_OK;
}

mr_code
nn_infer_pad(nn_infer_call *c)
{
	static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = x->shape;
	int64_t		pads[2 * NN_MAX_RANK],
				axes[NN_MAX_RANK];
	int			mode = nn_get_choice(c, "mode", "constant", c->n->opset >= 19 ? 4 : 3, modes);
	int			n,
				n_axes = -1,
				m = s.rank;

	if (mode < 0)
		return nn_infer_fail(c, MR_UNSUPPORTED, "this mode is not supported");
	if (c->n->opset < 11)
		NN_TRY(nn_get_ints(c, "pads", 2 * NN_MAX_RANK, pads, &n));
	else
	{
		NN_TRY(nn_const_ints(c, 1, 2 * NN_MAX_RANK, pads, &n));
		NN_TRY(nn_const_ints(c, 3, NN_MAX_RANK, axes, &n_axes));
		m = n_axes >= 0 ? n_axes : s.rank;
	}
	NN_TRY(fill_value(c));
	c->p->i[16] = mode;
	if (n != 2 * m)
		return nn_infer_fail(c, MR_INVALID, "%d pads for %d dimensions", n, m);
	for (int i = 0; i < m; i++)
	{
		int64_t		axis = n_axes >= 0 ? axes[i] : i;
		int64_t		d;

		NN_TRY(nn_norm_axis(c, &axis, s.rank));
		d = x->shape.dims[axis];
		for (int e = 0; e < 2; e++)
		{
			int64_t		p = pads[i + e * m];

			if (p > NN_MAX_DIM || p < -d || (mode == pad_reflect && p >= d && p > 0) || (mode && p > 0 && d == 0))
				return nn_infer_fail(c, MR_INVALID, "pad of %lld to a dimension of %lld", (long long) p, (long long) d);
			c->p->i[axis + 8 * e] = p;
			s.dims[axis] += p;
		}
		if (s.dims[axis] < 0)
			return nn_infer_fail(c, MR_INVALID, "more is cropped than dimension %lld has", (long long) axis);
	}
	return nn_set_out(c, 0, x->dtype, &s);
}

/* The middle of each axis; an odd rest goes to (or from) the end. */
mr_code
nn_infer_center_crop_pad(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = x->shape;
	int64_t		sizes[NN_MAX_RANK],
				axes[NN_MAX_RANK];
	int			n,
				n_axes;

	NN_TRY(nn_const_ints(c, 1, NN_MAX_RANK, sizes, &n));
	NN_TRY(nn_get_ints(c, "axes", NN_MAX_RANK, axes, &n_axes));
	if (n != (n_axes < 0 ? s.rank : n_axes))
		return nn_infer_fail(c, MR_INVALID, "%d sizes for %d axes", n, n_axes < 0 ? s.rank : n_axes);
	for (int i = 0; i < n; i++)
	{
		int64_t		axis = n_axes < 0 ? i : axes[i];
		int64_t		more;

		NN_TRY(nn_norm_axis(c, &axis, s.rank));
		if (sizes[i] < 0 || sizes[i] > NN_MAX_DIM)
			return nn_infer_fail(c, MR_INVALID, "size %lld is out of range", (long long) sizes[i]);
		more = sizes[i] - x->shape.dims[axis];
		c->p->i[axis] = more / 2;
		c->p->i[axis + 8] = more - more / 2;
		s.dims[axis] = sizes[i];
	}
	return nn_set_out(c, 0, x->dtype, &s);
}

/* Index in the input of position i along a dimension of d; -1: fill. */
static inline int64_t
pad_source(int64_t i, int64_t before, int64_t d, int64_t mode)
{
	i -= before;
	if (i >= 0 && i < d)
		return i;
	switch (mode)
	{
		case pad_reflect:
			i = i < 0 ? -i : 2 * (d - 1) - i;
			return i < 0 ? 0 : i >= d ? d - 1 : i;
		case pad_edge:
			return i < 0 ? 0 : d - 1;
		case pad_wrap:
			i %= d;
			return i < 0 ? i + d : i;
	}
	return -1;
}

mr_code
nn_run_pad(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	nn_tensor  *y = &c->out[0];
	size_t		size = nn_dtype_size(y->dtype);
	const int64_t *p = c->p->i;
	int64_t		stride[NN_MAX_RANK];
	int64_t		index[NN_MAX_RANK] = {0};
	int			rank = y->shape.rank;
	int			last = rank ? rank - 1 : 0;
	int64_t		cols = rank ? y->shape.dims[last] : 1;
	int64_t		d = rank ? x->shape.dims[last] : 1;
	int64_t		before = rank ? p[last] : 0;
	int64_t		from = before < 0 ? 0 : before < cols ? before : cols;	/* columns [from, to) are the input's own */
	int64_t		to = before + d < cols ? before + d : cols;
	int64_t		work = 0;

	to = to < from ? from : to;
	nn_row_major(&x->shape, stride);
	for (int64_t o = 0; cols && o < y->elements; o += cols)
	{
		int64_t		off = 0;

		if (nn_stop(c, &work, cols + 16))
			return MR_CANCELED;
		for (int i = 0; i < last && off >= 0; i++)
		{
			int64_t		at = pad_source(index[i], p[i], x->shape.dims[i], p[16]);

			off = at < 0 ? -1 : off + at * stride[i];
		}
		NN_WITH_SIZE(size,
					 T *dst = (T *) y->data + o;
					 const T *src = (const T *) x->data + off;
					 T fill;

					 memcpy(&fill, &p[17], sizeof(T));
					 for (int64_t j = 0; j < cols; j++)
					 {
						 int64_t		at;

						 if (j == from && off >= 0)
						 {
							 memcpy(dst + from, src + from - before, (size_t) (to - from) * sizeof(T));
							 j = to;
							 if (j == cols)
								 break;
						 }
						 at = off < 0 ? -1 : pad_source(j, before, d, p[16]);
						 dst[j] = at < 0 ? fill : src[at];
					 }
			);
		for (int i = last - 1; i >= 0; i--)
		{
			if (++index[i] < y->shape.dims[i])
				break;
			index[i] = 0;
		}
	}
	return MR_OK;
}

/* ---- Col2Im: i[0] = axes; of each: kernel, stride, dilation, leading pad, columns ---- */

enum col_param
{
	c_axes = 0, c_kernel = 1, c_stride = 7, c_dilation = 13, c_pad = 19, c_columns = 25
};
#define MAX_AXES 6

mr_code
nn_infer_col2im(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	int64_t    *p = c->p->i;
	int64_t		image[MAX_AXES],
				pads[2 * MAX_AXES] = {0};
	int64_t		block = 1,
				columns = 1;
	int			n,
				m;
	nn_shape	s = {2, {0}};

	NN_TRY(nn_need_type(c, 0, nn_is_number));
	NN_TRY(nn_const_ints(c, 1, MAX_AXES, image, &n));
	NN_TRY(nn_const_ints(c, 2, MAX_AXES, p + c_kernel, &m));
	if (n < 1 || n != m || x->shape.rank != 3)
		return nn_infer_fail(c, MR_INVALID, "image, block and input do not match");
	p[c_axes] = n;
	for (int i = 0; i < n; i++)
		p[c_stride + i] = p[c_dilation + i] = 1;
	NN_TRY(nn_get_ints(c, "strides", MAX_AXES, p + c_stride, &m));
	if (m >= 0 && m != n)
		return nn_infer_fail(c, MR_INVALID, "strides do not fit");
	NN_TRY(nn_get_ints(c, "dilations", MAX_AXES, p + c_dilation, &m));
	if (m >= 0 && m != n)
		return nn_infer_fail(c, MR_INVALID, "dilations do not fit");
	NN_TRY(nn_get_ints(c, "pads", 2 * MAX_AXES, pads, &m));
	if (m >= 0 && m != 2 * n)
		return nn_infer_fail(c, MR_INVALID, "pads do not fit");
	for (int i = 0; i < n; i++)
	{
		int64_t		room;

		if (image[i] < 1 || image[i] > NN_MAX_DIM || p[c_kernel + i] < 1 || p[c_kernel + i] > 65536 ||
			p[c_stride + i] < 1 || p[c_stride + i] > 65536 || p[c_dilation + i] < 1 || p[c_dilation + i] > 65536 ||
			pads[i] < 0 || pads[i] > 65536 || pads[n + i] < 0 || pads[n + i] > 65536)
			return nn_infer_fail(c, MR_INVALID, "image, block, stride, dilation or pad out of range");
		room = image[i] + pads[i] + pads[n + i] - (p[c_kernel + i] - 1) * p[c_dilation + i] - 1;
		if (room < 0)
			return nn_infer_fail(c, MR_INVALID, "the block is larger than the padded image");
		p[c_pad + i] = pads[i];
		p[c_columns + i] = room / p[c_stride + i] + 1;
		if (__builtin_mul_overflow(block, p[c_kernel + i], &block) ||
			__builtin_mul_overflow(columns, p[c_columns + i], &columns))
			return nn_infer_fail(c, MR_INVALID, "the block is too large");
		s.dims[s.rank++] = image[i];
	}
	if (x->shape.dims[1] % block || x->shape.dims[2] != columns)
		return nn_infer_fail(c, MR_INVALID, "an input of %lld x %lld for blocks of %lld and %lld columns",
							 (long long) x->shape.dims[1], (long long) x->shape.dims[2], (long long) block, (long long) columns);
	s.dims[0] = x->shape.dims[0];
	s.dims[1] = x->shape.dims[1] / block;
	return nn_set_out(c, 0, x->dtype, &s);
}

/* y[X * step] += x[X] for X of [from, to) */
static void
add_columns(nn_tensor *y, int64_t to_at, const nn_tensor *x, int64_t from_at, int64_t n, int64_t step)
{
	NN_WITH_NUMBER(y->dtype,
				   T *dst = (T *) y->data + to_at;
				   const T *src = (const T *) x->data + from_at;

				   for (int64_t j = 0; j < n; j++)
					   dst[j * step] = NN_WRAP(dst[j * step], +, src[j]);
		);
}

mr_code
nn_run_col2im(nn_run_call *c)
{
	const int64_t *p = c->p->i;
	const nn_tensor *x = &c->in[0];
	nn_tensor  *y = &c->out[0];
	int			n = (int) p[c_axes];
	int			last = n - 1;
	const int64_t *image = y->shape.dims + 2;
	int64_t		planes = y->shape.dims[0] * y->shape.dims[1];
	int64_t		cells = planes ? y->elements / planes : 0;
	int64_t		cols = p[c_columns + last];
	int64_t		taps = 1,
				lines,
				work = 0;

	for (int i = 0; i < n; i++)
		taps *= p[c_kernel + i];
	lines = x->shape.dims[2] / cols;
	memset(y->data, 0, (size_t) y->elements * nn_dtype_size(y->dtype));
	for (int64_t l = 0; l < planes * taps * lines; l++)
	{
		int64_t		tap = l / lines % taps,
					line = l % lines;
		int64_t		stride = image[last];
		int64_t		at = l / (lines * taps) * cells;
		int64_t		off = tap % p[c_kernel + last] * p[c_dilation + last] - p[c_pad + last];
		int64_t		from,
					to;
		bool		inside = true;

		if (nn_stop(c, &work, cols + 16))
			return MR_CANCELED;
		tap /= p[c_kernel + last];
		for (int i = last - 1; i >= 0; i--)
		{
			int64_t		v = line % p[c_columns + i] * p[c_stride + i] - p[c_pad + i] +
				tap % p[c_kernel + i] * p[c_dilation + i];

			inside = inside && v >= 0 && v < image[i];
			at += v * stride;
			stride *= image[i];
			line /= p[c_columns + i];
			tap /= p[c_kernel + i];
		}
		nn_span(off, p[c_stride + last], image[last], cols, &from, &to);
		if (inside && from < to)
			add_columns(y, at + from * p[c_stride + last] + off, x, l * cols + from, to - from, p[c_stride + last]);
	}
	return MR_OK;
}
