/*
 * kernels_u8_avx512.c
 *	  The uint8 tiles with AVX-512 BW, which has no dot product of bytes that is
 *	  exact (maddubs saturates): even and odd channels as 16-bit halves, whose
 *	  pairs of products add up in 32 bits.
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

/* acc += x . w over the four channels of each lane.  What depends on x alone or
 * w alone the compiler does once a tile's row or column. */
static inline vi
va_dot(vi acc, vi x, vi w)
{
	__m512i		even_x = _mm512_srli_epi16(_mm512_slli_epi16((__m512i) x, 8), 8),	/* no register for a mask */
				odd_x = _mm512_srli_epi16((__m512i) x, 8),
				even_w = _mm512_srai_epi16(_mm512_slli_epi16((__m512i) w, 8), 8),
				odd_w = _mm512_srai_epi16((__m512i) w, 8);

	acc = acc + (vi) _mm512_madd_epi16(even_x, even_w);
	return acc + (vi) _mm512_madd_epi16(odd_x, odd_w);
}

#define TILE_MR 12
#define TILE_NB 2
#define TILE_KU 1
#define TILE_SIZES SIZES_12
#define TILE_PAIRS PAIRS_12
#define SET avx512
#define BODY avx512
#define NAME "avx512 u8"
#define RATE 110e6
#include "nn/kernels_low_u8.h"

#endif							/* __x86_64__ */
