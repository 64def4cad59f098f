/*
 * kernels_low_spatial.h
 *	  Depthwise convolution, pools and layout conversion of few bits, compiled in
 *	  each instruction set's file (part of kernels_low_body.h).
 */

/* ---- depthwise ---- */

#define DW_PIXELS 8				/* pixels whose sums are in registers together */

/* Sums over the taps of n <= 8 pixels (a constant of the caller's, as elem is)
 * of 16 channels, raw: uint8 without zero point and scale. */
NN_INLINE void
depthwise_sums(const char *x, size_t row, size_t col, size_t pix, int kh, int kw, const float *w, float *sums,
			   const int n, const nn_elem elem)
{
	vf			one = vf_set1(1),
				none = vf_set1(0);

	for (int v = 0; v < NN_LANES; v += VW)
	{
		vf			acc[DW_PIXELS];
		const float *t = w + v;

		for (int i = 0; i < n; i++)
			acc[i] = vf_set1(0);
		for (int ky = 0; ky < kh; ky++)
		{
			const char *p = x + ky * row + v * nn_elem_bytes(elem);

			for (int kx = 0; kx < kw; kx++, p += col, t += NN_LANES)
			{
				vf			k = vf_load(t);

#pragma GCC unroll 8
				for (int i = 0; i < n; i++)
					acc[i] = vf_fma(elem == nn_elem_u8 ? vf_from_vi(vi_load_u8((const uint8_t *) p + i * pix)) :
									get(p + i * pix, elem, one, none), k, acc[i]);
			}
		}
#pragma GCC unroll 8
		for (int i = 0; i < n; i++)
			vf_store(sums + i * NN_LANES + v, acc[i]);
	}
}

static void
depthwise_run(const char *x, size_t row, size_t col, size_t pix, int kh, int kw, const float *w, float *sums, int n,
			  nn_elem elem)
{
	if (elem == nn_elem_u8 && n == DW_PIXELS)
		depthwise_sums(x, row, col, pix, kh, kw, w, sums, DW_PIXELS, nn_elem_u8);
	else if (elem == nn_elem_u8)
		for (int i = 0; i < n; i++)
			depthwise_sums(x + i * pix, row, col, pix, kh, kw, w, sums + i * NN_LANES, 1, nn_elem_u8);
	else if (n == DW_PIXELS)
		depthwise_sums(x, row, col, pix, kh, kw, w, sums, DW_PIXELS, nn_elem_bf16);
	else
		for (int i = 0; i < n; i++)
			depthwise_sums(x + i * pix, row, col, pix, kh, kw, w, sums + i * NN_LANES, 1, nn_elem_bf16);
}

void
LOW(depthwise) (const nn_conv *cv, const void *pack, const nn_low_view *in, const nn_low_view *res,
				const nn_low_view *out, int y0, int y1)
{
	const int	cout = cv->cout,
				taps = cv->kh * cv->kw;
	const bool	u8 = in->q.elem == nn_elem_u8;
	const float *weights = (const float *) nn_low_weights_of(pack, u8 ? nn_low_u8 : nn_low_bf16, cout);
	size_t		row = cv->dh * in->v.row_pitch * sizeof(float),
				col = (size_t) cv->dw * PIXEL,
				pix = (size_t) cv->sw * PIXEL;

	for (int g = 0; g < nn_blocks(cout); g++)
	{
		float		start[NN_LANES] = {0},
					mult[NN_LANES],
					add[NN_LANES];

		/* uint8: (sum + bias_q - zero * sum of weights) * scales + bias */
		for (int i = 0; i < NN_LANES; i++)
		{
			int			c = g * NN_LANES + i;

			if (u8)
				start[i] = (float) nn_low_bias_q(pack, cout)[c] - (float) in->q.zero * (float) nn_low_sums(pack, cout)[c];
			mult[i] = u8 ? in->q.scale * nn_low_scale(pack, cout)[c] : 1;
			add[i] = nn_low_bias(pack)[c];
		}
		for (int y = y0; y < y1; y++)
		{
			const char *src = at(in, g, 0, 0) +
				((ptrdiff_t) (y * cv->sh - cv->pt) * (ptrdiff_t) in->v.row_pitch * (ptrdiff_t) sizeof(float) -
				 (ptrdiff_t) cv->pl * PIXEL);

			for (int x = 0; x < out->v.w; x += DW_PIXELS, src += DW_PIXELS * pix)
			{
				float		s[DW_PIXELS * NN_LANES],
							r[DW_PIXELS * NN_LANES];
				int			n = out->v.w - x < DW_PIXELS ? out->v.w - x : DW_PIXELS;

				depthwise_run(src, row, col, pix, cv->kh, cv->kw, weights + (size_t) g * taps * NN_LANES, s, n,
							  in->q.elem);
				if (res)
					get16(at(res, g, y, x), PIXEL, n, res->q, r);
				for (int i = 0; i < n * NN_LANES; i += VW)
				{
					vf			f = (vf_load(s + i) + vf_load(start + i % NN_LANES)) * vf_load(mult + i % NN_LANES) +
						vf_load(add + i % NN_LANES);

					if (res)
						f = f + vf_load(r + i);
					vf_store(s + i, f);
				}
				activate(s, (size_t) n * NN_LANES, cv->act);
				put16(s, at(out, g, y, x), PIXEL, n, out->q);
			}
		}
	}
	clean_lanes(out, y0, y1);
}

