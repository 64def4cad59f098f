/*
 * metric_scores_pg.c
 *	  Aggregates over (is_positive boolean, score double precision) that need
 *	  the order of the scores: areas under and points of ROC and PR curves.
 *
 * Exact, so all scores are kept: 8 bytes a row, and as many again while they
 * are sorted, within millrace.train_memory.  All these aggregates share one
 * state over the same two columns, and its sort.  Partial states of parallel
 * workers are joined.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "core/compat.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "learn/metrics.h"
#include "learn/settings.h"
#include "learn/sort.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#define FIRST_SIZE	1024
#define MAX_POINTS	1000000		/* of a curve, unless told to thin it */

/* Scores of one class as sort keys. */
typedef struct score_list
{
	uint64	   *key;
	int64		n;
	int64		size;
	int64		sorted;			/* so many of them are */
} score_list;

typedef struct score_state
{
	MemoryContext cxt;
	score_list	list[2];		/* negative, positive */
	int			points;			/* most of a curve; 0: all */
} score_state;

PG_FUNCTION_INFO_V1(millrace_scores_accum);
PG_FUNCTION_INFO_V1(millrace_scores_combine);
PG_FUNCTION_INFO_V1(millrace_scores_serialize);
PG_FUNCTION_INFO_V1(millrace_scores_deserialize);
PG_FUNCTION_INFO_V1(millrace_roc_auc);
PG_FUNCTION_INFO_V1(millrace_average_precision);
PG_FUNCTION_INFO_V1(millrace_roc_curve);
PG_FUNCTION_INFO_V1(millrace_pr_curve);

static score_state *
make_state(FunctionCallInfo fcinfo)
{
	MemoryContext cxt;
	score_state *s;

	if (!AggCheckCallContext(fcinfo, &cxt))
		elog(ERROR, "aggregate function called outside of an aggregate");
	s = MemoryContextAllocZero(cxt, sizeof(score_state));
	s->cxt = cxt;
	return s;
}

/* Room for n more of a class. */
static void
reserve(score_state *s, int positive, int64 n)
{
	score_list *l = &s->list[positive];
	int64		size = Max(l->size, FIRST_SIZE);

	if (l->n + n <= l->size)
		return;
	while (size < l->n + n)
		size *= 2;
	/* Sorting takes a second list of the longer class. */
	if ((double) (size + Max(size, s->list[!positive].n) + s->list[!positive].size) * sizeof(uint64) >
		(double) lrn_train_memory_kb * 1024)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("scores exceed millrace.train_memory"),
				 errdetail("All of them are sorted, and " INT64_FORMAT " rows were read.",
						   s->list[0].n + s->list[1].n),
				 errhint("Raise millrace.train_memory, or read fewer rows with TABLESAMPLE.")));
	l->key = l->key ? repalloc_huge(l->key, size * sizeof(uint64)) :
		MemoryContextAllocHuge(s->cxt, size * sizeof(uint64));
	l->size = size;
}

/* (state, is_positive boolean, score double precision [, points integer]) */
Datum
millrace_scores_accum(PG_FUNCTION_ARGS)
{
	score_state *s = PG_ARGISNULL(0) ? NULL : (score_state *) PG_GETARG_POINTER(0);
	score_list *l;
	double		score;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
	{
		if (s == NULL)
			PG_RETURN_NULL();
		PG_RETURN_POINTER(s);
	}
	score = PG_GETARG_FLOAT8(2);
	if (isnan(score))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("score is NaN"),
				 errhint("Leave out such rows, or make the score NULL.")));
	if (s == NULL)
	{
		s = make_state(fcinfo);
		if (PG_NARGS() > 3 && !PG_ARGISNULL(3))
		{
			s->points = PG_GETARG_INT32(3);
			if (s->points < 3 || s->points > MAX_POINTS)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("points must be between 3 and %d", MAX_POINTS)));
		}
	}
	reserve(s, PG_GETARG_BOOL(1), 1);
	l = &s->list[PG_GETARG_BOOL(1)];
	l->key[l->n++] = lrn_key_of(score);
	PG_RETURN_POINTER(s);
}

Datum
millrace_scores_combine(PG_FUNCTION_ARGS)
{
	score_state *s = PG_ARGISNULL(0) ? NULL : (score_state *) PG_GETARG_POINTER(0);
	const score_state *o;

	if (PG_ARGISNULL(1))
	{
		if (s == NULL)
			PG_RETURN_NULL();
		PG_RETURN_POINTER(s);
	}
	o = (score_state *) PG_GETARG_POINTER(1);
	if (s == NULL)
		s = make_state(fcinfo);
	for (int c = 0; c < 2; c++)
	{
		reserve(s, c, o->list[c].n);
		if (o->list[c].n)
			memcpy(s->list[c].key + s->list[c].n, o->list[c].key, o->list[c].n * sizeof(uint64));
		s->list[c].n += o->list[c].n;
	}
	s->points = o->points;
	PG_RETURN_POINTER(s);
}

