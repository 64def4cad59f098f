/*
 * latent_figures_pg.c
 *	  nearest_neighbours(), knn_agreement(), outlier_factors(), knn_outliers(), neighbour_outliers(),
 *	  neighbour_confusion(), silhouettes(), kmeans_clusters(), principal_components().
 *
 * Places count from 1 in SQL, from 0 here.  neighbour_*() take lists as tables keep them, of items by their numbers.
 */
#include "quality/latent_pg.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"

PG_FUNCTION_INFO_V1(millrace_nearest_neighbours);
PG_FUNCTION_INFO_V1(millrace_knn_agreement);
PG_FUNCTION_INFO_V1(millrace_outlier_factors);
PG_FUNCTION_INFO_V1(millrace_knn_outliers);
PG_FUNCTION_INFO_V1(millrace_neighbour_outliers);
PG_FUNCTION_INFO_V1(millrace_neighbour_confusion);
PG_FUNCTION_INFO_V1(millrace_silhouettes);
PG_FUNCTION_INFO_V1(millrace_kmeans_clusters);
PG_FUNCTION_INFO_V1(millrace_principal_components);

#define MOST_NEIGHBOURS	10000
#define FLOOR			0.5		/* of qlt_outlier_factors() */

/* Lists of neighbours, n x k: distances, not squared. */
typedef struct lists
{
	int64		n;
	int			k;
	int32	   *index;
	float	   *distance;
} lists;

static void
check_k(int32 k)
{
	if (k < 1 || k > MOST_NEIGHBOURS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("k must be from 1 to %d, not %d", MOST_NEIGHBOURS, k)));
}

/* Raises through call->st. */
static void
check(qlt_call *call, mr_code code)
{
	if (code)
		mr_pg_raise(&call->st);
}

/* k for each, distances (or NULL) with them, none of them NULL. */
static void
check_lists(ArrayType *neighbours, ArrayType *distances, int32 k)
{
	int64		n = ArrayGetNItems(ARR_NDIM(neighbours), ARR_DIMS(neighbours));

	check_k(k);
	if (array_contains_nulls(neighbours) || (distances && array_contains_nulls(distances)))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("neighbours and their distances must not contain NULLs"),
				 errhint("A place without a neighbour is 0.")));
	if (n % k != 0 || (distances && ArrayGetNItems(ARR_NDIM(distances), ARR_DIMS(distances)) != n))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("neighbours, and their distances, must be %d for each point", k)));
}

/* The neighbours of queries among points, in the call's memory. */
static lists
search(qlt_call *call, const qlt_vectors *points, const qlt_vectors *queries, int k, bool skip_self, int64 first)
{
	lists		l = {.n = queries->n,.k = k};
	Size		entries = (Size) queries->n * k;

	check(call, qlt_check(&call->w, points, &call->st));
	if (queries->x != points->x)
		check(call, qlt_check(&call->w, queries, &call->st));
	check(call, qlt_check_limit(&call->w, qlt_neighbours_memory(points->n, queries->n, points->dims, k) + (double) entries * 8, &call->st));
	l.index = MemoryContextAllocHuge(call->context, entries * sizeof(int32) + 1);
	l.distance = MemoryContextAllocHuge(call->context, entries * sizeof(float) + 1);
	check(call, qlt_neighbours(&call->w, points, queries, k, skip_self, first, l.index, l.distance, &call->st));
	for (Size i = 0; i < entries; i++)
		l.distance[i] = sqrtf(l.distance[i]);
	return l;
}

/*
 * (points real[], dims int, k int, queries real[], first int, within real[]) -> table(query int, neighbours int[], distances real[])
 * within, a distance for each query: only nearer points, and queries that have one.
 */
