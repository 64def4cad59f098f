/*
 * svg.h
 *	  Charts as SVG text: lines, bars, a matrix of counts.
 *
 * Small, self-contained and deterministic: the same data give the same bytes.
 * Texts may hold anything; they are escaped, cut where they are long, and what
 * XML does not allow becomes a space.  A text comes from env; MR_NOMEM.
 */
#ifndef MILLRACE_SVG_H
#define MILLRACE_SVG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/env.h"
#include "core/status.h"

#define SVG_MAX_SERIES	20		/* drawn of a chart; a note says how many are left out */
#define SVG_MAX_MATRIX	200

typedef struct svg_chart
{
	const char *title;			/* NULL: none; labels too */
	const char *x_label;
	const char *y_label;
	double		x_low,			/* of the axes; both equal: from the data */
				x_high;
	double		y_low,
				y_high;
	bool		diagonal;		/* a dashed line from corner to corner */
	bool		markers;		/* a dot at each point */
	bool		x_is_time;		/* x is seconds since 2000-01-01 */
} svg_chart;

typedef struct svg_series
{
	const char *name;			/* NULL: not in the legend */
	const double *x;
	const double *y;			/* NaN breaks the line */
	int64_t		n;
} svg_series;

extern mr_code svg_lines(const mr_env *env, const svg_chart *chart, const svg_series *series, int n,
						 char **out, mr_status *st);

/* n bars between n + 1 edges. */
extern mr_code svg_bars(const mr_env *env, const svg_chart *chart, const double *edge, const double *height,
						int n, char **out, mr_status *st);

/* count: n x n, a row for each true label; shades are shares of the row. */
extern mr_code svg_matrix(const mr_env *env, const char *title, const char *const *label, const int64_t *count,
						  int n, char **out, mr_status *st);

#endif							/* MILLRACE_SVG_H */
