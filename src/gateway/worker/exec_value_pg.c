/*
 * exec_value_pg.c
 *	  One value into the type of an argument.
 *
 * Text goes through the type's input function; so does what json_to_record() would give it of a JSON
 * scalar.  Arrays of scalars are read here; what is nested goes through json_to_record() itself.
 *
 * Memory: the current context.
 */
#include "postgres.h"

#include <math.h>

#include "gateway/worker/exec_int.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/memutils.h"

#include "core/json.h"

char *
gw_from_client(const char *p, size_t len)
{
	char	   *copy;
	char	   *text;

	if (len > MaxAllocSize - 1)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a value has more than %d bytes", (int) MaxAllocSize - 1)));
	copy = palloc(len + 1);
	memcpy(copy, p, len);
	copy[len] = '\0';
	text = pg_any_to_server(copy, (int) len, PG_UTF8);
	return text;
}

static Datum
input(const gw_param *p, char *text)
{
	return InputFunctionCall(unconstify(FmgrInfo *, &p->input), text, p->ioparam, -1);
}

static Datum
element_input(const gw_param *p, char *text)
{
	return InputFunctionCall(unconstify(FmgrInfo *, &p->element_input), text, p->element_ioparam, -1);
}

static Datum
bytes_datum(const char *bytes, size_t len)
{
	if (len > MaxAllocSize - VARHDRSZ)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a value has more than %d bytes", (int) (MaxAllocSize - VARHDRSZ))));
	return PointerGetDatum(cstring_to_text_with_len(bytes, (int) len));
}

Datum
gw_value_text(const gw_param *p, const char *text, size_t len)
{
	if (p->structured && OidIsValid(p->element))
	{
		gw_slice	one = {.at = 0,.len = len};

		return gw_value_texts(p, &one, 1, text, false);
	}
	return input(p, gw_from_client(text, len));
}

/* Bytes, which may be a text for a type that is not bytea. */
Datum
gw_value_bytes(const gw_param *p, const char *bytes, size_t len)
{
	if (p->type == BYTEAOID)
		return bytes_datum(bytes, len);
	if (len > MaxAllocSize - 1)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a value has more than %d bytes", (int) MaxAllocSize - 1)));
	if (p->base != BYTEAOID)
		(void) pg_verify_mbstr(PG_UTF8, bytes, (int) len, false);
	else
	{
		/* a domain: what it checks is checked by its input function */
		Datum		plain = bytes_datum(bytes, len);

		return input(p, DatumGetCString(DirectFunctionCall1(byteaout, plain)));
	}
	if (p->type == TEXTOID && GetDatabaseEncoding() == PG_UTF8)
		return bytes_datum(bytes, len);
	return input(p, gw_from_client(bytes, len));
}

static Datum
make_array(const gw_param *p, Datum *values, bool *nulls, int n)
{
	int			dims[] = {n};
	int			bounds[] = {1};
	ArrayType  *array;

	if (n == 0)
		array = construct_empty_array(p->element);
	else
		array = construct_md_array(values, nulls, 1, dims, bounds, p->element, p->element_len, p->element_byval, p->element_align);
	/* a domain over an array checks it */
	if (p->type != p->base)
		return input(p, OidOutputFunctionCall(F_ARRAY_OUT, PointerGetDatum(array)));
	return PointerGetDatum(array);
}

/* Each an element; a single text may also be a whole array, as SQL or JSON writes it. */
Datum
gw_value_texts(const gw_param *p, const gw_slice *slices, int n, const char *base, bool bytes)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(n, 1));

	if (n == 1 && !bytes && slices[0].len > 0 && base[slices[0].at] == '{')
		return input(p, gw_from_client(base + slices[0].at, slices[0].len));
	if (n == 1 && !bytes && slices[0].len > 0 && base[slices[0].at] == '[')
	{
		mr_status	st = {0};
		mr_json		js = {.start = base + slices[0].at,.p = base + slices[0].at,.end = base + slices[0].at + slices[0].len,.st = &st};
		bool		null;

		if (!mr_json_skip(&js) || mr_json_peek(&js) != '\0' || js.p < js.end)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_JSON_TEXT),
					 errmsg("%s", st.message[0] ? st.message : "invalid JSON: more after the array")));
		return gw_value_json(p, js.start, slices[0].len, &null);
	}
	for (int i = 0; i < n; i++)
	{
		const char *at = base + slices[i].at;

		if (bytes && p->element == BYTEAOID)
			values[i] = bytes_datum(at, slices[i].len);
		else
		{
			if (bytes)
				(void) pg_verify_mbstr(PG_UTF8, at, (int) Min(slices[i].len, MaxAllocSize), false);
			values[i] = element_input(p, gw_from_client(at, slices[i].len));
		}
	}
	return make_array(p, values, NULL, n);
}

/* ---- JSON */

