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
 * triangle of the fill colour in each corner; two must be found that agree.
 * Letterboxes leave rectangles, vignettes no even colour, dark scenes no
 * straight edges.
 */
#define SMALLEST_WITH_CORNERS 16	/* width and height */
#define EVEN_COLOUR 8			/* in a channel, on average */
#define STEP_AT_EDGE 15			/* beyond what is near, on average, two pixels on */

/* In a channel at most: what is not compressed hardly differs, beside its edges JPEG rings. */
static const int near_colour[] = {10, 24, 48};

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
	int			near;			/* of near_colour */
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

	for (int d; n < v->n_j && (d = colour_distance(p, v->origin)) <= v->near; n++, p += v->step_j)
		*off += d;
	return n;
}

static int
run_along(const view *v)
{
	int			n = 0;

	while (n < v->n_i && colour_distance(v->origin + n * v->step_i, v->origin) <= v->near)
		n++;
	return n;
}

/* Is what has the corner's colour a right triangle with a straight edge? */
static triangle
corner_triangle(const img_pixels *img, bool right, bool lower, int near)
{
	view		v = {img->data, 3, (ptrdiff_t) img->stride, img->width, img->height, near};
	triangle	t = {false};
	bool		turned;
	int			long_leg,
				short_leg,
				off = 0,
				beyond = 0;

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
		v = (view) {v.origin, v.step_j, v.step_i, v.n_j, v.n_i, near};
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
		beyond += colour_distance(v.origin + i * v.step_i + (run + 1) * v.step_j, v.origin);
	}
	t.found = off <= EVEN_COLOUR * t.pixels && beyond >= (near + STEP_AT_EDGE) * long_leg;
	return t;
}

static bool
same_length(int a, int b)
{
	return abs(a - b) <= 1 + (a > b ? a : b) / 12;
}

/* Opposite corners have the same legs. */
static bool
congruent(const triangle *a, const triangle *b)
{
	return same_length(a->along_x, b->along_x) && same_length(a->along_y, b->along_y);
}

/*
 * Neighbouring corners have the same angle, the long leg once along x and once
 * along y.  Roofs and mountains are symmetric instead: they agree at 45 degrees
 * alone, which is left out.
 */
static bool
turned_alike(const triangle *a, const triangle *b)
{
	double		x = (double) a->along_y / a->along_x,
				y = (double) b->along_x / b->along_y;
	int			shortest_a = a->along_x < a->along_y ? a->along_x : a->along_y;
	int			shortest_b = b->along_x < b->along_y ? b->along_x : b->along_y;
	double		off = 0.1 + 0.6 / shortest_a + 0.6 / shortest_b;

	if (x > 1)
	{
		x = 1 / x;
		y = 1 / y;
	}
	return shortest_a > 3 && shortest_b > 3 && x < 0.85 && y < 0.85 && fabs(x - y) <= off * (x > y ? x : y);
}

/* Pixels of the triangles that another one confirms. */
static int
confirmed(const triangle t[4])
{
	int			pixels = 0;

	for (int i = 0; i < 4; i++)
	{
		bool		agreed = false;

		for (int j = 0; j < 4 && t[i].found; j++)
			if (j != i && t[j].found && colour_distance(t[i].colour, t[j].colour) <= EVEN_COLOUR)
				agreed |= i + j == 3 ? congruent(&t[i], &t[j]) : turned_alike(&t[i], &t[j]);
		if (agreed)
			pixels += t[i].pixels;
	}
	return pixels;
}

float
img_black_corners(const img_pixels *small)
{
	int			most = 0;

	if (small->width < SMALLEST_WITH_CORNERS || small->height < SMALLEST_WITH_CORNERS)
		return 0;
	for (size_t k = 0; k < sizeof(near_colour) / sizeof(near_colour[0]); k++)
	{
		triangle	t[4];
		int			pixels;

		for (int i = 0; i < 4; i++)
			t[i] = corner_triangle(small, i & 1, i & 2, near_colour[k]);
		pixels = confirmed(t);
		most = pixels > most ? pixels : most;
	}
	return (float) most / (float) (small->width * small->height);
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
