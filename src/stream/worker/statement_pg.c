/*
 * statement_pg.c
 *	  The SQL that moves a batch into the target.  Made with search_path
 *	  pg_catalog, so every other name is qualified.
 *
 * With option on_conflict a batch may hold a key several times, and tombstones
 * among its rows.  What the messages one by one would leave, in order, is:
 * nothing of what came before the key's last tombstone; and of the rest its last
 * row (update), or its first, if the table has none already (nothing).  So the
 * keys of tombstones are deleted first, and one row a key is inserted.
 */
#include "postgres.h"

#include "stream/worker/row.h"

#include "access/htup_details.h"
#include "catalog/pg_operator.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/* "alias.a, alias.b" of all columns, or those of the primary key. */
static char *
names(const kfk_shape *shape, const char *alias, bool primary)
{
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < shape->n_columns; i++)
		if (!primary || shape->columns[i].in_primary)
			appendStringInfo(&out, "%s%s%s", out.len ? ", " : "", alias, quote_identifier(shape->columns[i].name));
	return out.data;
}

/* The batch's columns by the target's names, defaults where they were not given. */
static char *
expressions(const kfk_shape *shape)
{
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < shape->n_columns; i++)
	{
		const kfk_column *c = &shape->columns[i];

		if (c->default_sql)
			appendStringInfo(&out, "%sCASE WHEN given%d THEN c%d ELSE %s END AS %s", i ? ", " : "", c->flag, i, c->default_sql, quote_identifier(c->name));
		else
			appendStringInfo(&out, "%sc%d AS %s", i ? ", " : "", i, quote_identifier(c->name));
	}
	return out.data;
}

/* What a batch leaves of each key; see above. */
static char *
one_a_key(const kfk_shape *shape, const kfk_source *source)
{
	char	   *key = names(shape, "", true);

	if (source->on_conflict == KFK_UPDATE)
		return psprintf("SELECT * FROM (SELECT DISTINCT ON (%s) * FROM (SELECT %s, place AS \"$place\", deleted AS \"$deleted\" FROM millrace_batch) r "
						"ORDER BY %s, \"$place\" DESC) l WHERE NOT \"$deleted\"", key, expressions(shape), key);
	return psprintf("SELECT DISTINCT ON (%s) * FROM (SELECT *, max(CASE WHEN \"$deleted\" THEN \"$place\" END) OVER (PARTITION BY %s) AS \"$gone\" "
					"FROM (SELECT %s, place AS \"$place\", deleted AS \"$deleted\" FROM millrace_batch) r) l "
					"WHERE NOT \"$deleted\" AND \"$place\" > coalesce(\"$gone\", -1) ORDER BY %s, \"$place\"", key, key, expressions(shape), key);
}

/* "ON CONFLICT (k) DO ...", or nothing. */
static char *
on_conflict(const kfk_shape *shape, const kfk_source *source)
{
	StringInfoData set;

	if (source->on_conflict == KFK_REFUSE)
		return "";
	initStringInfo(&set);
	for (int i = 0; i < shape->n_columns; i++)
		if (!shape->columns[i].in_primary)
		{
			const char *name = quote_identifier(shape->columns[i].name);

			appendStringInfo(&set, "%s%s = excluded.%s", set.len ? ", " : "", name, name);
		}
	if (source->on_conflict == KFK_NOTHING || set.len == 0)
		return psprintf(" ON CONFLICT (%s) DO NOTHING", names(shape, "", true));
	return psprintf(" ON CONFLICT (%s) DO UPDATE SET %s", names(shape, "", true), set.data);
}

/* "schema.=" of an operator, for OPERATOR(). */
static char *
operator_name(Oid operator)
{
	HeapTuple	row = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char	   *name;

	if (!HeapTupleIsValid(row))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(row);
	name = psprintf("%s.%s", quote_identifier(get_namespace_name(form->oprnamespace)), NameStr(form->oprname));
	ReleaseSysCache(row);
	return name;
}

static char *
table_name(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)), RelationGetRelationName(rel));
}

/*
 * "SELECT r.c0, r.c1, m.place, false FROM millrace_messages m,
 * LATERAL s.f(ROW(m.c0, m.c1)::s.argument) r (c0, c1)
 * WHERE NOT (ROW(r.c0, r.c1) IS NULL)": columns of the target that cannot be
 * inserted into are left out.
 */
char *
kfk_transform_sql(const kfk_target *target, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData argument;
	StringInfoData aliases;
	StringInfoData result;
	int			next = 0;

	initStringInfo(&argument);
	initStringInfo(&aliases);
	initStringInfo(&result);
	for (int i = 0; i < target->in.n_columns; i++)
		appendStringInfo(&argument, "%sm.c%d", i ? ", " : "", i);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped)
			continue;
		appendStringInfo(&aliases, "%sa%d", aliases.len ? ", " : "", i);
		if (next < target->out->n_columns && strcmp(target->out->columns[next].name, NameStr(att->attname)) == 0)
			appendStringInfo(&result, "%sr.a%d", next++ ? ", " : "", i);
	}
	return psprintf("SELECT %s, m.place, false FROM millrace_messages m, LATERAL %s(%s%s%s%s) r (%s) WHERE NOT (ROW(%s) IS NULL)",
					result.data, quote_qualified_identifier(get_namespace_name(get_func_namespace(target->function)), get_func_name(target->function)),
					OidIsValid(target->argument_relation) ? "ROW(" : "", argument.data, OidIsValid(target->argument_relation) ? ")::" : "",
					OidIsValid(target->argument_relation) ? format_type_be_qualified(target->argument) : "", aliases.data, result.data);
}

/* "INSERT INTO s.t (a, b) SELECT c0 AS a, CASE WHEN given2 THEN c1 ELSE now() END AS b FROM millrace_batch" */
char *
kfk_insert_sql(const kfk_target *target, const kfk_source *source, Relation rel)
{
	const kfk_shape *shape = target->out;
	char	   *all = names(shape, "", false);

	if (source->on_conflict == KFK_REFUSE)
		return psprintf("INSERT INTO %s (%s) SELECT %s FROM millrace_batch", table_name(rel), all, expressions(shape));
	return psprintf("INSERT INTO %s (%s) SELECT %s FROM (%s) k%s", table_name(rel), all, all, one_a_key(shape, source), on_conflict(shape, source));
}

/* "DELETE FROM s.t t USING (SELECT DISTINCT c0 FROM millrace_batch WHERE deleted) d WHERE t.id = d.c0" */
char *
kfk_delete_sql(const kfk_target *target, Relation rel)
{
	const kfk_shape *shape = target->out;
	StringInfoData columns;
	StringInfoData same;

	initStringInfo(&columns);
	initStringInfo(&same);
	for (int i = 0; i < shape->n_columns; i++)
	{
		const kfk_column *c = &shape->columns[i];
		Oid			equal;

		if (!c->in_primary)
			continue;
		/* By its type's own operator: another of that name would compare something else. */
		equal = lookup_type_cache(c->base, TYPECACHE_EQ_OPR)->eq_opr;
		if (!OidIsValid(equal))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 errmsg("column \"%s\" has a type without an equality operator", c->name)));
		appendStringInfo(&columns, "%sc%d", columns.len ? ", " : "", i);
		appendStringInfo(&same, "%st.%s OPERATOR(%s) d.c%d", same.len ? " AND " : "", quote_identifier(c->name), operator_name(equal), i);
	}
	return psprintf("DELETE FROM %s t USING (SELECT DISTINCT %s FROM millrace_batch WHERE deleted) d WHERE %s", table_name(rel), columns.data, same.data);
}
