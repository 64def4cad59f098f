/*
 * kernels_calibrate.h
 *	  Scores to probabilities; part of kernels_impl.h.
 */

/* 1 / (1 + exp(z)) of eight numbers. */
INLINE void
sigmoid8(v8 *z)
{
	v8			minus = -*z,
				e = *z,
				low;

	SELECT8(*z < minus, e, minus);	/* -|z| */
	exp8(&e);
	low = e / (1.0 + e);
	e = 1.0 / (1.0 + e);
	SELECT8(*z < minus, e, low);
	*z = e;
}

/* Between the points around x on a straight line; outside them the end's value. */
INLINE double
isotonic(const double *x, const double *y, uint32_t n, double score)
{
	uint32_t	below = 0,
				above = n;

	if (score != score)
		return score;
	if (score <= x[0])
		return y[0];
	if (score >= x[n - 1])
		return y[n - 1];
	/* x[below] <= score < x[above] */
	for (above = n - 1; above - below > 1;)
	{
		uint32_t	middle = below + (above - below) / 2;

		if (x[middle] <= score)
			below = middle;
		else
			above = middle;
	}
	return y[below] + (y[above] - y[below]) * ((score - x[below]) / (x[above] - x[below]));
}

/* In place: scores of each row's classes to probabilities that sum to 1. */
static void
calibrate_rows(const lrn_model *m, int64_t n, float *out)
{
	int			k = m->info.n_classes,
				maps = k == 2 ? 1 : k;

	for (int64_t i = 0; i < n; i++, out += k)
	{
		float	   *score = k == 2 ? out + 1 : out;
		double		sum = 0;

		for (int c = 0; c < maps; c += 8)
		{
			int			take = maps - c < 8 ? maps - c : 8;
			v8			p = (v8) {0};

			for (int lane = 0; lane < take; lane++)
				p[lane] = m->calibration.kind == LRN_CALIBRATION_SIGMOID ? (double) score[c + lane] :
					isotonic(m->calibration.x + m->calibration.first[c + lane], m->calibration.y + m->calibration.first[c + lane],
							 m->calibration.first[c + lane + 1] - m->calibration.first[c + lane], score[c + lane]);
			if (m->calibration.kind == LRN_CALIBRATION_SIGMOID)
			{
				p = p * *(const v8 *) (m->calibration.a + c) + *(const v8 *) (m->calibration.b + c);
				sigmoid8(&p);
			}
			for (int lane = 0; lane < take; lane++)
			{
				score[c + lane] = (float) p[lane];
				sum += p[lane];
			}
		}
		if (k == 2)
			out[0] = 1 - out[1];
		else
			for (int c = 0; c < k; c++)
				out[c] = sum == 0 ? 1.0f / (float) k : (float) (out[c] / sum);
	}
}

#define SOFTMAX_AT_ONCE	256		/* numbers of whole rows */

/* n rows of few classes. */
static void
softmax_block(int k, int n, float *out)
{
	double		e[SOFTMAX_AT_ONCE] __attribute__((aligned(64)));
	int			all = n * k;

	for (int r = 0; r < n; r++)
	{
		const float *score = out + r * k;
		float		top = score[0];

		for (int c = 1; c < k; c++)
			top = score[c] > top ? score[c] : top;
		for (int c = 0; c < k; c++)
			e[r * k + c] = (double) score[c] - top;
	}
	for (int i = all; i % 8 != 0; i++)
		e[i] = 0;
	for (int i = 0; i < all; i += 8)
		exp8((v8 *) (e + i));
	for (int r = 0; r < n; r++)
	{
		double		sum = 0;

		for (int c = 0; c < k; c++)
			sum += e[r * k + c];
		for (int c = 0; c < k; c++)
			out[r * k + c] = (float) ((float) e[r * k + c] / sum);
	}
}

/* The same for scores that nothing was learnt about: their order is kept. */
static void
softmax_rows(int k, int64_t n, float *out)
{
	if (k <= SOFTMAX_AT_ONCE)
	{
		int			most = SOFTMAX_AT_ONCE / k;

		for (int64_t i = 0; i < n; i += most)
			softmax_block(k, n - i < most ? (int) (n - i) : most, out + i * k);
		return;
	}
	for (int64_t i = 0; i < n; i++, out += k)
	{
		float		top = out[0];
		double		sum = 0;

		for (int c = 1; c < k; c++)
			top = out[c] > top ? out[c] : top;
		for (int c = 0; c < k; c += 8)
		{
			int			take = k - c < 8 ? k - c : 8;
			v8			e = (v8) {0};

			for (int lane = 0; lane < take; lane++)
				e[lane] = (double) out[c + lane] - top;
			exp8(&e);
			for (int lane = 0; lane < take; lane++)
			{
				out[c + lane] = (float) e[lane];
				sum += e[lane];
			}
		}
		for (int c = 0; c < k; c++)
			out[c] = (float) (out[c] / sum);
	}
}
