/*
 * ops_resize.c
 *	  Resize and Upsample: nearest, linear and cubic, along any axes.
 *
 * Interpolation is separable: an output position takes, along each axis, a few
 * input positions with weights ("taps").  Taps of the last axis are computed for
 * a block of columns and used for all rows; those of the other axes when their
 * coordinate changes.  Arithmetic is float; integers are rounded and saturate.
 * Coordinates follow ONNX's reference: the resized length in a formula is scale
 * times length, which need not be whole.
 */
#include <float.h>
#include <math.h>

#include "nn/ops_util.h"

#define MAX_TAPS 256			/* of one axis: antialiased cubic to 1/64 */
#define MAX_COLUMNS 256			/* of a block */
#define MAX_COLUMN_TAPS 2048	/* all taps of a block's columns */

enum coordinates
{
	half_pixel, half_pixel_symmetric, pytorch_half_pixel, align_corners, asymmetric, crop_and_resize,
	tf_half_pixel_for_nn		/* opset 11 only */
};
static const char *const coordinate_names[] = {
	"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize",
	"tf_half_pixel_for_nn"
};

enum nearest
{
	prefer_floor, prefer_ceil, down, up,
	old_rule					/* before opset 11: up when shrinking, else down */
};
static const char *const nearest_names[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};

static const char *const mode_names[] = {"nearest", "linear", "cubic"};

/* Floats of a constant input; *n < 0: omitted or empty. */
static mr_code
const_floats(nn_infer_call *c, int k, float out[2 * NN_MAX_RANK], int *n)
{
	nn_value   *v = nn_in(c, k);

	*n = -1;
	if (v == NULL || v->elements == 0)
		return MR_OK;
	NN_TRY(nn_need_const(c, k));
	if (v->dtype != nn_float32 || v->shape.rank != 1 || v->elements > 2 * NN_MAX_RANK)
		return nn_infer_fail(c, MR_INVALID, "input %d must be a short list of floats", k);
	*n = (int) v->elements;
	memcpy(out, v->data, (size_t) *n * sizeof(float));
	return MR_OK;
}

static int
taps_of(const nn_params *p, double scale)
{
	int			n = p->i[nn_z_mode] == nn_resize_nearest ? 1 : p->i[nn_z_mode] == nn_resize_linear ? 2 : 4;

	if (!p->i[nn_z_antialias] || n == 1)
		return n;
	scale = scale < 1 ? scale : 1;
	return 2 - 2 * (int) (floor(-(n / 2) / scale) + 1);
}

/* Output size along the axes from sizes, keeping the aspect ratio by policy. */
static mr_code
fit_sizes(nn_infer_call *c, const int64_t *sizes, int n, const int64_t *axes, int policy, nn_shape *s)
{
	const nn_shape *x = &nn_in(c, 0)->shape;
	double		scale[NN_MAX_RANK];
	double		common = policy == 1 ? INFINITY : 0;

	for (int i = 0; i < n; i++)
	{
		if (sizes[i] < 0 || sizes[i] > NN_MAX_DIM)
			return nn_infer_fail(c, MR_INVALID, "size %lld is out of range", (long long) sizes[i]);
		scale[i] = (double) sizes[i] / (double) x->dims[axes[i]];
		common = policy == 1 ? fmin(common, scale[i]) : fmax(common, scale[i]);
	}
	for (int i = 0; i < n; i++)
	{
		double		f = policy ? common : scale[i];

		s->dims[axes[i]] = policy ? (int64_t) floor(f * (double) x->dims[axes[i]] + 0.5) : sizes[i];
		c->p->i[nn_z_scale + axes[i]] = nn_real_bits(f);
	}
	return MR_OK;
}

