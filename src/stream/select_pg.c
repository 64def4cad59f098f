/*
 * select_pg.c
 *	  A transform that is a SELECT from "message".  In both libraries.
 *
 * "SELECT id, upper(name) AS name FROM message WHERE price > 0" is asked once a
 * message: message is one row, so aggregates, ORDER BY and LIMIT are within the
 * message, and no answer depends on which messages came in one batch.  For a
 * batch it becomes
 *
 *	SELECT r.id::bigint, r.name::text, "$m"."$place", false
 *	FROM (SELECT c0 AS "$0", c1 AS "$1", ..., place AS "$place" FROM millrace_messages) "$m",
 *	LATERAL (SELECT id, upper(name) AS name FROM
 *			 (SELECT "$m"."$0" AS id, "$m"."$1" AS name, ...) message WHERE price > 0) r
 *
 * which the planner flattens into one scan wherever the SELECT allows it, joins
 * with tables included (a WITH in place of the inner subquery would not be).
 *
 * The text is parsed by itself first, and analyzed over a relation "message"
 * that is not there: so errors are about what the user wrote, and which columns it
 * uses and gives is known.  It must be one SELECT, so it cannot leave its
 * parentheses.  PostgreSQL refuses statements that write inside a subquery.
 *
 * Columns of the result are found by name, never by position, and are always
 * cast: a plan made anew because something below it changed gives the same types.
 */
#include "postgres.h"

#include "stream/select.h"

#include "access/htup_details.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "parser/parse_coerce.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "parser/scansup.h"
#include "stream/columns.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/queryenvironment.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#define MESSAGE "message"

bool
kfk_is_select(const char *transform)
{
	static const char *const words[] = {"select", "with", "values"};

	while (scanner_isspace(*transform))
		transform++;
	/* No name of a function begins so. */
	if (*transform == '(' || strncmp(transform, "--", 2) == 0 || strncmp(transform, "/*", 2) == 0)
		return true;
	for (int i = 0; i < (int) lengthof(words); i++)
	{
		size_t		len = strlen(words[i]);

		if (pg_strncasecmp(transform, words[i], len) == 0 && !IS_HIGHBIT_SET(transform[len]) &&
			!isalnum((unsigned char) transform[len]) && strchr("_$.", transform[len] ? transform[len] : ' ') == NULL)
			return true;
	}
	return false;
}

void
kfk_blame_select(const char *text, MemoryContext cxt)
{
	ErrorData  *error;

	MemoryContextSwitchTo(cxt);
	error = CopyErrorData();
	FlushErrorState();
	error->message = psprintf("source option \"transform\": %s", error->message);
	if (error->sqlerrcode == ERRCODE_UNDEFINED_TABLE || error->sqlerrcode == ERRCODE_UNDEFINED_FUNCTION || error->sqlerrcode == ERRCODE_UNDEFINED_OBJECT)
		error->hint = psprintf("%s%sNames are looked up in pg_catalog alone: write schema.name.", error->hint ? error->hint : "", error->hint ? " " : "");
	error->internalpos = text != NULL ? error->cursorpos : 0;
	error->internalquery = error->internalpos > 0 ? pstrdup(text) : NULL;
	error->cursorpos = 0;
	error->context = NULL;		/* statements of ours */
	ReThrowError(error);
}

/* ---- what message is ---- */

/* The columns that a message may fill: of rel, whatever length they have there, or, rel NULL, all of a row type. */
static TupleDesc
columns_of(TupleDesc all, Relation rel)
{
	TupleDesc	desc;
	int			n = 0;
	AttrNumber	i = 0;

	for (int k = 0; k < all->natts; k++)
		n += !TupleDescAttr(all, k)->attisdropped && (rel == NULL || kfk_insertable(rel, TupleDescAttr(all, k)));
	desc = CreateTemplateTupleDesc(n);
	for (int k = 0; k < all->natts; k++)
	{
		Form_pg_attribute att = TupleDescAttr(all, k);

		if (att->attisdropped || (rel != NULL && !kfk_insertable(rel, att)))
			continue;
		TupleDescInitEntry(desc, ++i, NameStr(att->attname), att->atttypid, rel != NULL ? -1 : att->atttypmod, 0);
		TupleDescInitEntryCollation(desc, i, att->attcollation);
	}
	return desc;
}

