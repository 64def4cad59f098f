/*
 * dead_pg.c
 *	  A message that is no row, as a row of millrace.dead_letters; and such rows
 *	  as messages again.
 *
 * A letter that redrive_dead_letters() marked is run as a live message is, by the
 * worker that holds its partition: the fence names the same epoch and offset,
 * only that it moves nothing on.  The transaction of its rows deletes it.
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "core/spi_pg.h"

/* Bytes as a JSON string: text as it is, anything else in hexadecimal. */
static void
add_bytes(StringInfo out, const char *data, size_t len, bool *hex)
{
	char	   *copy = palloc(2 * len + 1);

	*hex = GetDatabaseEncoding() != PG_UTF8 || !mr_utf8(data, len);
	if (*hex)
		copy[hex_encode(data, len, copy)] = '\0';
	else
	{
		memcpy(copy, data, len);
		copy[len] = '\0';
	}
	escape_json(out, copy);
	pfree(copy);
}

static bool
add_header(void *arg, const char *name, const void *value, size_t len)
{
	StringInfo	out = arg;
	bool		hex;

	appendStringInfoString(out, out->len > 1 ? ", {\"key\": " : "{\"key\": ");
	add_bytes(out, name, strlen(name), &hex);
	if (value == NULL)
		appendStringInfoString(out, ", \"value\": null}");
	else
	{
		StringInfoData text;

		initStringInfo(&text);
		add_bytes(&text, value, len, &hex);
		appendStringInfo(out, ", \"%s\": %s}", hex ? "hex" : "value", text.data);
		pfree(text.data);
	}
	return true;
}

/* The headers of a message, in order, as JSON; [] if there are none. */
void
kfk_add_headers(StringInfo out, const kfk_message *m)
{
	/* kfk_headers() calls back between two calls of librdkafka, within none. */
	appendStringInfoChar(out, '[');
	kfk_headers(m, add_header, out);
	appendStringInfoChar(out, ']');
}

/* As Kafka Connect calls them, by kfk_stage. */
const char *const kfk_stage_names[] = {"VALUE_CONVERTER", "KEY_CONVERTER", "TRANSFORMATION", "TASK_PUT"};

Datum
kfk_bytea(const void *data, size_t len)
{
	bytea	   *b = palloc(VARHDRSZ + len);

	SET_VARSIZE(b, VARHDRSZ + len);
	memcpy(VARDATA(b), data, len);
	return PointerGetDatum(b);
}

/*
 * Insert the item's message with its fault, and a copy of it into the outbox if
 * the source has a dead_letter_topic.  Within mr_spi_begin(), in the
 * transaction that moves the offset past it.
 */
void
kfk_bury(const kfk_source *source, const kfk_item *item)
{
	static SPIPlanPtr plan = NULL;
	static Oid types[] = {TEXTOID, TEXTOID, INT4OID, INT8OID, BYTEAOID, JSONBOID, BYTEAOID, TIMESTAMPTZOID,
	TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID};
	const kfk_message *m = &item->message;
	bool		keep = m->value && (int64) m->value_len <= Min(source->max_message_bytes, source->dead_letter_value_bytes);
	Datum		args[13];
	char		nulls[] = "             ";
	StringInfoData headers;

	initStringInfo(&headers);
	kfk_add_headers(&headers, m);
	nulls[5] = headers.len > 2 ? ' ' : 'n';

	args[0] = CStringGetTextDatum(source->name);
	args[1] = CStringGetTextDatum(source->topic);
	args[2] = Int32GetDatum(m->partition);
	args[3] = Int64GetDatum(m->offset);
	args[4] = m->key ? kfk_bytea(m->key, m->key_len) : 0;
	nulls[4] = m->key ? ' ' : 'n';
	args[5] = nulls[5] == ' ' ? DirectFunctionCall1(jsonb_in, CStringGetDatum(headers.data)) : 0;
	args[6] = keep ? kfk_bytea(m->value, m->value_len) : 0;
	nulls[6] = keep ? ' ' : 'n';
	args[7] = TimestampTzGetDatum(kfk_time(m->time_ms));
	nulls[7] = m->time_ms >= 0 ? ' ' : 'n';
	args[8] = CStringGetTextDatum(item->sqlstate);
	args[9] = CStringGetTextDatum(item->error);
	args[10] = item->detail ? CStringGetTextDatum(item->detail) : 0;
	nulls[10] = item->detail ? ' ' : 'n';
	args[11] = CStringGetTextDatum(kfk_stage_names[item->stage]);
	args[12] = Int64GetDatum((int64) m->value_len);
	nulls[12] = m->value ? ' ' : 'n';
	mr_prepare(&plan, "INSERT INTO millrace.dead_letters (source, topic, partition, \"offset\", key, headers, value, ts, sqlstate, error, detail, stage, value_bytes) "
			   "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)", lengthof(types), types);
	SPI_execute_plan(plan, args, nulls, false, 0);
	if (source->dead_letter_topic)
		kfk_publish_letter(source, item);
}

