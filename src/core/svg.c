/*
 * svg.c
 *	  Charts as SVG text.  See svg.h.
 *
 * A growing buffer that remembers a failure, and three drawings.  Coordinates
 * have one decimal, and a line has a few points for each pixel at most, so that
 * the size follows the picture and not the data.
 */
#include "core/svg.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WIDTH		640.0
#define HEIGHT		420.0
#define LEFT		64.0
#define TOP			36.0
#define BOTTOM		52.0
#define LEGEND		160.0		/* width, when there is one */
#define MAX_TEXT	28			/* bytes of a label that are shown */
#define MAX_TICKS	20
#define YEAR		(365.25 * 86400)
#define DENSE		1000		/* points of a line from which on some are left out */
#define CHECK_EVERY 4096		/* points between two interrupt checks */

/* Tableau's ten, which colour-blind readers tell apart best in this order. */
static const char *const colours[] = {
	"#4e79a7", "#e15759", "#59a14f", "#f28e2b", "#b07aa1", "#76b7b2", "#9c755f", "#edc948", "#ff9da7", "#79706e"
};

#define N_COLOURS ((int) (sizeof(colours) / sizeof(colours[0])))

typedef struct buffer
{
	const mr_env *env;
	char	   *data;
	size_t		len;
	size_t		size;
	mr_code		failed;
} buffer;

static bool
reserve(buffer *b, size_t more)
{
	size_t		size = b->size ? b->size : 8192;
	char	   *grown;

	if (b->failed)
		return false;
	if (b->len + more < b->size)
		return true;
	while (size <= b->len + more)
		size *= 2;
	grown = mr_alloc(b->env, size);
	if (grown == NULL)
	{
		b->failed = MR_NOMEM;
		return false;
	}
	if (b->data)
		memcpy(grown, b->data, b->len);
	mr_free(b->env, b->data);
	b->data = grown;
	b->size = size;
	return true;
}

static void put(buffer *b, const char *fmt,...) MR_PRINTF(2, 3);

/* Of a bounded length: no text of the user's. */
static void
put(buffer *b, const char *fmt,...)
{
	va_list		args;
	int			n;

	if (!reserve(b, 512))
		return;
	va_start(args, fmt);
	n = vsnprintf(b->data + b->len, 512, fmt, args);
	va_end(args);
	b->len += n < 0 ? 0 : n > 511 ? 511 : (size_t) n;
}

/* The bytes of a text that are shown: whole UTF-8 characters of at most max. */
static size_t
cut(const char *text, size_t max)
{
	size_t		n = strlen(text);

	if (n <= max)
		return n;
	for (n = max - 3; n > 0 && ((unsigned char) text[n] & 0xC0) == 0x80;)
		n--;
	return n;
}

static void
put_text(buffer *b, const char *text, size_t max)
{
	size_t		n = cut(text, max);

	if (!reserve(b, n * 6 + 4))
		return;
	for (size_t i = 0; i < n; i++)
	{
		unsigned char c = (unsigned char) text[i];
		const char *entity = c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '"' ? "&quot;" : NULL;

		if (entity)
		{
			memcpy(b->data + b->len, entity, strlen(entity));
			b->len += strlen(entity);
		}
		else if (c == 0xEF && n - i >= 3 && (unsigned char) text[i + 1] == 0xBF && (unsigned char) text[i + 2] >= 0xBE)
		{
			b->data[b->len++] = ' ';	/* U+FFFE, U+FFFF */
			i += 2;
		}
		else
			b->data[b->len++] = c < 0x20 || c == 0x7F ? ' ' : (char) c;
	}
	if (n < strlen(text))
	{
		memcpy(b->data + b->len, "...", 3);
		b->len += 3;
	}
}

/* A text element; attributes come with their leading space. */
static void
put_label(buffer *b, double x, double y, const char *attributes, const char *text, size_t max)
{
	put(b, "<text x=\"%.1f\" y=\"%.1f\"%s>", x, y, attributes);
	put_text(b, text, max);
	put(b, "</text>\n");
}

static void
begin(buffer *b, double width, double height, const char *title)
{
	put(b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
		"font-family=\"sans-serif\" font-size=\"12\">\n", width, height, width, height);
	if (title && title[0])
	{
		put(b, "<title>");
		put_text(b, title, 200);
		put(b, "</title>\n");
	}
	put(b, "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n");
	if (title && title[0])
		put_label(b, width / 2, 20, " text-anchor=\"middle\" font-size=\"14\" font-weight=\"bold\"", title, 70);
}

