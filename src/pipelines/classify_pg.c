/*
 * classify_pg.c
 *	  Descriptors to predictions, set-wise: one call per profile and chunk.
 *
 * A profile that fails must not take the others, nor the descriptors, with it:
 * its call runs in a subtransaction of its own (three per batch, reading only),
 * and its error becomes a row in failures.  Errors of the system (deadlock,
 * memory, disk, shutdown) are thrown on: retrying the batch is their cure.
 * Memory: one context per chunk, reset between chunks.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "core/series_pg.h"
#include "miscadmin.h"
#include "pipelines/pipelines.h"
#include "portability/instr_time.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define CHUNK_ROWS 5000

typedef struct profile
{
	char	   *name;
	char	   *model;			/* reference as the user wrote it */
} profile;

/* One row of a chunk. */
typedef struct row
{
	Datum		image_id;
	float	   *values;			/* (length) */
	int			length;
	const char *fault;			/* why it cannot be classified, or NULL */
	pip_source	source;
} row;

typedef struct chunk
{
	row		   *rows;
	int			n;
	pip_offsets offsets;
	TimestampTz started;
	pip_rows	results;
	pip_rows	failed;
} chunk;

static const char *const result_columns[] = {"image_id", "profile", "run_id", "model", "label", "confidence",
"classify_ms", "source_topic", "source_partition", "source_offset"};
static const Oid result_types[] = {TEXTOID, TEXTOID, INT8OID, TEXTOID, TEXTOID, FLOAT4OID,
FLOAT4OID, TEXTOID, INT4OID, INT8OID};
static const char *const failed_columns[] = {"image_id", "profile", "model", "rows", "sqlstate", "message",
"source_topic", "source_partition", "source_offset"};
static const Oid failed_types[] = {TEXTOID, TEXTOID, TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT8OID};

static int
load_profiles(const pip_scope *scope, const char *only, profile **profiles)
{
	static const char statement[] =
		"SELECT profile, model FROM @S@.profiles WHERE CASE WHEN $1 IS NULL THEN enabled ELSE profile = $1 END ORDER BY profile";
	static const Oid types[] = {TEXTOID};
	Datum		values[1] = {only ? CStringGetTextDatum(only) : (Datum) 0};
	int			n = (int) pip_run(scope, statement, 1, types, values, only ? " " : "n", SPI_OK_SELECT);

	*profiles = palloc(sizeof(profile) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		(*profiles)[i].name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		(*profiles)[i].model = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);
	}
	SPI_freetuptable(SPI_tuptable);
	if (only && n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("profile \"%s\" does not exist", only),
				 errhint("SELECT profile FROM %s.profiles lists them.", scope->schema)));
	return n;
}

/* Copy one fetched tuple into r; what no classifier could take is marked. */
static void
read_row(row *r, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		d = SPI_getbinval(tuple, desc, 2, &isnull);
	ArrayType  *array;

	r->image_id = SPI_getbinval(tuple, desc, 1, &isnull);
	r->source = pip_source_of(tuple, desc, 3);
	r->length = 0;
	r->fault = NULL;
	array = DatumGetArrayTypeP(d);
	if (ARR_NDIM(array) != 1)
	{
		r->fault = "descriptors are not an array of one dimension";
		return;
	}
	if (array_contains_nulls(array))
	{
		r->fault = "descriptors contain a null";
		return;
	}
	r->length = ARR_DIMS(array)[0];
	r->values = (float *) ARR_DATA_PTR(array);
	for (int i = 0; i < r->length; i++)
		if (!isfinite(r->values[i]))
		{
			r->fault = "descriptors contain NaN or infinity";
			return;
		}
}

static void
put_source(const pip_source *source, Datum *values, bool *nulls)
{
	values[0] = source->topic;
	nulls[0] = source->topic_null;
	values[1] = Int32GetDatum(source->partition);
	nulls[1] = source->partition_null;
	values[2] = Int64GetDatum(source->offset);
	nulls[2] = source->offset_null;
}

/* A row for failures; r NULL means a whole batch of so many rows. */
static void
add_failure(chunk *c, const profile *p, const row *r, int rows, const char *sqlstate, const char *message)
{
	Datum		values[lengthof(failed_columns)] = {0};
	bool		nulls[lengthof(failed_columns)] = {0};

	values[0] = r ? r->image_id : (Datum) 0;
	nulls[0] = r == NULL;
	values[1] = CStringGetTextDatum(p->name);
	values[2] = CStringGetTextDatum(p->model);
	values[3] = Int32GetDatum(rows);
	values[4] = CStringGetTextDatum(sqlstate);
	values[5] = CStringGetTextDatum(message);
	if (r)
		put_source(&r->source, values + 6, nulls + 6);
	else
		nulls[6] = nulls[7] = nulls[8] = true;
	pip_rows_add(&c->failed, values, nulls);
}