/* Kafka's milliseconds of a letter's time: what kfk_time() made it of. */
static int64
milliseconds(TimestampTz time)
{
	if (TIMESTAMP_NOT_FINITE(time))
		return PG_INT64_MAX;
	return time / 1000 + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000);
}

/* Headers from arrays (bytea[]) of names and of values; their number. */
static int
take_headers(Datum names, Datum values, const kfk_header **headers)
{
	kfk_header *h;
	Datum	   *name;
	Datum	   *value;
	bool	   *nulls;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(names), BYTEAOID, -1, false, TYPALIGN_INT, &name, NULL, &n);
	deconstruct_array(DatumGetArrayTypeP(values), BYTEAOID, -1, false, TYPALIGN_INT, &value, &nulls, &n);
	h = palloc0(sizeof(*h) * (size_t) Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		h[i].name = TextDatumGetCString(name[i]);
		if (nulls[i])
			continue;
		h[i].value = VARDATA_ANY(DatumGetPointer(value[i]));
		h[i].len = VARSIZE_ANY_EXHDR(DatumGetPointer(value[i]));
	}
	*headers = h;
	return n;
}

/* Bytes of a column, copied; NULL: none. */
static const void *
take_bytes(HeapTuple row, int column, size_t *len)
{
	bool		null;
	Datum		d = SPI_getbinval(row, SPI_tuptable->tupdesc, column, &null);
	bytea	   *copy;

	*len = 0;
	if (null)
		return NULL;
	copy = DatumGetByteaPCopy(d);
	*len = VARSIZE_ANY_EXHDR(copy);
	return VARDATA_ANY(copy);
}

/*
 * The next marked letters of these partitions, as many as make a batch, in their
 * order; *items and what they hold in the current context.  Outside a
 * transaction.  0: none is left.
 *
 * Headers come back as dead_letters shows them: in a database of UTF-8 a name
 * that is none stays in hexadecimal.
 */
