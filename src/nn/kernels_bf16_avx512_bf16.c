/*
 * kernels_bf16_avx512_bf16.c
 *	  The tiles of bfloat16 with AVX-512 BF16: one instruction adds the two
 *	  products of each of 16 lanes to float32.
 */
#if defined(__x86_64__)
#include "nn/kernels_low_core.h"
#include "nn/vec_avx512.h"

typedef vf va;
typedef vi vx;
typedef vi vw;

static inline vx
x_load(const char *p)
{
	int32_t		x;

	memcpy(&x, p, sizeof(x));
	return vi_set1(x);
}

static inline va
va_dot(va acc, vx x, vw w)
{
	__asm__("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x));
	return acc;
}

#define va_load(p) vf_load((const float *) (p))
#define w_load(p) vi_load(p)
#define va_value(acc, j, v) (acc)
#define W_BYTES 4
#define E_BYTES 2
#define E_RESIDUAL(j, r) vf_load_bf16((const uint16_t *) (r))

static inline void
e_store(char *p, vf x, vi zero)
{
	(void) zero;
	_mm256_storeu_si256((__m256i *) p, (__m256i) _mm512_cvtneps_pbh(x));
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
#define STEM 16
#include "nn/kernels_low_tile.h"

#define KIND bf16
#define LOW_ELEM nn_elem_bf16
#define LOW_ROW JOIN(row_bf16, BODY,)
#define LOW_WORDS JOIN(words_bf16, BODY,)
#include "nn/kernels_low_table.h"

#endif							/* __x86_64__ */
