/*
 * kernels_low_drive.c
 *	  The loops around the tiles of few bits: convolution and product for any
 *	  kind and instruction set.
 *
 * As in kernels_drive.c a convolution is a plane of pixels and a list of steps;
 * distances are bytes here, since inputs and outputs may have different
 * elements.  Sums live in registers only (an output of 8 bits cannot hold them),
 * so a tile runs through all of K: a panel is at most a few hundred KB.
 *
 * What a tile cannot do (activations other than a clip, residuals of another
 * type, columns that are not whole vectors) goes through a buffer of one tile in
 * float32 and a second pass over it while it is in L1.
 */
#include "nn/kernels_low_core.h"

#define BLOCK_BYTES (384 * 1024)	/* of input in a block of lines */
#define MAX_PARTS 4					/* panels that share a line of output */

typedef struct plane
{
	const nn_low_ops *ops;
	nn_low_tile_fn (*tile) (int mr, int nb, int stride, int half);
	const nn_conv *cv;
	const char *a;				/* first pixel (top left tap) of line 0 */
	size_t		a_line,
				a_pix,
				a_blk,
				a_ky,
				a_kx;
	char	   *o;
	size_t		o_line,
				o_blk;			/* between blocks of the element's lanes */
	const char *r;				/* residual or NULL */
	size_t		r_line,
				r_blk;
	int			lines,
				width,
				couts;
	bool		sums;			/* from zero on: no bias */
	bool		second;			/* tiles write float32, a second pass does the rest */
	nn_low_post post;
	nn_low_job	job;			/* what all panels have in common */
	nn_step    *steps;
	const int32_t *start_q;		/* by cout */
	const float *start_f;
	const float *mult;
	const float *add;
} plane;

/* ---- what a layer's couts have in common ---- */

/* Scratch: start, mult and add of every cout, then steps, then the rest. */
static size_t
arrays_bytes(int cout)
{
	return 3 * nn_low_array(cout);
}

static size_t
steps_bytes(const nn_low_ops *ops, const nn_conv *cv)
{
	int			blocks = nn_elem_blocks(nn_low_elem(ops->kind), cv->cin) + 1;

	return ((size_t) cv->kh * cv->kw * blocks * sizeof(nn_step) + NN_ALIGN - 1) / NN_ALIGN * NN_ALIGN;
}

/* Could a sum be more quanta of out than int32 holds?  Not with scales that make
 * any sense: then the second pass, which clips before it rounds, is good enough. */
static bool
may_overflow(const void *pack, int cout, nn_quant in, const nn_quant *res, nn_quant out)
{
	const float *scale = nn_low_scale(pack, cout),
			   *bias = nn_low_bias(pack);
	bool		fits = res == NULL || res->scale < out.scale * 1e6f;

	for (int o = 0; o < cout; o++)
		fits = fits && in.scale * scale[o] < 0.5f * out.scale && fabsf(bias[o]) < out.scale * 1e8f;
	return !fits;
}

