/*
 * alike_pg.c
 *	  image_match(): two images by their facts.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "quality/alike.h"
#include "utils/array.h"

PG_FUNCTION_INFO_V1(millrace_image_match);

static const void *
numbers(FunctionCallInfo fcinfo, int argument, int n, const char *what)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(argument);

	if (ARR_NDIM(array) != 1 || ARR_DIMS(array)[0] != n || array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be an array of %d numbers", what, n),
				 errhint("Take it from millrace.image_facts().")));
	return ARR_DATA_PTR(array);
}

Datum
millrace_image_match(PG_FUNCTION_ARGS)
{
	qlt_alike	alike = qlt_look_alike(numbers(fcinfo, 0, 8, "a_hashes"), numbers(fcinfo, 1, IMG_THUMB_LEN, "a_thumbnail"),
									   numbers(fcinfo, 2, 8, "b_hashes"), numbers(fcinfo, 3, IMG_THUMB_LEN, "b_thumbnail"));
	Datum		values[3] = {Int32GetDatum(alike.distance), Float4GetDatum(alike.cosine), Int32GetDatum(alike.turn)};
	bool		nulls[3] = {false, false, false};
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
