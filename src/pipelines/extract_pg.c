/*
 * extract_pg.c
 *	  Photos to descriptors: equal bytes once per model version, faults as rows.
 *
 * Photos are read through a cursor, a few at a time, so that a batch of large
 * images is never in memory at once; the results are small and collected in a
 * tuplestore for one INSERT, whose statement trigger classifies them all.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/sha2.h"
#include "core/core_pg.h"
#include "core/series_pg.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "pipelines/pipelines.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define FETCH_ROWS 16
#define MAX_KNOWN 100000		/* contents remembered within one statement */

/* Descriptors this statement already has, by content. */
typedef struct known_entry
{
	uint8		sha256[PG_SHA256_DIGEST_LENGTH];
	Datum		descriptors;
} known_entry;

typedef struct extraction
{
	const pip_scope *scope;
	MemoryContext keep;			/* lives for the whole statement */
	MemoryContext scratch;		/* reset per photo */
	char	   *model;			/* name:version */
	Datum		model_text;
	HTAB	   *known;
	FmgrInfo	function;		/* millrace.try_extract_descriptors */
	pip_rows	results;
	pip_rows	failed;
	pip_offsets offsets;
	char	   *topic;
	TimestampTz started;
	TimestampTz *received;		/* of the results, as they came */
	int64		room;
} extraction;

static const char *const result_columns[] = {"image_id", "descriptors", "descriptor_count", "content_sha256", "extract_ms",
"source", "source_topic", "source_partition", "source_offset", "source_time"};
static const Oid result_types[] = {TEXTOID, FLOAT4ARRAYOID, INT4OID, BYTEAOID, FLOAT4OID,
TEXTOID, TEXTOID, INT4OID, INT8OID, TIMESTAMPTZOID};
static const char *const failed_columns[] = {"image_id", "sqlstate", "message",
"source_topic", "source_partition", "source_offset"};
static const Oid failed_types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT8OID};

/* The pipeline's descriptor model, resolved once per statement. */
static char *
resolve_model(const pip_scope *scope)
{
	static const char statement[] =
		"SELECT millrace.resolve_model((SELECT p.options ->> 'descriptor_model' FROM millrace.pipelines p WHERE p.name = $1), 'descriptors')";
	static const Oid types[] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(scope->name)};
	char	   *model;

	pip_run(scope, statement, 1, types, values, NULL, SPI_OK_SELECT);
	model = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	SPI_freetuptable(SPI_tuptable);
	return model;
}

static void
extraction_begin(extraction *x, const pip_scope *scope)
{
	HASHCTL		ctl = {.keysize = PG_SHA256_DIGEST_LENGTH,.entrysize = sizeof(known_entry),.hcxt = CurrentMemoryContext};
	Oid			argtypes[2] = {BYTEAOID, TEXTOID};

	memset(x, 0, sizeof(*x));
	x->scope = scope;
	x->keep = CurrentMemoryContext;
	x->scratch = AllocSetContextCreate(x->keep, "millrace extract", ALLOCSET_DEFAULT_SIZES);
	x->model = resolve_model(scope);
	x->model_text = CStringGetTextDatum(x->model);
	x->known = hash_create("millrace contents", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	fmgr_info(LookupFuncName(list_make2(makeString("millrace"), makeString("try_extract_descriptors")), 2, argtypes, false),
			  &x->function);
	x->started = GetCurrentTimestamp();
	x->room = 64;
	x->received = palloc(sizeof(TimestampTz) * x->room);
	pip_rows_begin(&x->results, "millrace_results", lengthof(result_columns), result_columns, result_types);
	pip_rows_begin(&x->failed, "millrace_failed", lengthof(failed_columns), failed_columns, failed_types);
}

/* Descriptors of equal bytes under the same model version, from this statement or an earlier one. */
static bool
find_known(extraction *x, bytea *sha, Datum *descriptors)
{
	static const char statement[] =
		"SELECT descriptors FROM @S@.descriptors WHERE content_sha256 = $1 AND model = $2 LIMIT 1";
	static const Oid types[] = {BYTEAOID, TEXTOID};
	known_entry *entry = hash_search(x->known, VARDATA_ANY(sha), HASH_FIND, NULL);
	Datum		values[2] = {PointerGetDatum(sha), x->model_text};
	bool		isnull;

	if (entry)
	{
		*descriptors = entry->descriptors;
		return true;
	}
	if (pip_run(x->scope, statement, 2, types, values, NULL, SPI_OK_SELECT) == 0)
	{
		SPI_freetuptable(SPI_tuptable);
		return false;
	}
	*descriptors = PointerGetDatum(DatumGetArrayTypePCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)));
	SPI_freetuptable(SPI_tuptable);
	return true;
}

