/*
 * resize.c
 *	  Antialiased resampling in two passes, after Pillow's Resample.c.
 *
 * Each output pixel is a weighted sum of the source pixels under the filter,
 * whose support grows with the reduction.  Weights are computed as Pillow
 * does, then rounded to 16-bit fixed point with as many fraction bits as the
 * largest weight allows, so that one instruction multiplies two and adds; the
 * result differs from Pillow's 22 bits by at most one grey level, rarely.
 *
 * The vertical pass comes first: its loop runs along rows at full vector width,
 * and what it leaves for the other, slower pass is only the target's height.
 * (Pillow up to 11 always begins with the width, later ones with what they
 * compute to be cheaper.  As rows are rounded to 8 bits in between, the other
 * order differs by 0.2/255 on average.)  A few output rows are worked on at a
 * time, so the memory between the passes is small whatever the proportions.
 */
#include "image/image_private.h"

#include <math.h>
#include <string.h>

/* Output rows between the two passes. */
#define BAND_ROWS 16
/* Products of the vertical pass between two looks at interrupts: under 2 ms. */
#define VERTICAL_WORK (8 << 20)
/* Rows resampled horizontally between two looks at interrupts. */
#define ROWS_AT_ONCE 32
/* Sums stay below 2^31: 255 * 2^21 * the sum of |weights| (under 4). */
#define MAX_SHIFT 21

typedef struct axis
{
	int			n;				/* outputs, those of the window only */
	int			n_taps;			/* per output, a multiple of 4 */
	int			shift;
	int		   *first;			/* n: first source index */
	int		   *count;			/* n: taps in use, at least 1 */
	int16_t    *taps;			/* n x n_taps, zeros behind count */
} axis;

static double
filter_weight(img_filter filter, double x)
{
	if (x < 0)
		x = -x;
	switch (filter)
	{
		case img_bilinear:
			return x < 1 ? 1 - x : 0;
		case img_bicubic:		/* Keys, a = -0.5 */
			if (x < 1)
				return ((-0.5 + 2) * x - (-0.5 + 3)) * x * x + 1;
			return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
		case img_lanczos:
			if (x >= 3)
				return 0;
			if (x == 0)
				return 1;
			return sin(M_PI * x) / (M_PI * x) * sin(M_PI * x / 3) / (M_PI * x / 3);
		default:
			break;
	}
	return 0;
}

static double
filter_support(img_filter filter)
{
	return filter == img_lanczos ? 3 : filter == img_bicubic ? 2 : filter == img_bilinear ? 1 : 0.5;
}

static void
axis_free(const mr_env *env, axis *a)
{
	mr_free(env, a->first);
	mr_free(env, a->count);
	mr_free(env, a->taps);
	memset(a, 0, sizeof(*a));
}

/*
 * Weights of outputs win..win+n-1 of `full`, from the source interval in0..in1
 * of in_size pixels.
 */