/* The descriptors of one length as one real[][] (rows, length). */
static ArrayType *
build_matrix(const chunk *c, int length, int rows)
{
	int			dims[2] = {rows, length};
	int			lbs[2] = {1, 1};
	Size		bytes = ARR_OVERHEAD_NONULLS(2) + sizeof(float) * (Size) rows * length;
	ArrayType  *matrix = palloc(bytes);
	float	   *out;

	SET_VARSIZE(matrix, bytes);
	matrix->ndim = 2;
	matrix->dataoffset = 0;
	matrix->elemtype = FLOAT4OID;
	memcpy(ARR_DIMS(matrix), dims, sizeof(dims));
	memcpy(ARR_LBOUND(matrix), lbs, sizeof(lbs));
	out = (float *) ARR_DATA_PTR(matrix);
	for (int i = 0; i < c->n; i++)
		if (c->rows[i].fault == NULL && c->rows[i].length == length)
		{
			memcpy(out, c->rows[i].values, sizeof(float) * length);
			out += length;
		}
	return matrix;
}

/* Write down the answer (label, confidence, model) to the rows of one length. */
static void
keep_results(const pip_scope *scope, chunk *c, const profile *p, int length, int rows,
			 SPITupleTable *answer, double ms)
{
	const char *topic = c->rows[0].source.topic_null ? NULL : TextDatumGetCString(c->rows[0].source.topic);
	char	   *model = SPI_getvalue(answer->vals[0], answer->tupdesc, 3);
	Datum		values[lengthof(result_columns)];
	bool		nulls[lengthof(result_columns)] = {0};
	bool		isnull;
	int			k = 0;

	values[1] = CStringGetTextDatum(p->name);
	values[2] = Int64GetDatum(pip_new_run(scope, "classify", p->name, model, topic, &c->offsets, rows, c->started));
	values[3] = CStringGetTextDatum(model);
	values[6] = Float4GetDatum((float) (ms / rows));
	mr_observe_at_commit(MR_STAGE_SECONDS, scope->name, "classify", NULL, 1e-3 * ms / rows, (uint64) rows);
	for (int i = 0; i < c->n; i++)
	{
		if (c->rows[i].fault != NULL || c->rows[i].length != length)
			continue;
		values[0] = c->rows[i].image_id;
		values[4] = SPI_getbinval(answer->vals[k], answer->tupdesc, 1, &isnull);
		values[5] = SPI_getbinval(answer->vals[k], answer->tupdesc, 2, &isnull);
		put_source(&c->rows[i].source, values + 7, nulls + 7);
		pip_rows_add(&c->results, values, nulls);
		k++;
	}
}

/* An error that says something about the model or the data, not about the system. */
static bool
is_profile_error(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return category != ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK) &&
		category != ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) &&
		category != ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION) &&
		category != ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR) &&
		sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE;
}

/* Classify all rows of one length with one profile; an error of the profile becomes failures. */
static void
classify_group(const pip_scope *scope, chunk *c, const profile *p, int length, int rows)
{
	static const char statement[] = "SELECT label, confidence, model FROM millrace.classify_rows($1, $2)";
	static const Oid types[] = {FLOAT4ARRAYOID, TEXTOID};
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ArrayType  *matrix = build_matrix(c, length, rows);
	Datum		args[2] = {PointerGetDatum(matrix), CStringGetTextDatum(p->model)};
	SPITupleTable *volatile answer = NULL;
	instr_time	start,
				stop;

	INSTR_TIME_SET_CURRENT(start);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		if (pip_run(scope, statement, 2, types, args, NULL, SPI_OK_SELECT) != (uint64) rows)
			elog(ERROR, "classifier \"%s\" returned " UINT64_FORMAT " rows for %d", p->model, SPI_processed, rows);
		answer = SPI_tuptable;
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;
		const char *sqlstate;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		if (!is_profile_error(error->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(cxt);
		CurrentResourceOwner = owner;
		sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
		/* A fault of these data is told per image; a fault of the model once. */
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION))
		{
			for (int i = 0; i < c->n; i++)
				if (c->rows[i].fault == NULL && c->rows[i].length == length)
					add_failure(c, p, &c->rows[i], 1, sqlstate, error->message);
		}
		else
			add_failure(c, p, NULL, rows, sqlstate, error->message);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	if (answer != NULL)
	{
		INSTR_TIME_SET_CURRENT(stop);
		INSTR_TIME_SUBTRACT(stop, start);
		keep_results(scope, c, p, length, rows, answer, INSTR_TIME_GET_MILLISEC(stop));
		SPI_freetuptable(answer);
	}
	pfree(matrix);
}

