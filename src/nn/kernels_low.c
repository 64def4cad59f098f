/*
 * kernels_low.c
 *	  Choose the table of kernels of few bits; borders, padding lanes, tables of
 *	  256 bytes, ranges.
 */
#include "nn/kernels_low_core.h"

nn_isa
nn_low_isa(nn_isa isa, nn_low_kind kind)
{
	if (isa == nn_isa_auto)
		isa = nn_isa_best();
	switch (kind)
	{
		case nn_low_u8:
			return isa == nn_isa_avx512_bf16 ? nn_isa_avx512_vnni : isa;
		case nn_low_bf16:
			return isa < nn_isa_avx512_bf16 ? nn_isa_auto : isa;
		case nn_low_w16:
			return nn_isa_f32(isa);
	}
	return nn_isa_auto;
}

const nn_low_kernels *
nn_low_for(nn_isa isa, nn_low_kind kind)
{
	static const nn_low_kernels *const tables[3][nn_isa_last + 1] = {
		[nn_low_u8][nn_isa_portable] = &nn_low_u8_portable,
		[nn_low_w16][nn_isa_portable] = &nn_low_w16_portable,
#if defined(__x86_64__)
		[nn_low_u8][nn_isa_avx2] = &nn_low_u8_avx2,
		[nn_low_u8][nn_isa_avx512] = &nn_low_u8_avx512,
		[nn_low_u8][nn_isa_avx512_vnni] = &nn_low_u8_avx512_vnni,
		[nn_low_u8][nn_isa_amx] = &nn_low_u8_amx,
		[nn_low_bf16][nn_isa_avx512_bf16] = &nn_low_bf16_avx512_bf16,
		[nn_low_bf16][nn_isa_amx] = &nn_low_bf16_amx,
		[nn_low_w16][nn_isa_avx2] = &nn_low_w16_avx2,
		[nn_low_w16][nn_isa_avx512] = &nn_low_w16_avx512,
#endif
	};

	isa = nn_low_isa(isa, kind);
	return isa != nn_isa_auto && nn_isa_available(isa) ? tables[kind][isa] : NULL;
}

void
nn_low_border(const nn_low_view *v, nn_margin m)
{
	int			fill = v->q.elem == nn_elem_u8 ? v->q.zero : 0;
	size_t		line = (size_t) (m.left + v->v.w + m.right) * NN_ALIGN;

	if ((m.top | m.left | m.bottom | m.right) == 0)
		return;
	for (int b = 0; b < nn_elem_blocks(v->q.elem, v->v.c); b++)
	{
		float	   *first = v->v.data + b * v->v.blk_pitch - (size_t) m.left * NN_LANES;

		for (int y = -m.top; y < v->v.h + m.bottom; y++)
		{
			char	   *p = (char *) (first + (ptrdiff_t) y * (ptrdiff_t) v->v.row_pitch);

			if (y < 0 || y >= v->v.h)
				memset(p, fill, line);
			else
			{
				memset(p, fill, m.left * NN_ALIGN);
				memset(p + (size_t) (m.left + v->v.w) * NN_ALIGN, fill, m.right * NN_ALIGN);
			}
		}
	}
}

void
nn_low_zero_lanes(const nn_low_view *v, int y0, int y1)
{
	int			lanes = nn_elem_lanes(v->q.elem),
				used = v->v.c % lanes;

	if (used == 0 || v->q.elem != nn_elem_bf16)
		return;
	if (used == NN_LANES)		/* the frequent case, a store a pixel */
	{
		for (int y = y0; y < y1; y++)
		{
			uint16_t   *p = (uint16_t *) (v->v.data + (v->v.c / lanes) * v->v.blk_pitch + y * v->v.row_pitch) + used;

			for (int x = 0; x < v->v.w; x++)
				memset(p + (size_t) x * lanes, 0, NN_LANES * sizeof(uint16_t));
		}
		return;
	}
	for (int y = y0; y < y1; y++)
	{
		uint16_t   *p = (uint16_t *) (v->v.data + (v->v.c / lanes) * v->v.blk_pitch + y * v->v.row_pitch) + used;

		for (int x = 0; x < v->v.w; x++)
			memset(p + (size_t) x * lanes, 0, (lanes - used) * sizeof(uint16_t));
	}
}

/* Quantum of x, rounded half to even, as the kernels' vectors do it. */
static uint8_t
quantum(float x, nn_quant q)
{
	float		v = x / q.scale;

	v = v > (float) -q.zero ? v : (float) -q.zero;
	v = v < (float) (255 - q.zero) ? v : (float) (255 - q.zero);
	return (uint8_t) ((int) nearbyintf(v) + q.zero);
}

void
nn_low_table(nn_quant in, nn_act act, nn_quant out, uint8_t table[256])
{
	float		x[256];

	for (int i = 0; i < 256; i++)
		x[i] = (float) (i - in.zero) * in.scale;
	nn_kernels_portable.activate(x, x, 256, act);
	for (int i = 0; i < 256; i++)
		table[i] = quantum(x[i], out);
}

void
nn_low_map(const uint8_t table[256], const nn_low_view *in, const nn_low_view *out, int y0, int y1)
{
	for (int b = 0; b < nn_elem_blocks(nn_elem_u8, out->v.c); b++)
		for (int y = y0; y < y1; y++)
		{
			const uint8_t *x = (const uint8_t *) (in->v.data + b * in->v.blk_pitch + y * in->v.row_pitch);
			uint8_t    *o = (uint8_t *) (out->v.data + b * out->v.blk_pitch + y * out->v.row_pitch);
			int			left = out->v.c - b * NN_ALIGN;

			if (left >= NN_ALIGN / 2)
				for (size_t i = 0; i < (size_t) out->v.w * NN_ALIGN; i++)
					o[i] = table[x[i]];
			else				/* few channels: leave out the padding lanes */
				for (int i = 0; i < out->v.w; i++, x += NN_ALIGN, o += NN_ALIGN)
					for (int c = 0; c < left; c++)
						o[c] = table[x[c]];
		}
}

nn_quant
nn_low_dynamic(const float *x, size_t n)
{
	nn_quant	q = {nn_elem_f32, 1, 0};
	float		lo[8] = {0},
				hi[8] = {0};
	size_t		i = 0;
	float		zero;

	for (; i + 8 <= n; i += 8)
		for (int k = 0; k < 8; k++)
		{
			lo[k] = x[i + k] < lo[k] ? x[i + k] : lo[k];
			hi[k] = x[i + k] > hi[k] ? x[i + k] : hi[k];
		}
	for (; i < n; i++)
	{
		lo[0] = x[i] < lo[0] ? x[i] : lo[0];
		hi[0] = x[i] > hi[0] ? x[i] : hi[0];
	}
	for (int k = 1; k < 8; k++)
	{
		lo[0] = lo[k] < lo[0] ? lo[k] : lo[0];
		hi[0] = hi[k] > hi[0] ? hi[k] : hi[0];
	}
	q.scale = (hi[0] - lo[0]) / 255;
	if (!(q.scale > 0) || isinf(q.scale))
		q.scale = 1;			/* all zeros; infinities have no sensible scale */
	zero = nearbyintf(-lo[0] / q.scale);
	q.zero = zero > 255 ? 255 : zero > 0 ? (int) zero : 0;
	return q;
}

void
nn_low_row_f32(const void *in, nn_quant q, char *out, int n)
{
	(void) q;
	memcpy(out, in, n * sizeof(float));
}

void
nn_low_words_f32(const void *const *c, nn_quant q, uint32_t *out, int n)
{
	(void) q;
	memcpy(out, c[0], n * sizeof(float));
}
