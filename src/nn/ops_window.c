/*
 * ops_window.c
 *	  Attributes of windows: Conv, ConvTranspose and the pools, over 1 to 3 axes.
 */
#include "nn/ops_util.h"

#define MAX_WINDOW 65536		/* kernel, stride, dilation, pad */

typedef struct window
{
	int			axes;
	int64_t		kernel[3],
				stride[3],
				dilation[3],
				lo[3],
				hi[3];
	char		pad[32];		/* auto_pad */
} window;

static mr_code
list(nn_infer_call *c, const char *name, int want, int64_t *out, bool must)
{
	int			n;

	NN_TRY(nn_get_ints(c, name, 6, out, &n));
	if (n < 0 ? must : n != want)
		return nn_infer_fail(c, MR_INVALID, "attribute %s must have %d values", name, want);
	return MR_OK;
}

/* Everything but the output's size; kernel: of the weights, NULL for a pool. */
static mr_code
read_window(nn_infer_call *c, const nn_shape *s, const int64_t *kernel, window *w)
{
	int64_t		pads[6] = {0};

	memset(w, 0, sizeof(*w));
	w->axes = s->rank - 2;
	if (w->axes < 1 || w->axes > 3)
		return nn_infer_fail(c, MR_UNSUPPORTED, "windows over 1 to 3 dimensions are supported, the input has %d dimensions",
							 s->rank);
	for (int i = 0; i < w->axes; i++)
	{
		w->kernel[i] = kernel ? kernel[i] : 0;
		w->stride[i] = w->dilation[i] = 1;
	}
	NN_TRY(list(c, "kernel_shape", w->axes, w->kernel, kernel == NULL));
	NN_TRY(list(c, "strides", w->axes, w->stride, false));
	NN_TRY(list(c, "dilations", w->axes, w->dilation, false));
	NN_TRY(list(c, "pads", 2 * w->axes, pads, false));
	if (!nn_get_string(c, "auto_pad", "NOTSET", w->pad) ||
		(strcmp(w->pad, "NOTSET") != 0 && strcmp(w->pad, "VALID") != 0 && strcmp(w->pad, "SAME_UPPER") != 0 &&
		 strcmp(w->pad, "SAME_LOWER") != 0))
		return nn_infer_fail(c, MR_INVALID, "bad auto_pad");
	for (int i = 0; i < w->axes; i++)
	{
		w->lo[i] = pads[i];
		w->hi[i] = pads[i + w->axes];
		if (kernel && w->kernel[i] != kernel[i])
			return nn_infer_fail(c, MR_INVALID, "kernel_shape differs from the weights");
		if (w->kernel[i] < 1 || w->kernel[i] > MAX_WINDOW || w->stride[i] < 1 || w->stride[i] > MAX_WINDOW ||
			w->dilation[i] < 1 || w->dilation[i] > MAX_WINDOW || w->lo[i] < 0 || w->lo[i] > MAX_WINDOW ||
			w->hi[i] < 0 || w->hi[i] > MAX_WINDOW)
			return nn_infer_fail(c, MR_INVALID, "kernel, stride, dilation or pad out of range");
	}
	return MR_OK;
}

/* Into the node's parameters: the last two axes, then the first of three. */
static void
put_window(nn_infer_call *c, const window *w)
{
	for (int k = 0; k < 3; k++)
	{
		int			i = w->axes - 3 + k;	/* axis, -1 and -2: not there */
		int			two = k - 1;
		int64_t    *p = c->p->i;

		if (k == 0)
		{
			p[nn_w_kd] = i < 0 ? 1 : w->kernel[i];
			p[nn_w_sd] = i < 0 ? 1 : w->stride[i];
			p[nn_w_dd] = i < 0 ? 1 : w->dilation[i];
			p[nn_w_pf] = i < 0 ? 0 : w->lo[i];
			p[nn_w_pk] = i < 0 ? 0 : w->hi[i];
			continue;
		}
		p[nn_w_kh + two] = i < 0 ? 1 : w->kernel[i];
		p[nn_w_sh + two] = i < 0 ? 1 : w->stride[i];
		p[nn_w_dh + two] = i < 0 ? 1 : w->dilation[i];
		p[nn_w_pt + two] = i < 0 ? 0 : w->lo[i];
		p[nn_w_pb + two] = i < 0 ? 0 : w->hi[i];
	}
}

