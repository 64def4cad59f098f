/*
 * neighbour_lists_pg.c
 *	  near_items(), kept_neighbours(), grown_neighbours(), neighbour_rows(): lists of neighbours that a table keeps, of items by
 *	  their numbers, and what changes them.
 *
 * Memory is that of the call (qlt_call) and of the result.  No lock.
 */
#include "quality/latent_pg.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"

PG_FUNCTION_INFO_V1(millrace_near_items);
PG_FUNCTION_INFO_V1(millrace_kept_neighbours);
PG_FUNCTION_INFO_V1(millrace_grown_neighbours);
PG_FUNCTION_INFO_V1(millrace_neighbour_rows);

/* Numbers of an array without NULLs, how many. */
static int64 *
numbers_of(ArrayType *array, int64 *n, const char *name)
{
	if (array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not contain NULLs", name)));
	*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	return (int64 *) ARR_DATA_PTR(array);
}

static int64 *
items_of(ArrayType *array, int64 *n, const char *name)
{
	int64	   *item = numbers_of(array, n, name);

	if (!qlt_ascending(item, *n))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be in ascending order, each once", name)));
	return item;
}

/* Three arrays as a table keeps them; neighbours NULL: distances alone. */
static qlt_lists
lists_of(ArrayType *items, ArrayType *neighbours, ArrayType *distances, int32 k)
{
	qlt_lists	l = {.k = k};
	int64		n;

	if (k < 1 || k > 10000)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("k must be from 1 to 10000, not %d", k)));
	l.item = items_of(items, &l.n, "items");
	if (neighbours)
	{
		l.neighbour = numbers_of(neighbours, &n, "neighbours");
		if (n != l.n * k)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("there must be %d neighbours for each of %lld items", k, (long long) l.n)));
	}
	if (array_contains_nulls(distances) || ArrayGetNItems(ARR_NDIM(distances), ARR_DIMS(distances)) != l.n * k)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("there must be %d distances for each of %lld items", k, (long long) l.n)));
	l.distance = (float *) ARR_DATA_PTR(distances);
	return l;
}