/* Decide what the tiles do, and fold quantisations into the couts' factors. */
static void
set_numbers(plane *p, const void *pack, nn_quant in, const nn_quant *res, nn_quant out, nn_act act,
			char *scratch)
{
	const nn_low_ops *ops = p->ops;
	nn_elem		native = nn_low_elem(ops->kind);
	int			cout = p->cv->cout,
				n = NN_LANES * nn_blocks(cout);
	float		lo,
				hi;
	bool		clip = nn_act_is_clip(act, &lo, &hi);
	bool		bounded = res && (p->cv->lo != 0 || p->cv->hi != 0);
	float		unit = 1;

	p->job.through = nn_through_none;
	if (ops->silu && act.kind == nn_act_silu && out.elem == native && (res == NULL || res->elem == native))
	{
		clip = true;
		p->job.through = nn_through_silu;
	}
	p->second = !clip || (res && (res->elem != native || out.elem != native)) ||
		(ops->kind == nn_low_u8 && out.elem == native && may_overflow(pack, cout, in, res, out));
	p->post.act = act;
	p->post.out = out;
	p->post.res = res ? *res : out;
	if (p->second || out.elem != native)
		p->job.through = nn_through_wide;
	p->job.lo = p->second ? -INFINITY : lo;
	p->job.hi = p->second ? INFINITY : hi;
	if (p->second && bounded)
	{
		p->job.lo = p->cv->lo;
		p->job.hi = p->cv->hi;
	}
	p->job.pre_lo = -INFINITY;
	p->job.pre_hi = INFINITY;
	p->start_f = nn_low_bias(pack);
	p->tile = p->cv->form == nn_conv_planar ? ops->stem_tile : ops->tile;
	p->steps = (nn_step *) (scratch + arrays_bytes(cout));
	if (ops->kind != nn_low_u8)
		return;

	if (p->job.through == nn_through_none)
	{
		unit = out.scale;
		p->job.zero = out.zero;
		p->job.lo = fmaxf(lo / unit, (float) -out.zero);
		p->job.hi = fminf(hi / unit, (float) (255 - out.zero));
		/* an empty range (clip outside what out can hold): its nearer end */
		p->job.lo = fminf(p->job.lo, (float) (255 - out.zero));
		p->job.hi = fmaxf(p->job.hi, (float) -out.zero);
		p->job.least = (int16_t) ((int) nearbyintf(p->job.lo) + out.zero);
		p->job.most = (int16_t) ((int) nearbyintf(p->job.hi) + out.zero);
		if (res)
		{
			p->job.res_mult = res->scale / unit;
			p->job.res_zero = (float) res->zero;
			if (bounded)
			{
				p->job.pre_lo = p->cv->lo / unit;
				p->job.pre_hi = p->cv->hi / unit;
			}
		}
	}
	{
		uint32_t   *start = (uint32_t *) scratch;
		float	   *mult = (float *) (scratch + nn_low_array(cout)),
				   *add = (float *) (scratch + 2 * nn_low_array(cout));
		const int32_t *bias_q = nn_low_bias_q(pack, cout),
				   *sums = nn_low_sums(pack, cout);
		const float *scale = nn_low_scale(pack, cout),
				   *bias = nn_low_bias(pack);
		bool		any = false;

		for (int o = 0; o < n; o++)
		{
			start[o] = (uint32_t) bias_q[o] - (uint32_t) in.zero * (uint32_t) sums[o];
			mult[o] = in.scale * scale[o] / unit;
			add[o] = bias[o] / unit;
			any |= add[o] != 0;
		}
		p->start_q = (const int32_t *) start;
		p->mult = mult;
		p->add = any ? add : NULL;
	}
}

/* ---- steps, panels, lines ---- */

/* The steps of a panel: block of words > ky > kx. */
static int
list_steps(const plane *p, const nn_low_panel *pan, nn_step *step)
{
	const nn_conv *cv = p->cv;
	int			n = 0,
				end;

	for (int w = pan->w0; w < pan->w1; w = end)
	{
		end = (w / NN_LANES + 1) * NN_LANES;
		end = end < pan->w1 ? end : pan->w1;
		for (int ky = 0; ky < cv->kh; ky++)
			for (int kx = 0; kx < cv->kw; kx++, n++)
			{
				step[n].off = (ptrdiff_t) (w / NN_LANES * p->a_blk + ky * p->a_ky + kx * p->a_kx +
										   w % NN_LANES * sizeof(uint32_t));
				step[n].ki = end - w;
			}
	}
	return n;
}

/* Of a tensor whose blocks of lanes are blk bytes apart: where block ob of 16
 * couts is, and how far the next one is from it. */
static inline size_t
cout_offset(nn_elem e, size_t blk, int ob)
{
	int			per = 1 << e;	/* blocks of 16 in one of lanes */

	return (size_t) (ob / per) * blk + (size_t) (ob % per) * NN_LANES * nn_elem_bytes(e);
}

static inline size_t
cout_step(nn_elem e, size_t blk)
{
	return e == nn_elem_f32 ? blk : (size_t) NN_LANES * nn_elem_bytes(e);
}

