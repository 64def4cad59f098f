/*
 * map_pg.c
 *	  What of a message goes into which column of the target.
 *
 * A column takes a field of the message's value (by its own name or what option
 * columns says), a property of the message (source_offset, ... or what columns
 * says), or with key_format, if it belongs to the primary key, a part of the
 * message's key.  All memory is the current context's, the target's own.
 */
#include "postgres.h"

#include "stream/worker/row.h"

#include "access/htup_details.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "stream/columns.h"

/* Properties of a message: the columns that take them by their names, and their names in option columns. */
static const struct
{
	const char *column;
	const char *name;
	kfk_property property;
}			properties[] = {
	{"source", "$source", KFK_SOURCE}, {"source_topic", "$topic", KFK_TOPIC}, {"source_partition", "$partition", KFK_PARTITION},
	{"source_offset", "$offset", KFK_OFFSET}, {"source_time", "$time", KFK_TIME}, {"source_key", "$key", KFK_KEY},
	{"source_headers", "$headers", KFK_HEADERS}
};

/* Key that option columns gives for a column, or NULL. */
static const char *
mapped_key(const kfk_source *source, const char *column)
{
	for (int i = 0; i + 1 < list_length(source->columns); i += 2)
		if (strcmp(list_nth(source->columns, i + 1), column) == 0)
			return list_nth(source->columns, i);
	return NULL;
}

/* Does option columns use this key for another column? */
static bool
key_taken(const kfk_source *source, const char *key)
{
	for (int i = 0; i + 1 < list_length(source->columns); i += 2)
		if (strcmp(list_nth(source->columns, i), key) == 0)
			return true;
	return false;
}

/* The property a column takes; key is what option columns has for it, or NULL. */
static kfk_property
property_of(const char *column, const char *key)
{
	for (int i = 0; i < (int) lengthof(properties); i++)
		if (strcmp(key ? properties[i].name : properties[i].column, key ? key : column) == 0)
			return properties[i].property;
	return KFK_NO_PROPERTY;
}

/* How a field becomes a base type. */
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

/* Fill a column of the map; rel NULL: an attribute of a row type. */
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
	c->property = property_of(name, key);
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
	c->default_sql = rel != NULL && c->property == KFK_NO_PROPERTY ? default_of(rel, att->attnum) : NULL;
}

/* What takes a whole message must be there, and fit; where names whose columns or attributes these are. */
static void
check_whole(const kfk_target *target, const char *where)
{
	if (target->n_fields == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("no column of %s takes the value of a message", where),
				 errdetail("Format \"%s\" puts it into column \"%s\".", target->format->name, target->format->whole),
				 errhint("Name a column so, or another one in option \"columns\": {\"%s\": \"column\"}.", target->format->whole)));
	for (int f = 0; f < target->n_fields; f++)
		if (strcmp(target->format->name, "bytes") == 0 && target->fields[f].kind != KFK_BYTEA)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of %s is not of type bytea", target->in.columns[target->field_column[f]].name, where),
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

/* The tuples of a shape; lengths: they have been cut, or refused, to what the columns allow. */
static void
describe(kfk_shape *shape, bool lengths, const char *name)
{
	char		column[NAMEDATALEN];
	TupleDesc	desc;

	shape->desc = desc = CreateTemplateTupleDesc(shape->width);
	for (int i = 0; i < shape->n_columns; i++)
	{
		const kfk_column *c = &shape->columns[i];

		snprintf(column, sizeof(column), "c%d", i);
		TupleDescInitEntry(desc, (AttrNumber) (i + 1), column, c->type, c->domain || !lengths ? -1 : c->typmod, 0);
		TupleDescInitEntryCollation(desc, (AttrNumber) (i + 1), c->collation);
		if (c->default_sql)
		{
			snprintf(column, sizeof(column), "given%d", c->flag);
			TupleDescInitEntry(desc, (AttrNumber) (c->flag + 1), column, BOOLOID, -1, 0);
		}
	}
	if (shape->place >= 0)
	{
		TupleDescInitEntry(desc, (AttrNumber) (shape->place + 1), "place", INT8OID, -1, 0);
		TupleDescInitEntry(desc, (AttrNumber) (shape->place + 2), "deleted", BOOLOID, -1, 0);
	}
	shape->enr = palloc0(sizeof(EphemeralNamedRelationData));
	shape->enr->md.name = pstrdup(name);
	shape->enr->md.reliddesc = InvalidOid;
	shape->enr->md.tupdesc = desc;
	shape->enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	shape->enr->md.enrtuples = 1000;
}

/* The column at index column of a shape is decoded as a field with its key, or the format's only one. */
static void
add_field(kfk_field *fields, int *field_column, int *n, const kfk_format *format, const kfk_column *c, int column)
{
	kfk_field  *f = &fields[*n];

	f->key = format->whole ? format->whole : c->key;
	f->key_len = strlen(f->key);
	f->kind = c->kind;
	field_column[(*n)++] = column;
}

