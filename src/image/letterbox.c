/*
 * letterbox.c
 *	  The letterbox that detectors of the YOLO family were trained with.
 *
 * Ultralytics resizes with OpenCV's cv2.resize(INTER_LINEAR) on bytes: two
 * neighbours each way and no antialiasing, weights of 11 bits, the horizontal
 * sums cut to 15 bits before the vertical ones (resize.cpp: HResizeLinear,
 * VResizeLinear, FixedPtCast).  An exact half averages four pixels instead.
 * Boxes move by pixels when another resampling is used, so this file gives the
 * same bytes, and writes them to the network's planes at once.
 *
 * The image is decoded at full size: a DCT scale would change the neighbours.
 * Memory: the decoded image, two rows and the taps of a row, from env.
 */
#include "image/image_private.h"

#include <math.h>
#include <string.h>

#define COEF_ONE 2048			/* INTER_RESIZE_COEF_SCALE */
#define ROWS_A_LOOK 16			/* between interrupts */

void
img_plan_letterbox(int src_w, int src_h, int width, int height, int stride, img_letterbox *out)
{
	double		gain = fmin((double) height / src_h, (double) width / src_w);
	int			bars_x,
				bars_y;

	out->src_w = src_w;
	out->src_h = src_h;
	/* rint() rounds halves to even, as Python's round() */
	out->inner_w = (int) fmin(fmax(rint(src_w * gain), 1), width);
	out->inner_h = (int) fmin(fmax(rint(src_h * gain), 1), height);
	bars_x = width - out->inner_w;
	bars_y = height - out->inner_h;
	if (stride > 0)
	{
		bars_x %= stride;
		bars_y %= stride;
	}
	out->width = out->inner_w + bars_x;
	out->height = out->inner_h + bars_y;
	out->left = (int) rint(bars_x / 2.0 - 0.1);
	out->top = (int) rint(bars_y / 2.0 - 0.1);
}

/* Where output i of m falls among n samples: the left (upper) neighbour and the
 * weight of the right (lower) one. */
static float
locate(int i, int n, int m, int *first)
{
	double		scale = 1.0 / ((double) m / n);
	float		at = (float) ((i + 0.5) * scale - 0.5);
	float		whole = floorf(at);

	*first = (int) whole;
	return at - whole;
}

static img_tap
tap_of(int first, float weight)
{
	return (img_tap) {first, (int16_t) rintf((1.0f - weight) * COEF_ONE), (int16_t) rintf(weight * COEF_ONE)};
}

/* Columns: at the edges the one pixel there is counts fully. */
static void
plan_columns(int n, int m, img_tap *taps)
{
	for (int x = 0; x < m; x++)
	{
		int			first;
		float		weight = locate(x, n, m, &first);

		if (first < 0 || first >= n - 1)
		{
			first = first < 0 ? 0 : n - 1;
			weight = 0;
		}
		taps[x] = tap_of(3 * first, weight);
	}
}

/* Rows of horizontal sums: the last two, by the source row they are of. */
typedef struct row_pair
{
	int			of[2];			/* -1: none */
	int16_t    *planes[2][3];
} row_pair;

static int
find_row(const img_pixels *src, const img_tap *taps, int n, int row, int keep, row_pair *pair)
{
	int			slot = pair->of[0] == row ? 0 : pair->of[1] == row ? 1 : -1;

	if (slot < 0)
	{
		slot = pair->of[0] == keep ? 1 : 0;
		img_kernels_best()->linear_row(pair->planes[slot], src->data + (size_t) row * src->stride, taps, n);
		pair->of[slot] = row;
	}
	return slot;
}

/* The grey level of the bars as the network sees it, on the whole plane where
 * bars are. */
