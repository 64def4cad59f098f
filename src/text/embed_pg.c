/*
 * embed_pg.c
 *	  tokenize(), embed() of one text and of many, embed_long().
 *
 * Many texts are embedded slice by slice: within one they are sorted and packed,
 * and what goes out is in the order of the array.
 */
#include "postgres.h"

#include <limits.h>

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "registry/options.h"
#include "text/text_pg.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(millrace_tokenize);
PG_FUNCTION_INFO_V1(millrace_embed);
PG_FUNCTION_INFO_V1(millrace_embed_array);
PG_FUNCTION_INFO_V1(millrace_embed_long);

#define SLICE 1024				/* texts whose embeddings are at hand at once */

/* ---- tokens ---- */

/* From UTF-8; what the database's encoding does not have becomes a question mark. */
static text *
text_of_utf8(unsigned char *utf8, size_t n)
{
	int			encoding = GetDatabaseEncoding();
	Oid			proc = encoding == PG_UTF8 ? InvalidOid : FindDefaultConversionProc(PG_UTF8, encoding);
	StringInfoData out;

	if (!OidIsValid(proc))
		return cstring_to_text_with_len((char *) utf8, (int) n);
	initStringInfo(&out);
	for (size_t i = 0; i < n;)
	{
		int			len = pg_utf_mblen(utf8 + i);
		unsigned char converted[4 * MAX_CONVERSION_GROWTH + 1];

		if (pg_do_encoding_conversion_buf(proc, PG_UTF8, encoding, utf8 + i, len, converted, sizeof(converted), true) == len)
			appendStringInfoString(&out, (char *) converted);
		else
			appendStringInfoChar(&out, '?');
		i += len;
	}
	return cstring_to_text_with_len(out.data, out.len);
}

/* A token as its vocabulary's file writes it. */
static text *
token_text(const txt_model *m, int32_t id)
{
	size_t		len;
	const char *bytes = txt_token_text(&m->encoder.tokenizer, id, &len);
	unsigned char *utf8;
	size_t		n = 0;

	if (bytes == NULL)
		return NULL;
	utf8 = palloc(2 * len + 5);
	if (!txt_bytes_as_letters(&m->encoder.tokenizer) && pg_verify_mbstr(PG_UTF8, bytes, (int) len, true))
	{
		memcpy(utf8, bytes, len);
		n = len;
	}
	else
		for (size_t i = 0; i < len; i++)
		{
			unicode_to_utf8((pg_wchar) txt_byte_letter((unsigned char) bytes[i]), utf8 + n);
			n += pg_utf_mblen(utf8 + n);
		}
	return text_of_utf8(utf8, n);
}

/* Where a place in bytes lies in characters; walks from the place asked last. */
typedef struct place
{
	const char *text;
	uint32_t	byte;
	int32		character;
} place;

static bool
begins_character(char c)
{
	return ((unsigned char) c & 0xc0) != 0x80;
}

static int32
character_at(place *p, uint32_t byte)
{
	for (; p->byte < byte; p->byte++)
		p->character += begins_character(p->text[p->byte]);
	for (; p->byte > byte; p->byte--)
		p->character -= begins_character(p->text[p->byte - 1]);
	return p->character;
}

