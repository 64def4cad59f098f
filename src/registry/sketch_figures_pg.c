/*
 * sketch_figures_pg.c
 *	  Figures of one sketch and of two: quantiles and categories, drift and tests.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "core/compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "registry/sketch_pg.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(millrace_sketch_merge);
PG_FUNCTION_INFO_V1(millrace_sketch_quantile);
PG_FUNCTION_INFO_V1(millrace_sketch_describe);
PG_FUNCTION_INFO_V1(millrace_sketch_categories);
PG_FUNCTION_INFO_V1(millrace_drift_figures);
PG_FUNCTION_INFO_V1(millrace_drift_psi);
PG_FUNCTION_INFO_V1(millrace_drift_jensen_shannon);
PG_FUNCTION_INFO_V1(millrace_drift_ks);
PG_FUNCTION_INFO_V1(millrace_drift_mann_whitney);
PG_FUNCTION_INFO_V1(millrace_drift_chi2);

/* ---- one sketch ---- */

static lrn_sketch *
get_sketch(FunctionCallInfo fcinfo, int argument)
{
	mr_env		env = mr_pg_env(CurrentMemoryContext);

	return reg_sketch_from_datum(&env, PG_GETARG_DATUM(argument));
}

Datum
millrace_sketch_merge(PG_FUNCTION_ARGS)
{
	lrn_sketch *into = get_sketch(fcinfo, 0);

	reg_sketch_merge(into, get_sketch(fcinfo, 1));
	PG_RETURN_POINTER(reg_sketch_to_datum(into));
}

static double
quantile_of(const lrn_sketch *s, double q)
{
	double		value;

	reg_sketch_check(lrn_sketch_quantile(s, q, &value));
	return value;
}

Datum
millrace_sketch_quantile(PG_FUNCTION_ARGS)
{
	lrn_sketch *s = get_sketch(fcinfo, 0);
	double		q = PG_GETARG_FLOAT8(1);
	double		value;

	if (!(q >= 0 && q <= 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("quantile %g is not between 0 and 1", q)));
	if (lrn_sketch_kind_of(s) != LRN_SKETCH_NUMBER)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a sketch of categories has no quantiles")));
	value = quantile_of(s, q);
	if (isnan(value))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(value);
}

static void
put_float(Datum *values, bool *nulls, int i, double x)
{
	values[i] = Float8GetDatum(x);
	nulls[i] = isnan(x);
}

static Datum
form_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

Datum
millrace_sketch_describe(PG_FUNCTION_ARGS)
{
	lrn_sketch *s = get_sketch(fcinfo, 0);
	bool		number = lrn_sketch_kind_of(s) == LRN_SKETCH_NUMBER;
	lrn_sketch_info f;
	Datum		values[14];
	bool		nulls[14] = {0};

	lrn_sketch_describe(s, &f);
	values[0] = CStringGetTextDatum(number ? "number" : "category");
	values[1] = Int64GetDatum(f.count + f.missing);
	values[2] = Int64GetDatum(f.missing);
	values[3] = Int64GetDatum(f.infinite);
	nulls[3] = !number;
	put_float(values, nulls, 4, f.min);
	for (int i = 1; i <= 3; i++)
		put_float(values, nulls, 4 + i, number ? quantile_of(s, i / 4.0) : NAN);
	put_float(values, nulls, 8, f.max);
	put_float(values, nulls, 9, f.mean);
	put_float(values, nulls, 10, f.sd);
	values[11] = Int64GetDatum(f.distinct);
	nulls[11] = number;
	values[12] = BoolGetDatum(f.exact);
	put_float(values, nulls, 13, number ? f.rank_error : NAN);
	PG_RETURN_DATUM(form_row(fcinfo, values, nulls));
}

typedef struct category
{
	const char *text;
	int			len;
	int64		count;
} category;

static int
by_count(const void *a, const void *b)
{
	const category *x = a,
			   *y = b;
	int			order = memcmp(x->text, y->text, Min(x->len, y->len));

	if (x->count != y->count)
		return x->count > y->count ? -1 : 1;
	return order ? order : x->len - y->len;
}

