/*
 * damage.c
 *	  What augmentation leaves in images: empty corners, copied tiles.
 *
 * Both look at the small copy, take a few thousand to a few 100,000 steps and
 * need no memory.
 */
#include "image/facts.h"

#include <math.h>
#include <stdlib.h>

/*
 * Corners.  An image rotated (or sheared) on its own canvas leaves a right
 * triangle of the fill colour in each corner, the opposite two congruent.
 * Letterboxes leave rectangles, vignettes no even colour, dark scenes no
 * straight edges.
 */
#define NEAR_COLOUR 40			/* in a channel: JPEG rings this far beside an edge */
#define EVEN_COLOUR 8			/* on average */

typedef struct triangle
{
	bool		found;
	int			along_x,		/* legs, pixels */
				along_y;
	int			pixels;
	const uint8_t *colour;
} triangle;

/* Steps through an image from a corner: i along one side, j inwards. */
typedef struct view
{
	const uint8_t *origin;
	ptrdiff_t	step_i,
				step_j;
	int			n_i,
				n_j;
} view;

static inline int
colour_distance(const uint8_t *a, const uint8_t *b)
{
	int			r = abs(a[0] - b[0]),
				g = abs(a[1] - b[1]),
				l = abs(a[2] - b[2]);

	return r > g ? (r > l ? r : l) : (g > l ? g : l);
}

/* Pixels of the corner's colour from place i of the side inwards; *off adds up how far they are from it. */
static int
run_inwards(const view *v, int i, int *off)
{
	const uint8_t *p = v->origin + i * v->step_i;
	int			n = 0;

	for (int d; n < v->n_j && (d = colour_distance(p, v->origin)) <= NEAR_COLOUR; n++, p += v->step_j)
		*off += d;
	return n;
}

static int
run_along(const view *v)
{
	int			n = 0;

	while (n < v->n_i && colour_distance(v->origin + n * v->step_i, v->origin) <= NEAR_COLOUR)
		n++;
	return n;
}

/* Is what has the corner's colour a right triangle with a straight edge? */
static triangle
corner_triangle(const img_pixels *img, bool right, bool lower)
{
	view		v = {img->data, 3, (ptrdiff_t) img->stride, img->width, img->height};
	triangle	t = {false};
	bool		turned;
	int			long_leg,
				short_leg,
				off = 0;

	if (right)
	{
		v.origin += (ptrdiff_t) (img->width - 1) * 3;
		v.step_i = -v.step_i;
	}
	if (lower)
	{
		v.origin += (ptrdiff_t) (img->height - 1) * (ptrdiff_t) img->stride;
		v.step_j = -v.step_j;
	}
	t.colour = v.origin;
	long_leg = run_along(&v);
	short_leg = run_inwards(&v, 0, &off);
	turned = short_leg > long_leg;
	t.along_x = long_leg;
	t.along_y = short_leg;
	if (turned)
	{
		v = (view) {v.origin, v.step_j, v.step_i, v.n_j, v.n_i};
		long_leg = t.along_y;
		short_leg = t.along_x;
	}
	if (short_leg < 2 || long_leg < 3 || 16 * long_leg < v.n_i ||
		10 * long_leg > 9 * v.n_i || 2 * short_leg > v.n_j)
		return t;

	off = 0;
	for (int i = 0; i < long_leg; i++)
	{
		int			run = run_inwards(&v, i, &off);
		double		straight = short_leg * (1 - (i + 0.5) / long_leg);

		if (fabs(run - straight) > 1.5 + 0.05 * short_leg)
			return t;
		t.pixels += run;
	}
	t.found = off <= EVEN_COLOUR * t.pixels;
	return t;
}

static bool
same_length(int a, int b)
{
	return abs(a - b) <= 1 + (a > b ? a : b) / 12;
}

static int
congruent(const triangle *a, const triangle *b)
{
	return a->found && b->found && same_length(a->along_x, b->along_x) && same_length(a->along_y, b->along_y) &&
		colour_distance(a->colour, b->colour) <= EVEN_COLOUR ? a->pixels + b->pixels : 0;
}

