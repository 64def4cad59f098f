/*
 * pairs_pg.c
 *	  hash_pairs(), embedding_pairs(), hash_groups(), pair_groups().
 *
 * Pairs go into the result's tuplestore as they are found: beyond work_mem they are on disk.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nn/nn_pg.h"
#include "quality/pairs.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(millrace_hash_pairs);
PG_FUNCTION_INFO_V1(millrace_embedding_pairs);
PG_FUNCTION_INFO_V1(millrace_hash_groups);
PG_FUNCTION_INFO_V1(millrace_pair_groups);

/* A result whose third column is an int or a real. */
typedef struct result
{
	ReturnSetInfo *rsinfo;
	bool		whole;
} result;

static mr_code
put_pair(void *arg, uint32_t a, uint32_t b, float measure, mr_status *st)
{
	result	   *r = arg;
	Datum		values[3] = {Int32GetDatum((int32) a + 1), Int32GetDatum((int32) b + 1)};
	bool		nulls[3] = {false, false, false};

	values[2] = r->whole ? Int32GetDatum((int32) measure) : Float4GetDatum(measure);
	tuplestore_putvalues(r->rsinfo->setResult, r->rsinfo->setDesc, values, nulls);
	return MR_OK;
}

/* Elements of an array of any number of dimensions: there are n, none of them NULL. */
static void *
elements(ArrayType *array, const char *name, int64 *n)
{
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not contain NULLs", name)));
	*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	return ARR_DATA_PTR(array);
}

/* What an array of rows has in a row; 1 where it is flat. */
static int
row_length(const ArrayType *array, const char *name)
{
	if (ARR_NDIM(array) > 2)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("%s must have one or two dimensions, not %d", name, ARR_NDIM(array))));
	return ARR_NDIM(array) == 2 ? ARR_DIMS(array)[1] : 1;
}

static qlt_pair_options
plain_options(void)
{
	nn_options	engine = nn_pg_options();

	return (qlt_pair_options)
	{
		.isa = engine.isa, .max_memory = engine.max_memory
	};
}

/* first, per_item, sets and max_pairs, arguments from `from` on, for n items. */
static qlt_pair_options
read_options(FunctionCallInfo fcinfo, int from, int64 n)
{
	qlt_pair_options o = plain_options();

	if (!PG_ARGISNULL(from))
	{
		int32		first = PG_GETARG_INT32(from);

		if (first < 1)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("first must be at least 1, not %d", first)));
		o.first = (uint32_t) first - 1;
	}
	if (!PG_ARGISNULL(from + 1))
	{
		o.per_item = PG_GETARG_INT32(from + 1);
		if (o.per_item < 1 || o.per_item > QLT_MOST_NEAREST)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("per_item must be between 1 and %d, not %d", QLT_MOST_NEAREST, o.per_item)));
	}
	if (!PG_ARGISNULL(from + 2))
	{
		int64		n_sets;
		const int32 *set = elements(PG_GETARG_ARRAYTYPE_P(from + 2), "sets", &n_sets);
		uint8_t    *sets = palloc(n_sets + 1);

		if (n_sets != n)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("there are %lld items and %lld sets", (long long) n, (long long) n_sets)));
		for (int64 i = 0; i < n; i++)
		{
			if (set[i] < 0 || set[i] > 255)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("sets are numbers from 0 to 255, not %d", set[i])));
			sets[i] = (uint8_t) set[i];
		}
		o.sets = sets;
	}
	if (o.per_item == 0 && !PG_ARGISNULL(from + 3))
	{
		int64		most = PG_GETARG_INT64(from + 3);

		if (most < 1)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("max_pairs must be at least 1, not %lld", (long long) most)));
		o.max_pairs = (uint64_t) most;
	}
	return o;
}

Datum
millrace_hash_pairs(PG_FUNCTION_ARGS)
{
	result		r = {(ReturnSetInfo *) fcinfo->resultinfo, true};
	mr_env		env = mr_pg_env(NULL);
	mr_status	st = {0};
	qlt_pair_options o;
	ArrayType  *array;
	const uint64_t *hashes;
	int64		n;
	int			turns = 1;
	mr_code		code;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	array = PG_GETARG_ARRAYTYPE_P(0);
	hashes = elements(array, "hashes", &n);
	if (PG_ARGISNULL(2))
	{
		turns = row_length(array, "hashes");
		n = n == 0 ? 0 : n / turns;
		o = read_options(fcinfo, 3, n);
	}
	else
	{
		if (!PG_ARGISNULL(4) || !PG_ARGISNULL(5))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("queries go with neither per_item nor sets")));
		o = read_options(fcinfo, 3, n);
	}
	o.sink = put_pair;
	o.arg = &r;
	if (PG_ARGISNULL(2))
		code = n < 2 ? MR_OK : qlt_hash_pairs(&env, hashes, (uint32_t) n, turns, PG_GETARG_INT32(1), &o, &st);
	else
	{
		int64		n_queries;
		const uint64_t *queries = elements(PG_GETARG_ARRAYTYPE_P(2), "queries", &n_queries);

		code = qlt_hash_matches(&env, hashes, (uint32_t) n, queries, (uint32_t) n_queries, PG_GETARG_INT32(1), &o, &st);
	}
	if (code != MR_OK)
		mr_pg_raise(&st);
	return (Datum) 0;
}

