/*
 * csv_pg.c
 *	  csv_rows(): bytes that COPY would read, as rows of text fields.
 *
 * PostgreSQL's own COPY parser does the work, so quotes, escapes, NULLs, line ends and encodings are COPY's; it is fed
 * from memory.  Nothing is converted to columns' types here: one bad value is its row's trouble, not the file's.
 *
 * Memory: COPY's own context, and one row at a time in ours, reset after each.  The result is a tuplestore.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "commands/copy.h"
#include "commands/copyfrom_internal.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_csv_rows);

/* What COPY's callback, which gets no argument, reads next. */
static const char *source_next;
static const char *source_end;

static int
give_bytes(void *to, int least, int most)
{
	int			n = (int) Min(source_end - source_next, (ptrdiff_t) most);

	memcpy(to, source_next, n);
	source_next += n;
	return n;
}

/* COPY's options: CSV, UTF-8 unless said otherwise, and what the caller gave. */
static List *
copy_options(Jsonb *given)
{
	static const char *const known[] = {"delimiter", "quote", "escape", "null", "encoding"};
	List	   *options = list_make1(makeDefElem("format", (Node *) makeString("csv"), -1));
	JsonbIterator *it = JsonbIteratorInit(&given->root);
	bool		encoding = false;
	JsonbIteratorToken tok;
	JsonbValue	v;

	if (!JB_ROOT_IS_OBJECT(given))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options of csv_rows() must be a JSON object")));
	while ((tok = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		char	   *name;
		bool		found = false;

		if (tok != WJB_KEY)
			continue;
		name = pnstrdup(v.val.string.val, v.val.string.len);
		for (int i = 0; i < (int) lengthof(known); i++)
			found = found || strcmp(name, known[i]) == 0;
		(void) JsonbIteratorNext(&it, &v, true);
		if (!found || v.type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 found ? errmsg("option \"%s\" of csv_rows() must be a string", name) : errmsg("unknown option \"%s\" of csv_rows()", name),
					 errhint("Options are delimiter, quote, escape, null and encoding, as in COPY.")));
		encoding = encoding || strcmp(name, "encoding") == 0;
		options = lappend(options, makeDefElem(name, (Node *) makeString(pnstrdup(v.val.string.val, v.val.string.len)), -1));
	}
	if (!encoding)
		options = lappend(options, makeDefElem("encoding", (Node *) makeString("UTF8"), -1));
	return options;
}

/* millrace.csv_rows(target regclass, content bytea, options jsonb = '{}') -> table(line bigint, fields text[]) */
Datum
millrace_csv_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	target = relation_open(PG_GETARG_OID(0), AccessShareLock);
	bytea	   *content = PG_GETARG_BYTEA_PP(1);
	List	   *options = copy_options(PG_GETARG_JSONB_P(2));
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "millrace csv row", ALLOCSET_DEFAULT_SIZES);
	CopyFromState copy;
	char	  **fields;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	/* Without columns COPY does not look at the table, nor do we. */
	copy = BeginCopyFrom(NULL, target, NULL, NULL, false, give_bytes, NIL, options);
	source_next = VARDATA_ANY(content);
	source_end = source_next + VARSIZE_ANY_EXHDR(content);
	for (;;)
	{
		MemoryContext old = MemoryContextSwitchTo(row);
		Datum	   *texts;
		bool	   *nulls;
		Datum		values[2];
		int			dims[1];
		int			low[1] = {1};

		CHECK_FOR_INTERRUPTS();
		if (!NextCopyFromRawFields(copy, &fields, &n))
		{
			MemoryContextSwitchTo(old);
			break;
		}
		texts = palloc(sizeof(Datum) * (n + 1));
		nulls = palloc0(n + 1);
		for (int i = 0; i < n; i++)
		{
			nulls[i] = fields[i] == NULL;
			texts[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(fields[i]);
		}
		dims[0] = n;
		values[0] = Int64GetDatum((int64) copy->cur_lineno);
		values[1] = PointerGetDatum(construct_md_array(texts, nulls, 1, dims, low, TEXTOID, -1, false, TYPALIGN_INT));
		tuplestore_putvalues(result->setResult, result->setDesc, values, (bool[]) {false, false});
		MemoryContextSwitchTo(old);
		MemoryContextReset(row);
	}
	EndCopyFrom(copy);
	relation_close(target, NoLock);
	return (Datum) 0;
}
