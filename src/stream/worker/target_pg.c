/*
 * target_pg.c
 *	  The table a source is read into: which JSON key or property of a message
 *	  becomes which column, and one INSERT for many messages.
 *
 * Messages become tuples of an ephemeral relation in memory, "millrace_batch",
 * and one prepared INSERT ... SELECT moves them into the target: any types, no
 * arrays to build, statement triggers fire once.  A column with a default has a
 * flag beside it, so that a message without its key gets the default.
 *
 * The map lives in a context of its own and is made anew when the target's
 * relcache entry was invalidated; its version tells which decoded messages are
 * still good.
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"
#include "utils/varlena.h"

#include "stream/worker/row.h"

static kfk_target *current = NULL;
static uint64 versions = 0;
static bool stale = true;

static void
target_invalidated(Datum arg, Oid relation)
{
	if (current == NULL || relation == InvalidOid || relation == current->relation)
		stale = true;
}

/* Property of a message that a column of this name takes; KFK_NO_PROPERTY for any other name. */
static kfk_property
property_of(const char *column)
{
	static const struct
	{
		const char *column;
		kfk_property property;
	}			known[] = {
		{"source", KFK_SOURCE}, {"source_topic", KFK_TOPIC}, {"source_partition", KFK_PARTITION},
		{"source_offset", KFK_OFFSET}, {"source_time", KFK_TIME}, {"source_key", KFK_KEY}
	};

	for (int i = 0; i < (int) lengthof(known); i++)
		if (strcmp(known[i].column, column) == 0)
			return known[i].property;
	return KFK_NO_PROPERTY;
}

/* JSON key that option columns gives for a column, or NULL. */
static const char *
mapped_key(const kfk_source *source, const char *column)
{
	for (int i = 0; i + 1 < list_length(source->columns); i += 2)
		if (strcmp(list_nth(source->columns, i + 1), column) == 0)
			return list_nth(source->columns, i);
	return NULL;
}

/* Does option columns use this JSON key for another column? */
static bool
key_taken(const kfk_source *source, const char *key)
{
	for (int i = 0; i + 1 < list_length(source->columns); i += 2)
		if (strcmp(list_nth(source->columns, i), key) == 0)
			return true;
	return false;
}

/* How JSON becomes a base type. */
static kfk_kind
kind_of(Oid type, int32 typmod)
{
	switch (type)
	{
		case INT2OID:
			return KFK_INT2;
		case INT4OID:
			return KFK_INT4;
		case INT8OID:
			return KFK_INT8;
		case FLOAT4OID:
			return KFK_FLOAT4;
		case FLOAT8OID:
			return KFK_FLOAT8;
		case BOOLOID:
			return KFK_BOOL;
		case TIMESTAMPTZOID:
			return typmod < 0 ? KFK_TIMESTAMPTZ : KFK_TEXT;
		case BYTEAOID:
			return KFK_BYTEA;
		case JSONOID:
		case JSONBOID:
			return KFK_JSON;
		case FLOAT4ARRAYOID:
			return KFK_FLOAT4_ARRAY;
		case FLOAT8ARRAYOID:
			return KFK_FLOAT8_ARRAY;
		case INT4ARRAYOID:
			return KFK_INT4_ARRAY;
		case INT8ARRAYOID:
			return KFK_INT8_ARRAY;
		default:
			return OidIsValid(get_element_type(type)) ? KFK_TEXT_ARRAY : KFK_TEXT;
	}
}

/* The column's default as SQL text, every name qualified; NULL if it has none. */
static char *
default_of(Relation rel, int attnum)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;

	if (constr == NULL || !TupleDescAttr(RelationGetDescr(rel), attnum - 1)->atthasdef)
		return NULL;
	for (int i = 0; i < constr->num_defval; i++)
		if (constr->defval[i].adnum == attnum)
			return TextDatumGetCString(DirectFunctionCall2(pg_get_expr, CStringGetTextDatum(constr->defval[i].adbin),
														   ObjectIdGetDatum(RelationGetRelid(rel))));
	return NULL;
}