/* ---- pools ---- */

/* Taps [*from, *to) of kernel size k at dilation d that lie inside [0, n) when
 * the first is at x. */
static inline void
inside(int x, int k, int d, int n, int *from, int *to)
{
	*from = x >= 0 ? 0 : (-x + d - 1) / d;
	*to = x >= n ? 0 : (n - x + d - 1) / d;
	if (*to > k)
		*to = k;
	if (*from > *to)
		*from = *to;
}

/* As in kernels_spatial.h: cells of the padded input that a window covers. */
static inline int
padded_cells(int x, int k, int d, int n, int pad_end)
{
	int			count = 0;

	for (int i = 0; i < k; i++)
		count += x + i * d < n + pad_end;
	return count;
}

/* Max of uint8 or bfloat16 where out has in's scale: a line of 64 bytes at a time.
 * bfloat16 is ordered as int16 once negative numbers have their other bits
 * turned over, which undoes itself. */
typedef uint8_t line_u8 __attribute__((vector_size(NN_ALIGN), may_alias));
typedef int16_t line_i16 __attribute__((vector_size(NN_ALIGN), may_alias));

NN_INLINE void
maxpool_lines(const nn_pool *p, const nn_low_view *in, const nn_low_view *out, int y0, int y1, const bool u8)
{
	const int	per = u8 ? 4 : 2;	/* blocks of 16 channels */

	for (int b = 0; b < nn_elem_blocks(in->q.elem, out->v.c); b++)
		for (int y = y0; y < y1; y++)
		{
			int			ky0,
						ky1;
			int			iy = y * p->sh - p->pt;

			inside(iy, p->kh, p->dh, in->v.h, &ky0, &ky1);
			for (int x = 0; x < out->v.w; x++)
			{
				int			ix = x * p->sw - p->pl,
							kx0,
							kx1;
				line_u8		most = {0};
				line_i16	top = {0};

				top = ~top ^ 0x7f80;	/* minus infinity, turned over */
				inside(ix, p->kw, p->dw, in->v.w, &kx0, &kx1);
				for (int ky = ky0; ky < ky1; ky++)
					for (int kx = kx0; kx < kx1; kx++)
					{
						const char *s = at(in, b * per, iy + ky * p->dh, ix + kx * p->dw);

						if (u8)
						{
							line_u8		v = *(const line_u8 *) s;
							line_u8		m = (line_u8) (v > most);

							most = (v & m) | (most & ~m);
						}
						else
						{
							line_i16	v = *(const line_i16 *) s;
							line_i16	m;

							v ^= (v >> 15) & 0x7fff;
							m = v > top;
							top = (v & m) | (top & ~m);
						}
					}
				if (u8)
					*(line_u8 *) at(out, b * per, y, x) = most;
				else
					*(line_i16 *) at(out, b * per, y, x) = top ^ ((top >> 15) & 0x7fff);
			}
		}
}

