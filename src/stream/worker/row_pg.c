/*
 * row_pg.c
 *	  A message as a row: decoded, converted to the columns' types, checked.
 *
 * What is wrong with a message alone is found here, before any INSERT, and
 * noted in its item: such messages never cost a transaction.  Types without a
 * decoder of their own go through their input functions, inside a
 * subtransaction that is opened only then and serves until one of them fails; it
 * writes nothing and takes no transaction id.
 */
#include "postgres.h"

#include "stream/worker/row.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

StaticAssertDecl(KFK_TEXT_RESERVE == VARHDRSZ, "the decoder leaves another room than a varlena header");
StaticAssertDecl(KFK_ARRAY_RESERVE == ARR_OVERHEAD_NONULLS(1), "the decoder leaves another room than an array header");

/* What conversion works with. */
typedef struct work
{
	kfk_target *target;
	const kfk_source *source;
	MemoryContext cxt;
	ResourceOwner owner;
	bool		protected;		/* in the subtransaction */
	kfk_value  *values;
	kfk_value  *key_values;
} work;

/* Before anything that may raise an error. */
static void
protect(work *w)
{
	if (w->protected)
		return;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(w->cxt);
	w->protected = true;
}

static void *
more_memory(void *arg, size_t bytes)
{
	return MemoryContextAllocExtended(arg, bytes, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
}

/* The item is no row: SQLSTATE, message, and detail or NULL; all copied to cxt. */
static void
fault(kfk_item *item, MemoryContext cxt, const char *sqlstate, const char *error, const char *detail)
{
	item->sqlstate = MemoryContextStrdup(cxt, sqlstate);
	item->error = MemoryContextStrdup(cxt, error);
	item->detail = detail ? MemoryContextStrdup(cxt, detail) : NULL;

	/* Messages are UTF-8; a fault that quotes one must suit the database. */
	if (GetDatabaseEncoding() != PG_UTF8)
		for (char *p = item->error; *p; p++)
			if (IS_HIGHBIT_SET(*p))
				*p = '?';
}

/* Decoded text as the database's encoding has it; len is updated. */
static char *
server_text(work *w, char *data, size_t *len)
{
	char	   *converted;
	char	   *piece;

	if (GetDatabaseEncoding() == PG_UTF8)
		return data;
	protect(w);
	converted = pg_any_to_server(data, (int) *len, PG_UTF8);
	if (converted == data)
		return data;
	*len = strlen(converted);
	piece = palloc(VARHDRSZ + *len + 1);
	memcpy(piece + VARHDRSZ, converted, *len + 1);
	return piece + VARHDRSZ;
}

/* Decoded bytes, which have room before them, as a varlena. */
static Datum
varlena(char *data, size_t len)
{
	char	   *start = data - VARHDRSZ;

	SET_VARSIZE(start, VARHDRSZ + len);
	return PointerGetDatum(start);
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
text_array(work *w, kfk_column *c, kfk_value *v)
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
		s->data = server_text(w, unconstify(char *, s->data), &s->len);
		if (c->element == TEXTOID)
			elements[i] = varlena(unconstify(char *, s->data), s->len);
		else
		{
			protect(w);
			elements[i] = InputFunctionCall(&c->element_input, unconstify(char *, s->data), c->element_ioparam, c->typmod);
		}
	}
	return PointerGetDatum(construct_md_array(elements, nulls, 1, dims, bounds, c->element,
											  c->element_len, c->element_byval, c->element_align));
}

/* A decoded value as a Datum of the column's base type. */
static Datum
convert(work *w, kfk_column *c, kfk_value *v)
{
	if (v->state == KFK_AS_TEXT || (c->kind == KFK_TEXT && c->base != TEXTOID))
	{
		v->v.data = server_text(w, v->v.data, &v->len);
		protect(w);
		return InputFunctionCall(&c->input, v->v.data, c->ioparam, c->typmod);
	}
	switch (c->kind)
	{
		case KFK_TEXT:
			v->v.data = server_text(w, v->v.data, &v->len);
			return varlena(v->v.data, v->len);
		case KFK_BYTEA:
			return varlena(v->v.data, v->len);
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
static Datum
from_text(work *w, kfk_column *c, const char *text)
{
	if (c->base == TEXTOID)
		return CStringGetTextDatum(text);
	protect(w);
	return InputFunctionCall(&c->input, unconstify(char *, text), c->ioparam, c->typmod);
}

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
headers(work *w, kfk_column *c, const kfk_message *m)
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
	return from_text(w, c, json.data);
}

/* A property of the message for a column; *null if it has none. */
static Datum
property(work *w, kfk_column *c, const kfk_message *m, bool *null)
{
	switch (c->property)
	{
		case KFK_SOURCE:
			return from_text(w, c, w->source->name);
		case KFK_TOPIC:
			return from_text(w, c, w->source->topic);
		case KFK_PARTITION:
			if (c->base == INT4OID)
				return Int32GetDatum(m->partition);
			return from_text(w, c, psprintf("%d", m->partition));
		case KFK_OFFSET:
			if (c->base == INT8OID)
				return Int64GetDatum(m->offset);
			return from_text(w, c, psprintf(INT64_FORMAT, m->offset));
		case KFK_TIME:
			*null = m->time_ms < 0;
			if (*null)
				return 0;
			if (c->base == TIMESTAMPTZOID)
				return TimestampTzGetDatum(kfk_time(m->time_ms));
			return from_text(w, c, timestamptz_to_str(kfk_time(m->time_ms)));
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
					return varlena(copy, len);
				if (!kfk_utf8(copy, len))
				{
					protect(w);
					ereport(ERROR,
							(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
							 errmsg("the message's key is not valid UTF-8")));
				}
				copy = server_text(w, copy, &len);
				if (c->base == TEXTOID)
					return varlena(copy, len);
				return from_text(w, c, copy);
			}
		case KFK_HEADERS:
			return headers(w, c, m);
		case KFK_NO_PROPERTY:
			break;
	}
	elog(ERROR, "unexpected property of a message");
}

