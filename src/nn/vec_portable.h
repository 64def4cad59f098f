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
