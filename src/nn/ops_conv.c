/*
 * ops_conv.c
 *	  Convolution, pooling and normalisation on plain NCHW tensors.
 *
 * These are the reference: simple loops in the order of the definition.  Inside
 * a network the planner gives the same operators to the blocked kernels; the
 * plain ones serve batches fixed above 1, weights that are not constant, and
 * tests.  1-D windows are 2-D ones of height 1 (nn_window_param).
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "nn/ops_impl.h"

#define MAX_WINDOW 65536		/* kernel, stride, dilation, pad */

/* Attributes of a window over x (rank 3 or 4) with a kernel of kh x kw (0: from
 * the attribute); sets the output's spatial dims. */
mr_code
nn_infer_window(nn_infer_call *c, int64_t kh, int64_t kw, nn_shape *s)
{
	int			spatial = s->rank - 2;
	int64_t		kernel[2] = {1, 1},
				stride[2] = {1, 1},
				dilation[2] = {1, 1},
				pads[4] = {0, 0, 0, 0};
	int64_t		lo[2],
				hi[2];
	int64_t		ceil_mode;
	char		pad[32];
	int			n;

	if (s->rank != 3 && s->rank != 4)
		return nn_infer_fail(c, MR_UNSUPPORTED, "only 1-D and 2-D windows are supported, the input has %d dimensions",
							 s->rank);
	NN_TRY(nn_get_ints(c, "kernel_shape", 2, kernel, &n));
	if (kh == 0 ? n != spatial : (n >= 0 && n != spatial))
		return nn_infer_fail(c, MR_INVALID, "kernel_shape does not fit");
	if (kh)
	{
		int64_t		want[2] = {spatial == 2 ? kh : kw, kw};

		for (int i = 0; i < n; i++)
			if (kernel[i] != want[i])
				return nn_infer_fail(c, MR_INVALID, "kernel_shape differs from the weights");
		kernel[0] = want[0];
		kernel[1] = want[1];
	}
	NN_TRY(nn_get_ints(c, "strides", 2, stride, &n));
	if (n >= 0 && n != spatial)
		return nn_infer_fail(c, MR_INVALID, "strides do not fit");
	NN_TRY(nn_get_ints(c, "dilations", 2, dilation, &n));
	if (n >= 0 && n != spatial)
		return nn_infer_fail(c, MR_INVALID, "dilations do not fit");
	NN_TRY(nn_get_ints(c, "pads", 4, pads, &n));
	if (n >= 0 && n != 2 * spatial)
		return nn_infer_fail(c, MR_INVALID, "pads do not fit");
	NN_TRY(nn_get_int(c, "ceil_mode", 0, &ceil_mode));
	if (!nn_get_string(c, "auto_pad", "NOTSET", pad))
		return nn_infer_fail(c, MR_INVALID, "bad auto_pad");
	for (int i = 0; i < spatial; i++)
	{
		int64_t		d = s->dims[2 + i];
		int64_t		window,
					room,
					out;

		lo[i] = pads[i];
		hi[i] = pads[i + spatial];
		if (kernel[i] < 1 || kernel[i] > MAX_WINDOW || stride[i] < 1 || stride[i] > MAX_WINDOW || dilation[i] < 1 ||
			dilation[i] > MAX_WINDOW || lo[i] < 0 || hi[i] < 0 || lo[i] > MAX_WINDOW || hi[i] > MAX_WINDOW)
			return nn_infer_fail(c, MR_INVALID, "kernel, stride, dilation or pad out of range");
		window = (kernel[i] - 1) * dilation[i] + 1;
		if (strcmp(pad, "VALID") == 0)
			lo[i] = hi[i] = 0;
		else if (strncmp(pad, "SAME_", 5) == 0)
		{
			out = (d + stride[i] - 1) / stride[i];
			room = (out - 1) * stride[i] + window - d;
			room = room < 0 ? 0 : room;
			lo[i] = strcmp(pad, "SAME_LOWER") == 0 ? (room + 1) / 2 : room / 2;
			hi[i] = room - lo[i];
		}
		else if (strcmp(pad, "NOTSET") != 0)
			return nn_infer_fail(c, MR_INVALID, "bad auto_pad");
		room = d + lo[i] + hi[i] - window;
		if (room < 0)
			return nn_infer_fail(c, MR_INVALID, "the window is larger than the padded input");
		out = (ceil_mode ? room + stride[i] - 1 : room) / stride[i] + 1;
		/* a window must start inside the input or its leading pad */
		if (ceil_mode && (out - 1) * stride[i] >= d + lo[i])
			out--;
		s->dims[2 + i] = out;
	}
	if (spatial == 1)
	{
		kernel[1] = kernel[0];
		stride[1] = stride[0];
		dilation[1] = dilation[0];
		lo[1] = lo[0];
		hi[1] = hi[0];
		kernel[0] = stride[0] = dilation[0] = 1;
		lo[0] = hi[0] = 0;
	}
	for (int i = 0; i < 2; i++)
	{
		c->p->i[nn_w_kh + i] = kernel[i];
		c->p->i[nn_w_sh + i] = stride[i];
		c->p->i[nn_w_dh + i] = dilation[i];
		c->p->i[nn_w_pt + i] = lo[i];
		c->p->i[nn_w_pb + i] = hi[i];
	}
	return MR_OK;
}

