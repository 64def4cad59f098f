/*
 * similarity_kernels.h
 *	  The kernels of similarity, compiled once an instruction set.
 *
 * SIM_KERNELS names the table to define.  Arithmetic goes through vectors (GCC's and Clang's extension) of the
 * width of the set's registers: vd of VD doubles, vf of VF floats.  Sums have LANES lanes whatever the width.
 * Nothing is contracted or reassociated but products of two floats in doubles, which are exact: all sets
 * give the same bits.
 */
#include "text/similarity_int.h"

#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VD	8
#elif defined(__AVX2__)
#define VD	4
#else
#define VD	2
#endif
#define VF	(2 * VD)
#define LANES 16				/* of an exact sum */
#define PARTS (LANES / VD)

typedef double vd __attribute__((vector_size(8 * VD)));
typedef int64_t vq __attribute__((vector_size(8 * VD)));
typedef float vf __attribute__((vector_size(4 * VF)));
typedef float vfu __attribute__((vector_size(4 * VF), aligned(4)));
typedef int32_t vi __attribute__((vector_size(4 * VF)));

#define INLINE static inline __attribute__((always_inline))
/* Loops over sums: unrolled, or these would live in memory. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

/* VD floats, or bytes, as doubles. */
#if defined(__AVX512F__)
#define DOUBLES(p) ((vd) _mm512_cvtps_pd(_mm256_loadu_ps(p)))
#define STEPS(p) ((vd) _mm512_cvtepi32_pd(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *) (p)))))
#elif defined(__AVX2__)
#define DOUBLES(p) ((vd) _mm256_cvtps_pd(_mm_loadu_ps(p)))
#define STEPS(p) ((vd) _mm256_cvtepi32_pd(_mm_cvtepi8_epi32(_mm_loadu_si32(p))))
#else
#define DOUBLES(p) ((vd) {(double) (p)[0], (double) (p)[1]})
#define STEPS(p) ((vd) {(double) (p)[0], (double) (p)[1]})
#endif

/* acc += a * b, the product exact: fused or not is the same. */
#if defined(__AVX512F__)
#define ADD_PRODUCT(acc, a, b) ((acc) = (vd) _mm512_fmadd_pd((__m512d) (a), (__m512d) (b), (__m512d) (acc)))
#elif defined(__AVX2__)
#define ADD_PRODUCT(acc, a, b) ((acc) = (vd) _mm256_fmadd_pd((__m256d) (a), (__m256d) (b), (__m256d) (acc)))
#else
#define ADD_PRODUCT(acc, a, b) ((acc) += (a) * (b))
#endif

/* Halves are added until one is left, the same ones whatever the width. */
INLINE double
sum_lanes(const vd v[PARTS])
{
#if defined(__AVX2__)
#if defined(__AVX512F__)
	__m512d		sum = (__m512d) (v[0] + v[1]);
	__m256d		four = _mm256_add_pd(_mm512_castpd512_pd256(sum), _mm512_extractf64x4_pd(sum, 1));
#else
	__m256d		four = (__m256d) ((v[0] + v[2]) + (v[1] + v[3]));
#endif
	__m128d		two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));

	return _mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two));
#else
	double		lane[LANES];

	memcpy(lane, v, sizeof(lane));
	for (int half = LANES / 2; half > 0; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];
	return lane[0];
#endif
}

/* Sixteen elements of each into the sums that a caller wants; the others are not computed. */
INLINE void
exact_step(const float *a, const float *b, const bool squares, const bool difference, vd (*sums)[PARTS])
{
	UNROLL
	for (int h = 0; h < PARTS; h++)
	{
		vd			x = DOUBLES(a + VD * h),
					y = DOUBLES(b + VD * h);

		if (difference)
		{
			vd			d = x - y;

			sums[0][h] += d * d;
			continue;
		}
		ADD_PRODUCT(sums[0][h], x, y);
		if (squares)
		{
			ADD_PRODUCT(sums[1][h], x, x);
			ADD_PRODUCT(sums[2][h], y, y);
		}
	}
}

INLINE void
exact(const float *a, const float *b, int n, const bool squares, const bool difference, double *out)
{
	vd			sums[3][PARTS] = {{{0}}};
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
	out[0] = sum_lanes(sums[0]);
	if (squares)
	{
		out[1] = sum_lanes(sums[1]);
		out[2] = sum_lanes(sums[2]);
	}
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
