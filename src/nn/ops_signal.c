/*
 * ops_signal.c
 *	  DFT and STFT.
 *
 * Fourier transforms of any length by Stockham's scheme over its prime factors,
 * in double.  The work space, a table of roots of unity and two buffers, is one
 * more output of the node (nn_need_outputs).
 */
#include <math.h>

#include "nn/ops_util.h"

#define MAX_LENGTH (1 << 22)

typedef struct transform
{
	nn_run_call *c;
	int64_t		n;
	bool		inverse;
	double	   *root;			/* n complex numbers each */
	double	   *x,
			   *y;
	int64_t		work;
} transform;

static mr_code
add_work_space(nn_infer_call *c, int64_t n)
{
	nn_shape	s = {1, {n * 6 * (int64_t) sizeof(double)}};

	return nn_set_out(c, 1, nn_uint8, &s);
}

static void
start_transform(transform *t, nn_run_call *c, int64_t n, bool inverse)
{
	memset(t, 0, sizeof(*t));
	t->c = c;
	t->n = n;
	t->inverse = inverse;
	t->root = c->out[1].data;
	t->x = t->root + 2 * n;
	t->y = t->x + 2 * n;
	for (int64_t k = 0; k < n; k++)
	{
		double		a = (inverse ? 2 : -2) * M_PI * (double) k / (double) n;

		t->root[2 * k] = cos(a);
		t->root[2 * k + 1] = sin(a);
	}
}

/* One factor p: x of s interleaved sequences of length n into y of s * p of n / p. */
static mr_code
stage(transform *t, int64_t n, int64_t p, int64_t s)
{
	int64_t		m = n / p;

	for (int64_t q = 0; q < m; q++)
		for (int64_t r = 0; r < p; r++)
		{
			double	   *y = t->y + 2 * s * (p * q + r);

			memset(y, 0, (size_t) (2 * s) * sizeof(double));
			for (int64_t j = 0; j < p; j++)
			{
				const double *x = t->x + 2 * s * (q + m * j);
				const double *w = t->root + 2 * (r * (q + m * j) % n * s);

				if (nn_stop(t->c, &t->work, 4 * s))
					return MR_CANCELED;
				for (int64_t k = 0; k < s; k++)
				{
					y[2 * k] += x[2 * k] * w[0] - x[2 * k + 1] * w[1];
					y[2 * k + 1] += x[2 * k] * w[1] + x[2 * k + 1] * w[0];
				}
			}
		}
	return MR_OK;
}

/* x becomes its transform. */
static mr_code
run_transform(transform *t)
{
	int64_t		n = t->n,
				s = 1;

	for (int64_t p = 2; n > 1; p++)
	{
		if (p * p > n)
			p = n;
		while (n % p == 0)
		{
			double	   *swap = t->x;

			NN_TRY(stage(t, n, p, s));
			t->x = t->y;
			t->y = swap;
			n /= p;
			s *= p;
		}
	}
	return MR_OK;
}

/* ---- DFT: i[0] axis, i[1] length, i[2] inverse, i[3] from half a spectrum to real ---- */

mr_code
nn_infer_dft(nn_infer_call *c)
{
	nn_shape	s;
	int64_t    *p = c->p->i;
	int64_t		onesided,
				axis = c->n->opset < 20 ? 1 : -2;
	int			n;

	NN_TRY(nn_need_outputs(c, 2));
	s = nn_in(c, 0)->shape;
	NN_TRY(nn_need_float(c, 0));
	NN_TRY(nn_get_int(c, "inverse", 0, &p[2]));
	NN_TRY(nn_get_int(c, "onesided", 0, &onesided));
	if (c->n->opset < 20)
		NN_TRY(nn_get_int(c, "axis", axis, &axis));
	else if (nn_in(c, 2))
	{
		NN_TRY(nn_const_ints(c, 2, 1, &axis, &n));
		if (n != 1)
			return nn_infer_fail(c, MR_INVALID, "the axis must be one number");
	}
	NN_TRY(nn_norm_axis(c, &axis, s.rank));
	if (s.rank < 2 || axis == s.rank - 1 || s.dims[s.rank - 1] < 1 || s.dims[s.rank - 1] > 2)
		return nn_infer_fail(c, MR_INVALID, "the last dimension must be 1 (real) or 2 (complex), and not the axis");
	p[0] = axis;
	p[3] = onesided && p[2];
	p[1] = p[3] ? 2 * (s.dims[axis] - 1) : s.dims[axis];
	if (nn_in(c, 1))
	{
		NN_TRY(nn_const_ints(c, 1, 1, &p[1], &n));
		if (n != 1)
			return nn_infer_fail(c, MR_INVALID, "the length must be one number");
	}
	if (p[1] < 1 || p[1] > MAX_LENGTH)
		return nn_infer_fail(c, MR_INVALID, "length %lld is out of range", (long long) p[1]);
	if (onesided && s.dims[s.rank - 1] != (p[2] ? 2 : 1))
		return nn_infer_fail(c, MR_INVALID, "onesided is for real signals");
	s.dims[axis] = onesided && !p[2] ? p[1] / 2 + 1 : p[1];
	s.dims[s.rank - 1] = p[3] ? 1 : 2;
	NN_TRY(add_work_space(c, p[1]));
	return nn_set_out(c, 0, nn_float32, &s);
}

