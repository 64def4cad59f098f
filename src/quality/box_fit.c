/*
 * box_fit.c
 *	  Colour differences across the sides of boxes, where they are and elsewhere.
 *
 * Works on the small copy (longer side up to 240 pixels) and its integral
 * image: sums of R, G, B over any rectangle are four reads each.
 */
#include "quality/box_fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "image/facts.h"

#define STRIP 2					/* pixels inside and outside of a side */
#define SMALLEST 8				/* shorter side of a box, pixels of the small copy */
#define LARGEST 0.8				/* share of the image */
#define MOST_BOXES 16
#define REACH 60				/* of shifts, pixels of the small copy */
#define STEP 2
#define NEAR 5					/* a shift by less is a box that was drawn loosely */

const char *const qlt_move_names[QLT_MOVES] = {"", "mirrored", "flipped", "turned by 180 degrees", "turned right", "turned left", "shifted"};

typedef struct box_i
{
	int			x1,
				y1,
				x2,
				y2;
} box_i;

typedef struct canvas
{
	int			w,
				h;
	uint32_t   *sums;			/* (h + 1, w + 1, 3): of what lies above and to the left */
	float		squeeze;		/* scale of x over that of y: the small copy has whole dozens of rows */
	box_i		boxes[MOST_BOXES];
	int			n;
} canvas;

/* A coordinate of an axis on the other one. */
static int
to_x(const canvas *c, int y)
{
	return (int) lroundf((float) y * c->squeeze);
}

static int
to_y(const canvas *c, int x)
{
	return (int) lroundf((float) x / c->squeeze);
}