/* Height and width of a rank 3 or 4 tensor. */
static inline int64_t
height(const nn_shape *s)
{
	return s->rank == 4 ? s->dims[2] : 1;
}

static inline int64_t
width(const nn_shape *s)
{
	return s->dims[s->rank - 1];
}

mr_code
nn_infer_conv(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_value   *w = nn_in(c, 1);
	nn_value   *b = nn_in(c, 2);
	nn_shape	s = x->shape;
	int64_t		groups;

	for (int k = 0; k < 3; k++)
		NN_TRY(nn_need_float(c, k));
	NN_TRY(nn_get_int(c, "group", 1, &groups));
	if ((s.rank != 3 && s.rank != 4) || w->shape.rank != s.rank)
		return nn_infer_fail(c, MR_UNSUPPORTED, "only 1-D and 2-D convolutions are supported, the input has %d dimensions, the weights %d",
							 s.rank, w->shape.rank);
	if (groups < 1 || w->shape.dims[0] < 1 || w->shape.dims[1] < 1 || groups > s.dims[1] || s.dims[1] % groups ||
		w->shape.dims[0] % groups || s.dims[1] / groups != w->shape.dims[1])
		return nn_infer_fail(c, MR_INVALID, "weights of %lld x %lld channels and %lld groups do not fit %lld input channels",
							 (long long) w->shape.dims[0], (long long) w->shape.dims[1], (long long) groups,
							 (long long) s.dims[1]);
	if (b && (b->shape.rank != 1 || b->shape.dims[0] != w->shape.dims[0]))
		return nn_infer_fail(c, MR_INVALID, "the bias does not fit the weights");
	if (height(&w->shape) < 1 || width(&w->shape) < 1)
		return nn_infer_fail(c, MR_INVALID, "empty kernel");
	NN_TRY(nn_infer_window(c, height(&w->shape), width(&w->shape), &s));
	s.dims[1] = w->shape.dims[0];
	c->p->i[nn_w_groups] = groups;
	return nn_set_out(c, 0, nn_float32, &s);
}

mr_code
nn_run_conv(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	const nn_tensor *w = &c->in[1];
	const float *bias = c->n_in > 2 ? c->in[2].data : NULL;
	nn_tensor  *y = &c->out[0];
	const int64_t *p = c->p->i;
	int64_t		ic = w->shape.dims[1],
				oc = y->shape.dims[1],
				per_group = oc / p[nn_w_groups];
	int64_t		ih = height(&x->shape),
				iw = width(&x->shape),
				oh = height(&y->shape),
				ow = width(&y->shape);
	int64_t		kh = p[nn_w_kh],
				kw = p[nn_w_kw];
	int64_t		work = 0;

	for (int64_t n = 0; n < y->shape.dims[0]; n++)
		for (int64_t o = 0; o < oc; o++)
			for (int64_t Y = 0; Y < oh; Y++)
			{
				float	   *row = (float *) y->data + ((n * oc + o) * oh + Y) * ow;

				if ((work += ow * ic * kh * kw) >= NN_STOP_WORK)
				{
					work = 0;
					if (mr_interrupted(c->env))
						return MR_CANCELED;
				}
				for (int64_t X = 0; X < ow; X++)
					row[X] = bias ? bias[o] : 0;
				for (int64_t i = 0; i < ic; i++)
					for (int64_t ky = 0; ky < kh; ky++)
					{
						int64_t		sy = Y * p[nn_w_sh] - p[nn_w_pt] + ky * p[nn_w_dh];
						const float *line = (const float *) x->data +
							((n * x->shape.dims[1] + o / per_group * ic + i) * ih + sy) * iw;

						if (sy < 0 || sy >= ih)
							continue;
						for (int64_t kx = 0; kx < kw; kx++)
						{
							float		f = ((const float *) w->data)[((o * ic + i) * kh + ky) * kw + kx];
							int64_t		dx = kx * p[nn_w_dw] - p[nn_w_pl];

							for (int64_t X = 0; X < ow; X++)
							{
								int64_t		sx = X * p[nn_w_sw] + dx;

								if (sx >= 0 && sx < iw)
									row[X] += f * line[sx];
							}
						}
					}
			}
	return MR_OK;
}

