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
#if defined(__SSE2__)
#include <immintrin.h>
#endif

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

/*
 * log() of eight numbers of at least 1, as FreeBSD's e_log.c: x = 2^n (1 + f)
 * with 1 + f in sqrt(1/2) .. sqrt(2), and a polynomial in (f / (2 + f))^2.
 */
INLINE void
log8(v8 *x)
{
	i8			bits = (i8) *x,
				up = (bits & 0xFFFFFFFFFFFFF) + 0x95F6400000000,	/* carries from sqrt(2) on */
				n = (bits >> 52) - 1023 + (up >> 52);
	v8			f = (v8) ((bits & 0xFFFFFFFFFFFFF) | ((1023 - (up >> 52)) << 52)) - 1.0,
				k = CVT(n),
				s = f / (f + 2.0),
				z = s * s,
				half_square = f * f * 0.5,
				p;

	p = z * 1.479819860511658591e-01 + 1.531383769920937332e-01;
	p = p * z + 1.818357216161805012e-01;
	p = p * z + 2.222219843214978396e-01;
	p = p * z + 2.857142874366239149e-01;
	p = p * z + 3.999999999940941908e-01;
	p = p * z + 6.666666666666735130e-01;
	p = p * z;
	*x = k * 6.93147180369123816490e-01 -
		((half_square - (s * (half_square + p) + k * 1.90821492927058770002e-10)) - f);
}

/* Square roots of eight numbers: correctly rounded, whatever the set. */
INLINE void
sqrt8(v8 *x)
{
#if defined(__AVX512F__)
	*x = (v8) _mm512_sqrt_pd((__m512d) *x);
#elif defined(__SSE2__)
	for (int i = 0; i < 4; i++)
		((__m128d *) x)[i] = _mm_sqrt_pd(((const __m128d *) x)[i]);
#else
	for (int lane = 0; lane < 8; lane++)
		(*x)[lane] = sqrt((*x)[lane]);
#endif
}

/* The first n of eight numbers, rounded to float. */
INLINE void
put8(float *out, const v8 *x, int n)
{
	f8u			v = __builtin_convertvector(*x, f8u);

	if (n >= 8)
	{
		*(f8u *) out = v;
		return;
	}
#if defined(__AVX512F__)
	_mm256_mask_storeu_ps(out, (__mmask8) ((1u << n) - 1), (__m256) v);
#else
	for (int lane = 0; lane < n; lane++)
		out[lane] = v[lane];
#endif
}

/* Sum of the lanes in a fixed order. */
INLINE double
sum8(const v8 *v)
{
	return (((*v)[0] + (*v)[4]) + ((*v)[2] + (*v)[6])) + (((*v)[1] + (*v)[5]) + ((*v)[3] + (*v)[7]));
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

#include "learn/kernels_linear.h"
#include "learn/kernels_logistic.h"
#include "learn/kernels_boost.h"
#include "learn/kernels_page_row.h"
#include "learn/kernels_pages.h"
#include "learn/kernels_forest.h"
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
	.times = times,
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
