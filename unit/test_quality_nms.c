/*
 * test_quality_nms.c
 *	  Non-maximum suppression against a plain restatement of torchvision's, and
 *	  heads of detectors: their shapes, their boxes, and a fuzz of bad numbers.
 */
#include "quality/head.h"
#include "quality/nms.h"
#include "unit.h"

#include <math.h>

static const mr_env *env = &mr_env_malloc;
static uint64_t state = 88172645463325252u;

static uint32_t
draw(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t) (state >> 33) % below;
}

/* ---- suppression ---- */

#define MOST 400

/* Boxes on a small grid, so that scores tie and IoUs are simple fractions. */
static void
make(qlt_detection *d, int n, int classes)
{
	for (int i = 0; i < n; i++)
	{
		float		x = (float) draw(20),
					y = (float) draw(20);

		d[i] = (qlt_detection) {{x, y, x + (float) draw(10), y + (float) draw(10)}, (float) draw(8) / 8, (int32_t) draw((uint32_t) classes), i};
	}
}

/* The surest left, again and again; marks, not lists.  Returns how many; order[] has their indices. */
static int
plain(const qlt_detection *d, int n, bool agnostic, double iou, int max, int *order)
{
	bool		gone[MOST] = {false};
	int			kept = 0;

	while (kept < max)
	{
		int			best = -1;

		for (int i = 0; i < n; i++)
			if (!gone[i] && (best < 0 || d[i].score > d[best].score))
				best = i;
		if (best < 0)
			break;
		order[kept++] = best;
		gone[best] = true;
		for (int i = 0; i < n; i++)
			if (!gone[i] && (agnostic || d[i].class_id == d[best].class_id) && qlt_iou(&d[best].box, &d[i].box) > iou)
				gone[i] = true;
	}
	return kept;
}

static void
compare(void)
{
	int			bad = 0;

	for (int t = 0; t < 1000; t++)
	{
		qlt_detection d[MOST],
					copy[MOST];
		int			order[MOST];
		int			n = (int) draw(MOST),
					left = n,
					max = 1 + (int) draw(MOST),
					kept;
		bool		agnostic = draw(2);
		double		iou = draw(11) / 10.0;

		make(d, n, 1 + (int) draw(5));
		memcpy(copy, d, sizeof(d));
		kept = plain(copy, n, agnostic, iou, max, order);
		bad += qlt_nms(env, d, &left, agnostic ? qlt_nms_agnostic : qlt_nms_class, iou, 0, max, NULL) != MR_OK || left != kept;
		for (int i = 0; i < left && i < kept; i++)
			bad += d[i].index != order[i];
	}
	ok(bad == 0, "1000 cases with ties equal the plain algorithm (%d differ)", bad);
}

static void
corners(void)
{
	const qlt_box a = {0, 0, 4, 5};
	const qlt_box b = {0, 0, 4, 3};	/* IoU 3/5 */
	const qlt_box none = {1, 1, 1, 1};
	qlt_detection d[2] = {{a, 0.9f, 0, 0}, {b, 0.8f, 0, 1}};
	qlt_nms_kind kind;
	int			n = 2;

	ok(isnan(qlt_iou(&none, &none)) && qlt_iou(&a, &none) == 0, "boxes without an area");
	qlt_nms(env, d, &n, qlt_nms_class, 0.6, 0, 300, NULL);
	ok(n == 1, "an IoU of 3/5, a little more than 0.6 as a float, is more than 0.6 (torchvision)");
	n = 2;
	d[1] = (qlt_detection) {b, 0.8f, 0, 1};
	qlt_nms(env, d, &n, qlt_nms_class, (double) 0.6f, 0, 300, NULL);
	ok(n == 2, "but not more than itself");
	n = 2;
	qlt_nms(env, d, &n, qlt_nms_soft, 0, 0.1f, 300, NULL);
	ok(n == 2 && fabsf(d[1].score - 0.8f * expf(-0.36f / QLT_SOFT_SIGMA)) < 1e-6f, "soft: the score decays by the Gaussian");
	qlt_nms(env, d, &n, qlt_nms_soft, 0, 0.5f, 300, NULL);
	ok(n == 1, "soft: and goes when it is not sure enough");
	ok(qlt_nms_by_name("agnostic", &kind) && kind == qlt_nms_agnostic && !qlt_nms_by_name("hard", &kind), "names");
}