static mr_code
resize_attributes(nn_infer_call *c, int *policy)
{
	static const char *const policies[] = {"stretch", "not_larger", "not_smaller"};
	int64_t    *p = c->p->i;
	bool		old = c->n->opset < 11 || c->n->op->arg;
	char		mode[32];

	if (!nn_get_string(c, "mode", "nearest", mode))
		return nn_infer_fail(c, MR_INVALID, "bad mode");
	p[nn_z_mode] = strcmp(mode, "bilinear") == 0 || strcmp(mode, "trilinear") == 0 ? nn_resize_linear :
		nn_get_choice(c, "mode", "nearest", old ? 2 : 3, mode_names);
	p[nn_z_nearest] = old ? old_rule : nn_get_choice(c, "nearest_mode", "round_prefer_floor", 4, nearest_names);
	p[nn_z_coordinates] = old ? asymmetric :
		nn_get_choice(c, "coordinate_transformation_mode", "half_pixel", c->n->opset < 13 ? 7 : 6, coordinate_names);
	*policy = nn_get_choice(c, "keep_aspect_ratio_policy", "stretch", 3, policies);
	NN_TRY(nn_get_int(c, "exclude_outside", 0, &p[nn_z_exclude]));
	NN_TRY(nn_get_int(c, "antialias", 0, &p[nn_z_antialias]));
	NN_TRY(nn_get_float(c, "cubic_coeff_a", -0.75f, &c->p->f[0]));
	NN_TRY(nn_get_float(c, "extrapolation_value", 0, &c->p->f[1]));
	if (p[nn_z_mode] < 0 || p[nn_z_nearest] < 0 || p[nn_z_coordinates] < 0 || *policy < 0)
		return nn_infer_fail(c, MR_UNSUPPORTED,
							 "mode, nearest_mode, coordinate_transformation_mode or keep_aspect_ratio_policy is not supported");
	return MR_OK;
}

/* op->arg 1: Upsample, scales as attribute before opset 9. */
mr_code
nn_infer_resize(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = x->shape;
	float		scales[2 * NN_MAX_RANK],
				roi[2 * NN_MAX_RANK];
	int64_t		sizes[NN_MAX_RANK],
				axes[NN_MAX_RANK];
	int			n_scales = -1,
				n_sizes = -1,
				n_roi = -1,
				n_axes,
				policy = 0;

	NN_TRY(nn_need_type(c, 0, nn_is_number));
	NN_TRY(resize_attributes(c, &policy));
	NN_TRY(nn_get_ints(c, "axes", NN_MAX_RANK, axes, &n_axes));
	if (c->n->op->arg && c->n->opset < 9)
	{
		const nn_attr *a = nn_find_attr(c->n, "scales");

		if (a == NULL || a->type != nn_attr_floats || a->n > NN_MAX_RANK)
			return nn_infer_fail(c, MR_INVALID, "attribute scales must be a list of floats");
		n_scales = a->n;
		for (int i = 0; i < a->n; i++)
			scales[i] = a->floats[i];
	}
	else if (c->n->opset < 11 || c->n->op->arg)
		NN_TRY(const_floats(c, 1, scales, &n_scales));
	else
	{
		NN_TRY(const_floats(c, 2, scales, &n_scales));
		if (nn_in(c, 3) && nn_in(c, 3)->elements)
			NN_TRY(nn_const_ints(c, 3, NN_MAX_RANK, sizes, &n_sizes));
		if (c->p->i[nn_z_coordinates] == crop_and_resize)
			NN_TRY(const_floats(c, 1, roi, &n_roi));
	}
	for (int i = 0; n_axes < 0 && i < s.rank; i++)
		axes[i] = i;
	n_axes = n_axes < 0 ? s.rank : n_axes;
	for (int i = 0; i < n_axes; i++)
	{
		NN_TRY(nn_norm_axis(c, &axes[i], s.rank));
		if (x->shape.dims[axes[i]] < 1)
			return nn_infer_fail(c, MR_INVALID, "empty input");
	}
	if ((n_scales < 0) == (n_sizes < 0))
		return nn_infer_fail(c, MR_INVALID, "either scales or sizes must be given");
	if ((n_scales >= 0 && n_scales != n_axes) || (n_sizes >= 0 && n_sizes != n_axes))
		return nn_infer_fail(c, MR_INVALID, "%d scales or sizes for %d axes", n_scales < 0 ? n_sizes : n_scales, n_axes);
	if (c->p->i[nn_z_coordinates] == crop_and_resize && n_roi != 2 * n_axes)
		return nn_infer_fail(c, MR_INVALID, "the region of interest must have %d values", 2 * n_axes);
	for (int i = 0; i < s.rank; i++)
	{
		c->p->i[nn_z_scale + i] = nn_real_bits(1);
		c->p->i[nn_z_end + i] = nn_real_bits(1);
	}
	if (n_sizes >= 0)
		NN_TRY(fit_sizes(c, sizes, n_axes, axes, policy, &s));
	for (int i = 0; i < n_axes; i++)
	{
		int			a = (int) axes[i];
		double		scale;

		if (n_scales >= 0)
		{
			if (!(scales[i] > 0 && scales[i] < 65536))
				return nn_infer_fail(c, MR_INVALID, "scale %g is out of range", scales[i]);
			c->p->i[nn_z_scale + a] = nn_real_bits(scales[i]);
			s.dims[a] = (int64_t) floorf(scales[i] * (float) x->shape.dims[a]);
		}
		scale = nn_real(c->p->i[nn_z_scale + a]);
		if (s.dims[a] > 0 && taps_of(c->p, scale) > MAX_TAPS)
			return nn_infer_fail(c, MR_UNSUPPORTED, "antialiased to less than 1/64 of the size");
		if (n_roi >= 0)
		{
			c->p->i[nn_z_start + a] = nn_real_bits(roi[i]);
			c->p->i[nn_z_end + a] = nn_real_bits(roi[n_axes + i]);
		}
	}
	return nn_set_out(c, 0, x->dtype, &s);
}

