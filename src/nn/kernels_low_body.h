/*
 * kernels_low_body.h
 *	  Everything of few bits but the tiles, compiled once in each instruction
 *	  set's file (kernels_low_portable.c and so on), after its vector primitives.
 *
 * Elements are widened to float32, which holds all uint8, bfloat16 and their
 * sums here exactly, and rounded on the way back; products and sums round
 * separately (no FMA where it would show), so all sets give the same quanta.
 * The unit of work is a run of pixels of one block of 16 channels, dense in a
 * float32 buffer in L1.
 */
#define NN_INLINE static inline __attribute__((always_inline))
#define NV_BLOCK (NN_LANES / VW)	/* vectors of 16 channels */
#define RUN 16						/* pixels of a buffer */

#define LOW(name) NN_LOW_NAME(name, BODY)

/* ---- elements ---- */

NN_INLINE vf
get(const char *p, const nn_elem elem, vf scale, vf zero)
{
	switch (elem)
	{
		case nn_elem_u8:
			return (vf_from_vi(vi_load_u8((const uint8_t *) p)) - zero) * scale;
		case nn_elem_bf16:
			return vf_load_bf16((const uint16_t *) p);
		default:
			return vf_load((const float *) p);
	}
}

NN_INLINE void
put(char *p, vf x, const nn_elem elem, vf scale, int zero)
{
	switch (elem)
	{
		case nn_elem_u8:
			x = vf_min(vf_set1((float) (255 - zero)), vf_max(x / scale, vf_set1((float) -zero)));
			vi_store_u8((uint8_t *) p, vi_round(x) + vi_set1(zero));
			return;
		case nn_elem_bf16:
			vf_store_bf16((uint16_t *) p, x);
			return;
		default:
			vf_store((float *) p, x);
			return;
	}
}

NN_INLINE void
get_pixels(const char *p, size_t pix, int n, nn_quant q, const nn_elem elem, float *x)
{
	vf			scale = vf_set1(q.scale),
				zero = vf_set1((float) q.zero);

	for (int i = 0; i < n; i++, p += pix, x += NN_LANES)
		for (int v = 0; v < NN_LANES; v += VW)
			vf_store(x + v, get(p + v * nn_elem_bytes(elem), elem, scale, zero));
}

NN_INLINE void
put_pixels(const float *x, char *p, size_t pix, int n, nn_quant q, const nn_elem elem)
{
	vf			scale = vf_set1(q.scale);

	for (int i = 0; i < n; i++, p += pix, x += NN_LANES)
		for (int v = 0; v < NN_LANES; v += VW)
			put(p + v * nn_elem_bytes(elem), vf_load(x + v), elem, scale, q.zero);
}

/* n pixels of 16 channels, pix bytes apart, from and into x[n][16]. */
static void
get16(const char *p, size_t pix, int n, nn_quant q, float *x)
{
	if (q.elem == nn_elem_u8)
		get_pixels(p, pix, n, q, nn_elem_u8, x);
	else if (q.elem == nn_elem_bf16)
		get_pixels(p, pix, n, q, nn_elem_bf16, x);
	else
		get_pixels(p, pix, n, q, nn_elem_f32, x);
}

static void
put16(const float *x, char *p, size_t pix, int n, nn_quant q)
{
	if (q.elem == nn_elem_u8)
		put_pixels(x, p, pix, n, q, nn_elem_u8);
	else if (q.elem == nn_elem_bf16)
		put_pixels(x, p, pix, n, q, nn_elem_bf16);
	else
		put_pixels(x, p, pix, n, q, nn_elem_f32);
}

/* n < 16 elements. */
static void
get_part(const char *p, int n, nn_quant q, float *x)
{
	char		t[NN_LANES * sizeof(float)] = {0};

	memcpy(t, p, (size_t) n * nn_elem_bytes(q.elem));
	get16(t, 0, 1, q, x);
}

static void
put_part(const float *x, char *p, int n, nn_quant q)
{
	char		t[NN_LANES * sizeof(float)];

	put16(x, t, 0, 1, q);
	memcpy(p, t, (size_t) n * nn_elem_bytes(q.elem));
}

/* Line y of block g of 16 channels, from pixel x. */
static inline char *
at(const nn_low_view *v, int g, int y, int x)
{
	int			per = 1 << v->q.elem;

	return (char *) (v->v.data + g / per * v->v.blk_pitch + y * v->v.row_pitch + (size_t) x * NN_LANES) +
		g % per * NN_LANES * nn_elem_bytes(v->q.elem);
}

#define PIXEL NN_ALIGN			/* bytes from pixel to pixel in a view */

static void
activate(float *x, size_t n, nn_act act)
{
	if (act.kind != nn_act_none)
		ACTIVATE(x, x, n, act);
}

