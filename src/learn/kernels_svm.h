/*
 * kernels_svm.h
 *	  Loops of the support vector machines; part of kernels_impl.h.
 *
 * Rows lie in tiles of LRN_TILE: a tile has, feature by feature, its rows side
 * by side, so that a row of the kernel matrix is computed in registers and read
 * in one stream.  Coordinates are centred and multiplied by sqrt(gamma) before:
 * the kernel is exp(-|x - z|^2).  Differences are squared, never |x|^2 + |z|^2 -
 * 2 xz, which cancels in float32.  All is done lane by lane, and a maximum does
 * not depend on its order: equal bits on every set.
 */

#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef int32_t y8u __attribute__((vector_size(32), aligned(4)));
typedef uint32_t vu __attribute__((vector_size(VF * 4)));	/* wraps */

#define PARTS	(LRN_TILE / VF)	/* registers a tile's rows take */

/* The larger, the smaller; a NaN in b stays one. */
#if defined(__AVX512F__)
#define MAX_D(a, b) ((half) _mm512_max_pd((__m512d) (a), (__m512d) (b)))
#define MAX_F(a, b) ((vf) _mm512_max_ps((__m512) (a), (__m512) (b)))
#define MIN_F(a, b) ((vf) _mm512_min_ps((__m512) (a), (__m512) (b)))
#elif defined(__AVX2__)
#define MAX_D(a, b) ((half) _mm256_max_pd((__m256d) (a), (__m256d) (b)))
#define MAX_F(a, b) ((vf) _mm256_max_ps((__m256) (a), (__m256) (b)))
#define MIN_F(a, b) ((vf) _mm256_min_ps((__m256) (a), (__m256) (b)))
#elif defined(__x86_64__)
#define MAX_D(a, b) ((half) _mm_max_pd((__m128d) (a), (__m128d) (b)))
#define MAX_F(a, b) ((vf) _mm_max_ps((__m128) (a), (__m128) (b)))
#define MIN_F(a, b) ((vf) _mm_min_ps((__m128) (a), (__m128) (b)))
#else
typedef int64_t half_i __attribute__((vector_size(64 / HALVES)));
#define MAX_D(a, b) ((half) (((half_i) (a) & (half_i) ((a) > (b))) | ((half_i) (b) & ~(half_i) ((a) > (b)))))
#define CHOOSE_F(c, a, b) ((vf) (((vi) (a) & (vi) (c)) | ((vi) (b) & ~(vi) (c))))
#define MAX_F(a, b) CHOOSE_F((a) > (b), a, b)
#define MIN_F(a, b) CHOOSE_F((a) < (b), a, b)
#endif

/*
 * 2^-x of n numbers x >= 0, n a multiple of 64, relative error below 2e-7: the
 * whole part becomes the exponent, a polynomial (minimax, exact at 0) does the
 * rest.  SIDE registers go through it side by side, to hide its latency.
 */
#define SIDE	4
#define EACH	_Pragma("GCC unroll 4") for (int e = 0; e < SIDE; e++)

INLINE void
exp2_minus(float *x, int n)
{
	const float shifter = 12582912.0f;	/* 1.5 * 2^23: rounds to an integer */
	const vf	most = (vf) {0} + 126.0f;	/* 2^-126 is still normal */

	for (int i = 0; i < n; i += SIDE * VF)
	{
		vf		   *at = (vf *) (x + i);
		vf			v[SIDE],
					t[SIDE],
					p[SIDE];

		EACH v[e] = MIN_F(most, at[e]);
		EACH t[e] = shifter - v[e];
		EACH v[e] = (shifter - t[e]) - v[e];
		EACH p[e] = v[e] * 0.00132647273f + 0.00967151299f;
		EACH p[e] = p[e] * v[e] + 0.0555073358f;
		EACH p[e] = p[e] * v[e] + 0.240222424f;
		EACH p[e] = p[e] * v[e] + 0.693147004f;
		EACH p[e] = p[e] * v[e] + 1.0f;
		EACH at[e] = (vf) ((vu) p[e] + ((vu) t[e] << 23));
	}
}