#define TILE_BUFFER (NN_LOW_MAX_NB * NN_LOW_MAX_MR * NN_LANES)

/* A tile whose last couts do not exist: through a buffer, of the residual too. */
static void
run_partial(const plane *p, const nn_low_job *job, nn_low_tile_fn fn, int mr, int couts, const char *a,
			char *o, const char *r)
{
	_Alignas(NN_ALIGN) float tile[TILE_BUFFER];
	_Alignas(NN_ALIGN) float res[TILE_BUFFER];
	char	   *t = (char *) tile,
			   *s = (char *) res;
	size_t		o_size = couts * nn_elem_bytes(p->post.out.elem),
				r_size = couts * nn_elem_bytes(p->post.res.elem);

	if (r)
	{
		memset(res, 0, sizeof(res));
		for (int i = 0; i < mr; i++)
			memcpy(s + i * job->res_pix, r + i * p->post.res_pix, r_size);
	}
	fn(job, a, a, t, t, r ? s : NULL, r ? s : NULL);
	for (int i = 0; i < mr; i++)
		memcpy(o + i * p->post.out_pix, t + i * job->out_pix, o_size);
}

/* A panel as the tiles of some pixels see it. */
typedef struct part
{
	nn_low_job	job;
	nn_low_tile_fn fn;
	int			nb,
				couts;
	char	   *o;				/* pixel 0 of line 0 */
	const char *r;
} part;

/* Run a tile, and the second pass where there is one. */
static inline void
run_tile(const plane *p, part *q, int mr, int half, const char *a, size_t o_at, size_t r_at)
{
	char	   *o = q->o + o_at;
	const char *r = q->r ? q->r + r_at : NULL,
			   *r2 = q->r ? r + p->r_line : NULL;

	if (p->second)
	{
		_Alignas(NN_ALIGN) float tile[TILE_BUFFER];
		size_t		blk = (size_t) mr * NN_LANES;
		char	   *t = (char *) tile;

		q->fn(&q->job, a, a + p->a_line, t, t + half * q->job.out_pix, NULL, NULL);
		p->ops->post(&p->post, tile, blk, half, q->couts, o, r);
		if (half < mr)
			p->ops->post(&p->post, tile + half * NN_LANES, blk, mr - half, q->couts, o + p->o_line, r2);
	}
	else if (q->couts < q->nb * NN_LANES)
		run_partial(p, &q->job, q->fn, mr, q->couts, a, o, r);
	else
		q->fn(&q->job, a, a + p->a_line, o, o + p->o_line, r, r2);
	if (q->job.ahead_lines > 0)
	{
		q->job.ahead += (size_t) q->job.ahead_lines * q->job.nsteps * NN_ALIGN;
		if (q->job.ahead >= q->job.ahead_end)
			q->job.ahead_lines = 0;
	}
}

/* Before tiles of mr pixels: their functions, strides, the tile registers. */
static inline void
begin(const plane *p, part *parts, int n, int stride, int mr, int half)
{
	for (part *q = parts; q < parts + n; q++)
	{
		nn_low_job *job = &q->job;

		q->fn = p->tile(mr, q->nb, stride, half);
		if (p->second)
		{
			job->out_pix = NN_LANES * sizeof(float);
			job->out_blk = (size_t) mr * job->out_pix;
		}
		else if (q->couts < q->nb * NN_LANES)
		{
			job->out_blk = (size_t) NN_LANES * nn_elem_bytes(p->post.out.elem);
			job->out_pix = q->nb * job->out_blk;
			job->res_blk = (size_t) NN_LANES * nn_elem_bytes(p->post.res.elem);
			job->res_pix = q->nb * job->res_blk;
		}
	}
	if (p->ops->configure)
		p->ops->configure(mr);
}

/* Is there a tile of this shape for all of them? */
static bool
has_tile(const plane *p, const part *parts, int n, int mr, int stride, int half)
{
	for (int i = 0; i < n; i++)
		if (p->tile(mr, parts[i].nb, stride, half) == NULL)
			return false;
	return true;
}

