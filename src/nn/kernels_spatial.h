/*
 * kernels_spatial.h
 *	  Pools and layout conversion, compiled in each
 *	  instruction set's file (part of kernels_body.h).
 */

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

NN_INLINE vf
pool_join(vf acc, vf x, const bool max)
{
	if (max)
		return vf_max(acc, x);
	return acc + x;
}

/* One output pixel of one block: max or sum over taps. */
NN_INLINE void
pool_pixel(const nn_view *in, const float *x, int ky0, int ky1, int kx0, int kx1, int dh, int dw, const bool max,
		   float scale, float *o)
{
	for (int v = 0; v < NN_LANES; v += VW)
	{
		vf			acc = vf_set1(max ? -INFINITY : 0);

		for (int ky = ky0; ky < ky1; ky++)
			for (int kx = kx0; kx < kx1; kx++)
			{
				vf			p = vf_load(x + ((ptrdiff_t) ky * dh) * (ptrdiff_t) in->row_pitch +
										(ptrdiff_t) kx * dw * NN_LANES + v);

				acc = pool_join(acc, p, max);
			}
		if (!max)
			acc = acc * vf_set1(scale);
		vf_store(o + v, acc);
	}
}

/* Cells of the node's padded input that a window at x covers: count_include_pad
 * (windows that ceil mode lets hang over count none beyond the pads). */
static inline int
padded_cells(int x, int k, int d, int n, int pad_end)
{
	int			count = 0;

	for (int i = 0; i < k; i++)
		count += x + i * d < n + pad_end;
	return count;
}

NN_INLINE void
pool_lines(const nn_pool *p, const nn_view *in, const nn_view *out, int y0, int y1, const bool max)
{
	for (int y = y0; y < y1; y++)
		for (int b = 0; b < nn_blocks(out->c); b++)
		{
			int			iy = y * p->sh - p->pt,
						ky0,
						ky1;
			float	   *o = out->data + b * out->blk_pitch + y * out->row_pitch;

			inside(iy, p->kh, p->dh, in->h, &ky0, &ky1);
			for (int x = 0; x < out->w; x++, o += NN_LANES)
			{
				int			ix = x * p->sw - p->pl,
							kx0,
							kx1;
				int			cells;
				const float *src = in->data + b * in->blk_pitch + (ptrdiff_t) iy * (ptrdiff_t) in->row_pitch +
					(ptrdiff_t) ix * NN_LANES;

				inside(ix, p->kw, p->dw, in->w, &kx0, &kx1);
				if (max)
				{
					pool_pixel(in, src, ky0, ky1, kx0, kx1, p->dh, p->dw, true, 1, o);
					continue;
				}
				cells = p->count_pad ?
					padded_cells(iy, p->kh, p->dh, in->h, p->pb) * padded_cells(ix, p->kw, p->dw, in->w, p->pr) :
					(ky1 - ky0) * (kx1 - kx0);
				pool_pixel(in, src, ky0, ky1, kx0, kx1, p->dh, p->dw, false, cells ? 1.0f / cells : 0, o);
			}
		}
}

static void
maxpool(const nn_pool *p, const nn_view *in, const nn_view *out, int y0, int y1)
{
	pool_lines(p, in, out, y0, y1, true);
	/* a window wholly outside the input yields -inf in padding lanes, too */
	if (out->c % NN_LANES)
		nn_zero_lanes(out, y0, y1);
}

static void
avgpool(const nn_pool *p, const nn_view *in, const nn_view *out, int y0, int y1)
{
	pool_lines(p, in, out, y0, y1, false);
}

/* One block: sum or max over all pixels, four chains side by side. */
NN_INLINE void
global_block(const nn_view *in, const float *x, float *out, const bool max)
{
	for (int v = 0; v < NN_LANES; v += VW)
	{
		vf			acc[4];

		for (int i = 0; i < 4; i++)
			acc[i] = vf_set1(max ? -INFINITY : 0);
		for (int y = 0; y < in->h; y++)
		{
			const float *p = x + y * in->row_pitch + v;
			int			i = 0;

			for (; i + 4 <= in->w; i += 4)
				NN_UNROLL
				for (int u = 0; u < 4; u++)
				{
					vf			q = vf_load(p + (size_t) (i + u) * NN_LANES);

					acc[u] = pool_join(acc[u], q, max);
				}
			for (; i < in->w; i++)
			{
				vf			q = vf_load(p + (size_t) i * NN_LANES);

				acc[0] = pool_join(acc[0], q, max);
			}
		}
		if (max)
			vf_store(out + v, vf_max(vf_max(acc[0], acc[1]), vf_max(acc[2], acc[3])));
		else
			vf_store(out + v, ((acc[0] + acc[1]) + (acc[2] + acc[3])) * vf_set1(1.0f / ((float) in->h * in->w)));
	}
}

static void
global_avgpool(const nn_view *in, float *out)
{
	for (int b = 0; b < nn_blocks(in->c); b++)
		global_block(in, in->data + b * in->blk_pitch, out + b * NN_LANES, false);
}