/* The whole value, and all properties under the names that columns have to get them. */
static TupleDesc
whole_message(Oid type)
{
	TupleDesc	desc = CreateTemplateTupleDesc(8);

	TupleDescInitEntry(desc, 1, "value", type, -1, 0);
	TupleDescInitEntry(desc, 2, "source", TEXTOID, -1, 0);
	TupleDescInitEntry(desc, 3, "source_topic", TEXTOID, -1, 0);
	TupleDescInitEntry(desc, 4, "source_partition", INT4OID, -1, 0);
	TupleDescInitEntry(desc, 5, "source_offset", INT8OID, -1, 0);
	TupleDescInitEntry(desc, 6, "source_time", TIMESTAMPTZOID, -1, 0);
	TupleDescInitEntry(desc, 7, "source_key", TEXTOID, -1, 0);
	TupleDescInitEntry(desc, 8, "source_headers", JSONBOID, -1, 0);
	return desc;
}

static void
describe_message(kfk_select *select, const char *message_type, Relation target)
{
	Oid			type;

	if (message_type == NULL)
	{
		select->row_type = RelationGetRelid(target);
		select->message = columns_of(RelationGetDescr(target), target);
		return;
	}
	type = DatumGetObjectId(DirectFunctionCall1(regtypein, CStringGetDatum(message_type)));
	select->row_type = get_typ_typrelid(type);
	if (OidIsValid(select->row_type))
	{
		TupleDesc	all = lookup_rowtype_tupdesc(type, -1);

		select->message = columns_of(all, NULL);
		ReleaseTupleDesc(all);
	}
	else
		select->message = whole_message(type);
}

/* ---- the text ---- */

/* Where the text names message, as offsets in bytes; -1 less the offset where it gets no alias. */
static bool
find_names(Node *node, void *locations)
{
	List	  **found = locations;

	if (node == NULL)
		return false;
	if (IsA(node, RangeVar))
	{
		RangeVar   *name = (RangeVar *) node;

		if (name->schemaname == NULL && strcmp(name->relname, MESSAGE) == 0)
			*found = lappend_int(*found, name->alias ? name->location : -1 - name->location);
	}
	else if (IsA(node, CommonTableExpr) && strcmp(((CommonTableExpr *) node)->ctename, MESSAGE) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_ALIAS),
				 errmsg("a WITH query cannot be named \"" MESSAGE "\""),
				 errdetail("That is the name of the message itself.")));
	return raw_expression_tree_walker(node, find_names, locations);
}

static int
by_location(const ListCell *a, const ListCell *b)
{
	int			x = lfirst_int(a) < 0 ? -1 - lfirst_int(a) : lfirst_int(a);
	int			y = lfirst_int(b) < 0 ? -1 - lfirst_int(b) : lfirst_int(b);

	return x - y;
}

/* How many bytes the name message takes where it stands. */
static int
name_length(const char *at)
{
	if (strncmp(at, "\"" MESSAGE "\"", strlen(MESSAGE) + 2) == 0)
		return (int) strlen(MESSAGE) + 2;
	if (pg_strncasecmp(at, MESSAGE, strlen(MESSAGE)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("\"" MESSAGE "\" must be written plainly")));
	return (int) strlen(MESSAGE);
}

/* The text of the statement with a subquery, all columns of "$m", wherever it names message. */
static char *
replace_names(const char *text, const RawStmt *raw, List *locations, TupleDesc message)
{
	int			at = raw->stmt_location;
	int			end = raw->stmt_len ? at + raw->stmt_len : (int) strlen(text);
	StringInfoData columns;
	StringInfoData out;
	ListCell   *cell;

	initStringInfo(&columns);
	for (int i = 0; i < message->natts; i++)
		appendStringInfo(&columns, "%s\"$m\".\"$%d\" AS %s", i ? ", " : "", i, quote_identifier(NameStr(TupleDescAttr(message, i)->attname)));
	initStringInfo(&out);
	foreach(cell, locations)
	{
		int			location = lfirst_int(cell);
		bool		aliased = location >= 0;

		location = aliased ? location : -1 - location;
		appendBinaryStringInfo(&out, text + at, location - at);
		appendStringInfo(&out, "(SELECT %s)%s", columns.data, aliased ? "" : " " MESSAGE);
		at = location + name_length(text + location);
	}
	appendBinaryStringInfo(&out, text + at, end - at);
	return out.data;
}

