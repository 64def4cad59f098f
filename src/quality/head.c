/*
 * head.c
 *	  From a detector's output to candidates.
 *
 * A box is cx, cy, w, h in the input's pixels, then (YOLOv5 to v7) how sure it
 * is that there is an object at all, then a score for each class.  Networks with
 * suppression inside give x1, y1, x2, y2, score, class, and those exported
 * with ONNX's NonMaxSuppression a batch number, x1, y1, x2, y2, class, score.
 *
 * The columns of YOLOv8's layout lie apart, so scores are compared for BLOCK boxes
 * at once, class after class: one pass over the output in the order in which it
 * lies.  Only what is above the confidence is looked at again.
 */
#include "quality/head.h"
#include "quality/nms.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define BLOCK 1024
#define MAX_NUMBERS 10005		/* of a box: a block of them is read within milliseconds */

/* ---- which ---- */

/* Boxes that a network of this input has: a cell each of strides 8, 16, 32 (and 4 or
 * 64), times the anchors of a cell. */
static bool
is_grid(int64_t n, int width, int height)
{
	int64_t		cells[5];

	for (int i = 0; i < 5; i++)
		cells[i] = (int64_t) (width / (4 << i)) * (height / (4 << i));
	for (int anchors = 1; anchors <= 3; anchors += 2)
		for (int first = 0; first <= 1; first++)
			for (int last = 3; last <= 4; last++)
			{
				int64_t		sum = 0;

				for (int i = first; i <= last; i++)
					sum += cells[i];
				if (n == sum * anchors)
					return true;
			}
	return false;
}

static mr_code
no_head(const int64_t *dims, int rank, mr_status *st)
{
	char		text[128] = "";
	size_t		used = 0;

	for (int i = 0; i < rank && used < sizeof(text); i++)
		used += (size_t) snprintf(text + used, sizeof(text) - used, "%s%" PRId64, i ? " x " : "", dims[i] < 0 ? 1 : dims[i]);
	mr_fail(st, MR_INVALID, "an output of %s numbers is not that of a detector", rank == 0 ? "no" : text);
	mr_hint(st, "Known are 1 x (4 + classes) x boxes (YOLOv8, v11), 1 x boxes x (5 + classes) (YOLOv5) and "
			"1 x boxes x 6 (suppression inside); the specification's \"output\" names another output.");
	return MR_INVALID;
}

mr_code
qlt_find_head(const int64_t *dims, int rank, int width, int height, int n_labels, qlt_head *out, mr_status *st)
{
	int64_t		a,
				b;
	bool		columns;
	int64_t		numbers;

	memset(out, 0, sizeof(*out));
	if ((rank != 2 && rank != 3) || (rank == 3 && dims[0] != 1 && dims[0] != -1))
		return no_head(dims, rank, st);
	a = dims[rank - 2];
	b = dims[rank - 1];
	if (a < 0 || b < 0 || a > INT32_MAX || b > INT32_MAX)
		return no_head(dims, rank, st);

	/* one class of YOLOv5 has 6 numbers too, but a box for every cell */
	if ((b == 6 && (rank == 2 ? a > 1 : !is_grid(a, width, height))) || (b == 7 && rank == 2 && a > 1))
	{
		*out = (qlt_head) {.layout = qlt_final, .n_boxes = (int) a, .n_numbers = (int) b};
		return MR_OK;
	}
	if (rank == 2)
		return no_head(dims, rank, st);
	columns = is_grid(b, width, height) || (b > a && !is_grid(a, width, height));
	numbers = columns ? a : b;
	if (numbers < 5 || numbers > MAX_NUMBERS)
		return no_head(dims, rank, st);
	out->layout = columns ? qlt_columns : qlt_rows;
	out->n_boxes = (int) (columns ? b : a);
	out->n_numbers = (int) numbers;
	out->objectness = n_labels > 0 ? numbers == 5 + n_labels : !columns && numbers > 5;
	out->n_classes = (int) numbers - 4 - out->objectness;
	if (n_labels > 0 && out->n_classes != n_labels)
	{
		mr_fail(st, MR_INVALID, "a detector of %d labels gives %d or %d numbers for a box, not %" PRId64,
				n_labels, 4 + n_labels, 5 + n_labels, numbers);
		mr_hint(st, "The labels of its specification must be those of its classes, in their order.");
		return MR_INVALID;
	}
	return MR_OK;
}

/* ---- candidates ---- */

typedef struct bag
{
	qlt_detection *d;
	int			n;
	int			room;
} bag;

/* Twice as many as wanted fit: when they are full the surer half stays. */
static void
put(bag *b, qlt_box box, float score, int class_id, int index)
{
	/* a sum that is not finite has a part that is not: one test for all */
	if (!isfinite(box.x1 + box.y1 + box.x2 + box.y2 + score))
		return;
	if (b->n == b->room)
	{
		qlt_sort(b->d, b->n);
		b->n = QLT_MAX_CANDIDATES;
	}
	b->d[b->n++] = (qlt_detection) {box, score, class_id, index};
}

