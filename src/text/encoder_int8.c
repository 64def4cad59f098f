/*
 * encoder_int8.c
 *	  Products of an int8 encoder: activations are quantized row by row while it
 *	  runs, so that no row depends on its neighbours.
 *
 * The kernels' product takes one scale for all rows; it is asked for plain sums
 * (scale 1, zero point 0, no bias) and int8_rows.h does the rest.
 */
#include "text/encoder_int.h"
#include "text/int8_rows.h"

static const txt_int8_rows *
rows_of(nn_isa isa)
{
	switch (isa)
	{
#if defined(__x86_64__)
		case nn_isa_avx2:
			return &txt_int8_rows_avx2;
		case nn_isa_avx512:
			return &txt_int8_rows_avx512;
#endif
		default:
			return &txt_int8_rows_portable;
	}
}

static size_t
aligned(size_t bytes)
{
	return (bytes + NN_ALIGN - 1) / NN_ALIGN * NN_ALIGN;
}

/* The kernels' own | bytes of the rows | their scales */
size_t
txt_int8_scratch(const txt_encoder *e, int m, int k, int n)
{
	return aligned(e->low->gemm_scratch(m, k, n)) + aligned((size_t) m * (size_t) k) +
		aligned((size_t) m * sizeof(txt_row_scale));
}

void
txt_int8_product(const txt_encoder *e, const void *pack, const float *finish, int m, int k, int n,
				 const nn_low_rows *x, const nn_low_rows *res, const nn_low_rows *y, nn_act act, void *scratch)
{
	const txt_int8_rows *rows = rows_of(e->kernels->isa);
	uint8_t    *bytes = (uint8_t *) scratch + aligned(e->low->gemm_scratch(m, k, n));
	txt_row_scale *scale = (txt_row_scale *) (void *) (bytes + aligned((size_t) m * (size_t) k));
	nn_low_rows b = {bytes, (size_t) k, {nn_elem_u8, 1, 0}};

	for (int i = 0; i < m; i++)
		scale[i] = rows->quantize((const float *) x->data + (size_t) i * x->ld, finish + 2 * n, (size_t) k,
								  bytes + (size_t) i * (size_t) k);
	e->low->gemm(pack, m, &b, NULL, y, (nn_act) {nn_act_none, 0, 0}, scratch);
	for (int i = 0; i < m; i++)
	{
		float	   *yi = (float *) y->data + (size_t) i * y->ld;

		rows->finish(yi, (size_t) n, scale[i], finish, finish + n, res ? (const float *) res->data + (size_t) i * res->ld : NULL);
		e->kernels->activate(yi, yi, (size_t) n, act);
	}
}
