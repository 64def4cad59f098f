/*
 * facts.c
 *	  All that is measured of an image, from one decoding.
 *
 * The digest, the figures and the small copy read the whole image, or a grid
 * of it; the rest sees the small copy.  Temporary memory: about 6 bytes for
 * each of the small copy's pixels.
 */
#include "image/facts.h"

#include <math.h>
#include <string.h>

#include "core/sha256.h"

static mr_code
digest_of(const mr_env *env, const img_pixels *src, uint8_t digest[32], mr_status *st)
{
	mr_sha256	h;
	uint32_t	size[2] = {(uint32_t) src->width, (uint32_t) src->height};
	uint8_t		head[8];

	for (int i = 0; i < 8; i++)
		head[i] = (uint8_t) (size[i / 4] >> (24 - i % 4 * 8));
	mr_sha256_init(&h);
	mr_sha256_add(&h, head, sizeof(head));
	for (int y = 0; y < src->height; y++)
	{
		/* 64 rows of the widest image are 3 MB: 10 ms without the processor's help */
		if (y % 64 == 0 && mr_interrupted(env))
			return mr_fail(st, MR_CANCELED, "image measuring canceled");
		mr_sha256_add(&h, src->data + (size_t) y * src->stride, (size_t) src->width * 3);
	}
	mr_sha256_end(&h, digest);
	return MR_OK;
}

/* Means of 8 x 8 parts; a part is at least a pixel. */
static void
make_thumbnail(const img_pixels *small, float out[IMG_THUMB_LEN])
{
	double		mean[3] = {0, 0, 0},
				squares = 0;
	double		v[IMG_THUMB_LEN];

	for (int ty = 0; ty < IMG_THUMB_SIDE; ty++)
		for (int tx = 0; tx < IMG_THUMB_SIDE; tx++)
		{
			int			x0 = tx * small->width / IMG_THUMB_SIDE,
						y0 = ty * small->height / IMG_THUMB_SIDE;
			int			x1 = (tx + 1) * small->width / IMG_THUMB_SIDE,
						y1 = (ty + 1) * small->height / IMG_THUMB_SIDE;
			uint32_t	sum[3] = {0, 0, 0};

			x1 = x1 > x0 ? x1 : x0 + 1;
			y1 = y1 > y0 ? y1 : y0 + 1;
			for (int y = y0; y < y1; y++)
			{
				const uint8_t *p = small->data + (size_t) y * small->stride + (size_t) x0 * 3;

				for (int x = x0; x < x1; x++, p += 3)
					for (int c = 0; c < 3; c++)
						sum[c] += p[c];
			}
			for (int c = 0; c < 3; c++)
			{
				double		value = (double) sum[c] / ((x1 - x0) * (y1 - y0));

				v[(ty * IMG_THUMB_SIDE + tx) * 3 + c] = value;
				mean[c] += value / (IMG_THUMB_SIDE * IMG_THUMB_SIDE);
			}
		}
	for (int i = 0; i < IMG_THUMB_LEN; i++)
	{
		v[i] -= mean[i % 3];
		squares += v[i] * v[i];
	}
	/* an even colour looks like nothing: less than a thousandth of a grey level is rounding */
	for (int i = 0; i < IMG_THUMB_LEN; i++)
		out[i] = squares < 1e-6 ? 0 : (float) (v[i] / sqrt(squares));
}

/* The small copy and the Laplacian of its luma; both the caller's to free, whatever is returned. */
static mr_code
look_closer(const mr_env *env, const img_pixels *src, img_pixels *small, int16_t **laplacian, mr_status *st)
{
	uint8_t    *luma = NULL;
	mr_code		code;

	*laplacian = NULL;
	if ((code = img_small(env, src, small, st)) == MR_OK &&
		(code = img_luma(env, small, &luma, st)) == MR_OK)
		code = img_laplacian(env, luma, small->width, small->height, laplacian, st);
	mr_free(env, luma);
	return code;
}

mr_code
img_sharpness(const mr_env *env, const img_pixels *src, float *out, mr_status *st)
{
	img_pixels	small;
	int16_t    *laplacian;
	mr_code		code = look_closer(env, src, &small, &laplacian, st);

	if (code == MR_OK)
		*out = img_variance(laplacian, (size_t) small.width * (size_t) small.height);
	mr_free(env, laplacian);
	img_free(env, &small);
	return code;
}

mr_code
img_facts_of(const mr_env *env, const img_pixels *src, img_facts *out, mr_status *st)
{
	img_pixels	small;
	int16_t    *laplacian;
	mr_code		code = look_closer(env, src, &small, &laplacian, st);

	memset(out, 0, sizeof(*out));
	if (code == MR_OK &&
		(code = img_hash(env, &small, out->hash, st)) == MR_OK &&
		(code = img_figures_of(env, src, &out->figures, st)) == MR_OK &&
		(code = img_is_grey(env, src, &out->grey, st)) == MR_OK &&
		(code = digest_of(env, src, out->digest, st)) == MR_OK)
	{
		out->sharpness = img_variance(laplacian, (size_t) small.width * (size_t) small.height);
		out->repeated = img_repeated_tiles(laplacian, small.width, small.height);
		out->black_corners = img_black_corners(&small);
		make_thumbnail(&small, out->thumbnail);
	}
	mr_free(env, laplacian);
	img_free(env, &small);
	return code;
}

mr_code
img_thumbnail(const mr_env *env, const img_pixels *src, float out[IMG_THUMB_LEN], mr_status *st)
{
	img_pixels	small;
	mr_code		code = img_small(env, src, &small, st);

	if (code == MR_OK)
		make_thumbnail(&small, out);
	img_free(env, &small);
	return code;
}

bool
img_crop(const img_pixels *src, const float box[4], img_pixels *view)
{
	double		x1 = fmax(floor((double) box[0]), 0),
				y1 = fmax(floor((double) box[1]), 0),
				x2 = fmin(ceil((double) box[2]), src->width),
				y2 = fmin(ceil((double) box[3]), src->height);

	/* fmax() and fmin() pass over a NaN: ask the box itself */
	if (!(box[0] < box[2] && box[1] < box[3] && x1 < x2 && y1 < y2))
		return false;
	*view = *src;
	view->width = (int) (x2 - x1);
	view->height = (int) (y2 - y1);
	view->data = src->data + (size_t) y1 * src->stride + (size_t) x1 * (size_t) src->channels;
	return true;
}
