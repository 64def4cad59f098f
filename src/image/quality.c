/*
 * quality.c
 *	  Brightness, contrast, entropy, colourfulness and sharpness.
 *
 * One pass over the pixels, or over a grid of them in large images: averages
 * of neighbours would flatten what these figures are about.
 */
#include "image/facts.h"

#include <math.h>
#include <string.h>

/* Every step-th pixel of every step-th row: at most about IMG_SAMPLED_PIXELS. */
static int
sampling_step(int w, int h)
{
	int			step = 1;

	while ((int64_t) (w / step) * (h / step) > IMG_SAMPLED_PIXELS)
		step++;
	return step;
}

static void
figures_of_histogram(const uint32_t *count, uint64_t n, img_figures *out)
{
	uint64_t	sum = 0,
				squares = 0,
				dark = 0,
				bright = 0;
	double		mean,
				variance,
				entropy = 0;

	for (uint32_t v = 0; v < 256; v++)
	{
		sum += (uint64_t) count[v] * v;
		squares += (uint64_t) count[v] * v * v;
		if (v < IMG_DARK_BELOW)
			dark += count[v];
		if (v > IMG_BRIGHT_ABOVE)
			bright += count[v];
		if (count[v] > 0)
			entropy -= count[v] * log2((double) count[v] / (double) n);
	}
	mean = (double) sum / (double) n;
	variance = (double) squares / (double) n - mean * mean;
	out->brightness = (float) mean;
	out->contrast = (float) sqrt(variance > 0 ? variance : 0);
	out->entropy = (float) fabs(entropy / (double) n);	/* no -0 */
	out->dark_share = (float) ((double) dark / (double) n);
	out->bright_share = (float) ((double) bright / (double) n);
}

/*
 * Hasler and Suesstrunk, Measuring colourfulness in natural images, 2003:
 * rg = R - G, yb = (R + G) / 2 - B; sums are of rg and 2 yb.
 */
static float
colourfulness(int64_t rg, int64_t rg2, int64_t yb, int64_t yb2, uint64_t n)
{
	double		mean_rg = (double) rg / (double) n,
				mean_yb = (double) yb / 2 / (double) n;
	double		variance = (double) rg2 / (double) n - mean_rg * mean_rg +
		(double) yb2 / 4 / (double) n - mean_yb * mean_yb;

	return (float) (sqrt(variance > 0 ? variance : 0) + 0.3 * sqrt(mean_rg * mean_rg + mean_yb * mean_yb));
}

mr_code
img_figures_of(const mr_env *env, const img_pixels *src, img_figures *out, mr_status *st)
{
	int			step = sampling_step(src->width, src->height);
	uint32_t	count[256] = {0};
	int64_t		rg = 0,
				rg2 = 0,
				yb = 0,
				yb2 = 0;
	uint64_t	n = 0;

	for (int y = 0; y < src->height; y += step)
	{
		const uint8_t *p = src->data + (size_t) y * src->stride;
		int			in_row = (src->width + step - 1) / step;

		if (y % 64 < step && mr_interrupted(env))
			return mr_fail(st, MR_CANCELED, "image measuring canceled");
		for (int i = 0; i < in_row; i++, p += 3 * step)
		{
			int32_t		a = p[0] - p[1];
			int32_t		b = p[0] + p[1] - 2 * p[2];

			count[img_luma_of(p)]++;
			rg += a;
			rg2 += a * a;
			yb += b;
			yb2 += b * b;
		}
		n += (uint64_t) in_row;
	}
	figures_of_histogram(count, n, out);
	out->colourfulness = colourfulness(rg, rg2, yb, yb2, n);
	return MR_OK;
}

/* Colour images say no within their first row or two. */
mr_code
img_is_grey(const mr_env *env, const img_pixels *src, bool *grey, mr_status *st)
{
	*grey = false;
	for (int y = 0; y < src->height; y++)
	{
		const uint8_t *p = src->data + (size_t) y * src->stride;
		int			differ = 0;

		if (y % 64 == 63 && mr_interrupted(env))
			return mr_fail(st, MR_CANCELED, "image measuring canceled");
		for (int x = 0; x < src->width; x++, p += 3)
			differ |= (p[0] ^ p[1]) | (p[0] ^ p[2]);
		if (differ)
			return MR_OK;
	}
	*grey = true;
	return MR_OK;
}

/* Index mirrored at the border without repeating it, as OpenCV's BORDER_REFLECT_101. */
static inline int
reflect(int i, int n)
{
	if (n == 1)
		return 0;
	return i < 0 ? 1 : i >= n ? n - 2 : i;
}

/* OpenCV's Laplacian(ksize = 1): the sum of the four neighbours less four times the pixel. */
mr_code
img_laplacian(const mr_env *env, const uint8_t *luma, int w, int h, int16_t **out, mr_status *st)
{
	int16_t    *to = *out = mr_alloc(env, (size_t) w * (size_t) h * sizeof(int16_t));

	if (to == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory for an image of %d x %d pixels", w, h);
	for (int y = 0; y < h; y++)
	{
		const uint8_t *row = luma + (size_t) y * (size_t) w;
		const uint8_t *above = luma + (size_t) reflect(y - 1, h) * (size_t) w;
		const uint8_t *below = luma + (size_t) reflect(y + 1, h) * (size_t) w;

		for (int x = 1; x < w - 1; x++)
			to[x] = (int16_t) (above[x] + below[x] + row[x - 1] + row[x + 1] - 4 * row[x]);
		for (int x = 0; x < w; x += w > 1 ? w - 1 : 1)
			to[x] = (int16_t) (above[x] + below[x] + row[reflect(x - 1, w)] + row[reflect(x + 1, w)] - 4 * row[x]);
		to += w;
	}
	return MR_OK;
}

float
img_variance(const int16_t *v, size_t n)
{
	int64_t		sum = 0,
				squares = 0;
	double		mean,
				variance;

	for (size_t i = 0; i < n; i++)
	{
		sum += v[i];
		squares += v[i] * v[i];
	}
	mean = (double) sum / (double) n;
	variance = (double) squares / (double) n - mean * mean;
	return (float) (variance > 0 ? variance : 0);
}
