/*
 * kernels_drive.c
 *	  The loops around the tiles: convolution and product for any instruction set.
 *
 * A convolution becomes a "plane": lines of pixels at fixed strides and a list
 * of steps (block of input channels, tap), each an offset from a pixel.  Zero
 * borders make all pixels alike, so no im2col is needed; 1x1 over tensors
 * without border becomes one long line.  Loops, outside in:
 *
 *		block of lines (input that stays in L2) > panel of couts > chunk of K (weights that stay in
 *		L1/L2) > line or pair of lines > tile
 *
 * Between chunks of K the partial sums wait in the output (exact: float32 both
 * ways), so results do not depend on the chunks.  Pixel strides without a tile
 * of their own, and stems of strides other than 1 and 2, gather the pixels of
 * a line into scratch first.
 */
#include "nn/kernels_core.h"

#define BLOCK_BYTES (384 * 1024)	/* of input in a block of lines */

typedef struct plane
{
	const float *a;				/* first pixel (top left tap) of line 0 */
	size_t		a_line;			/* floats from line to line */
	int			a_pix;			/* floats from pixel to pixel */
	size_t		a_blk,			/* from a block of channels to the next, */
				a_ky,			/* from tap to tap */
				a_kx;
	float	   *o;
	size_t		o_line,
				o_pix,
				o_blk;
	const float *r;				/* residual or NULL */
	size_t		r_line,
				r_pix,
				r_blk;
	int			ob0;			/* block of couts that o and r begin with */
	int			lines,
				width;
	float		lo,
				hi;
	const nn_act *act;			/* applied to what is finished, NULL: clipping alone */
	bool		sums;			/* neither residual nor limits */
} plane;

/* Steps [s0, s0 + n) of a panel: block of channels > ky > kx; with tap3 the
 * three kx are one step.  Returns how many values of K they have. */
static size_t
list_steps(const nn_conv *cv, const plane *p, const nn_panel *pan, bool tap3, int s0, int n, nn_step *step)
{
	size_t		k = 0;
	int			across = tap3 ? 1 : cv->kw;
	int			taps = cv->kh * across;

	for (int i = 0; i < n; i++)
	{
		int			cb = pan->cb + (s0 + i) / taps,
					t = (s0 + i) % taps;
		int			left = cv->cin - cb * NN_LANES;

		step[i].off = (ptrdiff_t) (cb * p->a_blk + t / across * p->a_ky + t % across * p->a_kx);
		step[i].ki = left < NN_LANES ? left : NN_LANES;
		k += step[i].ki;
	}
	return tap3 ? 3 * k : k;
}

/* Is this panel one for the tiles of three taps?  Depends on the layer alone. */
static bool
use_tap3(const nn_isa_ops *ops, const nn_conv *cv, const plane *p, const nn_panel *pan)
{
	return ops->max_mr3 > 0 && pan->nb == 1 && cv->kw == 3 && p->a_kx == NN_LANES && p->a_pix == NN_LANES &&
		p->width >= 8;
}

/* Cut width pixels into tiles of at most max: count and size of the first ones
 * (the rest are one smaller).  Multiples of 8 go as 8s: such maps are frequent
 * and 8 x 32 keeps both FMA pipes full. */
static void
cut(int width, int max, int *count, int *big, int *size)
{
	if (max >= 8 && width % max != 0 && width % 8 == 0)
		*count = width / 8;
	else
		*count = (width + max - 1) / max;
	*size = (width + *count - 1) / *count;
	*big = width - (*size - 1) * *count;
}

/* The activation of n finished pixels of a panel, while they are in L1. */
static inline void
activate_pixels(const nn_isa_ops *ops, const plane *p, const nn_tile_job *job, float *o, int n, int nb)
{
	if (p->act && job->last)
		for (int b = 0; b < nb; b++)
			ops->activate(o + b * p->o_blk, o + b * p->o_blk, (size_t) n * NN_LANES, *p->act);
}