/* Soft: the order is that of the decayed scores. */
static void
soft(void)
{
	int			bad = 0;

	for (int t = 0; t < 200; t++)
	{
		qlt_detection d[MOST];
		int			n = (int) draw(MOST);

		make(d, n, 3);
		bad += qlt_nms(env, d, &n, qlt_nms_soft, 0, 0.2f, MOST, NULL) != MR_OK;
		for (int i = 0; i < n; i++)
			bad += !(d[i].score > 0.2f) || (i > 0 && d[i].score > d[i - 1].score);
	}
	ok(bad == 0, "soft: surest first, none below the confidence");
}

/* ---- heads ---- */

static bool
head_is(int64_t a, int64_t b, int labels, qlt_layout layout, bool objectness, int classes)
{
	const int64_t dims[3] = {-1, a, b};
	qlt_head	h;
	mr_status	st;

	return qlt_find_head(dims, 3, 640, 640, labels, &h, &st) == MR_OK && h.layout == layout &&
		h.objectness == objectness && h.n_classes == classes && h.n_boxes == (layout == qlt_columns ? b : a);
}

static bool
refused(int rank, const int64_t *dims, int labels)
{
	qlt_head	h;
	mr_status	st = {0};

	return qlt_find_head(dims, rank, 640, 640, labels, &h, &st) == MR_INVALID && st.message[0] && st.hint[0];
}

static void
shapes(void)
{
	const int64_t logits[] = {1, 1000},
				six[] = {-1, 6},
				masks[] = {1, 32, 160, 160},
				four[] = {1, 4, 8400},
				yolo[] = {1, 84, 8400},
				huge[] = {1, 8400, 1000000};

	ok(head_is(84, 8400, 80, qlt_columns, false, 80) && head_is(84, 8400, 0, qlt_columns, false, 80), "1 x 84 x 8400");
	ok(head_is(25200, 85, 80, qlt_rows, true, 80) && head_is(25200, 85, 0, qlt_rows, true, 80), "1 x 25200 x 85");
	ok(head_is(8400, 84, 80, qlt_rows, false, 80), "the labels say that there is no objectness");
	ok(head_is(85, 8400, 80, qlt_columns, true, 80), "... or that there is");
	ok(head_is(5, 8400, 1, qlt_columns, false, 1) && head_is(6, 8400, 0, qlt_columns, false, 2), "one and two classes");
	ok(head_is(25200, 6, 0, qlt_rows, true, 1) && head_is(300, 6, 80, qlt_final, false, 0), "six numbers: one class, or suppressed boxes");
	ok(head_is(84, 8, 80, qlt_rows, false, 4) == false && head_is(84, 21, 80, qlt_columns, false, 80) == false,
	   "few boxes are not taken for numbers");
	ok(refused(2, logits, 0) && refused(2, six, 0) && refused(4, masks, 0) && refused(3, four, 0) && refused(3, huge, 0),
	   "classifiers, masks, too few or many numbers are refused");
	ok(refused(3, yolo, 20), "other labels are refused");
}

/* The same boxes in every layout give the same candidates. */
static void
layouts(void)
{
	enum {N = 3000, C = 7};
	static float columns[(4 + C) * N],
				rows[N * (5 + C)],
				final[N * 6];
	const qlt_head heads[3] = {{qlt_columns, N, 4 + C, false, C}, {qlt_rows, N, 5 + C, true, C}, {qlt_final, N, 6, false, 0}};
	const float *numbers[3] = {columns, rows, final};
	qlt_detection *found[3];
	int			n[3],
				bad = 0;

	for (int i = 0; i < N; i++)
	{
		int			best = 0;

		for (int k = 0; k < 4; k++)
			rows[i * (5 + C) + k] = columns[k * N + i] = (float) draw(640);
		rows[i * (5 + C) + 4] = 1;
		for (int c = 0; c < C; c++)
		{
			rows[i * (5 + C) + 5 + c] = columns[(4 + c) * N + i] = (float) draw(1000) / 1000;
			if (columns[(4 + c) * N + i] > columns[(4 + best) * N + i])
				best = c;
		}
		for (int k = 0; k < 4; k++)
			final[i * 6 + k] = columns[(k & 1) * N + i] + (k < 2 ? -1 : 1) * columns[(2 + (k & 1)) * N + i] / 2;
		final[i * 6 + 4] = columns[(4 + best) * N + i];
		final[i * 6 + 5] = (float) best;
	}
	for (int h = 0; h < 3; h++)
		bad += qlt_read_head(env, &heads[h], numbers[h], 0.9f, &found[h], &n[h], NULL) != MR_OK;
	for (int h = 1; h < 3; h++)
		bad += n[h] != n[0] || memcmp(found[h], found[0], sizeof(qlt_detection) * (size_t) n[0]) != 0;
	ok(bad == 0 && n[0] > 100 && n[0] < N, "%d of %d boxes, the same in three layouts", n[0], N);
	for (int h = 0; h < 3; h++)
		mr_free(env, found[h]);
}

