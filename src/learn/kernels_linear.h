/*
 * kernels_linear.h
 *	  Prediction loops of linear models; part of kernels_impl.h.
 */

/*
 * Eight outputs as the registers of this set hold them: compilers cut wider
 * vectors through memory here.
 */
#if defined(__AVX512F__)
#define HALVES	1
#elif defined(__AVX2__)
#define HALVES	2
#else
#define HALVES	4
#endif
typedef double half __attribute__((vector_size(64 / HALVES), may_alias));
typedef double half_u __attribute__((vector_size(64 / HALVES), aligned(8), may_alias));
typedef float half_f __attribute__((vector_size(32 / HALVES), aligned(4), may_alias));

/*
 * Eight outputs of up to four rows from output o on: bias + sum over features
 * of (x - mean) * weight, in order, in double.
 */
INLINE void
affine(const lrn_model *m, const float *rows, const int n, int o, v8 *out)
{
	int			d = m->info.n_features;
	const float *w = m->weights + o;
	half		sum[4][HALVES];

	LRN_UNROLL
	for (int r = 0; r < n; r++)
		LRN_UNROLL
		for (int h = 0; h < HALVES; h++)
			sum[r][h] = ((const half *) (m->bias + o))[h];
	for (int j = 0; j < d; j++, w += m->padded)
	{
		double		mean = m->mean ? (double) m->mean[j] : 0;
		double		x[4];

		LRN_UNROLL
		for (int r = 0; r < n; r++)
			x[r] = (double) rows[(size_t) r * (size_t) d + (size_t) j] - mean;
		LRN_UNROLL
		for (int h = 0; h < HALVES; h++)
		{
			half		weight = __builtin_convertvector(((const half_f *) w)[h], half);

			LRN_UNROLL
			for (int r = 0; r < n; r++)
				sum[r][h] = sum[r][h] + weight * x[r];
		}
	}
	LRN_UNROLL
	for (int r = 0; r < n; r++)
		LRN_UNROLL
		for (int h = 0; h < HALVES; h++)
			((half *) &out[r])[h] = sum[r][h];
}

/* Softmax over the k scores of a row; score is padded to eights. */
static void
softmax_row(const double *score, int k, float *out)
{
	double		top = score[0],
				sum = 0;
	v8			e;

	for (int c = 1; c < k; c++)
		top = score[c] > top ? score[c] : top;
	/* Two passes with the same exponentials: no scratch for many classes. */
	for (int pass = 0; pass < 2; pass++)
		for (int c = 0; c < k; c += 8)
		{
			if (pass == 0 || k > 8)
			{
				e = *(const v8 *) (score + c) - top;
				exp8(&e);
			}
			for (int lane = 0; lane < 8 && c + lane < k; lane++)
				if (pass == 0)
					sum += e[lane];
				else
					out[c + lane] = (float) (e[lane] / sum);
		}
}

#define SCORES	1024			/* padded classes held on the stack */

static void
linear_row_many(const lrn_model *m, const float *row, float *out);

static void
linear_rows(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	size_t		d = (size_t) m->info.n_features;
	int			k = m->info.n_outputs;

	if (m->softmax && m->padded > SCORES)
	{
		for (int64_t i = 0; i < n; i++)
			linear_row_many(m, rows + (size_t) i * d, out + (size_t) i * (size_t) k);
		return;
	}
	for (int64_t i = 0; i < n; i += 4)
	{
		int			take = n - i < 4 ? (int) (n - i) : 4;
		const float *block = rows + (size_t) i * d;
		double		score[4][SCORES] __attribute__((aligned(64)));

		for (int o = 0; o < m->padded; o += 8)
		{
			v8			s[4];

			if (take == 4)
				affine(m, block, 4, o, s);
			else
				for (int r = 0; r < take; r++)
					affine(m, block + (size_t) r * d, 1, o, &s[r]);
			for (int r = 0; r < take; r++)
			{
				if (m->softmax || m->sigmoid)
					*(v8 *) (score[r] + o) = s[r];
				else
					put8(out + (size_t) (i + r) * (size_t) k + (size_t) o, &s[r], k - o);
			}
		}
		for (int r = 0; r < take; r++)
		{
			float	   *p = out + (size_t) (i + r) * (size_t) k;

			if (m->softmax)
				softmax_row(score[r], k, p);
			else if (m->sigmoid)
			{
				double		margin = score[r][0];
				v8			e = (v8) {0} + (margin < 0 ? margin : -margin);
				double		small;

				exp8(&e);
				small = e[0] / (1 + e[0]);
				p[1] = (float) (margin < 0 ? small : 1 / (1 + e[0]));
				p[0] = (float) (margin < 0 ? 1 / (1 + e[0]) : small);
				if (margin != margin)
					p[0] = p[1] = (float) margin;
			}
		}
	}
}

/* More classes than the stack holds: scores are computed once a pass. */
static void
linear_row_many(const lrn_model *m, const float *row, float *out)
{
	int			k = m->info.n_outputs;
	double		top = -INFINITY,
				sum = 0;

	for (int pass = 0; pass < 3; pass++)
		for (int o = 0; o < m->padded; o += 8)
		{
			v8			s;

			affine(m, row, 1, o, &s);
			if (pass == 0)
			{
				for (int lane = 0; lane < 8 && o + lane < k; lane++)
					top = s[lane] > top ? s[lane] : top;
				continue;
			}
			s = s - top;
			exp8(&s);
			for (int lane = 0; lane < 8 && o + lane < k; lane++)
				if (pass == 1)
					sum += s[lane];
				else
					out[o + lane] = (float) (s[lane] / sum);
		}
}
