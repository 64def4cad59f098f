/*
 * ops_roi.c
 *	  Sampling at positions that are data: RoiAlign, MaxRoiPool, DeformConv.
 *
 * Regions may lie anywhere, even outside the image or at infinity: every
 * coordinate is bounded before it becomes an index.
 */
#include <math.h>

#include "nn/ops_util.h"

#define MAX_GRID 1024			/* samples of a bin along an axis */
#define BLOCK 64				/* positions of DeformConv at a time */

/* The four neighbours of a position, with weights; those outside have weight 0. */
typedef struct corners
{
	int64_t		at[4];
	float		w[4];
} corners;

/* ---- RoiAlign: i[0] maximum, i[1] half pixels, i[2] sampling ratio; f[0] = scale ---- */

mr_code
nn_infer_roi_align(nn_infer_call *c)
{
	static const char *const modes[] = {"avg", "max"};
	static const char *const coordinates[] = {"output_half_pixel", "half_pixel"};
	nn_value   *x = nn_in(c, 0),
			   *rois = nn_in(c, 1),
			   *batch = nn_in(c, 2);
	nn_shape	s = x->shape;

	NN_TRY(nn_need_float(c, 0));
	NN_TRY(nn_need_float(c, 1));
	NN_TRY(nn_need_index(c, 2));
	c->p->i[0] = nn_get_choice(c, "mode", "avg", 2, modes);
	c->p->i[1] = c->n->opset < 16 ? 0 : nn_get_choice(c, "coordinate_transformation_mode", "half_pixel", 2, coordinates);
	NN_TRY(nn_get_int(c, "sampling_ratio", 0, &c->p->i[2]));
	NN_TRY(nn_get_int(c, "output_height", 1, &s.dims[2]));
	NN_TRY(nn_get_int(c, "output_width", 1, &s.dims[3]));
	NN_TRY(nn_get_float(c, "spatial_scale", 1, &c->p->f[0]));
	if (c->p->i[0] < 0 || c->p->i[1] < 0)
		return nn_infer_fail(c, MR_UNSUPPORTED, "mode or coordinate_transformation_mode is not supported");
	if (s.rank != 4 || x->shape.dims[2] < 1 || x->shape.dims[3] < 1 || rois->shape.rank != 2 || rois->shape.dims[1] != 4 || batch->shape.rank != 1 ||
		batch->elements != rois->shape.dims[0])
		return nn_infer_fail(c, MR_INVALID, "image, regions and their images do not fit");
	if (s.dims[2] < 1 || s.dims[3] < 1 || s.dims[2] > 65536 || s.dims[3] > 65536 || c->p->i[2] < 0 ||
		c->p->i[2] > MAX_GRID)
		return nn_infer_fail(c, MR_INVALID, "output size or sampling_ratio is out of range");
	s.dims[0] = rois->shape.dims[0];
	return nn_set_out(c, 0, nn_float32, &s);
}

