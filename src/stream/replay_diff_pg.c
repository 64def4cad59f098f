/*
 * replay_diff_pg.c
 *	  replay_diff: rows of a replay against those of its source's table.
 *
 * One FULL JOIN of the two tables by key, as the caller.  Values are compared as
 * stored (record_image_ne), which every type can be and which equal messages
 * give.  A row of the source's table is missing only if it came of a message that
 * the replay has read; where it came from, its columns of the message's place say.
 *
 * Memory: the query's text; rows go straight into the result's tuplestore.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "core/owner_pg.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "stream/admin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(millrace_replay_diff);

/* What is compared. */
typedef struct pair
{
	char	   *replay;
	Oid			live;			/* table of the source */
	Oid			shadow;			/* table of the replay */
	char	   *topic;
	char	   *partition_column;	/* of live: the message's place; NULL: it has none */
	char	   *offset_column;
	char	   *topic_column;
	char	   *source_column;	/* name of the source, which always differs */
} pair;

static char *
table_name(Oid table)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)), get_rel_name(table));
}

/* A column of the table that a message's property goes to, if its type is this one. */
static char *
property_column(Oid table, HeapTuple row, int field, Oid type)
{
	char	   *name = SPI_getvalue(row, SPI_tuptable->tupdesc, field);
	AttrNumber	n = name ? get_attnum(table, name) : InvalidAttrNumber;

	return n > 0 && get_atttype(table, n) == type ? name : NULL;
}

/* Look the replay up; its strings in the current context, which is SPI's. */
static pair
find_pair(char *replay)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(replay)};
	pair		p = {.replay = replay};
	HeapTuple	row;
	bool		null;
	mr_owner_save save;

	mr_owner_begin(&save);
	if (kfk_run("SELECT pg_catalog.to_regclass(s.target)::oid, pg_catalog.to_regclass(r.target)::oid, s.topic, r.replay_of, "
				"coalesce(s.options -> 'columns' ->> '$partition', 'source_partition'), coalesce(s.options -> 'columns' ->> '$offset', 'source_offset'), "
				"coalesce(s.options -> 'columns' ->> '$topic', 'source_topic'), coalesce(s.options -> 'columns' ->> '$source', 'source') "
				"FROM millrace.sources r LEFT JOIN millrace.sources s ON s.name = r.replay_of WHERE r.name = $1 AND r.replay_of IS NOT NULL",
				1, types, values, NULL, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("replay \"%s\" does not exist", replay),
				 errhint("SELECT replay FROM millrace.replays lists them.")));
	row = SPI_tuptable->vals[0];
	p.live = DatumGetObjectId(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &null));
	if (null)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("source \"%s\" of the replay, or its table, does not exist any more", SPI_getvalue(row, SPI_tuptable->tupdesc, 4))));
	p.shadow = DatumGetObjectId(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &null));
	if (null)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the table of replay \"%s\" does not exist any more", replay)));
	p.topic = SPI_getvalue(row, SPI_tuptable->tupdesc, 3);
	p.partition_column = property_column(p.live, row, 5, INT4OID);
	p.offset_column = property_column(p.live, row, 6, INT8OID);
	p.topic_column = property_column(p.live, row, 7, TEXTOID);
	p.source_column = property_column(p.live, row, 8, TEXTOID);
	mr_owner_end(&save);
	return p;
}

/* Names of an array of text; NIL for NULL. */
static List *
names_of(FunctionCallInfo fcinfo, int n)
{
	List	   *names = NIL;
	Datum	   *values;
	bool	   *nulls;
	int			count;

	if (PG_ARGISNULL(n))
		return NIL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &count);
	for (int i = 0; i < count; i++)
		if (!nulls[i])
			names = lappend(names, makeString(TextDatumGetCString(values[i])));
	return names;
}