/* An empty row of a shape: all columns NULL, and no default asked for. */
static kfk_row *
new_row(const kfk_shape *shape)
{
	kfk_row    *row = palloc(sizeof(kfk_row) + (sizeof(Datum) + sizeof(bool)) * (size_t) shape->width);

	row->next = NULL;
	row->values = (Datum *) (row + 1);
	row->nulls = (bool *) (row->values + shape->width);
	memset(row->values, 0, sizeof(Datum) * (size_t) shape->width);
	memset(row->nulls, true, (size_t) shape->n_columns);
	memset(row->nulls + shape->n_columns, false, (size_t) (shape->width - shape->n_columns));
	return row;
}

/* Decoded values into the columns of a row that they are for. */
static void
fill(work *w, const kfk_shape *shape, kfk_row *row, const int *field_column, int n_fields, kfk_value *values)
{
	for (int f = 0; f < n_fields; f++)
	{
		int			i = field_column[f];
		kfk_column *c = &shape->columns[i];
		kfk_value  *v = &values[f];

		if (v->state == KFK_SET || v->state == KFK_AS_TEXT)
		{
			row->nulls[i] = false;
			row->values[i] = convert(w, c, v);
		}
		if (c->default_sql)
			row->values[c->flag] = BoolGetDatum(v->state != KFK_ABSENT);
	}
}

/* Domains' checks and NOT NULL for a column; false: noted as the item's fault. */
static bool
check_column(work *w, kfk_column *c, kfk_row *row, int i, kfk_item *item)
{
	char		message[256];

	if (c->domain && (c->default_sql == NULL || DatumGetBool(row->values[c->flag])))
	{
		protect(w);
		domain_check(row->values[i], row->nulls[i], c->type, &c->domain_cache, w->target->cxt);
	}
	if (!c->not_null || !row->nulls[i])
		return true;
	snprintf(message, sizeof(message), "null value for column \"%s\", which is not null", c->name);
	fault(item, w->cxt, "23502", message, NULL);
	return false;
}

/* A row of w->values for the item; NULL if it must not be, noted as the item's fault. */
static kfk_row *
make_row(work *w, kfk_item *item)
{
	kfk_target *t = w->target;
	kfk_shape  *shape = &t->in;
	kfk_row    *row = new_row(shape);

	fill(w, shape, row, t->field_column, t->n_fields, w->values);
	if (t->out == shape)
		fill(w, shape, row, t->key_field_column, t->n_key_fields, w->key_values);
	for (int i = 0; i < shape->n_columns; i++)
	{
		kfk_column *c = &shape->columns[i];

		if (c->property != KFK_NO_PROPERTY)
		{
			row->nulls[i] = false;
			row->values[i] = property(w, c, &item->message, &row->nulls[i]);
		}
		if (!check_column(w, c, row, i, item))
			return NULL;
	}
	return row;
}

/* A fault of decoding is the item's, unless it lies elsewhere. */
static void
take_fault(work *w, kfk_item *item, const kfk_fault *why, const char *detail)
{
	int			sqlstate = MAKE_SQLSTATE(why->sqlstate[0], why->sqlstate[1], why->sqlstate[2], why->sqlstate[3], why->sqlstate[4]);

	if (!kfk_is_data_error(sqlstate))
		ereport(ERROR,
				(errcode(sqlstate),
				 errmsg("%s", why->message)));
	fault(item, w->cxt, why->sqlstate, why->message, detail);
}

/* The message's key into w->key_values; false: noted as the item's fault. */
static bool
decode_key(work *w, const kfk_decoder *value_decoder, kfk_item *item)
{
	static const kfk_format_options plain;
	const kfk_message *m = &item->message;
	kfk_decoder decoder = *value_decoder;
	kfk_reader	reader;
	kfk_fault	why;

	decoder.fields = w->target->key_fields;
	decoder.n_fields = w->target->n_key_fields;
	decoder.refuse_unknown = false;
	decoder.options = &plain;
	decoder.whole = false;
	reader = kfk_read(&decoder, m->key, m->key_len);
	if (m->key == NULL)
	{
		fault(item, w->cxt, "23502", "the message has no key", "Option key_format makes the primary key of it.");
		return false;
	}
	if (w->source->key_format->next(&reader, w->key_values, &why) == KFK_ROW &&
		w->source->key_format->next(&reader, NULL, &why) == KFK_DONE)
		return true;
	take_fault(w, item, &why, "This is about the message's key.");
	return false;
}

