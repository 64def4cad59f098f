/*
 * plot_pg.c
 *	  SQL entries of plots.h: plot_scatter(), plot_turning(), plot_heat(),
 *	  plot_groups().
 *
 * Data come as arrays, as an aggregate makes them.  Memory: the caller's context.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "quality/plots.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(millrace_plot_scatter);
PG_FUNCTION_INFO_V1(millrace_plot_turning);
PG_FUNCTION_INFO_V1(millrace_plot_heat);
PG_FUNCTION_INFO_V1(millrace_plot_groups);

static char *
text_arg(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/* Numbers of a double precision[]; NULL elements are NaN, a NULL array has none. */
static double *
numbers(FunctionCallInfo fcinfo, int arg, int *n)
{
	Datum	   *values;
	bool	   *nulls;
	double	   *out;

	*n = 0;
	if (PG_ARGISNULL(arg))
		return NULL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &values, &nulls, n);
	out = (double *) values;	/* in place: a Datum is no smaller */
	StaticAssertStmt(sizeof(Datum) >= sizeof(double), "doubles fit into datums");
	for (int i = 0; i < *n; i++)
	{
		double		v = nulls[i] ? NAN : DatumGetFloat8(values[i]);

		memcpy(&out[i], &v, sizeof(v));
	}
	return out;
}

static int32 *
groups(FunctionCallInfo fcinfo, int arg, int n)
{
	Datum	   *values;
	bool	   *nulls;
	int			count;
	int32	   *out;

	if (PG_ARGISNULL(arg))
		return NULL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), INT4OID, sizeof(int32), true, TYPALIGN_INT, &values, &nulls, &count);
	if (count != n)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("there are %d points, but groups of %d", n, count)));
	out = palloc(sizeof(int32) * Max(n, 1));
	for (int i = 0; i < n; i++)
		out[i] = nulls[i] ? -1 : DatumGetInt32(values[i]);
	return out;
}

static const char **
texts(FunctionCallInfo fcinfo, int arg, int *n)
{
	Datum	   *values;
	bool	   *nulls;
	const char **out;

	*n = 0;
	if (PG_ARGISNULL(arg))
		return NULL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, n);
	out = palloc(sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		out[i] = nulls[i] ? "" : TextDatumGetCString(values[i]);
	return out;
}

static void
same_length(int a, int b)
{
	if (a != b)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("coordinates must be as many in each array, but there are %d and %d", a, b)));
}

static Datum
result(mr_code code, char **out, const mr_status *st)
{
	if (code != MR_OK)
		mr_pg_raise(st);
	return PointerGetDatum(cstring_to_text(*out));
}

/* x, y, groups, names, title, x_label, y_label, map */
Datum
millrace_plot_scatter(PG_FUNCTION_ARGS)
{
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};
	qlt_points	p = {0};
	svg_chart	chart = {.title = text_arg(fcinfo, 4),.x_label = text_arg(fcinfo, 5),.y_label = text_arg(fcinfo, 6)};
	int			n,
				ny,
				names;
	char	   *out;

	p.x = numbers(fcinfo, 0, &n);
	p.y = numbers(fcinfo, 1, &ny);
	same_length(n, ny);
	p.n = n;
	p.group = groups(fcinfo, 2, n);
	p.names = texts(fcinfo, 3, &names);
	p.n_groups = p.names ? names : 1;
	return result(qlt_svg_scatter(&env, &chart, &p, !PG_ARGISNULL(7) && PG_GETARG_BOOL(7), &out, &st), &out, &st);
}

/* x, y, z, groups, names, title */
Datum
millrace_plot_turning(PG_FUNCTION_ARGS)
{
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};
	qlt_points	p = {0};
	int			n,
				ny,
				nz,
				names;
	char	   *out;

	p.x = numbers(fcinfo, 0, &n);
	p.y = numbers(fcinfo, 1, &ny);
	p.z = numbers(fcinfo, 2, &nz);
	same_length(n, ny);
	same_length(n, nz);
	p.n = n;
	p.group = groups(fcinfo, 3, n);
	p.names = texts(fcinfo, 4, &names);
	p.n_groups = p.names ? names : 1;
	return result(qlt_svg_turning(&env, text_arg(fcinfo, 5), &p, &out, &st), &out, &st);
}

/* counts, columns, title, x_label, y_label */
Datum
millrace_plot_heat(PG_FUNCTION_ARGS)
{
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};
	svg_chart	chart = {.title = text_arg(fcinfo, 2),.x_label = text_arg(fcinfo, 3),.y_label = text_arg(fcinfo, 4)};
	int			n,
				columns = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);
	double	   *count = numbers(fcinfo, 0, &n);
	char	   *out;

	if (columns < 1 || n < 1 || n % columns != 0 || n > 250000)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%d counts make no rows of %d columns", n, columns)));
	return result(qlt_svg_heat(&env, &chart, count, n / columns, columns, &out, &st), &out, &st);
}

/* names, series, counts, title, x_label */
Datum
millrace_plot_groups(PG_FUNCTION_ARGS)
{
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};
	svg_chart	chart = {.title = text_arg(fcinfo, 3),.x_label = text_arg(fcinfo, 4)};
	int			n,
				n_series,
				n_counts;
	const char **names = texts(fcinfo, 0, &n);
	const char **series = texts(fcinfo, 1, &n_series);
	double	   *count = numbers(fcinfo, 2, &n_counts);
	char	   *out;

	if ((int64) n * n_series != n_counts || n_series > 20)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("%d counts are not %d series of %d", n_counts, n_series, n),
				 n_series > 20 ? errdetail("At most 20 series are drawn.") : 0));
	return result(qlt_svg_groups(&env, &chart, names, n, series, n_series, count, &out, &st), &out, &st);
}
