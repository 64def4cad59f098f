/*
 * small.c
 *	  The small copy that most figures are taken from, and luma.
 */
#include "image/facts.h"
#include "image/image_private.h"

#include <string.h>

/* The small copy's size along the shorter side. */
static int
shorter_side(int shorter, int longer)
{
	int			exact12 = (int) (((int64_t) shorter * IMG_SMALL_SIDE / longer + 6) / 12);

	return shorter < 12 ? shorter : exact12 < 1 ? 12 : exact12 * 12;
}

mr_code
img_small(const mr_env *env, const img_pixels *src, img_pixels *out, mr_status *st)
{
	int			w = src->width,
				h = src->height;

	memset(out, 0, sizeof(*out));
	if (w <= IMG_SMALL_SIDE && h <= IMG_SMALL_SIDE)
	{
		mr_code		code = img_alloc(env, w, h, out, st);

		for (int y = 0; code == MR_OK && y < h; y++)
			memcpy(out->data + (size_t) y * out->stride, src->data + (size_t) y * src->stride, (size_t) w * 3);
		return code;
	}
	if (w >= h)
		return img_resize(env, src, IMG_SMALL_SIDE, shorter_side(h, w), img_bilinear, NULL, out, st);
	return img_resize(env, src, shorter_side(w, h), IMG_SMALL_SIDE, img_bilinear, NULL, out, st);
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
