/*
 * test_quality_plots.c
 *	  Pictures of data sets as SVG: whatever numbers and texts come, tags close,
 *	  nothing of a text is markup, and no number is none.
 */
#include "quality/plots.h"
#include "unit.h"

#include <math.h>

static mr_status st;

/* Every < begins a tag that ends, quotes are paired, & begins one of our entities. */
static bool
well_formed(const char *s)
{
	int			depth = 0;

	for (; *s; s++)
	{
		if (*s == '&' && strncmp(s, "&amp;", 5) != 0 && strncmp(s, "&lt;", 4) != 0 && strncmp(s, "&gt;", 4) != 0 && strncmp(s, "&quot;", 6) != 0)
			return false;
		if (*s == '<')
		{
			int			quotes = 0;
			bool		closing = s[1] == '/';

			for (s++; *s && *s != '>'; s++)
				quotes += *s == '"';
			if (*s != '>' || quotes % 2)
				return false;
			depth += closing ? -1 : s[-1] == '/' ? 0 : 1;
		}
	}
	return depth == 0;
}

static void
drawn(const char *what, mr_code code, char *out)
{
	ok(code == MR_OK && well_formed(out) && !strstr(out, "nan") && !strstr(out, "inf"), "%s", what);
	if (code == MR_OK)
		mr_free(&mr_env_malloc, out);
}

int
main(void)
{
	static const double special[] = {0, -0.0, 1, -1, 1e-320, 1e300, -1e300, 1e17, INFINITY, -INFINITY, NAN, 1.7976931348623157e308, 4e8, 1e-7, 3, 5};
	const char *names[] = {"a<b & \"c\"", "", "\xd0\xba\xd0\xbe\xd1\x88\xd0\xba\xd0\xb0 of a very long name that is cut somewhere"};
	int32_t		group[] = {0, 1, 2, 3, -1, 2147483647, -2147483647, 0, 1, 2, 0, 1, 2, 0, 1, 2};
	svg_chart	chart = {.title = "<title>",.x_label = "x & y",.y_label = "\"y\""};
	double		y[16],
				same[16];
	char	   *out = NULL;
	qlt_points	p = {.n = 16,.x = special,.y = y,.z = special,.group = group,.n_groups = 3,.names = names};
	mr_code		code;

	for (int i = 0; i < 16; i++)
	{
		y[i] = special[(i + 3) % 16];
		same[i] = 7;
	}
	code = qlt_svg_scatter(&mr_env_malloc, &chart, &p, false, &out, &st);
	drawn("points of odd numbers", code, out);
	code = qlt_svg_scatter(&mr_env_malloc, &chart, &p, true, &out, &st);
	drawn("as a map", code, out);
	code = qlt_svg_turning(&mr_env_malloc, "t", &p, &out, &st);
	drawn("turning", code, out);
	p.x = p.y = p.z = same;
	code = qlt_svg_scatter(&mr_env_malloc, &chart, &p, true, &out, &st);
	drawn("all at one place", code, out);
	code = qlt_svg_turning(&mr_env_malloc, NULL, &p, &out, &st);
	drawn("turning at one place", code, out);
	p = (qlt_points) {.n = 0,.x = same,.y = same,.z = same,.n_groups = 1};
	code = qlt_svg_scatter(&mr_env_malloc, &chart, &p, false, &out, &st);
	drawn("no points", code, out);
	code = qlt_svg_turning(&mr_env_malloc, "t", &p, &out, &st);
	drawn("none that turn", code, out);
	code = qlt_svg_heat(&mr_env_malloc, &chart, special, 4, 4, &out, &st);
	drawn("a heat map of odd numbers", code, out);
	code = qlt_svg_heat(&mr_env_malloc, &chart, special, 1, 1, &out, &st);
	drawn("one cell that is 0", code, out);
	code = qlt_svg_groups(&mr_env_malloc, &chart, names, 3, names, 3, special, &out, &st);
	drawn("bars of odd numbers", code, out);
	code = qlt_svg_groups(&mr_env_malloc, &chart, names, 0, names, 0, NULL, &out, &st);
	drawn("no bars", code, out);
	return done_testing();
}
