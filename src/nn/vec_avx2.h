/*
 * vec_avx2.h
 *	  Vector primitives with AVX2 and FMA: 8 floats.
 *
 * VW floats of a vector; vf and vi, vectors of float and int32; vf_max and
 * vf_min return their second argument if either is NaN.
 */
#ifndef MILLRACE_NN_VEC_AVX2_H
#define MILLRACE_NN_VEC_AVX2_H

#include <immintrin.h>

#define VW 8
typedef __m256 vf;
typedef int32_t vi __attribute__((vector_size(32)));

static inline vf
vf_load(const float *p)
{
	return _mm256_loadu_ps(p);
}

static inline void
vf_store(float *p, vf v)
{
	_mm256_storeu_ps(p, v);
}

static inline vf
vf_set1(float x)
{
	return _mm256_set1_ps(x);
}

static inline vf
vf_fma(vf a, vf b, vf c)
{
	return _mm256_fmadd_ps(a, b, c);
}

/* m ? a : b by lanes; m is all ones or zeros. */
static inline vf
vf_select(vi m, vf a, vf b)
{
	return _mm256_blendv_ps(b, a, (__m256) m);
}

static inline vf
vf_max(vf a, vf b)
{
	return _mm256_max_ps(a, b);
}

static inline vf
vf_min(vf a, vf b)
{
	return _mm256_min_ps(a, b);
}

/* sum, and largest (no NaN is there), of the lanes */
static inline float
vf_sum(vf v)
{
	__m128		s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline float
vf_top(vf v)
{
	__m128		s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	s = _mm_max_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

#endif							/* MILLRACE_NN_VEC_AVX2_H */