mr_code
nn_infer_pool(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = x->shape;
	int64_t		order;

	NN_TRY(nn_need_float(c, 0));
	NN_TRY(nn_infer_window(c, 0, 0, &s));
	NN_TRY(nn_get_int(c, "storage_order", 0, &order));
	NN_TRY(nn_get_int(c, "count_include_pad", 0, &c->p->i[nn_w_count_pad]));
	if (order != 0 || nn_out(c, 1))
		return nn_infer_fail(c, MR_UNSUPPORTED, "the indices output is not supported");
	c->p->i[nn_w_count_pad] = c->p->i[nn_w_count_pad] != 0;
	return nn_set_out(c, 0, nn_float32, &s);
}

mr_code
nn_run_pool(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	nn_tensor  *y = &c->out[0];
	const int64_t *p = c->p->i;
	bool		max = c->op->kind == nn_kind_maxpool;
	int64_t		planes = y->shape.dims[0] * y->shape.dims[1];
	int64_t		ih = height(&x->shape),
				iw = width(&x->shape),
				oh = height(&y->shape),
				ow = width(&y->shape);
	int64_t		work = 0;

	for (int64_t n = 0; n < planes; n++)
		for (int64_t Y = 0; Y < oh; Y++)
		{
			if ((work += ow * p[nn_w_kh] * p[nn_w_kw]) >= NN_STOP_WORK)
			{
				work = 0;
				if (mr_interrupted(c->env))
					return MR_CANCELED;
			}
			for (int64_t X = 0; X < ow; X++)
			{
				float		acc = max ? -INFINITY : 0;
				int64_t		count = 0;

				for (int64_t ky = 0; ky < p[nn_w_kh]; ky++)
				{
					int64_t		sy = Y * p[nn_w_sh] - p[nn_w_pt] + ky * p[nn_w_dh];

					for (int64_t kx = 0; kx < p[nn_w_kw]; kx++)
					{
						int64_t		sx = X * p[nn_w_sw] - p[nn_w_pl] + kx * p[nn_w_dw];
						float		v;

						if (sy < 0 || sy >= ih || sx < 0 || sx >= iw)
						{
							/* stated pads count, cells beyond them (ceil) do not */
							count += p[nn_w_count_pad] && sy < ih + p[nn_w_pb] && sx < iw + p[nn_w_pr];
							continue;
						}
						v = ((const float *) x->data)[(n * ih + sy) * iw + sx];
						acc = max ? (v > acc || v != v ? v : acc) : acc + v;
						count++;
					}
				}
				((float *) y->data)[(n * oh + Y) * ow + X] = max ? acc : count ? acc / (float) count : 0;
			}
		}
	return MR_OK;
}

mr_code
nn_infer_global_pool(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = x->shape;

	NN_TRY(nn_need_float(c, 0));
	if (s.rank < 2)
		return nn_infer_fail(c, MR_INVALID, "input of %d dimensions", s.rank);
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

	for (int64_t n = 0; n < planes; n++, p += cells)
	{
		double		sum = 0;
		float		top = -INFINITY;

		if ((n & 63) == 63 && mr_interrupted(c->env))
			return MR_CANCELED;
		for (int64_t i = 0; i < cells; i++)
		{
			sum += p[i];
			top = p[i] > top ? p[i] : top;
		}
		((float *) c->out[0].data)[n] = c->op->kind == nn_kind_global_maxpool ? top : (float) (sum / (double) cells);
	}
	return MR_OK;
}