/* All pixels of lines [l0, l1): each run of pixels with one panel after the other. */
static void
run_lines(const plane *p, part *parts, int n, int l0, int l1)
{
	int			stride = has_tile(p, parts, n, 1, (int) p->a_pix, 1) ? (int) p->a_pix : 0;	/* 0: tiles for any */
	int			max = p->ops->max_mr,
				count,
				size,
				big;			/* tiles of size; the rest one smaller */
	int			l = l0,
				two = p->width * 2;

	while (!has_tile(p, parts, n, max, stride, max))
		max--;
	count = (p->width + max - 1) / max;
	size = (p->width + count - 1) / count;
	big = p->width - (size - 1) * count;
	/* Short lines: two at a time fill a tile. */
	if (two <= max && l1 - l0 >= 2 && has_tile(p, parts, n, two, stride, p->width))
	{
		begin(p, parts, n, stride, two, p->width);
		for (; l + 2 <= l1; l += 2)
			for (int i = 0; i < n; i++)
				run_tile(p, &parts[i], two, p->width, p->a + l * p->a_line, l * p->o_line, l * p->r_line);
	}
	for (int pass = 0; pass < 2 && l < l1; pass++)
	{
		int			mr = size - pass,
					from = pass == 0 ? 0 : big,
					to = pass == 0 ? big : count;
		size_t		skip = (size_t) (pass == 0 ? 0 : big * size);

		if (from == to)
			continue;
		begin(p, parts, n, stride, mr, mr);
		for (int y = l; y < l1; y++)
			for (int t = 0; t < to - from; t++)
			{
				size_t		x = skip + (size_t) t * mr;

				for (int i = 0; i < n; i++)
					run_tile(p, &parts[i], mr, mr, p->a + y * p->a_line + x * p->a_pix,
							 y * p->o_line + x * p->post.out_pix, y * p->r_line + x * p->post.res_pix);
			}
	}
}

/* A panel's part, its weights at *b, which advances. */
static part
make_part(const plane *p, const nn_low_panel *pan, const nn_step *steps, int nsteps, const char **b)
{
	int			c = pan->ob * NN_LANES;
	static const float zero[NN_LANES * NN_LOW_MAX_NB] = {0};
	nn_elem		oe = p->post.out.elem,
				re = p->post.res.elem;
	size_t		words = 0;
	part		q = {
		.job = p->job, .nb = pan->nb, .couts = p->couts - c < pan->nb * NN_LANES ? p->couts - c : pan->nb * NN_LANES,
		.o = p->o + cout_offset(oe, p->o_blk, pan->ob), .r = p->r ? p->r + cout_offset(re, p->r_blk, pan->ob) : NULL
	};

	q.job.b = *b;
	q.job.step = steps;
	q.job.nsteps = nsteps;
	q.job.stride = p->a_pix;
	q.job.out_blk = cout_step(oe, p->o_blk);
	q.job.res_blk = cout_step(re, p->r_blk);
	if (p->ops->kind == nn_low_u8)
	{
		q.job.start = p->start_q + c;
		q.job.mult = p->mult + c;
		q.job.add = p->add ? p->add + c : NULL;
	}
	else
		q.job.start = p->sums ? zero : p->start_f + c;
	for (int i = 0; i < nsteps; i++)
		words += steps[i].ki;
	*b += words * pan->nb * NN_LANES * nn_low_weight_bytes(p->ops->kind);
	return q;
}

/* While the parts' tiles work they fetch what follows their weights into the L2
 * cache, evenly: the next panels, or the next layer's first ones, as packs follow
 * each other in a compiled file.  A prefetch beyond its end does no harm. */
static void
read_ahead(const plane *p, part *parts, int n, const char *b, int pixels)
{
	for (int i = 0; i < n; i++)
	{
		nn_low_job *job = &parts[i].job;
		size_t		bytes = (i + 1 < n ? parts[i + 1].job.b : b) - job->b,
					turns = (size_t) ((pixels + p->ops->max_mr - 1) / p->ops->max_mr) * job->nsteps;

		job->ahead = job->b + (b - parts[0].job.b);
		job->ahead_end = job->ahead + bytes;
		job->ahead_lines = (int) ((bytes / NN_ALIGN + turns - 1) / turns);
		nn_translate(job->ahead, bytes);
	}
}