/* The row that a tombstone deletes: its key alone. */
static void
decode_tombstone(work *w, kfk_item *item)
{
	kfk_target *t = w->target;
	kfk_row    *row = new_row(t->out);

	/* Where a default could be asked for, NULL is given. */
	for (int i = t->out->n_columns; i < t->out->place; i++)
		row->values[i] = BoolGetDatum(true);
	fill(w, t->out, row, t->key_field_column, t->n_key_fields, w->key_values);
	for (int f = 0; f < t->n_key_fields; f++)
	{
		int			i = t->key_field_column[f];

		if (!check_column(w, &t->out->columns[i], row, i, item))
			return;
	}
	item->rows = row;
	item->deletes = true;
}

/* The message's rows; without any it is passed over.  What is wrong with it is noted as its fault. */
static void
decode(work *w, const kfk_decoder *decoder, kfk_item *item)
{
	kfk_fault	why;
	const kfk_message *m = &item->message;
	kfk_reader	reader = kfk_read(decoder, m->value, m->value_len);
	kfk_row   **next = &item->rows;
	kfk_step	step;

	if (m->value_len > (size_t) w->source->max_message_bytes)
	{
		char		message[128];

		snprintf(message, sizeof(message), "message of %zu bytes exceeds max_message_bytes (" INT64_FORMAT ")",
				 m->value_len, w->source->max_message_bytes);
		fault(item, w->cxt, "54000", message, NULL);
		return;
	}
	while ((step = w->target->format->next(&reader, w->values, &why)) == KFK_ROW)
	{
		*next = make_row(w, item);
		if (*next == NULL)
			return;
		next = &(*next)->next;
		if (reader.rows % 256 == 0)
			CHECK_FOR_INTERRUPTS();
	}
	if (step == KFK_DONE)
		item->skipped = item->rows == NULL;
	else
		take_fault(w, item, &why, NULL);
}

/* A message to rows, to a row that is deleted, or to a fault. */
static void
decode_item(work *w, const kfk_decoder *decoder, kfk_item *item)
{
	bool		tombstone = item->message.value == NULL;

	if (tombstone && w->source->tombstones == KFK_DEAD_LETTER)
		fault(item, w->cxt, "22004", "the message has no value (a tombstone)", NULL);
	else if ((tombstone || w->target->out == &w->target->in) && w->target->n_key_fields > 0 && !decode_key(w, decoder, item))
		return;
	else if (tombstone)
		decode_tombstone(w, item);
	else
		decode(w, decoder, item);
}

/*
 * Decode and convert the items that are not yet, for this target; faults are
 * noted in them.  Memory from cxt.  Errors that are no message's fault are raised.
 */
void
kfk_target_decode(kfk_target *target, const kfk_source *source, kfk_item *items, int n, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	kfk_arena	arena = {NULL, NULL, more_memory, cxt};
	kfk_decoder decoder = {target->fields, target->n_fields, source->refuse_unknown, &arena,
	&source->format_options, target->positions, target->n_positions, target->whole,
	kfk_schema, unconstify(kfk_source *, source)};
	work		w = {target, source, cxt, CurrentResourceOwner, false, NULL, NULL};
	volatile int i = 0;
	work	   *volatile pw = &w;

	w.values = palloc(sizeof(kfk_value) * (size_t) (target->n_fields + 1));
	w.key_values = palloc(sizeof(kfk_value) * (size_t) (target->n_key_fields + 1));
	while (i < n)
	{
		PG_TRY();
		{
			for (; i < n; i++)
			{
				kfk_item   *item = &items[i];

				if (item->version == target->version || item->rejected)
					continue;
				item->sqlstate = NULL;
				item->rows = NULL;
				item->deletes = false;
				item->skipped = item->message.end || (item->message.value == NULL && source->tombstones == KFK_SKIP);
				if (!item->skipped)
					decode_item(&w, &decoder, item);

				/* Not before: an error that is not the item's fault leaves it to be decoded again. */
				item->version = target->version;
				if (i % 256 == 255)
					CHECK_FOR_INTERRUPTS();
			}
		}
		PG_CATCH();
		{
			ErrorData  *error;

			MemoryContextSwitchTo(cxt);
			error = CopyErrorData();
			if (!pw->protected || !kfk_is_data_error(error->sqlerrcode))
				PG_RE_THROW();
			FlushErrorState();
			RollbackAndReleaseCurrentSubTransaction();
			MemoryContextSwitchTo(cxt);
			CurrentResourceOwner = pw->owner;
			pw->protected = false;
			fault(&items[i], cxt, unpack_sql_state(error->sqlerrcode), error->message, error->detail);
			items[i++].version = target->version;
		}
		PG_END_TRY();
	}
	if (w.protected)
	{
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(cxt);
		CurrentResourceOwner = w.owner;
	}
	MemoryContextSwitchTo(old);
}
