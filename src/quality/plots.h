/*
 * plots.h
 *	  Pictures of data sets as SVG text: points in the plane and turning in
 *	  space, a heat map, bars in groups.
 *
 * As core/svg.h: deterministic, texts escaped, the size follows the picture and
 * not the data; a text comes from env.  Points that are not finite are left out.
 */
#ifndef MILLRACE_QUALITY_PLOTS_H
#define MILLRACE_QUALITY_PLOTS_H

#include "core/svg.h"

#define QLT_TURNING_POINTS 1200 /* drawn of a cloud that turns, evenly taken from all */
#define QLT_BARS 60				/* groups of bars drawn */

typedef struct qlt_points
{
	int64_t		n;
	const double *x;
	const double *y;
	const double *z;			/* turning only */
	const int32_t *group;		/* NULL: one; else 0 … n_groups - 1, others are grey */
	int			n_groups;
	const char *const *names;	/* of the groups, for the legend; NULL: none */
} qlt_points;

/* equal: both axes have the same scale, and no numbers, as for a map. */
extern mr_code qlt_svg_scatter(const mr_env *env, const svg_chart *chart, const qlt_points *points, bool equal,
							   char **out, mr_status *st);

/* The cloud turns about its upright axis once in 24 seconds, by SMIL: no script. */
extern mr_code qlt_svg_turning(const mr_env *env, const char *title, const qlt_points *points, char **out, mr_status *st);

/* rows x columns counts, the first row on top, over the unit square. */
extern mr_code qlt_svg_heat(const mr_env *env, const svg_chart *chart, const double *count, int rows, int columns,
							char **out, mr_status *st);

/* For each of n names a bar a series: count[series * n + name].  NaN is no bar. */
extern mr_code qlt_svg_groups(const mr_env *env, const svg_chart *chart, const char *const *names, int n,
							  const char *const *series, int n_series, const double *count, char **out, mr_status *st);

/* Colours that tell groups apart: ten, then lighter and darker ones of them.  out: "#rrggbb". */
extern void qlt_colour(int group, char out[8]);

#endif							/* MILLRACE_QUALITY_PLOTS_H */