/* The key that rows are matched by: as given, else the primary key. */
static List *
key_of(const pair *p, List *given)
{
	Oid			constraint;
	Bitmapset  *key;
	ListCell   *lc;

	if (given == NIL)
	{
		key = get_primary_key_attnos(p->live, true, &constraint);
		if (key == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					 errmsg("table \"%s\" has no primary key", get_rel_name(p->live)),
					 errhint("Name the columns to match rows by: key => '{source_partition,source_offset}'.")));
		for (int i = -1; (i = bms_next_member(key, i)) >= 0;)
			given = lappend(given, makeString(get_attname(p->live, i + FirstLowInvalidHeapAttributeNumber, false)));
	}
	foreach(lc, given)
	{
		Oid			tables[] = {p->live, p->shadow};

		for (int i = 0; i < 2; i++)
			if (get_attnum(tables[i], strVal(lfirst(lc))) <= 0)
				ereport(ERROR,
						(errcode(ERRCODE_UNDEFINED_COLUMN),
						 errmsg("column \"%s\" of the key does not exist in table \"%s\"", strVal(lfirst(lc)), get_rel_name(tables[i]))));
	}
	return given;
}

/*
 * Columns to compare: those of both tables that are not of the key.  Unless it is
 * said which to leave out, those that two runs fill differently are: the source's
 * name, and what has a default that is not always the same (now(), a sequence).
 */
static List *
columns_of(const pair *p, List *key, List *ignore, bool ignore_given)
{
	Relation	rel = table_open(p->live, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	List	   *columns = NIL;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		char	   *name = pstrdup(NameStr(att->attname));
		bool		ignored;

		if (att->attisdropped || get_attnum(p->shadow, name) <= 0 || list_member(key, makeString(name)))
			continue;
		if (ignore_given)
			ignored = list_member(ignore, makeString(name));
		else
		{
			Node	   *value = att->attgenerated ? NULL : build_column_default(rel, i + 1);

			ignored = (p->source_column && strcmp(name, p->source_column) == 0) || (value && contain_mutable_functions(value));
		}
		if (!ignored)
			columns = lappend(columns, makeString(name));
	}
	table_close(rel, NoLock);
	return columns;
}

/* "l.k OPERATOR(s.=) r.k AND ..." */
static char *
join_condition(const pair *p, List *key)
{
	StringInfoData out;
	ListCell   *lc;

	initStringInfo(&out);
	foreach(lc, key)
	{
		const char *name = quote_identifier(strVal(lfirst(lc)));
		Oid			type = getBaseType(get_atttype(p->live, get_attnum(p->live, strVal(lfirst(lc)))));
		Oid			equal = lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr;
		HeapTuple	row;

		if (!OidIsValid(equal))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 errmsg("column \"%s\" cannot be matched: its type has no equality operator", strVal(lfirst(lc)))));
		row = SearchSysCache1(OPEROID, ObjectIdGetDatum(equal));
		appendStringInfo(&out, "%sl.%s OPERATOR(%s.%s) r.%s", out.len ? " AND " : "", name,
						 quote_identifier(get_namespace_name(((Form_pg_operator) GETSTRUCT(row))->oprnamespace)), NameStr(((Form_pg_operator) GETSTRUCT(row))->oprname), name);
		ReleaseSysCache(row);
	}
	return out.data;
}

/* "ROW(l.c)", with types that differ as text. */
static char *
value_of(const pair *p, const char *alias, const char *name)
{
	bool		same = get_atttype(p->live, get_attnum(p->live, name)) == get_atttype(p->shadow, get_attnum(p->shadow, name));

	return psprintf("%s.%s%s", alias, quote_identifier(name), same ? "" : "::text");
}

/* "LEFT JOIN ..." that finds for a live row the range of the replay it came from; or nothing, where rows do not tell. */
static char *
range_join(const pair *p)
{
	if (p->partition_column == NULL || p->offset_column == NULL)
		return "CROSS JOIN (SELECT 0 AS partition) o";
	return psprintf("LEFT JOIN millrace.source_offsets o ON o.source = %s AND o.partition = t.%s AND t.%s >= o.from_offset AND t.%s < o.next_offset%s",
					quote_literal_cstr(p->replay), quote_identifier(p->partition_column), quote_identifier(p->offset_column), quote_identifier(p->offset_column),
					p->topic_column ? psprintf(" AND t.%s = %s", quote_identifier(p->topic_column), quote_literal_cstr(p->topic)) : "");
}