/* After a tile: it asked for its share of what comes next. */
static inline void
advance(nn_tile_job *job)
{
	if (job->ahead_lines == 0)
		return;
	job->ahead += (size_t) job->ahead_lines * job->nsteps * NN_ALIGN;
	if (job->ahead >= job->ahead_end)
		job->ahead_lines = 0;
}

/* Lines that do not divide into full tiles, where there are tiles across the
 * end of a line: cut the pixels of all lines as one sequence.  False if there
 * are none; then nothing is done. */
static bool
run_across(const nn_isa_ops *ops, nn_tile_job *job, const plane *p, int ob, int nb, int l0, int l1)
{
	nn_tile_fn	fn[NN_MAX_MR + 1];
	int			mr = ops->max_mr;
	int			x = 0;

	if (p->width % mr == 0 || p->width < mr || p->width > 4 * mr || l1 - l0 < 2)
		return false;
	for (int h = 1; h <= mr; h++)
		if ((fn[h] = ops->tile(mr, nb, p->a_pix, h)) == NULL)
			return false;
	for (int l = l0; l < l1;)
	{
		const float *a = p->a + l * p->a_line;
		float	   *o = p->o + l * p->o_line + (ob - p->ob0) * p->o_blk;
		const float *r = p->r ? p->r + l * p->r_line + (ob - p->ob0) * p->r_blk : NULL;
		const float *ax = a + x * p->a_pix;
		float	   *ox = o + x * p->o_pix;
		const float *rx = r ? r + x * p->r_pix : NULL;
		int			left = p->width - x;

		if (left > mr || (left < mr && l + 1 < l1))
		{
			fn[left < mr ? left : mr] (job, ax, a + p->a_line, ox, o + p->o_line, rx, r ? r + p->r_line : NULL);
			activate_pixels(ops, p, job, ox, left < mr ? left : mr, nb);
			if (left < mr)
				activate_pixels(ops, p, job, o + p->o_line, mr - left, nb);
			x += mr;
		}
		else
		{
			ops->tile(left, nb, p->a_pix, left) (job, ax, ax, ox, ox, rx, rx);
			activate_pixels(ops, p, job, ox, left, nb);
			x = p->width;
		}
		advance(job);
		if (x >= p->width)
		{
			x -= p->width;
			l++;
		}
	}
	return true;
}

/* All pixels of lines [l0, l1) with the job's panel and chunk. */
static void
run_lines(const nn_isa_ops *ops, nn_tile_job *job, const plane *p, bool tap3, int ob, int nb,
		  int l0, int l1)
{
	int			count,
				big,
				size;
	int			l = l0;
	nn_tile_fn	fn[2];
	nn_tile_fn	pair = NULL;

	/* Short lines: two at a time fill a tile. */
	if (p->width * 2 <= ops->max_mr && !tap3)
		pair = ops->tile(p->width * 2, nb, p->a_pix, p->width);
	if (pair)
		for (; l + 2 <= l1; l += 2)
		{
			const float *a = p->a + l * p->a_line;
			float	   *o = p->o + l * p->o_line + (ob - p->ob0) * p->o_blk;
			const float *r = p->r ? p->r + l * p->r_line + (ob - p->ob0) * p->r_blk : NULL;

			pair(job, a, a + p->a_line, o, o + p->o_line, r, r ? r + p->r_line : NULL);
			activate_pixels(ops, p, job, o, p->width, nb);
			activate_pixels(ops, p, job, o + p->o_line, p->width, nb);
			advance(job);
		}
	if (l >= l1 || (!tap3 && run_across(ops, job, p, ob, nb, l, l1)))
		return;
	cut(p->width, tap3 ? ops->max_mr3 : ops->max_mr, &count, &big, &size);
	for (int i = 0; i < 2; i++)
		fn[i] = tap3 ? ops->tile3(size - i) : ops->tile(size - i, nb, p->a_pix, size - i);
	for (; l < l1; l++)
	{
		const float *a = p->a + l * p->a_line;
		float	   *o = p->o + l * p->o_line + (ob - p->ob0) * p->o_blk;
		const float *r = p->r ? p->r + l * p->r_line + (ob - p->ob0) * p->r_blk : NULL;

		for (int i = 0; i < count; i++)
		{
			int			mr = i < big ? size : size - 1;

			fn[i >= big] (job, a, a, o, o, r, r);
			activate_pixels(ops, p, job, o, mr, nb);
			advance(job);
			a += mr * p->a_pix;
			o += mr * p->o_pix;
			if (r)
				r += mr * p->r_pix;
		}
	}
}

