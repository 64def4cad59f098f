/*
 * score_idf_pg.c
 *	  What scores are made from: the rows of a caller's query, and IDF weights.
 *
 * Queries run as the caller, read-only, through a cursor; the tables are written as
 * the extension's owner.  Memory: one batch of rows, and a count a token.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "core/spi_pg.h"
#include "miscadmin.h"
#include "registry/train_data.h"
#include "tcop/utility.h"
#include "text/score_pg.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_build_idf);
PG_FUNCTION_INFO_V1(millrace_drop_idf);

/* ---- the rows of a query ---- */

static void
check_column(TupleDesc desc, int i, Oid wanted)
{
	Oid			type = TupleDescAttr(desc, i)->atttypid;

	if (type != wanted && !(wanted == TEXTOID && type == VARCHAROID))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column %d of the query is of type %s, not %s", i + 1, format_type_be(type), format_type_be(wanted))));
}

static void
check_columns(TupleDesc desc, int n, const Oid *wanted)
{
	if (desc->natts != n)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 n == 1 ? errmsg("the query must return one column, the text, not %d", desc->natts) :
				 errmsg("the query must return three columns, response, reference and whether it is correct, not %d", desc->natts)));
	for (int i = 0; i < n; i++)
		check_column(desc, i, wanted[i]);
}

void
txt_read_rows(const char *query, int columns, const Oid *wanted, txt_row_fn row, txt_batch_fn batch, void *arg)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace rows", ALLOCSET_DEFAULT_SIZES);
	train_guard guard;
	Portal		portal;

	SPI_connect();
	train_guard_begin(&guard);
	portal = train_open(query);
	check_columns(portal->tupDesc, columns, wanted);
	for (;;)
	{
		MemoryContext old;

		SPI_cursor_fetch(portal, true, TXT_BATCH_ROWS);
		if (SPI_processed == 0)
			break;
		old = MemoryContextSwitchTo(cxt);
		for (uint64 r = 0; r < SPI_processed; r++)
		{
			Datum		value[3];
			bool		any_null = false,
						isnull;

			CHECK_FOR_INTERRUPTS();
			for (int i = 0; i < columns; i++)
			{
				value[i] = SPI_getbinval(SPI_tuptable->vals[r], SPI_tuptable->tupdesc, i + 1, &isnull);
				any_null = any_null || isnull;
			}
			if (!any_null)
				row(arg, value);
		}
		if (batch)
			batch(arg);
		MemoryContextSwitchTo(old);
		MemoryContextReset(cxt);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	train_guard_end(&guard);
	SPI_finish();
	MemoryContextDelete(cxt);
}

/* ---- IDF weights ---- */

typedef struct idf_job
{
	const txt_model *m;
	int			max_tokens;
	int64		documents;
	int32	   *count;			/* by token */
	int64	   *last;			/* document that counted it last, from 1 */
} idf_job;

static void
count_document(void *arg, const Datum *value)
{
	idf_job    *j = arg;
	txt_string	s = txt_string_of(DatumGetTextPP(value[0]));
	size_t		from,
				to;
	txt_tokens	tokens;

	if (j->documents == PG_INT32_MAX - 1)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("more than %d texts", PG_INT32_MAX - 1)));
	txt_strip(s.data, s.len, &from, &to);
	tokens = txt_tokens_of(j->m, (txt_string) {s.data + from, to - from}, true, j->max_tokens);
	j->documents++;
	for (int i = 0; i < tokens.n; i++)
	{
		int32		id = tokens.token[i].id;

		if (id < j->m->encoder.info.vocabulary && j->last[id] != j->documents)
		{
			j->last[id] = j->documents;
			j->count[id]++;
		}
	}
}

static void
store_idf(const char *name, const char *query, const idf_job *j)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {TEXTOID, TEXTOID, INT4OID, INT8OID, INT4ARRAYOID, INT4ARRAYOID, TEXTOID, TEXTOID};
	int			vocabulary = j->m->encoder.info.vocabulary;
	Datum	   *id = palloc(vocabulary * sizeof(Datum)),
			   *count = palloc(vocabulary * sizeof(Datum));
	int			n = 0;
	mr_owner_save save;
	Datum		args[lengthof(types)];

	for (int i = 0; i < vocabulary; i++)
		if (j->count[i] > 0)
		{
			id[n] = Int32GetDatum(i);
			count[n++] = Int32GetDatum(j->count[i]);
		}
	args[0] = CStringGetTextDatum(name);
	args[1] = PointerGetDatum(j->m->reg->reference_text);
	args[2] = Int32GetDatum(vocabulary);
	args[3] = Int64GetDatum(j->documents);
	args[4] = PointerGetDatum(construct_array(id, n, INT4OID, 4, true, TYPALIGN_INT));
	args[5] = PointerGetDatum(construct_array(count, n, INT4OID, 4, true, TYPALIGN_INT));
	args[6] = CStringGetTextDatum(query);
	args[7] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	mr_spi_begin(&save);
	if (mr_run(&plan, "INSERT INTO millrace.score_idf (name, model, vocabulary, documents, token_ids, counts, query, created_by) "
			   "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name) DO NOTHING", lengthof(types), types, args) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("IDF weights \"%s\" already exist", name),
				 errdetail("Scores made with them would change."),
				 errhint("Choose another name, or remove them with millrace.drop_idf().")));
	mr_spi_end(&save);
}

Datum
millrace_build_idf(PG_FUNCTION_ARGS)
{
	static const Oid wanted[] = {TEXTOID};
	char	   *name = txt_score_text_arg(fcinfo, 0, "name");
	char	   *query = txt_score_text_arg(fcinfo, 1, "query");
	idf_job		j = {.m = txt_score_model_arg(fcinfo, 2)};

	txt_score_writes("build_idf()");
	j.max_tokens = txt_raw_settings(j.m, -1, "")->max_tokens;
	j.count = palloc0(j.m->encoder.info.vocabulary * sizeof(int32));
	j.last = palloc0(j.m->encoder.info.vocabulary * sizeof(int64));
	txt_read_rows(query, 1, wanted, count_document, NULL, &j);
	if (j.documents == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query returned no text")));
	store_idf(name, query, &j);
	PG_RETURN_INT64(j.documents);
}

Datum
millrace_drop_idf(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {TEXTOID};
	char	   *name = txt_score_text_arg(fcinfo, 0, "name");
	Datum		arg = CStringGetTextDatum(name);
	mr_owner_save save;

	txt_score_writes("drop_idf()");
	mr_spi_begin(&save);
	if (mr_run(&plan, "DELETE FROM millrace.score_idf WHERE name = $1", 1, types, &arg) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("IDF weights \"%s\" do not exist", name)));
	mr_spi_end(&save);
	PG_RETURN_VOID();
}
