/*
 * kernels.c
 *	  Choose the table of kernels; borders of views.
 */
#include "nn/kernels_core.h"

const nn_kernels *
nn_kernels_for(nn_isa isa)
{
	if (isa == nn_isa_auto)
		isa = nn_isa_best();
	if (!nn_isa_available(isa))
		return NULL;
	switch (isa)
	{
		case nn_isa_portable:
			return &nn_kernels_portable;
#if defined(__x86_64__)
		case nn_isa_avx2:
			return &nn_kernels_avx2;
		case nn_isa_avx512:
		case nn_isa_avx512_vnni:
		case nn_isa_avx512_bf16:
		case nn_isa_amx:
			return &nn_kernels_avx512;
#endif
		default:
			return NULL;
	}
}

/* Cells beyond the far edge that the last of out windows reads. */
static int
overhang(int in, int out, int k, int s, int d, int pad)
{
	int			far = (out - 1) * s - pad + (k - 1) * d - (in - 1);

	return far > 0 ? far : 0;
}

nn_margin
nn_conv_margin(const nn_conv *cv, int in_h, int in_w, int out_h, int out_w)
{
	nn_margin	m = {
		.top = cv->pt > 0 ? cv->pt : 0,
		.left = cv->pl > 0 ? cv->pl : 0,
		.bottom = overhang(in_h, out_h, cv->kh, cv->sh, cv->dh, cv->pt),
		.right = overhang(in_w, out_w, cv->kw, cv->sw, cv->dw, cv->pl),
	};

	return m;
}

void
nn_border(const nn_view *v, nn_margin m)
{
	size_t		pixel = NN_LANES * sizeof(float);
	size_t		line = (size_t) (m.left + v->w + m.right) * pixel;

	if ((m.top | m.left | m.bottom | m.right) == 0)
		return;
	for (int b = 0; b < nn_blocks(v->c); b++)
	{
		float	   *first = v->data + b * v->blk_pitch - (size_t) m.left * NN_LANES;

		for (int y = -m.top; y < v->h + m.bottom; y++)
		{
			float	   *p = first + (ptrdiff_t) y * (ptrdiff_t) v->row_pitch;

			if (y < 0 || y >= v->h)
				memset(p, 0, line);
			else
			{
				memset(p, 0, m.left * pixel);
				memset(p + (size_t) (m.left + v->w) * NN_LANES, 0, m.right * pixel);
			}
		}
	}
}

void
nn_zero_lanes(const nn_view *v, int y0, int y1)
{
	int			used = v->c % NN_LANES;

	if (used == 0)
		return;
	for (int y = y0; y < y1; y++)
	{
		float	   *p = v->data + (v->c / NN_LANES) * v->blk_pitch + y * v->row_pitch + used;

		for (int x = 0; x < v->w; x++)
			memset(p + (size_t) x * NN_LANES, 0, (NN_LANES - used) * sizeof(float));
	}
}