/* Fill a column of the map. */
static void
map_column(kfk_column *c, const kfk_source *source, Relation rel, Form_pg_attribute att)
{
	const char *name = NameStr(att->attname);
	const char *key = mapped_key(source, name);
	Oid			input;

	c->name = pstrdup(name);
	c->type = att->atttypid;
	c->typmod = att->atttypmod;
	c->collation = att->attcollation;
	c->property = key == NULL ? property_of(name) : KFK_NO_PROPERTY;
	c->key = pstrdup(key ? key : name);
	c->base = getBaseTypeAndTypmod(c->type, &c->typmod);
	c->domain = c->base != c->type;
	c->kind = kind_of(c->base, c->typmod);
	c->not_null = att->attnotnull;
	getTypeInputInfo(c->base, &input, &c->ioparam);
	fmgr_info(input, &c->input);
	if (c->kind == KFK_TEXT_ARRAY)
	{
		c->element = get_element_type(c->base);
		get_typlenbyvalalign(c->element, &c->element_len, &c->element_byval, &c->element_align);
		getTypeInputInfo(c->element, &input, &c->element_ioparam);
		fmgr_info(input, &c->element_input);
	}
	/* NULL would be wrong where the key is missing; a property always has a value. */
	c->default_sql = c->property == KFK_NO_PROPERTY ? default_of(rel, att->attnum) : NULL;
}

/* "INSERT INTO s.t (a, b) SELECT a, CASE WHEN b_given THEN b ELSE now() END FROM millrace_batch" */
static char *
insert_sql(kfk_target *target, Relation rel)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s (", quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
																		  RelationGetRelationName(rel)));
	for (int i = 0; i < target->n_columns; i++)
		appendStringInfo(&sql, "%s%s", i ? ", " : "", quote_identifier(target->columns[i].name));
	appendStringInfoString(&sql, ") SELECT ");
	for (int i = 0; i < target->n_columns; i++)
	{
		const kfk_column *c = &target->columns[i];

		if (c->default_sql)
			appendStringInfo(&sql, "%sCASE WHEN given%d THEN c%d ELSE %s END", i ? ", " : "", c->flag, i, c->default_sql);
		else
			appendStringInfo(&sql, "%sc%d", i ? ", " : "", i);
	}
	appendStringInfoString(&sql, " FROM millrace_batch");
	return sql.data;
}

/* The tuples of a batch: the columns, then the flags. */
static TupleDesc
batch_desc(kfk_target *target)
{
	TupleDesc	desc = CreateTemplateTupleDesc(target->width);
	char		name[NAMEDATALEN];

	for (int i = 0; i < target->n_columns; i++)
	{
		const kfk_column *c = &target->columns[i];

		snprintf(name, sizeof(name), "c%d", i);
		TupleDescInitEntry(desc, (AttrNumber) (i + 1), name, c->type, c->domain ? -1 : c->typmod, 0);
		TupleDescInitEntryCollation(desc, (AttrNumber) (i + 1), c->collation);
		if (c->default_sql)
		{
			snprintf(name, sizeof(name), "given%d", c->flag);
			TupleDescInitEntry(desc, (AttrNumber) (c->flag + 1), name, BOOLOID, -1, 0);
		}
	}
	return desc;
}

/* The column that takes a whole message must be there, and fit. */
static void
check_whole(const kfk_target *target, const kfk_source *source, Relation rel)
{
	if (target->n_fields == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("no column of table %s takes the value of a message", RelationGetRelationName(rel)),
				 errdetail("Format \"%s\" puts it into column \"%s\".", source->format->name, source->format->whole),
				 errhint("Name a column so, or another one in option \"columns\": {\"%s\": \"column\"}.", source->format->whole)));
	for (int f = 0; f < target->n_fields; f++)
		if (strcmp(source->format->name, "bytes") == 0 && target->fields[f].kind != KFK_BYTEA)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of table %s is not of type bytea", target->columns[target->field_column[f]].name, RelationGetRelationName(rel)),
					 errdetail("Format \"bytes\" puts the value of a message into it.")));
}

