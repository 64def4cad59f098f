/*
 * kernels_avx2.c
 *	  The inner loops with 256-bit vectors; called only where the CPU has AVX2.
 *
 * Two weights and two samples, all 16 bits, are multiplied and added by one
 * instruction (vpmaddwd) into 32-bit sums: the same integers as kernels.c.
 */
#include "image/image_private.h"

#if defined(__AVX2__)

#include <immintrin.h>
#include <string.h>

/* 4 taps: the low lane multiplies pixels 0 and 1, the high lane 2 and 3. */
#define TAPS4(k) _mm256_shuffle_epi8(_mm256_set1_epi64x(k), spread)
#define PIXELS4(p) _mm256_shuffle_epi8( \
	_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) (p))), pairs)

static void
horizontal(uint8_t *dst, size_t dst_stride, const uint8_t *src, size_t src_stride, int rows,
		   int n_out, const int *first, const int16_t *taps, int n_taps, int shift)
{
	const __m256i pairs = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,
										   6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
	const __m256i spread = _mm256_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3,
											4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7);
	/* one half, in the lane that the other is added to */
	const __m256i start = _mm256_set_m128i(_mm_setzero_si128(), _mm_set1_epi32(1 << (shift - 1)));
	const __m128i count = _mm_cvtsi32_si128(shift);
	int			y = 0;

	/* four rows at once share the weights and the packing */
	for (; y + 4 <= rows; y += 4)
	{
		const uint8_t *row = src + (size_t) y * src_stride;
		uint8_t    *to = dst + (size_t) y * dst_stride;
		const int16_t *k = taps;

		for (int x = 0; x < n_out; x++, k += n_taps, to += 3)
		{
			const uint8_t *p = row + (size_t) first[x] * 3;
			__m256i		a0 = start,
						a1 = start,
						a2 = start,
						a3 = start;
			__m256i		even,
						odd;
			__m128i		low,
						high;
			uint32_t	pixel[4];

			for (int t = 0; t < n_taps; t += 4, p += 12)
			{
				long long	four;
				__m256i		w;

				memcpy(&four, k + t, 8);
				w = TAPS4(four);
				a0 = _mm256_add_epi32(a0, _mm256_madd_epi16(PIXELS4(p), w));
				a1 = _mm256_add_epi32(a1, _mm256_madd_epi16(PIXELS4(p + src_stride), w));
				a2 = _mm256_add_epi32(a2, _mm256_madd_epi16(PIXELS4(p + 2 * src_stride), w));
				a3 = _mm256_add_epi32(a3, _mm256_madd_epi16(PIXELS4(p + 3 * src_stride), w));
			}
			/* add the two lanes of each: rows 0 and 1 in the lanes of one, 2 and 3 of the other */
			even = _mm256_add_epi32(_mm256_permute2x128_si256(a0, a1, 0x20), _mm256_permute2x128_si256(a0, a1, 0x31));
			odd = _mm256_add_epi32(_mm256_permute2x128_si256(a2, a3, 0x20), _mm256_permute2x128_si256(a2, a3, 0x31));
			even = _mm256_packs_epi32(_mm256_sra_epi32(even, count), _mm256_sra_epi32(odd, count));
			even = _mm256_packus_epi16(even, even);
			low = _mm256_castsi256_si128(even);
			high = _mm256_extracti128_si256(even, 1);
			pixel[0] = (uint32_t) _mm_cvtsi128_si32(low);
			pixel[1] = (uint32_t) _mm_cvtsi128_si32(high);
			pixel[2] = (uint32_t) _mm_extract_epi32(low, 1);
			pixel[3] = (uint32_t) _mm_extract_epi32(high, 1);
			/* a fourth byte is overwritten by the next pixel, the last has none */
			if (x + 1 < n_out)
				for (int r = 0; r < 4; r++)
					memcpy(to + (size_t) r * dst_stride, &pixel[r], 4);
			else
				for (int r = 0; r < 4; r++)
					memcpy(to + (size_t) r * dst_stride, &pixel[r], 3);
		}
	}
	for (; y < rows; y++)
	{
		const uint8_t *row = src + (size_t) y * src_stride;
		uint8_t    *to = dst + (size_t) y * dst_stride;
		const int16_t *k = taps;

		for (int x = 0; x < n_out; x++, k += n_taps, to += 3)
		{
			const uint8_t *p = row + (size_t) first[x] * 3;
			__m256i		acc = start;
			__m128i		sum;
			uint32_t	pixel;

			for (int t = 0; t < n_taps; t += 4, p += 12)
			{
				long long	four;

				memcpy(&four, k + t, 8);
				acc = _mm256_add_epi32(acc, _mm256_madd_epi16(PIXELS4(p), TAPS4(four)));
			}
			sum = _mm_add_epi32(_mm256_castsi256_si128(acc), _mm256_extracti128_si256(acc, 1));
			sum = _mm_sra_epi32(sum, count);
			sum = _mm_packs_epi32(sum, sum);
			pixel = (uint32_t) _mm_cvtsi128_si32(_mm_packus_epi16(sum, sum));
			memcpy(to, &pixel, x + 1 < n_out ? 4 : 3);
		}
	}
}

