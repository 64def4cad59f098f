/*
 * split_pg.c
 *	  millrace.split_of(): the split a key belongs to, for ever.
 *
 * A hash of the key decides, so that rows which come later move none that are
 * there: what a frozen hold-out needs.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/compat.h"
#include "fmgr.h"
#include "learn/split.h"
#include "utils/array.h"
#include "utils/builtins.h"

#define MAX_SPLITS 100

PG_FUNCTION_INFO_V1(millrace_split_of);

/* The shares, checked; returns how many. */
static int
read_shares(ArrayType *array, const float8 **shares)
{
	int			n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	double		sum = 0;

	if (n < 1 || n > MAX_SPLITS || ARR_NDIM(array) != 1 || array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("shares must be an array of 1 to %d numbers", MAX_SPLITS)));
	*shares = (const float8 *) ARR_DATA_PTR(array);
	for (int i = 0; i < n; i++)
	{
		if (!((*shares)[i] >= 0))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("share %g is not a number of at least 0", (*shares)[i])));
		sum += (*shares)[i];
	}
	if (sum > 1 + 1e-9)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("shares add up to %g", sum),
				 errhint("They may add up to 1; with less, the rest of the keys is in no split.")));
	return n;
}

/* (key text, seed bigint, shares double precision[], names text[]) -> text */
Datum
millrace_split_of(PG_FUNCTION_ARGS)
{
	static const char *const two[] = {"train", "test"};
	static const char *const three[] = {"train", "validation", "test"};
	const float8 *shares;
	text	   *key;
	int			n,
				split;
	Datum		name;
	bool		isnull;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	key = PG_GETARG_TEXT_PP(0);
	n = read_shares(PG_GETARG_ARRAYTYPE_P(2), &shares);
	if (PG_ARGISNULL(3) ? n != 2 && n != 3 :
		n != ArrayGetNItems(ARR_NDIM(PG_GETARG_ARRAYTYPE_P(3)), ARR_DIMS(PG_GETARG_ARRAYTYPE_P(3))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there must be one name for each of %d shares", n),
				 errhint("Two shares are named train and test, three train, validation and test; name others yourself.")));
	split = lrn_split_of(lrn_hash(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), (uint64) PG_GETARG_INT64(1)), shares, n);
	if (split < 0)
		PG_RETURN_NULL();
	if (PG_ARGISNULL(3))
		PG_RETURN_TEXT_P(cstring_to_text(n == 2 ? two[split] : three[split]));
	name = array_get_element(PG_GETARG_DATUM(3), 1, (int[]) {split + 1}, -1, -1, false, TYPALIGN_INT, &isnull);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(name);
}
