/*
 * metric_values_pg.c
 *	  Aggregates that are sums: log-loss, Brier score and calibration of
 *	  probabilities; errors of predicted values.
 *
 * The states are structs of fixed size without pointers, so that a parallel
 * worker's is sent as it lies in memory.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "learn/metrics.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#define DEFAULT_BINS	10
#define MAX_BINS		1000
#define SLACK			1e-6	/* by which rounding may carry a probability past 1 */

typedef struct probability_state
{
	int64		n;
	double		log_loss;
	double		brier;
	int			bins;			/* 0: not counted */
	lrn_bin		bin[FLEXIBLE_ARRAY_MEMBER];
} probability_state;

#define STATE_SIZE(bins) (offsetof(probability_state, bin) + (bins) * sizeof(lrn_bin))

PG_FUNCTION_INFO_V1(millrace_probabilities_accum);
PG_FUNCTION_INFO_V1(millrace_distribution_accum);
PG_FUNCTION_INFO_V1(millrace_probabilities_combine);
PG_FUNCTION_INFO_V1(millrace_probabilities_serialize);
PG_FUNCTION_INFO_V1(millrace_log_loss);
PG_FUNCTION_INFO_V1(millrace_brier_score);
PG_FUNCTION_INFO_V1(millrace_calibration_error);
PG_FUNCTION_INFO_V1(millrace_calibration_curve);
PG_FUNCTION_INFO_V1(millrace_residuals_accum);
PG_FUNCTION_INFO_V1(millrace_residuals_combine);
PG_FUNCTION_INFO_V1(millrace_residuals_serialize);
PG_FUNCTION_INFO_V1(millrace_state_deserialize);
PG_FUNCTION_INFO_V1(millrace_mean_absolute_error);
PG_FUNCTION_INFO_V1(millrace_mean_squared_error);
PG_FUNCTION_INFO_V1(millrace_root_mean_squared_error);
PG_FUNCTION_INFO_V1(millrace_r2);

static void *
make_state(FunctionCallInfo fcinfo, Size size)
{
	MemoryContext cxt;

	if (!AggCheckCallContext(fcinfo, &cxt))
		elog(ERROR, "aggregate function called outside of an aggregate");
	return MemoryContextAllocZero(cxt, size);
}

/* The state unchanged, when a row does not count. */
static Datum
same_state(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}

static double
probability(double p)
{
	if (!(p >= -SLACK && p <= 1 + SLACK))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("probability %g is not between 0 and 1", p)));
	return Min(Max(p, 0), 1);
}

/* (state, is_positive boolean, probability double precision [, bins integer]) */
Datum
millrace_probabilities_accum(PG_FUNCTION_ARGS)
{
	probability_state *s;
	lrn_bin    *bin;
	bool		positive;
	double		p;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		return same_state(fcinfo);
	positive = PG_GETARG_BOOL(1);
	p = probability(PG_GETARG_FLOAT8(2));
	if (PG_ARGISNULL(0))
	{
		int			bins = PG_NARGS() > 3 && !PG_ARGISNULL(3) ? PG_GETARG_INT32(3) : DEFAULT_BINS;

		if (bins < 1 || bins > MAX_BINS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("bins must be between 1 and %d", MAX_BINS)));
		s = make_state(fcinfo, STATE_SIZE(bins));
		s->bins = bins;
	}
	else
		s = (probability_state *) PG_GETARG_POINTER(0);
	s->n++;
	s->log_loss += lrn_log_loss(positive ? p : 1 - p);
	s->brier += (p - positive) * (p - positive);
	bin = &s->bin[lrn_bin_of(p, s->bins)];
	bin->n++;
	bin->sum += p;
	bin->right += positive;
	PG_RETURN_POINTER(s);
}

/*
 * (state, truth text, probabilities double precision[], labels text[])
 * A label that is not among labels was given no probability.
 */
