/*
 * encoder_pool.c
 *	  Token vectors to one vector a text, as sentence-transformers' Pooling and
 *	  Normalize do.
 *
 * Sums are taken token by token in float64, so they depend on nothing but the
 * text's own vectors.
 */
#include "text/encoder_int.h"

#define COLUMNS 64				/* at a time: their sums stay in registers or L1 */

/* Columns [c, c + n) of rows: their mean, or what the pooling says instead. */
static void
pool_columns(txt_pooling pooling, const float *x, size_t hidden, int rows, int n, float *out)
{
	double		sum[COLUMNS] = {0};
	double		divisor = pooling == txt_pool_mean_sqrt ? sqrt(rows) : rows;

	if (pooling == txt_pool_cls || pooling == txt_pool_max)
	{
		memcpy(out, x, sizeof(float) * (size_t) n);
		for (int r = 1; pooling == txt_pool_max && r < rows; r++)
			for (int i = 0; i < n; i++)
			{
				float		v = x[(size_t) r * hidden + i];

				out[i] = v > out[i] || isnan(v) ? v : out[i];
			}
		return;
	}
	for (int r = 0; r < rows; r++)
		for (int i = 0; i < n; i++)
			sum[i] += x[(size_t) r * hidden + i];
	for (int i = 0; i < n; i++)
		out[i] = (float) (sum[i] / divisor);
}

/* To length 1; as torch's normalize(), a vector shorter than 1e-12 is divided by that. */
static void
normalize(float *x, size_t n)
{
	double		sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (double) x[i] * x[i];
	sum = sqrt(sum);
	sum = sum < 1e-12 ? 1e-12 : sum;
	for (size_t i = 0; i < n; i++)
		x[i] = (float) (x[i] / sum);
}

void
txt_encoder_pool(const txt_encoder *e, const txt_batch *batch, const float *hidden, float *embeddings)
{
	size_t		width = (size_t) e->info.hidden;

	for (int s = 0; s < batch->n; s++, embeddings += width)
	{
		const float *x = hidden + (size_t) batch->start[s] * width;

		for (size_t c = 0; c < width; c += COLUMNS)
			pool_columns(e->info.pooling, x + c, width, batch->start[s + 1] - batch->start[s],
						 (int) (width - c < COLUMNS ? width - c : COLUMNS), embeddings + c);
		if (e->info.normalize)
			normalize(embeddings, width);
	}
}
