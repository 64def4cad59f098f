/*
 * plot_points.c
 *	  Points in the plane, and turning in space.  See plots.h.
 *
 * A group's points are one path of dots; of points that would cover each other
 * within half a pixel the first is drawn, by a bit map of the picture.
 */
#include "quality/plots.h"

#include <stdio.h>
#include <string.h>

#include "core/svg_int.h"

#define WIDTH		720.0
#define HEIGHT		520.0
#define LEFT		64.0
#define RIGHT		20.0
#define TOP			36.0
#define BOTTOM		52.0
#define LEGEND		170.0		/* width, when there is one */
#define LEGEND_LINES 27
#define CELLS		2			/* of the bit map, a pixel */
#define CHECK_EVERY 4096
#define FRAMES		36
#define SECONDS		24

/* Tableau's ten, as core/svg.c has them. */
static const unsigned char base[][3] = {
	{0x4e, 0x79, 0xa7}, {0xe1, 0x57, 0x59}, {0x59, 0xa1, 0x4f}, {0xf2, 0x8e, 0x2b}, {0xb0, 0x7a, 0xa1},
	{0x76, 0xb7, 0xb2}, {0x9c, 0x75, 0x5f}, {0xed, 0xc9, 0x48}, {0xff, 0x9d, 0xa7}, {0x79, 0x70, 0x6e}
};

void
qlt_colour(int group, char out[8])
{
	int			round = group / 10 % 3;
	int			rgb[3];

	for (int i = 0; i < 3; i++)
	{
		int			c = base[group % 10][i];

		rgb[i] = round == 0 ? c : round == 1 ? c * 6 / 10 : c + (255 - c) * 45 / 100;
	}
	snprintf(out, 8, "#%02x%02x%02x", rgb[0] & 255, rgb[1] & 255, rgb[2] & 255);
}

static bool
usable(const qlt_points *p, int64_t i)
{
	return svg_usable(p->x[i]) && svg_usable(p->y[i]) && (p->z == NULL || svg_usable(p->z[i]));
}

/* A point's group, -1 for one that has none. */
static int
group_of(const qlt_points *p, int64_t i)
{
	int			g = p->group ? p->group[i] : 0;

	return g >= 0 && g < p->n_groups ? g : -1;
}

static void
range_of(const qlt_points *p, const double *v, double *low, double *high)
{
	*low = INFINITY;
	*high = -INFINITY;
	for (int64_t i = 0; i < p->n; i++)
		if (usable(p, i))
		{
			*low = fmin(*low, v[i]);
			*high = fmax(*high, v[i]);
		}
	if (*low > *high)
	{
		*low = 0;
		*high = 1;
	}
}

static void
legend(svg_buffer *b, const qlt_points *p, double left)
{
	double		at = TOP + 12;
	char		colour[8],
				more[40];

	for (int g = 0; g < p->n_groups && g < LEGEND_LINES; g++, at += 16)
	{
		qlt_colour(g, colour);
		svg_put(b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" fill=\"%s\"/>\n", left + 6, at - 4, colour);
		svg_label(b, left + 18, at, "", p->names[g], SVG_MAX_TEXT - 6);
	}
	if (p->n_groups > LEGEND_LINES)
	{
		snprintf(more, sizeof(more), "and %d more", p->n_groups - LEGEND_LINES);
		svg_label(b, left, at, " fill=\"#555\"", more, SVG_MAX_TEXT);
	}
}

/* The dots of one group; seen: a bit for each cell of the picture. */
static void
put_group(svg_buffer *b, const qlt_points *p, int group, const svg_axis *x, const svg_axis *y, uint8_t *seen, size_t size)
{
	char		colour[8] = "#999999";
	bool		any = false;

	memset(seen, 0, size);
	if (group >= 0)
		qlt_colour(group, colour);
	for (int64_t i = 0; i < p->n; i++)
	{
		double		px,
					py;
		size_t		cell;

		if (i % CHECK_EVERY == 0 && mr_interrupted(b->env))
			b->failed = MR_CANCELED;
		if (group_of(p, i) != group || !usable(p, i))
			continue;
		px = svg_pixel(x, p->x[i]);
		py = svg_pixel(y, p->y[i]);
		cell = (size_t) (py * CELLS) * (size_t) (WIDTH * CELLS) + (size_t) (px * CELLS);
		if (cell >= size * 8 || seen[cell >> 3] >> (cell & 7) & 1)
			continue;
		seen[cell >> 3] |= 1 << (cell & 7);
		if (!any)
			svg_put(b, "<path stroke=\"%s\" stroke-width=\"%s\" stroke-linecap=\"round\" stroke-opacity=\"0.7\" fill=\"none\" d=\"", colour, p->n > 5000 ? "2.4" : p->n > 300 ? "4.5" : "8");
		any = true;
		svg_put(b, "M%.1f %.1fh0", px, py);
	}
	if (any)
		svg_put(b, "\"/>\n");
}