static mr_code
end(buffer *b, char **out, mr_status *st)
{
	put(b, "</svg>\n");
	if (b->failed)
	{
		mr_free(b->env, b->data);
		return b->failed == MR_CANCELED ? mr_fail(st, MR_CANCELED, "canceled") : mr_fail(st, MR_NOMEM, "out of memory");
	}
	b->data[b->len] = '\0';
	*out = b->data;
	return MR_OK;
}

/* ---- axes ---- */

typedef struct axis
{
	double		low;
	double		high;
	double		step;
	double		origin;			/* a tick, wherever it lies */
	double		from;			/* pixel of low */
	double		to;				/* pixel of high */
} axis;

static double
pixel(const axis *a, double v)
{
	return a->from + (v - a->low) / (a->high - a->low) * (a->to - a->from);
}

/* What can be drawn: sums and differences of such numbers are numbers too. */
static bool
usable(double v)
{
	return fabs(v) <= 1e300;
}

/* Ticks at 1, 2 or 5 times a power of ten, about so many. */
static void
scale(axis *a, int ticks)
{
	double		size = fmax(fabs(a->low), fabs(a->high)),
				range,
				power;

	/* Narrower than numbers of that size can be told apart: as one value. */
	if (!(a->high - a->low > size * 1e-12 && a->high - a->low > 1e-290))
	{
		double		pad = size > 1e-280 ? size * 0.1 : 1;

		a->high += pad;
		a->low -= pad;
	}
	range = (a->high - a->low) / ticks;
	power = pow(10, floor(log10(range)));
	a->step = range / power <= 1 ? power : range / power <= 2 ? 2 * power : range / power <= 5 ? 5 * power : 10 * power;
}

/* Minutes, hours, days, weeks that begin on Mondays, and about months and years. */
static void
scale_time(axis *a, int ticks)
{
	static const double steps[] = {60, 300, 900, 3600, 10800, 21600, 43200, 86400, 2 * 86400, 7 * 86400.0, 14 * 86400.0,
	28 * 86400.0, 91 * 86400.0, 182 * 86400.0, YEAR, 2 * YEAR, 5 * YEAR, 10 * YEAR, 20 * YEAR, 50 * YEAR, 100 * YEAR};
	int			n = (int) (sizeof(steps) / sizeof(steps[0]));
	int			i = 0;

	scale(a, ticks);
	while (i < n && steps[i] < (a->high - a->low) / ticks)
		i++;
	if (a->high - a->low < 60 || i == n)
		return;
	a->step = steps[i];
	/* 2000-01-03 was a Monday. */
	a->origin = a->step >= 7 * 86400.0 && a->step < YEAR ? 2 * 86400.0 : 0;
}

/* The date of a day since 2000-01-01: Hinnant, "chrono-compatible low-level date
 * algorithms" (2013), whose days begin at 0000-03-01. */
static void
time_text(double v, double step, char *out, size_t size)
{
	/* A tick of a year lies within a day of its beginning. */
	double		day = floor((step >= YEAR ? v + 10 * 86400 : v) / 86400);
	int			second = (int) (v - floor(v / 86400) * 86400);
	int64_t		z,
				era;
	int			doe,
				yoe,
				doy,
				mp,
				month,
				year;

	if (!(fabs(day) < 1e6))
	{
		snprintf(out, size, "%.4g", v);
		return;
	}
	z = (int64_t) day + 730425;
	era = (z >= 0 ? z : z - 146096) / 146097;
	doe = (int) (z - era * 146097);
	yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	mp = (5 * doy + 2) / 153;
	month = mp < 10 ? mp + 3 : mp - 9;
	year = (int) (yoe + era * 400) + (month <= 2);
	if (step >= YEAR)
		snprintf(out, size, "%d", year);
	else if (step >= 86400)
		snprintf(out, size, "%04d-%02d-%02d", year, month, doy - (153 * mp + 2) / 5 + 1);
	else
		snprintf(out, size, "%02d-%02d %02d:%02d", month, doy - (153 * mp + 2) / 5 + 1, second / 3600, second / 60 % 60);
}

static void
number_text(double v, double step, char *out, size_t size)
{
	int			decimals = step >= 1 ? 0 : (int) ceil(-log10(step) - 1e-9);

	if (fabs(v) >= 1e7 || decimals > 6)
		snprintf(out, size, "%.4g", v);
	else
		snprintf(out, size, "%.*f", decimals, v == 0 ? 0 : v);
}

