/*
 * kernels_impl.h
 *	  The learning core's inner loops, compiled once an instruction set.
 *
 * LRN_KERNELS names the table to define.  Arithmetic goes through vectors of
 * eight doubles (GCC's and Clang's vector extension), which each instruction
 * set cuts to its own width; no operation is contracted or reassociated, so
 * that all sets give the same bits.  Vectors are never passed by value: that
 * would depend on the ABI of the set.
 */
#include "learn/learn_int.h"

#include <math.h>
#include <string.h>

typedef double v8 __attribute__((vector_size(64)));
typedef double v8u __attribute__((vector_size(64), aligned(8)));	/* unaligned */
typedef float f8u __attribute__((vector_size(32), aligned(4)));
typedef int64_t i8 __attribute__((vector_size(64)));

#define INLINE static inline __attribute__((always_inline))
/* Loops over a tile: unrolled, or its sums would live in memory. */
#if defined(__clang__)
#define LRN_UNROLL _Pragma("unroll")
#else
#define LRN_UNROLL _Pragma("GCC unroll 16")
#endif
#define CVT(x) __builtin_convertvector(x, v8)

/* a = mask ? a : b, lane by lane (C has no ?: on vectors). */
#define SELECT8(mask, a, b) \
	((a) = (v8) (((i8) (a) & (i8) (mask)) | ((i8) (b) & ~(i8) (mask))))

/*
 * exp() of eight numbers, at most 0 in all uses here, relative error below
 * 1e-15: x = n ln 2 + r, a polynomial for exp(r), and 2^n from bits.
 */
INLINE void
exp8(v8 *x)
{
	const double shifter = 6755399441055744.0;	/* 1.5 * 2^52: rounds to an integer */
	v8			v = *x,
				n,
				r,
				p;
	v8			least = (v8) {0} - 708.0;
	i8			bits;

	/* Below -708 the result is as good as 0 (and 2^n stays normal). */
	SELECT8(~(v < least), v, least);
	n = v * 1.4426950408889634 + shifter;
	bits = ((i8) n + 1023) << 52;
	n = n - shifter;
	r = v - n * 0.693147180369123816490;
	r = r - n * 1.90821492927058770002e-10;
	p = r * (1.0 / 6227020800.0) + 1.0 / 479001600.0;
	p = p * r + 1.0 / 39916800.0;
	p = p * r + 1.0 / 3628800.0;
	p = p * r + 1.0 / 362880.0;
	p = p * r + 1.0 / 40320.0;
	p = p * r + 1.0 / 5040.0;
	p = p * r + 1.0 / 720.0;
	p = p * r + 1.0 / 120.0;
	p = p * r + 1.0 / 24.0;
	p = p * r + 1.0 / 6.0;
	p = p * r + 0.5;
	p = p * r + 1.0;
	p = p * r + 1.0;
	*x = p * (v8) bits;			/* a NaN stays one */
}

/* Sum of the lanes in a fixed order. */
INLINE double
sum8(const v8 *v)
{
	return (((*v)[0] + (*v)[4]) + ((*v)[2] + (*v)[6])) + (((*v)[1] + (*v)[5]) + ((*v)[3] + (*v)[7]));
}

/* ---- logistic regression: loss and gradient of a block of rows ---- */

/*
 * scratch[c][row] = b_c + sum_j w[c][j] x[j][row] for cs classes from c0 on;
 * cs is a constant where it is called, for the sums to stay in registers.
 */
INLINE void
scores(float *const *col, int64_t first, int n8, int d, const double *w, const double *b,
	   int c0, const int cs, double *scratch)
{
	for (int i = 0; i < n8; i += 8)
	{
		v8			s[4];

		for (int c = 0; c < cs; c++)
			s[c] = (v8) {0} + b[c0 + c];
		for (int j = 0; j < d; j++)
		{
			v8			x = CVT(*(const f8u *) (col[j] + first + i));

			for (int c = 0; c < cs; c++)
				s[c] = s[c] + x * w[(size_t) (c0 + c) * (size_t) d + (size_t) j];
		}
		for (int c = 0; c < cs; c++)
			*(v8 *) (scratch + (size_t) (c0 + c) * LRN_BLOCK + i) = s[c];
	}
}

/* grad[c][j] += sum over rows of scratch[c][row] x[j][row]; j = d: of scratch. */
INLINE void
gradients(float *const *col, int64_t first, int n8, int d, const double *scratch,
		  int c0, const int cs, double *grad)
{
	for (int j = 0; j <= d; j++)
	{
		v8			s[4];

		for (int c = 0; c < cs; c++)
			s[c] = (v8) {0};
		for (int i = 0; i < n8; i += 8)
		{
			if (j == d)
			{
				for (int c = 0; c < cs; c++)
					s[c] = s[c] + *(const v8 *) (scratch + (size_t) (c0 + c) * LRN_BLOCK + i);
				continue;
			}
			v8			x = CVT(*(const f8u *) (col[j] + first + i));

			for (int c = 0; c < cs; c++)
				s[c] = s[c] + x * *(const v8 *) (scratch + (size_t) (c0 + c) * LRN_BLOCK + i);
		}
		for (int c = 0; c < cs; c++)
			grad[(size_t) (c0 + c) * (size_t) (d + 1) + (size_t) j] += sum8(&s[c]);
	}
}