mr_code
qlt_svg_scatter(const mr_env *env, const svg_chart *chart, const qlt_points *p, bool equal, char **out, mr_status *st)
{
	svg_buffer	b = {.env = env};
	bool		named = p->names != NULL && p->n_groups > 0;
	svg_axis	x = {.from = equal ? 20 : LEFT,.to = WIDTH - RIGHT - (named ? LEGEND : 0)},
				y = {.from = HEIGHT - (equal ? 20 : BOTTOM),.to = TOP};
	size_t		size = (size_t) (WIDTH * CELLS) * (size_t) (HEIGHT * CELLS) / 8 + 1;
	uint8_t    *seen = mr_alloc(env, size);

	if (seen == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory drawing points");
	range_of(p, p->x, &x.low, &x.high);
	range_of(p, p->y, &y.low, &y.high);
	if (chart->x_low < chart->x_high)
	{
		x.low = chart->x_low;
		x.high = chart->x_high;
	}
	if (chart->y_low < chart->y_high)
	{
		y.low = chart->y_low;
		y.high = chart->y_high;
	}
	svg_scale(&x, 8);
	svg_scale(&y, 6);
	svg_begin(&b, WIDTH, HEIGHT, chart->title);
	if (equal)
	{
		/* one unit is as long to the right as it is up */
		double		unit = fmax((x.high - x.low) / (x.to - x.from), (y.high - y.low) / (y.from - y.to)) * 1.04,
					mid_x = (x.low + x.high) / 2,
					mid_y = (y.low + y.high) / 2;

		x.low = mid_x - unit * (x.to - x.from) / 2;
		x.high = mid_x + unit * (x.to - x.from) / 2;
		y.low = mid_y - unit * (y.from - y.to) / 2;
		y.high = mid_y + unit * (y.from - y.to) / 2;
		svg_put(&b, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"none\" stroke=\"#ccc\"/>\n", x.from, y.to, x.to - x.from, y.from - y.to);
	}
	else
		svg_axes(&b, chart, &x, &y);
	for (int g = -1; g < p->n_groups; g++)
		put_group(&b, p, g, &x, &y, seen, size);
	if (named)
		legend(&b, p, x.to + 14);
	mr_free(env, seen);
	return svg_end(&b, out, st);
}

/* ---- turning ---- */

/* One attribute over a whole turn, of a point at radius r and angle a about the middle. */
static void
put_turn(svg_buffer *b, const char *attribute, double middle, double r, double a)
{
	svg_put(b, "<animate attributeName=\"%s\" dur=\"%ds\" repeatCount=\"indefinite\" values=\"", attribute, SECONDS);
	for (int f = 0; f <= FRAMES; f++)
		svg_put(b, f ? ";%.0f" : "%.0f", middle + r * cos(a + 2 * M_PI * (f % FRAMES) / FRAMES));
	svg_put(b, "\"/>");
}

mr_code
qlt_svg_turning(const mr_env *env, const char *title, const qlt_points *p, char **out, mr_status *st)
{
	svg_buffer	b = {.env = env};
	bool		named = p->names != NULL && p->n_groups > 0;
	double		width = WIDTH - (named ? 0 : LEGEND),
				middle = (WIDTH - LEGEND) / 2,
				half = 200,
				centre[3],
				reach = 0,
				low,
				high;
	const double *v[3] = {p->x, p->y, p->z};
	int64_t		every = (p->n + QLT_TURNING_POINTS - 1) / QLT_TURNING_POINTS;

	for (int k = 0; k < 3; k++)
	{
		range_of(p, v[k], &low, &high);
		centre[k] = (low + high) / 2;
		reach = fmax(reach, (high - low) / 2);
	}
	if (!(reach > 0))
		reach = 1;
	svg_begin(&b, width, HEIGHT, title);
	/* the floor, and the axis all turns about */
	svg_put(&b, "<path d=\"M%.0f %.0fV%.0f\" stroke=\"#ddd\"/>\n<ellipse cx=\"%.0f\" cy=\"%.0f\" rx=\"%.0f\" ry=\"14\" fill=\"none\" stroke=\"#ddd\"/>\n",
			middle, TOP + 8, HEIGHT - 24, middle, HEIGHT - 30, half * 1.2);
	for (int64_t i = 0; i < p->n; i += every > 0 ? every : 1)
	{
		char		colour[8] = "#999999";
		double		dx,
					dz,
					r,
					a;
		int			g = group_of(p, i);

		if (i % 64 == 0 && mr_interrupted(env))
			b.failed = MR_CANCELED;
		if (!usable(p, i))
			continue;
		if (g >= 0)
			qlt_colour(g, colour);
		dx = (p->x[i] - centre[0]) / reach * half;
		dz = (p->z[i] - centre[2]) / reach * half;
		r = hypot(dx, dz);
		a = atan2(dz, dx);
		svg_put(&b, "<circle cx=\"%.0f\" cy=\"%.0f\" r=\"3\" fill=\"%s\" fill-opacity=\"0.75\">", middle + dx,
				HEIGHT / 2 - (p->y[i] - centre[1]) / reach * half, colour);
		put_turn(&b, "cx", middle, r, a);
		svg_put(&b, "</circle>\n");
	}
	if (named)
		legend(&b, p, WIDTH - LEGEND + 14);
	return svg_end(&b, out, st);
}