/* All panels over lines [l0, l1).  Those whose couts share a line of 64 bytes of
 * out go together, so that lines are written whole; steps: NULL, or the same for
 * all. */
static void
run_panels(const plane *p, const char *b, const nn_step *steps, int nsteps, int l0, int l1)
{
	const nn_low_ops *ops = p->ops;
	int			blocks = nn_blocks(p->cv->cout),
				step = nn_low_panel_blocks(ops->isa);
	int			together = steps || p->cv->groups == 1 ? (1 << p->post.out.elem) / step : 1;

	for (int ob = 0; ob < blocks;)
	{
		part		parts[MAX_PARTS];
		int			n = 0;

		do
		{
			nn_low_panel pan = nn_low_panel_at(ops->isa, ops->kind, p->cv, ob);

			if (steps == NULL)
				nsteps = list_steps(p, &pan, p->steps);
			parts[n++] = make_part(p, &pan, steps ? steps : p->steps, nsteps, &b);
			ob += step;
		} while (n < together && ob < blocks);
		read_ahead(p, parts, n, b, p->width * (l1 - l0));
		run_lines(p, parts, n, l0, l1);
	}
}

/* Block of lines > panel. */
static void
run_plane(plane *p, const char *weights)
{
	const nn_low_ops *ops = p->ops;
	const nn_conv *cv = p->cv;
	size_t		line_bytes = nn_elem_blocks(nn_low_elem(ops->kind), cv->cin) *
		(p->lines > 1 ? p->a_line : (size_t) p->width * p->a_pix);
	int			long_line = p->lines == 1 ? p->width : 0;
	int			total = long_line ? long_line : p->lines;
	int			block,
				unit = long_line ? 4 * ops->max_mr : 2;

	/* One long line is blocked by pixels, in whole tiles where possible. */
	block = (int) (BLOCK_BYTES / ((long_line ? line_bytes / long_line : line_bytes) + 1));
	block = block < unit ? unit : block / unit * unit;
	for (int at = 0; at < total; at += block)
	{
		int			n = total - at < block ? total - at : block;
		plane		q = *p;

		if (long_line)
		{
			q.a += at * p->a_pix;
			q.o += at * p->job.out_pix;
			if (q.r)
				q.r += at * p->job.res_pix;
			q.width = n;
		}
		run_panels(&q, weights, NULL, 0, long_line ? 0 : at, long_line ? 1 : at + n);
	}
}

/* The output side of a plane: lines [y0, y1) of out and of the residual. */
static void
set_output(plane *p, const nn_low_view *out, const nn_low_view *res, int y0, int y1)
{
	size_t		word = sizeof(uint32_t);

	p->o = (char *) (out->v.data + y0 * out->v.row_pitch);
	p->o_line = out->v.row_pitch * word;
	p->o_blk = out->v.blk_pitch * word;
	p->job.out_pix = p->post.out_pix = NN_LANES * word;
	p->post.out_blk = cout_step(out->q.elem, p->o_blk);
	if (res)
	{
		p->r = (const char *) (res->v.data + y0 * res->v.row_pitch);
		p->r_line = res->v.row_pitch * word;
		p->r_blk = res->v.blk_pitch * word;
		p->job.res_pix = p->post.res_pix = NN_LANES * word;
		p->post.res_blk = cout_step(res->q.elem, p->r_blk);
	}
	p->lines = y1 - y0;
	p->width = out->v.w;
	/* padding lanes are written like the others: whole blocks */
	p->couts = NN_LANES * nn_blocks(out->v.c);
}

