/*
 * ops_sample.c
 *	  GridSample and AffineGrid, in 1 to 3 dimensions.
 *
 * A sample takes, along each dimension, 1, 2 or 4 positions with weights; their
 * products are the same for all channels.
 */
#include <math.h>

#include "nn/ops_util.h"

#define MAX_AXES 3
#define MAX_COMBINATIONS 64		/* 4 ^ MAX_AXES */

enum sampling
{
	sample_linear, sample_nearest, sample_cubic
};
enum padding
{
	padding_zeros, padding_border, padding_reflection
};

/* i[0] sampling, i[1] padding, i[2] align_corners */
mr_code
nn_infer_grid_sample(nn_infer_call *c)
{
	static const char *const old_modes[] = {"bilinear", "nearest", "bicubic"};
	static const char *const modes[] = {"linear", "nearest", "cubic"};
	static const char *const paddings[] = {"zeros", "border", "reflection"};
	nn_value   *x = nn_in(c, 0),
			   *grid = nn_in(c, 1);
	nn_shape	s = grid->shape;
	int			mode = nn_get_choice(c, "mode", c->n->opset < 20 ? "bilinear" : "linear", 3,
									 c->n->opset < 20 ? old_modes : modes);
	int			padding = nn_get_choice(c, "padding_mode", "zeros", 3, paddings);
	int			axes = x->shape.rank - 2;

	NN_TRY(nn_need_float(c, 0));
	NN_TRY(nn_need_float(c, 1));
	NN_TRY(nn_get_int(c, "align_corners", 0, &c->p->i[2]));
	if (mode < 0 || padding < 0)
		return nn_infer_fail(c, MR_UNSUPPORTED, "this mode or padding_mode is not supported");
	if (axes < 1 || axes > MAX_AXES || s.rank != axes + 2 || s.dims[s.rank - 1] != axes || s.dims[0] != x->shape.dims[0])
		return nn_infer_fail(c, MR_INVALID, "the grid does not fit an input of %d dimensions", x->shape.rank);
	for (int i = 2; i < x->shape.rank; i++)
		if (x->shape.dims[i] < 1)
			return nn_infer_fail(c, MR_INVALID, "empty input");
	c->p->i[0] = mode;
	c->p->i[1] = padding;
	for (int i = s.rank - 1; i > 1; i--)
		s.dims[i] = grid->shape.dims[i - 1];
	s.dims[1] = x->shape.dims[1];
	return nn_set_out(c, 0, nn_float32, &s);
}

/* Mirrored at the borders until inside. */
static double
reflect(double x, double lo, double hi)
{
	double		range = hi - lo,
				d,
				n;

	if (range <= 0)
		return lo;
	if (x >= lo && x <= hi)
		return x;
	d = x < lo ? lo - x : x - hi;
	n = floor(d / range);
	d -= n * range;
	if (fmod(n, 2) == 0)
		return x < lo ? lo + d : hi - d;
	return x < lo ? hi - d : lo + d;
}

/* The position that stands for i, -1: zero. */
static int64_t
padded(const int64_t *p, double i, int64_t dim, double lo, double hi)
{
	if (i >= 0 && i < (double) dim)
		return (int64_t) i;
	if (p[1] == padding_zeros)
		return -1;
	if (p[1] == padding_reflection)
		i = trunc(reflect(i, lo, hi));
	return i < 0 ? 0 : i >= (double) dim ? dim - 1 : (int64_t) i;
}

static void
cubic_weights(double t, float w[4])
{
	const double a = -0.75;

	for (int k = 0; k < 4; k++)
	{
		double		d = fabs(t - (k - 1));

		w[k] = (float) (d <= 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : ((a * d - 5 * a) * d + 8 * a) * d - 4 * a);
	}
}

/* Positions and weights along a dimension for a coordinate of [-1, 1]; how many. */
static int
find_taps(const int64_t *p, double v, int64_t dim, int64_t at[4], float w[4])
{
	bool		align = p[2] != 0;
	double		lo = align ? 0 : -0.5,
				hi = align ? (double) dim - 1 : (double) dim - 0.5;
	double		x = align ? (v + 1) / 2 * (double) (dim - 1) : ((v + 1) * (double) dim - 1) / 2;
	int			n = p[0] == sample_nearest ? 1 : p[0] == sample_linear ? 2 : 4;
	double		first;

	x = (float) x;
	x = x > -1e9 ? x < 1e9 ? x : 1e9 : -1e9;	/* NaN: far outside */
	if (p[0] == sample_nearest)
		x = rint(x);
	/* of cubic samples the neighbours alone are padded, as PyTorch has it */
	if (n != 4 && (x < lo || x > hi))
	{
		if (p[1] == padding_border)
			x = x < 0 ? 0 : x > (double) (dim - 1) ? (double) (dim - 1) : x;
		else if (p[1] == padding_reflection)
			x = reflect(x, lo, hi);
	}
	first = n == 1 ? trunc(x) : floor(x) - (n == 4);
	w[0] = 1;
	if (n == 2)
	{
		w[1] = (float) (x - first);
		w[0] = 1 - w[1];
	}
	else if (n == 4)
		cubic_weights(x - floor(x), w);
	for (int k = 0; k < n; k++)
		at[k] = padded(p, first + k, dim, lo, hi);
	return n;
}