static void
remember(extraction *x, bytea *sha, ArrayType *descriptors)
{
	known_entry *entry;
	ArrayType  *copy;

	if (hash_get_num_entries(x->known) >= MAX_KNOWN)
		return;
	entry = hash_search(x->known, VARDATA_ANY(sha), HASH_ENTER, NULL);
	copy = MemoryContextAlloc(x->keep, VARSIZE(descriptors));
	memcpy(copy, descriptors, VARSIZE(descriptors));
	entry->descriptors = PointerGetDatum(copy);
}

static void
add_result(extraction *x, HeapTuple row, TupleDesc desc, Datum descriptors, bytea *sha, Datum ms, bool ms_null)
{
	Datum		values[lengthof(result_columns)];
	bool		nulls[lengthof(result_columns)] = {0};
	bool		isnull;
	ArrayType  *array = DatumGetArrayTypeP(descriptors);

	values[0] = SPI_getbinval(row, desc, 1, &nulls[0]);
	values[1] = PointerGetDatum(array);
	values[2] = Int32GetDatum(ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)));
	values[3] = PointerGetDatum(sha);
	values[4] = ms;
	nulls[4] = ms_null;
	for (int i = 0; i < 5; i++)
		values[5 + i] = SPI_getbinval(row, desc, 4 + i, &nulls[5 + i]);
	if (x->results.n == x->room)
	{
		x->room *= 2;
		x->received = repalloc_huge(x->received, sizeof(TimestampTz) * (Size) x->room);
	}
	x->received[x->results.n] = DatumGetTimestampTz(SPI_getbinval(row, desc, 9, &isnull));
	pip_rows_add(&x->results, values, nulls);
	if (!ms_null)
		mr_observe_at_commit(MR_STAGE_SECONDS, x->scope->name, "extract", NULL, 1e-3 * DatumGetFloat4(ms), 1);
}

static void
add_failure(extraction *x, HeapTuple row, TupleDesc desc, Datum sqlstate, Datum message)
{
	Datum		values[lengthof(failed_columns)];
	bool		nulls[lengthof(failed_columns)] = {0};

	values[0] = SPI_getbinval(row, desc, 1, &nulls[0]);
	values[1] = sqlstate;
	values[2] = message;
	for (int i = 0; i < 3; i++)
		values[3 + i] = SPI_getbinval(row, desc, 5 + i, &nulls[3 + i]);
	pip_rows_add(&x->failed, values, nulls);
}

/* One photo: known, extracted, or a failure. */
static void
extract_row(extraction *x, HeapTuple row, TupleDesc desc)
{
	bool		isnull;
	Datum		content = SPI_getbinval(row, desc, 2, &isnull);
	bytea	   *sha = DatumGetByteaP(SPI_getbinval(row, desc, 3, &isnull));
	pip_source	source = pip_source_of(row, desc, 5);
	Datum		descriptors;
	HeapTupleHeader answer;

	if (x->topic == NULL && !source.topic_null)
		x->topic = MemoryContextStrdup(x->keep, TextDatumGetCString(source.topic));
	pip_offsets_add(&x->offsets, &source);
	if (find_known(x, sha, &descriptors))
	{
		add_result(x, row, desc, descriptors, sha, (Datum) 0, true);
		return;
	}
	answer = DatumGetHeapTupleHeader(FunctionCall2(&x->function, content, x->model_text));
	descriptors = GetAttributeByName(answer, "descriptors", &isnull);
	if (isnull)
	{
		Datum		sqlstate = GetAttributeByName(answer, "sqlstate", &isnull);

		add_failure(x, row, desc, sqlstate, GetAttributeByName(answer, "message", &isnull));
	}
	else
	{
		Datum		ms = GetAttributeByName(answer, "extract_ms", &isnull);

		remember(x, sha, DatumGetArrayTypeP(descriptors));
		add_result(x, row, desc, descriptors, sha, ms, isnull);
	}
}

