/*
 * transform_option_pg.c
 *	  Options transform and message_type of create_source, checked: a function
 *	  by its name, a SELECT by having it planned as its workers will.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "stream/columns.h"
#include "stream/options.h"
#include "stream/select.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/queryenvironment.h"
#include "utils/regproc.h"
#include "utils/tuplestore.h"

#define TRANSFORMS "are the name of a function and a SELECT from message"

/* Text of an option, which must not be empty; NULL if it is not there. */
static char *
text_of(Jsonb *options, const char *name, const char *allowed)
{
	JsonbValue	buffer;
	JsonbValue *v = getKeyJsonValueFromContainer(&options->root, name, (int) strlen(name), &buffer);

	if (v == NULL)
		return NULL;
	if (v->type != jbvString || v->val.string.len == 0)
		kfk_invalid_option(name, allowed);
	return pnstrdup(v->val.string.val, v->val.string.len);
}

/* "s.f" or "s.f(type)": a function of one argument that returns rows of the target. */
static Oid
find_function(const char *text, Oid target)
{
	Oid			function;

	if (strchr(text, '(') == NULL && strpbrk(text, " \t\n;") != NULL)
		kfk_invalid_option("transform", TRANSFORMS);
	function = DatumGetObjectId(strchr(text, '(') ? DirectFunctionCall1(regprocedurein, CStringGetDatum(text)) :
								DirectFunctionCall1(regprocin, CStringGetDatum(text)));

	if (!kfk_returns_rows_of(get_func_rettype(function), target) || get_func_nargs(function) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("function %s cannot be a transform for table \"%s\"", text, get_rel_name(target)),
				 errdetail("It must take one argument and return %s or a set of it.", format_type_be(get_rel_type_id(target)))));
	return function;
}

Jsonb *
kfk_resolve_transform(Jsonb *options, Oid target, Oid *columns_of)
{
	char	   *transform = text_of(options, "transform", TRANSFORMS);
	char	   *message_type = text_of(options, "message_type", "is the name of a type");
	bool		select = transform != NULL && kfk_is_select(transform);
	Oid			type;
	Oid		   *types;
	int			n;

	if (message_type != NULL && !select)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source option \"message_type\" needs a SELECT as option \"transform\"")));
	if (transform != NULL && !select)
	{
		Oid			function = find_function(transform, target);

		(void) get_func_signature(function, &types, &n);
		*columns_of = get_typ_typrelid(types[0]);
		return kfk_replace_option(options, "transform", format_procedure_qualified(function));
	}
	if (message_type == NULL)
		return options;
	type = DatumGetObjectId(DirectFunctionCall1(regtypein, CStringGetDatum(message_type)));
	if (get_typtype(type) == TYPTYPE_PSEUDO)
		kfk_invalid_option("message_type", "is the name of a row type, or of a type that takes the whole value, like jsonb");
	*columns_of = get_typ_typrelid(type);
	return kfk_replace_option(options, "message_type", format_type_be_qualified(type));
}

/* The relation that the SELECT reads messages from, with none in it. */
static void
register_messages(TupleDesc message)
{
	EphemeralNamedRelation enr = palloc0(sizeof(*enr));
	TupleDesc	desc = CreateTemplateTupleDesc(message->natts + 1);
	char		column[NAMEDATALEN];

	for (int i = 0; i < message->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(message, i);

		snprintf(column, sizeof(column), "c%d", i);
		TupleDescInitEntry(desc, (AttrNumber) (i + 1), column, att->atttypid, att->atttypmod, 0);
		TupleDescInitEntryCollation(desc, (AttrNumber) (i + 1), att->attcollation);
	}
	TupleDescInitEntry(desc, (AttrNumber) desc->natts, "place", INT8OID, -1, 0);
	enr->md.name = "millrace_messages";
	enr->md.reliddesc = InvalidOid;
	enr->md.tupdesc = desc;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	enr->md.enrtuples = 1000;
	enr->reldata = tuplestore_begin_heap(false, false, work_mem);
	if (SPI_register_relation(enr) != SPI_OK_REL_REGISTER)
		elog(ERROR, "SPI_register_relation failed: %s", SPI_result_code_string(SPI_result));
}

/*
 * As the owner, who could do no more through it than in a maintenance command;
 * EXPLAIN plans the SELECT and asks for the rights on all that it names, but runs nothing.
 */
void
kfk_check_select(Jsonb *options, Oid target, Oid owner)
{
	MemoryContext cxt = CurrentMemoryContext;
	char	   *transform = text_of(options, "transform", "");
	JsonbValue	buffer;
	bool		keyed = getKeyJsonValueFromContainer(&options->root, "on_conflict", 11, &buffer) != NULL ||
		getKeyJsonValueFromContainer(&options->root, "key_format", 10, &buffer) != NULL;
	kfk_select	select = {0};
	Relation	rel;
	Oid			user;
	Oid			constraint;
	int			context;
	int			guc_level;

	if (transform == NULL || !kfk_is_select(transform))
		return;
	guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", KFK_SELECT_PATH, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(owner, context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	rel = table_open(target, AccessShareLock);
	kfk_read_select(&select, transform, text_of(options, "message_type", ""), rel,
					keyed ? get_primary_key_attnos(target, false, &constraint) : NULL);
	table_close(rel, NoLock);
	PG_TRY();
	{
		SPI_connect();
		register_messages(select.message);
		if (SPI_execute(psprintf("EXPLAIN (COSTS OFF) %s", select.sql), false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "EXPLAIN failed: %s", SPI_result_code_string(SPI_result));
		SPI_finish();
	}
	PG_CATCH();
	{
		kfk_blame_select(NULL, cxt);
	}
	PG_END_TRY();
	SetUserIdAndSecContext(user, context);
	AtEOXact_GUC(false, guc_level);
}
