/*
 * kernels_bf16_avx512_bf16.c
 *	  The tiles of bfloat16 with AVX-512 BF16: one instruction adds the two
 *	  products of each of 16 lanes to float32.
 */
#if defined(__x86_64__)
#include "nn/kernels_low_core.h"
#include "nn/vec_avx512.h"

typedef vi vx;
typedef vi vw;

static inline vx
x_load(const char *p)
{
	int32_t		x;

	memcpy(&x, p, sizeof(x));
	return vi_set1(x);
}

static inline vf
va_dot(vf acc, vi x, vi w)
{
	__asm__("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x));
	return acc;
}

#define TILE_MR 14
#define TILE_NB 2
#define TILE_KU 2
#define TILE_SIZES SIZES_14
#define TILE_PAIRS PAIRS_14
#define SET avx512_bf16
#define BODY avx512
#define NAME "avx512_bf16"
#define RATE 130e6
#define LOW_F32_OPS nn_ops_avx512
#include "nn/kernels_low_bf16.h"

#endif							/* __x86_64__ */