static mr_code
axis_make(const mr_env *env, int in_size, double in0, double in1, int full, int win, int n,
		  img_filter filter, axis *a, mr_status *st)
{
	double		scale = (in1 - in0) / full;
	double		grown = scale < 1 ? 1 : scale;
	double		support = filter_support(filter) * grown;
	int			widest = 0;
	double		largest = 0;
	double	   *exact;
	size_t		bytes;

	a->n = n;
	a->first = mr_alloc(env, sizeof(int) * (size_t) n);
	a->count = mr_alloc(env, sizeof(int) * (size_t) n);
	if (a->first == NULL || a->count == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory resizing an image");
	for (int i = 0; i < n; i++)
	{
		double		center = in0 + ((double) win + i + 0.5) * scale;
		double		low = center - support + 0.5;
		double		high = center + support + 0.5;
		int			first = low > 0 ? (int) low : 0;
		int			end = high < in_size ? (int) high : in_size;

		/* rounding of in0 and in1 must not leave an output without source */
		if (first > in_size - 1)
			first = in_size - 1;
		if (end < first + 1)
			end = first + 1;
		a->first[i] = first;
		a->count[i] = end - first;
		if (a->count[i] > widest)
			widest = a->count[i];
	}
	a->n_taps = (widest + 3) & ~3;

	if (!mr_mul_size((size_t) a->n_taps, (size_t) n, &bytes) ||
		!mr_mul_size(bytes, sizeof(int16_t), &bytes) ||
		(a->taps = mr_alloc(env, bytes)) == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory resizing an image");
	exact = mr_alloc(env, sizeof(double) * (size_t) a->n_taps);
	if (exact == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory resizing an image");

	/* twice over the outputs: the largest weight decides the fixed point */
	for (int pass = 0; pass < 2; pass++)
	{
		for (int i = 0; i < n; i++)
		{
			double		center = in0 + ((double) win + i + 0.5) * scale;
			double		sum = 0;
			double		carry = 0;
			int16_t    *taps = a->taps + (size_t) i * (size_t) a->n_taps;

			for (int t = 0; t < a->count[i]; t++)
			{
				double		x = (a->first[i] + t - center + 0.5) / grown;

				/* Pillow's box is open on the left, closed on the right */
				exact[t] = filter == img_box ? (x > -0.5 && x <= 0.5) : filter_weight(filter, x);
				sum += exact[t];
			}
			if (sum == 0)
			{
				exact[0] = 1;
				sum = 1;
			}
			for (int t = 0; t < a->count[i]; t++)
			{
				double		weight = exact[t] / sum;

				if (pass == 0 && fabs(weight) > largest)
					largest = fabs(weight);
				if (pass == 1)
				{
					/* what rounding took goes to the next tap: the sum is exactly 1 */
					carry += weight * (double) (1 << a->shift);
					taps[t] = (int16_t) lrint(carry);
					carry -= taps[t];
				}
			}
			if (pass == 1)
				memset(taps + a->count[i], 0, sizeof(int16_t) * (size_t) (a->n_taps - a->count[i]));
		}
		if (pass == 0)
		{
			a->shift = MAX_SHIFT;
			while (largest * (double) (1 << a->shift) > 32766.0)
				a->shift--;
		}
	}
	mr_free(env, exact);
	return MR_OK;
}

/*
 * The horizontal kernel reads n_taps pixels from first on: near the right edge
 * move first to the left and the taps to the right, so that nothing but the
 * rounding up to 4 taps of a very narrow image reads behind a row.
 */
static void
axis_keep_inside(axis *a, int in_size)
{
	for (int i = 0; i < a->n; i++)
	{
		int			over = a->first[i] + a->n_taps - in_size;
		int16_t    *taps = a->taps + (size_t) i * (size_t) a->n_taps;

		if (over <= 0)
			continue;
		if (over > a->first[i])
			over = a->first[i];
		memmove(taps + over, taps, sizeof(int16_t) * (size_t) (a->n_taps - over));
		memset(taps, 0, sizeof(int16_t) * (size_t) over);
		a->first[i] -= over;
	}
}

/* Horizontal pass over `rows` rows in portions, looking at interrupts. */
static mr_code
horizontal(const mr_env *env, const img_kernels *kernels, uint8_t *dst, size_t dst_stride,
		   const uint8_t *src, size_t src_stride, int rows, const axis *a, mr_status *st)
{
	for (int y = 0; y < rows; y += ROWS_AT_ONCE)
	{
		if (mr_interrupted(env))
			return mr_fail(st, MR_CANCELED, "image resizing canceled");
		kernels->horizontal(dst + (size_t) y * dst_stride, dst_stride,
							src + (size_t) y * src_stride, src_stride,
							rows - y < ROWS_AT_ONCE ? rows - y : ROWS_AT_ONCE,
							a->n, a->first, a->taps, a->n_taps, a->shift);
	}
	return MR_OK;
}

/* Vertical pass: `rows` output rows from y on, n bytes each, src at the first column. */
static mr_code
vertical(const mr_env *env, const img_kernels *kernels, uint8_t *dst, size_t dst_stride,
		 const uint8_t *src, size_t src_stride, size_t n, int y, int rows, const axis *a,
		 mr_status *st)
{
	for (int i = y; i < y + rows; i++, dst += dst_stride)
	{
		size_t		portion = (VERTICAL_WORK / (size_t) a->count[i]) & ~(size_t) 255;

		if (portion == 0)
			portion = 256;
		for (size_t at = 0; at < n; at += portion)
		{
			if (mr_interrupted(env))
				return mr_fail(st, MR_CANCELED, "image resizing canceled");
			kernels->vertical(dst + at, src + (size_t) a->first[i] * src_stride + at, src_stride,
							  n - at < portion ? n - at : portion,
							  a->taps + (size_t) i * (size_t) a->n_taps, a->count[i], a->shift);
		}
	}
	return MR_OK;
}

/* Pillow's affine transform in its simplest case; coordinates are summed up as
 * there, because many fall on the border between two pixels. */
static mr_code
nearest(const mr_env *env, const img_pixels *src, const img_plan *plan, uint8_t *dst,
		size_t stride, mr_status *st)
{
	double		sx = (plan->box.x1 - plan->box.x0) / plan->full_w;
	double		sy = (plan->box.y1 - plan->box.y0) / plan->full_h;
	double		from_y = plan->box.y0 + sy * 0.5 + plan->win_y * sy;

	for (int y = 0; y < plan->win_h; y++, from_y += sy)
	{
		double		from_x = plan->box.x0 + sx * 0.5 + plan->win_x * sx;
		int			row = (int) from_y < src->height ? (int) from_y : src->height - 1;
		const uint8_t *from = src->data + (size_t) row * src->stride;
		uint8_t    *to = dst + (size_t) y * stride;

		if (mr_interrupted(env))
			return mr_fail(st, MR_CANCELED, "image resizing canceled");
		for (int x = 0; x < plan->win_w; x++, to += 3, from_x += sx)
		{
			int			column = (int) from_x < src->width ? (int) from_x : src->width - 1;

			memcpy(to, from + (size_t) column * 3, 3);
		}
	}
	return MR_OK;
}

/* Both passes, a band of output rows at a time; only the columns under the
 * window are looked at. */
static mr_code
both_passes(const mr_env *env, const img_kernels *kernels, const img_pixels *src,
			axis *across, const axis *down, uint8_t *dst, size_t stride, mr_status *st)
{
	int			left = across->first[0];
	int			right = 0;
	size_t		width;			/* bytes of a band's row in use */
	size_t		band_stride;
	uint8_t    *band;
	mr_code		code = MR_OK;

	for (int x = 0; x < across->n; x++)
	{
		int			end = across->first[x] + across->n_taps;

		right = end > right ? end : right;
	}
	right = right > src->width ? src->width : right;
	for (int x = 0; x < across->n; x++)
		across->first[x] -= left;
	width = (size_t) (right - left) * 3;
	band_stride = (width + 31) & ~(size_t) 31;
	band = mr_alloc(env, BAND_ROWS * band_stride + IMG_SLACK);
	if (band == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory resizing an image");
	/* the spare bytes meet zero weights only, but must be something */
	memset(band, 0, BAND_ROWS * band_stride + IMG_SLACK);

	for (int y = 0; y < down->n && code == MR_OK; y += BAND_ROWS)
	{
		int			rows = down->n - y < BAND_ROWS ? down->n - y : BAND_ROWS;

		code = vertical(env, kernels, band, band_stride, src->data + (size_t) left * 3, src->stride,
						width, y, rows, down, st);
		if (code == MR_OK)
			code = horizontal(env, kernels, dst + (size_t) y * stride, stride, band, band_stride,
							  rows, across, st);
	}
	mr_free(env, band);
	return code;
}

mr_code
img_resample(const mr_env *env, const img_pixels *src, const img_plan *plan, img_filter filter,
			 uint8_t *dst, size_t stride, mr_status *st)
{
	const img_kernels *kernels = img_kernels_best();
	bool		need_across = plan->full_w != src->width || plan->box.x0 != 0 || plan->box.x1 != src->width;
	bool		need_down = plan->full_h != src->height || plan->box.y0 != 0 || plan->box.y1 != src->height;
	axis		across = {0};
	axis		down = {0};
	mr_code		code = MR_OK;

	if (filter == img_nearest)
		return nearest(env, src, plan, dst, stride, st);
	if (need_across)
	{
		code = axis_make(env, src->width, plan->box.x0, plan->box.x1, plan->full_w,
						 plan->win_x, plan->win_w, filter, &across, st);
		if (code == MR_OK)
			axis_keep_inside(&across, src->width);
	}
	if (need_down && code == MR_OK)
		code = axis_make(env, src->height, plan->box.y0, plan->box.y1, plan->full_h,
						 plan->win_y, plan->win_h, filter, &down, st);

	if (code != MR_OK)
		;
	else if (need_across && need_down)
		code = both_passes(env, kernels, src, &across, &down, dst, stride, st);
	else if (need_across)
		code = horizontal(env, kernels, dst, stride,
						  src->data + (size_t) plan->win_y * src->stride, src->stride,
						  plan->win_h, &across, st);
	else if (need_down)
		code = vertical(env, kernels, dst, stride, src->data + (size_t) plan->win_x * 3, src->stride,
						(size_t) plan->win_w * 3, 0, plan->win_h, &down, st);
	else
		for (int y = 0; y < plan->win_h; y++)
			memcpy(dst + (size_t) y * stride,
				   src->data + (size_t) (plan->win_y + y) * src->stride + (size_t) plan->win_x * 3,
				   (size_t) plan->win_w * 3);
	axis_free(env, &across);
	axis_free(env, &down);
	return code;
}
