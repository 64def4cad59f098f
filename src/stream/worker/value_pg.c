/*
 * value_pg.c
 *	  A decoded value as a Datum of its column's base type.
 *
 * What the decoder has made ready is used where it lies, in the room it left for
 * PostgreSQL's headers; the rest goes through the type's input function.
 */
#include "postgres.h"

#include "stream/worker/row.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

StaticAssertDecl(KFK_TEXT_RESERVE == VARHDRSZ, "the decoder leaves another room than a varlena header");
StaticAssertDecl(KFK_ARRAY_RESERVE == ARR_OVERHEAD_NONULLS(1), "the decoder leaves another room than an array header");

/* Decoded text as the database's encoding has it; len is updated. */
char *
kfk_server_text(kfk_work *w, char *data, size_t *len)
{
	char	   *converted;
	char	   *piece;

	if (GetDatabaseEncoding() == PG_UTF8)
		return data;
	kfk_protect(w);
	converted = pg_any_to_server(data, (int) *len, PG_UTF8);
	if (converted == data)
		return data;
	*len = strlen(converted);
	piece = palloc(VARHDRSZ + *len + 1);
	memcpy(piece + VARHDRSZ, converted, *len + 1);
	return piece + VARHDRSZ;
}

static Datum
numeric_array(kfk_value *v, Oid element, size_t width)
{
	ArrayType  *a;

	if (v->len == 0)
		return PointerGetDatum(construct_empty_array(element));
	if (v->has_nulls)
	{
		Datum	   *elements = palloc(sizeof(Datum) * v->len);
		int			dims[] = {(int) v->len};
		int			bounds[] = {1};

		for (size_t i = 0; i < v->len; i++)
		{
			const char *at = v->v.data + i * width;

			if (element == FLOAT4OID)
				elements[i] = Float4GetDatum(*(const float4 *) at);
			else if (element == FLOAT8OID)
				elements[i] = Float8GetDatum(*(const float8 *) at);
			else if (element == INT4OID)
				elements[i] = Int32GetDatum(*(const int32 *) at);
			else
				elements[i] = Int64GetDatum(*(const int64 *) at);
		}
		return PointerGetDatum(construct_md_array(elements, v->nulls, 1, dims, bounds, element, (int) width, true,
												  width == 8 ? TYPALIGN_DOUBLE : TYPALIGN_INT));
	}
	a = (ArrayType *) (v->v.data - KFK_ARRAY_RESERVE);
	SET_VARSIZE(a, KFK_ARRAY_RESERVE + v->len * width);
	a->ndim = 1;
	a->dataoffset = 0;
	a->elemtype = element;
	ARR_DIMS(a)[0] = (int) v->len;
	ARR_LBOUND(a)[0] = 1;
	return PointerGetDatum(a);
}

static Datum
text_array(kfk_work *w, kfk_column *c, kfk_value *v)
{
	Datum	   *elements = palloc(sizeof(Datum) * (v->len + 1));
	bool	   *nulls = palloc(v->len + 1);
	int			dims[] = {(int) v->len};
	int			bounds[] = {1};

	if (v->len == 0)
		return PointerGetDatum(construct_empty_array(c->element));
	for (size_t i = 0; i < v->len; i++)
	{
		kfk_slice  *s = &v->v.slices[i];

		nulls[i] = s->data == NULL;
		elements[i] = 0;
		if (nulls[i])
			continue;
		s->data = kfk_server_text(w, unconstify(char *, s->data), &s->len);
		if (c->element == TEXTOID)
			elements[i] = kfk_varlena(unconstify(char *, s->data), s->len);
		else
		{
			kfk_protect(w);
			elements[i] = InputFunctionCall(&c->element_input, unconstify(char *, s->data), c->element_ioparam, c->typmod);
		}
	}
	return PointerGetDatum(construct_md_array(elements, nulls, 1, dims, bounds, c->element,
											  c->element_len, c->element_byval, c->element_align));
}

/* A decoded value as a Datum of the column's base type. */
Datum
kfk_convert(kfk_work *w, kfk_column *c, kfk_value *v)
{
	if (v->state == KFK_AS_TEXT || (c->kind == KFK_TEXT && c->base != TEXTOID))
	{
		v->v.data = kfk_server_text(w, v->v.data, &v->len);
		kfk_protect(w);
		return InputFunctionCall(&c->input, v->v.data, c->ioparam, c->typmod);
	}
	switch (c->kind)
	{
		case KFK_TEXT:
			v->v.data = kfk_server_text(w, v->v.data, &v->len);
			return kfk_varlena(v->v.data, v->len);
		case KFK_BYTEA:
			return kfk_varlena(v->v.data, v->len);
		case KFK_INT2:
			return Int16GetDatum((int16) v->v.integer);
		case KFK_INT4:
			return Int32GetDatum((int32) v->v.integer);
		case KFK_INT8:
			return Int64GetDatum(v->v.integer);
		case KFK_TIMESTAMPTZ:
			return TimestampTzGetDatum(v->v.integer);
		case KFK_FLOAT4:
			return Float4GetDatum(v->v.float4);
		case KFK_FLOAT8:
			return Float8GetDatum(v->v.float8);
		case KFK_BOOL:
			return BoolGetDatum(v->v.boolean);
		case KFK_FLOAT4_ARRAY:
			return numeric_array(v, FLOAT4OID, sizeof(float4));
		case KFK_FLOAT8_ARRAY:
			return numeric_array(v, FLOAT8OID, sizeof(float8));
		case KFK_INT4_ARRAY:
			return numeric_array(v, INT4OID, sizeof(int32));
		case KFK_INT8_ARRAY:
			return numeric_array(v, INT8OID, sizeof(int64));
		case KFK_TEXT_ARRAY:
			return text_array(w, c, v);
		case KFK_JSON:
			break;
	}
	elog(ERROR, "unexpected kind of column");
}

/* Text of the database as the column's base type. */
Datum
kfk_from_text(kfk_work *w, kfk_column *c, const char *text)
{
	if (c->base == TEXTOID)
		return CStringGetTextDatum(text);
	kfk_protect(w);
	return InputFunctionCall(&c->input, unconstify(char *, text), c->ioparam, c->typmod);
}
