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

/* ---- integers and narrow elements ---- */

static inline vi
vi_load(const void *p)
{
	return (vi) _mm512_loadu_si512(p);
}

static inline void
vi_store(void *p, vi v)
{
	_mm512_storeu_si512(p, (__m512i) v);
}

static inline vi
vi_set1(int32_t x)
{
	return (vi) _mm512_set1_epi32(x);
}

static inline vf
vf_from_vi(vi v)
{
	return _mm512_cvtepi32_ps((__m512i) v);
}

/* Round half to even */
static inline vi
vi_round(vf x)
{
	return (vi) _mm512_cvtps_epi32(x);
}

static inline vi
vi_load_u8(const uint8_t *p)
{
	return (vi) _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *) p));
}

/* Lanes are 0 to 255 */
static inline void
vi_store_u8(uint8_t *p, vi v)
{
	_mm_storeu_si128((__m128i *) p, _mm512_cvtepi32_epi8((__m512i) v));
}

static inline vf
vf_load_bf16(const uint16_t *p)
{
	return (vf) _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) p)), 16);
}

/* Bits of a float32 rounded to bfloat16 (half to even; NaNs stay), in the low halves. */
static inline vi
vf_round_bf16(vf x)
{
	vi			b = (vi) x;
	vi			up = b + vi_set1(0x7fff) + (b >> 16 & vi_set1(1));

	return (vi) vf_select((vi) (x != x), (vf) (b | vi_set1(0x400000)), (vf) up) >> 16;
}

static inline void
vf_store_bf16(uint16_t *p, vf x)
{
	_mm256_storeu_si256((__m256i *) p, _mm512_cvtepi32_epi16((__m512i) vf_round_bf16(x)));
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