int
kfk_marked_letters(const kfk_source *source, kfk_partition *partitions, int n_partitions, kfk_item **items)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID, INT4ARRAYOID, INT8OID};
	MemoryContext caller = CurrentMemoryContext;
	Datum	   *numbers = palloc(sizeof(Datum) * (size_t) Max(n_partitions, 1));
	Datum		args[4];
	int64		bytes = 0;
	mr_owner_save save;
	int			n = 0;

	for (int i = 0; i < n_partitions; i++)
		numbers[i] = Int32GetDatum(partitions[i].partition);
	args[0] = CStringGetTextDatum(source->name);
	args[1] = CStringGetTextDatum(source->topic);
	args[2] = PointerGetDatum(construct_array(numbers, n_partitions, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	args[3] = Int64GetDatum(source->batch_rows);

	mr_begin("read dead letters");
	mr_spi_begin(&save);
	mr_prepare(&plan, "SELECT d.id, d.partition, d.\"offset\", d.ts, d.key, d.value, "
			   "ARRAY(SELECT CASE WHEN pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'UTF8' "
			   "THEN pg_catalog.convert_to(pg_catalog.jsonb_extract_path_text(h, 'key'), 'UTF8') "
			   "ELSE pg_catalog.decode(pg_catalog.jsonb_extract_path_text(h, 'key'), 'hex') END FROM pg_catalog.jsonb_array_elements(d.headers) h), "
			   "ARRAY(SELECT coalesce(pg_catalog.convert_to(pg_catalog.jsonb_extract_path_text(h, 'value'), 'UTF8'), "
			   "pg_catalog.decode(pg_catalog.jsonb_extract_path_text(h, 'hex'), 'hex')) FROM pg_catalog.jsonb_array_elements(d.headers) h) "
			   "FROM millrace.dead_letters d WHERE d.source OPERATOR(pg_catalog.=) $1 AND d.topic OPERATOR(pg_catalog.=) $2 "
			   "AND d.partition OPERATOR(pg_catalog.=) ANY ($3) AND d.redrive_at IS NOT NULL "
			   "ORDER BY d.partition, d.\"offset\" LIMIT $4", lengthof(types), types);
	SPI_execute_plan(plan, args, NULL, true, 0);
	MemoryContextSwitchTo(caller);
	*items = palloc0(sizeof(kfk_item) * (size_t) Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		kfk_item   *item = &(*items)[n];
		kfk_message *m = &item->message;
		bool		null;
		Datum		time;

		item->letter = DatumGetInt64(SPI_getbinval(row, desc, 1, &null));
		m->partition = DatumGetInt32(SPI_getbinval(row, desc, 2, &null));
		m->offset = DatumGetInt64(SPI_getbinval(row, desc, 3, &null));
		time = SPI_getbinval(row, desc, 4, &null);
		m->time_ms = null ? -1 : milliseconds(DatumGetTimestampTz(time));
		m->key = take_bytes(row, 5, &m->key_len);
		m->value = take_bytes(row, 6, &m->value_len);
		m->n_headers = take_headers(datumCopy(SPI_getbinval(row, desc, 7, &null), false, -1),
									datumCopy(SPI_getbinval(row, desc, 8, &null), false, -1), &m->headers);
		for (int k = 0; k < n_partitions; k++)
			if (partitions[k].partition == m->partition)
				item->partition = &partitions[k];
		n++;
		bytes += (int64) m->value_len;
		if (bytes > source->batch_bytes)
			break;
	}
	mr_spi_end(&save);
	mr_commit();
	return n;
}

/*
 * A letter in the transaction of its rows: deleted, with others that the same
 * message may have left, or if it failed again kept with its new error.  False:
 * it is gone, or no longer marked.  Within mr_spi_begin(), behind the fence.
 */
bool
kfk_settle_letter(const kfk_item *item)
{
	static SPIPlanPtr settled = NULL;
	static SPIPlanPtr failed = NULL;
	static const Oid settled_types[] = {INT8OID};
	static const Oid failed_types[] = {INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		args[] = {Int64GetDatum(item->letter), 0, 0, 0, 0};

	mr_prepare(&settled, "DELETE FROM millrace.dead_letters d USING millrace.dead_letters m WHERE m.id OPERATOR(pg_catalog.=) $1 "
			   "AND m.redrive_at IS NOT NULL AND d.source OPERATOR(pg_catalog.=) m.source AND d.topic OPERATOR(pg_catalog.=) m.topic "
			   "AND d.partition OPERATOR(pg_catalog.=) m.partition AND d.\"offset\" OPERATOR(pg_catalog.=) m.\"offset\"", 1, settled_types);
	mr_prepare(&failed, "UPDATE millrace.dead_letters SET redrive_at = NULL, attempts = attempts OPERATOR(pg_catalog.+) 1, "
			   "sqlstate = $2, error = $3, detail = $4, stage = $5 WHERE id OPERATOR(pg_catalog.=) $1 AND redrive_at IS NOT NULL", 5, failed_types);
	if (item->sqlstate == NULL)
		SPI_execute_plan(settled, args, NULL, false, 0);
	else
	{
		args[1] = CStringGetTextDatum(item->sqlstate);
		args[2] = CStringGetTextDatum(item->error);
		args[3] = item->detail ? CStringGetTextDatum(item->detail) : 0;
		args[4] = CStringGetTextDatum(kfk_stage_names[item->stage]);
		SPI_execute_plan(failed, args, item->detail ? NULL : "   n ", false, 0);
	}
	return SPI_processed > 0;
}
