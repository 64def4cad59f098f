/*
 * similarity_kernels.h
 *	  The kernels of similarity, compiled once an instruction set.
 *
 * SIM_KERNELS names the table to define.  Arithmetic goes through vectors of eight doubles or
 * sixteen floats (GCC's and Clang's vector extension), which each instruction set cuts to its
 * own width.  Nothing is contracted or reassociated but products of two floats in doubles, which are
 * exact: all sets give the same bits.
 */
#include "text/similarity_int.h"

#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

typedef double v8 __attribute__((vector_size(64)));
typedef double v8u __attribute__((vector_size(64), aligned(8)));
typedef float f8u __attribute__((vector_size(32), aligned(4)));
typedef float f16 __attribute__((vector_size(64)));
typedef float f16u __attribute__((vector_size(64), aligned(4)));
typedef int32_t w16 __attribute__((vector_size(64)));
typedef int64_t q8 __attribute__((vector_size(64)));
typedef int32_t w8 __attribute__((vector_size(32)));
typedef int8_t b8u __attribute__((vector_size(8), aligned(1)));

#define INLINE static inline __attribute__((always_inline))
#define LANES 16				/* of an exact sum */
#define LOAD8(p) __builtin_convertvector(*(const f8u *) (p), v8)

/* acc += a * b, the product exact: fused or not is the same. */
INLINE void
add_product(v8 *acc, const v8 *a, const v8 *b)
{
#if defined(__AVX512F__)
	*acc = (v8) _mm512_fmadd_pd((__m512d) *a, (__m512d) *b, (__m512d) *acc);
#else
	*acc = *acc + *a * *b;
#endif
}

INLINE double
sum_lanes(const v8 v[2])
{
	v8			s = v[0] + v[1];

	return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

/* Sixteen elements of each into the sums that a caller wants; the others are not computed. */
INLINE void
exact_step(const float *a, const float *b, const bool squares, const bool difference, v8 (*sums)[2])
{
	for (int h = 0; h < 2; h++)
	{
		v8			x = LOAD8(a + 8 * h),
					y = LOAD8(b + 8 * h);

		if (difference)
		{
			v8			d = x - y;

			sums[0][h] = sums[0][h] + d * d;
			continue;
		}
		add_product(&sums[0][h], &x, &y);
		if (squares)
		{
			add_product(&sums[1][h], &x, &x);
			add_product(&sums[2][h], &y, &y);
		}
	}
}

INLINE void
exact(const float *a, const float *b, int n, const bool squares, const bool difference, double *out)
{
	v8			sums[3][2] = {0};
	int			i = 0;

	for (; i + LANES <= n; i += LANES)
		exact_step(a + i, b + i, squares, difference, sums);
	if (i < n)
	{
		float		rest[2][LANES] = {0};

		memcpy(rest[0], a + i, (size_t) (n - i) * sizeof(float));
		memcpy(rest[1], b + i, (size_t) (n - i) * sizeof(float));
		exact_step(rest[0], rest[1], squares, difference, sums);
	}
	for (int k = 0; k < (squares ? 3 : 1); k++)
		out[k] = sum_lanes(sums[k]);
}

static double
dot(const float *a, const float *b, int n)
{
	double		sum;

	exact(a, b, n, false, false, &sum);
	return sum;
}

static double
l2_squared(const float *a, const float *b, int n)
{
	double		sum;

	exact(a, b, n, false, true, &sum);
	return sum;
}

static void
dot_and_squares(const float *a, const float *b, int n, double out[3])
{
	exact(a, b, n, true, false, out);
}

#include "text/similarity_kernels_code.h"
#include "text/similarity_kernels_scan.h"

const sim_kernels SIM_KERNELS = {
	dot, l2_squared, dot_and_squares, rotate, encode, bytes_dot, bytes_l2_squared, scan,
};
