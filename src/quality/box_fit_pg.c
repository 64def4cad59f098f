/*
 * box_fit_pg.c
 *	  millrace.box_fit(): whether boxes lie where the objects of an image are.
 *
 * Each call works in a memory context of its own, deleted before it returns.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "image/image_pg.h"
#include "quality/box_fit.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_box_fit);

/* box_fit(image bytea, boxes real[]) -> (boxes int, fit real, best real, move text, dx real, dy real); NULLs of an image that cannot be decoded */
Datum
millrace_box_fit(PG_FUNCTION_ARGS)
{
	ArrayType  *a = PG_GETARG_ARRAYTYPE_P(1);
	int			n = ArrayGetNItems(ARR_NDIM(a), ARR_DIMS(a));
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace box fit", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(cxt);
	mr_env		env = mr_pg_env(cxt);
	mr_status	st;
	img_pixels	pixels;
	qlt_box_fit fit = {0};
	mr_code		code;
	TupleDesc	desc;
	Datum		v[6];
	bool		nulls[6] = {false, false, false, false, false, false};

	if (n % 4 != 0 || array_contains_nulls(a))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("boxes must be an array of four numbers each"),
				 errhint("They are x1, y1, x2, y2 of the first box, then of the next.")));
	code = img_decode_value(&env, PG_GETARG_DATUM(0), NULL, &pixels, &st);
	if (code == MR_OK)
		code = qlt_fit_boxes(&env, &pixels, (const qlt_box *) ARR_DATA_PTR(a), n / 4, &fit, &st);
	if (code != MR_OK && code != MR_INVALID)
		mr_pg_raise(&st);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(cxt);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (code == MR_INVALID || fit.boxes == 0)
		memset(nulls, true, sizeof(nulls));
	v[0] = Int32GetDatum(fit.boxes);
	v[1] = Float4GetDatum(fit.fit);
	v[2] = Float4GetDatum(fit.best);
	v[3] = CStringGetTextDatum(qlt_move_names[fit.move]);
	v[4] = Float4GetDatum(fit.dx);
	v[5] = Float4GetDatum(fit.dy);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), v, nulls)));
}