Datum
millrace_sketch_categories(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	lrn_sketch *s = get_sketch(fcinfo, 0);
	category   *list;
	int			n = 0;
	lrn_sketch_info f;

	InitMaterializedSRF(fcinfo, 0);
	lrn_sketch_describe(s, &f);
	list = palloc((f.distinct + 1) * sizeof(category));
	while (lrn_sketch_category(s, n, &list[n].text, &list[n].len, &list[n].count))
		n++;
	qsort(list, n, sizeof(category), by_count);
	for (int i = 0; i < n; i++)
	{
		Datum		values[2] = {PointerGetDatum(cstring_to_text_with_len(list[i].text, list[i].len)),
		Int64GetDatum(list[i].count)};
		bool		nulls[2] = {false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* ---- two sketches ---- */

static void
compare(FunctionCallInfo fcinfo, lrn_drift *d)
{
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st;

	if (lrn_drift_compare(&env, get_sketch(fcinfo, 0), get_sketch(fcinfo, 1),
						  PG_NARGS() > 2 ? PG_GETARG_INT32(2) : LRN_DRIFT_BINS, d, &st) != MR_OK)
		mr_pg_raise(&st);
}

static Datum
test_result(FunctionCallInfo fcinfo, double statistic, double p, int df)
{
	Datum		values[3];
	bool		nulls[3];

	put_float(values, nulls, 0, statistic);
	put_float(values, nulls, 1, p);
	values[2] = Int32GetDatum(df);
	nulls[2] = df <= 0;
	return form_row(fcinfo, values, nulls);
}

Datum
millrace_drift_psi(PG_FUNCTION_ARGS)
{
	lrn_drift	d;

	compare(fcinfo, &d);
	if (isnan(d.psi))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(d.psi);
}

Datum
millrace_drift_jensen_shannon(PG_FUNCTION_ARGS)
{
	lrn_drift	d;

	compare(fcinfo, &d);
	if (isnan(d.js))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(d.js);
}

Datum
millrace_drift_ks(PG_FUNCTION_ARGS)
{
	lrn_drift	d;

	compare(fcinfo, &d);
	PG_RETURN_DATUM(test_result(fcinfo, d.ks, d.ks_p, 0));
}

Datum
millrace_drift_mann_whitney(PG_FUNCTION_ARGS)
{
	lrn_drift	d;

	compare(fcinfo, &d);
	PG_RETURN_DATUM(test_result(fcinfo, d.shift, d.shift_p, 0));
}

Datum
millrace_drift_chi2(PG_FUNCTION_ARGS)
{
	lrn_drift	d;

	compare(fcinfo, &d);
	PG_RETURN_DATUM(test_result(fcinfo, d.chi2, d.chi2_p, d.chi2_df));
}

Datum
millrace_drift_figures(PG_FUNCTION_ARGS)
{
	lrn_drift	d;
	Datum		values[16];
	bool		nulls[16];

	compare(fcinfo, &d);
	put_float(values, nulls, 0, d.psi);
	put_float(values, nulls, 1, d.js);
	put_float(values, nulls, 2, d.ks);
	put_float(values, nulls, 3, d.ks_p);
	put_float(values, nulls, 4, d.shift);
	put_float(values, nulls, 5, d.shift_p);
	put_float(values, nulls, 6, d.mean_shift);
	put_float(values, nulls, 7, d.sd_ratio);
	put_float(values, nulls, 8, d.chi2);
	put_float(values, nulls, 9, d.chi2_p);
	values[10] = Int32GetDatum(d.chi2_df);
	nulls[10] = isnan(d.chi2);
	put_float(values, nulls, 11, d.missing[1]);
	put_float(values, nulls, 12, d.missing[0]);
	put_float(values, nulls, 13, d.missing_p);
	put_float(values, nulls, 14, d.new_share);
	put_float(values, nulls, 15, d.new_p);
	PG_RETURN_DATUM(form_row(fcinfo, values, nulls));
}