/* Squared distances of one tile's rows from x. */
INLINE void
distances(const float *tile, int d, const float *x, float *out)
{
	vf			sum[PARTS];

	for (int p = 0; p < PARTS; p++)
		sum[p] = (vf) {0};
	for (int j = 0; j < d; j++)
		for (int p = 0; p < PARTS; p++)
		{
			vf			diff = ((const vf *) (tile + (size_t) j * LRN_TILE))[p] - x[j];

			sum[p] = sum[p] + diff * diff;
		}
	for (int p = 0; p < PARTS; p++)
		((vf *) out)[p] = sum[p];
}

#define GROUP	16				/* tiles taken through distances, then exp() */

static void
rbf_row(const float *tiles, int n_tiles, int d, const float *x, float *out)
{
	for (int first = 0; first < n_tiles; first += GROUP, out += GROUP * LRN_TILE)
	{
		int			n = n_tiles - first < GROUP ? n_tiles - first : GROUP;
		float		buffer[GROUP * LRN_TILE] __attribute__((aligned(64)));

		for (int t = 0; t < n; t++)
			distances(tiles + (size_t) (first + t) * (size_t) d * LRN_TILE, d, x, buffer + t * LRN_TILE);
		if (n % 2)
			memset(buffer + n * LRN_TILE, 0, LRN_TILE * sizeof(float));
		exp2_minus(buffer, (n + 1) / 2 * 2 * LRN_TILE);
		memcpy(out, buffer, (size_t) n * LRN_TILE * sizeof(float));
	}
}

/* ---- sequential minimal optimisation: two passes an iteration ---- */

#define CHUNK	256				/* rows whose maximum is kept; a multiple of LRN_TILE */

INLINE double
largest(half v)
{
	double		best = v[0];

	for (int lane = 1; lane < 8 / HALVES; lane++)
		best = v[lane] > best ? v[lane] : best;
	return best;
}

static void
smo_update(double *f, const float *ki, const float *kj, double step,
		   const float *up, const float *low, int n, lrn_smo_best *best)
{
	double		top = -INFINITY,
				bottom = -INFINITY;
	int			at = 0;

	for (int first = 0; first < n; first += CHUNK)
	{
		int			end = first + CHUNK < n ? first + CHUNK : n;
		half		u = (half) {0} - INFINITY,
					l = u;
		double		chunk_top;

		for (int k = first; k < end; k += 8 / HALVES)
		{
			half		v = *(const half *) (f + k);
			half_f		diff = *(const half_f *) (ki + k) - *(const half_f *) (kj + k);

			v = v + __builtin_convertvector(diff, half) * step;
			*(half *) (f + k) = v;
			u = MAX_D(__builtin_convertvector(*(const half_f *) (up + k), half) - v, u);
			l = MAX_D(v - __builtin_convertvector(*(const half_f *) (low + k), half), l);
		}
		chunk_top = largest(l);
		bottom = chunk_top > bottom ? chunk_top : bottom;
		chunk_top = largest(u);
		if (chunk_top > top)
		{
			top = chunk_top;
			at = first;
		}
	}
	best->up = top;
	best->low = -bottom;
	while (at < n - 1 && up[at] - f[at] != top)
		at++;
	best->i = at;
}

static int
smo_pick(const double *f, const float *ki, const float *low, double top, int n)
{
	float		best = 0;
	int			at = -1;
	float		gain[CHUNK] __attribute__((aligned(64)));

	for (int first = 0; first < n; first += CHUNK)
	{
		int			end = first + CHUNK < n ? first + CHUNK : n;
		vf			most = (vf) {0};

		for (int k = first; k < end; k += 8 / HALVES)
		{
			half		b = *(const half *) (f + k) -
				__builtin_convertvector(*(const half_f *) (low + k), half) + top;

			*(half_f *) (gain + (k - first)) = __builtin_convertvector(b, half_f);
		}
		for (int k = first; k < end; k += VF)
		{
			vf		   *g = (vf *) (gain + (k - first));
			vf			kernel = *(const vf *) (ki + k);
			vf			tau = (vf) {0} + 1e-12f;
			vf			a = MAX_F(2.0f - 2.0f * kernel, tau);
			vf			b = MAX_F(*g, (vf) {0});

			*g = b * b / a;
			most = MAX_F(*g, most);
		}
		for (int lane = 0; lane < VF; lane++)
			if (most[lane] > best)
			{
				best = most[lane];
				at = -1;
			}
		if (at < 0 && best > 0)
		{
			at = first;
			while (gain[at - first] != best)
				at++;
		}
	}
	return at;
}