Datum
millrace_nearest_neighbours(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		others = !PG_ARGISNULL(3);
	int			k = PG_ARGISNULL(2) ? 10 : PG_GETARG_INT32(2);
	int32		first = PG_ARGISNULL(4) ? 1 : PG_GETARG_INT32(4);
	ArrayType  *within = PG_ARGISNULL(5) ? NULL : PG_GETARG_ARRAYTYPE_P(5);
	const float *limit = within ? (const float *) ARR_DATA_PTR(within) : NULL;
	qlt_vectors points,
				queries;
	qlt_call	call;
	lists		l;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return (Datum) 0;
	check_k(k);
	points = qlt_vectors_of(PG_GETARG_ARRAYTYPE_P(0), PG_GETARG_INT32(1), "points");
	queries = others ? qlt_vectors_of(PG_GETARG_ARRAYTYPE_P(3), PG_GETARG_INT32(1), "queries") : points;
	if (first < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("first must be at least 1, not %d", first)));
	if (within && (array_contains_nulls(within) || ArrayGetNItems(ARR_NDIM(within), ARR_DIMS(within)) != queries.n))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("within must be a distance for each of the %lld queries", (long long) queries.n)));
	if (first - 1 >= queries.n)
		return (Datum) 0;
	if (limit)
		limit += first - 1;
	queries.x += (size_t) (first - 1) * queries.dims;
	queries.n -= first - 1;
	qlt_call_begin(&call);
	l = search(&call, &points, &queries, k, !others, first - 1);
	for (int64 i = 0; i < l.n; i++)
	{
		const int32 *index = l.index + i * k;
		ArrayType  *neighbours,
				   *distances;
		Datum		values[3];
		bool		nulls[3] = {false};
		int			found = 0;

		CHECK_FOR_INTERRUPTS();
		while (found < k && index[found] >= 0 && (!limit || l.distance[i * k + found] < limit[i]))
			found++;
		if (limit && found == 0)
			continue;
		neighbours = qlt_new_array(found, INT4OID, sizeof(int32));
		distances = qlt_new_array(found, FLOAT4OID, sizeof(float4));
		for (int j = 0; j < found; j++)
		{
			((int32 *) ARR_DATA_PTR(neighbours))[j] = index[j] + 1;
			((float4 *) ARR_DATA_PTR(distances))[j] = l.distance[i * k + j];
		}
		values[0] = Int32GetDatum((int32) (first + i));
		values[1] = PointerGetDatum(neighbours);
		values[2] = PointerGetDatum(distances);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		pfree(neighbours);
		pfree(distances);
	}
	qlt_call_end(&call);
	return (Datum) 0;
}

/* Shares as real[], NULLs where there are no neighbours. */
static ArrayType *
shares(qlt_call *call, const lists *l, const int32 *label, int at_most)
{
	float	   *share = MemoryContextAllocHuge(call->context, (Size) l->n * sizeof(float) + 1);
	Datum	   *values = MemoryContextAllocHuge(call->context, (Size) l->n * sizeof(Datum) + 1);
	bool	   *nulls = MemoryContextAllocHuge(call->context, (Size) l->n + 1);
	int			dims[1] = {(int) l->n},
				low[1] = {1};

	check(call, qlt_agreement(&call->w, l->n, l->k, l->index, label, at_most, share, &call->st));
	for (int64 i = 0; i < l->n; i++)
	{
		values[i] = Float4GetDatum(share[i]);
		nulls[i] = isnan(share[i]);
	}
	return construct_md_array(values, nulls, 1, dims, low, FLOAT4OID, sizeof(float4), true, TYPALIGN_INT);
}

/* (vectors real[], dims int, labels int[], k int) -> real[] */
Datum
millrace_knn_agreement(PG_FUNCTION_ARGS)
{
	qlt_vectors v = qlt_vectors_of(PG_GETARG_ARRAYTYPE_P(0), PG_GETARG_INT32(1), "vectors");
	const int32 *label = qlt_labels_of(PG_GETARG_ARRAYTYPE_P(2), v.n);
	int32		k = PG_GETARG_INT32(3);
	qlt_call	call;
	lists		l;
	ArrayType  *out;

	check_k(k);
	qlt_call_begin(&call);
	l = search(&call, &v, &v, k, true, 0);
	out = shares(&call, &l, label, k);
	qlt_call_end(&call);
	PG_RETURN_ARRAYTYPE_P(out);
}