static inline qlt_box
from_centre(float cx, float cy, float w, float h)
{
	return (qlt_box) {cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2};
}

static void
read_columns(const qlt_head *head, const float *numbers, int first, int count, float confidence, bag *b)
{
	size_t		n = (size_t) head->n_boxes;
	const float *at = numbers + first;
	const float *object = at + 4 * n;
	const float *classes = object + (head->objectness ? n : 0);
	float		best[BLOCK];

	for (int i = 0; i < count; i++)
		best[i] = -INFINITY;	/* which NaN is not more than */
	for (int c = 0; c < head->n_classes; c++)
	{
		const float *score = classes + (size_t) c * n;

		for (int i = 0; i < count; i++)
			best[i] = score[i] > best[i] ? score[i] : best[i];
	}
	for (int i = 0; i < count; i++)
	{
		float		score = best[i];
		int			c = 0;

		if (head->objectness)
			score = object[i] > confidence ? score * object[i] : 0;
		if (!(score > confidence))
			continue;
		while (c < head->n_classes - 1 && classes[(size_t) c * n + (size_t) i] != best[i])
			c++;
		put(b, from_centre(at[i], at[n + i], at[2 * n + i], at[3 * n + i]), score, c, first + i);
	}
}

static void
read_rows(const qlt_head *head, const float *numbers, int first, int count, float confidence, bag *b)
{
	for (int i = 0; i < count; i++)
	{
		const float *at = numbers + (size_t) (first + i) * (size_t) head->n_numbers;
		const float *classes = at + 4 + head->objectness;
		float		score = -INFINITY;
		int			best = 0;

		if (head->objectness && !(at[4] > confidence))
			continue;
		for (int c = 0; c < head->n_classes; c++)
			if (classes[c] > score)
				score = classes[best = c];
		if (head->objectness)
			score *= at[4];
		if (score > confidence)
			put(b, from_centre(at[0], at[1], at[2], at[3]), score, best, first + i);
	}
}

static void
read_final(const qlt_head *head, const float *numbers, int first, int count, float confidence, bag *b)
{
	bool		batch = head->n_numbers == 7;

	for (int i = 0; i < count; i++)
	{
		const float *at = numbers + (size_t) (first + i) * (size_t) head->n_numbers;
		float		score = at[batch ? 6 : 4];
		float		label = at[5];

		if (batch)
			at++;
		if (score > confidence && label >= 0 && label < 1e6f)
			put(b, (qlt_box) {at[0], at[1], at[2], at[3]}, score, (int) label, first + i);
	}
}

static float
clip(float v, float pad, float gain, float most)
{
	v = (v - pad) / gain;
	return v < 0 ? 0 : v > most ? most : v;
}

/* Each side has its own gain: both were rounded to whole pixels. */
void
qlt_to_image(const img_letterbox *box, qlt_detection *d, int n)
{
	float		left = (float) box->left,
				top = (float) box->top,
				width = (float) box->src_w,
				height = (float) box->src_h,
				gain_x = (float) ((double) box->inner_w / box->src_w),
				gain_y = (float) ((double) box->inner_h / box->src_h);

	for (qlt_box * b; n > 0; n--, d++)
	{
		b = &d->box;
		b->x1 = clip(b->x1, left, gain_x, width);
		b->x2 = clip(b->x2, left, gain_x, width);
		b->y1 = clip(b->y1, top, gain_y, height);
		b->y2 = clip(b->y2, top, gain_y, height);
	}
}

mr_code
qlt_read_head(const mr_env *env, const qlt_head *head, const float *numbers, float confidence,
			  qlt_detection **out, int *n, mr_status *st)
{
	bag			b = {.room = head->n_boxes < 2 * QLT_MAX_CANDIDATES ? head->n_boxes : 2 * QLT_MAX_CANDIDATES};

	*n = 0;
	*out = b.d = mr_alloc(env, sizeof(qlt_detection) * (size_t) (b.room > 0 ? b.room : 1));
	if (b.d == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory for %d boxes", b.room);
	for (int first = 0; first < head->n_boxes; first += BLOCK)
	{
		int			count = head->n_boxes - first < BLOCK ? head->n_boxes - first : BLOCK;

		if (mr_interrupted(env))
		{
			mr_free(env, b.d);
			*out = NULL;
			return mr_fail(st, MR_CANCELED, "reading a detector's output canceled");
		}
		switch (head->layout)
		{
			case qlt_columns:
				read_columns(head, numbers, first, count, confidence, &b);
				break;
			case qlt_rows:
				read_rows(head, numbers, first, count, confidence, &b);
				break;
			case qlt_final:
				read_final(head, numbers, first, count, confidence, &b);
				break;
		}
	}
	if (b.n > QLT_MAX_CANDIDATES)
	{
		qlt_sort(b.d, b.n);
		b.n = QLT_MAX_CANDIDATES;
	}
	*n = b.n;
	return MR_OK;
}
