/*
 * property_pg.c
 *	  What a message has beside its value, as values of columns.
 */
#include "postgres.h"

#include "stream/worker/row.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Names and values of a message's headers in turn, as texts. */
typedef struct header_list
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	int			room;
} header_list;

/* Bytes as text: as they are, or in hexadecimal as bytea shows them. */
static Datum
readable(const void *data, size_t len)
{
	char	   *hex;

	if (len <= MaxAllocSize / 4 && pg_verify_mbstr(GetDatabaseEncoding(), data, (int) len, true))
		return PointerGetDatum(cstring_to_text_with_len(data, (int) len));
	hex = palloc(2 * len + 3);
	memcpy(hex, "\\x", 2);
	hex[2 + hex_encode(data, len, hex + 2)] = '\0';
	return CStringGetTextDatum(hex);
}

static bool
add_header(void *arg, const char *name, const void *value, size_t len)
{
	header_list *list = arg;

	if (list->n + 2 > list->room)
	{
		list->room = list->room ? list->room * 2 : 16;
		list->elements = list->elements ? repalloc(list->elements, sizeof(Datum) * (size_t) list->room) : palloc(sizeof(Datum) * (size_t) list->room);
		list->nulls = list->nulls ? repalloc(list->nulls, (size_t) list->room) : palloc((size_t) list->room);
	}
	list->nulls[list->n] = false;
	list->elements[list->n++] = readable(name, strlen(name));
	list->nulls[list->n] = value == NULL;
	list->elements[list->n++] = value ? readable(value, len) : 0;
	return true;
}

/* The headers in order: an array of names and values in turn, or JSON as in dead_letters. */
static Datum
headers(kfk_work *w, kfk_column *c, const kfk_message *m)
{
	header_list list = {NULL, NULL, 0, 0};
	StringInfoData json;
	int			lower = 1;

	if (c->kind == KFK_TEXT_ARRAY && c->element == TEXTOID)
	{
		kfk_headers(m, add_header, &list);
		if (list.n == 0)
			return PointerGetDatum(construct_empty_array(TEXTOID));
		return PointerGetDatum(construct_md_array(list.elements, list.nulls, 1, &list.n, &lower, TEXTOID, -1, false, TYPALIGN_INT));
	}
	initStringInfo(&json);
	kfk_add_headers(&json, m);
	return kfk_from_text(w, c, json.data);
}

/* A property of the message for a column; *null if it has none. */
Datum
kfk_property_of(kfk_work *w, kfk_column *c, const kfk_message *m, bool *null)
{
	switch (c->property)
	{
		case KFK_SOURCE:
			return kfk_from_text(w, c, w->source->name);
		case KFK_TOPIC:
			return kfk_from_text(w, c, w->source->topic);
		case KFK_PARTITION:
			if (c->base == INT4OID)
				return Int32GetDatum(m->partition);
			return kfk_from_text(w, c, psprintf("%d", m->partition));
		case KFK_OFFSET:
			if (c->base == INT8OID)
				return Int64GetDatum(m->offset);
			return kfk_from_text(w, c, psprintf(INT64_FORMAT, m->offset));
		case KFK_TIME:
			*null = m->time_ms < 0;
			if (*null)
				return 0;
			if (c->base == TIMESTAMPTZOID)
				return TimestampTzGetDatum(kfk_time(m->time_ms));
			return kfk_from_text(w, c, timestamptz_to_str(kfk_time(m->time_ms)));
		case KFK_KEY:
			*null = m->key == NULL;
			if (*null)
				return 0;
			{
				size_t		len = m->key_len;
				char	   *copy = (char *) palloc(VARHDRSZ + len + 1) + VARHDRSZ;

				memcpy(copy, m->key, len);
				copy[len] = '\0';
				if (c->base == BYTEAOID)
					return kfk_varlena(copy, len);
				if (!mr_utf8(copy, len))
				{
					kfk_protect(w);
					ereport(ERROR,
							(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
							 errmsg("the message's key is not valid UTF-8")));
				}
				copy = kfk_server_text(w, copy, &len);
				if (c->base == TEXTOID)
					return kfk_varlena(copy, len);
				return kfk_from_text(w, c, copy);
			}
		case KFK_HEADERS:
			return headers(w, c, m);
		case KFK_NO_PROPERTY:
			break;
	}
	elog(ERROR, "unexpected property of a message");
}
