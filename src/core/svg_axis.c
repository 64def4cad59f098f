/*
 * svg_axis.c
 *	  Axes of charts: where ticks stand and what is written at them.
 */
#include "core/svg_int.h"

#include <stdio.h>

#define YEAR		(365.25 * 86400)
#define MAX_TICKS	20

void
svg_scale(svg_axis *a, int ticks)
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

void
svg_scale_time(svg_axis *a, int ticks)
{
	static const double steps[] = {60, 300, 900, 3600, 10800, 21600, 43200, 86400, 2 * 86400, 7 * 86400.0, 14 * 86400.0,
	28 * 86400.0, 91 * 86400.0, 182 * 86400.0, YEAR, 2 * YEAR, 5 * YEAR, 10 * YEAR, 20 * YEAR, 50 * YEAR, 100 * YEAR};
	int			n = (int) (sizeof(steps) / sizeof(steps[0]));
	int			i = 0;

	svg_scale(a, ticks);
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

void
svg_axes(svg_buffer *b, const svg_chart *c, const svg_axis *x, const svg_axis *y)
{
	char		text[64];

	for (int i = 0; i < MAX_TICKS; i++)
	{
		double		v = (ceil((x->low - x->origin) / x->step - 1e-9) + i) * x->step + x->origin,
					at = svg_pixel(x, v);

		if (v > x->high + x->step * 1e-9)
			break;

		svg_put(b, "<path d=\"M%.1f %.1fV%.1f\" stroke=\"#e5e5e5\"/>\n", at, y->from, y->to);
		(c->x_is_time ? time_text : number_text) (fabs(v) < x->step * 1e-9 ? 0 : v, x->step, text, sizeof(text));
		svg_label(b, at, y->from + 16, " text-anchor=\"middle\" fill=\"#555\"", text, SVG_MAX_TEXT);
	}
	for (int i = 0; i < MAX_TICKS; i++)
	{
		double		v = (ceil(y->low / y->step - 1e-9) + i) * y->step,
					at = svg_pixel(y, v);

		if (v > y->high + y->step * 1e-9)
			break;

		svg_put(b, "<path d=\"M%.1f %.1fH%.1f\" stroke=\"#e5e5e5\"/>\n", x->from, at, x->to);
		number_text(fabs(v) < y->step * 1e-9 ? 0 : v, y->step, text, sizeof(text));
		svg_label(b, x->from - 6, at + 4, " text-anchor=\"end\" fill=\"#555\"", text, SVG_MAX_TEXT);
	}
	svg_put(b, "<path d=\"M%.1f %.1fV%.1fH%.1f\" fill=\"none\" stroke=\"#333\"/>\n", x->from, y->to, y->from, x->to);
	if (c->x_label)
		svg_label(b, (x->from + x->to) / 2, y->from + 38, " text-anchor=\"middle\"", c->x_label, 60);
	if (c->y_label)
	{
		double		at = (y->from + y->to) / 2;

		snprintf(text, sizeof(text), " text-anchor=\"middle\" transform=\"rotate(-90 16 %.1f)\"", at);
		svg_label(b, 16, at, text, c->y_label, 60);
	}
}