Datum
millrace_distribution_accum(PG_FUNCTION_ARGS)
{
	probability_state *s;
	text	   *truth;
	ArrayType  *probabilities,
			   *labels;
	const float8 *p;
	char	   *label;
	int			n;
	double		given = 0,
				brier = 0;
	bool		found = false;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
		return same_state(fcinfo);
	truth = PG_GETARG_TEXT_PP(1);
	probabilities = PG_GETARG_ARRAYTYPE_P(2);
	labels = PG_GETARG_ARRAYTYPE_P(3);
	if (array_contains_nulls(probabilities) || array_contains_nulls(labels))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("probabilities and labels must not contain nulls")));
	n = ArrayGetNItems(ARR_NDIM(labels), ARR_DIMS(labels));
	if (n != ArrayGetNItems(ARR_NDIM(probabilities), ARR_DIMS(probabilities)) || n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there must be one probability for each label"),
				 errdetail("There are %d labels and %d probabilities.", n,
						   ArrayGetNItems(ARR_NDIM(probabilities), ARR_DIMS(probabilities)))));
	p = (const float8 *) ARR_DATA_PTR(probabilities);
	label = ARR_DATA_PTR(labels);
	for (int c = 0; c < n; c++)
	{
		bool		is_truth = VARSIZE_ANY_EXHDR(label) == VARSIZE_ANY_EXHDR(truth) &&
			memcmp(VARDATA_ANY(label), VARDATA_ANY(truth), VARSIZE_ANY_EXHDR(truth)) == 0;
		double		q = probability(p[c]);

		brier += (q - is_truth) * (q - is_truth);
		given = is_truth ? q : given;
		found |= is_truth;
		label += VARSIZE_ANY(label);
		label = (char *) att_align_nominal(label, TYPALIGN_INT);
	}
	s = PG_ARGISNULL(0) ? make_state(fcinfo, STATE_SIZE(0)) : (probability_state *) PG_GETARG_POINTER(0);
	s->n++;
	s->log_loss += lrn_log_loss(given);
	s->brier += found ? brier : brier + 1;
	PG_RETURN_POINTER(s);
}

Datum
millrace_probabilities_combine(PG_FUNCTION_ARGS)
{
	probability_state *s;
	const probability_state *o;

	if (PG_ARGISNULL(1))
		return same_state(fcinfo);
	o = (probability_state *) PG_GETARG_POINTER(1);
	if (PG_ARGISNULL(0))
	{
		s = make_state(fcinfo, STATE_SIZE(o->bins));
		memcpy(s, o, STATE_SIZE(o->bins));
		PG_RETURN_POINTER(s);
	}
	s = (probability_state *) PG_GETARG_POINTER(0);
	s->n += o->n;
	s->log_loss += o->log_loss;
	s->brier += o->brier;
	for (int b = 0; b < Min(s->bins, o->bins); b++)
	{
		s->bin[b].n += o->bin[b].n;
		s->bin[b].sum += o->bin[b].sum;
		s->bin[b].right += o->bin[b].right;
	}
	PG_RETURN_POINTER(s);
}

static Datum
as_bytes(const void *state, Size size)
{
	bytea	   *b = palloc(VARHDRSZ + size);

	SET_VARSIZE(b, VARHDRSZ + size);
	memcpy(VARDATA(b), state, size);
	PG_RETURN_BYTEA_P(b);
}

Datum
millrace_probabilities_serialize(PG_FUNCTION_ARGS)
{
	const probability_state *s = (probability_state *) PG_GETARG_POINTER(0);

	return as_bytes(s, STATE_SIZE(s->bins));
}

/* Of both kinds of state. */
Datum
millrace_state_deserialize(PG_FUNCTION_ARGS)
{
	bytea	   *b = PG_GETARG_BYTEA_PP(0);
	void	   *s = make_state(fcinfo, VARSIZE_ANY_EXHDR(b));

	memcpy(s, VARDATA_ANY(b), VARSIZE_ANY_EXHDR(b));
	PG_RETURN_POINTER(s);
}

