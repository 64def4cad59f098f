/*
 * test_core_svg.c
 *	  Charts as SVG: whatever numbers and texts come, tags close and nothing
 *	  of a text is markup.
 */
#include "core/svg.h"
#include "unit.h"

#include <math.h>
#include <stdlib.h>

static mr_status st;

/* Every < begins a tag that ends, quotes are paired, & begins one of our entities. */
static bool
well_formed(const char *s)
{
	int			depth = 0;

	for (; *s; s++)
	{
		if (*s == '&' && strncmp(s, "&amp;", 5) != 0 && strncmp(s, "&lt;", 4) != 0 && strncmp(s, "&gt;", 4) != 0 &&
			strncmp(s, "&quot;", 6) != 0)
			return false;
		if ((unsigned char) *s < 0x20 && *s != '\n')
			return false;
		if (*s == '<')
		{
			int			quotes = 0;
			bool		closing = s[1] == '/';

			for (s++; *s && *s != '>'; s++)
			{
				quotes += *s == '"';
				if (*s == '<')
					return false;
			}
			if (*s != '>' || quotes % 2)
				return false;
			depth += closing ? -1 : s[-1] == '/' ? 0 : 1;
		}
	}
	return depth == 0;
}

static void
lines(const char *what, const svg_chart *c, const double *x, const double *y, int64_t n)
{
	svg_series	s = {.name = "a<b & \"c\"\x01",.x = x,.y = y,.n = n};
	char	   *out = NULL;

	ok(svg_lines(&mr_env_malloc, c, &s, 1, &out, &st) == MR_OK && well_formed(out) && !strstr(out, "nan") && !strstr(out, "inf"), what);
	mr_free(&mr_env_malloc, out);
}

int
main(void)
{
	static const double special[] = {0, -0.0, 1, -1, 1e-320, 1e-300, 1e300, -1e300, 1e17, 1e17 + 16, INFINITY, -INFINITY, NAN,
	1.7976931348623157e308, 4e8, 1e-7};
	int			n = sizeof(special) / sizeof(special[0]);
	svg_chart	plain = {.title = "t <&> \xEF\xBF\xBF",.x_label = "x"},
				timed = {.x_is_time = true,.markers = true};
	static double x[100000],
				y[100000];
	const char *label[] = {"a", "a label that is far too long to be \xC3\xA9\xC3\xA9\xC3\xA9 shown", ""};
	int64_t		count[9] = {5, 0, 1, 0, 0, 0, INT64_MAX / 4, 2, 3};
	char	   *out = NULL;
	bool		fine = true;
	svg_series	many[30] = {{0}};

	/* Every pair of numbers as the two ends of an axis. */
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++)
			for (int t = 0; t < 2; t++)
			{
				double		px[2] = {special[i], special[j]},
							py[2] = {special[j], special[i]};
				svg_series	s = {.x = px,.y = py,.n = 2};

				fine &= svg_lines(&mr_env_malloc, t ? &timed : &plain, &s, 1, &out, &st) == MR_OK && well_formed(out) && !strstr(out, "nan");
				mr_free(&mr_env_malloc, out);
			}
	ok(fine, "axes from and to any number");
	lines("no points", &plain, x, y, 0);
	for (int i = 0; i < 100000; i++)
	{
		x[i] = i;
		y[i] = i % 1000 == 500 ? NAN : sin(i) * i;
	}
	lines("many points with gaps", &plain, x, y, 100000);
	lines("as times", &timed, x, y, 100000);
	for (int i = 0; i < 30; i++)
		many[i] = (svg_series) {"s", x, y, 1000};
	ok(svg_lines(&mr_env_malloc, &plain, many, 30, &out, &st) == MR_OK && strstr(out, "and 10 more") && strlen(out) < 600000, "thirty lines: twenty are drawn");
	mr_free(&mr_env_malloc, out);
	x[0] = -3e8;
	x[1] = 3e8;
	y[0] = 1;
	y[1] = 2;
	ok(svg_lines(&mr_env_malloc, &timed, &(svg_series) {.x = x,.y = y,.n = 2}, 1, &out, &st) == MR_OK && strstr(out, ">1995<") && strstr(out, ">2005<"), "years on both sides of 2000");
	mr_free(&mr_env_malloc, out);
	ok(svg_matrix(&mr_env_malloc, "m", label, count, 3, &out, &st) == MR_OK && well_formed(out) && strstr(out, "...</text>"), "a matrix, a long label cut");
	mr_free(&mr_env_malloc, out);
	ok(svg_bars(&mr_env_malloc, &plain, x + 1, y, 1, &out, &st) == MR_OK && well_formed(out), "one bar");
	mr_free(&mr_env_malloc, out);
	return done_testing();
}
