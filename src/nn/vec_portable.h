/*
 * vec_portable.h
 *	  Vector primitives for any CPU: C and the compiler's vectors of 4 floats
 *	  (SSE2, NEON, or plain floats where there is neither).
 *
 * VW floats of a vector; vf and vi, vectors of float and int32; vf_max and
 * vf_min return their second argument if either is NaN.
 */
#ifndef MILLRACE_NN_VEC_PORTABLE_H
#define MILLRACE_NN_VEC_PORTABLE_H

#include <stdint.h>

#define VW 4
typedef float vf __attribute__((vector_size(16)));
typedef float vf_any __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(16)));

static inline vf
vf_load(const float *p)
{
	return *(const vf_any *) p;
}

static inline void
vf_store(float *p, vf v)
{
	*(vf_any *) p = v;
}

static inline vf
vf_set1(float x)
{
	return (vf) {x, x, x, x};
}

static inline vf
vf_fma(vf a, vf b, vf c)
{
	return a * b + c;
}

/* m ? a : b by lanes; m is all ones or zeros. */
static inline vf
vf_select(vi m, vf a, vf b)
{
	return (vf) ((m & (vi) a) | (~m & (vi) b));
}

/* b if either is NaN, as the x86 instructions do */
static inline vf
vf_max(vf a, vf b)
{
	return vf_select(a > b, a, b);
}

static inline vf
vf_min(vf a, vf b)
{
	return vf_select(a < b, a, b);
}

/* ---- integers and narrow elements ---- */

typedef int32_t vi_any __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint8_t vb_any __attribute__((vector_size(4), aligned(1), may_alias));
typedef uint16_t vh_any __attribute__((vector_size(8), aligned(2), may_alias));

static inline vi
vi_load(const void *p)
{
	return *(const vi_any *) p;
}

static inline void
vi_store(void *p, vi v)
{
	*(vi_any *) p = v;
}

static inline vi
vi_set1(int32_t x)
{
	return (vi) {x, x, x, x};
}

static inline vf
vf_from_vi(vi v)
{
	return __builtin_convertvector(v, vf);
}

/* Round half to even; |x| < 2^22 */
static inline vi
vi_round(vf x)
{
	vf			magic = vf_set1(12582912.0f);	/* 1.5 * 2^23 */

	return (vi) (x + magic) - (vi) magic;
}

static inline vi
vi_load_u8(const uint8_t *p)
{
	return __builtin_convertvector(*(const vb_any *) p, vi);
}

/* Lanes are 0 to 255 */
static inline void
vi_store_u8(uint8_t *p, vi v)
{
	*(vb_any *) p = __builtin_convertvector(v, vb_any);
}

static inline vf
vf_load_bf16(const uint16_t *p)
{
	return (vf) (__builtin_convertvector(*(const vh_any *) p, vi) << 16);
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
	*(vh_any *) p = __builtin_convertvector(vf_round_bf16(x), vh_any);
}

/* sum, and largest (no NaN is there), of the lanes */
static inline float
vf_sum(vf v)
{
	return (v[0] + v[2]) + (v[1] + v[3]);
}

static inline float
vf_top(vf v)
{
	float		a = v[0] > v[1] ? v[0] : v[1],
				b = v[2] > v[3] ? v[2] : v[3];

	return a > b ? a : b;
}

#endif							/* MILLRACE_NN_VEC_PORTABLE_H */
