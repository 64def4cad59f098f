/*
 * svg.c
 *	  Charts as SVG text.  See svg.h.
 *
 * Coordinates have one decimal, and a line has a few points for each pixel at
 * most, so that the size follows the picture and not the data.
 */
#include "core/svg_int.h"

#include <stdio.h>

#define WIDTH		640.0
#define HEIGHT		420.0
#define LEFT		64.0
#define TOP			36.0
#define BOTTOM		52.0
#define LEGEND		160.0		/* width, when there is one */
#define DENSE		1000		/* points of a line from which on some are left out */
#define CHECK_EVERY 4096		/* points between two interrupt checks */

/* Tableau's ten, which colour-blind readers tell apart best in this order. */
static const char *const colours[] = {
	"#4e79a7", "#e15759", "#59a14f", "#f28e2b", "#b07aa1", "#76b7b2", "#9c755f", "#edc948", "#ff9da7", "#79706e"
};

#define N_COLOURS ((int) (sizeof(colours) / sizeof(colours[0])))

/* ---- lines ---- */

static void
find_range(const svg_series *series, int n, svg_axis *x, svg_axis *y)
{
	*x = *y = (svg_axis) {.low = INFINITY,.high = -INFINITY};
	for (int s = 0; s < n; s++)
		for (int64_t i = 0; i < series[s].n; i++)
			if (svg_usable(series[s].x[i]) && svg_usable(series[s].y[i]))
			{
				x->low = fmin(x->low, series[s].x[i]);
				x->high = fmax(x->high, series[s].x[i]);
				y->low = fmin(y->low, series[s].y[i]);
				y->high = fmax(y->high, series[s].y[i]);
			}
	if (x->low > x->high)
		*x = *y = (svg_axis) {.low = 0,.high = 1};
}

/* A line as it grows.  Of many points, each pixel's width gets its lowest, its
 * highest and its last. */
typedef struct pen
{
	svg_buffer *b;
	bool		open;			/* there is a point before */
	bool		dense;
	bool		pending;		/* a pixel not yet drawn: */
	double		column;
	double		low;
	double		high;
	double		x;
	double		y;
} pen;

static void
draw(pen *p, double x, double y)
{
	svg_put(p->b, "%c%.1f %.1f", p->open ? 'L' : 'M', x, y);
	p->open = true;
}

static void
flush(pen *p)
{
	if (p->pending && p->low < p->high)
	{
		draw(p, p->column, p->low);
		draw(p, p->column, p->high);
	}
	if (p->pending)
		draw(p, p->x, p->y);
	p->pending = false;
}

static void
put_point(pen *p, double x, double y)
{
	if (!p->dense)
	{
		draw(p, x, y);
		return;
	}
	if (p->pending && floor(x) == p->column)
	{
		p->low = fmin(p->low, y);
		p->high = fmax(p->high, y);
	}
	else
	{
		flush(p);
		p->column = floor(x);
		p->low = p->high = y;
		p->pending = true;
	}
	p->x = x;
	p->y = y;
}

