/*
 * export_calibrate.c
 *	  Scores to probabilities as ONNX, as kernels_calibrate.h computes them.
 *
 * An isotonic map is straight lines between points.  How many points do not lie
 * above a score tells the line: tables by that number have where it begins, how
 * far it goes and how much it rises; the lines beyond the ends rise nothing.
 *
 * All values of this file are named map_..., apart from the learners'.
 */
#include "learn/export.h"

#include <stdio.h>

#include "learn/calibrate.h"

/* Tables of map c's n + 1 lines, from env. */
static mr_code
put_lines(lrn_export *e, int c, const double *x, const double *y, uint32_t n)
{
	int64_t		lines = (int64_t) n + 1;
	double	   *table = mr_alloc(e->env, 4 * (size_t) lines * sizeof(double)),
			   *start = table,
			   *width = start + lines,
			   *low = width + lines,
			   *rise = low + lines;

	if (table == NULL)
		return lrn_out_of_memory(e->st);
	for (uint32_t i = 0; i <= n; i++)
	{
		uint32_t	from = i == 0 ? 0 : i - 1;
		bool		inside = i > 0 && i < n;

		start[i] = x[from];
		low[i] = y[from];
		width[i] = inside ? x[i] - x[from] : 1;
		rise[i] = inside ? y[i] - y[from] : 0;
	}
	lrn_onnx_doubles(e, lrn_onnx_numbered("map_start", c).s, 1, &lines, start);
	lrn_onnx_doubles(e, lrn_onnx_numbered("map_width", c).s, 1, &lines, width);
	lrn_onnx_doubles(e, lrn_onnx_numbered("map_low", c).s, 1, &lines, low);
	lrn_onnx_doubles(e, lrn_onnx_numbered("map_rise", c).s, 1, &lines, rise);
	mr_free(e->env, table);
	return MR_OK;
}

/* out = low + rise * ((score - start) / width), all by the score's line; [N, 1]. */
static mr_code
put_isotonic(lrn_export *e, int c, const char *score, const char *out)
{
	static const char *const tables[] = {"map_start", "map_width", "map_low", "map_rise"};
	uint32_t	first = e->m->calibration.first[c];
	int64_t		n = e->m->calibration.first[c + 1] - first;
	lrn_onnx_name points = lrn_onnx_numbered("map_points", c),
				reached = lrn_onnx_numbered("map_reached", c),
				ones = lrn_onnx_numbered("map_ones", c),
				count = lrn_onnx_numbered("map_count", c),
				line = lrn_onnx_numbered("map_line", c),
				off = lrn_onnx_numbered("map_off", c),
				part = lrn_onnx_numbered("map_part", c),
				risen = lrn_onnx_numbered("map_risen", c);
	mr_code		code = put_lines(e, c, e->m->calibration.x + first, e->m->calibration.y + first, (uint32_t) n);

	if (code)
		return code;
	lrn_onnx_doubles(e, points.s, 1, &n, e->m->calibration.x + first);
	lrn_onnx_op(e, "GreaterOrEqual", reached.s, score, points.s, NULL);
	lrn_onnx_cast(e, ones.s, reached.s, MR_ONNX_FLOAT);
	lrn_onnx_op(e, "ReduceSum", count.s, ones.s, "map_across", NULL);
	lrn_onnx_cast(e, line.s, count.s, MR_ONNX_INT64);
	for (int i = 0; i < 4; i++)
	{
		char		here[32];

		snprintf(here, sizeof(here), "%s_here", tables[i]);
		lrn_onnx_gather(e, lrn_onnx_numbered(here, c).s, lrn_onnx_numbered(tables[i], c).s, line.s, 0);
	}
	lrn_onnx_op(e, "Sub", off.s, score, lrn_onnx_numbered("map_start_here", c).s, NULL);
	lrn_onnx_op(e, "Div", part.s, off.s, lrn_onnx_numbered("map_width_here", c).s, NULL);
	lrn_onnx_op(e, "Mul", risen.s, lrn_onnx_numbered("map_rise_here", c).s, part.s, NULL);
	lrn_onnx_op(e, "Add", out, lrn_onnx_numbered("map_low_here", c).s, risen.s, NULL);
	return MR_OK;
}

