/*
 * plot_shares.c
 *	  A heat map, and bars in groups.  See plots.h.
 */
#include "quality/plots.h"

#include <stdio.h>
#include <string.h>

#include "core/svg_int.h"

/* ---- heat map ---- */

#define MAP_SIDE	400.0
#define MAP_LEFT	64.0
#define MAP_TOP		36.0

/* White over yellow and red to black: the square root of a share, so that single ones are seen beside thousands. */
static void
heat(double share, char out[8])
{
	static const int stop[][3] = {{255, 255, 255}, {255, 237, 160}, {253, 141, 60}, {189, 0, 38}, {64, 0, 19}};
	double		at = sqrt(fmin(fmax(share, 0), 1)) * 4;
	int			k = at >= 4 ? 3 : (int) at;
	int			rgb[3];

	for (int i = 0; i < 3; i++)
		rgb[i] = (int) (stop[k][i] + (stop[k + 1][i] - stop[k][i]) * (at - k) + 0.5);
	snprintf(out, 8, "#%02x%02x%02x", rgb[0] & 255, rgb[1] & 255, rgb[2] & 255);
}

mr_code
qlt_svg_heat(const mr_env *env, const svg_chart *c, const double *count, int rows, int columns, char **out, mr_status *st)
{
	svg_buffer	b = {.env = env};
	svg_axis	x = {.low = 0,.high = 1,.from = MAP_LEFT,.to = MAP_LEFT + MAP_SIDE},
				y = {.low = 0,.high = 1,.from = MAP_TOP,.to = MAP_TOP + MAP_SIDE};
	svg_axis	up = {.low = 0,.high = 1,.from = MAP_TOP + MAP_SIDE,.to = MAP_TOP};
	double		w = MAP_SIDE / columns,
				h = MAP_SIDE / rows,
				most = 0;
	char		text[40],
				colour[8];

	for (int64_t i = 0; i < (int64_t) rows * columns; i++)
		if (svg_usable(count[i]))
			most = fmax(most, count[i]);
	svg_begin(&b, MAP_LEFT + MAP_SIDE + 110, MAP_TOP + MAP_SIDE + 56, c->title);
	for (int r = 0; r < rows; r++)
	{
		if (mr_interrupted(env))
			b.failed = MR_CANCELED;
		for (int k = 0; k < columns; k++)
		{
			double		n = count[(int64_t) r * columns + k];

			if (!(n > 0) || !svg_usable(n))
				continue;
			heat(n / most, colour);
			svg_put(&b, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", MAP_LEFT + k * w, MAP_TOP + r * h, w + 0.2, h + 0.2, colour);
		}
	}
	for (int i = 0; i <= 4; i++)
	{
		snprintf(text, sizeof(text), "%.2g", i / 4.0);
		svg_label(&b, svg_pixel(&x, i / 4.0), MAP_TOP + MAP_SIDE + 16, " text-anchor=\"middle\" fill=\"#555\"", text, SVG_MAX_TEXT);
		svg_label(&b, MAP_LEFT - 6, svg_pixel(&y, i / 4.0) + 4, " text-anchor=\"end\" fill=\"#555\"", text, SVG_MAX_TEXT);
	}
	svg_put(&b, "<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" fill=\"none\" stroke=\"#333\"/>\n", MAP_LEFT, MAP_TOP, MAP_SIDE, MAP_SIDE);
	for (int i = 0; i < 50; i++)
	{
		heat((i + 0.5) / 50, colour);
		svg_put(&b, "<rect x=\"%.0f\" y=\"%.1f\" width=\"16\" height=\"%.1f\" fill=\"%s\"/>\n", MAP_LEFT + MAP_SIDE + 24, svg_pixel(&up, (i + 1) / 50.0), MAP_SIDE / 50 + 0.2, colour);
	}
	svg_put(&b, "<rect x=\"%.0f\" y=\"%.0f\" width=\"16\" height=\"%.0f\" fill=\"none\" stroke=\"#333\"/>\n", MAP_LEFT + MAP_SIDE + 24, MAP_TOP, MAP_SIDE);
	for (int i = 0; i <= 4; i++)
	{
		snprintf(text, sizeof(text), "%.4g", most * i / 4);
		svg_label(&b, MAP_LEFT + MAP_SIDE + 46, svg_pixel(&up, i / 4.0) + 4, " fill=\"#555\"", text, SVG_MAX_TEXT);
	}
	if (c->x_label)
		svg_label(&b, MAP_LEFT + MAP_SIDE / 2, MAP_TOP + MAP_SIDE + 40, " text-anchor=\"middle\"", c->x_label, 60);
	if (c->y_label)
	{
		snprintf(text, sizeof(text), "%.0f", MAP_TOP + MAP_SIDE / 2);
		svg_put(&b, "<g transform=\"rotate(-90 16 %s)\">", text);
		svg_label(&b, 16, MAP_TOP + MAP_SIDE / 2, " text-anchor=\"middle\"", c->y_label, 60);
		svg_put(&b, "</g>\n");
	}
	return svg_end(&b, out, st);
}

/* ---- bars ---- */

#define BAR			13.0
#define GAP			9.0
#define BARS_TOP	56.0
#define NAMES		170.0
#define BARS_WIDTH	720.0

mr_code
qlt_svg_groups(const mr_env *env, const svg_chart *c, const char *const *names, int n,
			   const char *const *series, int n_series, const double *count, char **out, mr_status *st)
{
	svg_buffer	b = {.env = env};
	int			shown = n < QLT_BARS ? n : QLT_BARS;
	double		group = n_series * BAR + GAP,
				most = 0,
				height = BARS_TOP + shown * group + 48 + (n > shown ? 16 : 0),
				at = NAMES;
	svg_axis	x = {.low = 0,.from = NAMES,.to = BARS_WIDTH - 70};
	char		text[48],
				colour[8];

	for (int s = 0; s < n_series; s++)
		for (int i = 0; i < shown; i++)
			if (svg_usable(count[(int64_t) s * n + i]))
				most = fmax(most, count[(int64_t) s * n + i]);
	x.high = most > 0 ? most : 1;
	svg_scale(&x, 6);
	svg_begin(&b, BARS_WIDTH, height, c->title);
	for (int s = 0; s < n_series && at < BARS_WIDTH - 100; s++)
	{
		qlt_colour(s, colour);
		svg_put(&b, "<rect x=\"%.0f\" y=\"32\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", at, colour);
		svg_label(&b, at + 18, 43, "", series[s], 16);
		at += 40 + 7.0 * (double) svg_cut(series[s], 16);
	}
	for (double v = 0; v <= x.high + x.step * 1e-9; v += x.step)
	{
		svg_put(&b, "<path d=\"M%.1f %.1fV%.1f\" stroke=\"#e5e5e5\"/>\n", svg_pixel(&x, v), BARS_TOP, BARS_TOP + shown * group);
		snprintf(text, sizeof(text), "%.6g", v);
		svg_label(&b, svg_pixel(&x, v), BARS_TOP + shown * group + 16, " text-anchor=\"middle\" fill=\"#555\"", text, SVG_MAX_TEXT);
	}
	for (int i = 0; i < shown; i++)
	{
		double		y = BARS_TOP + i * group + GAP / 2;

		svg_label(&b, NAMES - 8, y + n_series * BAR / 2 + 4, " text-anchor=\"end\"", names[i], 22);
		for (int s = 0; s < n_series; s++, y += BAR)
		{
			double		v = count[(int64_t) s * n + i];

			if (!svg_usable(v) || v < 0)
				continue;
			qlt_colour(s, colour);
			svg_put(&b, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", NAMES, y, svg_pixel(&x, v) - NAMES, BAR - 1.5, colour);
			snprintf(text, sizeof(text), "%.6g", v);
			svg_label(&b, svg_pixel(&x, v) + 4, y + 10, " font-size=\"10\" fill=\"#555\"", text, SVG_MAX_TEXT);
		}
	}
	svg_put(&b, "<path d=\"M%.1f %.1fV%.1f\" stroke=\"#333\"/>\n", NAMES, BARS_TOP, BARS_TOP + shown * group);
	if (n > shown)
	{
		snprintf(text, sizeof(text), "and %d more", n - shown);
		svg_label(&b, NAMES - 8, BARS_TOP + shown * group + 32, " text-anchor=\"end\" fill=\"#555\"", text, SVG_MAX_TEXT);
	}
	if (c->x_label)
		svg_label(&b, (x.from + x.to) / 2, BARS_TOP + shown * group + 36, " text-anchor=\"middle\"", c->x_label, 60);
	return svg_end(&b, out, st);
}