/* ---- taps ---- */

typedef struct axis
{
	int64_t		in,
				out;
	double		scale,
				start,
				end;
	bool		same;			/* output positions are the input's */
	int			n;				/* taps */
} axis;

/* Where output position o lies in the input. */
static double
source(const nn_params *p, const axis *a, int64_t o)
{
	double		length = a->scale * (double) a->in;
	double		last = (double) (a->in - 1);
	double		x = (double) o;

	/* which neighbour is nearest hangs on the last bit: in float, as others do it */
	if (p->i[nn_z_mode] == nn_resize_nearest && p->i[nn_z_coordinates] == asymmetric)
		return (float) o / (float) a->scale;
	if (p->i[nn_z_mode] == nn_resize_nearest && length > 1 &&
		(p->i[nn_z_coordinates] == half_pixel || p->i[nn_z_coordinates] == pytorch_half_pixel))
		return ((float) o + 0.5f) / (float) a->scale - 0.5f;
	switch (p->i[nn_z_coordinates])
	{
		case align_corners:
			return length == 1 ? 0 : x * last / (length - 1);
		case asymmetric:
			return x / a->scale;
		case crop_and_resize:
			return a->start * last + (length == 1 ? (a->end - a->start) * last / 2 :
									  x * (a->end - a->start) * last / (length - 1));
		case pytorch_half_pixel:
			return length <= 1 ? 0 : (x + 0.5) / a->scale - 0.5;
		case half_pixel_symmetric:
			return (double) a->in / 2 * (1 - (double) a->out / length) + (x + 0.5) / a->scale - 0.5;
		case tf_half_pixel_for_nn:
			return (x + 0.5) / a->scale;
	}
	return (x + 0.5) / a->scale - 0.5;
}

static double
round_nearest(int64_t rule, double x, double scale)
{
	switch (rule)
	{
		case prefer_floor:
			return ceil(x - 0.5);
		case prefer_ceil:
			return floor(x + 0.5);
		case up:
			return ceil(x);
		case old_rule:
			return scale < 1 ? ceil(x) : floor(x);
	}
	return floor(x);
}