mr_code
nn_infer_window(nn_infer_call *c, const int64_t *kernel, nn_shape *s)
{
	window		w;
	int64_t		ceil_mode;

	NN_TRY(read_window(c, s, kernel, &w));
	NN_TRY(nn_get_int(c, "ceil_mode", 0, &ceil_mode));
	for (int i = 0; i < w.axes; i++)
	{
		int64_t		d = s->dims[2 + i];
		int64_t		reach = (w.kernel[i] - 1) * w.dilation[i] + 1;
		int64_t		room,
					out;

		if (strcmp(w.pad, "VALID") == 0)
			w.lo[i] = w.hi[i] = 0;
		else if (strcmp(w.pad, "NOTSET") != 0)
		{
			out = (d + w.stride[i] - 1) / w.stride[i];
			room = (out - 1) * w.stride[i] + reach - d;
			room = room < 0 ? 0 : room;
			w.lo[i] = strcmp(w.pad, "SAME_LOWER") == 0 ? (room + 1) / 2 : room / 2;
			w.hi[i] = room - w.lo[i];
		}
		room = d + w.lo[i] + w.hi[i] - reach;
		if (room < 0)
			return nn_infer_fail(c, MR_INVALID, "the window is larger than the padded input");
		out = (ceil_mode ? room + w.stride[i] - 1 : room) / w.stride[i] + 1;
		/* a window must start inside the input or its leading pad */
		if (ceil_mode && (out - 1) * w.stride[i] >= d + w.lo[i])
			out--;
		s->dims[2 + i] = out;
	}
	put_window(c, &w);
	return MR_OK;
}

/* The other way round: what the window was taken from. */
mr_code
nn_infer_window_back(nn_infer_call *c, const int64_t *kernel, nn_shape *s)
{
	window		w;
	int64_t		more[6] = {0},
				shape[6];
	int			n;

	NN_TRY(read_window(c, s, kernel, &w));
	NN_TRY(list(c, "output_padding", w.axes, more, false));
	NN_TRY(nn_get_ints(c, "output_shape", 6, shape, &n));
	if (n >= 0 && n != w.axes && n != s->rank)
		return nn_infer_fail(c, MR_INVALID, "attribute output_shape must have %d values", w.axes);
	for (int i = 0; i < w.axes; i++)
	{
		int64_t		full;

		if (more[i] < 0 || more[i] > MAX_WINDOW || s->dims[2 + i] < 1)
			return nn_infer_fail(c, MR_INVALID, "output_padding out of range, or empty input");
		full = (s->dims[2 + i] - 1) * w.stride[i] + more[i] + (w.kernel[i] - 1) * w.dilation[i] + 1;
		if (n >= 0 || strncmp(w.pad, "SAME_", 5) == 0)
		{
			int64_t		out = n >= 0 ? shape[i + (n - w.axes)] : s->dims[2 + i] * w.stride[i];
			int64_t		pad;

			if (out < 1 || out > NN_MAX_DIM)
				return nn_infer_fail(c, MR_INVALID, "output_shape out of range");
			pad = full > out ? full - out : 0;
			w.lo[i] = strcmp(w.pad, "SAME_UPPER") == 0 ? pad / 2 : pad - pad / 2;
			w.hi[i] = pad - w.lo[i];
			s->dims[2 + i] = out;
			continue;
		}
		if (strcmp(w.pad, "VALID") == 0)
			w.lo[i] = w.hi[i] = 0;
		s->dims[2 + i] = full - w.lo[i] - w.hi[i];
		if (s->dims[2 + i] < 1)
			return nn_infer_fail(c, MR_INVALID, "the pads are larger than the output");
	}
	put_window(c, &w);
	return MR_OK;
}