static void
write_results(extraction *x, bool replace)
{
	static const char insert_results[] =
		"INSERT INTO @S@.descriptors (image_id, run_id, model, descriptors, descriptor_count, content_sha256, extract_ms, "
		"source, source_topic, source_partition, source_offset, source_time) "
		"SELECT image_id, $1, $2, descriptors, descriptor_count, content_sha256, extract_ms, "
		"source, source_topic, source_partition, source_offset, source_time FROM millrace_results "
		"ON CONFLICT (image_id) DO UPDATE SET run_id = excluded.run_id, model = excluded.model, "
		"descriptors = excluded.descriptors, descriptor_count = excluded.descriptor_count, "
		"content_sha256 = excluded.content_sha256, extract_ms = excluded.extract_ms, created_at = excluded.created_at, "
		"source = excluded.source, source_topic = excluded.source_topic, source_partition = excluded.source_partition, "
		"source_offset = excluded.source_offset, source_time = excluded.source_time";
	static const Oid insert_types[] = {INT8OID, TEXTOID};
	static const char insert_failed[] =
		"INSERT INTO @S@.failures (image_id, stage, model, sqlstate, message, source_topic, source_partition, source_offset) "
		"SELECT image_id, 'extract', $1, sqlstate, message, source_topic, source_partition, source_offset FROM millrace_failed";
	static const Oid failed_arg[] = {TEXTOID};
	static const char forget_predictions[] =
		"DELETE FROM @S@.predictions p USING millrace_failed f WHERE p.image_id = f.image_id";
	static const char forget_descriptors[] =
		"DELETE FROM @S@.descriptors d USING millrace_failed f WHERE d.image_id = f.image_id";
	Datum		values[2];

	if (x->failed.n > 0)
	{
		values[0] = x->model_text;
		pip_run(x->scope, insert_failed, 1, failed_arg, values, NULL, SPI_OK_INSERT);
		if (replace)
		{
			pip_run(x->scope, forget_predictions, 0, NULL, NULL, NULL, SPI_OK_DELETE);
			pip_run(x->scope, forget_descriptors, 0, NULL, NULL, NULL, SPI_OK_DELETE);
		}
	}
	if (x->results.n > 0)
	{
		values[0] = Int64GetDatum(pip_new_run(x->scope, "extract", NULL, x->model, x->topic, &x->offsets,
											  (int) x->results.n, x->started));
		values[1] = x->model_text;
		pip_run(x->scope, insert_results, 2, insert_types, values, NULL, SPI_OK_INSERT);
	}
}

/* From the photo's arrival until its predictions stand there; its commit follows. */
static void
observe_all(const extraction *x)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int64 i = 0; i < x->results.n; i++)
		mr_observe_at_commit(MR_STAGE_SECONDS, x->scope->name, "total", NULL, 1e-6 * (double) (now - x->received[i]), 1);
}

int64
pip_extract(const pip_scope *scope, Portal cursor, bool replace)
{
	extraction	x;
	bool		begun = false;
	int64		total = 0;

	for (;;)
	{
		SPITupleTable *table;
		uint64		n;

		SPI_cursor_fetch(cursor, true, FETCH_ROWS);
		table = SPI_tuptable;
		n = SPI_processed;
		if (n == 0)
			break;
		/* No model is asked for where there is nothing to extract. */
		if (!begun)
			extraction_begin(&x, scope);
		begun = true;
		for (uint64 i = 0; i < n; i++)
		{
			MemoryContext old = MemoryContextSwitchTo(x.scratch);

			CHECK_FOR_INTERRUPTS();
			extract_row(&x, table->vals[i], table->tupdesc);
			MemoryContextSwitchTo(old);
			MemoryContextReset(x.scratch);
		}
		SPI_freetuptable(table);
	}
	if (begun)
	{
		write_results(&x, replace);
		if (!replace)
			observe_all(&x);
		pfree(x.received);
		total = x.results.n;
		pip_rows_end(&x.results);
		pip_rows_end(&x.failed);
		hash_destroy(x.known);
		MemoryContextDelete(x.scratch);
	}
	return total;
}
