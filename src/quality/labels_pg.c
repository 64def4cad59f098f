/*
 * labels_pg.c
 *	  parse_labels(): an annotation file as rows; image_extent(): how large an upright image is.
 *
 * Rows go into a tuplestore as they are read, which spills to disk beyond
 * work_mem.  Memory of the reader: a context of the call.
 */
#include "postgres.h"

#include "core/compat.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "image/image_pg.h"
#include "mb/pg_wchar.h"
#include "quality/labels.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define NCOLUMNS 12

PG_FUNCTION_INFO_V1(millrace_parse_labels);
PG_FUNCTION_INFO_V1(millrace_image_extent);

typedef struct label_rows
{
	ReturnSetInfo *result;
	MemoryContext row;			/* reset after each */
	Datum		path;			/* of a file's own image */
	bool		path_null;
} label_rows;

static Datum
text_datum(const char *utf8)
{
	return CStringGetTextDatum(pg_any_to_server(utf8, (int) strlen(utf8), PG_UTF8));
}

static void
put_row(void *arg, const qlt_label *label)
{
	label_rows *rows = arg;
	MemoryContext old = MemoryContextSwitchTo(rows->row);
	Datum		values[NCOLUMNS] = {0};
	bool		nulls[NCOLUMNS];

	memset(nulls, true, sizeof(nulls));
	if (label->line > 0)
	{
		values[0] = Int32GetDatum((int32) Min(label->line, PG_INT32_MAX));
		nulls[0] = false;
	}
	if (label->image)
	{
		values[1] = text_datum(label->image);
		nulls[1] = false;
	}
	else if (label->has_box)
	{
		values[1] = rows->path;
		nulls[1] = rows->path_null;
	}
	if (label->class_id >= 0)
	{
		values[2] = Int32GetDatum(label->class_id);
		nulls[2] = false;
	}
	if (label->class_name)
	{
		values[3] = text_datum(label->class_name);
		nulls[3] = false;
	}
	for (int i = 0; label->has_box && i < 4; i++)
	{
		values[4 + i] = Float4GetDatum((float4) label->box[i]);
		nulls[4 + i] = false;
	}
	values[8] = BoolGetDatum(label->crowd);
	nulls[8] = !label->has_box;
	if (label->area >= 0)
	{
		values[9] = Float4GetDatum((float4) label->area);
		nulls[9] = false;
	}
	if (label->problem)
	{
		values[10] = CStringGetTextDatum(label->problem);
		nulls[10] = false;
	}
	if (label->detail)
	{
		values[11] = text_datum(label->detail);
		nulls[11] = false;
	}
	tuplestore_putvalues(rows->result->setResult, rows->result->setDesc, values, nulls);
	MemoryContextSwitchTo(old);
	MemoryContextReset(rows->row);
}

/* parse_labels(format text, content bytea, path text, width int, height int) -> rows */
Datum
millrace_parse_labels(PG_FUNCTION_ARGS)
{
	label_rows	rows = {.result = (ReturnSetInfo *) fcinfo->resultinfo,.path_null = PG_ARGISNULL(2)};
	qlt_label_format format;
	char	   *name;
	bytea	   *content;
	MemoryContext cxt;
	mr_env		env;
	mr_status	st;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return (Datum) 0;
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!qlt_label_format_by_name(name, &format))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown format \"%s\" of labels", name),
				 errhint("Formats are yolo, yaml, names, list, coco, voc and voc0.")));
	content = PG_GETARG_BYTEA_PP(1);
	if (!rows.path_null)
		rows.path = PG_GETARG_DATUM(2);
	cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace labels", ALLOCSET_DEFAULT_SIZES);
	rows.row = AllocSetContextCreate(cxt, "millrace labels row", ALLOCSET_SMALL_SIZES);
	env = mr_pg_env(cxt);
	if (qlt_labels_read(&env, format, VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content),
						PG_ARGISNULL(3) ? 0 : PG_GETARG_INT32(3), PG_ARGISNULL(4) ? 0 : PG_GETARG_INT32(4), put_row, &rows, &st) != MR_OK)
		mr_pg_raise(&st);
	MemoryContextDelete(cxt);
	return (Datum) 0;
}

/* image_extent(image bytea, OUT width int, OUT height int): NULLs where the header cannot be read */
Datum
millrace_image_extent(PG_FUNCTION_ARGS)
{
	bytea	   *image = PG_GETARG_BYTEA_PP(0);
	TupleDesc	desc;
	MemoryContext cxt;
	mr_env		env;
	mr_status	st;
	img_info	info;
	mr_code		code;
	Datum		values[2] = {0};
	bool		nulls[2] = {true, true};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace image", ALLOCSET_SMALL_SIZES);
	env = mr_pg_env(cxt);
	code = img_probe(&env, (uint8_t *) VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image), img_current_limits(), &info, &st);
	if (code == MR_OK)
	{
		bool		turned = info.orientation >= 5;

		values[0] = Int32GetDatum(turned ? info.height : info.width);
		values[1] = Int32GetDatum(turned ? info.width : info.height);
		nulls[0] = nulls[1] = false;
	}
	else if (code != MR_INVALID)
		mr_pg_raise(&st);
	MemoryContextDelete(cxt);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
