/*
 * ops_conv.c
 *	  Convolution and its transpose on plain tensors, over 1 to 3 dimensions.
 *
 * These are the reference.  Inside a network the planner gives convolutions of
 * one image to the blocked kernels; the plain ones serve batches fixed above 1,
 * weights that are not constant, 3-D, and tests.  Both add whole lines: for one
 * weight, every output (or input) position of a line that it touches.
 */
#include "nn/ops_util.h"

/* ---- Conv ---- */

static mr_code
check_weights(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0),
			   *w = nn_in(c, 1);

	for (int k = 0; k < 3; k++)
		NN_TRY(nn_need_float(c, k));
	if (x->shape.rank < 3 || x->shape.rank > 5 || w->shape.rank != x->shape.rank)
		return nn_infer_fail(c, MR_UNSUPPORTED, "only 1-D to 3-D convolutions are supported, the input has %d dimensions, the weights %d",
							 x->shape.rank, w->shape.rank);
	for (int i = 0; i < w->shape.rank; i++)
		if (w->shape.dims[i] < 1)
			return nn_infer_fail(c, MR_INVALID, "empty weights");
	return MR_OK;
}

static mr_code
check_bias(nn_infer_call *c, int64_t channels)
{
	nn_value   *b = nn_in(c, 2);

	if (b && (b->shape.rank != 1 || b->shape.dims[0] != channels))
		return nn_infer_fail(c, MR_INVALID, "the bias does not fit the weights");
	return MR_OK;
}

mr_code
nn_infer_conv(nn_infer_call *c)
{
	nn_value   *w = nn_in(c, 1);
	nn_shape	s = nn_in(c, 0)->shape;
	int64_t		groups;

	NN_TRY(check_weights(c));
	NN_TRY(nn_get_int(c, "group", 1, &groups));
	if (groups < 1 || groups > s.dims[1] || s.dims[1] % groups || w->shape.dims[0] % groups ||
		s.dims[1] / groups != w->shape.dims[1])
		return nn_infer_fail(c, MR_INVALID, "weights of %lld x %lld channels and %lld groups do not fit %lld input channels",
							 (long long) w->shape.dims[0], (long long) w->shape.dims[1], (long long) groups,
							 (long long) s.dims[1]);
	NN_TRY(check_bias(c, w->shape.dims[0]));
	NN_TRY(nn_infer_window(c, w->shape.dims + 2, &s));
	s.dims[1] = w->shape.dims[0];
	c->p->i[nn_w_groups] = groups;
	return nn_set_out(c, 0, nn_float32, &s);
}

/* row += f * line, along x: row[X] takes line[X * step + off]. */
static inline void
add_line(float *row, int64_t out, const float *line, int64_t in, int64_t step, int64_t off, float f)
{
	int64_t		from,
				to;

	nn_span(off, step, in, out, &from, &to);
	if (step == 1)
		for (int64_t i = from; i < to; i++)
			row[i] += f * line[i + off];
	else
		for (int64_t i = from; i < to; i++)
			row[i] += f * line[i * step + off];
}

mr_code
nn_run_conv(nn_run_call *c)
{
	const nn_tensor *w = &c->in[1];
	const float *bias = c->n_in > 2 ? c->in[2].data : NULL;
	const int64_t *p = c->p->i;
	nn_volume	x = nn_volume_of(&c->in[0].shape),
				y = nn_volume_of(&c->out[0].shape);
	int64_t		ic = w->shape.dims[1],
				per_group = y.c / p[nn_w_groups];
	int64_t		taps = p[nn_w_kd] * p[nn_w_kh] * p[nn_w_kw];
	int64_t		lines = y.n * y.c * y.d * y.h;
	int64_t		work = 0;

	for (int64_t l = 0; l < lines; l++)
	{
		int64_t		Y = l % y.h,
					Z = l / y.h % y.d,
					o = l / (y.h * y.d) % y.c,
					n = l / (y.h * y.d * y.c);
		float	   *row = (float *) c->out[0].data + l * y.w;
		const float *planes = (const float *) c->in[0].data + (n * x.c + o / per_group * ic) * x.d * x.h * x.w;
		const float *weights = (const float *) w->data + o * ic * taps;

		for (int64_t X = 0; X < y.w; X++)
			row[X] = bias ? bias[o] : 0;
		for (int64_t i = 0; i < ic; i++)
		{
			if (nn_stop(c, &work, y.w * taps))
				return MR_CANCELED;
			for (int64_t t = 0; t < p[nn_w_kd] * p[nn_w_kh]; t++)
			{
				int64_t		z = Z * p[nn_w_sd] - p[nn_w_pf] + t / p[nn_w_kh] * p[nn_w_dd];
				int64_t		y0 = Y * p[nn_w_sh] - p[nn_w_pt] + t % p[nn_w_kh] * p[nn_w_dh];

				if (z < 0 || z >= x.d || y0 < 0 || y0 >= x.h)
					continue;
				for (int64_t k = 0; k < p[nn_w_kw]; k++)
					add_line(row, y.w, planes + ((i * x.d + z) * x.h + y0) * x.w, x.w, p[nn_w_sw],
							 k * p[nn_w_dw] - p[nn_w_pl], weights[i * taps + t * p[nn_w_kw] + k]);
			}
		}
	}
	return MR_OK;
}