/* All maps, from double [N, maps] to double [N, maps]. */
static mr_code
put_maps(lrn_export *e, int maps, const char *scores, const char *out)
{
	int64_t		n = maps;

	if (e->m->calibration.kind == LRN_CALIBRATION_SIGMOID)
	{
		lrn_onnx_doubles(e, "map_slope", 1, &n, e->m->calibration.a);
		lrn_onnx_doubles(e, "map_offset", 1, &n, e->m->calibration.b);
		lrn_onnx_op(e, "Mul", "map_sloped", scores, "map_slope", NULL);
		lrn_onnx_op(e, "Add", "map_logit", "map_sloped", "map_offset", NULL);
		lrn_onnx_sigmoid(e, "map_logit", out);
		return MR_OK;
	}
	for (int64_t c = 0; c < n; c++)
	{
		lrn_onnx_name column = lrn_onnx_numbered("map_column", (int) c),
					score = lrn_onnx_numbered("map_score", (int) c);
		mr_code		code;

		lrn_onnx_ints(e, column.s, 1, &c);
		lrn_onnx_gather(e, score.s, scores, column.s, 1);
		code = put_isotonic(e, (int) c, score.s, lrn_onnx_numbered("map_mapped", (int) c).s);
		if (code)
			return code;
		if (mr_interrupted(e->env))
			return lrn_canceled(e->st);
	}
	lrn_onnx_join(e, out, "map_mapped", maps);
	return MR_OK;
}

mr_code
lrn_calibration_export(lrn_export *e, const char *in, const char *out)
{
	const int64_t one = 1;
	const float whole = 1;
	int			k = e->m->info.n_classes;
	mr_code		code;

	lrn_onnx_ints(e, "map_across", 1, &one);	/* axis 1, and column 1 */
	if (k == 2)
	{
		lrn_onnx_gather(e, "map_second_score", in, "map_across", 1);
		lrn_onnx_cast(e, "map_wide_scores", "map_second_score", MR_ONNX_DOUBLE);
	}
	else
		lrn_onnx_cast(e, "map_wide_scores", in, MR_ONNX_DOUBLE);
	code = put_maps(e, lrn_n_maps(k), "map_wide_scores", "map_shares");
	if (code)
		return code;
	lrn_onnx_cast(e, "map_narrow_shares", "map_shares", MR_ONNX_FLOAT);
	if (k == 2)
	{
		lrn_onnx_floats(e, "map_whole", 0, NULL, &whole);
		lrn_onnx_op(e, "Sub", "map_other_share", "map_whole", "map_narrow_shares", NULL);
		lrn_onnx_pair(e, out, "map_other_share", "map_narrow_shares");
		return MR_OK;
	}
	/* rounded as ours are, so that equal ones stay equal; where all are 0, alike */
	lrn_onnx_double(e, "map_nothing", 0);
	lrn_onnx_double(e, "map_alike", 1.0 / k);
	lrn_onnx_cast(e, "map_rounded_shares", "map_narrow_shares", MR_ONNX_DOUBLE);
	lrn_onnx_op(e, "ReduceSum", "map_total", "map_shares", "map_across", NULL);
	lrn_onnx_op(e, "Equal", "map_none", "map_total", "map_nothing", NULL);
	lrn_onnx_op(e, "Div", "map_parts", "map_rounded_shares", "map_total", NULL);
	lrn_onnx_op(e, "Where", "map_chosen", "map_none", "map_alike", "map_parts", NULL);
	lrn_onnx_cast(e, out, "map_chosen", MR_ONNX_FLOAT);
	return MR_OK;
}