/* Weight of a position at this distance. */
static double
weight(const nn_params *p, double d)
{
	double		a = p->f[0];

	d = fabs(d);
	if (p->i[nn_z_mode] == nn_resize_linear)
		return d < 1 ? 1 - d : 0;
	if (d <= 1)
		return ((a + 2) * d - (a + 3)) * d * d + 1;
	return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

/* Taps of output position o: positions at[k * step], weights w[k * step].  False:
 * outside a crop, the value is the extrapolation's. */
static bool
find_taps(const nn_params *p, const axis *a, int64_t o, int32_t *at, float *w, int step)
{
	double		x,
				low,
				sum = 0,
				slope;

	if (a->same)
	{
		for (int k = 0; k < a->n; k++)
		{
			at[k * step] = (int32_t) o;
			w[k * step] = k == 0;
		}
		return true;
	}
	x = source(p, a, o);
	if (p->i[nn_z_coordinates] == crop_and_resize && (x < 0 || x > (double) (a->in - 1)))
		return false;
	if (p->i[nn_z_mode] == nn_resize_nearest)
	{
		x = round_nearest(p->i[nn_z_nearest], x, a->scale);
		at[0] = (int32_t) (x < 0 ? 0 : x > (double) (a->in - 1) ? (double) (a->in - 1) : x);
		w[0] = 1;
		return true;
	}
	slope = p->i[nn_z_antialias] && a->scale < 1 ? a->scale : 1;
	/* the position just left of x, then as many to each side */
	low = (x == floor(x) ? x - 1 : floor(x)) - (a->n / 2 - 1);
	for (int k = 0; k < a->n; k++)
	{
		double		pos = low + k;
		double		f = weight(p, (pos - x) * slope);

		if (p->i[nn_z_exclude] && (pos < 0 || pos > (double) (a->in - 1)))
			f = 0;
		sum += f;
		w[k * step] = (float) f;
		at[k * step] = (int32_t) (pos < 0 ? 0 : pos > (double) (a->in - 1) ? (double) (a->in - 1) : pos);
	}
	if ((p->i[nn_z_exclude] || p->i[nn_z_antialias]) && sum != 0)
		for (int k = 0; k < a->n; k++)
			w[k * step] = (float) (w[k * step] / sum);
	return true;
}

bool
nn_resize_is_plane(const nn_params *p)
{
	if (p->i[nn_z_mode] < nn_resize_nearest || p->i[nn_z_mode] > nn_resize_cubic || p->i[nn_z_antialias] ||
		p->i[nn_z_coordinates] == crop_and_resize)
		return false;
	for (int i = 0; i < 4; i++)
	{
		double		scale = nn_real(p->i[nn_z_scale + i]);

		if (!(scale >= 1e-6 && scale <= 65536) || (i < 2 && scale != 1))
			return false;
	}
	return true;
}

/* What an axis is in a run. */
static axis
axis_of(const nn_params *p, int i, int64_t in, int64_t out)
{
	axis		a = {.in = in, .out = out, .scale = nn_real(p->i[nn_z_scale + i]), .start = nn_real(p->i[nn_z_start + i]),
		.end = nn_real(p->i[nn_z_end + i])};

	a.same = in == out && a.scale == 1 && a.start == 0 && a.end == 1;
	a.n = a.same ? 1 : taps_of(p, a.scale);
	return a;
}

int
nn_resize_taps(const nn_params *p, int axis_index, int64_t in, int64_t out, int64_t o, int32_t *at, float *w, int step)
{
	axis		a = axis_of(p, axis_index, in, out);

	find_taps(p, &a, o, at, w, step);
	return a.n;
}

/* ---- run ---- */

typedef struct block
{
	int			n,				/* columns */
				taps;			/* of each; tap k of column j at [k * n + j] */
	bool		contiguous;		/* one tap, neighbours */
	bool		inside[MAX_COLUMNS];
	int32_t		at[MAX_COLUMN_TAPS];
	float		w[MAX_COLUMN_TAPS];
} block;

static int64_t
column_block(const nn_params *p, const axis *a, int64_t from, block *b)
{
	int64_t		n = MAX_COLUMN_TAPS / a->n;

	n = n < MAX_COLUMNS ? n : MAX_COLUMNS;
	b->n = (int) (n < a->out - from ? n : a->out - from);
	b->taps = a->n;
	b->contiguous = a->same;
	for (int j = 0; j < b->n; j++)
	{
		b->inside[j] = find_taps(p, a, from + j, b->at + j, b->w + j, b->n);
		if (!b->inside[j])
			for (int k = 0; k < b->taps; k++)
				b->at[k * b->n + j] = 0;
	}
	return b->n;
}

/* acc += f * the row's interpolated columns */
static void
add_row(const nn_tensor *x, int64_t row, const block *b, float f, float *acc)
{
	NN_WITH_NUMBER(x->dtype,
				   const T *src = (const T *) x->data + row;

				   if (b->contiguous)
					   for (int j = 0; j < b->n; j++)
						   acc[j] += f * (float) src[b->at[0] + j];
				   else
					   for (int k = 0; k < b->taps; k++)
					   {
						   const float *w = b->w + k * b->n;
						   const int32_t *at = b->at + k * b->n;

						   for (int j = 0; j < b->n; j++)
							   acc[j] += f * w[j] * (float) src[at[j]];
					   }
		);
}

static void
store_row(nn_tensor *y, int64_t at, int n, const float *acc)
{
	if (y->dtype == nn_float32)
	{
		memcpy((float *) y->data + at, acc, (size_t) n * sizeof(float));
		return;
	}
	NN_WITH_INTEGER(y->dtype,
					const bool is_signed = (T) -1 < 1;
					const int bits = (int) sizeof(T) * 8;
					const T least = is_signed ? (T) (UINT64_C(1) << (bits - 1)) : 0;
					const float lo = is_signed ? -ldexpf(1, bits - 1) : 0;
					const float hi = ldexpf(1, is_signed ? bits - 1 : bits);
					T *dst = (T *) y->data + at;

					for (int j = 0; j < n; j++)
					{
						float		v = rintf(acc[j]);

						dst[j] = v <= lo ? least : v >= hi ? (T) ~least : (T) v;
					}
		);
}

/* Nearest: elements of any size are moved. */
static void
move_row(const nn_tensor *x, int64_t row, const block *b, nn_tensor *y, int64_t at)
{
	size_t		size = nn_dtype_size(y->dtype);

	if (b->contiguous)
		memcpy((char *) y->data + (size_t) at * size, (const char *) x->data + (size_t) (row + b->at[0]) * size,
			   (size_t) b->n * size);
	else
		NN_WITH_SIZE(size,
					 const T *src = (const T *) x->data + row;
					 T *dst = (T *) y->data + at;

					 for (int j = 0; j < b->n; j++)
						 dst[j] = src[b->at[j]];
			);
}

mr_code
nn_run_resize(nn_run_call *c)
{
	const nn_params *p = c->p;
	const nn_tensor *x = &c->in[0];
	nn_tensor  *y = &c->out[0];
	int			rank = x->shape.rank;
	bool		nearest = p->i[nn_z_mode] == nn_resize_nearest;
	axis		axes[NN_MAX_RANK] = {{1, 1, 1, 0, 1, true, 1}};
	int64_t		stride[NN_MAX_RANK] = {1};
	int32_t		at[NN_MAX_RANK][MAX_TAPS];
	float		w[NN_MAX_RANK][MAX_TAPS];
	bool		inside[NN_MAX_RANK];
	int			last = rank ? rank - 1 : 0;
	block		b;
	int64_t		work = 0;

	if (y->elements == 0)
		return MR_OK;
	nn_row_major(&x->shape, stride);
	for (int i = 0; i < rank; i++)
		axes[i] = axis_of(p, i, x->shape.dims[i], y->shape.dims[i]);
	for (int64_t from = 0; from < axes[last].out; from += b.n)
	{
		int64_t		index[NN_MAX_RANK] = {0};
		int			changed = 0;	/* axes from here on have new coordinates */

		column_block(p, &axes[last], from, &b);
		for (int64_t o = from; o < y->elements; o += axes[last].out)
		{
			int			pick[NN_MAX_RANK] = {0};
			float		acc[MAX_COLUMNS];
			bool		all = true;
			int			i;

			for (i = changed; i < last; i++)
				inside[i] = find_taps(p, &axes[i], index[i], at[i], w[i], 1);
			for (i = 0; i < last; i++)
				all = all && inside[i];
			memset(acc, 0, sizeof(acc));
			for (bool more = all; more;)
			{
				int64_t		row = 0;
				float		f = 1;

				for (i = 0; i < last; i++)
				{
					row += at[i][pick[i]] * stride[i];
					f *= w[i][pick[i]];
				}
				if (nn_stop(c, &work, (int64_t) b.n * b.taps))
					return MR_CANCELED;
				if (nearest)
					move_row(x, row, &b, y, o);
				else if (f != 0)
					add_row(x, row, &b, f, acc);
				for (i = last - 1; i >= 0; i--)
				{
					if (++pick[i] < axes[i].n)
						break;
					pick[i] = 0;
				}
				more = i >= 0;
			}
			if (!nearest || p->i[nn_z_coordinates] == crop_and_resize)
			{
				for (int j = 0; j < b.n; j++)
				{
					if (!all || !b.inside[j])
						acc[j] = p->f[1];
					if (nearest && (!all || !b.inside[j]))
						store_row(y, o + j, 1, acc + j);
				}
				if (!nearest)
					store_row(y, o, b.n, acc);
			}
			for (i = last - 1; i >= 0; i--)
			{
				if (++index[i] < axes[i].out)
					break;
				index[i] = 0;
			}
			changed = i < 0 ? 0 : i;
		}
	}
	return MR_OK;
}
