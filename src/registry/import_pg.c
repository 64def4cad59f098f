/*
 * import_pg.c
 *	  import_model(), import_model_files(), model_bytes().
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nn/nn_pg.h"
#include "registry/write.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(millrace_import_model);
PG_FUNCTION_INFO_V1(millrace_import_model_files);
PG_FUNCTION_INFO_V1(millrace_model_bytes);

#define PIECE (16 << 20)

/* A required argument. */
static void
not_null(FunctionCallInfo fcinfo, int argno, const char *what)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what)));
}

/* millrace.import_model(name text, content bytea, spec jsonb) -> int */
Datum
millrace_import_model(PG_FUNCTION_ARGS)
{
	reg_new		new = {.origin = "import"};
	bytea	   *content;

	not_null(fcinfo, 0, "name");
	not_null(fcinfo, 1, "content");
	new.name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	content = PG_GETARG_BYTEA_PP(1);
	new.bytes = VARDATA_ANY(content);
	new.size = VARSIZE_ANY_EXHDR(content);
	new.spec = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	PG_RETURN_INT32(reg_register(&new));
}

/*
 * The content of a large object, with the caller's rights.  Read by pieces
 * through the server's own function, which cleans up after an error.
 */
static void *
read_large_object(Oid oid, size_t limit, size_t *size)
{
	size_t		capacity = PIECE;
	char	   *data = palloc(capacity);
	int			n;

	*size = 0;
	do
	{
		bytea	   *piece = DatumGetByteaPP(DirectFunctionCall3(be_lo_get_fragment, ObjectIdGetDatum(oid),
																Int64GetDatum((int64) *size), Int32GetDatum(PIECE)));

		CHECK_FOR_INTERRUPTS();
		n = VARSIZE_ANY_EXHDR(piece);
		if (*size + n > limit)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("large object %u makes the model larger than millrace.nn_max_model_bytes allows", oid)));
		if (*size + n > capacity)
		{
			capacity = Max(2 * capacity, *size + n);
			data = repalloc_huge(data, capacity);
		}
		memcpy(data + *size, VARDATA_ANY(piece), n);
		*size += n;
		pfree(piece);
	} while (n == PIECE);
	return data;
}

static void
bad_files(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("files must be an object: file name to oid of a large object")));
}

/* The members of {"name": oid}, read; *n of them. */
static reg_file *
read_files(Jsonb *json, size_t limit, int *n)
{
	JsonbIterator *it;
	JsonbValue	v;
	reg_file   *files;
	size_t		total = 0;

	if (!JB_ROOT_IS_OBJECT(json) || JB_ROOT_COUNT(json) == 0)
		bad_files();
	files = palloc_array(reg_file, JB_ROOT_COUNT(json));
	*n = 0;
	it = JsonbIteratorInit(&json->root);
	(void) JsonbIteratorNext(&it, &v, true);
	while (JsonbIteratorNext(&it, &v, true) == WJB_KEY)
	{
		reg_file   *f = &files[(*n)++];
		int64		oid = 0;

		f->name = pnstrdup(v.val.string.val, v.val.string.len);
		(void) JsonbIteratorNext(&it, &v, true);
		if (v.type == jbvNumeric)
			oid = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(v.val.numeric)));
		else if (v.type == jbvString)	/* what jsonb makes of an oid */
			oid = strtoll(pnstrdup(v.val.string.val, v.val.string.len), NULL, 10);
		if (oid < 1 || oid > PG_UINT32_MAX)
			bad_files();
		f->data = read_large_object((Oid) oid, limit - total, &f->size);
		total += f->size;
	}
	return files;
}

/*
 * millrace.import_model_files(name text, files jsonb, spec jsonb) -> int
 *
 * files: {"model.onnx": <large object oid>}, or those of a folder, which become
 * one run of bytes.  For what is beyond bytea's 1 GB.
 */
Datum
millrace_import_model_files(PG_FUNCTION_ARGS)
{
	reg_new		new = {.origin = "import"};
	const reg_room_kind *kind = reg_kind_of_files();
	reg_file   *files;
	int			n;

	not_null(fcinfo, 0, "name");
	not_null(fcinfo, 1, "files");
	new.name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	reg_check_name(new.name, "model name");
	files = read_files(PG_GETARG_JSONB_P(1), nn_pg_options().max_model_bytes, &n);
	if (n == 1)
	{
		new.bytes = files[0].data;
		new.size = files[0].size;
	}
	else if (kind)
	{
		void	   *bytes;

		kind->bundle(files, n, &bytes, &new.size);
		new.bytes = bytes;
		for (int i = 0; i < n; i++)
			pfree(unconstify(void *, files[i].data));
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("models of several files are not supported")));
	new.spec = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	PG_RETURN_INT32(reg_register(&new));
}

/* millrace.model_bytes(model text) -> bytea, as it was imported or trained */
Datum
millrace_model_bytes(PG_FUNCTION_ARGS)
{
	char	   *reference = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const reg_model *m = reg_resolve(reference, REG_ANY);
	uint8	   *bytes;
	size_t		size;

	reg_model_bytes(m, GetActiveSnapshot(), &bytes, &size);
	PG_RETURN_BYTEA_P(reg_bytea(bytes, size));
}