/* The text as a tree: one SELECT, or ERROR. */
static RawStmt *
parse(const char *text)
{
	List	   *statements = raw_parser(text, RAW_PARSE_DEFAULT);
	RawStmt    *raw = statements != NIL ? linitial(statements) : NULL;

	if (list_length(statements) != 1 || !IsA(raw->stmt, SelectStmt))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("must be one SELECT")));
	return raw;
}

/* The statement analyzed, over a relation message that is not there. */
static Query *
analyze(const char *text, RawStmt *raw, TupleDesc message)
{
	QueryEnvironment *environment = create_queryEnv();
	EphemeralNamedRelation enr = palloc0(sizeof(*enr));
	Query	   *query;

	enr->md.name = MESSAGE;
	enr->md.reliddesc = InvalidOid;
	enr->md.tupdesc = message;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	register_ENR(environment, enr);
	query = parse_analyze_fixedparams(raw, text, NULL, 0, environment);
	if (query->commandType != CMD_SELECT || query->hasModifyingCTE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("must not write")));
	return query;
}

/* ---- what it uses ---- */

typedef struct usage
{
	kfk_select *select;
	List	   *queries;		/* around the node at hand, innermost last */
} usage;

static bool
find_used(Node *node, void *context)
{
	usage	   *u = context;

	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION)
			u->select->relations = list_append_unique_oid(u->select->relations, rte->relid);
		return false;
	}
	if (IsA(node, Var))
	{
		const Var  *var = (const Var *) node;
		int			level = list_length(u->queries) - (int) var->varlevelsup;
		RangeTblEntry *rte = rt_fetch(var->varno, ((Query *) list_nth(u->queries, level - 1))->rtable);
		List	   *around = u->queries;

		if (rte->rtekind == RTE_NAMEDTUPLESTORE && var->varattno > 0)	/* message; there is no other */
			u->select->used = bms_add_member(u->select->used, var->varattno - 1);
		else if (rte->rtekind == RTE_NAMEDTUPLESTORE)
			u->select->used = bms_add_range(u->select->used, 0, u->select->message->natts - 1);
		else if (rte->rtekind == RTE_JOIN)
		{
			u->queries = list_copy_head(around, level);
			(void) find_used(var->varattno > 0 ? list_nth(rte->joinaliasvars, var->varattno - 1) : (Node *) rte->joinaliasvars, u);
			u->queries = around;
		}
		return false;
	}
	if (IsA(node, Query))
	{
		u->queries = lappend(u->queries, node);
		(void) query_tree_walker((Query *) node, find_used, u, QTW_IGNORE_JOINALIASES | QTW_EXAMINE_RTES_BEFORE);
		u->queries = list_delete_last(u->queries);
		return false;
	}
	return expression_tree_walker(node, find_used, u);
}

/* ---- what it gives ---- */

/* The length that a column's type asks for, told to an expression as an assignment does: never by cutting. */
static char *
with_length(const char *expression, Oid base, int32 typmod)
{
	Oid			function;
	HeapTuple	row;
	char	   *call;

	if (typmod < 0 || find_typmod_coercion_function(base, &function) != COERCION_PATH_FUNC)
		return pstrdup(expression);
	row = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(row))
		elog(ERROR, "cache lookup failed for function %u", function);
	call = psprintf("%s(%s, %d%s)", quote_qualified_identifier(get_namespace_name(((Form_pg_proc) GETSTRUCT(row))->pronamespace), get_func_name(function)),
					expression, typmod, ((Form_pg_proc) GETSTRUCT(row))->pronargs > 2 ? ", false" : "");
	ReleaseSysCache(row);
	return call;
}