NN_INLINE void
pool_pixel(const nn_low_view *in, int g, int iy, int ix, const int *ky, const int *kx, const nn_pool *p,
		   const bool max, float scale, float *o)
{
	vf			qs = vf_set1(in->q.scale),
				qz = vf_set1((float) in->q.zero);

	for (int v = 0; v < NN_LANES; v += VW)
	{
		vf			acc = vf_set1(max ? -INFINITY : 0);

		for (int i = ky[0]; i < ky[1]; i++)
			for (int j = kx[0]; j < kx[1]; j++)
			{
				const char *s = at(in, g, iy + i * p->dh, ix + j * p->dw) + v * nn_elem_bytes(in->q.elem);
				vf			x = get(s, in->q.elem, qs, qz);

				if (max)
					acc = vf_max(acc, x);
				else
					acc = acc + x;
			}
		if (!max)
			acc = acc * vf_set1(scale);
		vf_store(o + v, acc);
	}
}

NN_INLINE void
pool_lines(const nn_pool *p, const nn_low_view *in, const nn_low_view *out, int y0, int y1, const bool max)
{
	for (int g = 0; g < nn_blocks(out->v.c); g++)
		for (int y = y0; y < y1; y++)
		{
			int			ky[2];
			int			iy = y * p->sh - p->pt;

			inside(iy, p->kh, p->dh, in->v.h, &ky[0], &ky[1]);
			for (int x = 0; x < out->v.w; x++)
			{
				float		o[NN_LANES];
				int			kx[2];
				int			ix = x * p->sw - p->pl;
				int			cells;

				inside(ix, p->kw, p->dw, in->v.w, &kx[0], &kx[1]);
				cells = p->count_pad ?
					padded_cells(iy, p->kh, p->dh, in->v.h, p->pb) * padded_cells(ix, p->kw, p->dw, in->v.w, p->pr) :
					(ky[1] - ky[0]) * (kx[1] - kx[0]);
				pool_pixel(in, g, iy, ix, ky, kx, p, max, cells ? 1.0f / cells : 0, o);
				put16(o, at(out, g, y, x), PIXEL, 1, out->q);
			}
		}
	clean_lanes(out, y0, y1);
}

static inline bool
same_quant(nn_quant a, nn_quant b)
{
	return a.elem == b.elem && (a.elem != nn_elem_u8 || (a.scale == b.scale && a.zero == b.zero));
}

void
LOW(maxpool) (const nn_pool *p, const nn_low_view *in, const nn_low_view *out, int y0, int y1)
{
	if (in->q.elem == nn_elem_u8 && same_quant(in->q, out->q))
		maxpool_lines(p, in, out, y0, y1, true);
	else if (in->q.elem == nn_elem_bf16 && out->q.elem == nn_elem_bf16)
	{
		maxpool_lines(p, in, out, y0, y1, false);
		clean_lanes(out, y0, y1);
	}
	else
		pool_lines(p, in, out, y0, y1, true);
}

void
LOW(avgpool) (const nn_pool *p, const nn_low_view *in, const nn_low_view *out, int y0, int y1)
{
	pool_lines(p, in, out, y0, y1, false);
}

void
LOW(global_avgpool) (const nn_low_view *in, const nn_low_view *out)
{
	vf			mean = vf_set1(1.0f / ((float) in->v.h * (float) in->v.w));

	for (int g = 0; g < nn_blocks(in->v.c); g++)
	{
		float		sum[NN_LANES] = {0};

		for (int y = 0; y < in->v.h; y++)
			for (int x = 0; x < in->v.w; x += RUN)
			{
				float		f[RUN * NN_LANES];
				int			n = in->v.w - x < RUN ? in->v.w - x : RUN;

				get16(at(in, g, y, x), PIXEL, n, in->q, f);
				for (int i = 0; i < n * NN_LANES; i += VW)
					vf_store(sum + i % NN_LANES, vf_load(sum + i % NN_LANES) + vf_load(f + i));
			}
		for (int v = 0; v < NN_LANES; v += VW)
			vf_store(sum + v, vf_load(sum + v) * mean);
		put16(sum, at(out, g, 0, 0), PIXEL, 1, out->q);
	}
	clean_lanes(out, 0, 1);
}