/* While the job's tiles work they fetch the n weights at b into the L2 cache,
 * evenly: the next chunk or panel, or the next layer's first one, as packs follow
 * each other in a compiled file.  A prefetch beyond its end does no harm. */
static void
read_ahead(const nn_isa_ops *ops, nn_tile_job *job, const float *b, size_t n, int pixels)
{
	size_t		turns = (size_t) ((pixels + ops->max_mr - 1) / ops->max_mr) * job->nsteps;

	job->ahead = (const char *) b;
	job->ahead_end = job->ahead + n * sizeof(float);
	job->ahead_lines = (int) ((n * sizeof(float) / NN_ALIGN + turns - 1) / turns);
	nn_translate(job->ahead, n * sizeof(float));
}

/* One panel over lines [l0, l1); b: its weights, bias: its couts'.  Returns where
 * the weights end. */
static const float *
run_panel(const nn_isa_ops *ops, const nn_conv *cv, const plane *p, const nn_panel *pan, const float *b,
		  const float *bias, int l0, int l1)
{
	nn_step		step[NN_MAX_STEPS];
	bool		tap3 = use_tap3(ops, cv, p, pan);
	int			all = cv->kh * (tap3 ? 1 : cv->kw) * pan->ncb;

	for (int s = 0; s < all; s += NN_MAX_STEPS)
	{
		int			n = all - s < NN_MAX_STEPS ? all - s : NN_MAX_STEPS;
		size_t		k = list_steps(cv, p, pan, tap3, s, n, step);
		nn_tile_job job = {
			.b = b, .step = step, .nsteps = n, .bias = bias,
			.out_pix = p->o_pix, .out_blk = p->o_blk, .res_pix = p->r_pix, .res_blk = p->r_blk,
			.first = s == 0, .last = s + n == all && !p->sums, .lo = p->lo, .hi = p->hi
		};

		b += k * pan->nb * NN_LANES;
		read_ahead(ops, &job, b, k * pan->nb * NN_LANES, p->width * (l1 - l0));
		run_lines(ops, &job, p, tap3, pan->ob, pan->nb, l0, l1);
	}
	return b;
}

/* A plane whose pixels are all in place: block of lines > panel. */
static void
run_plane(const nn_isa_ops *ops, const nn_conv *cv, const void *pack, plane *p)
{
	const float *bias = nn_pack_bias(pack);
	int			blocks = nn_blocks(cv->cout);
	/* input that the taps of one pixel add to those of its neighbours */
	size_t		pixel_bytes = sizeof(float) * NN_LANES * nn_blocks(cv->cin) *
		(cv->kh < cv->sh ? cv->kh : cv->sh) * (cv->kw < cv->sw ? cv->kw : cv->sw);
	size_t		bytes = pixel_bytes * p->lines * p->width;
	int			count = (int) ((bytes + BLOCK_BYTES / 2) / BLOCK_BYTES);
	int			long_line = p->lines == 1 ? p->width : 0;
	int			total = long_line ? long_line : p->lines;
	int			unit = long_line ? 4 * NN_MAX_MR : 2;	/* pixels, lines: whole tiles where possible */
	int			block;

	block = count > 1 ? (total + count - 1) / count : total;
	block = (block + unit - 1) / unit * unit;
	for (int at = 0; at < total; at += block)
	{
		const float *b = nn_pack_weights(pack, cv->cout);
		int			n = total - at < block ? total - at : block;
		plane		q = *p;

		if (long_line)
		{
			q.a += (size_t) at * p->a_pix;
			q.o += (size_t) at * p->o_pix;
			if (q.r)
				q.r += (size_t) at * p->r_pix;
			q.width = n;
		}
		for (int ob = 0; ob < blocks; ob += nn_panel_blocks(ops->isa))
		{
			nn_panel	pan = nn_panel_at(ops->isa, cv, ob);

			b = run_panel(ops, cv, &q, &pan, b, bias + ob * NN_LANES, long_line ? 0 : at, long_line ? 1 : at + n);
		}
	}
}