static void
global_maxpool(const nn_view *in, float *out)
{
	for (int b = 0; b < nn_blocks(in->c); b++)
		global_block(in, in->data + b * in->blk_pitch, out + b * NN_LANES, true);
}

/* ---- layouts ---- */

/* Four by four floats, lines ss and ds floats apart. */
typedef float v4 __attribute__((vector_size(16)));
typedef float v4_any __attribute__((vector_size(16), aligned(4), may_alias));

#if defined(__clang__) || __GNUC__ >= 12
#define V4_MIX(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define V4_MIX(a, b, i, j, k, l) __builtin_shuffle(a, b, (int32_t __attribute__((vector_size(16)))) {i, j, k, l})
#endif

NN_INLINE void
transpose4(const float *src, size_t ss, float *dst, size_t ds)
{
	v4			r0 = *(const v4_any *) src,
				r1 = *(const v4_any *) (src + ss),
				r2 = *(const v4_any *) (src + 2 * ss),
				r3 = *(const v4_any *) (src + 3 * ss);
	v4			a = V4_MIX(r0, r1, 0, 4, 1, 5),
				b = V4_MIX(r0, r1, 2, 6, 3, 7),
				c = V4_MIX(r2, r3, 0, 4, 1, 5),
				d = V4_MIX(r2, r3, 2, 6, 3, 7);

	*(v4_any *) dst = V4_MIX(a, c, 0, 1, 4, 5);
	*(v4_any *) (dst + ds) = V4_MIX(a, c, 2, 3, 6, 7);
	*(v4_any *) (dst + 2 * ds) = V4_MIX(b, d, 0, 1, 4, 5);
	*(v4_any *) (dst + 3 * ds) = V4_MIX(b, d, 2, 3, 6, 7);
}

static void
to_blocked(const float *chw, const nn_view *out, int y0, int y1)
{
	size_t		plane_size = (size_t) out->h * out->w;

	for (int b = 0; b < nn_blocks(out->c); b++)
		for (int y = y0; y < y1; y++)
		{
			float	   *o = out->data + b * out->blk_pitch + y * out->row_pitch;
			int			n = out->c - b * NN_LANES < NN_LANES ? out->c - b * NN_LANES : NN_LANES;
			const float *x = chw + (size_t) b * NN_LANES * plane_size + (size_t) y * out->w;
			int			c = 0;

			for (; c + 4 <= n; c += 4, x += 4 * plane_size)
			{
				int			i = 0;

				for (; i + 4 <= out->w; i += 4)
					transpose4(x + i, plane_size, o + i * NN_LANES + c, NN_LANES);
				for (; i < out->w; i++)
					for (int k = 0; k < 4; k++)
						o[i * NN_LANES + c + k] = x[k * plane_size + i];
			}
			for (; c < n; c++, x += plane_size)
				for (int i = 0; i < out->w; i++)
					o[i * NN_LANES + c] = x[i];
			for (; c < NN_LANES; c++)
				for (int i = 0; i < out->w; i++)
					o[i * NN_LANES + c] = 0;
		}
}

static void
from_blocked(const nn_view *in, float *chw, int y0, int y1)
{
	size_t		plane_size = (size_t) in->h * in->w;

	for (int c = 0; c < in->c; c += 4)
		for (int y = y0; y < y1; y++)
		{
			const float *x = in->data + c / NN_LANES * in->blk_pitch + y * in->row_pitch + c % NN_LANES;
			float	   *o = chw + c * plane_size + (size_t) y * in->w;
			int			n = in->c - c < 4 ? in->c - c : 4;
			int			i = 0;

			for (; n == 4 && i + 4 <= in->w; i += 4)
				transpose4(x + i * NN_LANES, NN_LANES, o + i, plane_size);
			for (; i < in->w; i++)
				for (int k = 0; k < n; k++)
					o[k * plane_size + i] = x[i * NN_LANES + k];
		}
}

static void
copy_channels(const nn_view *in, int from, int n, int sy, int sx, const nn_view *out, int to, int y0, int y1)
{
	for (int c = 0; c < n;)
	{
		int			f = (from + c) % NN_LANES,
					t = (to + c) % NN_LANES;
		int			run = NN_LANES - (f > t ? f : t);	/* channels within both blocks */

		if (run > n - c)
			run = n - c;
		for (int y = y0; y < y1; y++)
		{
			const float *x = in->data + (from + c) / NN_LANES * in->blk_pitch + (size_t) y * sy * in->row_pitch + f;
			float	   *o = out->data + (to + c) / NN_LANES * out->blk_pitch + y * out->row_pitch + t;

			if (run == NN_LANES)
				for (int i = 0; i < out->w; i++)
					memcpy(o + (size_t) i * NN_LANES, x + (size_t) i * sx * NN_LANES, NN_LANES * sizeof(float));
			else
				for (int i = 0; i < out->w; i++)
					for (int k = 0; k < run; k++)
						o[(size_t) i * NN_LANES + k] = x[(size_t) i * sx * NN_LANES + k];
		}
		c += run;
	}
	if (to + n == out->c)
		nn_zero_lanes(out, y0, y1);
}
