/*
 * kernels_match_avx2.c
 *	  Most similar rows, for AVX2 and FMA.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 8
#define TILE_B 2				/* 8 sums, 4 + 1 rows: within 16 registers */
#define ZERO _mm256_setzero_ps()
#define LOAD(p) _mm256_loadu_ps(p)
#define FMA(x, y, z) _mm256_fmadd_ps(x, y, z)
#define SUM(v) sum(v)
#define MATCH txt_match_avx2
typedef __m256 vf;

static inline float
sum(__m256 v)
{
	__m128		q = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	q = _mm_add_ps(q, _mm_movehl_ps(q, q));
	return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

#include "text/kernels_match.h"
#else
typedef int txt_not_this_processor;
#endif