static void
vertical(uint8_t *dst, const uint8_t *src, size_t src_stride, size_t n, const int16_t *taps,
		 int n_taps, int shift)
{
	const __m256i half = _mm256_set1_epi32(1 << (shift - 1));
	const __m128i count = _mm_cvtsi32_si128(shift);
	const __m256i zero = _mm256_setzero_si256();
	size_t		i = 0;

	for (; i + 32 <= n; i += 32)
	{
		__m256i		s0 = half,
					s1 = half,
					s2 = half,
					s3 = half;
		const uint8_t *p = src + i;

		for (int t = 0; t < n_taps; t += 2, p += 2 * src_stride)
		{
			bool		pair = t + 1 < n_taps;
			__m256i		w = _mm256_set1_epi32((int) ((uint32_t) (uint16_t) taps[t] |
													 (pair ? (uint32_t) (uint16_t) taps[t + 1] << 16 : 0)));
			__m256i		a = _mm256_loadu_si256((const __m256i *) p);
			__m256i		b = pair ? _mm256_loadu_si256((const __m256i *) (p + src_stride)) : zero;
			__m256i		low = _mm256_unpacklo_epi8(a, b);
			__m256i		high = _mm256_unpackhi_epi8(a, b);

			s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(_mm256_unpacklo_epi8(low, zero), w));
			s1 = _mm256_add_epi32(s1, _mm256_madd_epi16(_mm256_unpackhi_epi8(low, zero), w));
			s2 = _mm256_add_epi32(s2, _mm256_madd_epi16(_mm256_unpacklo_epi8(high, zero), w));
			s3 = _mm256_add_epi32(s3, _mm256_madd_epi16(_mm256_unpackhi_epi8(high, zero), w));
		}
		/* packing undoes the unpacking, lane by lane */
		s0 = _mm256_packs_epi32(_mm256_sra_epi32(s0, count), _mm256_sra_epi32(s1, count));
		s2 = _mm256_packs_epi32(_mm256_sra_epi32(s2, count), _mm256_sra_epi32(s3, count));
		_mm256_storeu_si256((__m256i *) (dst + i), _mm256_packus_epi16(s0, s2));
	}
	if (i < n)
		img_kernels_portable.vertical(dst + i, src + i, src_stride, n - i, taps, n_taps, shift);
}

static void
planes(float *const plane[3], const uint8_t *src, int n, float scale, const float mean[3],
	   const float std[3])
{
	/* 8 pixels are 24 bytes: pick the bytes of one channel into 32-bit lanes */
	const __m128i low[3] = {_mm_setr_epi8(0, -1, -1, -1, 3, -1, -1, -1, 6, -1, -1, -1, 9, -1, -1, -1),
		_mm_setr_epi8(1, -1, -1, -1, 4, -1, -1, -1, 7, -1, -1, -1, 10, -1, -1, -1),
	_mm_setr_epi8(2, -1, -1, -1, 5, -1, -1, -1, 8, -1, -1, -1, 11, -1, -1, -1)};
	const __m256 s = _mm256_set1_ps(scale);
	int			i = 0;

	for (; i + 8 <= n; i += 8)
	{
		/* 28 bytes are read, 24 used: IMG_SLACK covers the rest */
		__m128i		a = _mm_loadu_si128((const __m128i *) (src + 3 * i));
		__m128i		b = _mm_loadu_si128((const __m128i *) (src + 3 * i + 12));

		for (int c = 0; c < 3; c++)
		{
			__m256i		v = _mm256_set_m128i(_mm_shuffle_epi8(b, low[c]), _mm_shuffle_epi8(a, low[c]));
			__m256		f = _mm256_mul_ps(_mm256_cvtepi32_ps(v), s);

			f = _mm256_div_ps(_mm256_sub_ps(f, _mm256_set1_ps(mean[c])), _mm256_set1_ps(std[c]));
			_mm256_storeu_ps(plane[c] + i, f);
		}
	}
	if (i < n)
	{
		float	   *const rest[3] = {plane[0] + i, plane[1] + i, plane[2] + i};

		img_kernels_portable.planes(rest, src + 3 * i, n - i, scale, mean, std);
	}
}

/* 8 pixels of 4 channels, two to a vector, to 8 numbers of each plane. */
static inline void
store_planes(int16_t *const plane[3], int x, const __m128i two[4])
{
	__m128i		rgb[2],
				blue[2];

	for (int i = 0; i < 2; i++)
	{
		__m128i		even = _mm_unpacklo_epi16(two[2 * i], two[2 * i + 1]);
		__m128i		odd = _mm_unpackhi_epi16(two[2 * i], two[2 * i + 1]);

		rgb[i] = _mm_unpacklo_epi16(even, odd);
		blue[i] = _mm_unpackhi_epi16(even, odd);
	}
	_mm_storeu_si128((__m128i *) (plane[0] + x), _mm_unpacklo_epi64(rgb[0], rgb[1]));
	_mm_storeu_si128((__m128i *) (plane[1] + x), _mm_unpackhi_epi64(rgb[0], rgb[1]));
	_mm_storeu_si128((__m128i *) (plane[2] + x), _mm_unpacklo_epi64(blue[0], blue[1]));
}