static qlt_vectors
vectors_of(ArrayType *array, int64 items, const char *name)
{
	int64		numbers = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

	if (items == 0 && numbers == 0)
		return (qlt_vectors) {(const float *) ARR_DATA_PTR(array), 0, 1};
	if (items == 0 || numbers % items != 0 || numbers / items > INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be one for each of %lld items, of the same length", name, (long long) items)));
	return qlt_vectors_of(array, numbers == 0 ? 1 : (int32) (numbers / items), name);
}

static Datum
record(FunctionCallInfo fcinfo, ArrayType *a, ArrayType *b, ArrayType *c)
{
	Datum		values[3] = {PointerGetDatum(a), PointerGetDatum(b), PointerGetDatum(c)};
	bool		nulls[3] = {false};
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/*
 * (items bigint[], vectors real[], queries bigint[], query_vectors real[], k int, known bigint[], distances real[])
 *		-> (item bigint[], neighbour bigint[], distance real[])
 * queries NULL: the items themselves.
 */
Datum
millrace_near_items(PG_FUNCTION_ARGS)
{
	int32		k = PG_GETARG_INT32(4);
	bool		both = !PG_ARGISNULL(2);
	qlt_lists	known = {.n = 0};
	qlt_vectors points,
				queries;
	int64		n,
				asked,
				n_near = 0,
				total = 0;
	const int64 *item,
			   *query;
	int32	   *index;
	float	   *distance;
	qlt_near   *near = NULL;
	qlt_call	call;
	mr_code		code;
	ArrayType  *out[3];

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(4) || (both && (PG_ARGISNULL(3) || PG_ARGISNULL(5) || PG_ARGISNULL(6))))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("arguments of near_items() must not be NULL")));
	item = numbers_of(PG_GETARG_ARRAYTYPE_P(0), &n, "items");
	points = vectors_of(PG_GETARG_ARRAYTYPE_P(1), n, "vectors");
	query = item;
	asked = n;
	queries = points;
	if (both)
	{
		query = numbers_of(PG_GETARG_ARRAYTYPE_P(2), &asked, "queries");
		queries = vectors_of(PG_GETARG_ARRAYTYPE_P(3), asked, "query_vectors");
		known = lists_of(PG_GETARG_ARRAYTYPE_P(5), NULL, PG_GETARG_ARRAYTYPE_P(6), k);
		if (n > 0 && asked > 0 && points.dims != queries.dims)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("vectors have %d dimensions, those of the queries %d", points.dims, queries.dims)));
	}
	else if (k < 1 || k > 10000)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("k must be from 1 to 10000, not %d", k)));

	qlt_call_begin(&call);
	code = qlt_check(&call.w, &points, &call.st);
	if (code == MR_OK && both)
		code = qlt_check(&call.w, &queries, &call.st);
	if (code == MR_OK)
		code = qlt_check_limit(&call.w, qlt_neighbours_memory(n, asked, points.dims, k) + (double) asked * k * 8 + (double) n * 4, &call.st);
	if (code)
		mr_pg_raise(&call.st);
	index = MemoryContextAllocHuge(call.context, (Size) asked * k * sizeof(int32) + 1);
	distance = MemoryContextAllocHuge(call.context, (Size) asked * k * sizeof(float) + 1);
	if (both)
	{
		float	   *within = MemoryContextAllocHuge(call.context, (Size) n * sizeof(float) + 1);

		for (int64 i = 0; i < n; i++)
		{
			int64		place = qlt_place(known.item, known.n, item[i]);
			float		last = place < 0 ? -1 : known.distance[place * k + k - 1];

			/* A little more than its square: what that lets in is refused by the root. */
			within[i] = last < 0 ? -1 : last * last * 1.000001f;
		}
		code = n == 0 || asked == 0 ? MR_OK : qlt_neighbours_both(&call.w, &points, &queries, k, within, index, distance, &near, &n_near, &call.st);
	}
	else
		code = qlt_neighbours(&call.w, &points, &queries, k, true, 0, index, distance, &call.st);
	if (code)
		mr_pg_raise(&call.st);
	if (both && n == 0)
		asked = 0;
	for (int64 i = 0; i < asked * k; i++)
		total += index[i] >= 0;
	out[0] = qlt_new_array(total + n_near, INT8OID, sizeof(int64));
	out[1] = qlt_new_array(total + n_near, INT8OID, sizeof(int64));
	out[2] = qlt_new_array(total + n_near, FLOAT4OID, sizeof(float4));
	total = 0;
	for (int64 i = 0; i < asked * k; i++)
	{
		if (i % 65536 == 0)
			CHECK_FOR_INTERRUPTS();
		if (index[i] >= 0)
		{
			((int64 *) ARR_DATA_PTR(out[0]))[total] = query[i / k];
			((int64 *) ARR_DATA_PTR(out[1]))[total] = item[index[i]];
			((float4 *) ARR_DATA_PTR(out[2]))[total++] = sqrtf(distance[i]);
		}
	}
	for (int64 i = 0; i < n_near; i++)
	{
		if (i % 65536 == 0)
			CHECK_FOR_INTERRUPTS();
		((int64 *) ARR_DATA_PTR(out[0]))[total] = item[near[i].point];
		((int64 *) ARR_DATA_PTR(out[1]))[total] = query[near[i].query];
		((float4 *) ARR_DATA_PTR(out[2]))[total++] = sqrtf(near[i].distance);
	}
	qlt_call_end(&call);
	return record(fcinfo, out[0], out[1], out[2]);
}

/* Arrays of n items and their lists that to points to. */
static void
new_lists(qlt_lists *to, int64 n, int k, ArrayType **out)
{
	out[0] = qlt_new_array(n, INT8OID, sizeof(int64));
	out[1] = qlt_new_array(n * k, INT8OID, sizeof(int64));
	out[2] = qlt_new_array(n * k, FLOAT4OID, sizeof(float4));
	*to = (qlt_lists) {.n = n,.k = k,.item = (int64 *) ARR_DATA_PTR(out[0]),.neighbour = (int64 *) ARR_DATA_PTR(out[1]),.distance = (float *) ARR_DATA_PTR(out[2])};
}