/* Bilinear, clamped at the border; more than a pixel outside: all weights 0. */
static corners
clamped_corners(double y, double x, int64_t h, int64_t w)
{
	corners		k = {{0}, {0}};
	int64_t		y0,
				x0,
				y1,
				x1;
	float		fy,
				fx;

	if (!(y >= -1 && y <= (double) h && x >= -1 && x <= (double) w))
		return k;
	y = y < 0 ? 0 : y > (double) (h - 1) ? (double) (h - 1) : y;
	x = x < 0 ? 0 : x > (double) (w - 1) ? (double) (w - 1) : x;
	y0 = (int64_t) y;
	x0 = (int64_t) x;
	y1 = y0 + 1 < h ? y0 + 1 : y0;
	x1 = x0 + 1 < w ? x0 + 1 : x0;
	fy = (float) (y - (double) y0);
	fx = (float) (x - (double) x0);
	return (corners) {{y0 * w + x0, y0 * w + x1, y1 * w + x0, y1 * w + x1},
	{(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx}};
}

static int64_t
grid_size(int64_t ratio, double bin)
{
	double		n = ratio ? (double) ratio : ceil(bin);

	return n >= 1 ? n < MAX_GRID ? (int64_t) n : MAX_GRID : 0;
}

mr_code
nn_run_roi_align(nn_run_call *c)
{
	const nn_shape *x = &c->in[0].shape;
	const nn_shape *s = &c->out[0].shape;
	bool		max = c->p->i[0] != 0;
	double		half = c->p->i[1] ? 0.5 : 0;
	int64_t		plane = x->dims[2] * x->dims[3];
	int64_t		bins = s->dims[2] * s->dims[3];
	int64_t		work = 0;

	if (c->out[0].elements == 0)
		return MR_OK;
	for (int64_t r = 0; r < s->dims[0]; r++)
	{
		const float *roi = (const float *) c->in[1].data + r * 4;
		double		left = roi[0] * (double) c->p->f[0] - half,
					top = roi[1] * (double) c->p->f[0] - half,
					width = roi[2] * (double) c->p->f[0] - half - left,
					height = roi[3] * (double) c->p->f[0] - half - top;
		double		bin_h,
					bin_w;
		int64_t		image,
					gh,
					gw;

		NN_INDEX(c, &c->in[2], r, x->dims[0], image);
		if (!c->p->i[1])
		{
			width = width > 1 ? width : 1;
			height = height > 1 ? height : 1;
		}
		bin_h = height / (double) s->dims[2];
		bin_w = width / (double) s->dims[3];
		gh = grid_size(c->p->i[2], bin_h);
		gw = grid_size(c->p->i[2], bin_w);
		for (int64_t b = 0; b < bins; b++)
		{
			float	   *y = (float *) c->out[0].data + r * s->dims[1] * bins + b;

			for (int64_t ch = 0; ch < s->dims[1]; ch++)
				y[ch * bins] = 0;
			for (int64_t k = 0; k < gh * gw; k++)
			{
				double		at_y = top + ((double) (b / s->dims[3]) + ((double) (k / gw) + 0.5) / (double) gh) * bin_h;
				double		at_x = left + ((double) (b % s->dims[3]) + ((double) (k % gw) + 0.5) / (double) gw) * bin_w;
				corners		q = clamped_corners(at_y, at_x, x->dims[2], x->dims[3]);
				const float *p = (const float *) c->in[0].data + image * s->dims[1] * plane;

				if (nn_stop(c, &work, 16 + 8 * s->dims[1]))
					return MR_CANCELED;
				for (int64_t ch = 0; ch < s->dims[1]; ch++, p += plane)
				{
					float		v[4];

					for (int i = 0; i < 4; i++)
						v[i] = q.w[i] * p[q.at[i]];
					if (!max)
						y[ch * bins] += v[0] + v[1] + v[2] + v[3];
					else
					{
						/* the greatest weighted corner, as ONNX defines it */
						float		m = fmaxf(fmaxf(v[0], v[1]), fmaxf(v[2], v[3]));

						y[ch * bins] = k == 0 || m > y[ch * bins] ? m : y[ch * bins];
					}
				}
			}
			for (int64_t ch = 0; !max && gh * gw > 1 && ch < s->dims[1]; ch++)
				y[ch * bins] /= (float) (gh * gw);
		}
	}
	return MR_OK;
}

/* ---- MaxRoiPool: regions are image, left, top, right, bottom; f[0] = scale ---- */

mr_code
nn_infer_max_roi_pool(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0),
			   *rois = nn_in(c, 1);
	nn_shape	s = x->shape;
	int64_t		pooled[2];
	int			n;

	NN_TRY(nn_need_float(c, 0));
	NN_TRY(nn_need_float(c, 1));
	NN_TRY(nn_get_ints(c, "pooled_shape", 2, pooled, &n));
	NN_TRY(nn_get_float(c, "spatial_scale", 1, &c->p->f[0]));
	if (s.rank != 4 || rois->shape.rank != 2 || rois->shape.dims[1] != 5 || n != 2 || pooled[0] < 1 || pooled[1] < 1 ||
		pooled[0] > 65536 || pooled[1] > 65536)
		return nn_infer_fail(c, MR_INVALID, "image, regions and pooled_shape do not fit");
	s.dims[0] = rois->shape.dims[0];
	s.dims[2] = pooled[0];
	s.dims[3] = pooled[1];
	return nn_set_out(c, 0, nn_float32, &s);
}

/* Pixels [*from, *to) of bin b of n over a region from first to last. */
static void
bin_range(double first, double last, int64_t b, int64_t n, int64_t dim, int64_t *from, int64_t *to)
{
	double		size = last - first + 1 > 1 ? last - first + 1 : 1;
	double		lo = first + floor((double) b * size / (double) n);
	double		hi = first + ceil((double) (b + 1) * size / (double) n);

	*from = lo > 0 ? lo < (double) dim ? (int64_t) lo : dim : 0;
	*to = hi > 0 ? hi < (double) dim ? (int64_t) hi : dim : 0;
}

