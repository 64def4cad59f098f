/*
 * small.c
 *	  The small copy that most figures are taken from, and luma.
 *
 * Large images are first averaged in whole blocks of pixels, down to about
 * twice the size, which costs little more than reading them once; then
 * resampled.  Pillow's thumbnail() does the same (reducing_gap = 2).
 */
#include "image/facts.h"
#include "image/image_private.h"

#include <string.h>

/* Add n bytes to n sums: up to 257 rows fit. */
static void
add_row(uint16_t *sum, const uint8_t *row, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sum[i] = (uint16_t) (sum[i] + row[i]);
}

/* Average blocks of fx x fy pixels; those at the right and lower edge may be smaller. */
static mr_code
average_blocks(const mr_env *env, const img_pixels *src, int fx, int fy, img_pixels *out, mr_status *st)
{
	size_t		n = (size_t) src->width * 3;
	uint16_t   *sum = mr_alloc(env, n * sizeof(uint16_t));
	mr_code		code;

	memset(out, 0, sizeof(*out));
	if (sum == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory for a row of %d pixels", src->width);
	code = img_alloc(env, (src->width + fx - 1) / fx, (src->height + fy - 1) / fy, out, st);
	for (int y = 0; code == MR_OK && y < out->height; y++)
	{
		int			rows = src->height - y * fy < fy ? src->height - y * fy : fy;
		uint8_t    *to = out->data + (size_t) y * out->stride;

		if (mr_interrupted(env))
			code = mr_fail(st, MR_CANCELED, "image measuring canceled");
		memset(sum, 0, n * sizeof(uint16_t));
		for (int r = 0; r < rows; r++)
			add_row(sum, src->data + (size_t) (y * fy + r) * src->stride, n);
		for (int x = 0; x < out->width; x++, to += 3)
		{
			int			cols = src->width - x * fx < fx ? src->width - x * fx : fx;
			const uint16_t *from = sum + (size_t) x * (size_t) fx * 3;
			uint32_t	area = (uint32_t) (rows * cols);
			uint32_t	rgb[3] = {area / 2, area / 2, area / 2};

			for (int i = 0; i < cols; i++, from += 3)
			{
				rgb[0] += from[0];
				rgb[1] += from[1];
				rgb[2] += from[2];
			}
			for (int i = 0; i < 3; i++)
				to[i] = (uint8_t) (rgb[i] / area);
		}
	}
	mr_free(env, sum);
	if (code != MR_OK)
		img_free(env, out);
	return code;
}

/* The small copy's size along the shorter side. */
static int
shorter_side(int shorter, int longer)
{
	int			exact12 = (int) (((int64_t) shorter * IMG_SMALL_SIDE / longer + 6) / 12);

	return shorter < 12 ? shorter : exact12 < 1 ? 12 : exact12 * 12;
}

/* Whole blocks that may be averaged before resampling to `to` pixels; sums of 16 bits hold 257 rows. */
static int
block_size(int from, int to)
{
	int			f = from / (2 * to);

	return f < 1 ? 1 : f > 256 ? 256 : f;
}

mr_code
img_small(const mr_env *env, const img_pixels *src, img_pixels *out, mr_status *st)
{
	int			w = src->width,
				h = src->height;
	int			fx,
				fy;
	img_pixels	mid = *src;
	img_box_t	box;
	mr_code		code = MR_OK;

	memset(out, 0, sizeof(*out));
	if (w <= IMG_SMALL_SIDE && h <= IMG_SMALL_SIDE)
	{
		if ((code = img_alloc(env, w, h, out, st)) != MR_OK)
			return code;
		for (int y = 0; y < h; y++)
			memcpy(out->data + (size_t) y * out->stride, src->data + (size_t) y * src->stride, (size_t) w * 3);
		return MR_OK;
	}
	if (w >= h)
	{
		h = shorter_side(h, w);
		w = IMG_SMALL_SIDE;
	}
	else
	{
		w = shorter_side(w, h);
		h = IMG_SMALL_SIDE;
	}
	fx = block_size(src->width, w);
	fy = block_size(src->height, h);
	if ((fx > 1 || fy > 1) && (code = average_blocks(env, src, fx, fy, &mid, st)) != MR_OK)
		return code;
	/* where the last blocks are smaller, the image ends within them */
	box = (img_box_t) {0, 0, (double) src->width / fx, (double) src->height / fy};
	code = img_resize(env, &mid, w, h, img_bilinear, &box, out, st);
	if (mid.data != src->data)
		img_free(env, &mid);
	return code;
}

mr_code
img_luma(const mr_env *env, const img_pixels *src, uint8_t **out, mr_status *st)
{
	uint8_t    *to = *out = mr_alloc(env, (size_t) src->width * (size_t) src->height);

	if (to == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory for an image of %d x %d pixels", src->width, src->height);
	for (int y = 0; y < src->height; y++)
	{
		const uint8_t *from = src->data + (size_t) y * src->stride;

		for (int x = 0; x < src->width; x++, from += 3)
			*to++ = img_luma_of(from);
	}
	return MR_OK;
}
