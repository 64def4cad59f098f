/*
 * publish_pg.c
 *	  publish() and the trigger publish_rows(): messages appended to
 *	  millrace.outbox, in the caller's transaction.
 *
 * Who may: a role with USAGE on the server; for a trigger the table's owner,
 * who made it, so that those who write to the table need nothing.  What is
 * evaluated of the table's rows is evaluated as the caller; only the INSERT is
 * the extension owner's.
 *
 * Memory: the caller's context.  Locks: ROW EXCLUSIVE on one leaf, until the
 * transaction ends; it keeps the leaf from being truncated.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "core/compat.h"
#include "core/shared_pg.h"
#include "core/spi_pg.h"
#include "stream/admin.h"
#include "stream/outbox.h"

PG_FUNCTION_INFO_V1(millrace_publish);
PG_FUNCTION_INFO_V1(millrace_publish_rows);

#define FETCH_ROWS 1000			/* of a transition table at a time */

/* Text as the UTF-8 bytes that Kafka's readers expect. */
static bytea *
utf8_bytes(const text *t)
{
	int			len = (int) VARSIZE_ANY_EXHDR(t);
	char	   *data = pg_server_to_any(VARDATA_ANY(t), len, PG_UTF8);
	bytea	   *bytes;

	if (data != VARDATA_ANY(t))
		len = (int) strlen(data);
	bytes = palloc((Size) len + VARHDRSZ);
	SET_VARSIZE(bytes, len + VARHDRSZ);
	memcpy(VARDATA(bytes), data, (size_t) len);
	return bytes;
}

/* A scalar of JSON as the text of a header; anything larger as JSON. */
static text *
header_text(JsonbValue *v)
{
	switch (v->type)
	{
		case jbvString:
			return cstring_to_text_with_len(v->val.string.val, v->val.string.len);
		case jbvNumeric:
			return cstring_to_text(DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric))));
		case jbvBool:
			return cstring_to_text(v->val.boolean ? "true" : "false");
		default:
			return cstring_to_text(JsonbToCString(NULL, v->val.binary.data, v->val.binary.len));
	}
}

/* {"name": "value", ...} as name, value, ...; a JSON null is a header without value. */
static ArrayType *
header_array(Jsonb *headers)
{
	JsonbIterator *it = JsonbIteratorInit(&headers->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	int			most = 2 * (int) JB_ROOT_COUNT(headers);
	Datum	   *values = palloc(sizeof(Datum) * (size_t) Max(most, 1));
	bool	   *nulls = palloc0(sizeof(bool) * (size_t) Max(most, 1));
	int			dims[1];
	int			lower[1] = {1};
	int			n = 0;

	if (!JB_ROOT_IS_OBJECT(headers))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("headers of a message must be a JSON object"),
				 errhint("For example {\"trace\": \"17\"}.")));
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		if (token == WJB_KEY)
			values[n++] = PointerGetDatum(utf8_bytes(cstring_to_text_with_len(v.val.string.val, v.val.string.len)));
		else if (token == WJB_VALUE)
		{
			nulls[n] = v.type == jbvNull;
			values[n] = nulls[n] ? (Datum) 0 : PointerGetDatum(utf8_bytes(header_text(&v)));
			n++;
		}
	if (n == 0)
		return NULL;
	dims[0] = n;
	return construct_md_array(values, nulls, 1, dims, lower, BYTEAOID, -1, false, TYPALIGN_INT);
}

/* As messages without an outbox would wait for ever, so would topics. */
void
kfk_check_publisher(const char *server, Oid role)
{
	static SPIPlanPtr plan = NULL;
	Oid			type = TEXTOID;
	Datum		arg = CStringGetTextDatum(server);
	ForeignServer *fs = GetForeignServerByName(server, false);

	if (compat_server_aclcheck(fs->serverid, role, ACL_USAGE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, server);
	mr_prepare(&plan, "SELECT 1 FROM millrace.outboxes WHERE server OPERATOR(pg_catalog.=) $1", 1, &type);
	SPI_execute_plan(plan, &arg, NULL, true, 1);
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server \"%s\" has no outbox", server),
				 errhint("SELECT millrace.create_outbox(%s) makes one.", quote_literal_cstr(server))));
}

