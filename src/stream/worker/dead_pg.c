/*
 * dead_pg.c
 *	  A message that is no row, as a row of millrace.dead_letters.
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "stream/worker/owner.h"

/* Bytes as a JSON string: text as it is, anything else in hexadecimal. */
static void
add_bytes(StringInfo out, const char *data, size_t len, bool *hex)
{
	char	   *copy = palloc(2 * len + 1);

	*hex = GetDatabaseEncoding() != PG_UTF8 || !kfk_utf8(data, len);
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

static Datum
bytes_datum(const void *data, size_t len)
{
	bytea	   *b = palloc(VARHDRSZ + len);

	SET_VARSIZE(b, VARHDRSZ + len);
	memcpy(VARDATA(b), data, len);
	return PointerGetDatum(b);
}

/*
 * Insert the item's message with its fault.  Within kfk_owner_begin(), in the
 * transaction that moves the offset past it.
 */
void
kfk_bury(const kfk_source *source, const kfk_item *item)
{
	static SPIPlanPtr plan = NULL;
	static Oid types[] = {TEXTOID, TEXTOID, INT4OID, INT8OID, BYTEAOID, JSONBOID, BYTEAOID, TIMESTAMPTZOID,
	TEXTOID, TEXTOID, TEXTOID};
	const kfk_message *m = &item->message;
	bool		large = m->value_len > (size_t) source->max_message_bytes;
	Datum		args[11];
	char		nulls[] = "           ";
	StringInfoData headers;

	initStringInfo(&headers);
	kfk_add_headers(&headers, m);
	nulls[5] = headers.len > 2 ? ' ' : 'n';

	args[0] = CStringGetTextDatum(source->name);
	args[1] = CStringGetTextDatum(source->topic);
	args[2] = Int32GetDatum(m->partition);
	args[3] = Int64GetDatum(m->offset);
	args[4] = m->key ? bytes_datum(m->key, m->key_len) : 0;
	nulls[4] = m->key ? ' ' : 'n';
	args[5] = nulls[5] == ' ' ? DirectFunctionCall1(jsonb_in, CStringGetDatum(headers.data)) : 0;
	args[6] = m->value && !large ? bytes_datum(m->value, m->value_len) : 0;
	nulls[6] = m->value && !large ? ' ' : 'n';
	args[7] = TimestampTzGetDatum(kfk_time(m->time_ms));
	nulls[7] = m->time_ms >= 0 ? ' ' : 'n';
	args[8] = CStringGetTextDatum(item->sqlstate);
	args[9] = CStringGetTextDatum(item->error);
	args[10] = item->detail ? CStringGetTextDatum(item->detail) : 0;
	nulls[10] = item->detail ? ' ' : 'n';
	kfk_prepare(&plan, "INSERT INTO millrace.dead_letters (source, topic, partition, \"offset\", key, headers, value, ts, sqlstate, error, detail) "
				   "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)", lengthof(types), types);
	SPI_execute_plan(plan, args, nulls, false, 0);
}