static inline __m256i
linear_two(const uint8_t *src, const img_tap *taps)
{
	/* the bytes of two neighbours side by side in 16 bits: r r g g b b */
	const __m256i pairs = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
	__m256i		p = _mm256_set_m128i(_mm_loadl_epi64((const __m128i *) (src + taps[1].first)),
									 _mm_loadl_epi64((const __m128i *) (src + taps[0].first)));
	int			weights[2];

	memcpy(&weights[0], &taps[0].low, 4);
	memcpy(&weights[1], &taps[1].low, 4);
	p = _mm256_madd_epi16(_mm256_shuffle_epi8(p, pairs),
						  _mm256_set_m128i(_mm_set1_epi32(weights[1]), _mm_set1_epi32(weights[0])));
	return _mm256_srai_epi32(p, 4);
}

static void
linear_row(int16_t *const plane[3], const uint8_t *src, const img_tap *taps, int n)
{
	int			x = 0;

	for (; x + 8 <= n; x += 8)
	{
		__m128i		two[4];

		for (int i = 0; i < 2; i++)
		{
			/* pixels 0 and 1, 2 and 3 in; 0 and 2, 1 and 3 out */
			__m256i		v = _mm256_packs_epi32(linear_two(src, taps + x + 4 * i), linear_two(src, taps + x + 4 * i + 2));

			v = _mm256_permute4x64_epi64(v, 0xD8);
			two[2 * i] = _mm256_castsi256_si128(v);
			two[2 * i + 1] = _mm256_extracti128_si256(v, 1);
		}
		store_planes(plane, x, two);
	}
	if (x < n)
	{
		int16_t    *const rest[3] = {plane[0] + x, plane[1] + x, plane[2] + x};

		img_kernels_portable.linear_row(rest, src, taps + x, n - x);
	}
}

static void
half_row(int16_t *const plane[3], const uint8_t *upper, const uint8_t *lower, int n)
{
	/* 4 pixels, 12 of 16 bytes: neighbours side by side, two results */
	const __m128i pairs = _mm_setr_epi8(0, 3, 1, 4, 2, 5, -1, -1, 6, 9, 7, 10, 8, 11, -1, -1);
	const __m128i ones = _mm_set1_epi8(1);
	int			x = 0;

	for (; x + 8 <= n; x += 8)
	{
		__m128i		two[4];

		for (int i = 0; i < 4; i++)
		{
			__m128i		a = _mm_loadu_si128((const __m128i *) (upper + 6 * x + 12 * i));
			__m128i		b = _mm_loadu_si128((const __m128i *) (lower + 6 * x + 12 * i));

			two[i] = _mm_slli_epi16(_mm_add_epi16(_mm_maddubs_epi16(_mm_shuffle_epi8(a, pairs), ones),
												  _mm_maddubs_epi16(_mm_shuffle_epi8(b, pairs), ones)), 5);
		}
		store_planes(plane, x, two);
	}
	if (x < n)
	{
		int16_t    *const rest[3] = {plane[0] + x, plane[1] + x, plane[2] + x};

		img_kernels_portable.half_row(rest, upper + 6 * x, lower + 6 * x, n - x);
	}
}

static void
linear_mix(float *dst, const int16_t *a, const int16_t *b, int16_t low, int16_t high, int n,
		   float scale, float mean, float std)
{
	const __m128i l = _mm_set1_epi16(low),
				h = _mm_set1_epi16(high),
				two = _mm_set1_epi16(2);
	const __m256 s = _mm256_set1_ps(scale),
				m = _mm256_set1_ps(mean),
				d = _mm256_set1_ps(std);
	int			x = 0;

	for (; x + 8 <= n; x += 8)
	{
		__m128i		v = _mm_add_epi16(_mm_mulhi_epi16(_mm_loadu_si128((const __m128i *) (a + x)), l),
									  _mm_mulhi_epi16(_mm_loadu_si128((const __m128i *) (b + x)), h));
		__m256		f = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_srai_epi16(_mm_add_epi16(v, two), 2)));

		_mm256_storeu_ps(dst + x, _mm256_div_ps(_mm256_sub_ps(_mm256_mul_ps(f, s), m), d));
	}
	if (x < n)
		img_kernels_portable.linear_mix(dst + x, a + x, b + x, low, high, n - x, scale, mean, std);
}

const img_kernels img_kernels_avx2 = {"avx2", horizontal, vertical, planes, linear_row, half_row, linear_mix};

#endif
