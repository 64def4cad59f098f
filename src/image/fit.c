/*
 * fit.c
 *	  From sizes to a plan: what part of the source becomes what part of the target.
 *
 * The arithmetic is Pillow's (ImageOps.fit, ImageOps.pad) and, for
 * img_fit_resize_crop, torchvision's (Resize of the shorter side, then
 * CenterCrop), so that a network sees what it saw in training.  All rounding
 * of halves is to even, as Python's round().
 */
#include "image/image_private.h"

#include <limits.h>
#include <math.h>
#include <string.h>

static int
clamp_int(double v, int low, int high)
{
	return v < low ? low : v > high ? high : (int) v;
}

/* One axis of a centre crop, or of a centred put where the image is smaller. */
static void
centre(int full, int target, int *win, int *win_size, int *put)
{
	if (full >= target)
	{
		*win = (int) rint((full - target) / 2.0);
		*win_size = target;
		*put = 0;
	}
	else
	{
		*win = 0;
		*win_size = full;
		*put = (target - full) / 2;
	}
}

void
img_plan_fit(int src_w, int src_h, int w, int h, img_fit_mode fit, int resize, img_plan *plan)
{
	plan->box = (img_box_t) {0, 0, src_w, src_h};
	plan->full_w = plan->win_w = w;
	plan->full_h = plan->win_h = h;
	plan->win_x = plan->win_y = plan->put_x = plan->put_y = 0;

	switch (fit)
	{
		case img_fit_stretch:
			break;
		case img_fit_cover:
			{
				double		part_w = src_w,
							part_h = src_h;

				if ((int64_t) src_w * h > (int64_t) w * src_h)
					part_w = (double) w / h * src_h;
				else
					part_h = src_w / ((double) w / h);
				plan->box.x0 = (src_w - part_w) * 0.5;
				plan->box.y0 = (src_h - part_h) * 0.5;
				plan->box.x1 = plan->box.x0 + part_w;
				plan->box.y1 = plan->box.y0 + part_h;
				break;
			}
		case img_fit_contain:
			if ((int64_t) src_w * h > (int64_t) w * src_h)
				plan->full_h = clamp_int(rint((double) src_h / src_w * w), 1, h);
			else
				plan->full_w = clamp_int(rint((double) src_w / src_h * h), 1, w);
			plan->win_w = plan->full_w;
			plan->win_h = plan->full_h;
			plan->put_x = (int) rint((w - plan->full_w) * 0.5);
			plan->put_y = (int) rint((h - plan->full_h) * 0.5);
			break;
		case img_fit_resize_crop:
			{
				int			side = resize > 0 ? resize : (w < h ? w : h);
				int			shorter = src_w < src_h ? src_w : src_h;
				int			longer = src_w < src_h ? src_h : src_w;
				int			made = clamp_int(floor((double) side * longer / shorter), 1, INT_MAX / 2);

				plan->full_w = src_w < src_h ? side : made;
				plan->full_h = src_w < src_h ? made : side;
				centre(plan->full_w, w, &plan->win_x, &plan->win_w, &plan->put_x);
				centre(plan->full_h, h, &plan->win_y, &plan->win_h, &plan->put_y);
				break;
			}
	}
}

/*
 * The size (of the whole upright image) below which decoding would lose detail
 * that the target can show; 0 x 0 for full size.
 */
void
img_wanted_size(const img_want *want, int src_w, int src_h, int *w, int *h)
{
	img_plan	plan;

	*w = want->w;
	*h = want->h;
	if (want->cover_only || want->w <= 0 || want->h <= 0)
		return;
	img_plan_fit(src_w, src_h, want->w, want->h, want->fit, want->resize, &plan);
	*w = clamp_int(ceil((double) plan.full_w * src_w / (plan.box.x1 - plan.box.x0) - 1e-6), 1, INT_MAX);
	*h = clamp_int(ceil((double) plan.full_h * src_h / (plan.box.y1 - plan.box.y0) - 1e-6), 1, INT_MAX);
}

/* Resample by a plan made for an image of whole_w x whole_h, of which src may
 * be a smaller rendering (DCT scale). */
