/*
 * kernels_match_avx512.c
 *	  Most similar rows, for AVX-512.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 16
#define TILE_B 4
#define ZERO _mm512_setzero_ps()
#define LOAD(p) _mm512_loadu_ps(p)
#define FMA(x, y, z) _mm512_fmadd_ps(x, y, z)
#define SUM(v) sum(v)
#define MATCH txt_match_avx512
typedef __m512 vf;

/* Halves are added until one number is left. */
static inline float
sum(__m512 v)
{
	__m256		h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
	__m128		q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));

	q = _mm_add_ps(q, _mm_movehl_ps(q, q));
	return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

#include "text/kernels_match.h"
#else
typedef int txt_not_this_processor;
#endif