/* bfloat16 and float32 views keep their lanes beyond c zero. */
static void
clean_lanes(const nn_low_view *out, int y0, int y1)
{
	if (out->q.elem == nn_elem_f32)
		nn_zero_lanes(&out->v, y0, y1);
	else
		nn_low_zero_lanes(out, y0, y1);
}

/* ---- for the loops around the tiles ---- */

void
LOW(post) (const nn_low_post *p, const float *tile, size_t blk, int n, int couts, char *o, const char *r)
{
	for (int c = 0; c < couts; c += NN_LANES, tile += blk)
	{
		float		x[NN_LOW_MAX_MR * NN_LANES],
					y[NN_LOW_MAX_MR * NN_LANES];
		const float *sums = tile;
		int			left = couts - c;

		if (r && left >= NN_LANES && p->res.elem == nn_elem_f32 && p->out.elem == nn_elem_f32 && p->act.kind == nn_act_none)
		{
			/* the sums of a row of tokens and its residual: straight to their place */
			for (int i = 0; i < n; i++)
				for (int v = 0; v < NN_LANES; v += VW)
					vf_store((float *) (o + i * p->out_pix) + v,
							 vf_load(sums + i * NN_LANES + v) + vf_load((const float *) (r + i * p->res_pix) + v));
			o += p->out_blk;
			r += p->res_blk;
			continue;
		}
		if (r && left >= NN_LANES)
			get16(r, p->res_pix, n, p->res, y);
		else if (r)
			for (int i = 0; i < n; i++)
				get_part(r + i * p->res_pix, left, p->res, y + i * NN_LANES);
		if (r)
		{
			for (int i = 0; i < n * NN_LANES; i += VW)
				vf_store(x + i, vf_load(sums + i) + vf_load(y + i));
			sums = x;
		}
		if (p->act.kind != nn_act_none)
		{
			ACTIVATE(sums, x, (size_t) n * NN_LANES, p->act);
			sums = x;
		}
		if (left >= NN_LANES)
			put16(sums, o, p->out_pix, n, p->out);
		else
			for (int i = 0; i < n; i++)
				put_part(sums + i * NN_LANES, o + i * p->out_pix, left, p->out);
		o += p->out_blk;
		if (r)
			r += p->res_blk;
	}
}

static void
convert_row(const char *in, nn_quant iq, char *out, nn_quant oq, nn_act act, int n)
{
	float		x[RUN * NN_LANES];
	size_t		is = nn_elem_bytes(iq.elem),
				os = nn_elem_bytes(oq.elem);

	while (n > 0)
	{
		int			blocks = n / NN_LANES < RUN ? n / NN_LANES : RUN;
		int			m = blocks ? blocks * NN_LANES : n;

		if (blocks)
			get16(in, NN_LANES * is, blocks, iq, x);
		else
			get_part(in, m, iq, x);
		activate(x, m, act);
		if (blocks)
			put16(x, out, NN_LANES * os, blocks, oq);
		else
			put_part(x, out, m, oq);
		in += m * is;
		out += m * os;
		n -= m;
	}
}

/* n elements as uint8 or bfloat16 numbers. */
void
LOW(row_u8) (const void *in, nn_quant q, char *out, int n)
{
	nn_quant	native = {nn_elem_u8, q.scale, q.zero};

	convert_row(in, q, out, native, (nn_act) {nn_act_none, 0, 0}, n);
}

void
LOW(row_bf16) (const void *in, nn_quant q, char *out, int n)
{
	nn_quant	native = {nn_elem_bf16, 1, 0};

	convert_row(in, q, out, native, (nn_act) {nn_act_none, 0, 0}, n);
}

/* Quanta of n <= 16 pixels of a plane. */
static void
plane_u8(const void *c, nn_quant q, int from, int n, uint8_t *out)
{
	nn_quant	native = {nn_elem_u8, q.scale, q.zero};

	if (c == NULL)
		memset(out, 0, n);
	else if (q.elem == nn_elem_u8)
		memcpy(out, (const uint8_t *) c + from, n);
	else if (n == NN_LANES)
		put16((const float *) c + from, (char *) out, 0, 1, native);
	else
	{
		float		x[NN_LANES] = {0};

		memcpy(x, (const float *) c + from, n * sizeof(float));
		put_part(x, (char *) out, n, native);
	}
}

