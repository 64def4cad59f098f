/*
 * orient.c
 *	  Turn pixels upright by the EXIF orientation.
 *
 * Orientation o says where the stored first row and first column are seen:
 * 1 top left, 2 top right, 3 bottom right, 4 bottom left, 5 left top,
 * 6 right top, 7 right bottom, 8 left bottom.  5 to 8 swap width and height.
 */
#include "image/image_private.h"

#include <string.h>

/* Tiles keep both the rows read and the rows written in the first cache. */
#define TILE 32

mr_code
img_orient(const mr_env *env, img_pixels *pixels, int orientation, mr_status *st)
{
	const img_pixels src = *pixels;
	img_pixels	dst;
	bool		swap = orientation >= 5;
	/* in the order 1..8: is the seen x (y) axis the stored one reversed? */
	static const bool flip_x[9] = {0, 0, 1, 1, 0, 0, 1, 1, 0};
	static const bool flip_y[9] = {0, 0, 0, 1, 1, 0, 0, 1, 1};
	ptrdiff_t	step_x,
				step_y;
	const uint8_t *origin;
	mr_code		code;

	code = img_alloc(env, swap ? src.height : src.width, swap ? src.width : src.height, &dst, st);
	if (code != MR_OK)
		return code;

	/* the seen pixel (x, y) is stored at origin + x * step_x + y * step_y */
	step_x = swap ? (ptrdiff_t) src.stride : 3;
	step_y = swap ? 3 : (ptrdiff_t) src.stride;
	origin = src.data;
	if (flip_x[orientation])
	{
		origin += step_x * (dst.width - 1);
		step_x = -step_x;
	}
	if (flip_y[orientation])
	{
		origin += step_y * (dst.height - 1);
		step_y = -step_y;
	}

	for (int ty = 0; ty < dst.height; ty += TILE)
	{
		int			y_end = ty + TILE < dst.height ? ty + TILE : dst.height;

		if (mr_interrupted(env))
		{
			img_free(env, &dst);
			return mr_fail(st, MR_CANCELED, "image decoding canceled");
		}
		for (int tx = 0; tx < dst.width; tx += TILE)
		{
			int			x_end = tx + TILE < dst.width ? tx + TILE : dst.width;

			for (int y = ty; y < y_end; y++)
			{
				uint8_t    *to = dst.data + (size_t) y * dst.stride + (size_t) tx * 3;
				const uint8_t *from = origin + tx * step_x + y * step_y;

				for (int x = tx; x < x_end; x++, to += 3, from += step_x)
				{
					to[0] = from[0];
					to[1] = from[1];
					to[2] = from[2];
				}
			}
		}
	}
	img_free(env, pixels);
	*pixels = dst;
	return MR_OK;
}