/* The output side of a plane: lines [y0, y1) of out and of the residual. */
static void
set_output(plane *p, const nn_conv *cv, const nn_view *out, const nn_view *res, int y0, int y1)
{
	p->o = out->data + y0 * out->row_pitch;
	p->o_line = out->row_pitch;
	p->o_pix = NN_LANES;
	p->o_blk = out->blk_pitch;
	p->r = res ? res->data + y0 * res->row_pitch : NULL;
	p->r_line = res ? res->row_pitch : 0;
	p->r_pix = NN_LANES;
	p->r_blk = res ? res->blk_pitch : 0;
	p->ob0 = 0;
	p->lines = y1 - y0;
	p->width = out->w;
	p->act = nn_act_is_clip(cv->act, &p->lo, &p->hi) ? NULL : &cv->act;
	p->sums = false;
}

void
nn_drive_finish(const nn_isa_ops *ops, nn_act act, const nn_view *out, int y0, int y1)
{
	float		lo,
				hi;

	if (!nn_act_is_clip(act, &lo, &hi))
		for (int b = 0; b < nn_blocks(out->c); b++)
			for (int y = y0; y < y1; y++)
			{
				float	   *o = out->data + b * out->blk_pitch + y * out->row_pitch;

				ops->activate(o, o, (size_t) out->w * NN_LANES, act);
			}
	if (nn_act_moves_zero(act))
		nn_zero_lanes(out, y0, y1);
}

/* Has this set tiles for pixels stride floats apart? */
static bool
has_stride(const nn_isa_ops *ops, int stride)
{
	return ops->tile(1, 1, stride, 1) != NULL;
}

/* ---- views ---- */

static int
max_steps(const nn_conv *cv)
{
	int			n = cv->kh * cv->kw * nn_blocks(cv->cin);

	return n < NN_MAX_STEPS ? n : NN_MAX_STEPS;
}

#define STEM_BYTES (128 * 1024)	/* of input lines in scratch */

/* Stem input in scratch: planes of lines with zero borders; floats of a line. */
static size_t
stem_line(const nn_conv *cv, int out_w)
{
	return (size_t) (out_w - 1) * cv->sw + (size_t) (cv->kw - 1) * cv->dw + 1;
}

/* Input lines for n output lines. */
static int
stem_lines(const nn_conv *cv, int n)
{
	return (n - 1) * cv->sh + (cv->kh - 1) * cv->dh + 1;
}

/* Output lines at a time. */
static int
stem_block(const nn_conv *cv, int out_h, int out_w)
{
	size_t		fit = STEM_BYTES / (stem_line(cv, out_w) * cv->cin * sizeof(float));
	size_t		n = fit > (size_t) stem_lines(cv, 2) ? (fit - stem_lines(cv, 1)) / cv->sh + 1 : 2;

	return n < (size_t) out_h ? (int) n : out_h;
}

static bool
stem_direct(const nn_isa_ops *ops, const nn_conv *cv)
{
	return cv->dw == 1 && cv->groups == 1 && has_stride(ops, cv->sw);
}

