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

/* ---- integers and narrow elements ---- */

static inline vi
vi_load(const void *p)
{
	return (vi) _mm256_loadu_si256(p);
}

static inline void
vi_store(void *p, vi v)
{
	_mm256_storeu_si256(p, (__m256i) v);
}

static inline vi
vi_set1(int32_t x)
{
	return (vi) _mm256_set1_epi32(x);
}

static inline vf
vf_from_vi(vi v)
{
	return _mm256_cvtepi32_ps((__m256i) v);
}

/* Round half to even */
static inline vi
vi_round(vf x)
{
	return (vi) _mm256_cvtps_epi32(x);
}

static inline vi
vi_load_u8(const uint8_t *p)
{
	return (vi) _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *) p));
}

/* Lanes are 0 to 255 */
static inline void
vi_store_u8(uint8_t *p, vi v)
{
	__m128i		h = _mm_packs_epi32(_mm256_castsi256_si128((__m256i) v), _mm256_extracti128_si256((__m256i) v, 1));

	_mm_storel_epi64((__m128i *) p, _mm_packus_epi16(h, h));
}

static inline vf
vf_load_bf16(const uint16_t *p)
{
	return (vf) _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *) p)), 16);
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
	__m256i		b = (__m256i) (vf_round_bf16(x) & vi_set1(0xffff));

	_mm_storeu_si128((__m128i *) p, _mm_packus_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1)));
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