/* f[k] += c * row[k]. */
static void
smo_add(double *f, const float *row, double c, int n)
{
	for (int k = 0; k < n; k += 8 / HALVES)
	{
		half	   *v = (half *) (f + k);

		*v = *v + __builtin_convertvector(*(const half_f *) (row + k), half) * c;
	}
}

/* ---- linear machines ---- */

/*
 * Loss C_i max(0, 1 - y_i s_i)^2 and its gradient over a block of n <= LRN_BLOCK
 * rows, one class against the rest.  Columns, y and weight may be read to the
 * next multiple of 8.
 */
static double
hinge_block(float *const *col, int64_t first, int n, int d, const int32_t *y, int32_t class,
			const float *weight, double positive, double negative,
			const double *w, double b, double *grad, double *scratch)
{
	int			n8 = (n + 7) & ~7;
	v8			loss = (v8) {0};

	scores(col, first, n8, d, w, &b, 0, 1, scratch);
	for (int i = 0; i < n8; i += 8)
	{
		v8		   *s = (v8 *) (scratch + i);
		v8			in = CVT(*(const y8u *) (y + first + i)) - (double) class,
					cost = (v8) {0} + positive,
					other = (v8) {0} + negative,
					sign = (v8) {0} + 1.0,
					gap;

		/* in: 0 for rows of the class */
		SELECT8(in == 0.0, cost, other);
		SELECT8(in == 0.0, sign, -sign);
		if (weight)
			cost = cost * CVT(*(const f8u *) (weight + first + i));
		for (int lane = n - i; lane < 8; lane++)
			cost[lane] = 0;
		gap = 1.0 - sign * *s;
		gap = (v8) ((i8) gap & (i8) (gap > 0.0));
		loss = loss + cost * gap * gap;
		*s = -2.0 * cost * sign * gap;
	}
	gradients(col, first, n8, d, scratch, 0, 1, grad);
	return sum8(&loss);
}

/* x.w and w += c x of n numbers, n a multiple of 8. */
static double
row_dot(const float *x, const double *w, size_t n)
{
	v8			sum = (v8) {0};

	for (size_t j = 0; j < n; j += 8)
		sum = sum + CVT(*(const f8u *) (x + j)) * *(const v8 *) (w + j);
	return sum8(&sum);
}

static void
row_axpy(double *w, const float *x, double c, size_t n)
{
	for (size_t j = 0; j < n; j += 8)
		*(v8 *) (w + j) = *(v8 *) (w + j) + CVT(*(const f8u *) (x + j)) * c;
}

/* ---- prediction ---- */

/* acc += coefficients times kernels, tile after tile; in float32 products, double sums. */
INLINE void
add_products(const float *coef, size_t stride, const float *kernel, int n_tiles, v8 *acc)
{
	half		sum[2][HALVES];

	for (int h = 0; h < HALVES; h++)
	{
		sum[0][h] = ((half *) acc)[h];
		sum[1][h] = (half) {0};
	}
	for (int t = 0; t < n_tiles; t++, coef += stride, kernel += LRN_TILE)
		for (int g = 0; g < LRN_TILE; g += 8)
			for (int h = 0; h < HALVES; h++)
			{
				half_f		product = ((const half_f *) (coef + g))[h] * ((const half_f *) (kernel + g))[h];

				sum[g / 8 % 2][h] = sum[g / 8 % 2][h] + __builtin_convertvector(product, half);
			}
	for (int h = 0; h < HALVES; h++)
		((half *) acc)[h] = sum[0][h] + sum[1][h];
}