static void
put_axes(buffer *b, const svg_chart *c, const axis *x, const axis *y)
{
	char		text[64];

	for (int i = 0; i < MAX_TICKS; i++)
	{
		double		v = (ceil((x->low - x->origin) / x->step - 1e-9) + i) * x->step + x->origin,
					at = pixel(x, v);

		if (v > x->high + x->step * 1e-9)
			break;

		put(b, "<path d=\"M%.1f %.1fV%.1f\" stroke=\"#e5e5e5\"/>\n", at, y->from, y->to);
		(c->x_is_time ? time_text : number_text) (fabs(v) < x->step * 1e-9 ? 0 : v, x->step, text, sizeof(text));
		put_label(b, at, y->from + 16, " text-anchor=\"middle\" fill=\"#555\"", text, MAX_TEXT);
	}
	for (int i = 0; i < MAX_TICKS; i++)
	{
		double		v = (ceil(y->low / y->step - 1e-9) + i) * y->step,
					at = pixel(y, v);

		if (v > y->high + y->step * 1e-9)
			break;

		put(b, "<path d=\"M%.1f %.1fH%.1f\" stroke=\"#e5e5e5\"/>\n", x->from, at, x->to);
		number_text(fabs(v) < y->step * 1e-9 ? 0 : v, y->step, text, sizeof(text));
		put_label(b, x->from - 6, at + 4, " text-anchor=\"end\" fill=\"#555\"", text, MAX_TEXT);
	}
	put(b, "<path d=\"M%.1f %.1fV%.1fH%.1f\" fill=\"none\" stroke=\"#333\"/>\n", x->from, y->to, y->from, x->to);
	if (c->x_label)
		put_label(b, (x->from + x->to) / 2, y->from + 38, " text-anchor=\"middle\"", c->x_label, 60);
	if (c->y_label)
	{
		double		at = (y->from + y->to) / 2;

		snprintf(text, sizeof(text), " text-anchor=\"middle\" transform=\"rotate(-90 16 %.1f)\"", at);
		put_label(b, 16, at, text, c->y_label, 60);
	}
}

/* ---- lines ---- */

static void
find_range(const svg_series *series, int n, axis *x, axis *y)
{
	*x = *y = (axis) {.low = INFINITY,.high = -INFINITY};
	for (int s = 0; s < n; s++)
		for (int64_t i = 0; i < series[s].n; i++)
			if (usable(series[s].x[i]) && usable(series[s].y[i]))
			{
				x->low = fmin(x->low, series[s].x[i]);
				x->high = fmax(x->high, series[s].x[i]);
				y->low = fmin(y->low, series[s].y[i]);
				y->high = fmax(y->high, series[s].y[i]);
			}
	if (x->low > x->high)
		*x = *y = (axis) {.low = 0,.high = 1};
}

/* A line as it grows.  Of many points, each pixel's width gets its lowest, its
 * highest and its last. */