/* Append one message; returns its id.  As the extension's owner, within SPI. */
static int64
append(Datum server, Datum topic, Datum key, Datum value, Datum headers)
{
	static SPIPlanPtr plans[MR_OUTBOX_LEAVES];
	static const Oid types[] = {TEXTOID, TEXTOID, BYTEAOID, BYTEAOID, BYTEAARRAYOID, TIMESTAMPTZOID};
	Datum		args[] = {server, topic, key, value, headers, 0};
	char		nulls[] = "     n";
	int			leaf = mr_outbox_leaf(GetCurrentTimestamp());
	bool		null;

	if (plans[leaf] == NULL)
		mr_prepare(&plans[leaf], psprintf(KFK_OUTBOX_INSERT " RETURNING id", leaf, leaf), lengthof(types), types);
	for (int i = 2; i < 5; i++)
		nulls[i] = args[i] ? ' ' : 'n';
	if (SPI_execute_plan(plans[leaf], args, nulls, false, 0) != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "a message could not be appended to the outbox");
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
}

static void
check_topic(const char *topic)
{
	if (topic[0] == '\0' || strlen(topic) > 249)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid topic \"%s\"", topic),
				 errdetail("A Kafka topic has 1 to 249 bytes.")));
}

/*
 * millrace.publish(server text, topic text, value text | bytea, key = NULL,
 * headers jsonb = NULL) -> bigint
 */
Datum
millrace_publish(PG_FUNCTION_ARGS)
{
	bool		raw = get_fn_expr_argtype(fcinfo->flinfo, 2) == BYTEAOID;
	Oid			caller = GetUserId();
	char	   *server,
			   *topic;
	Datum		parts[3] = {0}; /* value, key, headers */
	mr_owner_save save;
	int64		id;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("server and topic of a message must not be null")));
	server = text_to_cstring(PG_GETARG_TEXT_PP(0));
	topic = text_to_cstring(PG_GETARG_TEXT_PP(1));
	check_topic(topic);
	for (int i = 0; i < 2; i++)
		if (!PG_ARGISNULL(2 + i))
			parts[i] = raw ? PG_GETARG_DATUM(2 + i) : PointerGetDatum(utf8_bytes(PG_GETARG_TEXT_PP(2 + i)));
	if (!PG_ARGISNULL(4))
		parts[2] = PointerGetDatum(header_array(PG_GETARG_JSONB_P(4)));

	mr_spi_begin(&save);
	kfk_check_publisher(server, caller);
	id = append(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), parts[1], parts[0], parts[2]);
	mr_spi_end(&save);
	mr_change_at_commit(MR_CHANGE_OUTBOX, MyDatabaseId);
	PG_RETURN_INT64(id);
}

/* ---- triggers */

/* Key columns of a row of alias r, as one text expression: the column, or a JSON array of several. */
static void
add_key(StringInfo q, const char *r, char **columns, int n)
{
	if (n == 1)
		appendStringInfo(q, "%s.%s::pg_catalog.text", r, quote_identifier(columns[0]));
	else
	{
		appendStringInfoString(q, "pg_catalog.jsonb_build_array(");
		for (int i = 0; i < n; i++)
			appendStringInfo(q, "%s%s.%s", i ? ", " : "", r, quote_identifier(columns[i]));
		appendStringInfoString(q, ")::pg_catalog.text");
	}
}

/*
 * What a statement changed, as (key, value) in the order of the rows.  A key
 * that an UPDATE took away leaves as a tombstone, before the rows that are.
 */
static char *
changes_query(TriggerEvent event, bool whole_change, char **columns, int n)
{
	StringInfoData q,
				new_key,
				old_key;

	initStringInfo(&q);
	initStringInfo(&new_key);
	initStringInfo(&old_key);
	add_key(&new_key, "n", columns, n);
	add_key(&old_key, "o", columns, n);
	if (!whole_change)
	{
		if (TRIGGER_FIRED_BY_DELETE(event))
			appendStringInfo(&q, "SELECT %s, NULL::pg_catalog.text FROM old_rows o", old_key.data);
		else
		{
			if (TRIGGER_FIRED_BY_UPDATE(event))
				appendStringInfo(&q, "SELECT k, NULL::pg_catalog.text FROM (SELECT %s AS k FROM old_rows o EXCEPT SELECT %s FROM new_rows n) g UNION ALL ",
								 old_key.data, new_key.data);
			appendStringInfo(&q, "SELECT %s, pg_catalog.to_jsonb(n.*)::pg_catalog.text FROM new_rows n", new_key.data);
		}
	}
	else if (TRIGGER_FIRED_BY_INSERT(event))
		appendStringInfo(&q, "SELECT %s, pg_catalog.jsonb_build_object('op', 'c', 'before', NULL, 'after', pg_catalog.to_jsonb(n.*))::pg_catalog.text FROM new_rows n",
						 new_key.data);
	else if (TRIGGER_FIRED_BY_DELETE(event))
		appendStringInfo(&q, "SELECT %s, pg_catalog.jsonb_build_object('op', 'd', 'before', pg_catalog.to_jsonb(o.*), 'after', NULL)::pg_catalog.text FROM old_rows o",
						 old_key.data);
	else
	{
		/* The two tables hold the same rows in the same order: the n-th became the n-th. */
		appendStringInfo(&q, "WITH old_n AS (SELECT %s AS k, pg_catalog.to_jsonb(o.*) AS j, pg_catalog.row_number() OVER () AS i FROM old_rows o), "
						 "new_n AS (SELECT %s AS k, pg_catalog.to_jsonb(n.*) AS j, pg_catalog.row_number() OVER () AS i FROM new_rows n) "
						 "SELECT new_n.k, pg_catalog.jsonb_build_object('op', 'u', 'before', old_n.j, 'after', new_n.j)::pg_catalog.text "
						 "FROM new_n JOIN old_n ON old_n.i OPERATOR(pg_catalog.=) new_n.i ORDER BY new_n.i",
						 old_key.data, new_key.data);
	}
	return q.data;
}

