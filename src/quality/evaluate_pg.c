/*
 * evaluate_pg.c
 *	  SQL entries of evaluate.h: detection_metrics(), match_detections().
 *
 * Objects and detections come as arrays of equal length, boxes flat, four
 * numbers each: an aggregate builds them at a few nanoseconds an element.
 * Memory: a context of the call's own, bounded by the arrays' sizes.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "learn/score.h"
#include "quality/evaluate.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(millrace_detection_metrics);
PG_FUNCTION_INFO_V1(millrace_match_detections);
PG_FUNCTION_INFO_V1(millrace_mcnemar);

/* Arguments of both functions. */
enum
{
	TRUTH_IMAGES, TRUTH_CLASSES, TRUTH_BOXES, TRUTH_AREAS, TRUTH_CROWDS,
	IMAGES, CLASSES, SCORES, BOXES, LAST
};

static const char *const arg_names[] = {"truth_images", "truth_classes", "truth_boxes", "truth_areas", "truth_crowds", "images", "classes", "scores", "boxes"};

/* The elements of an array argument without NULLs; n < 0 takes any number. */
static void *
elements(FunctionCallInfo fcinfo, int arg, int64 n, int64 *count)
{
	ArrayType  *a;

	if (PG_ARGISNULL(arg))
	{
		if (n > 0)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null", arg_names[arg])));
		if (count)
			*count = 0;
		return NULL;
	}
	a = PG_GETARG_ARRAYTYPE_P(arg);
	if (array_contains_nulls(a))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not contain nulls", arg_names[arg])));
	if (n >= 0 && ArrayGetNItems(ARR_NDIM(a), ARR_DIMS(a)) != n)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("argument \"%s\" has %d elements, but must have %lld", arg_names[arg],
						ArrayGetNItems(ARR_NDIM(a), ARR_DIMS(a)), (long long) n)));
	if (count)
		*count = ArrayGetNItems(ARR_NDIM(a), ARR_DIMS(a));
	return ARR_DATA_PTR(a);
}

/* Areas: NULL, or an element of it, is the box's. */
static void
set_areas(FunctionCallInfo fcinfo, qlt_truth *truth, int64 n)
{
	Datum	   *values;
	bool	   *nulls;
	int			count;

	if (PG_ARGISNULL(TRUTH_AREAS))
		return;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(TRUTH_AREAS), FLOAT4OID, sizeof(float4), true, TYPALIGN_INT, &values, &nulls, &count);
	if (count != n)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("argument \"%s\" has %d elements, but must have %lld", arg_names[TRUTH_AREAS], count, (long long) n)));
	for (int64 i = 0; i < n; i++)
		if (!nulls[i])
			truth[i].area = DatumGetFloat4(values[i]);
}

static void
set_box(double *box, const float *from)
{
	for (int k = 0; k < 4; k++)
		box[k] = from[k];
}

static qlt_truth *
truth_of_call(FunctionCallInfo fcinfo, int64 *n)
{
	int64	   *images = elements(fcinfo, TRUTH_IMAGES, -1, n);
	int32	   *classes = elements(fcinfo, TRUTH_CLASSES, *n, NULL);
	float	   *boxes = elements(fcinfo, TRUTH_BOXES, *n * 4, NULL);
	bool	   *crowds = PG_ARGISNULL(TRUTH_CROWDS) ? NULL : elements(fcinfo, TRUTH_CROWDS, *n, NULL);
	qlt_truth  *truth = MemoryContextAllocHuge(CurrentMemoryContext, (*n + 1) * sizeof(qlt_truth));

	for (int64 i = 0; i < *n; i++)
	{
		truth[i] = (qlt_truth) {.image = images[i],.class_id = classes[i],.area = -1,.crowd = crowds && crowds[i]};
		set_box(truth[i].box, boxes + 4 * i);
	}
	set_areas(fcinfo, truth, *n);
	return truth;
}

static qlt_guess *
guesses_of_call(FunctionCallInfo fcinfo, int64 *n)
{
	int64	   *images = elements(fcinfo, IMAGES, -1, n);
	int32	   *classes = elements(fcinfo, CLASSES, *n, NULL);
	float	   *scores = elements(fcinfo, SCORES, *n, NULL);
	float	   *boxes = elements(fcinfo, BOXES, *n * 4, NULL);
	qlt_guess  *guess = MemoryContextAllocHuge(CurrentMemoryContext, (*n + 1) * sizeof(qlt_guess));

	for (int64 i = 0; i < *n; i++)
	{
		guess[i] = (qlt_guess) {.image = images[i],.class_id = classes[i],.score = scores[i]};
		set_box(guess[i].box, boxes + 4 * i);
	}
	return guess;
}

static Datum
reals(const double *from, int n)
{
	Datum	   *values = palloc(n * sizeof(Datum));

	for (int i = 0; i < n; i++)
		values[i] = Float4GetDatum((float) from[i]);
	return PointerGetDatum(construct_array(values, n, FLOAT4OID, sizeof(float4), true, TYPALIGN_INT));
}

