/*
 * vec_avx512.h
 *	  Vector primitives with AVX-512 F, BW, DQ and VL: 16 floats.
 *
 * VW floats of a vector; vf and vi, vectors of float and int32; vf_max and
 * vf_min return their second argument if either is NaN.
 */
#ifndef MILLRACE_NN_VEC_AVX512_H
#define MILLRACE_NN_VEC_AVX512_H

#include <immintrin.h>

#define VW 16
typedef __m512 vf;
typedef int32_t vi __attribute__((vector_size(64)));

static inline vf
vf_load(const float *p)
{
	return _mm512_loadu_ps(p);
}

static inline void
vf_store(float *p, vf v)
{
	_mm512_storeu_ps(p, v);
}

static inline vf
vf_set1(float x)
{
	return _mm512_set1_ps(x);
}

static inline vf
vf_fma(vf a, vf b, vf c)
{
	return _mm512_fmadd_ps(a, b, c);
}

/* m ? a : b by lanes; m is all ones or zeros. */
static inline vf
vf_select(vi m, vf a, vf b)
{
	return _mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i) m), b, a);
}

static inline vf
vf_max(vf a, vf b)
{
	return _mm512_max_ps(a, b);
}

static inline vf
vf_min(vf a, vf b)
{
	return _mm512_min_ps(a, b);
}

/* sum, and largest (no NaN is there), of the lanes */
static inline float
vf_sum(vf v)
{
	return _mm512_reduce_add_ps(v);
}

static inline float
vf_top(vf v)
{
	return _mm512_reduce_max_ps(v);
}

#endif							/* MILLRACE_NN_VEC_AVX512_H */