static float
wild(void)
{
	static const float values[] = {NAN, INFINITY, -INFINITY, 0, -0.0f, -1, 1e38f, -1e38f, 1e-40f, 0.5f, 640, 1};

	return draw(3) ? (float) draw(1000) / 1000 : values[draw(sizeof(values) / sizeof(values[0]))];
}

static void
fuzz(void)
{
	enum {ROOM = 90000};
	float	   *numbers = malloc(sizeof(float) * ROOM);
	const img_letterbox box = {1920, 1080, 640, 640, 640, 360, 0, 140};
	int			bad = 0;

	for (int t = 0; t < 600; t++)
	{
		qlt_head	h = {(qlt_layout) draw(3), 0, 0, false, 0};
		qlt_detection *d;
		int			n;

		h.n_numbers = h.layout == qlt_final ? 6 + (int) draw(2) : 6 + (int) draw(20);
		h.objectness = h.layout != qlt_final && draw(2);
		h.n_classes = h.layout == qlt_final ? 0 : h.n_numbers - 4 - h.objectness;
		h.n_boxes = (int) draw(ROOM / (uint32_t) h.n_numbers / (1u << draw(8)) + 1);
		for (int i = 0; i < h.n_boxes * h.n_numbers; i++)
			numbers[i] = wild();
		bad += qlt_read_head(env, &h, numbers, (float) draw(10) / 10, &d, &n, NULL) != MR_OK;
		bad += qlt_nms(env, d, &n, (qlt_nms_kind) draw(4), 0.45, 0.1f, 300, NULL) != MR_OK || n > 300;
		qlt_to_image(&box, d, n);
		for (int i = 0; i < n; i++)
			bad += !(d[i].box.x1 >= 0 && d[i].box.x2 <= 1920 && d[i].box.y1 >= 0 && d[i].box.y2 <= 1080) || !isfinite(d[i].score) ||
				d[i].class_id < 0 || (i > 0 && d[i].score > d[i - 1].score);
		mr_free(env, d);
	}
	ok(bad == 0, "600 heads of NaN, infinite, negative and huge numbers give boxes within the image");
	free(numbers);
}

/* More boxes than candidates: the surest stay. */
static void
many(void)
{
	enum {N = 100000};
	float	   *numbers = malloc(sizeof(float) * N * 5);
	const qlt_head h = {qlt_columns, N, 5, false, 1};
	qlt_detection *d;
	int			n,
				bad = 0;

	for (int i = 0; i < N; i++)
	{
		for (int k = 0; k < 4; k++)
			numbers[k * N + i] = (float) (10 * (i % 300) + 1);
		numbers[4 * N + i] = (float) (i * 7919 % N + 1) / N;
	}
	bad += qlt_read_head(env, &h, numbers, 0, &d, &n, NULL) != MR_OK || n != QLT_MAX_CANDIDATES;
	for (int i = 0; i < n; i++)
		bad += !(d[i].score > 1 - 0.30001f);
	ok(bad == 0, "of 100,000 boxes the surest 30,000 are candidates");
	bad = qlt_nms(env, d, &n, qlt_nms_class, 0.45, 0, 30000, NULL) != MR_OK;
	ok(bad == 0 && n > 0 && n <= 300, "and %d are kept", n);
	mr_free(env, d);
	d = NULL;
	bad = qlt_read_head(env, &(qlt_head) {qlt_rows, 0, 85, true, 80}, numbers, 0, &d, &n, NULL) != MR_OK || n != 0;
	ok(bad == 0, "no boxes at all");
	mr_free(env, d);
	free(numbers);
}

int
main(void)
{
	compare();
	corners();
	soft();
	shapes();
	layouts();
	fuzz();
	many();
	return done_testing();
}
