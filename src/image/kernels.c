/*
 * kernels.c
 *	  The inner loops in plain C, and the choice between instruction sets.
 *
 * These are the reference: every other table must give the same bits.
 */
#include "image/image_private.h"

static inline uint8_t
to_byte(int32_t sum, int shift)
{
	int32_t		v = sum >> shift;

	return (uint8_t) (v < 0 ? 0 : v > 255 ? 255 : v);
}

static void
horizontal(uint8_t *dst, size_t dst_stride, const uint8_t *src, size_t src_stride, int rows,
		   int n_out, const int *first, const int16_t *taps, int n_taps, int shift)
{
	for (int y = 0; y < rows; y++)
	{
		const int16_t *k = taps;

		for (int x = 0; x < n_out; x++, k += n_taps)
		{
			const uint8_t *p = src + (size_t) y * src_stride + (size_t) first[x] * 3;
			int32_t		r,
						g,
						b;

			r = g = b = 1 << (shift - 1);
			for (int t = 0; t < n_taps; t++)
			{
				/* padding taps must not decide whether memory is read */
				r += k[t] * p[3 * t];
				g += k[t] * p[3 * t + 1];
				b += k[t] * p[3 * t + 2];
			}
			dst[(size_t) y * dst_stride + (size_t) x * 3] = to_byte(r, shift);
			dst[(size_t) y * dst_stride + (size_t) x * 3 + 1] = to_byte(g, shift);
			dst[(size_t) y * dst_stride + (size_t) x * 3 + 2] = to_byte(b, shift);
		}
	}
}

static void
vertical(uint8_t *dst, const uint8_t *src, size_t src_stride, size_t n, const int16_t *taps,
		 int n_taps, int shift)
{
	for (size_t i = 0; i < n; i++)
	{
		int32_t		sum = 1 << (shift - 1);

		for (int t = 0; t < n_taps; t++)
			sum += taps[t] * src[(size_t) t * src_stride + i];
		dst[i] = to_byte(sum, shift);
	}
}

static void
planes(float *const plane[3], const uint8_t *src, int n, float scale, const float mean[3],
	   const float std[3])
{
	for (int c = 0; c < 3; c++)
		for (int i = 0; i < n; i++)
			plane[c][i] = ((float) src[3 * i + c] * scale - mean[c]) / std[c];
}

static void
linear_row(int16_t *const plane[3], const uint8_t *src, const img_tap *taps, int n)
{
	for (int x = 0; x < n; x++)
	{
		const uint8_t *p = src + taps[x].first;

		for (int c = 0; c < 3; c++)
			plane[c][x] = (int16_t) ((taps[x].low * p[c] + taps[x].high * p[c + 3]) >> 4);
	}
}

static void
half_row(int16_t *const plane[3], const uint8_t *upper, const uint8_t *lower, int n)
{
	for (int x = 0; x < n; x++, upper += 6, lower += 6)
		for (int c = 0; c < 3; c++)
			plane[c][x] = (int16_t) ((upper[c] + upper[c + 3] + lower[c] + lower[c + 3]) << 5);
}

static void
linear_mix(float *dst, const int16_t *a, const int16_t *b, int16_t low, int16_t high, int n,
		   float scale, float mean, float std)
{
	for (int x = 0; x < n; x++)
	{
		int			p = (((a[x] * low) >> 16) + ((b[x] * high) >> 16) + 2) >> 2;

		dst[x] = ((float) p * scale - mean) / std;
	}
}

const img_kernels img_kernels_portable = {"portable", horizontal, vertical, planes, linear_row, half_row, linear_mix};

static const img_kernels *chosen;

const img_kernels *
img_kernels_best(void)
{
	if (chosen == NULL)
	{
		chosen = &img_kernels_portable;
#if defined(__x86_64__)
		if (__builtin_cpu_supports("avx2"))
			chosen = &img_kernels_avx2;
#endif
	}
	return chosen;
}

void
img_kernels_force(const img_kernels *kernels)
{
	chosen = kernels;
}
