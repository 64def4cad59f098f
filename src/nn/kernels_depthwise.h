/*
 * kernels_depthwise.h
 *	  Depthwise convolution, compiled in each instruction set's file (part of
 *	  kernels_body.h).
 *
 * The unit of work is one output line of one block of 16 channels.  The lines of
 * taps it reads are given by address, so that they may lie in a ring, or be a
 * line of zeros outside the image (kernels_block.c).  Sums of up to DW_PIXELS
 * neighbouring pixels stay in registers; each input pixel is loaded once a line
 * of taps and serves all sums it belongs to.  Every output is one chain of FMAs,
 * line by line, left to right, however the line was cut.
 */

#if VW == 16
#define DW_PIXELS 14			/* of 32 registers; the rest: taps and a pixel */
#else
#define DW_PIXELS 8
#endif

/* Keep gcc from folding one load into several FMAs, and from precomputing an
 * address for each. */
#if defined(__x86_64__)
#define NN_HIDE_VECTOR(v) __asm__("" : "+v"(v))
#define NN_HIDE_POINTER(p) __asm__("" : "+r"(p))
#else
#define NN_HIDE_VECTOR(v) ((void) 0)
#define NN_HIDE_POINTER(p) ((void) 0)
#endif

/* n pixels; kw taps, stride (pixels) and n are constants of the caller, kw = 0:
 * any kernel, pixel by pixel. */
NN_INLINE void
dw_run(const nn_dw_job *j, const float *const *line, size_t at, const float *r, float *o, const int n,
	   const int taps, const int stride)
{
	for (int v = 0; v < NN_LANES; v += VW)
	{
		vf			acc[DW_PIXELS];
		const float *w = j->w + v;
		vf			lo = vf_set1(j->lo),
					hi = vf_set1(j->hi);

		NN_UNROLL
		for (int i = 0; i < n; i++)
			acc[i] = vf_load(j->bias + v);
		for (int ky = 0; ky < j->kh; ky++)
		{
			const float *p = line[ky] + at + v;

			NN_HIDE_POINTER(p);
			if (taps)
			{
				NN_UNROLL
				for (int x = 0; x < (n - 1) * stride + taps; x++)
				{
					vf			in = vf_load(p + x * NN_LANES);

					NN_HIDE_VECTOR(in);

					NN_UNROLL
					for (int kx = 0; kx < taps; kx++)
						if ((x - kx) % stride == 0 && x >= kx && (x - kx) / stride < n)
							acc[(x - kx) / stride] = vf_fma(in, vf_load(w + kx * NN_LANES), acc[(x - kx) / stride]);
				}
				w += taps * NN_LANES;
			}
			else
				for (int kx = 0; kx < j->kw; kx++, w += NN_LANES, p += j->tap_step)
				{
					vf			k = vf_load(w);

					NN_UNROLL
					for (int i = 0; i < n; i++)
						acc[i] = vf_fma(vf_load(p + i * j->pix_step), k, acc[i]);
				}
		}
		NN_UNROLL
		for (int i = 0; i < n; i++)
		{
			if (r)
				acc[i] = acc[i] + vf_load(r + i * NN_LANES + v);
			vf_store(o + i * NN_LANES + v, vf_min(hi, vf_max(lo, acc[i])));
		}
	}
}

typedef void (*dw_fn) (const nn_dw_job *j, const float *const *line, size_t at, const float *r, float *o);

#define DW(name, n, taps, stride) \
static void dw_##name##_##n(const nn_dw_job *j, const float *const *line, size_t at, const float *r, float *o) \
{ \
	dw_run(j, line, at, r, o, n, taps, stride); \
}
#define DW_8(name, taps, stride) \
	DW(name, 1, taps, stride) DW(name, 2, taps, stride) DW(name, 3, taps, stride) DW(name, 4, taps, stride) \
	DW(name, 5, taps, stride) DW(name, 6, taps, stride) DW(name, 7, taps, stride) DW(name, 8, taps, stride)
#define DW_NAMES_8(name) \
	dw_##name##_1, dw_##name##_2, dw_##name##_3, dw_##name##_4, dw_##name##_5, dw_##name##_6, dw_##name##_7, \
	dw_##name##_8
#if DW_PIXELS == 14
#define DW_ALL(name, taps, stride) DW_8(name, taps, stride) \
	DW(name, 9, taps, stride) DW(name, 10, taps, stride) DW(name, 11, taps, stride) \
	DW(name, 12, taps, stride) DW(name, 13, taps, stride) DW(name, 14, taps, stride)
#define DW_NAMES(name) DW_NAMES_8(name), \
	dw_##name##_9, dw_##name##_10, dw_##name##_11, dw_##name##_12, dw_##name##_13, dw_##name##_14
#else
#define DW_ALL DW_8
#define DW_NAMES DW_NAMES_8
#endif
DW_ALL(k3s1, 3, 1)
DW_ALL(k3s2, 3, 2)
DW_ALL(k5s1, 5, 1)
DW_ALL(k5s2, 5, 2)
DW_ALL(k7s1, 7, 1)
DW_ALL(any, 0, 1)

static void
depthwise_line(const nn_conv *cv, const nn_dw_job *j, const float *const *line, const float *r, float *o, int width)
{
	static const dw_fn fns[6][DW_PIXELS] = {
		{DW_NAMES(k3s1)}, {DW_NAMES(k3s2)}, {DW_NAMES(k5s1)}, {DW_NAMES(k5s2)}, {DW_NAMES(k7s1)}, {DW_NAMES(any)}
	};
	const dw_fn *fn = fns[5];
	int			count = (width + DW_PIXELS - 1) / DW_PIXELS;
	int			size = (width + count - 1) / count;
	int			big = width - (size - 1) * count;	/* runs of size; the rest one less */
	size_t		at = 0;
	float	   *o0 = o;

	if (cv->dw == 1 && (cv->kw == 3 || cv->kw == 5) && cv->sw <= 2)
		fn = fns[cv->kw - 3 + cv->sw - 1];
	else if (cv->dw == 1 && cv->kw == 7 && cv->sw == 1)
		fn = fns[4];
	for (int i = 0; i < count; i++)
	{
		int			n = i < big ? size : size - 1;

		fn[n - 1] (j, line, at, r, o);
		at += n * j->pix_step;
		o += (size_t) n * NN_LANES;
		if (r)
			r += (size_t) n * NN_LANES;
	}
	if (!j->clip)
		activate(o0, o0, (size_t) width * NN_LANES, cv->act);
}

static void
depthwise(const nn_conv *cv, const void *pack, const nn_view *in, const nn_view *res, const nn_view *out,
		  int y0, int y1)
{
	for (int b = 0; b < nn_blocks(out->c); b++)
	{
		nn_dw_job	j = nn_dw_block(cv, pack, b);

		for (int y = y0; y < y1; y++)
		{
			const float *line[NN_MAX_DW_LINES];

			for (int ky = 0; ky < cv->kh; ky++)
				line[ky] = in->data + b * in->blk_pitch - (ptrdiff_t) cv->pl * NN_LANES +
					((ptrdiff_t) y * cv->sh - cv->pt + (ptrdiff_t) ky * cv->dh) * (ptrdiff_t) in->row_pitch;
			depthwise_line(cv, &j, line, res ? res->data + b * res->blk_pitch + y * res->row_pitch : NULL,
						   out->data + b * out->blk_pitch + y * out->row_pitch, out->w);
		}
	}
	if (nn_act_moves_zero(cv->act))
		nn_zero_lanes(out, y0, y1);
}