static double *
factors(qlt_call *call, const lists *l, double floor)
{
	double	   *factor = MemoryContextAllocHuge(call->context, (Size) l->n * sizeof(double) + 1);

	check(call, qlt_outlier_factors(&call->w, l->n, l->k, l->index, l->distance, floor, factor, &call->st));
	return factor;
}

/* (neighbours int[], distances real[], k int) -> double precision[] */
Datum
millrace_outlier_factors(PG_FUNCTION_ARGS)
{
	ArrayType  *neighbours = PG_GETARG_ARRAYTYPE_P(0),
			   *distances = PG_GETARG_ARRAYTYPE_P(1);
	int64		n = ArrayGetNItems(ARR_NDIM(neighbours), ARR_DIMS(neighbours));
	qlt_call	call;
	lists		l = {.k = PG_GETARG_INT32(2)};
	ArrayType  *out;

	check_lists(neighbours, distances, l.k);
	qlt_call_begin(&call);
	l.n = n / l.k;
	l.index = MemoryContextAllocHuge(call.context, (Size) n * sizeof(int32) + 1);
	for (int64 i = 0; i < n; i++)
		l.index[i] = ((const int32 *) ARR_DATA_PTR(neighbours))[i] - 1;
	l.distance = (float *) ARR_DATA_PTR(distances);
	out = qlt_new_array(l.n, FLOAT8OID, sizeof(float8));
	memcpy(ARR_DATA_PTR(out), factors(&call, &l, 0), (Size) l.n * sizeof(float8));
	qlt_call_end(&call);
	PG_RETURN_ARRAYTYPE_P(out);
}

/* Rows (item, factor, limit) of points beyond the limit, with items their nearest and how far it is; items NULL: their places from 1 on. */
static void
put_outliers(FunctionCallInfo fcinfo, qlt_call *call, const lists *l, const int64 *items, double floor, float4 deviations, float4 at_least)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	double	   *factor,
				limit;

	if (!(deviations >= 0))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("deviations must be at least 0, not %g", deviations)));
	factor = factors(call, l, floor);
	check(call, qlt_outlier_limit(&call->w, l->n, factor, deviations, &limit, &call->st));
	limit = Max(limit, at_least);
	for (int64 i = 0; i < l->n; i++)
	{
		Datum		values[5] = {items ? Int64GetDatum(items[i]) : Int32GetDatum((int32) i + 1), Float8GetDatum(factor[i]), Float8GetDatum(limit)};
		bool		nulls[5] = {false};

		if (factor[i] <= limit)
			continue;
		if (items)
		{
			int32		nearest = l->index[i * l->k];

			nulls[3] = nulls[4] = nearest < 0;
			values[3] = Int64GetDatum(nearest < 0 ? 0 : items[nearest]);
			values[4] = Float4GetDatum(l->distance[i * l->k]);
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/* (vectors real[], dims int, k int, deviations real, at_least real) -> table(item int, factor double precision, "limit" double precision) */
Datum
millrace_knn_outliers(PG_FUNCTION_ARGS)
{
	qlt_vectors v = qlt_vectors_of(PG_GETARG_ARRAYTYPE_P(0), PG_GETARG_INT32(1), "vectors");
	qlt_call	call;
	lists		l;

	InitMaterializedSRF(fcinfo, 0);
	check_k(PG_GETARG_INT32(2));
	qlt_call_begin(&call);
	l = search(&call, &v, &v, PG_GETARG_INT32(2), true, 0);
	put_outliers(fcinfo, &call, &l, NULL, FLOOR, PG_GETARG_FLOAT4(3), PG_GETARG_FLOAT4(4));
	qlt_call_end(&call);
	return (Datum) 0;
}

/*
 * Lists of k items each, as a table holds them, in the call's memory: items are ascending; what is not among them is
 * no neighbour.
 */
static lists
lists_of(qlt_call *call, ArrayType *items, ArrayType *neighbours, ArrayType *distances, int32 k)
{
	lists		l = {.n = ArrayGetNItems(ARR_NDIM(items), ARR_DIMS(items)),.k = k};
	const int64 *item = (const int64 *) ARR_DATA_PTR(items),
			   *from = (const int64 *) ARR_DATA_PTR(neighbours);

	check_lists(neighbours, distances, k);
	if (array_contains_nulls(items) || ArrayGetNItems(ARR_NDIM(neighbours), ARR_DIMS(neighbours)) != l.n * k)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("there must be %d neighbours for each of %lld items", k, (long long) l.n)));
	if (!qlt_ascending(item, l.n))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("items must be in ascending order, each once")));
	l.index = MemoryContextAllocHuge(call->context, (Size) l.n * k * sizeof(int32) + 1);
	for (int64 i = 0; i < l.n * k; i++)
	{
		int64		place = qlt_place(item, l.n, from[i]);

		l.index[i] = place == i / k ? -1 : (int32) place;
		if (i % 65536 == 0)
			CHECK_FOR_INTERRUPTS();
	}
	if (distances)
		l.distance = (float *) ARR_DATA_PTR(distances);
	return l;
}

