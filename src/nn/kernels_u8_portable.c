/*
 * kernels_u8_portable.c
 *	  The uint8 tiles for any CPU: exact.
 */
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "nn/kernels_low_core.h"
#include "nn/vec_portable.h"

typedef vi vx;
typedef vi vw;

static inline vx
x_load(const char *p)
{
	int32_t		x;

	memcpy(&x, p, sizeof(x));
	return vi_set1(x);
}

/* acc += x . w over the four channels of each lane */
static inline vi
va_dot(vi acc, vi x, vi w)
{
#if defined(__SSE2__)			/* of every x86-64: as kernels_u8_avx2.c */
	__m128i		even_x = _mm_and_si128((__m128i) x, _mm_set1_epi32(0x00ff00ff)),
				odd_x = _mm_srli_epi16((__m128i) x, 8),
				even_w = _mm_srai_epi16(_mm_slli_epi16((__m128i) w, 8), 8),
				odd_w = _mm_srai_epi16((__m128i) w, 8);

	acc = acc + (vi) _mm_madd_epi16(even_x, even_w);
	return acc + (vi) _mm_madd_epi16(odd_x, odd_w);
#else
	vi			low = vi_set1(255);

	return acc + (x & low) * (w << 24 >> 24) + (x >> 8 & low) * (w << 16 >> 24) +
		(x >> 16 & low) * (w << 8 >> 24) + (x >> 24 & low) * (w >> 24);
#endif
}

#define TILE_MR 4
#define TILE_NB 1
#define TILE_KU 1
#define TILE_SIZES SIZES_4
#define TILE_PAIRS PAIRS_4
#define SET portable
#define BODY portable
#define NAME "portable u8"
#define RATE 2e6
#include "nn/kernels_low_u8.h"