static char *
query_of(const pair *p, List *key, List *columns)
{
	StringInfoData keys;
	StringInfoData left;
	StringInfoData right;
	StringInfoData changed;
	ListCell   *lc;

	initStringInfo(&keys);
	initStringInfo(&left);
	initStringInfo(&right);
	initStringInfo(&changed);
	foreach(lc, key)
	{
		const char *name = quote_identifier(strVal(lfirst(lc)));

		appendStringInfo(&keys, "%s%s, CASE WHEN l.\"$there\" THEN pg_catalog.to_jsonb(l.%s) ELSE pg_catalog.to_jsonb(r.%s) END",
						 keys.len ? ", " : "", quote_literal_cstr(strVal(lfirst(lc))), name, name);
	}
	foreach(lc, columns)
	{
		char	   *a = value_of(p, "l", strVal(lfirst(lc)));
		char	   *b = value_of(p, "r", strVal(lfirst(lc)));

		appendStringInfo(&left, "%s%s", left.len ? ", " : "", a);
		appendStringInfo(&right, "%s%s", right.len ? ", " : "", b);
		appendStringInfo(&changed, "%sCASE WHEN ROW(%s)::record OPERATOR(pg_catalog.*<>) ROW(%s)::record THEN %s END",
						 changed.len ? ", " : "", a, b, quote_literal_cstr(strVal(lfirst(lc))));
	}
	return psprintf("SELECT d.difference, d.key, d.columns, "
					"CASE WHEN d.columns IS NULL THEN d.live ELSE (SELECT pg_catalog.jsonb_object_agg(c, d.live -> c) FROM pg_catalog.unnest(d.columns) c) END, "
					"CASE WHEN d.columns IS NULL THEN d.replayed ELSE (SELECT pg_catalog.jsonb_object_agg(c, d.replayed -> c) FROM pg_catalog.unnest(d.columns) c) END "
					"FROM (SELECT CASE WHEN r.\"$there\" IS NULL THEN CASE WHEN l.\"$in\" THEN 'missing' END WHEN l.\"$there\" IS NULL THEN 'extra' "
					"WHEN ROW(%s)::record OPERATOR(pg_catalog.*<>) ROW(%s)::record THEN CASE WHEN l.\"$in\" THEN 'changed' ELSE 'superseded' END END AS difference, "
					"pg_catalog.jsonb_build_object(%s) AS key, "
					"CASE WHEN l.\"$there\" AND r.\"$there\" THEN pg_catalog.array_remove(ARRAY[%s]::text[], NULL) END AS columns, "
					"pg_catalog.to_jsonb(l) - ARRAY['$there', '$in'] AS live, pg_catalog.to_jsonb(r) - '$there' AS replayed "
					"FROM (SELECT t.*, true AS \"$there\", o.partition IS NOT NULL AS \"$in\" FROM %s t %s) l "
					"FULL JOIN (SELECT t.*, true AS \"$there\" FROM %s t) r ON %s) d WHERE d.difference IS NOT NULL",
					left.data, right.data, keys.data, changed.data, table_name(p->live), range_join(p), table_name(p->shadow), join_condition(p, key));
}

/*
 * millrace.replay_diff(replay text, key text[] = NULL, ignore text[] = NULL) -> setof (difference text, key jsonb, columns text[], live jsonb, replayed jsonb)
 */
Datum
millrace_replay_diff(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext old;
	SPIExecuteOptions options = {.read_only = true};
	pair		p;
	List	   *key;
	char	   *query;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("name of a replay must not be null")));
	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	p = find_pair(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	key = key_of(&p, names_of(fcinfo, 1));
	query = query_of(&p, key, columns_of(&p, key, names_of(fcinfo, 2), !PG_ARGISNULL(2)));
	options.dest = CreateDestReceiver(DestTuplestore);
	old = MemoryContextSwitchTo(result->econtext->ecxt_per_query_memory);
	SetTuplestoreDestReceiverParams(options.dest, result->setResult, CurrentMemoryContext, false, NULL, NULL);
	MemoryContextSwitchTo(old);
	if (SPI_execute_extended(query, &options) != SPI_OK_SELECT)
		elog(ERROR, "could not compare the tables: %s", query);
	options.dest->rDestroy(options.dest);
	SPI_finish();
	return (Datum) 0;
}