mr_code
nn_run_max_roi_pool(nn_run_call *c)
{
	const nn_shape *x = &c->in[0].shape;
	const nn_shape *s = &c->out[0].shape;
	int64_t		bins = s->dims[2] * s->dims[3];
	int64_t		work = 0;

	for (int64_t r = 0; r < s->dims[0]; r++)
	{
		const float *roi = (const float *) c->in[1].data + r * 5;
		double		edge[4];

		if (!(roi[0] >= 0 && roi[0] < (float) x->dims[0]))
			return nn_bad_index(c, -1, x->dims[0]);
		for (int i = 0; i < 4; i++)
			edge[i] = round((double) roi[1 + i] * c->p->f[0]);
		for (int64_t k = 0; k < s->dims[1] * bins; k++)
		{
			const float *p = (const float *) c->in[0].data +
				((int64_t) roi[0] * s->dims[1] + k / bins) * x->dims[2] * x->dims[3];
			float		top = -INFINITY;
			int64_t		y0,
						y1,
						x0,
						x1;

			bin_range(edge[1], edge[3], k % bins / s->dims[3], s->dims[2], x->dims[2], &y0, &y1);
			bin_range(edge[0], edge[2], k % s->dims[3], s->dims[3], x->dims[3], &x0, &x1);
			if (nn_stop(c, &work, 16 + (y1 - y0) * (x1 - x0)))
				return MR_CANCELED;
			for (int64_t y = y0; y < y1; y++)
				for (int64_t i = x0; i < x1; i++)
					top = p[y * x->dims[3] + i] > top ? p[y * x->dims[3] + i] : top;
			((float *) c->out[0].data)[r * s->dims[1] * bins + k] = y0 < y1 && x0 < x1 ? top : 0;
		}
	}
	return MR_OK;
}

/* ---- DeformConv: image, weights, offsets, bias, mask; a window as in Conv ---- */

mr_code
nn_infer_deform_conv(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0),
			   *w = nn_in(c, 1),
			   *off = nn_in(c, 2),
			   *bias = nn_in(c, 3),
			   *mask = nn_in(c, 4);
	nn_shape	s = x->shape;
	int64_t		groups,
				parts,
				taps;

	for (int k = 0; k < 5; k++)
		NN_TRY(nn_need_float(c, k));
	NN_TRY(nn_get_int(c, "group", 1, &groups));
	NN_TRY(nn_get_int(c, "offset_group", 1, &parts));
	if (s.rank != 4 || w->shape.rank != 4 || off->shape.rank != 4)
		return nn_infer_fail(c, MR_UNSUPPORTED, "only 2-D convolutions are supported");
	if (groups < 1 || parts < 1 || groups > s.dims[1] || parts > s.dims[1] || s.dims[1] % groups || s.dims[1] % parts ||
		w->shape.dims[0] < 1 || w->shape.dims[0] % groups || w->shape.dims[1] != s.dims[1] / groups ||
		s.dims[2] < 1 || s.dims[3] < 1)
		return nn_infer_fail(c, MR_INVALID, "weights and groups do not fit %lld input channels", (long long) s.dims[1]);
	NN_TRY(nn_infer_window(c, w->shape.dims + 2, &s));
	taps = w->shape.dims[2] * w->shape.dims[3];
	s.dims[1] = w->shape.dims[0];
	if (off->shape.dims[0] != s.dims[0] || off->shape.dims[1] != parts * taps * 2 || off->shape.dims[2] != s.dims[2] ||
		off->shape.dims[3] != s.dims[3] || (bias && bias->elements != s.dims[1]) ||
		(mask && (mask->elements * 2 != off->elements || mask->shape.rank != 4 || mask->shape.dims[0] != s.dims[0])))
		return nn_infer_fail(c, MR_INVALID, "offsets, bias or mask do not fit");
	c->p->i[nn_w_groups] = groups;
	c->p->i[nn_w_parts] = parts;
	return nn_set_out(c, 0, nn_float32, &s);
}