/* Final functions of one figure. */
#define FIGURE(name, state, figure) \
Datum \
millrace_##name(PG_FUNCTION_ARGS) \
{ \
	const state *s; \
	double		x; \
\
	if (PG_ARGISNULL(0)) \
		PG_RETURN_NULL(); \
	s = (state *) PG_GETARG_POINTER(0); \
	x = figure; \
	if (isnan(x)) \
		PG_RETURN_NULL(); \
	PG_RETURN_FLOAT8(x); \
}

FIGURE(log_loss, probability_state, s->log_loss / (double) s->n)
FIGURE(brier_score, probability_state, s->brier / (double) s->n)
FIGURE(calibration_error, probability_state, lrn_calibration_error(s->bin, s->bins))

/* Bins that have rows, as millrace.calibration_bin[]. */
Datum
millrace_calibration_curve(PG_FUNCTION_ARGS)
{
	const probability_state *s;
	Oid			type;
	TupleDesc	desc;
	Datum		value[MAX_BINS];
	int			n = 0;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	s = (probability_state *) PG_GETARG_POINTER(0);
	type = get_element_type(get_fn_expr_rettype(fcinfo->flinfo));
	desc = lookup_rowtype_tupdesc(type, -1);
	for (int b = 0; b < s->bins; b++)
	{
		const lrn_bin *bin = &s->bin[b];
		Datum		field[5];
		bool		nulls[5] = {false};

		if (bin->n == 0)
			continue;
		field[0] = Float8GetDatum(b * (1.0 / s->bins));
		field[1] = Float8GetDatum((b + 1) * (1.0 / s->bins));
		field[2] = Int64GetDatum(bin->n);
		field[3] = Float8GetDatum(bin->sum / (double) bin->n);
		field[4] = Float8GetDatum((double) bin->right / (double) bin->n);
		value[n++] = HeapTupleGetDatum(heap_form_tuple(desc, field, nulls));
	}
	ReleaseTupleDesc(desc);
	PG_RETURN_ARRAYTYPE_P(construct_array(value, n, type, -1, false, TYPALIGN_DOUBLE));
}

/* (state, truth double precision, predicted double precision) */
Datum
millrace_residuals_accum(PG_FUNCTION_ARGS)
{
	lrn_residuals *s;
	double		truth,
				predicted;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		return same_state(fcinfo);
	truth = PG_GETARG_FLOAT8(1);
	predicted = PG_GETARG_FLOAT8(2);
	if (!isfinite(truth) || !isfinite(predicted))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s value %g is not finite", isfinite(truth) ? "predicted" : "true",
						isfinite(truth) ? predicted : truth)));
	s = PG_ARGISNULL(0) ? make_state(fcinfo, sizeof(*s)) : (lrn_residuals *) PG_GETARG_POINTER(0);
	lrn_residuals_add(s, truth, predicted);
	PG_RETURN_POINTER(s);
}

Datum
millrace_residuals_combine(PG_FUNCTION_ARGS)
{
	lrn_residuals *s;

	if (PG_ARGISNULL(1))
		return same_state(fcinfo);
	s = PG_ARGISNULL(0) ? make_state(fcinfo, sizeof(*s)) : (lrn_residuals *) PG_GETARG_POINTER(0);
	lrn_residuals_merge(s, (lrn_residuals *) PG_GETARG_POINTER(1));
	PG_RETURN_POINTER(s);
}

Datum
millrace_residuals_serialize(PG_FUNCTION_ARGS)
{
	return as_bytes(PG_GETARG_POINTER(0), sizeof(lrn_residuals));
}

FIGURE(mean_absolute_error, lrn_residuals, s->absolute / (double) s->n)
FIGURE(mean_squared_error, lrn_residuals, s->square / (double) s->n)
FIGURE(root_mean_squared_error, lrn_residuals, sqrt(s->square / (double) s->n))
FIGURE(r2, lrn_residuals, lrn_r2(s))