typedef struct pen
{
	buffer	   *b;
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
	put(p->b, "%c%.1f %.1f", p->open ? 'L' : 'M', x, y);
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
put_line(buffer *b, const svg_chart *c, const svg_series *s, const axis *x, const axis *y, const char *colour)
{
	pen			p = {.b = b,.dense = s->n > DENSE};
	bool		any = false;

	put(b, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"1.8\" stroke-linejoin=\"round\" d=\"", colour);
	for (int64_t i = 0; i < s->n; i++)
	{
		if (i % CHECK_EVERY == 0 && mr_interrupted(b->env))
			b->failed = MR_CANCELED;
		if (usable(s->x[i]) && usable(s->y[i]))
		{
			put_point(&p, pixel(x, s->x[i]), pixel(y, s->y[i]));
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
	put(b, "%s\"/>\n", any ? "" : "M0 0");
	for (int64_t i = 0; c->markers && i < s->n && i < DENSE; i++)
		if (usable(s->x[i]) && usable(s->y[i]))
			put(b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", pixel(x, s->x[i]), pixel(y, s->y[i]), colour);
}

static void
put_legend(buffer *b, const svg_series *series, int shown, int n, double left)
{
	double		at = TOP + 12;
	char		more[40];

	for (int s = 0; s < shown; s++)
	{
		if (series[s].name == NULL)
			continue;
		put(b, "<path d=\"M%.1f %.1fh16\" stroke=\"%s\" stroke-width=\"3\"/>\n", left, at - 4, colours[s % N_COLOURS]);
		put_label(b, left + 22, at, "", series[s].name, MAX_TEXT);
		at += 16;
	}
	if (n > shown)
	{
		snprintf(more, sizeof(more), "and %d more", n - shown);
		put_label(b, left, at, " fill=\"#555\"", more, MAX_TEXT);
	}
}

mr_code
svg_lines(const mr_env *env, const svg_chart *c, const svg_series *series, int n, char **out, mr_status *st)
{
	buffer		b = {.env = env};
	int			shown = n < SVG_MAX_SERIES ? n : SVG_MAX_SERIES;
	bool		legend = n > shown;
	axis		x,
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
		scale_time(&x, 4);
	else
		scale(&x, 8);
	scale(&y, 6);
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
	begin(&b, WIDTH, HEIGHT, c->title);
	put_axes(&b, c, &x, &y);
	if (c->diagonal)
		put(&b, "<path d=\"M%.1f %.1fL%.1f %.1f\" stroke=\"#999\" stroke-dasharray=\"5 4\"/>\n", x.from, y.from, x.to, y.to);
	for (int s = 0; s < shown; s++)
		put_line(&b, c, &series[s], &x, &y, colours[s % N_COLOURS]);
	if (legend)
		put_legend(&b, series, shown, n, x.to + 12);
	return end(&b, out, st);
}

/* ---- bars ---- */

mr_code
svg_bars(const mr_env *env, const svg_chart *c, const double *edge, const double *height, int n, char **out, mr_status *st)
{
	buffer		b = {.env = env};
	axis		x = {.low = edge[0],.high = edge[n],.from = LEFT,.to = WIDTH - 20},
				y = {.low = 0,.high = 0,.from = HEIGHT - BOTTOM,.to = TOP};

	for (int i = 0; i < n; i++)
		y.high = fmax(y.high, height[i]);
	y.high = y.high > 0 ? y.high : 1;
	scale(&x, 8);
	scale(&y, 6);
	y.high = ceil(y.high / y.step - 1e-9) * y.step;
	begin(&b, WIDTH, HEIGHT, c->title);
	put_axes(&b, c, &x, &y);
	for (int i = 0; i < n; i++)
	{
		double		left = pixel(&x, edge[i]),
					right = pixel(&x, edge[i + 1]),
					top = pixel(&y, height[i]);

		if (height[i] > 0)
			put(&b, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", left + 0.5, top,
				fmax(right - left - 1, 0.5), y.from - top, colours[0]);
	}
	return end(&b, out, st);
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
	buffer		b = {.env = env};
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
		longest = cut(label[t], 20) > longest ? cut(label[t], 20) : longest;
	left = 44 + 7.5 * (double) longest;
	width = left + side + 20;
	width = width < 300 ? 300 : width;
	height = top + side + 44 + 5.5 * (double) longest;
	begin(&b, width, height, title);
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
			put(&b, "<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" fill=\"%s\" stroke=\"#ddd\"/>\n", x, y, cell, cell, fill);
			if (n <= 12)
			{
				snprintf(text, sizeof(text), "%lld", (long long) c);
				put_label(&b, x + cell / 2, y + cell / 2 + 4,
						  share > 0.5 ? " text-anchor=\"middle\" fill=\"#fff\"" : " text-anchor=\"middle\"", text, MAX_TEXT);
			}
		}
		if (n <= 80)
		{
			const char *small = cell < 16 ? " text-anchor=\"end\" font-size=\"9\"" : " text-anchor=\"end\"";
			double		at = left + cell * t + cell / 2 + 4,
						below = top + side + 12;

			put_label(&b, left - 6, top + cell * t + cell / 2 + 4, small, label[t], 20);
			snprintf(text, sizeof(text), "%s transform=\"rotate(-45 %.1f %.1f)\"", small, at, below);
			put_label(&b, at, below, text, label[t], 20);
		}
	}
	put(&b, "<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" fill=\"none\" stroke=\"#333\"/>\n", left, top, side, side);
	put_label(&b, left + side / 2, height - 10, " text-anchor=\"middle\"", "predicted", MAX_TEXT);
	snprintf(text, sizeof(text), " text-anchor=\"middle\" transform=\"rotate(-90 16 %.1f)\"", top + side / 2);
	put_label(&b, 16, top + side / 2, text, "true", MAX_TEXT);
	return end(&b, out, st);
}
