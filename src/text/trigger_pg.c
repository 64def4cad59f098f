/*
 * trigger_pg.c
 *	  embed_rows(): the embeddings of all rows of a statement, in one go.
 *
 *	CREATE TRIGGER … AFTER INSERT ON t REFERENCING NEW TABLE AS n
 *		FOR EACH STATEMENT EXECUTE FUNCTION millrace.embed_rows('body', 'embedding');
 *	CREATE TRIGGER … AFTER UPDATE ON t REFERENCING NEW TABLE AS n OLD TABLE AS o FOR EACH STATEMENT …
 *
 * The rows are found again by their primary key and updated, as whoever ran the
 * statement.  That update fires the trigger once more, which then finds no text
 * changed and ends.
 */
#include "postgres.h"

#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "core/compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(millrace_embed_rows);

#define TEXTS 1000				/* of one call of embed() */

static void
bad_trigger(const Trigger *t, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("trigger \"%s\" does not fit millrace.embed_rows()", t->tgname),
			 errdetail("%s", detail)));
}

static void
check_trigger(const TriggerData *d)
{
	const Trigger *t = d->tg_trigger;

	if (!TRIGGER_FIRED_AFTER(d->tg_event) || !TRIGGER_FIRED_FOR_STATEMENT(d->tg_event) || d->tg_newtable == NULL)
		bad_trigger(t, "It must be AFTER INSERT or AFTER UPDATE, FOR EACH STATEMENT, REFERENCING NEW TABLE.");
	if (TRIGGER_FIRED_BY_UPDATE(d->tg_event) && d->tg_oldtable == NULL)
		bad_trigger(t, "After UPDATE it must be REFERENCING OLD TABLE too, to see which texts have changed.");
	if (t->tgnargs < 2 || t->tgnargs > 3)
		bad_trigger(t, "Its arguments are the column of text, the column of real[], and a model or nothing.");
}

static void
check_column(Relation rel, const char *name, Oid wanted)
{
	AttrNumber	attno = get_attnum(RelationGetRelid(rel), name);

	if (attno <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of table \"%s\" does not exist", name, RelationGetRelationName(rel))));
	if (wanted && getBaseType(TupleDescAttr(RelationGetDescr(rel), attno - 1)->atttypid) != wanted)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of table \"%s\" is not of type %s", name, RelationGetRelationName(rel),
						format_type_be(wanted))));
}

/* "a.k1 = b.k1 AND a.k2 = b.k2", or with b NULL ", a.k1, a.k2", of the primary key. */
static char *
key_columns(Relation rel, const char *a, const char *b)
{
	Oid			constraint;
	Bitmapset  *key = get_primary_key_attnos(RelationGetRelid(rel), true, &constraint);
	StringInfoData out;

	if (key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" has no primary key", RelationGetRelationName(rel)),
				 errdetail("millrace.embed_rows() finds the rows that it updates by their key.")));
	initStringInfo(&out);
	for (int i = -1; (i = bms_next_member(key, i)) >= 0;)
	{
		AttrNumber	attno = i + FirstLowInvalidHeapAttributeNumber;
		const char *name = quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(rel), attno - 1)->attname));

		if (b)
			appendStringInfo(&out, "%s%s.%s = %s.%s", out.len ? " AND " : "", a, name, b, name);
		else
			appendStringInfo(&out, ", %s.%s", a, name);
	}
	return out.data;
}

/* FROM and WHERE of the rows whose text is to be embedded; n is the new row. */
static char *
changed_rows(const TriggerData *d, const char *content, const char *embedding)
{
	const char *new = quote_identifier(d->tg_trigger->tgnewtable);

	if (TRIGGER_FIRED_BY_INSERT(d->tg_event))
		return psprintf("FROM %s n WHERE n.%s IS NOT NULL AND n.%s IS NULL", new, content, embedding);
	return psprintf("FROM %s n LEFT JOIN %s o ON %s WHERE n.%s IS DISTINCT FROM o.%s", new,
					quote_identifier(d->tg_trigger->tgoldtable), key_columns(d->tg_relation, "o", "n"), content, content);
}

/* Where embed() is. */
static char *
function_schema(void)
{
	if (SPI_execute("SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e "
					"JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace "
					"WHERE e.extname OPERATOR(pg_catalog.=) 'millrace'", true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "extension \"millrace\" does not exist");
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

/* Trigger: millrace.embed_rows(content column, embedding column [, model]) */
Datum
millrace_embed_rows(PG_FUNCTION_ARGS)
{
	TriggerData *d = (TriggerData *) fcinfo->context;
	static const Oid types[] = {TEXTOID};
	Datum		values[1] = {0};
	char	  **args;
	const char *content,
			   *embedding,
			   *changed;
	char	   *statement;
	Relation	rel;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("millrace.embed_rows() was not called as a trigger")));
	check_trigger(d);
	rel = d->tg_relation;
	args = d->tg_trigger->tgargs;
	check_column(rel, args[0], InvalidOid);
	check_column(rel, args[1], FLOAT4ARRAYOID);
	if (d->tg_trigger->tgnargs == 3)
		values[0] = CStringGetTextDatum(args[2]);
	SPI_connect();
	if (SPI_register_trigger_data(d) != SPI_OK_TD_REGISTER)
		elog(ERROR, "could not register transition tables");
	content = quote_identifier(args[0]);
	embedding = quote_identifier(args[1]);
	changed = changed_rows(d, content, embedding);

	/* Without this the update below, of no row, would fire us for ever. */
	if (SPI_execute(psprintf("SELECT 1 %s LIMIT 1", changed), true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the transition tables");
	if (SPI_processed > 0)
	{
		/* embed() gives null for a text that became null */
		statement = psprintf("WITH changed AS MATERIALIZED "
							 "(SELECT pg_catalog.row_number() OVER () - 1 AS millrace_n, n.%s::pg_catalog.text AS millrace_text%s %s), "
							 "made AS MATERIALIZED "
							 "(SELECT s.slice * %d + e.i - 1 AS millrace_n, e.embedding FROM "
							 "(SELECT millrace_n / %d AS slice, pg_catalog.array_agg(millrace_text ORDER BY millrace_n) AS texts "
							 "FROM changed GROUP BY 1) s, LATERAL %s.embed(s.texts, $1) WITH ORDINALITY AS e (embedding, i)) "
							 "UPDATE %s.%s AS t SET %s = made.embedding FROM changed JOIN made USING (millrace_n) WHERE %s",
							 content, key_columns(rel, "n", NULL), changed, TEXTS, TEXTS, function_schema(),
							 quote_identifier(get_namespace_name(RelationGetNamespace(rel))),
							 quote_identifier(RelationGetRelationName(rel)), embedding, key_columns(rel, "t", "changed"));
		if (SPI_execute_with_args(statement, 1, (Oid *) types, values, d->tg_trigger->tgnargs == 3 ? " " : "n",
								  false, 0) != SPI_OK_UPDATE)
			elog(ERROR, "could not update the embeddings");
	}
	SPI_finish();
	return PointerGetDatum(NULL);
}