float
img_black_corners(const img_pixels *small)
{
	triangle	t[4];

	for (int i = 0; i < 4; i++)
		t[i] = corner_triangle(small, i & 1, i & 2);
	return (float) (congruent(&t[0], &t[3]) + congruent(&t[1], &t[2])) / (float) (small->width * small->height);
}

/*
 * Tiles.  Of a mosaic's tiles, or an image pasted several times, the fine
 * detail is the same pixel by pixel; of textures, gradients and skies it is
 * not.  So tiles of several grids are correlated by their Laplacians.
 */
#define SMALLEST_TILE 16		/* the blocks of JPEG are 8: those alone may be alike */
#define LEAST_DETAIL 16			/* mean square of the Laplacian: less is noise */
#define COPY_CORRELATION 0.9
#define GLANCE_CORRELATION 0.5	/* on every fourth row */

typedef struct grid
{
	const int16_t *detail;
	int			w,
				h;
	int			cols,
				rows;
	int			tile_w,			/* without the pixels next to other tiles */
				tile_h;
} grid;

static const int16_t *
tile_start(const grid *g, int tile)
{
	int			x = tile % g->cols * g->w / g->cols + 1;
	int			y = tile / g->cols * g->h / g->rows + 1;

	return g->detail + (ptrdiff_t) y * g->w + x;
}

/* Sum of products of two tiles, every step-th row. */
static int64_t
product(const grid *g, const int16_t *a, const int16_t *b, int step)
{
	int64_t		sum = 0;

	for (int y = 0; y < g->tile_h; y += step)
	{
		const int16_t *p = a + (ptrdiff_t) y * g->w;
		const int16_t *q = b + (ptrdiff_t) y * g->w;
		int32_t		row = 0;	/* 240 products of at most 1020 squared fit */

		for (int x = 0; x < g->tile_w; x++)
			row += p[x] * q[x];
		sum += row;
	}
	return sum;
}

static bool
alike(const grid *g, const int16_t *a, const int16_t *b, int step, int64_t squares_a, int64_t squares_b, double least)
{
	return (double) product(g, a, b, step) >= least * sqrt((double) squares_a * (double) squares_b);
}

static float
copied_share(const grid *g)
{
	int			n = g->cols * g->rows;
	int64_t		glance[16],
				whole[16];
	bool		copy[16] = {false};
	int			copies = 0;

	for (int i = 0; i < n; i++)
	{
		const int16_t *a = tile_start(g, i);

		glance[i] = product(g, a, a, 4);
		whole[i] = product(g, a, a, 1);
	}
	for (int i = 0; i < n; i++)
		for (int j = i + 1; j < n; j++)
			if (!(copy[i] && copy[j]) &&
				whole[i] >= (int64_t) LEAST_DETAIL * g->tile_w * g->tile_h &&
				whole[j] >= (int64_t) LEAST_DETAIL * g->tile_w * g->tile_h &&
				alike(g, tile_start(g, i), tile_start(g, j), 4, glance[i], glance[j], GLANCE_CORRELATION) &&
				alike(g, tile_start(g, i), tile_start(g, j), 1, whole[i], whole[j], COPY_CORRELATION))
				copy[i] = copy[j] = true;
	for (int i = 0; i < n; i++)
		copies += copy[i];
	return (float) copies / (float) n;
}

float
img_repeated_tiles(const int16_t *laplacian, int w, int h)
{
	static const int grids[][2] = {{2, 1}, {1, 2}, {3, 1}, {1, 3}, {2, 2}, {3, 3}, {4, 4}};
	float		most = 0;

	for (size_t i = 0; i < sizeof(grids) / sizeof(grids[0]); i++)
	{
		grid		g = {laplacian, w, h, grids[i][0], grids[i][1], w / grids[i][0] - 2, h / grids[i][1] - 2};
		float		share;

		if (g.tile_w + 2 < SMALLEST_TILE || g.tile_h + 2 < SMALLEST_TILE)
			continue;
		share = copied_share(&g);
		most = share > most ? share : most;
	}
	return most;
}