/* Is trigger really made as publish_changes() makes it? */
static void
check_trigger(const TriggerData *t)
{
	if (!TRIGGER_FIRED_AFTER(t->tg_event) || !TRIGGER_FIRED_FOR_STATEMENT(t->tg_event) || t->tg_trigger->tgnargs < 4 ||
		(!TRIGGER_FIRED_BY_DELETE(t->tg_event) && (t->tg_newtable == NULL || strcmp(t->tg_trigger->tgnewtable, "new_rows") != 0)) ||
		(!TRIGGER_FIRED_BY_INSERT(t->tg_event) && (t->tg_oldtable == NULL || strcmp(t->tg_trigger->tgoldtable, "old_rows") != 0)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" must be AFTER, FOR EACH STATEMENT, with transition tables new_rows and old_rows and four arguments at least",
						t->tg_trigger->tgname),
				 errhint("millrace.publish_changes() makes such triggers.")));
}

/* millrace.publish_rows(): arguments server, topic, row|change, key column ... */
Datum
millrace_publish_rows(PG_FUNCTION_ARGS)
{
	TriggerData *t = (TriggerData *) fcinfo->context;
	char	  **args;
	SPIPlanPtr	plan;
	Portal		portal;
	Datum		server,
				topic;
	mr_owner_save save;
	MemoryContext chunk;
	bool		checked = false;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("millrace.publish_rows() must be called as a trigger")));
	check_trigger(t);
	args = t->tg_trigger->tgargs;
	check_topic(args[1]);
	SPI_connect();
	if (SPI_register_trigger_data(t) != SPI_OK_TD_REGISTER)
		elog(ERROR, "SPI_register_trigger_data failed");
	server = CStringGetTextDatum(args[0]);
	topic = CStringGetTextDatum(args[1]);
	plan = SPI_prepare(changes_query(t->tg_event, strcmp(args[2], "change") == 0, args + 3, t->tg_trigger->tgnargs - 3), 0, NULL);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, false);
	chunk = AllocSetContextCreate(CurrentMemoryContext, "millrace published rows", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		MemoryContext old;
		SPITupleTable *rows;
		uint64		n;

		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		rows = SPI_tuptable;
		n = SPI_processed;
		if (n == 0)
			break;
		mr_owner_begin(&save);
		if (!checked)
			kfk_check_publisher(args[0], t->tg_relation->rd_rel->relowner);
		checked = true;
		old = MemoryContextSwitchTo(chunk);
		for (uint64 i = 0; i < n; i++)
		{
			bool		no_key,
						no_value;
			Datum		key = SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &no_key);
			Datum		value = SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &no_value);

			append(server, topic, no_key ? (Datum) 0 : PointerGetDatum(utf8_bytes(DatumGetTextPP(key))),
				   no_value ? (Datum) 0 : PointerGetDatum(utf8_bytes(DatumGetTextPP(value))), (Datum) 0);
			SPI_freetuptable(SPI_tuptable);
			CHECK_FOR_INTERRUPTS();
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(chunk);
		mr_owner_end(&save);
		SPI_freetuptable(rows);
	}
	SPI_cursor_close(portal);
	SPI_finish();
	mr_change_at_commit(MR_CHANGE_OUTBOX, MyDatabaseId);
	return PointerGetDatum(NULL);
}