static mr_code
apply(const mr_env *env, const img_pixels *src, int whole_w, int whole_h, int w, int h,
	  img_fit_mode fit, int resize, img_filter filter, uint8_t pad, img_pixels *out, mr_status *st)
{
	img_plan	plan;
	mr_code		code;
	double		sx = (double) src->width / whole_w,
				sy = (double) src->height / whole_h;

	img_plan_fit(whole_w, whole_h, w, h, fit, resize, &plan);
	plan.box.x0 *= sx;
	plan.box.x1 *= sx;
	plan.box.y0 *= sy;
	plan.box.y1 *= sy;
	if ((code = img_alloc(env, w, h, out, st)) != MR_OK)
		return code;
	if (plan.win_w < w || plan.win_h < h)
		memset(out->data, pad, out->stride * (size_t) h);
	code = img_resample(env, src, &plan, filter,
						out->data + (size_t) plan.put_y * out->stride + (size_t) plan.put_x * 3,
						out->stride, st);
	if (code != MR_OK)
		img_free(env, out);
	return code;
}

mr_code
img_fit(const mr_env *env, const img_pixels *src, int w, int h, img_fit_mode fit, int resize,
		img_filter filter, uint8_t pad, img_pixels *out, mr_status *st)
{
	memset(out, 0, sizeof(*out));
	if (w < 1 || h < 1)
		return mr_fail(st, MR_INVALID, "cannot make an image of %d x %d pixels", w, h);
	return apply(env, src, src->width, src->height, w, h, fit, resize, filter, pad, out, st);
}

mr_code
img_decode_fit(const mr_env *env, const uint8_t *data, size_t len, const img_limits *limits,
			   int w, int h, img_fit_mode fit, int resize, img_filter filter, uint8_t pad,
			   img_pixels *out, mr_status *st)
{
	img_want	want = {.w = w, .h = h, .fit = fit, .resize = resize};
	img_pixels	src;
	int			whole_w,
				whole_h;
	mr_code		code;

	memset(out, 0, sizeof(*out));
	if (w < 1 || h < 1)
		return mr_fail(st, MR_INVALID, "cannot make an image of %d x %d pixels", w, h);
	if ((code = img_check_size(limits, (uint64_t) w, (uint64_t) h, st)) != MR_OK ||
		(code = img_decode_for(env, data, len, limits, &want, &src, &whole_w, &whole_h, st)) != MR_OK)
		return code;
	if (src.width == w && src.height == h && src.stride == (size_t) w * 3 &&
		whole_w == w && whole_h == h && fit != img_fit_resize_crop)
	{
		*out = src;				/* already what is wanted, in every fit */
		return MR_OK;
	}
	code = apply(env, &src, whole_w, whole_h, w, h, fit, resize, filter, pad, out, st);
	img_free(env, &src);
	return code;
}

mr_code
img_resize(const mr_env *env, const img_pixels *src, int w, int h, img_filter filter,
		   const img_box_t *box, img_pixels *out, mr_status *st)
{
	img_plan	plan;
	mr_code		code;

	memset(out, 0, sizeof(*out));
	if (w < 1 || h < 1)
		return mr_fail(st, MR_INVALID, "cannot make an image of %d x %d pixels", w, h);
	img_plan_fit(src->width, src->height, w, h, img_fit_stretch, 0, &plan);
	if (box)
	{
		if (!(box->x0 >= 0 && box->y0 >= 0 && box->x1 <= src->width && box->y1 <= src->height &&
			  box->x0 < box->x1 && box->y0 < box->y1))
			return mr_fail(st, MR_INVALID, "the part to resize does not lie within the image");
		plan.box = *box;
	}
	if ((code = img_alloc(env, w, h, out, st)) != MR_OK)
		return code;
	code = img_resample(env, src, &plan, filter, out->data, out->stride, st);
	if (code != MR_OK)
		img_free(env, out);
	return code;
}

bool
img_filter_by_name(const char *name, img_filter *filter)
{
	static const char *const names[] = {"nearest", "box", "bilinear", "bicubic", "lanczos"};

	for (int i = 0; i < (int) (sizeof(names) / sizeof(names[0])); i++)
		if (strcmp(name, names[i]) == 0)
		{
			*filter = (img_filter) i;
			return true;
		}
	return false;
}

bool
img_fit_by_name(const char *name, img_fit_mode *fit)
{
	static const char *const names[] = {"stretch", "cover", "contain", "resize_crop"};

	for (int i = 0; i < (int) (sizeof(names) / sizeof(names[0])); i++)
		if (strcmp(name, names[i]) == 0)
		{
			*fit = (img_fit_mode) i;
			return true;
		}
	return false;
}
