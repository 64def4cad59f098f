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
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* Before anything that may raise an error. */
void
kfk_protect(kfk_work *w)
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

/*
 * The item is no row: SQLSTATE, message, and detail or NULL; all copied.  A
 * constraint (class 23) is the table's, wherever it is found out.
 */
static void
fault(const kfk_work *w, kfk_item *item, const char *sqlstate, const char *error, const char *detail)
{
	MemoryContext cxt = w->cxt;

	item->stage = strncmp(sqlstate, "23", 2) == 0 ? KFK_AT_TARGET : w->stage;
	item->sqlstate = MemoryContextStrdup(cxt, sqlstate);
	item->error = MemoryContextStrdup(cxt, error);
	item->detail = detail ? MemoryContextStrdup(cxt, detail) : NULL;

	/* Messages are UTF-8; a fault that quotes one must suit the database. */
	if (GetDatabaseEncoding() != PG_UTF8)
		for (char *p = item->error; *p; p++)
			if (IS_HIGHBIT_SET(*p))
				*p = '?';
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
fill(kfk_work *w, const kfk_shape *shape, kfk_row *row, const int *field_column, int n_fields, kfk_value *values)
{
	for (int f = 0; f < n_fields; f++)
	{
		int			i = field_column[f];
		kfk_column *c = &shape->columns[i];
		kfk_value  *v = &values[f];

		if (v->state == KFK_SET || v->state == KFK_AS_TEXT)
		{
			row->nulls[i] = false;
			row->values[i] = kfk_convert(w, c, v);
		}
		if (c->default_sql)
			row->values[c->flag] = BoolGetDatum(v->state != KFK_ABSENT);
	}
}

/* The message's key into the columns of a row of the target. */
static void
fill_key(kfk_work *w, kfk_row *row)
{
	const kfk_target *t = w->target;

	w->stage = KFK_AT_KEY;
	fill(w, t->out, row, t->key_field_column, t->n_key_fields, w->key_values);
	w->stage = KFK_AT_VALUE;
}

/* Domains' checks and NOT NULL for a column; false: noted as the item's fault. */
static bool
check_column(kfk_work *w, kfk_column *c, kfk_row *row, int i, kfk_item *item)
{
	char		message[256];

	if (c->domain && (c->default_sql == NULL || DatumGetBool(row->values[c->flag])))
	{
		kfk_protect(w);
		domain_check(row->values[i], row->nulls[i], c->type, &c->domain_cache, w->target->cxt);
	}
	if (!c->not_null || !row->nulls[i])
		return true;
	snprintf(message, sizeof(message), "null value for column \"%s\", which is not null", c->name);
	fault(w, item, "23502", message, NULL);
	return false;
}

/* A row of w->values for the item; NULL if it must not be, noted as the item's fault. */
static kfk_row *
make_row(kfk_work *w, kfk_item *item)
{
	kfk_target *t = w->target;
	kfk_shape  *shape = &t->in;
	kfk_row    *row = new_row(shape);

	fill(w, shape, row, t->field_column, t->n_fields, w->values);
	if (t->out == shape)
		fill_key(w, row);
	for (int i = 0; i < shape->n_columns; i++)
	{
		kfk_column *c = &shape->columns[i];

		if (c->property != KFK_NO_PROPERTY)
		{
			row->nulls[i] = false;
			row->values[i] = kfk_property_of(w, c, &item->message, &row->nulls[i]);
		}
		if (!check_column(w, c, row, i, item))
			return NULL;
	}
	return row;
}

/* A fault of decoding is the item's, unless it lies elsewhere. */
static void
take_fault(kfk_work *w, kfk_item *item, const kfk_fault *why, const char *detail)
{
	int			sqlstate = MAKE_SQLSTATE(why->sqlstate[0], why->sqlstate[1], why->sqlstate[2], why->sqlstate[3], why->sqlstate[4]);

	if (!mr_is_data_error(sqlstate))
		ereport(ERROR,
				(errcode(sqlstate),
				 errmsg("%s", why->message)));
	fault(w, item, why->sqlstate, why->message, detail);
}

/* The message's key into w->key_values; false: noted as the item's fault. */
static bool
decode_key(kfk_work *w, const kfk_decoder *value_decoder, kfk_item *item)
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
	w->stage = KFK_AT_KEY;
	if (m->key == NULL)
	{
		fault(w, item, "23502", "the message has no key", "Option key_format makes the primary key of it.");
		return false;
	}
	if (w->source->key_format->next(&reader, w->key_values, &why) == KFK_ROW &&
		w->source->key_format->next(&reader, NULL, &why) == KFK_DONE)
	{
		w->stage = KFK_AT_VALUE;
		return true;
	}
	take_fault(w, item, &why, "This is about the message's key.");
	return false;
}

/* The row that a tombstone deletes: its key alone. */
static void
decode_tombstone(kfk_work *w, kfk_item *item)
{
	kfk_target *t = w->target;
	kfk_row    *row = new_row(t->out);

	/* Where a default could be asked for, NULL is given. */
	for (int i = t->out->n_columns; i < t->out->place; i++)
		row->values[i] = BoolGetDatum(true);
	fill_key(w, row);
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
decode(kfk_work *w, const kfk_decoder *decoder, kfk_item *item)
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
		fault(w, item, "54000", message, NULL);
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
decode_item(kfk_work *w, const kfk_decoder *decoder, kfk_item *item)
{
	bool		tombstone = item->message.value == NULL;

	if (tombstone && w->source->tombstones == KFK_DEAD_LETTER)
		fault(w, item, "22004", "the message has no value (a tombstone)", NULL);
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
	kfk_work	w = {target, source, cxt, CurrentResourceOwner, false, KFK_AT_VALUE, NULL, NULL};
	volatile int i = 0;
	kfk_work   *volatile pw = &w;

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
				pw->stage = KFK_AT_VALUE;
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
			if (!pw->protected || !mr_is_data_error(error->sqlerrcode))
				PG_RE_THROW();
			FlushErrorState();
			RollbackAndReleaseCurrentSubTransaction();
			MemoryContextSwitchTo(cxt);
			CurrentResourceOwner = pw->owner;
			pw->protected = false;
			fault(pw, &items[i], unpack_sql_state(error->sqlerrcode), error->message, error->detail);
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