/* One profile over a chunk: rows of equal length together (usually all of them). */
static void
classify_profile(const pip_scope *scope, chunk *c, const profile *p)
{
	bool	   *done = palloc0(c->n);

	for (int i = 0; i < c->n; i++)
	{
		int			rows = 0;

		if (done[i])
			continue;
		if (c->rows[i].fault)
		{
			add_failure(c, p, &c->rows[i], 1, unpack_sql_state(ERRCODE_INVALID_PARAMETER_VALUE), c->rows[i].fault);
			continue;
		}
		for (int j = i; j < c->n; j++)
			if (c->rows[j].fault == NULL && c->rows[j].length == c->rows[i].length)
			{
				done[j] = true;
				rows++;
			}
		classify_group(scope, c, p, c->rows[i].length, rows);
	}
	pfree(done);
}

static void
write_chunk(const pip_scope *scope, chunk *c)
{
	static const char insert_results[] =
		"INSERT INTO @S@.predictions (image_id, profile, run_id, model, label, confidence, classify_ms, "
		"source_topic, source_partition, source_offset) "
		"SELECT image_id, profile, run_id, model, label, confidence, classify_ms, source_topic, source_partition, source_offset "
		"FROM millrace_results "
		"ON CONFLICT (image_id, profile) DO UPDATE SET run_id = excluded.run_id, model = excluded.model, "
		"label = excluded.label, confidence = excluded.confidence, classify_ms = excluded.classify_ms, "
		"predicted_at = excluded.predicted_at, source_topic = excluded.source_topic, "
		"source_partition = excluded.source_partition, source_offset = excluded.source_offset";
	static const char insert_failed[] =
		"INSERT INTO @S@.failures (image_id, stage, profile, model, rows, sqlstate, message, "
		"source_topic, source_partition, source_offset) "
		"SELECT image_id, 'classify', profile, model, rows, sqlstate, message, source_topic, source_partition, source_offset "
		"FROM millrace_failed";

	if (c->results.n > 0)
		pip_run(scope, insert_results, 0, NULL, NULL, NULL, SPI_OK_INSERT);
	if (c->failed.n > 0)
		pip_run(scope, insert_failed, 0, NULL, NULL, NULL, SPI_OK_INSERT);
}

int64
pip_classify(const pip_scope *scope, Portal cursor, const char *only_profile)
{
	MemoryContext outer = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(outer, "millrace classify", ALLOCSET_DEFAULT_SIZES);
	profile    *profiles;
	int			n_profiles = load_profiles(scope, only_profile, &profiles);
	int64		total = 0;

	while (n_profiles > 0)
	{
		SPITupleTable *table;
		chunk		c = {0};

		SPI_cursor_fetch(cursor, true, CHUNK_ROWS);
		table = SPI_tuptable;
		if (SPI_processed == 0)
			break;
		MemoryContextSwitchTo(cxt);
		c.n = (int) SPI_processed;
		c.rows = palloc(sizeof(row) * c.n);
		c.started = GetCurrentTimestamp();
		for (int i = 0; i < c.n; i++)
		{
			read_row(&c.rows[i], table->vals[i], table->tupdesc);
			pip_offsets_add(&c.offsets, &c.rows[i].source);
		}
		pip_rows_begin(&c.results, "millrace_results", lengthof(result_columns), result_columns, result_types);
		pip_rows_begin(&c.failed, "millrace_failed", lengthof(failed_columns), failed_columns, failed_types);
		for (int i = 0; i < n_profiles; i++)
			classify_profile(scope, &c, &profiles[i]);
		write_chunk(scope, &c);
		total += c.results.n;
		pip_rows_end(&c.results);
		pip_rows_end(&c.failed);
		MemoryContextSwitchTo(outer);
		MemoryContextReset(cxt);
		SPI_freetuptable(table);
	}
	MemoryContextDelete(cxt);
	return total;
}
