/*
 * export_calibrate.c
 *	  Scores to probabilities as ONNX, as kernels_calibrate.h computes them.
 *
 * An isotonic map is straight lines between points.  How many points do not lie
 * above a score tells the line: tables by that number have where it begins, how
 * far it goes and how much it rises; the lines beyond the ends rise nothing.
 */
#include "learn/export.h"

#include <stdio.h>
#include <string.h>

#include "learn/calibrate.h"

/* A name with a number; all of this file begin with map_, apart from the learners'. */
typedef struct numbered
{
	char		name[32];
} numbered;

static numbered
name_of(const char *what, int i)
{
	numbered	n;

	snprintf(n.name, sizeof(n.name), "map_%s_%d", what, i);
	return n;
}

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
	lrn_onnx_doubles(e, name_of("start", c).name, 1, &lines, start);
	lrn_onnx_doubles(e, name_of("width", c).name, 1, &lines, width);
	lrn_onnx_doubles(e, name_of("low", c).name, 1, &lines, low);
	lrn_onnx_doubles(e, name_of("rise", c).name, 1, &lines, rise);
	mr_free(e->env, table);
	return MR_OK;
}

/* out = low + rise * ((score - start) / width), all by the score's line; [N, 1]. */
static mr_code
put_isotonic(lrn_export *e, int c, const char *score, const char *out)
{
	static const char *const tables[] = {"start", "width", "low", "rise"};
	uint32_t	first = e->m->calibration.first[c];
	int64_t		n = e->m->calibration.first[c + 1] - first;
	numbered	points = name_of("points", c),
				reached = name_of("reached", c),
				ones = name_of("ones", c),
				count = name_of("count", c),
				line = name_of("line", c),
				off = name_of("off", c),
				part = name_of("part", c),
				risen = name_of("risen", c);
	mr_code		code = put_lines(e, c, e->m->calibration.x + first, e->m->calibration.y + first, (uint32_t) n);

	if (code)
		return code;
	lrn_onnx_doubles(e, points.name, 1, &n, e->m->calibration.x + first);
	lrn_onnx_op(e, "GreaterOrEqual", reached.name, score, points.name, NULL);
	lrn_onnx_cast(e, ones.name, reached.name, MR_ONNX_FLOAT);
	lrn_onnx_op(e, "ReduceSum", count.name, ones.name, "map_across", NULL);
	lrn_onnx_cast(e, line.name, count.name, MR_ONNX_INT64);
	for (int i = 0; i < 4; i++)
	{
		char		here[64];

		snprintf(here, sizeof(here), "map_%s_here_%d", tables[i], c);
		lrn_onnx_gather(e, here, name_of(tables[i], c).name, line.name, 0);
	}
	lrn_onnx_op(e, "Sub", off.name, score, name_of("start_here", c).name, NULL);
	lrn_onnx_op(e, "Div", part.name, off.name, name_of("width_here", c).name, NULL);
	lrn_onnx_op(e, "Mul", risen.name, name_of("rise_here", c).name, part.name, NULL);
	lrn_onnx_op(e, "Add", out, name_of("low_here", c).name, risen.name, NULL);
	return MR_OK;
}

/* All maps, from double [N, maps] to double [N, maps]. */
static mr_code
put_maps(lrn_export *e, int maps, const char *scores, const char *out)
{
	int64_t		n = maps;
	size_t		at;

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
		numbered	column = name_of("column", (int) c),
					score = name_of("score", (int) c);
		mr_code		code;

		lrn_onnx_ints(e, column.name, 1, &c);
		lrn_onnx_gather(e, score.name, scores, column.name, 1);
		code = put_isotonic(e, (int) c, score.name, name_of("mapped", (int) c).name);
		if (code)
			return code;
		if (mr_interrupted(e->env))
			return lrn_canceled(e->st);
	}
	at = mr_onnx_begin(&e->w, 1);
	for (int c = 0; c < maps; c++)
		mr_onnx_text(&e->w, 1, name_of("mapped", c).name);
	mr_onnx_text(&e->w, 2, out);
	mr_onnx_text(&e->w, 3, out);
	mr_onnx_text(&e->w, 4, "Concat");
	mr_onnx_attr_int(&e->w, "axis", 1);
	mr_onnx_end(&e->w, at);
	return MR_OK;
}

mr_code
lrn_calibration_export(lrn_export *e, const char *in, const char *out)
{
	const int64_t one = 1;
	const float whole = 1;
	int			k = e->m->info.n_classes;
	size_t		at;
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
		at = lrn_onnx_node(e, "Concat", out, "map_other_share", "map_narrow_shares", NULL);
		mr_onnx_attr_int(&e->w, "axis", 1);
		mr_onnx_end(&e->w, at);
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
