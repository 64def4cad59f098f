/*
 * crop_pg.c
 *	  image_crop(), image_crops(), image_thumbnails(): parts of an image.
 *
 * One decoding a call, in a memory context of its own; parts are views into the pixels, nothing is copied.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "image/facts.h"
#include "image/image_pg.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_image_crop);
PG_FUNCTION_INFO_V1(millrace_image_crops);
PG_FUNCTION_INFO_V1(millrace_image_thumbnails);

#define JPEG_QUALITY 90

static bool
wants_png(text *format)
{
	char	   *name = text_to_cstring(format);

	if (strcmp(name, "png") != 0 && strcmp(name, "jpeg") != 0 && strcmp(name, "jpg") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown image format \"%s\"", name),
				 errhint("Use \"jpeg\" or \"png\".")));
	return strcmp(name, "png") == 0;
}

/* Part of the pixels as a file, in the current context. */
static bytea *
encode(const mr_env *env, const img_pixels *part, bool png)
{
	mr_status	st;
	uint8_t    *file;
	size_t		len;
	bytea	   *out;

	if ((png ? img_encode_png(env, part, &file, &len, &st) : img_encode_jpeg(env, part, JPEG_QUALITY, &file, &len, &st)) != MR_OK)
		mr_pg_raise(&st);
	out = palloc(VARHDRSZ + len);
	SET_VARSIZE(out, VARHDRSZ + len);
	memcpy(VARDATA(out), file, len);
	mr_free(env, file);
	return out;
}

/* Four numbers a box. */
static const float4 *
boxes_of(ArrayType *array, int *n)
{
	int			numbers = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

	if (array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("boxes must not contain NULLs")));
	if (numbers % 4 != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("boxes must be four numbers each, there are %d", numbers),
				 errhint("A box is x1, y1, x2, y2.")));
	*n = numbers / 4;
	return (const float4 *) ARR_DATA_PTR(array);
}

/* (image bytea, x1, y1, x2, y2 real, format text) -> bytea */
Datum
millrace_image_crop(PG_FUNCTION_ARGS)
{
	const float box[4] = {PG_GETARG_FLOAT4(1), PG_GETARG_FLOAT4(2), PG_GETARG_FLOAT4(3), PG_GETARG_FLOAT4(4)};
	bool		png = wants_png(PG_GETARG_TEXT_PP(5));
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace image", ALLOCSET_DEFAULT_SIZES);
	mr_env		env = mr_pg_env(cxt);
	mr_status	st;
	img_pixels	pixels,
				part;
	bytea	   *out = NULL;

	if (img_decode_value(&env, PG_GETARG_DATUM(0), NULL, &pixels, &st) != MR_OK)
		mr_pg_raise(&st);
	if (img_crop(&pixels, box, &part))
		out = encode(&env, &part, png);
	MemoryContextDelete(cxt);
	if (out == NULL)
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(out);
}

/* Rows (box, its thumbnail or its part as a file). */
static void
put_parts(FunctionCallInfo fcinfo, bool thumbnails, bool png)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int			n;
	const float4 *boxes = boxes_of(PG_GETARG_ARRAYTYPE_P(1), &n);
	MemoryContext cxt,
				row,
				old;
	mr_env		env;
	mr_status	st;
	img_pixels	pixels;

	InitMaterializedSRF(fcinfo, 0);
	cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace image", ALLOCSET_DEFAULT_SIZES);
	row = AllocSetContextCreate(cxt, "millrace part of an image", ALLOCSET_DEFAULT_SIZES);
	env = mr_pg_env(cxt);
	if (img_decode_value(&env, PG_GETARG_DATUM(0), NULL, &pixels, &st) != MR_OK)
		mr_pg_raise(&st);
	env = mr_pg_env(row);
	old = MemoryContextSwitchTo(row);
	for (int i = 0; i < n; i++)
	{
		Datum		values[2] = {Int32GetDatum(i + 1)};
		bool		nulls[2] = {false, false};
		img_pixels	part;

		CHECK_FOR_INTERRUPTS();
		if (!img_crop(&pixels, boxes + 4 * i, &part))
			nulls[1] = true;
		else if (thumbnails)
		{
			float		thumbnail[IMG_THUMB_LEN];
			Datum		number[IMG_THUMB_LEN];

			if (img_thumbnail(&env, &part, thumbnail, &st) != MR_OK)
				mr_pg_raise(&st);
			for (int j = 0; j < IMG_THUMB_LEN; j++)
				number[j] = Float4GetDatum(thumbnail[j]);
			values[1] = PointerGetDatum(construct_array(number, IMG_THUMB_LEN, FLOAT4OID, sizeof(float4), true, TYPALIGN_INT));
		}
		else
			values[1] = PointerGetDatum(encode(&env, &part, png));
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		MemoryContextReset(row);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* (image bytea, boxes real[], format text) -> table(box int, crop bytea) */
Datum
millrace_image_crops(PG_FUNCTION_ARGS)
{
	put_parts(fcinfo, false, wants_png(PG_GETARG_TEXT_PP(2)));
	return (Datum) 0;
}

/* (image bytea, boxes real[]) -> table(box int, thumbnail real[]) */
Datum
millrace_image_thumbnails(PG_FUNCTION_ARGS)
{
	put_parts(fcinfo, true, false);
	return (Datum) 0;
}