static mr_code
add_up(const mr_env *env, const img_pixels *p, canvas *c, mr_status *st)
{
	size_t		row = (size_t) (p->width + 1) * 3;

	c->w = p->width;
	c->h = p->height;
	c->sums = mr_alloc(env, row * (size_t) (p->height + 1) * sizeof(uint32_t));
	if (c->sums == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory for the sums of an image");
	memset(c->sums, 0, row * sizeof(uint32_t));
	for (int y = 0; y < p->height; y++)
	{
		const uint8_t *from = p->data + (size_t) y * p->stride;
		const uint32_t *above = c->sums + row * (size_t) y;
		uint32_t   *to = c->sums + row * (size_t) (y + 1);
		uint32_t	left[3] = {0, 0, 0};

		memset(to, 0, 3 * sizeof(uint32_t));
		for (int x = 0; x < p->width; x++)
			for (int k = 0; k < 3; k++)
			{
				left[k] += from[3 * x + k];
				to[3 * (x + 1) + k] = above[3 * (x + 1) + k] + left[k];
			}
	}
	return MR_OK;
}

/* Difference of the mean colours of two rectangles within the canvas, each of some pixels, 0..255. */
static float
difference(const canvas *c, box_i a, box_i b)
{
	size_t		row = (size_t) (c->w + 1) * 3;
	float		area_a = (float) ((a.x2 - a.x1) * (a.y2 - a.y1)),
				area_b = (float) ((b.x2 - b.x1) * (b.y2 - b.y1)),
				sum = 0;

	for (size_t k = 0; k < 3; k++)
	{
		const uint32_t *s = c->sums + k;
		uint32_t	of_a = s[row * (size_t) a.y2 + 3 * (size_t) a.x2] - s[row * (size_t) a.y1 + 3 * (size_t) a.x2]
			- s[row * (size_t) a.y2 + 3 * (size_t) a.x1] + s[row * (size_t) a.y1 + 3 * (size_t) a.x1];
		uint32_t	of_b = s[row * (size_t) b.y2 + 3 * (size_t) b.x2] - s[row * (size_t) b.y1 + 3 * (size_t) b.x2]
			- s[row * (size_t) b.y2 + 3 * (size_t) b.x1] + s[row * (size_t) b.y1 + 3 * (size_t) b.x1];

		sum += fabsf((float) of_a / area_a - (float) of_b / area_b);
	}
	return sum / 3;
}

/* Mean over the sides that do not lie at the image's edge; 0 for a box that leaves the image, or has no such side. */
static float
across_sides(const canvas *c, box_i b)
{
	float		sum = 0;
	int			sides = 0;

	if (b.x1 < -STRIP || b.y1 < -STRIP || b.x2 > c->w + STRIP || b.y2 > c->h + STRIP)
		return 0;
	b.x1 = b.x1 < 0 ? 0 : b.x1;
	b.y1 = b.y1 < 0 ? 0 : b.y1;
	b.x2 = b.x2 > c->w ? c->w : b.x2;
	b.y2 = b.y2 > c->h ? c->h : b.y2;
	if (b.x1 >= STRIP)
		sides++, sum += difference(c, (box_i) {b.x1 - STRIP, b.y1, b.x1, b.y2}, (box_i) {b.x1, b.y1, b.x1 + STRIP, b.y2});
	if (b.x2 + STRIP <= c->w)
		sides++, sum += difference(c, (box_i) {b.x2 - STRIP, b.y1, b.x2, b.y2}, (box_i) {b.x2, b.y1, b.x2 + STRIP, b.y2});
	if (b.y1 >= STRIP)
		sides++, sum += difference(c, (box_i) {b.x1, b.y1 - STRIP, b.x2, b.y1}, (box_i) {b.x1, b.y1, b.x2, b.y1 + STRIP});
	if (b.y2 + STRIP <= c->h)
		sides++, sum += difference(c, (box_i) {b.x1, b.y2 - STRIP, b.x2, b.y2}, (box_i) {b.x1, b.y2, b.x2, b.y2 + STRIP});
	return sides ? sum / (float) sides : 0;
}

static box_i
moved(const canvas *c, box_i b, qlt_move move, int dx, int dy)
{
	switch (move)
	{
		case QLT_MIRROR:
			return (box_i) {c->w - b.x2, b.y1, c->w - b.x1, b.y2};
		case QLT_FLIP:
			return (box_i) {b.x1, c->h - b.y2, b.x2, c->h - b.y1};
		case QLT_TURN_180:
			return (box_i) {c->w - b.x2, c->h - b.y2, c->w - b.x1, c->h - b.y1};
		case QLT_TURN_RIGHT:	/* boxes of an image of h x w */
			return (box_i) {c->w - to_x(c, b.y2), to_y(c, b.x1), c->w - to_x(c, b.y1), to_y(c, b.x2)};
		case QLT_TURN_LEFT:
			return (box_i) {to_x(c, b.y1), c->h - to_y(c, b.x2), to_x(c, b.y2), c->h - to_y(c, b.x1)};
		default:
			return (box_i) {b.x1 + dx, b.y1 + dy, b.x2 + dx, b.y2 + dy};
	}
}

static float
fit_of(const canvas *c, qlt_move move, int dx, int dy)
{
	float		sum = 0;

	for (int i = 0; i < c->n; i++)
		sum += across_sides(c, moved(c, c->boxes[i], move, dx, dy));
	return sum / (float) c->n;
}

/* Boxes in pixels of the canvas. */
static void
take_boxes(canvas *c, const qlt_box *boxes, int n, float scale_x, float scale_y)
{
	int			every = (n + MOST_BOXES - 1) / MOST_BOXES;
	float		w = (float) c->w,
				h = (float) c->h;

	c->squeeze = scale_x / scale_y;
	for (int i = 0; i < n; i += every)
	{
		qlt_box		b = {boxes[i].x1 * scale_x, boxes[i].y1 * scale_y, boxes[i].x2 * scale_x, boxes[i].y2 * scale_y};

		/* also false for what is no number */
		if (!(b.x2 - b.x1 >= SMALLEST && b.y2 - b.y1 >= SMALLEST && (b.x2 - b.x1) * (b.y2 - b.y1) <= LARGEST * w * h
			  && b.x1 > -w && b.y1 > -h && b.x2 < 2 * w && b.y2 < 2 * h))
			continue;
		c->boxes[c->n++] = (box_i) {(int) lroundf(b.x1), (int) lroundf(b.y1), (int) lroundf(b.x2), (int) lroundf(b.y2)};
	}
}

static void
consider(const canvas *c, qlt_move move, int dx, int dy, qlt_box_fit *out)
{
	float		fit = fit_of(c, move, dx, dy);

	if (fit > out->best)
	{
		out->best = fit;
		out->move = move;
		out->dx = (float) dx;
		out->dy = (float) dy;
	}
}

mr_code
qlt_fit_boxes(const mr_env *env, const img_pixels *src, const qlt_box *boxes, int n, qlt_box_fit *out, mr_status *st)
{
	img_pixels	small = {0};
	canvas		c = {0};
	mr_code		code;

	memset(out, 0, sizeof(*out));
	code = img_small(env, src, &small, st);
	if (code != MR_OK)
		return code;
	code = add_up(env, &small, &c, st);
	img_free(env, &small);
	if (code != MR_OK)
		return code;
	if (c.w >= 4 * STRIP && c.h >= 4 * STRIP)
		take_boxes(&c, boxes, n, (float) c.w / (float) src->width, (float) c.h / (float) src->height);
	if (c.n > 0)
	{
		out->boxes = c.n;
		out->fit = out->best = fit_of(&c, QLT_STAY, 0, 0);
		for (qlt_move move = QLT_MIRROR; move < QLT_SHIFT; move++)
			consider(&c, move, 0, 0, out);
		for (int dy = -REACH; dy <= REACH; dy += STEP)
		{
			if (mr_interrupted(env))
			{
				mr_free(env, c.sums);
				return mr_fail(st, MR_CANCELED, "looking at boxes canceled");
			}
			for (int dx = -REACH; dx <= REACH; dx += STEP)
				if (abs(dx) + abs(dy) >= NEAR)
					consider(&c, QLT_SHIFT, dx, dy, out);
		}
		out->dx *= (float) src->width / (float) c.w;
		out->dy *= (float) src->height / (float) c.h;
	}
	mr_free(env, c.sums);
	return MR_OK;
}