size_t
nn_drive_conv_scratch(const nn_isa_ops *ops, const nn_conv *cv, int in_h, int in_w, int out_h, int out_w)
{
	(void) in_h;
	(void) in_w;
	if (cv->form == nn_conv_planar)
	{
		if (stem_direct(ops, cv))
			return sizeof(float) * stem_line(cv, out_w) * cv->cin * stem_lines(cv, stem_block(cv, out_h, out_w));
		return sizeof(float) * NN_LANES * nn_blocks(cv->kh * cv->kw * cv->cin) * out_w;
	}
	if (has_stride(ops, cv->sw * NN_LANES))
		return 0;
	return sizeof(float) * NN_LANES * max_steps(cv) * out_w;
}

/* Strides without tiles: per line, chunk and panel group, copy each step's
 * pixels side by side; then the steps lie out_w * 16 floats apart. */
static void
conv_gathered(const nn_isa_ops *ops, const nn_conv *cv, const void *pack, const nn_view *in, plane *p,
			  float *scratch)
{
	const float *bias = nn_pack_bias(pack);
	int			blocks = nn_blocks(cv->cout),
				taps = cv->kh * cv->kw;

	for (int l = 0; l < p->lines; l++)
	{
		const float *b = nn_pack_weights(pack, cv->cout);

		for (int ob = 0; ob < blocks; ob += nn_panel_blocks(ops->isa))
		{
			nn_panel	pan = nn_panel_at(ops->isa, cv, ob);
			int			all = taps * pan.ncb;

			for (int s = 0; s < all; s += NN_MAX_STEPS)
			{
				nn_step		step[NN_MAX_STEPS];
				int			n = all - s < NN_MAX_STEPS ? all - s : NN_MAX_STEPS;
				size_t		k = list_steps(cv, p, &pan, false, s, n, step);
				plane		q = *p;
				nn_tile_job job = {
					.b = b, .step = step, .nsteps = n, .bias = bias + pan.ob * NN_LANES,
					.out_pix = p->o_pix, .out_blk = p->o_blk, .res_pix = p->r_pix, .res_blk = p->r_blk,
					.first = s == 0, .last = s + n == all, .lo = p->lo, .hi = p->hi
				};

				for (int i = 0; i < n; i++)
				{
					const float *src = p->a + l * p->a_line + step[i].off;
					float	   *dst = scratch + (size_t) i * p->width * NN_LANES;

					/* The same pixels serve the next panel if all fit a chunk. */
					if (ob == 0 || all > NN_MAX_STEPS || cv->groups > 1)
						for (int x = 0; x < p->width; x++)
							memcpy(dst + x * NN_LANES, src + (size_t) x * p->a_pix, NN_LANES * sizeof(float));
					step[i].off = (ptrdiff_t) i * p->width * NN_LANES;
				}
				q.a = scratch;
				q.a_line = 0;
				q.a_pix = NN_LANES;
				q.o += l * p->o_line;
				if (q.r)
					q.r += l * p->r_line;
				run_lines(ops, &job, &q, false, pan.ob, pan.nb, 0, 1);
				b += k * pan.nb * NN_LANES;
			}
		}
	}
	(void) in;
}

void
nn_drive_conv(const nn_isa_ops *ops, const nn_conv *cv, const void *pack, const nn_view *in, const nn_view *res,
			  const nn_view *out, int y0, int y1, void *scratch)
{
	plane		p;
	size_t		tight = (size_t) out->w * NN_LANES;

	if (y1 <= y0)
		return;
	set_output(&p, cv, out, res, y0, y1);
	p.a = in->data + ((ptrdiff_t) y0 * cv->sh - cv->pt) * (ptrdiff_t) in->row_pitch -
		(ptrdiff_t) cv->pl * NN_LANES;
	p.a_line = cv->sh * in->row_pitch;
	p.a_pix = cv->sw * NN_LANES;
	p.a_blk = in->blk_pitch;
	p.a_ky = cv->dh * in->row_pitch;
	p.a_kx = (size_t) cv->dw * NN_LANES;
	if (!has_stride(ops, p.a_pix))
		conv_gathered(ops, cv, pack, in, &p, scratch);
	else
	{
		/* 1x1 over tensors without border: all lines are one. */
		if (cv->kh * cv->kw == 1 && cv->sh == 1 && cv->sw == 1 && cv->pt == 0 && cv->pl == 0 &&
			in->row_pitch == tight && out->row_pitch == tight && (res == NULL || res->row_pitch == tight))
		{
			p.width *= p.lines;
			p.lines = 1;
		}
		run_plane(ops, cv, pack, &p);
	}
	if (nn_act_moves_zero(cv->act))
		nn_zero_lanes(out, y0, y1);
}