static void
finish(const plane *p, const nn_low_view *out, int y0, int y1)
{
	if (p->ops->configure)
		p->ops->configure(0);
	/* activations move zeros, and a uint8 residual has none */
	if (out->q.elem == nn_elem_f32)
		nn_zero_lanes(&out->v, y0, y1);
	else
		nn_low_zero_lanes(out, y0, y1);
}

/* ---- convolution of views ---- */

size_t
nn_low_drive_scratch(const nn_low_ops *ops, const nn_conv *cv, int in_h, int in_w, int out_h, int out_w)
{
	size_t		bytes = arrays_bytes(cv->cout) + steps_bytes(ops, cv);

	(void) in_h;
	(void) in_w;
	if (cv->form == nn_conv_planar)
	{
		size_t		pixels = (size_t) (out_w - 1) * cv->sw + (size_t) (cv->kw - 1) * cv->dw + 1,
					lines = (size_t) (out_h - 1) * cv->sh + (size_t) (cv->kh - 1) * cv->dh + 1;
		int			words = nn_low_planar_words(ops->kind, cv->cin);

		/* the lines, and one line of one word a pixel */
		bytes += sizeof(uint32_t) * (pixels * lines * words + pixels) + NN_ALIGN;
	}
	return bytes;
}

void
nn_low_drive_conv(const nn_low_ops *ops, const nn_conv *cv, const void *pack, const nn_low_view *in,
				  const nn_low_view *res, const nn_low_view *out, int y0, int y1, void *scratch)
{
	plane		p = {.ops = ops, .cv = cv};
	size_t		tight = (size_t) out->v.w * NN_LANES,
				word = sizeof(uint32_t);

	if (y1 <= y0)
		return;
	set_output(&p, out, res, y0, y1);
	set_numbers(&p, pack, in->q, res ? &res->q : NULL, out->q, cv->act, scratch);
	p.a = (const char *) (in->v.data + ((ptrdiff_t) y0 * cv->sh - cv->pt) * (ptrdiff_t) in->v.row_pitch -
						  (ptrdiff_t) cv->pl * NN_LANES);
	p.a_line = cv->sh * in->v.row_pitch * word;
	p.a_pix = (size_t) cv->sw * NN_LANES * word;
	p.a_blk = in->v.blk_pitch * word;
	p.a_ky = cv->dh * in->v.row_pitch * word;
	p.a_kx = (size_t) cv->dw * NN_LANES * word;
	/* 1x1 over tensors without border: all lines are one. */
	if (cv->kh * cv->kw == 1 && cv->sh == 1 && cv->sw == 1 && cv->pt == 0 && cv->pl == 0 &&
		in->v.row_pitch == tight && out->v.row_pitch == tight && (res == NULL || res->v.row_pitch == tight))
	{
		p.width *= p.lines;
		p.lines = 1;
	}
	run_plane(&p, nn_low_weights_of(pack, ops->kind, cv->cout));
	finish(&p, out, y0, y1);
}

/* ---- the stem: plain CHW input ---- */

/* The input lines that output lines from y0 need, as [line][pixel][word], what
 * stands for zero around them. */
static void
interleave(const nn_low_ops *ops, const nn_conv *cv, const nn_low_rows *in, int in_h, int in_w, int pixels, int y0,
		   int lines, uint32_t *dst, uint32_t *one)
{
	int			words = nn_low_planar_words(ops->kind, cv->cin),
				per = nn_low_per_word(ops->kind);
	int			x0 = -cv->pl;
	int			from = x0 < 0 ? -x0 : 0,
				to = in_w - x0 < pixels ? in_w - x0 : pixels;
	uint32_t	blank = ops->kind == nn_low_u8 ? 0x01010101u * (uint32_t) in->q.zero : 0;

	for (int i = 0; i < lines; i++, dst += (size_t) pixels * words)
	{
		int			y = y0 * cv->sh - cv->pt + i;
		bool		none = y < 0 || y >= in_h || from >= to;

		for (int x = 0; x < (none ? pixels : from) * words; x++)
			dst[x] = blank;
		if (none)
			continue;
		for (int x = to * words; x < pixels * words; x++)
			dst[x] = blank;
		for (int w = 0; w < words; w++)
		{
			const void *c[4] = {NULL};

			for (int k = 0; k < per && w * per + k < cv->cin; k++)
				c[k] = (const char *) in->data + nn_elem_bytes(in->q.elem) *
					(((size_t) (w * per + k) * in_h + y) * in_w + (x0 + from));
			if (words == 1)
				ops->words(c, in->q, dst + from, to - from);
			else
			{
				ops->words(c, in->q, one, to - from);
				for (int x = from; x < to; x++)
					dst[(size_t) x * words + w] = one[x - from];
			}
		}
	}
}

