/*
 * annotate.c
 *	  Boxes and labels on an image, so that all of them can be seen.
 *
 * Boxes go from the largest to the smallest, each with a thin dark line inside
 * and outside, without which a box on its own colour cannot be seen.  Labels
 * come last, most confident first (the order of the objects): for each the
 * places above, within, below and beside its box are weighed by how much of
 * the labels there are and of small boxes they would hide.
 */
#include "image/draw.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct placed
{
	const img_object *object;
	img_rect	box;			/* clipped; at least a pixel */
	int64_t		area;
	img_rect	label;			/* x1 <= x0: none */
	int			order;
} placed;

static int
rounded(float v, int low, int high)
{
	/* comparisons first: the conversion of what does not fit is undefined */
	return v <= (float) low ? low : v >= (float) high ? high : (int) lrintf(v);
}

/* The box in whole pixels of the image; false if there is nothing of it to draw. */
static bool
clip(const img_object *o, int width, int height, img_rect *r)
{
	if (!(o->x1 < o->x2 && o->y1 < o->y2))	/* false for NaN */
		return false;
	if (o->x2 <= 0 || o->y2 <= 0 || o->x1 >= (float) width || o->y1 >= (float) height)
		return false;
	*r = (img_rect) {rounded(o->x1, 0, width - 1), rounded(o->y1, 0, height - 1),
	rounded(o->x2, 1, width), rounded(o->y2, 1, height)};
	if (r->x1 <= r->x0)
		r->x1 = r->x0 + 1;
	if (r->y1 <= r->y0)
		r->y1 = r->y0 + 1;
	return true;
}

static int
larger_first(const void *a, const void *b)
{
	const placed *p = a,
			   *q = b;

	if (p->area != q->area)
		return p->area > q->area ? -1 : 1;
	return p->order - q->order;
}

static int
by_order(const void *a, const void *b)
{
	return ((const placed *) a)->order - ((const placed *) b)->order;
}

static img_colour
darker(img_colour c)
{
	return (img_colour) {c.r / 3, c.g / 3, c.b / 3};
}

static void
draw_box(img_pixels *to, const placed *p, int line_width)
{
	img_colour	c = img_class_colour(p->object->class_id);
	img_rect	r = p->box;
	int			shorter = r.x1 - r.x0 < r.y1 - r.y0 ? r.x1 - r.x0 : r.y1 - r.y0;
	int			thick = line_width;

	/* something of a small object stays to be seen */
	if (thick > shorter / 6)
		thick = shorter / 6 < 1 ? 1 : shorter / 6;
	if (line_width > 1)
	{
		img_frame(to, (img_rect) {r.x0 - 1, r.y0 - 1, r.x1 + 1, r.y1 + 1}, 1, darker(c));
		if (2 * (thick + 1) < shorter)
			img_frame(to, (img_rect) {r.x0 + thick, r.y0 + thick, r.x1 - thick, r.y1 - thick}, 1, darker(c));
	}
	img_frame(to, r, thick, c);
}

static int64_t
overlap(img_rect a, img_rect b)
{
	int			w = (a.x1 < b.x1 ? a.x1 : b.x1) - (a.x0 > b.x0 ? a.x0 : b.x0);
	int			h = (a.y1 < b.y1 ? a.y1 : b.y1) - (a.y0 > b.y0 ? a.y0 : b.y0);

	return w > 0 && h > 0 ? (int64_t) w * h : 0;
}

/* Moved into the image. */
static img_rect
inside(img_rect r, int width, int height)
{
	int			dx = r.x1 > width ? width - r.x1 : 0,
				dy = r.y1 > height ? height - r.y1 : 0;

	if (r.x0 + dx < 0)
		dx = -r.x0;
	if (r.y0 + dy < 0)
		dy = -r.y0;
	return (img_rect) {r.x0 + dx, r.y0 + dy, r.x1 + dx, r.y1 + dy};
}

/*
 * What a label would hide there: labels count most, then small boxes, where
 * hiding means half of the label's size or more.  *labels: pixels of other labels.
 */