mr_code
nn_run_dft(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	const nn_shape *s = &c->out[0].shape;
	int			axis = (int) c->p->i[0];
	int64_t		parts = x->shape.dims[s->rank - 1];
	int64_t		n = c->p->i[1];
	int64_t		given = x->shape.dims[axis] < n ? x->shape.dims[axis] : n;
	int			out_parts = (int) s->dims[s->rank - 1];
	double		scale = c->p->i[2] ? 1 / (double) n : 1;
	int64_t		outer,
				inner;
	transform	t;

	start_transform(&t, c, n, c->p->i[2] != 0);
	nn_around_axis(s, axis, &outer, &inner);
	inner /= out_parts;
	for (int64_t o = 0; o < outer * inner; o++)
	{
		const float *src = (const float *) x->data + (o / inner * x->shape.dims[axis] * inner + o % inner) * parts;
		float	   *dst = (float *) c->out[0].data + (o / inner * s->dims[axis] * inner + o % inner) * out_parts;

		for (int64_t i = 0; i < n; i++)
		{
			t.x[2 * i] = i < given ? src[i * inner * parts] : 0;
			t.x[2 * i + 1] = i < given && parts == 2 ? src[i * inner * parts + 1] : 0;
		}
		/* the other half mirrors the first */
		for (int64_t i = n / 2 + 1; c->p->i[3] && i < n; i++)
		{
			t.x[2 * i] = t.x[2 * (n - i)];
			t.x[2 * i + 1] = -t.x[2 * (n - i) + 1];
		}
		NN_TRY(run_transform(&t));
		for (int64_t i = 0; i < s->dims[axis]; i++)
			for (int k = 0; k < out_parts; k++)
				dst[i * inner * out_parts + k] = (float) (t.x[2 * i + k] * scale);
	}
	return MR_OK;
}

/* ---- STFT: i[0] step, i[1] length of a frame ---- */

mr_code
nn_infer_stft(nn_infer_call *c)
{
	nn_shape	x,
				s = {4, {0}};
	const nn_value *window;
	int64_t    *p = c->p->i;
	int64_t		onesided;
	int			n;

	NN_TRY(nn_need_outputs(c, 2));
	x = nn_in(c, 0)->shape;
	window = nn_in(c, 2);
	NN_TRY(nn_need_float(c, 0));
	NN_TRY(nn_need_float(c, 2));
	NN_TRY(nn_get_int(c, "onesided", 1, &onesided));
	NN_TRY(nn_const_ints(c, 1, 1, &p[0], &n));
	if (n != 1 || (window == NULL && nn_in(c, 3) == NULL))
		return nn_infer_fail(c, MR_INVALID, "needs a step, and a window or a length");
	p[1] = window ? window->elements : 0;
	if (nn_in(c, 3))
		NN_TRY(nn_const_ints(c, 3, 1, &p[1], &n));
	if (x.rank == 2)
		x.dims[x.rank++] = 1;
	if (x.rank != 3 || x.dims[2] < 1 || x.dims[2] > 2 || (onesided && x.dims[2] != 1))
		return nn_infer_fail(c, MR_INVALID, "the signal must be real, or complex and not onesided");
	if (n != 1 || p[0] < 1 || p[0] > NN_MAX_DIM || p[1] < 1 || p[1] > x.dims[1] || p[1] > MAX_LENGTH ||
		(window && window->elements != p[1]))
		return nn_infer_fail(c, MR_INVALID, "step, window and length do not fit a signal of %lld", (long long) x.dims[1]);
	s.dims[0] = x.dims[0];
	s.dims[1] = (x.dims[1] - p[1]) / p[0] + 1;
	s.dims[2] = onesided ? p[1] / 2 + 1 : p[1];
	s.dims[3] = 2;
	NN_TRY(add_work_space(c, p[1]));
	return nn_set_out(c, 0, nn_float32, &s);
}

mr_code
nn_run_stft(nn_run_call *c)
{
	const nn_shape *x = &c->in[0].shape;
	const nn_shape *s = &c->out[0].shape;
	int64_t		parts = x->rank == 3 ? x->dims[2] : 1;
	int64_t		n = c->p->i[1];
	const float *window = c->n_in > 2 ? c->in[2].data : NULL;
	transform	t;

	start_transform(&t, c, n, false);
	for (int64_t f = 0; f < s->dims[0] * s->dims[1]; f++)
	{
		const float *src = (const float *) c->in[0].data +
			(f / s->dims[1] * x->dims[1] + f % s->dims[1] * c->p->i[0]) * parts;
		float	   *dst = (float *) c->out[0].data + f * s->dims[2] * 2;

		for (int64_t i = 0; i < n; i++)
		{
			double		w = window ? window[i] : 1;

			t.x[2 * i] = src[i * parts] * w;
			t.x[2 * i + 1] = parts == 2 ? src[i * parts + 1] * w : 0;
		}
		NN_TRY(run_transform(&t));
		for (int64_t i = 0; i < 2 * s->dims[2]; i++)
			dst[i] = (float) t.x[i];
	}
	return MR_OK;
}