void
LOW(words_u8) (const void *const *c, nn_quant q, uint32_t *out, int n)
{
	for (int at = 0; at < n; at += NN_LANES)
	{
		int			m = n - at < NN_LANES ? n - at : NN_LANES;
		uint8_t		b[4][NN_LANES];

		for (int i = 0; i < 4; i++)
			plane_u8(c[i], q, at, m, b[i]);
		if (m == NN_LANES)
			for (int v = 0; v < NN_LANES; v += VW)
				vi_store(out + at + v, vi_load_u8(b[0] + v) | vi_load_u8(b[1] + v) << 8 |
						 vi_load_u8(b[2] + v) << 16 | vi_load_u8(b[3] + v) << 24);
		else
			for (int x = 0; x < m; x++)
				out[at + x] = b[0][x] | b[1][x] << 8 | b[2][x] << 16 | (uint32_t) b[3][x] << 24;
	}
}

void
LOW(words_bf16) (const void *const *c, nn_quant q, uint32_t *out, int n)
{
	int			x = 0;

	if (q.elem == nn_elem_f32)
		for (; x + VW <= n; x += VW)
		{
			vi			w = vf_round_bf16(vf_load((const float *) c[0] + x)) & vi_set1(0xffff);

			if (c[1])
				w = w | vf_round_bf16(vf_load((const float *) c[1] + x)) << 16;
			vi_store(out + x, w);
		}
	for (; x < n; x++)
	{
		uint32_t	h[2] = {0, 0};

		for (int i = 0; i < 2 && c[i]; i++)
			h[i] = q.elem == nn_elem_bf16 ? ((const uint16_t *) c[i])[x] : nn_to_bf16(((const float *) c[i])[x]);
		out[x] = h[0] | h[1] << 16;
	}
}

/* ---- element-wise ---- */

void
LOW(convert) (const nn_low_view *in, const nn_low_view *out, nn_act act, int y0, int y1)
{
	for (int g = 0; g < nn_blocks(out->v.c); g++)
		for (int y = y0; y < y1; y++)
			for (int x = 0; x < out->v.w; x += RUN)
			{
				float		f[RUN * NN_LANES];
				int			n = out->v.w - x < RUN ? out->v.w - x : RUN;

				get16(at(in, g, y, x), PIXEL, n, in->q, f);
				activate(f, (size_t) n * NN_LANES, act);
				put16(f, at(out, g, y, x), PIXEL, n, out->q);
			}
	clean_lanes(out, y0, y1);
}

void
LOW(convert_rows) (const nn_low_rows *in, const nn_low_rows *out, nn_act act, int m, int n)
{
	for (int i = 0; i < m; i++)
		convert_row((const char *) in->data + i * in->ld * nn_elem_bytes(in->q.elem), in->q,
					(char *) out->data + i * out->ld * nn_elem_bytes(out->q.elem), out->q, act, n);
}

NN_INLINE void
binary_array(const nn_binary op, const float *a, const float *b, float *y, int n, bool pixel)
{
	for (int i = 0; i < n; i += VW)
	{
		vf			s = vf_load(a + i),
					t = vf_load(b + (pixel ? i % NN_LANES : i));

		switch (op)
		{
			case nn_add:
				s = s + t;
				break;
			case nn_sub:
				s = s - t;
				break;
			case nn_mul:
				s = s * t;
				break;
			case nn_div:
				s = s / t;
				break;
			case nn_min:
				s = vf_select((vi) (s != s), s, vf_min(s, t));
				break;
			case nn_max:
				s = vf_select((vi) (s != s), s, vf_max(s, t));
				break;
		}
		vf_store(y + i, s);
	}
}

void
LOW(binary) (nn_binary op, const nn_low_view *a, const nn_low_view *b, const nn_low_view *out, nn_act act,
			 int y0, int y1)
{
	bool		pixel = b->v.h == 1 && b->v.w == 1 && (a->v.h != 1 || a->v.w != 1);

	for (int g = 0; g < nn_blocks(out->v.c); g++)
		for (int y = y0; y < y1; y++)
			for (int x = 0; x < out->v.w; x += RUN)
			{
				float		s[RUN * NN_LANES],
							t[RUN * NN_LANES];
				int			n = out->v.w - x < RUN ? out->v.w - x : RUN;

				get16(at(a, g, y, x), PIXEL, n, a->q, s);
				get16(pixel ? at(b, g, 0, 0) : at(b, g, y, x), PIXEL, pixel ? 1 : n, b->q, t);
				n *= NN_LANES;
				switch (op)
				{
					case nn_add:
						binary_array(nn_add, s, t, s, n, pixel);
						break;
					case nn_mul:
						binary_array(nn_mul, s, t, s, n, pixel);
						break;
					default:
						binary_array(op, s, t, s, n, pixel);
				}
				activate(s, n, act);
				put16(s, at(out, g, y, x), PIXEL, n / NN_LANES, out->q);
			}
	clean_lanes(out, y0, y1);
}

#include "nn/kernels_low_spatial.h"