/* ERROR if the message's key cannot fill the primary key. */
static void
check_key(const kfk_target *target, const kfk_source *source, Relation rel)
{
	if (source->key_format->whole != NULL && target->n_key_fields != 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("a key of format \"%s\" cannot fill the %d columns of the primary key of table %s", source->key_format->name,
						target->n_key_fields, RelationGetRelationName(rel))));
	if (strcmp(source->key_format->name, "bytes") == 0 && target->key_fields[0].kind != KFK_BYTEA)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the primary key of table %s is not of type bytea", RelationGetRelationName(rel)),
				 errdetail("Format \"bytes\" puts the key of a message into it.")));
}

/* Give the shape its flags, place and deleted, and its tuples. */
static void
finish_shape(kfk_shape *shape, bool place, bool lengths, const char *name)
{
	shape->width = shape->n_columns;
	for (int i = 0; i < shape->n_columns; i++)
		if (shape->columns[i].default_sql)
			shape->columns[i].flag = shape->width++;
	shape->place = place ? shape->width : -1;
	shape->width += place ? 2 : 0;
	describe(shape, lengths, name);
}

/*
 * With a transform: columns of the target that it fills, all of them if it is a
 * function, and from tombstones' keys those of the primary key.
 */
static void
map_result(kfk_target *target, const kfk_source *source, Relation rel, const Bitmapset *primary)
{
	TupleDesc	desc = RelationGetDescr(rel);
	kfk_shape  *out = palloc0(sizeof(*out));

	target->out = out;
	out->columns = palloc0(sizeof(kfk_column) * (size_t) desc->natts);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		kfk_column *c = &out->columns[out->n_columns];

		if (target->select ? !bms_is_member(att->attnum, target->select->filled) : !kfk_insertable(rel, att))
			continue;
		map_column(c, source, rel, att);
		c->default_sql = NULL;
		c->in_primary = bms_is_member(att->attnum - FirstLowInvalidHeapAttributeNumber, primary);
		if (c->in_primary && source->key_format != NULL)
			add_field(target->key_fields, target->key_field_column, &target->n_key_fields, source->key_format, c, out->n_columns);
		out->n_columns++;
	}
	finish_shape(out, true, target->select == NULL, "millrace_batch");
}

/*
 * Is a column of the SELECT's message to be filled?  One that it does not use is
 * not looked at, so that nothing can be wrong with it; but fields stay where they
 * are counted, where unknown ones are refused, and where there is but one.
 */
static bool
is_used(const kfk_target *target, const kfk_source *source, int i, kfk_property property)
{
	return target->select == NULL || bms_is_member(i, target->select->used) ||
		(property == KFK_NO_PROPERTY && (source->refuse_unknown || target->format->whole != NULL || strcmp(target->format->name, "csv") == 0));
}

/* With a transform: its argument, a row whose columns are filled as the target's would be, or the whole value. */
static void
map_argument(kfk_target *target, const kfk_source *source)
{
	kfk_shape  *in = &target->in;
	TupleDesc	desc;

	if (target->select)
		desc = target->select->message;
	else if (OidIsValid(target->argument_relation))
		desc = lookup_rowtype_tupdesc_copy(target->argument, -1);
	else
	{
		desc = CreateTemplateTupleDesc(1);
		TupleDescInitEntry(desc, 1, "value", target->argument, -1, 0);
	}
	if (!OidIsValid(target->argument_relation))
	{
		target->whole = true;
		if (strcmp(source->format->name, "bytes") != 0 && strcmp(source->format->name, "avro") != 0)
			target->format = kfk_find_format("text");
	}
	in->columns = palloc0(sizeof(kfk_column) * (size_t) desc->natts);
	target->fields = palloc0(sizeof(kfk_field) * (size_t) desc->natts);
	target->field_column = palloc0(sizeof(int) * (size_t) desc->natts);
	for (int i = 0; i < desc->natts; i++)
	{
		kfk_column *c = &in->columns[in->n_columns];

		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		map_column(c, source, NULL, TupleDescAttr(desc, i));
		c->not_null = false;
		if (!is_used(target, source, i, c->property))
		{
			c->property = KFK_NO_PROPERTY;
			c->domain = false;	/* one that forbids NULL */
		}
		else if (c->property == KFK_NO_PROPERTY && (target->format->whole == NULL || strcmp(c->key, target->format->whole) == 0))
			add_field(target->fields, target->field_column, &target->n_fields, target->format, c, in->n_columns);
		in->n_columns++;
	}
	if (target->format->whole != NULL)
		check_whole(target, target->select ? "message" : psprintf("the argument of %s", source->transform));
	finish_shape(in, true, true, "millrace_messages");
}