Datum
millrace_embedding_pairs(PG_FUNCTION_ARGS)
{
	result		r = {(ReturnSetInfo *) fcinfo->resultinfo, false};
	mr_env		env = mr_pg_env(NULL);
	mr_status	st = {0};
	qlt_pair_options o;
	ArrayType  *array;
	const float *vectors;
	int64		n;
	int32		dims;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	array = PG_GETARG_ARRAYTYPE_P(0);
	vectors = elements(array, "vectors", &n);
	dims = PG_GETARG_INT32(1);
	if (dims < 1 || n % dims != 0 || (n > 0 && row_length(array, "vectors") > 1 && row_length(array, "vectors") != dims))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%lld numbers are not vectors of %d dimensions", (long long) n, dims)));
	n /= dims;
	o = read_options(fcinfo, 3, n);
	o.sink = put_pair;
	o.arg = &r;
	if (qlt_embedding_pairs(&env, vectors, (uint32_t) n, dims, PG_GETARG_FLOAT8(2), &o, &st) != MR_OK)
		mr_pg_raise(&st);
	return (Datum) 0;
}

Datum
millrace_hash_groups(PG_FUNCTION_ARGS)
{
	mr_env		env = mr_pg_env(NULL);
	mr_status	st = {0};
	qlt_pair_options o = plain_options();
	int64		n;
	const uint64_t *hashes = elements(PG_GETARG_ARRAYTYPE_P(0), "hashes", &n);
	ArrayType  *out;
	int			dim = (int) n,
				low = 1;
	uint32_t   *group;
	Size		size = ARR_OVERHEAD_NONULLS(1) + n * sizeof(int32);

	if (n == 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(INT4OID));
	out = MemoryContextAllocHuge(CurrentMemoryContext, size);
	SET_VARSIZE(out, size);
	out->ndim = 1;
	out->dataoffset = 0;
	out->elemtype = INT4OID;
	ARR_DIMS(out)[0] = dim;
	ARR_LBOUND(out)[0] = low;
	group = (uint32_t *) ARR_DATA_PTR(out);
	if (qlt_hash_groups(&env, hashes, (uint32_t) n, PG_GETARG_INT32(1), &o, group, &st) != MR_OK)
		mr_pg_raise(&st);
	for (int64 i = 0; i < n; i++)
		group[i]++;
	PG_RETURN_ARRAYTYPE_P(out);
}

static int
by_number(const void *a, const void *b)
{
	int64		x = *(const int64 *) a,
				y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

static uint32_t
place_of(const int64 *items, int64 n, int64 item)
{
	return (uint32_t) ((const int64 *) bsearch(&item, items, (size_t) n, sizeof(int64), by_number) - items);
}

/* Items that chains of pairs connect, by their least one. */
Datum
millrace_pair_groups(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int64		n,
				n_b,
				n_items = 0;
	const int64 *a,
			   *b;
	int64	   *items;
	uint32_t   *group;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	a = elements(PG_GETARG_ARRAYTYPE_P(0), "a", &n);
	b = elements(PG_GETARG_ARRAYTYPE_P(1), "b", &n_b);
	if (n != n_b)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there are %lld items in a and %lld in b", (long long) n, (long long) n_b)));
	items = palloc_extended((Size) (2 * n + 1) * sizeof(int64), MCXT_ALLOC_HUGE);
	memcpy(items, a, (Size) n * sizeof(int64));
	memcpy(items + n, b, (Size) n * sizeof(int64));
	qsort(items, (size_t) (2 * n), sizeof(int64), by_number);
	for (int64 i = 0; i < 2 * n; i++)
		if (i == 0 || items[i] != items[i - 1])
			items[n_items++] = items[i];
	group = palloc_extended((Size) (n_items + 1) * sizeof(uint32_t), MCXT_ALLOC_HUGE);
	for (int64 i = 0; i < n_items; i++)
		group[i] = (uint32_t) i;
	for (int64 i = 0; i < n; i++)
	{
		if ((i & 4095) == 0)
			CHECK_FOR_INTERRUPTS();
		qlt_group_join(group, place_of(items, n_items, a[i]), place_of(items, n_items, b[i]));
	}
	for (int64 i = 0; i < n_items; i++)
	{
		Datum		values[2] = {Int64GetDatum(items[i]), Int64GetDatum(items[qlt_group_of(group, (uint32_t) i)])};
		bool		nulls[2] = {false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