/* Which field stands at which place of a line: as option header says, else as the columns are. */
static void
map_positions(kfk_target *target, const kfk_source *source, Relation rel)
{
	kfk_decoder decoder = {.fields = target->fields,.n_fields = target->n_fields};

	target->n_positions = source->header != NIL ? list_length(source->header) : target->n_fields;
	target->positions = palloc(sizeof(int) * (size_t) (target->n_positions + 1));
	for (int i = 0; i < target->n_positions; i++)
	{
		const char *name = source->header != NIL ? list_nth(source->header, i) : NULL;

		target->positions[i] = name ? kfk_find_field(&decoder, name, strlen(name), i) : i;
		if (target->positions[i] < 0 && source->refuse_unknown)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("field \"%s\" of option \"header\" is no column of table %s", name, RelationGetRelationName(rel))));
	}
}

/* Columns that messages may fill; ERROR if the owner may insert into none. */
static void
map_columns(kfk_target *target, const kfk_source *source, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		all = pg_class_aclcheck(RelationGetRelid(rel), GetUserId(), ACL_INSERT) == ACLCHECK_OK;
	bool		before_row = rel->trigdesc != NULL && (rel->trigdesc->trig_insert_before_row || rel->trigdesc->trig_insert_instead_row);

	target->columns = palloc0(sizeof(kfk_column) * (size_t) desc->natts);
	target->fields = palloc0(sizeof(kfk_field) * (size_t) desc->natts);
	target->field_column = palloc0(sizeof(int) * (size_t) desc->natts);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		kfk_column *c = &target->columns[target->n_columns];
		const char *key;

		if (att->attisdropped || att->attgenerated != '\0' || att->attidentity == ATTRIBUTE_IDENTITY_ALWAYS)
			continue;
		if (!all && pg_attribute_aclcheck(RelationGetRelid(rel), att->attnum, GetUserId(), ACL_INSERT) != ACLCHECK_OK)
			continue;
		key = mapped_key(source, NameStr(att->attname));
		if (key == NULL && (att->attidentity != '\0' ||
							(property_of(NameStr(att->attname)) == KFK_NO_PROPERTY && key_taken(source, NameStr(att->attname)))))
			continue;
		if (source->format->whole != NULL && strcmp(key ? key : NameStr(att->attname), source->format->whole) != 0 &&
			property_of(NameStr(att->attname)) == KFK_NO_PROPERTY)
			continue;
		map_column(c, source, rel, att);
		c->not_null = c->not_null && !before_row && c->default_sql == NULL;
		if (c->property == KFK_NO_PROPERTY)
		{
			kfk_field  *f = &target->fields[target->n_fields];

			f->key = c->key;
			f->key_len = strlen(c->key);
			f->kind = c->kind;
			target->field_column[target->n_fields++] = target->n_columns;
		}
		target->n_columns++;
	}
	if (source->format->whole != NULL)
		check_whole(target, source, rel);
	if (target->n_columns == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s", RelationGetRelationName(rel)),
				 errdetail("Role \"%s\" may insert into none of its columns.", GetUserNameFromId(GetUserId(), false))));
	for (int i = 0; i + 1 < list_length(source->columns); i += 2)
	{
		const char *column = list_nth(source->columns, i + 1);
		bool		there = false;

		for (int k = 0; k < target->n_columns; k++)
			there = there || strcmp(target->columns[k].name, column) == 0;
		if (!there)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table %s cannot be filled", column, RelationGetRelationName(rel)),
					 errdetail("Option \"columns\" maps key \"%s\" to it.", (char *) list_nth(source->columns, i))));
	}
	map_positions(target, source, rel);
	target->width = target->n_columns;
	for (int i = 0; i < target->n_columns; i++)
		if (target->columns[i].default_sql)
			target->columns[i].flag = target->width++;
}