static double
cost_of(img_rect r, const placed *all, int n, int self, int64_t *labels)
{
	int64_t		area = (int64_t) (r.x1 - r.x0) * (r.y1 - r.y0);
	double		cost = 0;

	*labels = 0;
	for (int i = 0; i < n; i++)
	{
		if (i < self && all[i].label.x1 > all[i].label.x0)
			*labels += overlap(r, all[i].label);
		if (all[i].area < 4 * area)
			cost += (double) overlap(r, all[i].box) / (double) all[i].area * (double) area * (i == self ? 0.5 : 1);
	}
	return cost + 8 * (double) *labels;
}

static void
place_label(placed *all, int n, int self, int label_w, int label_h, int width, int height, bool always)
{
	img_rect	b = all[self].box;
	int			places[6][2] = {{b.x0, b.y0 - label_h}, {b.x0, b.y0}, {b.x0, b.y1},
	{b.x1 - label_w, b.y0 - label_h}, {b.x1, b.y0}, {b.x0 - label_w, b.y0}};
	double		least = INFINITY;
	int64_t		hidden = 0;

	for (int i = 0; i < 6; i++)
	{
		img_rect	r = {places[i][0], places[i][1], places[i][0] + label_w, places[i][1] + label_h};
		img_rect	kept = inside(r, width, height);
		int64_t		labels;
		/* the first places are the expected ones; far from its box a label says nothing */
		double		cost = cost_of(kept, all, n, self, &labels) + 0.05 * i * label_w * label_h +
			(abs(kept.x0 - r.x0) + abs(kept.y0 - r.y0)) * (double) label_h * 0.5;

		if (cost < least)
		{
			least = cost;
			hidden = labels;
			all[self].label = kept;
		}
	}
	if (!always && 20 * hidden > (int64_t) label_w * label_h)
		all[self].label = (img_rect) {0, 0, 0, 0};
}

mr_code
img_annotate(const mr_env *env, img_pixels *to, img_font *font, const img_object *objects, int n,
			 const img_annotation *how, mr_status *st)
{
	double		side = (to->width + to->height) / 2.0;
	int			line_width = how->line_width > 0 ? how->line_width : (int) lrint(side * 0.003 + 0.5);
	int			font_size = how->font_size > 0 ? how->font_size : (int) lrint(side * 0.02);
	int			pad;
	placed	   *all = mr_alloc(env, sizeof(placed) * (size_t) (n > 0 ? n : 1));
	int			kept = 0;
	mr_code		code = MR_OK;

	if (all == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory for %d boxes", n);
	if (how->font_size <= 0)
		font_size = font_size < 11 ? 11 : font_size > 64 ? 64 : font_size;
	img_font_size(font, font_size);
	pad = 1 + font_size / 8;
	for (int i = 0; i < n; i++)
	{
		placed	   *p = &all[kept];

		*p = (placed) {.object = &objects[i],.order = i};
		if (!clip(&objects[i], to->width, to->height, &p->box))
			continue;
		p->area = (int64_t) (p->box.x1 - p->box.x0) * (p->box.y1 - p->box.y0);
		kept++;
	}

	qsort(all, (size_t) kept, sizeof(placed), larger_first);
	for (int i = 0; i < kept && code == MR_OK; i++)
	{
		if (i % 16 == 0 && mr_interrupted(env))
			code = mr_fail(st, MR_CANCELED, "drawing canceled");
		else
			draw_box(to, &all[i], line_width);
	}
	qsort(all, (size_t) kept, sizeof(placed), by_order);
	for (int i = 0; i < kept && code == MR_OK; i++)
	{
		const img_object *o = all[i].object;
		img_colour	c = img_class_colour(o->class_id);
		int			text,
					label_h;

		if (mr_interrupted(env))
			code = mr_fail(st, MR_CANCELED, "drawing canceled");
		if (code != MR_OK || o->label == NULL || o->label_len == 0)
			continue;
		label_h = img_font_height(font) + pad;
		/* of a very small image a label would leave nothing */
		if (label_h * 4 > to->height && !how->all_labels)
			continue;
		text = img_text_width(font, o->label, o->label_len, to->width - 2 * pad);
		if (text == 0)
			continue;
		place_label(all, kept, i, text + 2 * pad, label_h, to->width, to->height, how->all_labels);
		if (all[i].label.x1 <= all[i].label.x0)
			continue;
		img_fill(to, all[i].label, c);
		img_text(to, font, all[i].label.x0 + pad, all[i].label.y0 + pad / 2, text, o->label, o->label_len, img_text_colour(c));
	}
	mr_free(env, all);
	return code;
}