/* Bilinear with zeros outside. */
static corners
zero_corners(double y, double x, int64_t h, int64_t w)
{
	corners		k = {{0}, {0}};
	double		y0 = floor(y),
				x0 = floor(x);

	if (!(y > -1 && y < (double) h && x > -1 && x < (double) w))
		return k;
	for (int i = 0; i < 4; i++)
	{
		double		cy = y0 + i / 2,
					cx = x0 + i % 2;

		if (cy < 0 || cy >= (double) h || cx < 0 || cx >= (double) w)
			continue;
		k.at[i] = (int64_t) cy * w + (int64_t) cx;
		k.w[i] = (float) ((1 - fabs(y - cy)) * (1 - fabs(x - cx)));
	}
	return k;
}

/* Adds one tap of one input channel to n neighbours of a line, for all outputs of
 * the channel's group. */
static void
add_tap(const float *plane, const corners *q, int n, const float *w, int64_t w_step,
		float *y, int64_t y_step, int64_t outputs)
{
	float		v[BLOCK];

	for (int j = 0; j < n; j++)
		v[j] = q[j].w[0] * plane[q[j].at[0]] + q[j].w[1] * plane[q[j].at[1]] +
			q[j].w[2] * plane[q[j].at[2]] + q[j].w[3] * plane[q[j].at[3]];
	for (int64_t o = 0; o < outputs; o++, w += w_step, y += y_step)
		for (int j = 0; j < n; j++)
			y[j] += *w * v[j];
}

mr_code
nn_run_deform_conv(nn_run_call *c)
{
	const int64_t *p = c->p->i;
	const nn_shape *x = &c->in[0].shape;
	const nn_shape *s = &c->out[0].shape;
	const float *bias = c->n_in > 3 ? c->in[3].data : NULL;
	const float *mask = c->n_in > 4 ? c->in[4].data : NULL;
	int64_t		taps = p[nn_w_kh] * p[nn_w_kw];
	int64_t		in_group = x->dims[1] / p[nn_w_groups],
				out_group = s->dims[1] / p[nn_w_groups],
				in_part = x->dims[1] / p[nn_w_parts];
	int64_t		points = s->dims[2] * s->dims[3];
	int64_t		plane = x->dims[2] * x->dims[3];
	int64_t		work = 0;

	for (int64_t k = 0; k < c->out[0].elements; k++)
		((float *) c->out[0].data)[k] = bias ? bias[k / points % s->dims[1]] : 0;
	for (int64_t l = 0; l < s->dims[0] * s->dims[2]; l++)
		for (int64_t from = 0; from < s->dims[3]; from += BLOCK)
		{
			int64_t		n = l / s->dims[2],
						Y = l % s->dims[2];
			int			m = (int) (s->dims[3] - from < BLOCK ? s->dims[3] - from : BLOCK);
			int64_t		point = Y * s->dims[3] + from;

			for (int64_t t = 0; t < p[nn_w_parts] * taps; t++)
			{
				const float *off = (const float *) c->in[2].data + (n * p[nn_w_parts] * taps + t) * 2 * points + point;
				const float *f = mask ? mask + (n * p[nn_w_parts] * taps + t) * points + point : NULL;
				int64_t		tap = t % taps;
				corners		q[BLOCK];

				for (int j = 0; j < m; j++)
				{
					double		at_y = (double) (Y * p[nn_w_sh] - p[nn_w_pt] + tap / p[nn_w_kw] * p[nn_w_dh]) + off[j];
					double		at_x = (double) ((from + j) * p[nn_w_sw] - p[nn_w_pl] + tap % p[nn_w_kw] * p[nn_w_dw]) +
						off[points + j];

					q[j] = zero_corners(at_y, at_x, x->dims[2], x->dims[3]);
					for (int i = 0; f && i < 4; i++)
						q[j].w[i] *= f[j];
				}
				for (int64_t i = t / taps * in_part; i < (t / taps + 1) * in_part; i++)
				{
					int64_t		g = i / in_group;

					if (nn_stop(c, &work, m * (out_group + 8)))
						return MR_CANCELED;
					add_tap((const float *) c->in[0].data + (n * x->dims[1] + i) * plane, q, m,
							(const float *) c->in[1].data + (g * out_group * in_group + i % in_group) * taps + tap,
							in_group * taps, (float *) c->out[0].data + (n * s->dims[1] + g * out_group) * points + point,
							points, out_group);
				}
			}
		}
	return MR_OK;
}