/* ---- layouts ---- */

void
LOW(from_plain) (const nn_low_rows *chw, const nn_low_view *out, int y0, int y1)
{
	size_t		plane = (size_t) out->v.h * out->v.w,
				size = nn_elem_bytes(chw->q.elem);

	for (int g = 0; g < nn_blocks(out->v.c); g++)
		for (int y = y0; y < y1; y++)
			for (int x = 0; x < out->v.w; x += RUN)
			{
				float		t[RUN * NN_LANES] = {0};
				int			n = out->v.w - x < RUN ? out->v.w - x : RUN;

				for (int c = g * NN_LANES; c < (g + 1) * NN_LANES && c < out->v.c; c++)
				{
					float		f[NN_LANES];

					get_part((const char *) chw->data + (c * plane + (size_t) y * out->v.w + x) * size, n, chw->q, f);
					for (int i = 0; i < n; i++)
						t[i * NN_LANES + c % NN_LANES] = f[i];
				}
				put16(t, at(out, g, y, x), PIXEL, n, out->q);
			}
	clean_lanes(out, y0, y1);
}

void
LOW(to_plain) (const nn_low_view *in, const nn_low_rows *chw, int y0, int y1)
{
	size_t		plane = (size_t) in->v.h * in->v.w,
				size = nn_elem_bytes(chw->q.elem);

	for (int g = 0; g < nn_blocks(in->v.c); g++)
		for (int y = y0; y < y1; y++)
			for (int x = 0; x < in->v.w; x += RUN)
			{
				float		t[RUN * NN_LANES];
				int			n = in->v.w - x < RUN ? in->v.w - x : RUN;

				get16(at(in, g, y, x), PIXEL, n, in->q, t);
				for (int c = g * NN_LANES; c < (g + 1) * NN_LANES && c < in->v.c; c++)
				{
					float		f[NN_LANES];

					for (int i = 0; i < NN_LANES; i++)
						f[i] = i < n ? t[i * NN_LANES + c % NN_LANES] : 0;
					put_part(f, (char *) chw->data + (c * plane + (size_t) y * in->v.w + x) * size, n, chw->q);
				}
			}
}

void
LOW(copy_channels) (const nn_low_view *in, int from, int n, int sy, int sx, const nn_low_view *out, int to,
					int y0, int y1)
{
	const int	lanes = nn_elem_lanes(in->q.elem),
				size = nn_elem_bytes(in->q.elem);
	bool		same = same_quant(in->q, out->q);
	uint8_t		table[256];

	if (!same)
		nn_low_table(in->q, (nn_act) {nn_act_none, 0, 0}, out->q, table);
	for (int c = 0; c < n;)
	{
		int			f = (from + c) % lanes,
					t = (to + c) % lanes;
		int			run = lanes - (f > t ? f : t);	/* channels within both blocks */

		if (run > n - c)
			run = n - c;
		for (int y = y0; y < y1; y++)
		{
			const uint8_t *x = (const uint8_t *) (in->v.data + (from + c) / lanes * in->v.blk_pitch +
												  (size_t) y * sy * in->v.row_pitch) + f * size;
			uint8_t    *o = (uint8_t *) (out->v.data + (to + c) / lanes * out->v.blk_pitch +
										 y * out->v.row_pitch) + t * size;

			for (int i = 0; i < out->v.w; i++, x += sx * PIXEL, o += PIXEL)
			{
				if (!same)
					for (int k = 0; k < run; k++)
						o[k] = table[x[k]];
				else if (run == lanes)
					memcpy(o, x, PIXEL);
				else
					memcpy(o, x, (size_t) run * size);
			}
		}
		c += run;
	}
	if (to + n == out->v.c)
		nn_low_zero_lanes(out, y0, y1);
}
