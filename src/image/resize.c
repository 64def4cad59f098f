/*
 * resize.c
 *	  Antialiased resampling in two passes, after Pillow's Resample.c.
 *
 * Each output pixel is a weighted sum of the source pixels under the filter,
 * whose support grows with the reduction.  First all rows are resampled
 * horizontally to 8 bits, then the columns.  Weights are computed as Pillow
 * does, then rounded to 16-bit fixed point with as many fraction bits as the
 * largest weight allows, so that one instruction multiplies two and adds; the
 * result differs from Pillow's 22 bits by at most one grey level, rarely.
 * (Pillow since 12 or so takes the vertical pass first where it computes that to
 * be cheaper; rounding to 8 bits in between then differs by 0.2/255 on average.)
 *
 * The horizontal pass is kept in a band of rows, in strips of columns: memory
 * is bounded whatever the proportions, and the band stays in the second cache.
 */
#include "image/image_private.h"

#include <math.h>
#include <string.h>

/* Bytes of the band between the two passes, unless one output row needs more. */
#define BAND_BYTES (512 * 1024)
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
		   const uint8_t *src, size_t src_stride, int rows, const axis *a, int x0, int n,
		   mr_status *st)
{
	for (int y = 0; y < rows; y += ROWS_AT_ONCE)
	{
		if (mr_interrupted(env))
			return mr_fail(st, MR_CANCELED, "image resizing canceled");
		kernels->horizontal(dst + (size_t) y * dst_stride, dst_stride,
							src + (size_t) y * src_stride, src_stride,
							rows - y < ROWS_AT_ONCE ? rows - y : ROWS_AT_ONCE,
							n, a->first + x0, a->taps + (size_t) x0 * (size_t) a->n_taps,
							a->n_taps, a->shift);
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

/* Both passes: strips of columns, in each a band of rows that slides down. */
static mr_code
both_passes(const mr_env *env, const img_kernels *kernels, const img_pixels *src,
			const axis *across, const axis *down, uint8_t *dst, size_t stride, mr_status *st)
{
	int			tallest = 0;	/* source rows under one output row */
	int			columns,
				capacity;
	size_t		band_stride;
	uint8_t    *band;
	mr_code		code = MR_OK;

	for (int y = 0; y < down->n; y++)
		if (down->count[y] > tallest)
			tallest = down->count[y];
	columns = across->n;
	while (columns > 64 && (size_t) columns * 3 * (size_t) tallest > 8 * BAND_BYTES)
		columns = (columns + 1) / 2;
	band_stride = ((size_t) columns * 3 + 31) & ~(size_t) 31;
	capacity = tallest + ROWS_AT_ONCE;
	if ((size_t) capacity * band_stride < BAND_BYTES)
		capacity = (int) (BAND_BYTES / band_stride);
	if (capacity > src->height)
		capacity = src->height;
	band = mr_alloc(env, (size_t) capacity * band_stride + IMG_SLACK);
	if (band == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory resizing an image");

	for (int x0 = 0; x0 < across->n && code == MR_OK; x0 += columns)
	{
		int			n = across->n - x0 < columns ? across->n - x0 : columns;
		int			low = 0,	/* the band holds source rows low..high-1 */
					high = 0;

		for (int y = 0; y < down->n && code == MR_OK; y++)
		{
			int			first = down->first[y];
			int			end = first + down->count[y];

			if (end > high)
			{
				int			keep = high > first ? high - first : 0;
				int			fill;

				if (keep > 0 && first > low)
					memmove(band, band + (size_t) (first - low) * band_stride, (size_t) keep * band_stride);
				low = first;
				high = first + keep;
				/* what later output rows need too, as far as there is room */
				fill = low + capacity;
				if (fill > down->first[down->n - 1] + down->count[down->n - 1])
					fill = down->first[down->n - 1] + down->count[down->n - 1];
				code = horizontal(env, kernels, band + (size_t) keep * band_stride, band_stride,
								  src->data + (size_t) high * src->stride, src->stride,
								  fill - high, across, x0, n, st);
				high = fill;
				if (code != MR_OK)
					break;
			}
			else if ((y & 15) == 0 && mr_interrupted(env))
			{
				code = mr_fail(st, MR_CANCELED, "image resizing canceled");
				break;
			}
			kernels->vertical(dst + (size_t) y * stride + (size_t) x0 * 3,
							  band + (size_t) (first - low) * band_stride, band_stride,
							  (size_t) n * 3, down->taps + (size_t) y * (size_t) down->n_taps,
							  down->count[y], down->shift);
		}
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
						  plan->win_h, &across, 0, plan->win_w, st);
	else
		for (int y = 0; y < plan->win_h && code == MR_OK; y++)
		{
			const uint8_t *row = src->data + (size_t) plan->win_x * 3;

			if ((y & 15) == 0 && mr_interrupted(env))
				code = mr_fail(st, MR_CANCELED, "image resizing canceled");
			else if (need_down)
				kernels->vertical(dst + (size_t) y * stride, row + (size_t) down.first[y] * src->stride,
								  src->stride, (size_t) plan->win_w * 3,
								  down.taps + (size_t) y * (size_t) down.n_taps, down.count[y], down.shift);
			else
				memcpy(dst + (size_t) y * stride, row + (size_t) (plan->win_y + y) * src->stride,
					   (size_t) plan->win_w * 3);
		}
	axis_free(env, &across);
	axis_free(env, &down);
	return code;
}