void
nn_low_drive_planar(const nn_low_ops *ops, const nn_conv *cv, const void *pack, const nn_low_rows *in,
					int in_h, int in_w, const nn_low_view *res, const nn_low_view *out, int y0, int y1,
					void *scratch)
{
	plane		p = {.ops = ops, .cv = cv};
	int			words = nn_low_planar_words(ops->kind, cv->cin);
	int			pixels = (out->v.w - 1) * cv->sw + (cv->kw - 1) * cv->dw + 1;
	int			lines = (y1 - y0 - 1) * cv->sh + (cv->kh - 1) * cv->dh + 1;
	size_t		word = sizeof(uint32_t);
	uint32_t   *one = (uint32_t *) ((char *) scratch + arrays_bytes(cv->cout) + steps_bytes(ops, cv));
	uint32_t   *image = one + (pixels + NN_LANES - 1) / NN_LANES * NN_LANES;
	int			n = 0;

	if (y1 <= y0)
		return;
	set_output(&p, out, res, y0, y1);
	set_numbers(&p, pack, in->q, res ? &res->q : NULL, out->q, cv->act, scratch);
	interleave(ops, cv, in, in_h, in_w, pixels, y0, lines, image, one);
	p.a = (const char *) image;
	p.a_pix = (size_t) cv->sw * words * word;
	p.a_ky = (size_t) cv->dh * pixels * words * word;
	p.a_kx = (size_t) cv->dw * words * word;
	p.a_line = (size_t) cv->sh * pixels * words * word;
	/* a line of taps side by side is one step */
	for (int ky = 0; ky < cv->kh; ky++)
		for (int kx = 0; kx < (cv->dw == 1 ? 1 : cv->kw); kx++, n++)
		{
			p.steps[n].off = (ptrdiff_t) (ky * p.a_ky + kx * p.a_kx);
			p.steps[n].ki = cv->dw == 1 ? cv->kw * words : words;
		}
	run_panels(&p, nn_low_weights_of(pack, ops->kind, cv->cout), p.steps, n, 0, p.lines);
	finish(&p, out, y0, y1);
}

/* ---- products ---- */

#define GEMM_TILES 8			/* of rows of A packed at a time */

static int
gemm_block(const nn_low_ops *ops, int m, int k)
{
	size_t		row = (size_t) NN_ALIGN * nn_elem_blocks(nn_low_elem(ops->kind), k);
	size_t		rows = BLOCK_BYTES / row / ops->max_mr;

	rows = rows < 1 ? 1 : rows > GEMM_TILES ? GEMM_TILES : rows;
	rows *= ops->max_mr;
	return (size_t) m < rows ? m : (int) rows;
}

static nn_conv
gemm_as_conv(int k, int n)
{
	nn_conv		cv = {.cin = k, .cout = n, .groups = 1, .kh = 1, .kw = 1, .sh = 1, .sw = 1, .dh = 1, .dw = 1};

	return cv;
}

size_t
nn_low_drive_gemm_scratch(const nn_low_ops *ops, int m, int k, int n)
{
	nn_conv		cv = gemm_as_conv(k, n);

	return arrays_bytes(n) + steps_bytes(ops, &cv) +
		(size_t) gemm_block(ops, m, k) * NN_ALIGN * nn_elem_blocks(nn_low_elem(ops->kind), k);
}