static void
fill_bars(const img_letterbox *box, const img_prep *prep, float *out)
{
	for (int c = 0; c < 3; c++)
	{
		float		grey = ((float) prep->pad * prep->scale - prep->mean[c]) / prep->std[c];
		float	   *plane = out + (size_t) c * (size_t) box->width * (size_t) box->height;

		for (int y = 0; y < box->height; y++, plane += box->width)
		{
			bool		inside = y >= box->top && y < box->top + box->inner_h;
			int			right = box->left + box->inner_w;

			for (int x = 0; x < (inside ? box->left : box->width); x++)
				plane[x] = grey;
			for (int x = inside ? right : box->width; x < box->width; x++)
				plane[x] = grey;
		}
	}
}

mr_code
img_letterbox_pixels(const mr_env *env, const img_pixels *src, const img_prep *prep,
					 const img_letterbox *box, float *out, mr_status *st)
{
	const img_kernels *kernels = img_kernels_best();
	int			n = box->inner_w;
	size_t		row_size = ((size_t) n * sizeof(int16_t) + 63) & ~(size_t) 63;
	size_t		taps_size = ((size_t) n * sizeof(img_tap) + 63) & ~(size_t) 63;
	bool		half = src->width == 2 * n && src->height == 2 * box->inner_h;
	row_pair	pair = {.of = {-1, -1}};
	char	   *memory;
	img_tap    *taps;

	if (src->width != box->src_w || src->height != box->src_h)
		return mr_fail(st, MR_INVALID, "image of %d x %d pixels where %d x %d are expected",
					   src->width, src->height, box->src_w, box->src_h);
	if (prep->grey)
		return mr_fail(st, MR_UNSUPPORTED, "a letterbox of one grey plane is not supported");
	memory = mr_alloc(env, taps_size + 6 * row_size);
	if (memory == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory resizing an image");
	taps = (img_tap *) memory;
	for (int i = 0; i < 6; i++)
		pair.planes[i / 3][i % 3] = (int16_t *) (memory + taps_size + (size_t) i * row_size);
	plan_columns(src->width, n, taps);
	fill_bars(box, prep, out);

	for (int y = 0; y < box->inner_h; y++)
	{
		float	   *to = out + (size_t) (box->top + y) * (size_t) box->width + (size_t) box->left;
		img_tap		rows;
		int			upper = 0,
					lower = 0;

		if (y % ROWS_A_LOOK == 0 && mr_interrupted(env))
		{
			mr_free(env, memory);
			return mr_fail(st, MR_CANCELED, "image resizing canceled");
		}
		if (half)
		{
			kernels->half_row(pair.planes[0], src->data + (size_t) (2 * y) * src->stride,
							  src->data + (size_t) (2 * y + 1) * src->stride, n);
			rows = (img_tap) {0, COEF_ONE, 0};
		}
		else
		{
			int			first;
			float		weight = locate(y, src->height, box->inner_h, &first);
			int			last = src->height - 1;
			int			a = first < 0 ? 0 : first > last ? last : first;
			int			b = first + 1 < 0 ? 0 : first + 1 > last ? last : first + 1;

			rows = tap_of(first, weight);
			upper = find_row(src, taps, n, a, b, &pair);
			lower = find_row(src, taps, n, b, a, &pair);
		}
		for (int c = 0; c < 3; c++)
		{
			/* planes are written in the order of prep: red is the last of BGR */
			int			plane = prep->bgr ? 2 - c : c;

			kernels->linear_mix(to + (size_t) plane * (size_t) box->width * (size_t) box->height,
								pair.planes[upper][c], pair.planes[lower][c], rows.low, rows.high, n,
								prep->scale, prep->mean[plane], prep->std[plane]);
		}
	}
	mr_free(env, memory);
	return MR_OK;
}

mr_code
img_letterbox_to_tensor(const mr_env *env, const uint8_t *data, size_t len, const img_limits *limits,
						const img_prep *prep, const img_letterbox *box, float *out, mr_status *st)
{
	img_pixels	pixels;
	mr_code		code = img_decode(env, data, len, limits, 0, 0, &pixels, st);

	if (code != MR_OK)
		return code;
	code = img_letterbox_pixels(env, &pixels, prep, box, out, st);
	img_free(env, &pixels);
	return code;
}
