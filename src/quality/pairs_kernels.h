/*
 * pairs_kernels.h
 *	  Inner loops of near pairs, compiled once an instruction set: QLT_KERNELS names the table to define.
 *
 * Counting bits without an instruction for it: nibbles looked up by a shuffle (Mula, Kurz and Lemire, 2018).
 */
#include "quality/pairs_int.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

#if defined(__AVX512F__)
#define VF		16				/* floats of a register */
#define ROWS	8
#define VECTORS	3
#define HASHES	8				/* hashes of one */
#elif defined(__AVX2__)
#define VF		8
#define ROWS	4
#define VECTORS	3
#define HASHES	4
#else
#define VF		4
#define ROWS	4
#define VECTORS	2
#define HASHES	1
#endif
#define COLS	(VECTORS * VF)

typedef float vf __attribute__((vector_size(4 * VF)));
typedef float vfu __attribute__((vector_size(4 * VF), aligned(4)));
typedef int32_t vi __attribute__((vector_size(4 * VF)));

#if defined(__AVX512F__)
#define FMA(x, y, sum) ((vf) _mm512_fmadd_ps((__m512) (x), (__m512) (y), (__m512) (sum)))
#elif defined(__AVX2__)
#define FMA(x, y, sum) ((vf) _mm256_fmadd_ps((__m256) (x), (__m256) (y), (__m256) (sum)))
#else
#define FMA(x, y, sum) ((sum) + (x) * (y))
#endif

/* Which of HASHES hashes at y differ from x in at most max bits, a bit each. */
INLINE unsigned
near_mask(const uint64_t *y, uint64_t x, int max)
{
#if defined(__AVX512F__)
	const __m512i counts = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4)),
				nibble = _mm512_set1_epi8(15);
	__m512i		d = _mm512_xor_si512(_mm512_loadu_si512(y), _mm512_set1_epi64((long long) x)),
				low = _mm512_shuffle_epi8(counts, _mm512_and_si512(d, nibble)),
				high = _mm512_shuffle_epi8(counts, _mm512_and_si512(_mm512_srli_epi16(d, 4), nibble)),
				sum = _mm512_sad_epu8(_mm512_add_epi8(low, high), _mm512_setzero_si512());

	return _mm512_cmple_epi64_mask(sum, _mm512_set1_epi64(max));
#elif defined(__AVX2__)
	const __m256i counts = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4)),
				nibble = _mm256_set1_epi8(15);
	__m256i		d = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *) y), _mm256_set1_epi64x((long long) x)),
				low = _mm256_shuffle_epi8(counts, _mm256_and_si256(d, nibble)),
				high = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16(d, 4), nibble)),
				sum = _mm256_sad_epu8(_mm256_add_epi8(low, high), _mm256_setzero_si256());

	return (unsigned) _mm256_movemask_pd((__m256d) _mm256_cmpgt_epi64(_mm256_set1_epi64x(max + 1), sum));
#elif defined(__x86_64__)
	uint64_t	d = *y ^ x;

	d -= d >> 1 & 0x5555555555555555u;
	d = (d & 0x3333333333333333u) + (d >> 2 & 0x3333333333333333u);
	d = (d + (d >> 4)) & 0x0F0F0F0F0F0F0F0Fu;
	return d * 0x0101010101010101u >> 56 <= (uint64_t) max;
#else
	return __builtin_popcountll(*y ^ x) <= max;
#endif
}

static int
near_hashes(const uint64_t *x, int nx, const uint64_t *y, int ny, int max, uint32_t *hit)
{
	int			n = 0;

	for (int i = 0; i < nx; i++)
		for (int j = 0; j < ny; j += HASHES)
		{
			unsigned	mask = near_mask(y + j, x[i], max);

			if (ny - j < HASHES)
				mask &= (1u << (ny - j)) - 1;	/* what is read behind the tile */
			for (; mask; mask &= mask - 1)
				hit[n++] = (uint32_t) i << 16 | (uint32_t) (j + __builtin_ctz(mask));
		}
	return n;
}

static bool
tile(const float *a, const float *b, int dims, float least, float *out)
{
	vf			sum[ROWS][VECTORS];
	vi			any = {0};
	int32_t		reached = 0;

	UNROLL
	for (int r = 0; r < ROWS; r++)
		UNROLL
		for (int v = 0; v < VECTORS; v++)
			sum[r][v] = (vf) {0};
	for (int k = 0; k < dims; k++, a += ROWS, b += COLS)
	{
		vf			y[VECTORS];

		UNROLL
		for (int v = 0; v < VECTORS; v++)
			y[v] = *(const vfu *) (b + v * VF);
		UNROLL
		for (int r = 0; r < ROWS; r++)
		{
			vf			x = (vf) {0} + a[r];

			UNROLL
			for (int v = 0; v < VECTORS; v++)
				sum[r][v] = FMA(x, y[v], sum[r][v]);
		}
	}
	UNROLL
	for (int r = 0; r < ROWS; r++)
		UNROLL
		for (int v = 0; v < VECTORS; v++)
			any |= sum[r][v] >= least;
	for (int i = 0; i < VF; i++)
		reached |= any[i];
	if (!reached)
		return false;
	UNROLL
	for (int r = 0; r < ROWS; r++)
		UNROLL
		for (int v = 0; v < VECTORS; v++)
			*(vfu *) (out + r * COLS + v * VF) = sum[r][v];
	return true;
}

const qlt_pair_kernels QLT_KERNELS = {near_hashes, tile, ROWS, COLS};