/* ---- ConvTranspose: weights are (channels, outputs of a group, kernel) ---- */

mr_code
nn_infer_conv_transpose(nn_infer_call *c)
{
	nn_value   *w = nn_in(c, 1);
	nn_shape	s = nn_in(c, 0)->shape;
	int64_t		groups,
				channels;

	NN_TRY(check_weights(c));
	NN_TRY(nn_get_int(c, "group", 1, &groups));
	if (groups < 1 || groups > s.dims[1] || s.dims[1] % groups || s.dims[1] != w->shape.dims[0] ||
		__builtin_mul_overflow(w->shape.dims[1], groups, &channels))
		return nn_infer_fail(c, MR_INVALID, "weights of %lld x %lld channels and %lld groups do not fit %lld input channels",
							 (long long) w->shape.dims[0], (long long) w->shape.dims[1], (long long) groups,
							 (long long) s.dims[1]);
	NN_TRY(check_bias(c, channels));
	NN_TRY(nn_infer_window_back(c, w->shape.dims + 2, &s));
	s.dims[1] = channels;
	c->p->i[nn_w_groups] = groups;
	return nn_set_out(c, 0, nn_float32, &s);
}

/* Input line that reaches output line `at` through tap k, -1: none. */
static inline int64_t
source_line(int64_t at, int64_t k, int64_t stride, int64_t dilation, int64_t pad, int64_t in)
{
	int64_t		v = at + pad - k * dilation;

	return v < 0 || v % stride || v / stride >= in ? -1 : v / stride;
}

mr_code
nn_run_conv_transpose(nn_run_call *c)
{
	const nn_tensor *w = &c->in[1];
	const float *bias = c->n_in > 2 ? c->in[2].data : NULL;
	const int64_t *p = c->p->i;
	nn_volume	x = nn_volume_of(&c->in[0].shape),
				y = nn_volume_of(&c->out[0].shape);
	int64_t		ic = x.c / p[nn_w_groups],
				per_group = w->shape.dims[1];
	int64_t		taps = p[nn_w_kd] * p[nn_w_kh] * p[nn_w_kw];
	int64_t		lines = y.n * y.c * y.d * y.h;
	int64_t		work = 0;

	for (int64_t l = 0; l < lines; l++)
	{
		int64_t		Y = l % y.h,
					Z = l / y.h % y.d,
					o = l / (y.h * y.d) % y.c,
					n = l / (y.h * y.d * y.c);
		float	   *row = (float *) c->out[0].data + l * y.w;

		for (int64_t X = 0; X < y.w; X++)
			row[X] = bias ? bias[o] : 0;
		for (int64_t t = 0; t < p[nn_w_kd] * p[nn_w_kh]; t++)
		{
			int64_t		z = source_line(Z, t / p[nn_w_kh], p[nn_w_sd], p[nn_w_dd], p[nn_w_pf], x.d);
			int64_t		y0 = source_line(Y, t % p[nn_w_kh], p[nn_w_sh], p[nn_w_dh], p[nn_w_pt], x.h);

			if (z < 0 || y0 < 0)
				continue;
			for (int64_t i = 0; i < ic; i++)
			{
				int64_t		ch = o / per_group * ic + i;
				const float *line = (const float *) c->in[0].data + (((n * x.c + ch) * x.d + z) * x.h + y0) * x.w;
				const float *weights = (const float *) w->data + (ch * per_group + o % per_group) * taps + t * p[nn_w_kw];

				if (nn_stop(c, &work, x.w * p[nn_w_kw]))
					return MR_CANCELED;
				for (int64_t k = 0; k < p[nn_w_kw]; k++)
				{
					int64_t		off = k * p[nn_w_dw] - p[nn_w_pl];
					int64_t		step = p[nn_w_sw];
					int64_t		from,
								to;
					float		f = weights[k];

					/* input position X lands on X * step + off */
					nn_span(off, step, y.w, x.w, &from, &to);
					if (step == 1)
						for (int64_t X = from; X < to; X++)
							row[X + off] += f * line[X];
					else
						for (int64_t X = from; X < to; X++)
							row[X * step + off] += f * line[X];
				}
			}
		}
	}
	return MR_OK;
}