static void
put_line(svg_buffer *b, const svg_chart *c, const svg_series *s, const svg_axis *x, const svg_axis *y, const char *colour)
{
	pen			p = {.b = b,.dense = s->n > DENSE};
	bool		any = false;

	svg_put(b, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"1.8\" stroke-linejoin=\"round\" d=\"", colour);
	for (int64_t i = 0; i < s->n; i++)
	{
		if (i % CHECK_EVERY == 0 && mr_interrupted(b->env))
			b->failed = MR_CANCELED;
		if (svg_usable(s->x[i]) && svg_usable(s->y[i]))
		{
			put_point(&p, svg_pixel(x, s->x[i]), svg_pixel(y, s->y[i]));
			any = true;
		}
		else
		{
			flush(&p);
			p.open = false;
		}
	}
	flush(&p);
	/* A path must not be empty: a move draws nothing. */
	svg_put(b, "%s\"/>\n", any ? "" : "M0 0");
	for (int64_t i = 0; c->markers && i < s->n && i < DENSE; i++)
		if (svg_usable(s->x[i]) && svg_usable(s->y[i]))
			svg_put(b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", svg_pixel(x, s->x[i]), svg_pixel(y, s->y[i]), colour);
}

static void
put_legend(svg_buffer *b, const svg_series *series, int shown, int n, double left)
{
	double		at = TOP + 12;
	char		more[40];

	for (int s = 0; s < shown; s++)
	{
		if (series[s].name == NULL)
			continue;
		svg_put(b, "<path d=\"M%.1f %.1fh16\" stroke=\"%s\" stroke-width=\"3\"/>\n", left, at - 4, colours[s % N_COLOURS]);
		svg_label(b, left + 22, at, "", series[s].name, SVG_MAX_TEXT);
		at += 16;
	}
	if (n > shown)
	{
		snprintf(more, sizeof(more), "and %d more", n - shown);
		svg_label(b, left, at, " fill=\"#555\"", more, SVG_MAX_TEXT);
	}
}

mr_code
svg_lines(const mr_env *env, const svg_chart *c, const svg_series *series, int n, char **out, mr_status *st)
{
	svg_buffer	b = {.env = env};
	int			shown = n < SVG_MAX_SERIES ? n : SVG_MAX_SERIES;
	bool		legend = n > shown;
	svg_axis	x,
				y;

	for (int s = 0; s < shown; s++)
		legend |= series[s].name != NULL;
	find_range(series, shown, &x, &y);
	if (c->x_low < c->x_high)
	{
		x.low = c->x_low;
		x.high = c->x_high;
	}
	if (c->y_low < c->y_high)
	{
		y.low = c->y_low;
		y.high = c->y_high;
	}
	if (c->x_is_time)
		svg_scale_time(&x, 4);
	else
		svg_scale(&x, 8);
	svg_scale(&y, 6);
	if (!(c->y_low < c->y_high))
	{
		/* Room above and below, to the next tick. */
		y.low = floor(y.low / y.step + 1e-9) * y.step;
		y.high = ceil(y.high / y.step - 1e-9) * y.step;
	}
	x.from = LEFT;
	x.to = WIDTH - 20 - (legend ? LEGEND : 0);
	y.from = HEIGHT - BOTTOM;
	y.to = TOP;
	svg_begin(&b, WIDTH, HEIGHT, c->title);
	svg_axes(&b, c, &x, &y);
	if (c->diagonal)
		svg_put(&b, "<path d=\"M%.1f %.1fL%.1f %.1f\" stroke=\"#999\" stroke-dasharray=\"5 4\"/>\n", x.from, y.from, x.to, y.to);
	for (int s = 0; s < shown; s++)
		put_line(&b, c, &series[s], &x, &y, colours[s % N_COLOURS]);
	if (legend)
		put_legend(&b, series, shown, n, x.to + 12);
	return svg_end(&b, out, st);
}

/* ---- bars ---- */

mr_code
svg_bars(const mr_env *env, const svg_chart *c, const double *edge, const double *height, int n, char **out, mr_status *st)
{
	svg_buffer	b = {.env = env};
	svg_axis	x = {.low = edge[0],.high = edge[n],.from = LEFT,.to = WIDTH - 20},
				y = {.low = 0,.high = 0,.from = HEIGHT - BOTTOM,.to = TOP};

	for (int i = 0; i < n; i++)
		y.high = fmax(y.high, height[i]);
	y.high = y.high > 0 ? y.high : 1;
	svg_scale(&x, 8);
	svg_scale(&y, 6);
	y.high = ceil(y.high / y.step - 1e-9) * y.step;
	svg_begin(&b, WIDTH, HEIGHT, c->title);
	svg_axes(&b, c, &x, &y);
	for (int i = 0; i < n; i++)
	{
		double		left = svg_pixel(&x, edge[i]),
					right = svg_pixel(&x, edge[i + 1]),
					top = svg_pixel(&y, height[i]);

		if (height[i] > 0)
			svg_put(&b, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", left + 0.5, top,
				fmax(right - left - 1, 0.5), y.from - top, colours[0]);
	}
	return svg_end(&b, out, st);
}

/* ---- matrix ---- */

/* White to dark blue. */
static void
shade(double share, char out[8])
{
	static const int dark[3] = {8, 48, 107};
	int			rgb[3];

	for (int i = 0; i < 3; i++)
		rgb[i] = (int) (255 + (dark[i] - 255) * share + 0.5);
	snprintf(out, 8, "#%02x%02x%02x", rgb[0] & 255, rgb[1] & 255, rgb[2] & 255);
}

mr_code
svg_matrix(const mr_env *env, const char *title, const char *const *label, const int64_t *count, int n,
		   char **out, mr_status *st)
{
	svg_buffer	b = {.env = env};
	size_t		longest = 0;
	double		cell = n <= 12 ? 52 : n <= 30 ? 24 : n <= 80 ? 12 : 5,
				left,
				top = 44,
				side = cell * n,
				width,
				height;
	char		text[80],
				fill[8];

	for (int t = 0; t < n && n <= 80; t++)
		longest = svg_cut(label[t], 20) > longest ? svg_cut(label[t], 20) : longest;
	left = 44 + 7.5 * (double) longest;
	width = left + side + 20;
	width = width < 300 ? 300 : width;
	height = top + side + 44 + 5.5 * (double) longest;
	svg_begin(&b, width, height, title);
	for (int t = 0; t < n; t++)
	{
		int64_t		sum = 0;

		if (mr_interrupted(env))
			b.failed = MR_CANCELED;
		for (int p = 0; p < n; p++)
			sum += count[(size_t) t * (size_t) n + (size_t) p];
		for (int p = 0; p < n; p++)
		{
			int64_t		c = count[(size_t) t * (size_t) n + (size_t) p];
			double		share = sum > 0 ? (double) c / (double) sum : 0,
						x = left + cell * p,
						y = top + cell * t;

			if (c == 0 && n > 30)
				continue;
			shade(share, fill);
			svg_put(&b, "<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" fill=\"%s\" stroke=\"#ddd\"/>\n", x, y, cell, cell, fill);
			if (n <= 12)
			{
				snprintf(text, sizeof(text), "%lld", (long long) c);
				svg_label(&b, x + cell / 2, y + cell / 2 + 4,
						  share > 0.5 ? " text-anchor=\"middle\" fill=\"#fff\"" : " text-anchor=\"middle\"", text, SVG_MAX_TEXT);
			}
		}
		if (n <= 80)
		{
			const char *small = cell < 16 ? " text-anchor=\"end\" font-size=\"9\"" : " text-anchor=\"end\"";
			double		at = left + cell * t + cell / 2 + 4,
						below = top + side + 12;

			svg_label(&b, left - 6, top + cell * t + cell / 2 + 4, small, label[t], 20);
			snprintf(text, sizeof(text), "%s transform=\"rotate(-45 %.1f %.1f)\"", small, at, below);
			svg_label(&b, at, below, text, label[t], 20);
		}
	}
	svg_put(&b, "<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" fill=\"none\" stroke=\"#333\"/>\n", left, top, side, side);
	svg_label(&b, left + side / 2, height - 10, " text-anchor=\"middle\"", "predicted", SVG_MAX_TEXT);
	snprintf(text, sizeof(text), " text-anchor=\"middle\" transform=\"rotate(-90 16 %.1f)\"", top + side / 2);
	svg_label(&b, 16, top + side / 2, text, "true", SVG_MAX_TEXT);
	return svg_end(&b, out, st);
}
