/*
 * images_pg.c
 *	  The triggers of pipeline "images", and the same work for rows that fired none.
 *
 * A producer needs INSERT on the entry table only: the work is done as the owner
 * of the pipeline's schema, the way foreign keys are checked, so the functions
 * need no SECURITY DEFINER and no privilege of their own.
 */
#include "postgres.h"

#include "access/genam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "core/core_pg.h"
#include "miscadmin.h"
#include "pipelines/pipelines.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(millrace_images_extract);
PG_FUNCTION_INFO_V1(millrace_images_classify);
PG_FUNCTION_INFO_V1(millrace_images_backfill);

#define PHOTO_COLUMNS(n) \
	n ".image_id, " n ".content, pg_catalog.sha256(" n ".content), " n ".source, " n ".source_topic, " \
	n ".source_partition, " n ".source_offset, " n ".source_time, " n ".received_at "
#define DESCRIPTOR_COLUMNS(n) \
	n ".image_id, " n ".descriptors, " n ".source_topic, " n ".source_partition, " n ".source_offset "

/* Check how we were called, become the owner, and see the transition tables. */
static void
enter_trigger(FunctionCallInfo fcinfo, pip_scope *scope)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("a trigger function of pipeline images was not called as a trigger")));
	if (!TRIGGER_FIRED_AFTER(trigger->tg_event) || !TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) ||
		trigger->tg_newtable == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" of pipeline images must be AFTER INSERT or UPDATE, FOR EACH STATEMENT, with NEW TABLE AS new_rows",
						trigger->tg_trigger->tgname)));
	pip_enter(scope, RelationGetNamespace(trigger->tg_relation), trigger->tg_relation->rd_rel->relowner);
	if (SPI_register_trigger_data(trigger) != SPI_OK_TD_REGISTER)
		elog(ERROR, "could not register transition tables");
}

static Portal
open_cursor(const pip_scope *scope, const char *statement, int nargs, const Oid *types, Datum *values, const char *nulls)
{
	return SPI_cursor_open(NULL, pip_plan(scope, statement, nargs, types), values, nulls, false);
}

typedef int64 (*process_rows) (const pip_scope *scope, Portal rows, bool update);

/* Both triggers: a cursor over the rows that are new or changed, processed as the owner. */
static Datum
run_trigger(FunctionCallInfo fcinfo, const char *inserted, const char *updated, process_rows process)
{
	bool		update;
	pip_scope	scope;
	Portal		cursor;

	enter_trigger(fcinfo, &scope);
	update = TRIGGER_FIRED_BY_UPDATE(((TriggerData *) fcinfo->context)->tg_event);
	cursor = open_cursor(&scope, update ? updated : inserted, 0, NULL, NULL, NULL);
	process(&scope, cursor, update);
	SPI_cursor_close(cursor);
	pip_leave(&scope);
	return PointerGetDatum(NULL);
}

static int64
classify_rows(const pip_scope *scope, Portal rows, bool update)
{
	(void) update;
	return pip_classify(scope, rows, NULL);
}

/* Trigger on images: millrace.images_extract() */
Datum
millrace_images_extract(PG_FUNCTION_ARGS)
{
	static const char inserted[] =
		"SELECT " PHOTO_COLUMNS("n") "FROM new_rows n WHERE n.content IS NOT NULL";
	static const char updated[] =
		"SELECT " PHOTO_COLUMNS("n") "FROM new_rows n LEFT JOIN old_rows o ON o.image_id = n.image_id "
		"WHERE n.content IS NOT NULL AND n.content IS DISTINCT FROM o.content";

	return run_trigger(fcinfo, inserted, updated, pip_extract);
}

/* Trigger on descriptors: millrace.images_classify() */
Datum
millrace_images_classify(PG_FUNCTION_ARGS)
{
	static const char inserted[] = "SELECT " DESCRIPTOR_COLUMNS("n") "FROM new_rows n";
	static const char updated[] =
		"SELECT " DESCRIPTOR_COLUMNS("n") "FROM new_rows n LEFT JOIN old_rows o ON o.image_id = n.image_id "
		"WHERE n.descriptors IS DISTINCT FROM o.descriptors OR n.run_id IS DISTINCT FROM o.run_id";

	return run_trigger(fcinfo, inserted, updated, classify_rows);
}

/* Every profile, or one, over descriptors without its prediction. */
static int64
backfill_predictions(const pip_scope *scope, const char *only)
{
	static const char profiles[] = "SELECT profile FROM @S@.profiles WHERE enabled ORDER BY profile";
	static const char missing[] =
		"SELECT " DESCRIPTOR_COLUMNS("d") "FROM @S@.descriptors d "
		"WHERE NOT EXISTS (SELECT FROM @S@.predictions p WHERE p.image_id = d.image_id AND p.profile = $1)";
	static const Oid types[] = {TEXTOID};
	char	  **names;
	int			n;
	int64		total = 0;

	if (only)
	{
		names = palloc(sizeof(char *));
		names[0] = pstrdup(only);
		n = 1;
	}
	else
	{
		n = (int) pip_run(scope, profiles, 0, NULL, NULL, NULL, SPI_OK_SELECT);
		names = palloc(sizeof(char *) * (n + 1));
		for (int i = 0; i < n; i++)
			names[i] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
	}
	for (int i = 0; i < n; i++)
	{
		Datum		values[1] = {CStringGetTextDatum(names[i])};
		Portal		cursor = open_cursor(scope, missing, 1, types, values, NULL);

		total += pip_classify(scope, cursor, names[i]);
		SPI_cursor_close(cursor);
	}
	return total;
}

/* millrace.images_backfill(pipeline text, stage text, profile text = NULL) -> bigint */
Datum
millrace_images_backfill(PG_FUNCTION_ARGS)
{
	static const char unextracted[] =
		"SELECT " PHOTO_COLUMNS("i") "FROM @S@.images i WHERE i.content IS NOT NULL "
		"AND NOT EXISTS (SELECT FROM @S@.descriptors d WHERE d.image_id = i.image_id) "
		"AND NOT EXISTS (SELECT FROM @S@.failures f WHERE f.image_id = i.image_id AND f.stage = 'extract')";
	char	   *name;
	char	   *stage;
	Oid			namespace;
	pip_scope	scope;
	int64		total;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("pipeline and stage must not be null")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	stage = text_to_cstring(PG_GETARG_TEXT_PP(1));
	namespace = get_namespace_oid(name, true);
	if (!OidIsValid(namespace))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("pipeline \"%s\" does not exist", name)));
	if (!pip_is_owner_of_schema(namespace, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_SCHEMA, name);

	pip_enter(&scope, namespace, InvalidOid);
	if (strcmp(stage, "descriptors") == 0)
	{
		Portal		cursor = open_cursor(&scope, unextracted, 0, NULL, NULL, NULL);

		total = pip_extract(&scope, cursor, false);
		SPI_cursor_close(cursor);
	}
	else if (strcmp(stage, "predictions") == 0)
		total = backfill_predictions(&scope, PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2)));
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown stage \"%s\"", stage),
				 errhint("Stages are descriptors and predictions.")));
	pip_leave(&scope);
	PG_RETURN_INT64(total);
}