static kfk_target *
make_target(const kfk_source *source, Oid relation)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace target", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Relation	rel = table_open(relation, NoLock);
	kfk_target *target = palloc0(sizeof(*target));
	EphemeralNamedRelation enr;
	int			guc_level = NewGUCNestLevel();

	if (rel->rd_rel->relkind != RELKIND_RELATION && rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE &&
		rel->rd_rel->relkind != RELKIND_VIEW && rel->rd_rel->relkind != RELKIND_FOREIGN_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table or view", RelationGetRelationName(rel))));
	target->cxt = cxt;
	target->relation = relation;
	target->version = ++versions;

	/* Defaults are printed, and the INSERT parsed, with every name qualified. */
	(void) set_config_option("search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	map_columns(target, source, rel);
	target->desc = batch_desc(target);
	enr = palloc0(sizeof(EphemeralNamedRelationData));
	enr->md.name = pstrdup("millrace_batch");
	enr->md.reliddesc = InvalidOid;
	enr->md.tupdesc = target->desc;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	enr->md.enrtuples = 1000;
	target->batch = enr;
	target->sql = insert_sql(target, rel);
	table_close(rel, NoLock);
	MemoryContextSwitchTo(old);

	SPI_connect();
	if (SPI_register_relation(enr) != SPI_OK_REL_REGISTER ||
		(target->plan = SPI_prepare(target->sql, 0, NULL)) == NULL)
		elog(ERROR, "the INSERT into \"%s\" could not be prepared: %s", source->target, SPI_result_code_string(SPI_result));
	SPI_keepplan(target->plan);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
	MemoryContextSetParent(cxt, TopMemoryContext);
	return target;
}

/*
 * The map of the source's target, which is locked until the transaction ends.
 * ERROR if it is not there, not a table, or nothing may be inserted.
 */
kfk_target *
kfk_target_prepare(const kfk_source *source)
{
	static bool registered = false;
	RangeVar   *range = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(source->target)));
	Oid			relation = RangeVarGetRelid(range, RowExclusiveLock, false);

	if (!registered)
	{
		CacheRegisterRelcacheCallback(target_invalidated, 0);
		registered = true;
	}
	if (current != NULL && (stale || current->relation != relation))
	{
		SPI_freeplan(current->plan);
		MemoryContextDelete(current->cxt);
		current = NULL;
	}
	if (current == NULL)
	{
		stale = false;
		current = make_target(source, relation);
	}
	return current;
}

/* One INSERT of the items that are rows; how many it was told to insert. */
int64
kfk_target_insert(kfk_target *target, kfk_item *items, int n)
{
	Tuplestorestate *store = tuplestore_begin_heap(false, false, work_mem > 1024 * 1024 ? work_mem : 1024 * 1024);
	int64		rows = 0;
	int			result;

	for (int i = 0; i < n; i++)
		if (items[i].sqlstate == NULL && !items[i].skipped)
			for (kfk_row *row = items[i].rows; row != NULL; row = row->next)
			{
				tuplestore_putvalues(store, target->desc, row->values, row->nulls);
				rows++;
			}
	if (rows > 0)
	{
		SPI_connect();
		target->batch->reldata = store;
		target->batch->md.enrtuples = (double) rows;
		SPI_register_relation(target->batch);
		result = SPI_execute_plan(target->plan, NULL, NULL, false, 0);
		if (result != SPI_OK_INSERT)
			elog(ERROR, "the INSERT into the target failed: %s", SPI_result_code_string(result));
		SPI_finish();
	}
	tuplestore_end(store);
	return rows;
}
