/*
 * kernels_u8_avx2.c
 *	  The uint8 tiles with AVX2, which has no dot product of bytes that is
 *	  exact (maddubs saturates): even and odd channels as 16-bit halves, whose
 *	  pairs of products add up in 32 bits.
 */
#if defined(__x86_64__)
#include "nn/kernels_low_core.h"
#include "nn/vec_avx2.h"

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
	__m256i		even_x = _mm256_srli_epi16(_mm256_slli_epi16((__m256i) x, 8), 8),	/* no register for a mask */
				odd_x = _mm256_srli_epi16((__m256i) x, 8),
				even_w = _mm256_srai_epi16(_mm256_slli_epi16((__m256i) w, 8), 8),
				odd_w = _mm256_srai_epi16((__m256i) w, 8);

	acc = acc + (vi) _mm256_madd_epi16(even_x, even_w);
	return acc + (vi) _mm256_madd_epi16(odd_x, odd_w);
}

#define TILE_MR 4
#define TILE_NB 1
#define TILE_KU 1
#define TILE_SIZES SIZES_4
#define TILE_PAIRS PAIRS_4
#define SET avx2
#define BODY avx2
#define NAME "avx2 u8"
#define RATE 60e6
#include "nn/kernels_low_u8.h"

#endif							/* __x86_64__ */