void
nn_drive_panel(const nn_isa_ops *ops, const nn_conv *cv, const void *pack, int ob, const nn_view *in,
			   const nn_view *out)
{
	nn_panel	pan = nn_panel_at(ops->isa, cv, ob);
	plane		p = {0};

	set_output(&p, cv, out, NULL, 0, out->h);
	p.a = in->data;
	p.a_line = in->row_pitch;
	p.a_pix = NN_LANES;
	p.a_blk = in->blk_pitch;
	p.ob0 = ob;
	run_panel(ops, cv, &p, &pan, nn_pack_weights(pack, cv->cout) + (size_t) ob * NN_LANES * cv->cin,
			  nn_pack_bias(pack) + ob * NN_LANES, 0, p.lines);
	if (nn_act_moves_zero(cv->act))
		nn_zero_lanes(out, 0, out->h);
}

/* ---- the stem: plain CHW input ---- */

/* The input lines that output lines from y0 on need, zeros around them. */
static void
stem_copy(const nn_conv *cv, const float *in, int in_h, int in_w, int out_w, int y0, int lines, float *dst)
{
	int			pixels = (int) stem_line(cv, out_w);
	int			from = cv->pl > 0 ? cv->pl : 0,
				to = in_w + cv->pl < pixels ? in_w + cv->pl : pixels;

	for (int c = 0; c < cv->cin; c++)
		for (int i = 0; i < lines; i++, dst += pixels)
		{
			int			y = y0 * cv->sh - cv->pt + i;
			const float *src = in + ((ptrdiff_t) c * in_h + y) * in_w - cv->pl;

			if (y < 0 || y >= in_h || from >= to)
			{
				memset(dst, 0, (size_t) pixels * sizeof(float));
				continue;
			}
			memset(dst, 0, (size_t) from * sizeof(float));
			memcpy(dst + from, src + from, (size_t) (to - from) * sizeof(float));
			memset(dst + to, 0, (size_t) (pixels - to) * sizeof(float));
		}
}

/* Other stems: per line, the K = kh * kw * cin inputs of each pixel as blocks. */
static void
unfold(const nn_conv *cv, const float *in, int in_h, int in_w, int out_w, int y, float *dst)
{
	int			k = 0;
	int			all = cv->kh * cv->kw * cv->cin;

	if (all % NN_LANES)
		memset(dst + (size_t) (all / NN_LANES) * out_w * NN_LANES, 0, sizeof(float) * NN_LANES * out_w);
	for (int c = 0; c < cv->cin; c++)
		for (int ky = 0; ky < cv->kh; ky++)
			for (int kx = 0; kx < cv->kw; kx++, k++)
			{
				float	   *d = dst + (size_t) (k / NN_LANES) * out_w * NN_LANES + k % NN_LANES;
				int			iy = y * cv->sh - cv->pt + ky * cv->dh;
				const float *src = in + ((ptrdiff_t) c * in_h + iy) * in_w;

				for (int x = 0; x < out_w; x++)
				{
					int			ix = x * cv->sw - cv->pl + kx * cv->dw;

					d[(size_t) x * NN_LANES] =
						iy >= 0 && iy < in_h && ix >= 0 && ix < in_w ? src[ix] : 0;
				}
			}
}