/* (items bigint[], neighbours bigint[], distances real[], k int, current bigint[]) -> (items, neighbours, distances) */
Datum
millrace_kept_neighbours(PG_FUNCTION_ARGS)
{
	ArrayType  *items = PG_GETARG_ARRAYTYPE_P(0),
			   *neighbours = PG_GETARG_ARRAYTYPE_P(1),
			   *distances = PG_GETARG_ARRAYTYPE_P(2);
	qlt_lists	from = lists_of(items, neighbours, distances, PG_GETARG_INT32(3)),
				all,
				to;
	int64		n;
	const int64 *current = items_of(PG_GETARG_ARRAYTYPE_P(4), &n, "current");
	ArrayType  *out[3],
			   *less[3];
	qlt_call	call;

	qlt_call_begin(&call);
	new_lists(&all, from.n, from.k, out);
	if (qlt_lists_keep(&call.w, &from, current, n, &all, &call.st))
		mr_pg_raise(&call.st);
	qlt_call_end(&call);
	if (all.n == from.n)
		return record(fcinfo, items, neighbours, distances);
	new_lists(&to, all.n, from.k, less);
	memcpy(to.item, all.item, (Size) all.n * sizeof(int64));
	memcpy(to.neighbour, all.neighbour, (Size) all.n * from.k * sizeof(int64));
	memcpy(to.distance, all.distance, (Size) all.n * from.k * sizeof(float4));
	return record(fcinfo, less[0], less[1], less[2]);
}

/*
 * (items bigint[], neighbours bigint[], distances real[], k int, fresh bigint[], item bigint[], neighbour bigint[], distance real[])
 *		-> (items, neighbours, distances)
 */
Datum
millrace_grown_neighbours(PG_FUNCTION_ARGS)
{
	qlt_lists	from = lists_of(PG_GETARG_ARRAYTYPE_P(0), PG_GETARG_ARRAYTYPE_P(1), PG_GETARG_ARRAYTYPE_P(2), PG_GETARG_INT32(3)),
				to;
	int64		n,
				pairs,
				others;
	const int64 *fresh = items_of(PG_GETARG_ARRAYTYPE_P(4), &n, "fresh"),
			   *item = numbers_of(PG_GETARG_ARRAYTYPE_P(5), &pairs, "item"),
			   *neighbour = numbers_of(PG_GETARG_ARRAYTYPE_P(6), &others, "neighbour");
	ArrayType  *distance = PG_GETARG_ARRAYTYPE_P(7);
	ArrayType  *out[3];
	qlt_call	call;

	if (others != pairs || ArrayGetNItems(ARR_NDIM(distance), ARR_DIMS(distance)) != pairs || array_contains_nulls(distance))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("there must be a neighbour and a distance for each item")));
	for (int64 i = 0; i < n; i++)
		if (qlt_place(from.item, from.n, fresh[i]) >= 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("item %lld is among the items already", (long long) fresh[i])));
	qlt_call_begin(&call);
	new_lists(&to, from.n + n, from.k, out);
	if (qlt_lists_grow(&call.w, &from, fresh, n, item, neighbour, (const float *) ARR_DATA_PTR(distance), pairs, &to, &call.st))
		mr_pg_raise(&call.st);
	qlt_call_end(&call);
	return record(fcinfo, out[0], out[1], out[2]);
}

/* (items bigint[], neighbours bigint[], distances real[], k int) -> table(item bigint, neighbours bigint[], distances real[]) */
Datum
millrace_neighbour_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	qlt_lists	l = lists_of(PG_GETARG_ARRAYTYPE_P(0), PG_GETARG_ARRAYTYPE_P(1), PG_GETARG_ARRAYTYPE_P(2), PG_GETARG_INT32(3));

	InitMaterializedSRF(fcinfo, 0);
	for (int64 i = 0; i < l.n; i++)
	{
		const int64 *list = l.neighbour + i * l.k;
		ArrayType  *neighbours,
				   *distances;
		Datum		values[3];
		bool		nulls[3] = {false};
		int			n = 0;

		CHECK_FOR_INTERRUPTS();
		while (n < l.k && list[n] != 0)
			n++;
		neighbours = qlt_new_array(n, INT8OID, sizeof(int64));
		distances = qlt_new_array(n, FLOAT4OID, sizeof(float4));
		memcpy(ARR_DATA_PTR(neighbours), list, (Size) n * sizeof(int64));
		memcpy(ARR_DATA_PTR(distances), l.distance + i * l.k, (Size) n * sizeof(float4));
		values[0] = Int64GetDatum(l.item[i]);
		values[1] = PointerGetDatum(neighbours);
		values[2] = PointerGetDatum(distances);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		pfree(neighbours);
		pfree(distances);
	}
	return (Datum) 0;
}