/* A figure, NULL where there is none. */
static void
put(Datum *values, bool *nulls, int column, double x)
{
	nulls[column] = isnan(x);
	values[column] = Float8GetDatum(x);
}

static double
mean(const double *x, int n)
{
	double		sum = 0;

	for (int i = 0; i < n; i++)
		sum += x[i];
	return sum / n;
}

/* A row of the result; all: of all classes together. */
static void
put_figures(ReturnSetInfo *result, const qlt_precision *p, bool all, const char *area)
{
	Datum		values[18] = {0};
	bool		nulls[18] = {0};
	int			k = 0;

	nulls[k] = all;
	values[k++] = Int32GetDatum(p->class_id);
	values[k++] = CStringGetTextDatum(area);
	values[k++] = Int64GetDatum(p->n_truth);
	values[k++] = Int64GetDatum(p->n_guess);
	put(values, nulls, k++, p->ap[0]);
	put(values, nulls, k++, p->ap[5]);
	put(values, nulls, k++, mean(p->ap, QLT_IOUS));
	put(values, nulls, k++, p->recall_1);
	put(values, nulls, k++, p->recall_10);
	put(values, nulls, k++, mean(p->recall, QLT_IOUS));
	put(values, nulls, k++, p->f1_precision);
	put(values, nulls, k++, p->f1_recall);
	put(values, nulls, k++, p->f1);
	put(values, nulls, k++, p->threshold);
	nulls[k] = nulls[k + 1] = nulls[k + 2] = p->n_truth == 0;
	nulls[k + 3] = p->n_truth == 0 || all;
	values[k++] = reals(p->ap, QLT_IOUS);
	values[k++] = reals(p->recall, QLT_IOUS);
	values[k++] = reals(p->curve, QLT_RECALLS);
	values[k++] = reals(p->curve_score, QLT_RECALLS);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
millrace_detection_metrics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int			max_detections = PG_ARGISNULL(LAST) ? 100 : PG_GETARG_INT32(LAST);
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};
	int64		n_truth,
				n_guess;
	qlt_truth  *truth = truth_of_call(fcinfo, &n_truth);
	qlt_guess  *guess = guesses_of_call(fcinfo, &n_guess);
	qlt_evaluation e;

	if (max_detections < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"max_detections\" must be positive")));
	InitMaterializedSRF(fcinfo, 0);
	if (qlt_evaluate(&env, truth, n_truth, guess, n_guess, max_detections, &e, &st) != MR_OK)
		mr_pg_raise(&st);
	for (int i = 0; i < (e.n_classes + 1) * QLT_AREAS; i++)
	{
		bool		all = i < QLT_AREAS;

		put_figures(result, all ? &e.mean[i] : &e.at[i - QLT_AREAS], all, qlt_area_names[i % QLT_AREAS]);
	}
	return (Datum) 0;
}

Datum
millrace_match_detections(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	double		iou = PG_ARGISNULL(LAST) ? 0.45 : PG_GETARG_FLOAT4(LAST);
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};
	int64		n_truth,
				n_guess;
	qlt_truth  *truth = truth_of_call(fcinfo, &n_truth);
	qlt_guess  *guess = guesses_of_call(fcinfo, &n_guess);
	int32	   *truth_match = MemoryContextAllocHuge(CurrentMemoryContext, (n_truth + 1) * sizeof(int32));
	int32	   *guess_match = MemoryContextAllocHuge(CurrentMemoryContext, (n_guess + 1) * sizeof(int32));
	float	   *overlap = MemoryContextAllocHuge(CurrentMemoryContext, (n_guess + 1) * sizeof(float));

	InitMaterializedSRF(fcinfo, 0);
	if (qlt_match(&env, truth, n_truth, guess, n_guess, iou, truth_match, guess_match, overlap, &st) != MR_OK)
		mr_pg_raise(&st);
	for (int64 i = 0; i < n_truth; i++)
		if (truth_match[i] < 0 && !truth[i].crowd)
			tuplestore_putvalues(result->setResult, result->setDesc,
								 (Datum[4]) {Int32GetDatum((int32) i + 1), 0, 0, BoolGetDatum(false)},
								 (bool[4]) {false, true, true, false});
	for (int64 i = 0; i < n_guess; i++)
		tuplestore_putvalues(result->setResult, result->setDesc,
							 (Datum[4]) {Int32GetDatum(guess_match[i] + 1), Int32GetDatum((int32) i + 1), Float4GetDatum(overlap[i]),
							 BoolGetDatum(guess_match[i] == QLT_IN_CROWD)},
							 (bool[4]) {guess_match[i] < 0, false, false, false});
	return (Datum) 0;
}

Datum
millrace_mcnemar(PG_FUNCTION_ARGS)
{
	int64		a = PG_GETARG_INT64(0),
				b = PG_GETARG_INT64(1);

	if (a < 0 || b < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("counts must not be negative")));
	PG_RETURN_FLOAT8(lrn_mcnemar(a, b, false));
}