mr_code
nn_run_grid_sample(nn_run_call *c)
{
	const nn_shape *x = &c->in[0].shape;
	nn_tensor  *y = &c->out[0];
	int			axes = x->rank - 2;
	int64_t		channels = x->dims[1],
				points = 1,
				plane = 1;
	int64_t		work = 0;

	for (int i = 0; i < axes; i++)
	{
		points *= y->shape.dims[2 + i];
		plane *= x->dims[2 + i];
	}
	for (int64_t k = 0; k < x->dims[0] * points; k++)
	{
		const float *coordinate = (const float *) c->in[1].data + k * axes;
		const float *src = (const float *) c->in[0].data + k / points * channels * plane;
		float	   *dst = (float *) y->data + k / points * channels * points + k % points;
		int64_t		off[MAX_COMBINATIONS] = {0};
		float		w[MAX_COMBINATIONS] = {1};
		int			n = 1;

		if (nn_stop(c, &work, 64 + channels * (1 << 2 * axes)))
			return MR_CANCELED;
		for (int i = 0; i < axes; i++)
		{
			int64_t		at[4];
			float		f[4];
			int64_t		new_off[MAX_COMBINATIONS];
			float		new_w[MAX_COMBINATIONS];
			/* coordinates come innermost first */
			int			taps = find_taps(c->p->i, coordinate[axes - 1 - i], x->dims[2 + i], at, f);
			int			m = 0;

			for (int j = 0; j < n; j++)
				for (int t = 0; t < taps; t++)
					if (at[t] >= 0)
					{
						new_off[m] = off[j] * x->dims[2 + i] + at[t];
						new_w[m++] = w[j] * f[t];
					}
			n = m;
			memcpy(off, new_off, (size_t) n * sizeof(int64_t));
			memcpy(w, new_w, (size_t) n * sizeof(float));
		}
		for (int64_t ch = 0; ch < channels; ch++)
		{
			float		sum = 0;

			for (int j = 0; j < n; j++)
				sum += w[j] * src[ch * plane + off[j]];
			dst[ch * points] = sum;
		}
	}
	return MR_OK;
}

/* ---- AffineGrid: i[0] = align_corners ---- */

mr_code
nn_infer_affine_grid(nn_infer_call *c)
{
	nn_value   *theta = nn_in(c, 0);
	int64_t		size[NN_MAX_RANK];
	int			n;
	nn_shape	s = {0};

	NN_TRY(nn_need_float(c, 0));
	NN_TRY(nn_const_ints(c, 1, NN_MAX_RANK, size, &n));
	NN_TRY(nn_get_int(c, "align_corners", 0, &c->p->i[0]));
	if ((n != 4 && n != 5) || theta->shape.rank != 3 || theta->shape.dims[0] != size[0] ||
		theta->shape.dims[1] != n - 2 || theta->shape.dims[2] != n - 1)
		return nn_infer_fail(c, MR_INVALID, "matrices and size do not fit");
	s.rank = n;
	s.dims[0] = size[0];
	for (int i = 2; i < n; i++)
	{
		if (size[i] < 1 || size[i] > NN_MAX_DIM)
			return nn_infer_fail(c, MR_INVALID, "size %lld is out of range", (long long) size[i]);
		s.dims[i - 1] = size[i];
	}
	s.dims[n - 1] = n - 2;
	return nn_set_out(c, 0, nn_float32, &s);
}

mr_code
nn_run_affine_grid(nn_run_call *c)
{
	const nn_shape *s = &c->out[0].shape;
	int			axes = s->rank - 2;
	int64_t		points = 1,
				work = 0;

	for (int i = 1; i <= axes; i++)
		points *= s->dims[i];
	for (int64_t k = 0; k < s->dims[0] * points; k++)
	{
		const float *m = (const float *) c->in[0].data + k / points * axes * (axes + 1);
		float	   *y = (float *) c->out[0].data + k * axes;
		double		v[MAX_AXES + 1];	/* innermost first, then 1 */
		int64_t		rest = k % points;

		if (nn_stop(c, &work, 16))
			return MR_CANCELED;
		for (int i = 0; i < axes; i++)
		{
			int64_t		d = s->dims[axes - i];
			double		at = (double) (rest % d);

			rest /= d;
			v[i] = c->p->i[0] ? (d > 1 ? 2 * at / (double) (d - 1) - 1 : 0) : (2 * at + 1) / (double) d - 1;
		}
		v[axes] = 1;
		for (int i = 0; i < axes; i++)
		{
			double		sum = 0;

			for (int j = 0; j <= axes; j++)
				sum += m[i * (axes + 1) + j] * v[j];
			y[i] = (float) sum;
		}
	}
	return MR_OK;
}