/* Without a transform: columns of the target that messages may fill. */
static void
map_columns(kfk_target *target, const kfk_source *source, Relation rel, const Bitmapset *primary)
{
	kfk_shape  *in = &target->in;
	TupleDesc	desc = RelationGetDescr(rel);
	bool		before_row = rel->trigdesc != NULL && (rel->trigdesc->trig_insert_before_row || rel->trigdesc->trig_insert_instead_row);
	int			n_primary = 0;

	target->out = in;
	in->columns = palloc0(sizeof(kfk_column) * (size_t) desc->natts);
	target->fields = palloc0(sizeof(kfk_field) * (size_t) desc->natts);
	target->field_column = palloc0(sizeof(int) * (size_t) desc->natts);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		const char *name = NameStr(att->attname);
		kfk_column *c = &in->columns[in->n_columns];
		bool		in_primary = bms_is_member(att->attnum - FirstLowInvalidHeapAttributeNumber, primary);
		bool		from_key = in_primary && source->key_format != NULL;
		const char *key = mapped_key(source, name);

		if (!kfk_insertable(rel, att))
			continue;
		if (key == NULL && !from_key &&
			(att->attidentity != '\0' || (property_of(name, NULL) == KFK_NO_PROPERTY && key_taken(source, name))))
			continue;
		if (target->format->whole != NULL && !from_key && strcmp(key ? key : name, target->format->whole) != 0 &&
			property_of(name, key) == KFK_NO_PROPERTY)
			continue;
		map_column(c, source, rel, att);
		c->in_primary = in_primary;
		n_primary += in_primary;
		if (from_key)
		{
			c->property = KFK_NO_PROPERTY;
			c->default_sql = NULL;
			add_field(target->key_fields, target->key_field_column, &target->n_key_fields, source->key_format, c, in->n_columns);
		}
		else if (c->property == KFK_NO_PROPERTY)
			add_field(target->fields, target->field_column, &target->n_fields, target->format, c, in->n_columns);
		c->not_null = c->not_null && !before_row && c->default_sql == NULL;
		in->n_columns++;
	}
	if (target->format->whole != NULL)
		check_whole(target, psprintf("table %s", RelationGetRelationName(rel)));
	if (n_primary < bms_num_members(primary))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("messages do not fill the primary key of table %s", RelationGetRelationName(rel)),
				 errdetail("Source options \"on_conflict\" and \"key_format\" need all its columns.")));
	finish_shape(in, source->on_conflict != KFK_REFUSE, true, "millrace_batch");
}

/* ERROR if a column that option columns names is not there to be filled. */
static void
check_mapped(const kfk_target *target, const kfk_source *source, Relation rel)
{
	for (int i = 0; i + 1 < list_length(source->columns); i += 2)
	{
		const char *column = list_nth(source->columns, i + 1);
		bool		there = false;

		for (int k = 0; k < target->in.n_columns; k++)
			there = there || strcmp(target->in.columns[k].name, column) == 0;
		if (!there)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table %s cannot be filled", column, RelationGetRelationName(rel)),
					 errdetail("Option \"columns\" maps key \"%s\" to it.", (char *) list_nth(source->columns, i))));
	}
}

/*
 * The columns of the primary key, where options need it, as attnums less
 * FirstLowInvalidHeapAttributeNumber; else NULL.  ERROR if there is none.
 */
Bitmapset *
kfk_target_key(const kfk_source *source, Relation rel)
{
	Oid			constraint;
	Bitmapset  *primary;

	if (source->on_conflict == KFK_REFUSE && source->key_format == NULL)
		return NULL;
	primary = get_primary_key_attnos(RelationGetRelid(rel), false, &constraint);
	if (primary == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("table %s has no primary key", RelationGetRelationName(rel)),
				 errdetail("Source options \"on_conflict\" and \"key_format\" need one that is not deferrable.")));
	return primary;
}

/*
 * Fill the target's map, whose key is primary; transform: it has been looked up,
 * and what it takes is what messages are decoded into.  ERROR if the owner may
 * insert into no column.
 */
void
kfk_map_target(kfk_target *target, const kfk_source *source, Relation rel, const Bitmapset *primary)
{
	int			natts = RelationGetDescr(rel)->natts;

	target->format = source->format;
	target->key_fields = palloc0(sizeof(kfk_field) * (size_t) natts);
	target->key_field_column = palloc0(sizeof(int) * (size_t) natts);
	if (source->transform != NULL)
	{
		map_result(target, source, rel, primary);
		map_argument(target, source);
	}
	else
		map_columns(target, source, rel, primary);
	if (target->out->n_columns == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s", RelationGetRelationName(rel)),
				 errdetail("Role \"%s\" may insert into none of its columns.", GetUserNameFromId(GetUserId(), false))));
	if (source->key_format != NULL)
		check_key(target, source, rel);
	check_mapped(target, source, rel);
	map_positions(target, source, rel);
}