/* A worker of the same server reads it: plain memory. */
Datum
millrace_scores_serialize(PG_FUNCTION_ARGS)
{
	const score_state *s = (score_state *) PG_GETARG_POINTER(0);
	StringInfoData buf;

	if ((s->list[0].n + s->list[1].n) * sizeof(uint64) > MaxAllocSize - 1024)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a parallel worker has too many scores"),
				 errhint("SET max_parallel_workers_per_gather = 0 for this query.")));
	pq_begintypsend(&buf);
	pq_sendbytes(&buf, (const char *) &s->points, sizeof(s->points));
	for (int c = 0; c < 2; c++)
	{
		pq_sendbytes(&buf, (const char *) &s->list[c].n, sizeof(int64));
		pq_sendbytes(&buf, (const char *) s->list[c].key, s->list[c].n * sizeof(uint64));
	}
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

Datum
millrace_scores_deserialize(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);
	const char *p = VARDATA_ANY(bytes);
	score_state *s = make_state(fcinfo);

	memcpy(&s->points, p, sizeof(s->points));
	p += sizeof(s->points);
	for (int c = 0; c < 2; c++)
	{
		int64		n;

		memcpy(&n, p, sizeof(n));
		p += sizeof(n);
		reserve(s, c, n);
		if (n)
			memcpy(s->list[c].key, p, n * sizeof(uint64));
		p += n * sizeof(uint64);
		s->list[c].n = n;
	}
	PG_RETURN_POINTER(s);
}

/* Sort what came since the last sort's end; the rows that follow may come in
 * any order again, so this changes nothing that another call could see. */
static mr_env
rank(score_state *s, lrn_ranking *r)
{
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};

	for (int c = 0; c < 2; c++)
	{
		score_list *l = &s->list[c];

		if (l->sorted < l->n && lrn_sort_keys(&env, l->key, NULL, l->n, &st) != MR_OK)
			mr_pg_raise(&st);
		l->sorted = l->n;
	}
	*r = (lrn_ranking) {.positive = s->list[1].key,.negative = s->list[0].key,
		.n_positive = s->list[1].n,.n_negative = s->list[0].n};
	return env;
}

static Datum
area(FunctionCallInfo fcinfo, double (*of) (const lrn_ranking *))
{
	lrn_ranking r;
	mr_env		env;
	double		a;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	env = rank((score_state *) PG_GETARG_POINTER(0), &r);
	r.env = &env;
	a = of(&r);
	CHECK_FOR_INTERRUPTS();
	if (isnan(a))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(a);
}

Datum
millrace_roc_auc(PG_FUNCTION_ARGS)
{
	return area(fcinfo, lrn_roc_auc);
}

Datum
millrace_average_precision(PG_FUNCTION_ARGS)
{
	return area(fcinfo, lrn_average_precision);
}

/* An array of the row type that the function's array is of: three numbers each. */
static Datum
points_array(FunctionCallInfo fcinfo, const lrn_curve_point *point, int64 n)
{
	Oid			type = get_element_type(get_fn_expr_rettype(fcinfo->flinfo));
	TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);
	Datum	   *value = palloc(n * sizeof(Datum));
	ArrayType  *array;

	for (int64 i = 0; i < n; i++)
	{
		Datum		field[3] = {Float8GetDatum(point[i].threshold), Float8GetDatum(point[i].x), Float8GetDatum(point[i].y)};
		bool		nulls[3] = {false};

		value[i] = HeapTupleGetDatum(heap_form_tuple(desc, field, nulls));
	}
	array = construct_array(value, n, type, -1, false, TYPALIGN_DOUBLE);
	ReleaseTupleDesc(desc);
	return PointerGetDatum(array);
}

static Datum
curve(FunctionCallInfo fcinfo, lrn_curve kind)
{
	score_state *s;
	lrn_ranking r;
	lrn_curve_point *point;
	mr_env		env;
	int64		n;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	s = (score_state *) PG_GETARG_POINTER(0);
	env = rank(s, &r);
	r.env = &env;
	n = lrn_curve_of(&r, kind, s->points ? s->points : PG_INT64_MAX, NULL);
	CHECK_FOR_INTERRUPTS();
	if (n == 0)
		PG_RETURN_NULL();
	if (n > MAX_POINTS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("curve has " INT64_FORMAT " points", n),
				 errhint("Give the most points you want as third argument.")));
	point = palloc_extended(n * sizeof(lrn_curve_point), MCXT_ALLOC_HUGE);
	n = lrn_curve_of(&r, kind, s->points ? s->points : PG_INT64_MAX, point);
	CHECK_FOR_INTERRUPTS();
	return points_array(fcinfo, point, n);
}

Datum
millrace_roc_curve(PG_FUNCTION_ARGS)
{
	return curve(fcinfo, LRN_ROC);
}

Datum
millrace_pr_curve(PG_FUNCTION_ARGS)
{
	return curve(fcinfo, LRN_PR);
}