/* All panels over lines [0, lines) of q, whose pixels are in scratch: runs of `run`
 * values of K, those of a channel `chan` floats apart, `row` from line to line. */
static void
run_stem(const nn_isa_ops *ops, const nn_conv *cv, const void *pack, const plane *q, int run, size_t chan, size_t row)
{
	const float *b = nn_pack_weights(pack, cv->cout);
	int			k_all = cv->kh * cv->kw * cv->cin;
	int			rows = row ? cv->kh : 1;	/* runs of a channel */

	for (int ob = 0; ob < nn_blocks(cv->cout); ob += nn_panel_blocks(ops->isa))
	{
		nn_panel	pan = nn_panel_at(ops->isa, cv, ob);
		nn_step		step[NN_MAX_STEPS];
		int			n = 0;

		for (int k = 0; k < k_all; k += run)
		{
			int			i = k / run;

			step[n].off = (ptrdiff_t) (i / rows * chan + i % rows * row);
			step[n].ki = k_all - k < run ? k_all - k : run;
			n++;
			if (n == NN_MAX_STEPS || k + run >= k_all)
			{
				nn_tile_job job = {
					.b = b, .step = step, .nsteps = n, .bias = nn_pack_bias(pack) + ob * NN_LANES,
					.out_pix = q->o_pix, .out_blk = q->o_blk, .res_pix = q->r_pix, .res_blk = q->r_blk,
					.first = i < NN_MAX_STEPS, .last = k + run >= k_all, .lo = q->lo, .hi = q->hi
				};

				run_lines(ops, &job, q, false, ob, pan.nb, 0, q->lines);
				for (int s = 0; s < n; s++)
					b += (size_t) step[s].ki * pan.nb * NN_LANES;
				n = 0;
			}
		}
	}
}

void
nn_drive_conv_planar(const nn_isa_ops *ops, const nn_conv *cv, const void *pack, const float *in, int in_h, int in_w,
					 const nn_view *res, const nn_view *out, int y0, int y1, void *scratch)
{
	bool		direct = stem_direct(ops, cv);
	int			some = direct ? stem_block(cv, out->h, out->w) : 1;
	size_t		line = stem_line(cv, out->w);

	for (int y = y0; y < y1; y += some)
	{
		int			n = y1 - y < some ? y1 - y : some;
		plane		p = {0};

		set_output(&p, cv, out, res, y, y + n);
		p.a = scratch;
		if (direct)
		{
			int			lines = stem_lines(cv, n);

			stem_copy(cv, in, in_h, in_w, out->w, y, lines, scratch);
			p.a_line = cv->sh * line;
			p.a_pix = cv->sw;
			run_stem(ops, cv, pack, &p, cv->kw, lines * line, cv->dh * line);
		}
		else
		{
			unfold(cv, in, in_h, in_w, out->w, y, scratch);
			p.a_pix = NN_LANES;
			run_stem(ops, cv, pack, &p, NN_LANES, (size_t) out->w * NN_LANES, 0);
		}
	}
	if (nn_act_moves_zero(cv->act))
		nn_zero_lanes(out, y0, y1);
}

void
nn_drive_sums(const nn_isa_ops *ops, int k, int n, const float *b, const float *a, size_t a_blk, int m,
			  float *o, size_t o_blk)
{
	static const float zero[NN_LANES * NN_MAX_PANEL] = {0};
	nn_conv		cv = {.cin = k, .cout = n, .groups = 1, .kh = 1, .kw = 1};
	plane		p = {.a = a, .a_pix = NN_LANES, .a_blk = a_blk, .o = o, .o_pix = NN_LANES, .o_blk = o_blk,
		.lines = 1, .width = m, .sums = true};

	for (int ob = 0; ob < nn_blocks(n); ob += nn_panel_blocks(ops->isa))
	{
		nn_panel	pan = nn_panel_at(ops->isa, &cv, ob);

		b = run_panel(ops, &cv, &p, &pan, b, zero, 0, 1);
	}
}