/* (items bigint[], neighbours bigint[], distances real[], k int, deviations real, at_least real) -> table(item bigint, factor, "limit", nearest bigint, distance real) */
Datum
millrace_neighbour_outliers(PG_FUNCTION_ARGS)
{
	ArrayType  *items = PG_GETARG_ARRAYTYPE_P(0);
	qlt_call	call;
	lists		l;

	InitMaterializedSRF(fcinfo, 0);
	qlt_call_begin(&call);
	l = lists_of(&call, items, PG_GETARG_ARRAYTYPE_P(1), PG_GETARG_ARRAYTYPE_P(2), PG_GETARG_INT32(3));
	put_outliers(fcinfo, &call, &l, (const int64 *) ARR_DATA_PTR(items), FLOOR, PG_GETARG_FLOAT4(4), PG_GETARG_FLOAT4(5));
	qlt_call_end(&call);
	return (Datum) 0;
}

static int
compare_labels(const void *a, const void *b)
{
	int32		x = *(const int32 *) a,
				y = *(const int32 *) b;

	return x < y ? -1 : x > y;
}

/* (items bigint[], neighbours bigint[], labels int[], k int, at_most int) -> table(label int, neighbour_label int, pairs bigint) */
Datum
millrace_neighbour_confusion(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int32		at_most = PG_GETARG_INT32(4);
	const int32 *label;
	int32	   *names,
			   *class;
	int64	   *pairs;
	int			classes = 0;
	qlt_call	call;
	lists		l;

	InitMaterializedSRF(fcinfo, 0);
	qlt_call_begin(&call);
	l = lists_of(&call, PG_GETARG_ARRAYTYPE_P(0), PG_GETARG_ARRAYTYPE_P(1), NULL, PG_GETARG_INT32(3));
	label = qlt_labels_of(PG_GETARG_ARRAYTYPE_P(2), l.n);
	names = MemoryContextAllocHuge(call.context, (Size) l.n * sizeof(int32) + 1);
	class = MemoryContextAllocHuge(call.context, (Size) l.n * sizeof(int32) + 1);
	memcpy(names, label, (Size) l.n * sizeof(int32));
	qsort(names, l.n, sizeof(int32), compare_labels);
	for (int64 i = 0; i < l.n; i++)
		if (i == 0 || names[i] != names[classes - 1])
			names[classes++] = names[i];
	for (int64 i = 0; i < l.n; i++)
		class[i] = (int32) ((int32 *) bsearch(&label[i], names, classes, sizeof(int32), compare_labels) - names);
	check(&call, qlt_check_limit(&call.w, (double) classes * classes * sizeof(int64), &call.st));
	pairs = MemoryContextAllocExtended(call.context, (Size) classes * classes * sizeof(int64) + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	check(&call, qlt_confusion(&call.w, l.n, l.k, l.index, class, classes, at_most, pairs, &call.st));
	for (int64 at = 0; at < (int64) classes * classes; at++)
	{
		Datum		values[3] = {Int32GetDatum(names[at / classes]), Int32GetDatum(names[at % classes]), Int64GetDatum(pairs[at])};
		bool		nulls[3] = {false};

		if (pairs[at] > 0)
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	qlt_call_end(&call);
	return (Datum) 0;
}

/* (vectors real[], dims int, labels int[], sample int, random_state bigint) -> table(label, points, sampled, silhouette) */
Datum
millrace_silhouettes(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	qlt_vectors v = qlt_vectors_of(PG_GETARG_ARRAYTYPE_P(0), PG_GETARG_INT32(1), "vectors");
	const int32 *label = qlt_labels_of(PG_GETARG_ARRAYTYPE_P(2), v.n);
	int32		sample = PG_GETARG_INT32(3);
	qlt_silhouette_row *row,
				all = {.silhouette = 0};
	int64		n;
	qlt_call	call;

	InitMaterializedSRF(fcinfo, 0);
	if (sample < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("sample must be at least 1, not %d", sample)));
	qlt_call_begin(&call);
	check(&call, qlt_silhouettes(&call.w, &v, label, sample, (uint64) PG_GETARG_INT64(4), &row, &n, &call.st));
	for (int64 i = 0; i <= n && n > 0; i++)
	{
		const qlt_silhouette_row *r = i < n ? &row[i] : &all;
		Datum		values[4] = {Int32GetDatum(r->label), Int32GetDatum((int32) r->points), Int32GetDatum((int32) r->sampled)};
		bool		nulls[4] = {i == n, false, false, false};

		if (i < n)
		{
			all.points += r->points;
			all.sampled += r->sampled;
			all.silhouette += r->sampled ? r->silhouette * (double) r->sampled : 0;
			values[3] = Float8GetDatum(r->silhouette);
			nulls[3] = isnan(r->silhouette);
		}
		else
		{
			values[3] = Float8GetDatum(all.silhouette / (double) Max(all.sampled, 1));
			nulls[3] = n < 2;
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	qlt_call_end(&call);
	return (Datum) 0;
}

/* (vectors real[], dims int, k int, random_state bigint) -> int[] */
Datum
millrace_kmeans_clusters(PG_FUNCTION_ARGS)
{
	qlt_vectors v = qlt_vectors_of(PG_GETARG_ARRAYTYPE_P(0), PG_GETARG_INT32(1), "vectors");
	ArrayType  *out = qlt_new_array(v.n, INT4OID, sizeof(int32));
	int32	   *cluster = (int32 *) ARR_DATA_PTR(out);
	qlt_call	call;

	qlt_call_begin(&call);
	check(&call, qlt_clusters(&call.w, &v, PG_GETARG_INT32(2), (uint64) PG_GETARG_INT64(3), cluster, &call.st));
	for (int64 i = 0; i < v.n; i++)
		cluster[i]++;
	qlt_call_end(&call);
	PG_RETURN_ARRAYTYPE_P(out);
}

/* (vectors real[], dims int, n_components int) -> real[] */
Datum
millrace_principal_components(PG_FUNCTION_ARGS)
{
	qlt_vectors v = qlt_vectors_of(PG_GETARG_ARRAYTYPE_P(0), PG_GETARG_INT32(1), "vectors");
	int32		k = PG_GETARG_INT32(2);
	ArrayType  *out;
	double	   *deviation;
	qlt_call	call;

	if (k < 1 || k > v.dims)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("n_components must be from 1 to %d, not %d", v.dims, k)));
	out = qlt_new_array(v.n * k, FLOAT4OID, sizeof(float4));
	qlt_call_begin(&call);
	check(&call, qlt_check(&call.w, &v, &call.st));
	check(&call, qlt_check_limit(&call.w, qlt_principal_memory(v.n, v.dims, k) + (double) k * sizeof(double), &call.st));
	deviation = MemoryContextAllocHuge(call.context, k * sizeof(double));
	if (v.n > 0)
		check(&call, qlt_principal(&call.w, &v, k, 0, (float *) ARR_DATA_PTR(out), deviation, &call.st));
	qlt_call_end(&call);
	PG_RETURN_ARRAYTYPE_P(out);
}
