/*
 * prep.c
 *	  Image bytes to the planes of floats a network reads.
 */
#include "image/image_private.h"

#include <math.h>

mr_code
img_check_prep(const img_prep *prep, const img_limits *limits, mr_status *st)
{
	mr_code		code;

	if (prep->width < 1 || prep->height < 1)
		return mr_fail(st, MR_INVALID, "input size of %d x %d pixels is not positive",
					   prep->width, prep->height);
	code = img_check_size(limits, (uint64_t) prep->width, (uint64_t) prep->height, st);
	if (code != MR_OK)
		return code;
	if (prep->resize < 0 || prep->resize > limits->max_side)
		return mr_fail(st, MR_INVALID, "resize of %d pixels is not between 0 and %d",
					   prep->resize, limits->max_side);
	if (!isfinite(prep->scale))
		return mr_fail(st, MR_INVALID, "scale is not a finite number");
	for (int c = 0; c < img_prep_channels(prep); c++)
	{
		if (!isfinite(prep->mean[c]))
			return mr_fail(st, MR_INVALID, "mean of channel %d is not a finite number", c);
		if (!isfinite(prep->std[c]) || prep->std[c] == 0)
			return mr_fail(st, MR_INVALID, "std of channel %d is zero or not a finite number", c);
	}
	return MR_OK;
}

mr_code
img_pixels_to_tensor(const img_pixels *src, const img_prep *prep, float *out, mr_status *st)
{
	const img_kernels *kernels = img_kernels_best();
	size_t		plane = (size_t) prep->width * (size_t) prep->height;

	if (src->width != prep->width || src->height != prep->height)
		return mr_fail(st, MR_INVALID, "image of %d x %d pixels where %d x %d are expected",
					   src->width, src->height, prep->width, prep->height);
	for (int y = 0; y < prep->height; y++)
	{
		const uint8_t *row = src->data + (size_t) y * src->stride;
		float	   *to = out + (size_t) y * (size_t) prep->width;

		if (prep->grey)
		{
			for (int x = 0; x < prep->width; x++, row += 3)
			{
				/* ITU-R 601-2 luma in 16 bits, as Pillow's convert("L") */
				uint32_t	luma = (row[0] * 19595u + row[1] * 38470u + row[2] * 7471u + 0x8000u) >> 16;

				to[x] = ((float) luma * prep->scale - prep->mean[0]) / prep->std[0];
			}
		}
		else
		{
			/* mean and std count planes as written, the kernel counts R, G, B */
			int			red = prep->bgr ? 2 : 0;
			float	   *const planes[3] = {to + (size_t) red * plane, to + plane, to + (size_t) (2 - red) * plane};
			const float mean[3] = {prep->mean[red], prep->mean[1], prep->mean[2 - red]};
			const float std[3] = {prep->std[red], prep->std[1], prep->std[2 - red]};

			kernels->planes(planes, row, prep->width, prep->scale, mean, std);
		}
	}
	return MR_OK;
}

mr_code
img_to_tensor(const mr_env *env, const uint8_t *data, size_t len, const img_limits *limits,
			  const img_prep *prep, float *out, mr_status *st)
{
	img_pixels	pixels;
	mr_code		code;

	if ((code = img_check_prep(prep, limits, st)) != MR_OK ||
		(code = img_decode_fit(env, data, len, limits, prep->width, prep->height, prep->fit,
							   prep->resize, prep->filter, prep->pad, &pixels, st)) != MR_OK)
		return code;
	code = img_pixels_to_tensor(&pixels, prep, out, st);
	img_free(env, &pixels);
	return code;
}