/* x: the row, scaled; sum[a][b]: what the vectors of class a say against b. */
INLINE void
rbf_sums(const lrn_model *m, const float *x, double *sum)
{
	int			k = m->info.n_classes,
				d = m->info.n_features;
	float		kernel[GROUP * LRN_TILE] __attribute__((aligned(64)));
	v8			acc[LRN_SVM_CLASSES];

	for (int a = 0; a < k; a++)
	{
		for (int o = 0; o < k - 1; o++)
			acc[o] = (v8) {0};
		for (uint32_t t = m->svm.first_tile[a], n; t < m->svm.first_tile[a + 1]; t += n)
		{
			n = m->svm.first_tile[a + 1] - t;
			n = n < GROUP ? n : GROUP;
			rbf_row(m->svm.tiles + (size_t) t * (size_t) d * LRN_TILE, (int) n, d, x, kernel);
			for (int o = 0; o < k - 1; o++)
				add_products(m->svm.coef + (size_t) t * (size_t) (k - 1) * LRN_TILE + (size_t) o * LRN_TILE,
							 (size_t) (k - 1) * LRN_TILE, kernel, (int) n, &acc[o]);
		}
		for (int o = 0; o < k - 1; o++)
			sum[(size_t) a * (size_t) k + (size_t) (o < a ? o : o + 1)] = sum8(&acc[o]);
	}
}

/*
 * One score a class, larger = more likely.  Two classes: the distance from the
 * border, and its negative.  More: votes of the pairs, and within a vote the
 * sum of the distances squeezed to less than a third (scikit-learn's "ovr").
 */
INLINE void
rbf_scores(const lrn_model *m, const float *row, float *x, double *sum, float *out)
{
	int			k = m->info.n_classes,
				d = m->info.n_features;
	const double *rho = m->svm.rho;

	for (int j = 0; j < d; j++)
	{
		double		v = ((double) row[j] - m->shift[j]) * m->scale[j];

		x[j] = (float) (v > LRN_SVM_FAR ? LRN_SVM_FAR : v < -LRN_SVM_FAR ? -LRN_SVM_FAR : v);
	}
	rbf_sums(m, x, sum);
	if (k == 2)
	{
		out[1] = (float) (rho[0] - (sum[1] + sum[2]));
		out[0] = -out[1];
		return;
	}
	/* The diagonal is free: votes there, confidences in the sums' place. */
	for (int a = 0; a < k; a++)
		sum[(size_t) a * (size_t) (k + 1)] = 0;
	for (int a = 0; a < k; a++)
		for (int b = a + 1; b < k; b++)
		{
			double	   *ab = sum + (size_t) a * (size_t) k + (size_t) b,
					   *ba = sum + (size_t) b * (size_t) k + (size_t) a;
			double		value = *ab + *ba - *rho++;

			*ab = value;
			*ba = -value;
			sum[(size_t) (value > 0 ? a : b) * (size_t) (k + 1)] += 1;
		}
	for (int a = 0; a < k; a++)
	{
		double		confidence = 0;

		for (int b = 0; b < k; b++)
			confidence += b == a ? 0 : sum[(size_t) a * (size_t) k + (size_t) b];
		confidence = confidence / (3 * ((confidence < 0 ? -confidence : confidence) + 1));
		out[a] = (float) (sum[(size_t) a * (size_t) (k + 1)] + confidence);
	}
}

static __attribute__((noinline)) void
rbf_rows_wide(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	float		x[LRN_MAX_FEATURES];
	double		sum[LRN_SVM_CLASSES * LRN_SVM_CLASSES];

	for (int64_t i = 0; i < n; i++)
		rbf_scores(m, rows + (size_t) i * (size_t) m->info.n_features, x, sum,
				   out + (size_t) i * (size_t) m->info.n_classes);
}

static void
rbf_rows(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	float		x[256];
	double		sum[16 * 16];

	if (m->info.n_features > 256 || m->info.n_classes > 16)
	{
		rbf_rows_wide(m, rows, n, out);
		return;
	}
	for (int64_t i = 0; i < n; i++)
		rbf_scores(m, rows + (size_t) i * (size_t) m->info.n_features, x, sum,
				   out + (size_t) i * (size_t) m->info.n_classes);
}