/* millrace.tokenize(content text, model text) -> table (token text, id int, start int, "end" int) */
Datum
millrace_tokenize(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const txt_model *m;
	txt_string	content;
	txt_tokens	t;
	place		from,
				to;
	MemoryContext row_cxt,
				old;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	m = txt_model_arg(fcinfo, 1);
	content = txt_string_of(PG_GETARG_TEXT_PP(0));
	t = txt_tokens_of(m, content, true, 0);
	from = to = (place) {.text = content.data};
	row_cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace token", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(row_cxt);
	for (int i = 0; i < t.n; i++)
	{
		bool		added = t.token[i].start == t.token[i].end; /* by the template */
		text	   *token = token_text(m, t.token[i].id);
		Datum		values[4] = {PointerGetDatum(token), Int32GetDatum(t.token[i].id)};
		bool		nulls[4] = {token == NULL, false, added, added};

		if (!added)
		{
			values[2] = Int32GetDatum(character_at(&from, t.token[i].start) + 1);
			values[3] = Int32GetDatum(character_at(&to, t.token[i].end) + 1);
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		MemoryContextReset(row_cxt);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(row_cxt);
	return (Datum) 0;
}

/* ---- embeddings ---- */

/* Sink of txt_embed(): where they go, and what became of the last. */
typedef struct embeddings
{
	float	   *values;
	int			hidden;
	int			tokens;
	bool		truncated;
} embeddings;

static void
keep(void *arg, int text, const float *embedding, int tokens, bool truncated)
{
	embeddings *e = arg;

	memcpy(e->values + (size_t) text * e->hidden, embedding, sizeof(float) * e->hidden);
	e->tokens = tokens;
	e->truncated = truncated;
}

/* embed(content text, model text) -> real[] */
Datum
millrace_embed(PG_FUNCTION_ARGS)
{
	const txt_model *m;
	txt_string	content;
	ArrayType  *result;
	embeddings	e = {0};

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	m = txt_model_arg(fcinfo, 1);
	content = txt_string_of(PG_GETARG_TEXT_PP(0));
	e.hidden = m->encoder.info.hidden;
	result = reg_new_reals(e.hidden, &e.values);
	txt_embed(m, &content, 1, keep, &e);
	PG_RETURN_ARRAYTYPE_P(result);
}

/* Embed the texts of a slice and put out a row for each of its n elements. */
static void
embed_slice(const txt_model *m, ReturnSetInfo *rsinfo, const txt_string *texts, int n_texts, const bool *isnull, int n)
{
	int			hidden = m->encoder.info.hidden;
	embeddings	e = {.hidden = hidden,.values = palloc_array(float, (size_t) Max(n_texts, 1) * hidden)};
	float	   *values;
	Datum		row = PointerGetDatum(reg_new_reals(hidden, &values));

	txt_embed(m, texts, n_texts, keep, &e);
	for (int i = 0, text = 0; i < n; i++)
	{
		bool		none = isnull[i];

		if (!none)
			memcpy(values, e.values + (size_t) text++ * hidden, sizeof(float) * hidden);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &row, &none);
	}
}

/* embed(contents text[], model text) -> setof real[], in order */
Datum
millrace_embed_array(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const txt_model *m;
	ArrayIterator it;
	txt_string *texts;
	bool	   *isnull;
	int			n = 0,
				n_texts = 0;
	MemoryContext slice_cxt,
				old;
	Datum		element;
	bool		more;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	m = txt_model_arg(fcinfo, 1);
	it = array_create_iterator(PG_GETARG_ARRAYTYPE_P(0), 0, NULL);
	texts = palloc_array(txt_string, SLICE);
	isnull = palloc_array(bool, SLICE);
	slice_cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace embeddings", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(slice_cxt);
	do
	{
		more = array_iterate(it, &element, &isnull[n]);
		if (more)
		{
			if (!isnull[n])
				texts[n_texts++] = txt_string_of(DatumGetTextPP(element));
			n++;
		}
		if (n == SLICE || !more)
		{
			embed_slice(m, rsinfo, texts, n_texts, isnull, n);
			n = n_texts = 0;
			MemoryContextReset(slice_cxt);
		}
	} while (more);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(slice_cxt);
	array_free_iterator(it);
	return (Datum) 0;
}

/* millrace.embed_long(content text, model text, options jsonb) -> record */
Datum
millrace_embed_long(PG_FUNCTION_ARGS)
{
	char	   *mode = "truncate";
	int64		overlap = 0,
				max_chunks = INT_MAX;
	const reg_option options[] = {
		REG_OPTION("long", TEXT, &mode),
		REG_OPTION_IN("overlap", INTEGER, &overlap, 0, 1 << 20),
		REG_OPTION_IN("max_chunks", INTEGER, &max_chunks, 1, INT_MAX),
		REG_OPTION_END
	};
	const txt_model *m;
	txt_pieces	pieces;
	float	   *values;
	TupleDesc	desc;
	Datum		row[4];
	bool		nulls[4] = {false};

	if (!PG_ARGISNULL(2))
		reg_read_options(PG_GETARG_JSONB_P(2), "embed_long()", options);
	if (strcmp(mode, "truncate") == 0)
		max_chunks = 1;
	else if (strcmp(mode, "average") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"long\" must be \"truncate\" or \"average\"")));
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	m = txt_model_arg(fcinfo, 1);
	row[0] = PointerGetDatum(reg_new_reals(m->encoder.info.hidden, &values));
	pieces = txt_embed_pieces(m, txt_string_of(PG_GETARG_TEXT_PP(0)), (int) overlap, (int) max_chunks, values);
	row[1] = Int32GetDatum(pieces.tokens);
	row[2] = BoolGetDatum(pieces.truncated);
	row[3] = Int32GetDatum(pieces.n);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), row, nulls)));
}