/* Columns are padded by the caller: 8 floats beyond n may be read. */
static double
logistic_block(float *const *col, int64_t first, int n, int d, const int32_t *y,
			   const double *sw, int k, const double *w, const double *b,
			   double *grad, double *scratch)
{
	int			n8 = (n + 7) & ~7;
	double		loss = 0;
	int			c;

	for (c = 0; c + 4 <= k; c += 4)
		scores(col, first, n8, d, w, b, c, 4, scratch);
	for (; c < k; c++)
		scores(col, first, n8, d, w, b, c, 1, scratch);

	for (int i = 0; i < n8; i += 8)
	{
		v8		   *s = (v8 *) (scratch + i);
		const int	step = LRN_BLOCK / 8;
		v8			top = *s,
					sum = (v8) {0};

		if (k == 1)
		{
			/* exp(-|m|) serves sigmoid and loss. */
			v8			m = *s,
						e = -m;

			SELECT8(e < m, e, m);
			exp8(&e);
			for (int lane = 0; lane < 8; lane++)
			{
				double		weight,
							p;
				int			positive;

				if (i + lane >= n)
				{
					(*s)[lane] = 0;
					continue;
				}
				positive = y[first + i + lane];
				weight = sw[positive];
				p = m[lane] >= 0 ? 1 / (1 + e[lane]) : e[lane] / (1 + e[lane]);
				loss += weight * (log1p(e[lane]) + (m[lane] > 0 ? m[lane] : 0) - (positive ? m[lane] : 0));
				(*s)[lane] = weight * (p - positive);
			}
			continue;
		}
		for (c = 1; c < k; c++)
			SELECT8(top > s[c * step], top, s[c * step]);
		/* The loss needs the score of the true class before it is replaced. */
		for (int lane = 0; lane < 8 && i + lane < n; lane++)
		{
			int			class = y[first + i + lane];

			loss += sw[class] * (top[lane] - s[class * step][lane]);
		}
		for (c = 0; c < k; c++)
		{
			v8			e = s[c * step] - top;

			exp8(&e);
			sum = sum + e;
			s[c * step] = e;
		}
		v8			scale = (v8) {0};

		for (int lane = 0; lane < 8 && i + lane < n; lane++)
		{
			double		weight = sw[y[first + i + lane]];

			loss += weight * log(sum[lane]);
			scale[lane] = weight / sum[lane];
		}
		for (c = 0; c < k; c++)
			s[c * step] = s[c * step] * scale;
		for (int lane = 0; lane < 8 && i + lane < n; lane++)
		{
			int			class = y[first + i + lane];

			s[class * step][lane] -= sw[class];
		}
	}

	for (c = 0; c + 4 <= k; c += 4)
		gradients(col, first, n8, d, scratch, c, 4, grad);
	for (; c < k; c++)
		gradients(col, first, n8, d, scratch, c, 1, grad);
	return loss;
}

/* ---- the steps of tridiagonalisation ---- */

/*
 * y = A x by the lower triangle's rows: row i gives its own entry and adds
 * x_i times itself to the entries before.
 */
static void
symv(const double *a, int ld, int n, const double *x, double *y)
{
	memset(y, 0, (size_t) n * sizeof(double));
	for (int i = 0; i < n; i++)
	{
		const double *row = a + (size_t) i * (size_t) ld;
		v8			acc = (v8) {0};
		double		xi = x[i],
					dot;
		int			j = 0;

		for (; j + 8 <= i; j += 8)
		{
			v8			e = *(const v8u *) (row + j);

			acc = acc + e * *(const v8u *) (x + j);
			*(v8u *) (y + j) = *(const v8u *) (y + j) + e * xi;
		}
		dot = sum8(&acc);
		for (; j < i; j++)
		{
			dot += row[j] * x[j];
			y[j] += row[j] * xi;
		}
		y[i] += dot + row[i] * xi;
	}
}

static void
syr2(double *a, int ld, int n, const double *v, const double *w)
{
	for (int i = 0; i < n; i++)
	{
		double	   *row = a + (size_t) i * (size_t) ld;
		double		vi = v[i],
					wi = w[i];
		int			j = 0;

		for (; j + 8 <= i + 1; j += 8)
			*(v8u *) (row + j) = *(const v8u *) (row + j) -
				(*(const v8u *) (w + j) * vi + *(const v8u *) (v + j) * wi);
		for (; j <= i; j++)
			row[j] -= w[j] * vi + v[j] * wi;
	}
}

#include "learn/kernels_predict.h"
#include "learn/kernels_boost.h"
#include "learn/kernels_pages.h"
#include "learn/kernels_cluster.h"
#include "learn/kernels_knn.h"
#include "learn/kernels_dense.h"
#include "learn/kernels_svm.h"
#include "learn/kernels_calibrate.h"

const lrn_kernels LRN_KERNELS = {
	.logistic_block = logistic_block,
	.widen = widen,
	.gram = gram,
	.dot = dot,
	.axpy = axpy,
	.project = project,
	.project_back = project_back,
	.symv = symv,
	.syr2 = syr2,
	.kmeans_assign = kmeans_assign,
	.kmeans_candidates = kmeans_candidates,
	.kmeans_rows = kmeans_rows,
	.knn_rows = knn_rows,
	.forest_rows = forest_rows,
	.linear_rows = linear_rows,
	.boost_scan = boost_scan,
	.boost_softmax = boost_softmax,
	.boost_gradients = boost_gradients,
	.boost_losses = boost_losses,
	.boost_rows = boost_rows,
	.rbf_row = rbf_row,
	.smo_update = smo_update,
	.smo_pick = smo_pick,
	.smo_add = smo_add,
	.rbf_rows = rbf_rows,
	.hinge_block = hinge_block,
	.row_dot = row_dot,
	.row_axpy = row_axpy,
	.calibrate_rows = calibrate_rows,
	.softmax_rows = softmax_rows,
};