/* The text of a JSON scalar, a string's without quotes and escapes. */
static char *
scalar_text(const char *raw, size_t len)
{
	mr_status	st = {0};
	mr_json		js = {.start = raw,.p = raw,.end = raw + len,.st = &st};
	const char *content;
	size_t		n;
	bool		escaped;
	char	   *text;

	if (len == 0 || raw[0] != '"')
		return gw_from_client(raw, len);
	if (!mr_json_string(&js, &content, &n, &escaped))
		elog(ERROR, "%s", st.message);
	if (!escaped)
		return gw_from_client(content, n);
	text = palloc(n + 1);
	if (!mr_json_unescape(&js, content, n, text, &n))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_JSON_TEXT),
				 errmsg("%s", st.message)));
	/* \u0000 is a character in JSON, in no text of ours */
	if (memchr(text, '\0', n) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
				 errmsg("a text cannot hold \\u0000")));
	return gw_from_client(text, n);
}

/* An array without others in it; false: it has, or it is none. */
static bool
read_flat_array(const gw_param *p, const char *raw, size_t len, Datum *result)
{
	mr_status	st = {0};
	mr_json		js = {.start = raw,.p = raw,.end = raw + len,.st = &st};
	int			room = 64;
	int			n = 0;
	Datum	   *values = palloc(sizeof(Datum) * room);
	bool	   *nulls = palloc(sizeof(bool) * room);
	bool		any_null = false;

	if (raw[0] != '[')
		return false;
	js.p++;
	while (mr_json_next(&js, '[', &n) > 0)
	{
		char		c = mr_json_peek(&js);
		const char *value = js.p;
		bool		number = c == '-' || (c >= '0' && c <= '9');
		double		d;

		if (c == '[' || c == '{')
			return false;
		if (n > room)
		{
			CHECK_FOR_INTERRUPTS();
			room *= 2;
			values = repalloc_huge(values, sizeof(Datum) * room);
			nulls = repalloc_huge(nulls, sizeof(bool) * room);
		}
		nulls[n - 1] = c == 'n';
		any_null |= c == 'n';
		values[n - 1] = (Datum) 0;
		if (number && p->element == FLOAT8OID && mr_json_number(&js, &d) && !isinf(d) && (d != 0 || value[0] == '0'))
		{
			values[n - 1] = Float8GetDatum(d);
			continue;
		}
		js.p = value;
		if (!mr_json_skip(&js))
			return false;
		if (c == 'n')
			continue;
		if (number && p->element == FLOAT4OID)
		{
			/* in an array it is followed by a bracket or comma */
			float		f = strtof(value, NULL);

			if (!isinf(f) && (f != 0 || value[0] == '0'))
			{
				values[n - 1] = Float4GetDatum(f);
				continue;
			}
		}
		values[n - 1] = element_input(p, scalar_text(value, js.p - value));
	}
	*result = make_array(p, values, any_null ? nulls : NULL, n);
	return true;
}

/* By json_to_record(), for one column of this type. */
static Datum
by_record(const gw_param *p, const char *raw, size_t len, bool *null)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo	flinfo;
	ReturnSetInfo info = {.type = T_ReturnSetInfo};
	const char *name = p->name ? p->name : "body";
	StringInfoData json;
	TupleDesc	desc = CreateTemplateTupleDesc(1);
	Datum		record;
	HeapTupleHeader header;
	HeapTupleData tuple;
	Datum		value;

	TupleDescInitEntry(desc, 1, name, p->type, -1, 0);
	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	escape_json(&json, name);
	appendStringInfoChar(&json, ':');
	appendStringInfoString(&json, gw_from_client(raw, len));
	appendStringInfoChar(&json, '}');
	fmgr_info(F_JSON_TO_RECORD, &flinfo);
	flinfo.fn_expr = (Node *) makeFuncExpr(F_JSON_TO_RECORD, RECORDOID, NIL, InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	info.expectedDesc = desc;
	InitFunctionCallInfoData(*fcinfo, &flinfo, 1, InvalidOid, NULL, (Node *) &info);
	fcinfo->args[0].value = PointerGetDatum(cstring_to_text_with_len(json.data, json.len));
	fcinfo->args[0].isnull = false;
	record = FunctionCallInvoke(fcinfo);
	if (fcinfo->isnull)
	{
		*null = true;
		return (Datum) 0;
	}
	header = DatumGetHeapTupleHeader(record);
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	value = heap_getattr(&tuple, 1, desc, null);
	return value;
}

Datum
gw_value_json(const gw_param *p, const char *raw, size_t len, bool *null)
{
	Datum		result;

	*null = false;
	if (len == 4 && memcmp(raw, "null", 4) == 0)
	{
		*null = true;
		/* a domain may not want it */
		return p->type != p->base ? InputFunctionCall(unconstify(FmgrInfo *, &p->input), NULL, p->ioparam, -1) : (Datum) 0;
	}
	if (p->base == JSONOID || p->base == JSONBOID)
		return input(p, gw_from_client(raw, len));
	if (OidIsValid(p->element) && p->element != JSONOID && p->element != JSONBOID && read_flat_array(p, raw, len, &result))
		return result;
	if (p->structured)
		return by_record(p, raw, len, null);
	return input(p, scalar_text(raw, len));
}