/* Rows of A as blocks of lines of 64 bytes, as a view has them. */
static void
pack_rows(const nn_low_ops *ops, const nn_low_rows *a, int m0, int mm, int k, char *dst)
{
	nn_elem		native = nn_low_elem(ops->kind);
	int			lanes = nn_elem_lanes(native);
	size_t		size = nn_elem_bytes(a->q.elem);

	for (int c = 0; c < k; c += lanes)
	{
		int			n = k - c < lanes ? k - c : lanes;

		for (int i = 0; i < mm; i++, dst += NN_ALIGN)
		{
			const char *src = (const char *) a->data + ((size_t) (m0 + i) * a->ld + c) * size;

			if (n < lanes)
				memset(dst, 0, NN_ALIGN);
			if (a->q.elem == native && n == lanes)
				memcpy(dst, src, NN_ALIGN);
			else if (a->q.elem == native)
				memcpy(dst, src, n * size);
			else
				ops->row(src, a->q, dst, n);
		}
	}
}

void
nn_low_drive_gemm(const nn_low_ops *ops, const void *pack, int m, const nn_low_rows *a, const nn_low_rows *res,
				  const nn_low_rows *y, nn_act act, void *scratch)
{
	const nn_pack *head = pack;
	int			k = head->cin,
				n = head->cout;
	nn_conv		cv = gemm_as_conv(k, n);
	plane		p = {.ops = ops, .cv = &cv, .couts = n};
	int			rows = gemm_block(ops, m, k);
	char	   *pa = (char *) scratch + arrays_bytes(n) + steps_bytes(ops, &cv);
	size_t		o_size = nn_elem_bytes(y->q.elem),
				r_size = res ? nn_elem_bytes(res->q.elem) : 0;

	p.job.out_pix = p.post.out_pix = y->ld * o_size;
	p.o_blk = NN_ALIGN;			/* a row is a pixel whose blocks follow each other */
	p.post.out_blk = cout_step(y->q.elem, p.o_blk);
	if (res)
	{
		p.job.res_pix = p.post.res_pix = res->ld * r_size;
		p.r_blk = NN_ALIGN;
		p.post.res_blk = cout_step(res->q.elem, p.r_blk);
	}
	set_numbers(&p, pack, a->q, res ? &res->q : NULL, y->q, act, scratch);
	p.lines = 1;
	p.a_pix = NN_ALIGN;
	for (int m0 = 0; m0 < m; m0 += rows)
	{
		int			mm = m - m0 < rows ? m - m0 : rows;

		pack_rows(ops, a, m0, mm, k, pa);
		p.a = pa;
		p.a_blk = (size_t) mm * NN_ALIGN;
		p.width = mm;
		p.o = (char *) y->data + m0 * y->ld * o_size;
		p.r = res ? (const char *) res->data + m0 * res->ld * r_size : NULL;
		run_panels(&p, nn_low_weights_of(pack, ops->kind, n), NULL, 0, 0, 1);
	}
	if (ops->configure)
		ops->configure(0);
}

/* ---- plain sums ---- */

size_t
nn_low_drive_sums_scratch(const nn_low_ops *ops, int k)
{
	nn_conv		cv = gemm_as_conv(k, 1);

	return steps_bytes(ops, &cv);
}

void
nn_low_drive_sums(const nn_low_ops *ops, int k, int n, const void *b, const float *a, size_t a_blk, int m,
				  float *o, size_t o_blk, void *scratch)
{
	nn_conv		cv = gemm_as_conv(k, n);
	plane		p = {.ops = ops, .cv = &cv, .tile = ops->tile, .couts = NN_LANES * nn_blocks(n), .sums = true,
		.lines = 1, .width = m, .a = (const char *) a, .a_pix = NN_ALIGN, .a_blk = a_blk * sizeof(float),
	.o = (char *) o, .o_blk = o_blk * sizeof(float), .steps = scratch};

	p.post.out.elem = p.post.res.elem = nn_elem_f32;
	p.job.through = nn_through_sums;
	p.job.out_pix = p.post.out_pix = NN_ALIGN;
	run_panels(&p, b, NULL, 0, 0, 1);
}
