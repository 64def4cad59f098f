/*
 * rows_pg.c
 *	  vector_digest() and largest_of(): what checks of data sets compute of each row.
 *
 * Called once a row of tables of any size: no memory but the argument's, no lock.
 */
#include "postgres.h"

#include <math.h>

#include "common/hashfn.h"
#include "core/compat.h"
#include "fmgr.h"
#include "utils/array.h"

PG_FUNCTION_INFO_V1(millrace_vector_digest);
PG_FUNCTION_INFO_V1(millrace_largest_of);

/* (vector real[]) -> int: of its bytes, NULLs left out; -0 is not 0 to it. */
Datum
millrace_vector_digest(PG_FUNCTION_ARGS)
{
	ArrayType  *v = PG_GETARG_ARRAYTYPE_P(0);
	uint32		digest = hash_bytes((unsigned char *) ARR_DATA_PTR(v), (int) (VARSIZE(v) - (ARR_DATA_PTR(v) - (char *) v)));

	PG_FREE_IF_COPY(v, 0);
	PG_RETURN_INT32((int32) digest);
}

/*
 * (numbers real[], at_least double precision[]) -> int: the place, from 1 on, of the largest number that is not below its limit (NULL:
 * there are no limits), the first of equal ones; NULL where all are.  A NaN is below every limit.
 */
Datum
millrace_largest_of(PG_FUNCTION_ARGS)
{
	ArrayType  *numbers,
			   *limits = PG_ARGISNULL(1) ? NULL : PG_GETARG_ARRAYTYPE_P(1);
	const float4 *x;
	const float8 *least = limits ? (const float8 *) ARR_DATA_PTR(limits) : NULL;
	int			n,
				best = -1;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	numbers = PG_GETARG_ARRAYTYPE_P(0);
	x = (const float4 *) ARR_DATA_PTR(numbers);
	n = ArrayGetNItems(ARR_NDIM(numbers), ARR_DIMS(numbers));
	if (ARR_HASNULL(numbers) || (limits && ARR_HASNULL(limits)))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("numbers and their limits must not be NULL")));
	if (limits && ArrayGetNItems(ARR_NDIM(limits), ARR_DIMS(limits)) != n)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("there must be a limit for each of the %d numbers", n)));
	for (int i = 0; i < n; i++)
		if (x[i] >= (least ? least[i] : -INFINITY) && (best < 0 || x[i] > x[best]))
			best = i;
	if (best < 0)
		PG_RETURN_NULL();
	PG_RETURN_INT32(best + 1);
}
