/*
 * svg_int.h
 *	  What the drawings share: a text that grows, axes.  See svg.h.
 */
#ifndef MILLRACE_SVG_INT_H
#define MILLRACE_SVG_INT_H

#include <math.h>

#include "core/svg.h"

#define SVG_MAX_TEXT 28			/* bytes of a label that are shown */

/* ---- svg_buffer.c ---- */

/* The text so far; it remembers a failure, and takes nothing more then. */
typedef struct svg_buffer
{
	const mr_env *env;
	char	   *data;
	size_t		len;
	size_t		size;
	mr_code		failed;
} svg_buffer;

/* Of at most 511 bytes: no text of the user's. */
extern void svg_put(svg_buffer *b, const char *fmt,...) MR_PRINTF(2, 3);

/* The bytes of a text that are shown: whole UTF-8 characters of at most max. */
extern size_t svg_cut(const char *text, size_t max);

/* A text element; attributes come with their leading space. */
extern void svg_label(svg_buffer *b, double x, double y, const char *attributes, const char *text, size_t max);

/* The frame; svg_end() gives the text away, or frees it and says what failed. */
extern void svg_begin(svg_buffer *b, double width, double height, const char *title);
extern mr_code svg_end(svg_buffer *b, char **out, mr_status *st);

/* ---- svg_axis.c ---- */

typedef struct svg_axis
{
	double		low;
	double		high;
	double		step;
	double		origin;			/* a tick, wherever it lies */
	double		from;			/* pixel of low */
	double		to;				/* pixel of high */
} svg_axis;

/* Ticks at 1, 2 or 5 times a power of ten, about so many. */
extern void svg_scale(svg_axis *a, int ticks);

/* Minutes, hours, days, weeks that begin on Mondays, and about months and years. */
extern void svg_scale_time(svg_axis *a, int ticks);

/* Lines, numbers and names of both. */
extern void svg_axes(svg_buffer *b, const svg_chart *c, const svg_axis *x, const svg_axis *y);

static inline double
svg_pixel(const svg_axis *a, double v)
{
	return a->from + (v - a->low) / (a->high - a->low) * (a->to - a->from);
}

/* What can be drawn: sums and differences of such numbers are numbers too. */
static inline bool
svg_usable(double v)
{
	return fabs(v) <= 1e300;
}

#endif							/* MILLRACE_SVG_INT_H */