static char *
cast_to(const char *expression, Oid type)
{
	return psprintf("%s::%s", expression, format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
}

/* Column att of the target from the SELECT's column of that name, which has type given. */
static char *
assigned(Form_pg_attribute att, Oid given, bool in_key)
{
	const char *name = NameStr(att->attname);
	Oid			type = att->atttypid;
	int32		typmod = att->atttypmod;
	Oid			base = getBaseTypeAndTypmod(type, &typmod);
	char	   *value = psprintf("r.%s", quote_identifier(name));

	if (!can_coerce_type(1, &given, &type, COERCION_ASSIGNMENT))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" is of type %s but expression is of type %s", name, format_type_be(type), format_type_be(given)),
				 errhint("You will need to rewrite or cast the expression.")));
	value = cast_to(value, base);
	/* Rows of a key are told apart before the INSERT. */
	if (in_key || base != type)
		value = with_length(value, base, typmod);
	return base != type ? cast_to(value, type) : value;
}

/* The entry of the SELECT's list for a column of that name; NULL if there is none. */
static TargetEntry *
entry_named(List *entries, const char *name)
{
	ListCell   *cell;
	TargetEntry *found = NULL;

	foreach(cell, entries)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (entry->resjunk || strcmp(entry->resname, name) != 0)
			continue;
		if (found != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_COLUMN),
					 errmsg("column \"%s\" is given more than once", name)));
		found = entry;
	}
	return found;
}

/* ERROR if the SELECT gives what the target cannot take. */
static void
check_names(const Query *query, Relation target)
{
	ListCell   *cell;
	const char *table = RelationGetRelationName(target);

	foreach(cell, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);
		AttrNumber	n = entry->resjunk ? InvalidAttrNumber : get_attnum(RelationGetRelid(target), entry->resname);

		if (entry->resjunk)
			continue;
		if (n <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of the SELECT is no column of table \"%s\"", entry->resname, table),
					 errhint("Columns are matched by name: SELECT ... AS column.")));
		if (!kfk_insertable(target, TupleDescAttr(RelationGetDescr(target), n - 1)))
			ereport(ERROR,
					(errcode(ERRCODE_GENERATED_ALWAYS),
					 errmsg("cannot insert into column \"%s\" of table \"%s\"", entry->resname, table),
					 errdetail("It is generated, or the owner of the source lacks INSERT on it.")));
	}
}

/* The statement for a batch; notes which columns of the target it fills. */
static char *
whole_statement(kfk_select *select, const Query *query, const char *inner, Relation target, const Bitmapset *keys)
{
	TupleDesc	desc = RelationGetDescr(target);
	StringInfoData out;

	check_names(query, target);
	initStringInfo(&out);
	appendStringInfoString(&out, "SELECT ");
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		bool		in_key = bms_is_member(att->attnum - FirstLowInvalidHeapAttributeNumber, keys);
		TargetEntry *entry = att->attisdropped ? NULL : entry_named(query->targetList, NameStr(att->attname));

		if (entry == NULL && in_key)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of the primary key is not given", NameStr(att->attname)),
					 errdetail("Source options \"on_conflict\" and \"key_format\" need all columns of it.")));
		if (entry == NULL)
			continue;
		appendStringInfo(&out, "%s, ", assigned(att, exprType((Node *) entry->expr), in_key));
		select->filled = bms_add_member(select->filled, att->attnum);
	}
	appendStringInfoString(&out, "\"$m\".\"$place\", false FROM (SELECT place AS \"$place\"");
	for (int i = 0; i < select->message->natts; i++)
		appendStringInfo(&out, ", c%d AS \"$%d\"", i, i);
	appendStringInfo(&out, " FROM millrace_messages) \"$m\", LATERAL (%s\n) r", inner);
	return out.data;
}

void
kfk_read_select(kfk_select *select, const char *text, const char *message_type, Relation target, const Bitmapset *keys)
{
	MemoryContext cxt = CurrentMemoryContext;
	usage		u = {select, NIL};

	PG_TRY();
	{
		List	   *locations = NIL;
		RawStmt    *raw = parse(text);
		Query	   *query;
		char	   *inner;

		(void) find_names(raw->stmt, &locations);
		list_sort(locations, by_location);
		describe_message(select, message_type, target);
		inner = replace_names(text, raw, locations, select->message);
		query = analyze(text, raw, select->message);
		(void) find_used((Node *) query, &u);
		select->sql = whole_statement(select, query, inner, target, keys);
	}
	PG_CATCH();
	{
		kfk_blame_select(text, cxt);
	}
	PG_END_TRY();
}
