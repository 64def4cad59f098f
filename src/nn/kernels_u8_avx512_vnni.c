/*
 * kernels_u8_avx512_vnni.c
 *	  The uint8 tiles with AVX-512 VNNI: one instruction adds the four products
 *	  of each of 16 lanes.
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

/* Not the intrinsic: gcc 12 copies and spills accumulators of type __m512i. */
static inline vi
va_dot(vi acc, vi x, vi w)
{
	__asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
	return acc;
}

#define TILE_MR 14
#define TILE_NB 2
#define TILE_KU 2
#define TILE_SIZES SIZES_14
#define TILE_PAIRS PAIRS_14
#define SET avx512_vnni
#define BODY avx512
#define NAME "avx512_vnni u8"
#define RATE 250e6
#include "nn/kernels_low_u8.h"

#endif							/* __x86_64__ */
