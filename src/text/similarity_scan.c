/*
 * similarity_scan.c
 *	  A query: its tables for a scan of signs, its elements for lower bounds.
 */
#include "text/similarity_int.h"

#include <string.h>

/* Elements behind the struct, tables behind them, both at multiples of 64 bytes. */
#define ALIGN64(size) (((size) + 63) / 64 * 64)

static size_t
elements_size(int n)
{
	return ALIGN64(((size_t) n + 15) / 16 * 16 * sizeof(double));
}

size_t
sim_query_size(int n)
{
	return ALIGN64(sizeof(sim_query)) + elements_size(n) + (size_t) sim_bits(n) * 8;
}

/* Tables of w, bits of it with zeros behind its end; returns the size of a step. */
static double
fill_tables(sim_query *q, const float *w)
{
	double		widest = 0,
				step;

	for (int g = 0; g < q->bits / 4; g++)
	{
		double		width = 0;

		for (int j = 0; j < 4; j++)
			width += fabs((double) w[4 * g + j]);
		widest = fmax(widest, width);
	}
	step = widest > 0 ? 2 * widest / SIM_TABLE_MOST : 1;
	for (int g = 0; g < q->bits / 4; g++)
	{
		uint8_t    *entry = q->table + sim_table_at(g);

		for (int e = 0; e < 16; e++)
		{
			double		sum = 0;

			for (int j = 0; j < 4; j++)
				sum += (e >> j & 1) == (w[4 * g + j] > 0) ? fabs((double) w[4 * g + j]) : 0;
			entry[e] = (uint8_t) (2 * sum / step + 0.5);
		}
		memcpy(entry + 16, entry, 16);
	}
	return step;
}

sim_query *
sim_prepare(const sim_params *p, const float *vector, void *memory)
{
	sim_query  *q = memory;
	int			n = p->n;
	float		w[SIM_MAX_DIM + 64];
	double		factor = 1,
				unit = 1,
				absolute = 0,
				square = 0,
				step,
				shrink;

	q->p = *p;
	q->bits = sim_bits(n);
	q->element = (double *) ((char *) memory + ALIGN64(sizeof(sim_query)));
	q->table = (uint8_t *) q->element + elements_size(n);
	q->length = sqrt(sim_dot(vector, vector, n));
	if (p->metric == SIM_COSINE)
		factor = q->length > 0 ? 1 / q->length : 0;
	memset(q->element, 0, elements_size(n));
	for (int i = 0; i < n; i++)
		q->element[i] = factor * (double) vector[i];

	unit = sim_unit(p->metric, (float) fmin(q->length, 3e38));
	memset(w + n, 0, 64 * sizeof(float));
	for (int i = 0; i < n; i++)
		w[i] = (float) (q->element[i] * unit);
	sim_kernel()->rotate(w, n);
	for (int i = 0; i < n && p->centre; i++)
		w[i] -= (float) ((double) p->centre[i] * unit);
	for (int i = n; i < q->bits; i++)
		w[i] = 0;
	for (int i = 0; i < q->bits; i++)
	{
		absolute += fabs((double) w[i]);
		square += (double) w[i] * (double) w[i];
	}
	step = fill_tables(q, w);

	/*
	 * Estimate = offset - k scale <w, s>, divided by so much that nothing overflows: |<w, s>| is at
	 * most the root of the bits, below 64, times |w|.
	 */
	shrink = unit / 64 / fmax(sqrt(square), unit);
	q->of_offset = (float) shrink;
	if (p->metric == SIM_L2)
		shrink *= 2;
	q->of_sum = (float) (shrink * step / unit);
	q->constant = (float) (-shrink * absolute / unit);
	return q;
}

size_t
sim_scan_signs(const sim_query *q, const void *blocks, size_t stride, int n_blocks, uint32_t first,
			   sim_candidate least, float most, sim_candidate *out)
{
	return sim_kernel()->scan(q, blocks, stride, n_blocks, first, least, most, out);
}

/*
 * With x = scale steps + e, |e| at most the code's error: of the product with q, e changes at most |q| |e|,
 * of the distance from q at most |e|.  All sums here and in the operators are of doubles; each is within
 * 1e-12 of the size of what is added.
 */
double
sim_lower_bound(const sim_query *q, const void *bytes)
{
	const sim_bytes *code = bytes;
	int			n = q->p.n;
	double		scale = (double) code->scale,
				error = (double) code->error,
				product,
				slack;

	if (q->p.metric == SIM_L2)
	{
		double		distance = sqrt(sim_kernel()->bytes_l2_squared(q->element, code, n));

		return fmax(0, distance * (1 - 1e-12) - error);
	}
	if (isnan(code->scale) || (q->p.metric == SIM_COSINE && q->length == 0))
		return NAN;
	product = scale * sim_kernel()->bytes_dot(q->element, code, n);
	if (q->p.metric == SIM_COSINE)
		return fmax(0, 1 - product - error - 1e-11);
	slack = 1e-12 * (127 * scale * sqrt(n) + error);
	return -product - q->length * (error + slack);
}
