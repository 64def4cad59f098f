/*
 * triggers_pg.c
 *	  Triggers of the registry's tables: cache invalidation, immutability.
 *
 * Sessions cache what a model name resolves to.  A relcache invalidation of
 * millrace.models is the signal to look again (cache_pg.c listens): it is sent
 * at commit, reaches every session of the database, and standbys by WAL.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(millrace_models_changed);
PG_FUNCTION_INFO_V1(millrace_models_guard);

static TriggerData *
trigger_data(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this function is called by triggers only")));
	return (TriggerData *) fcinfo->context;
}

/* AFTER INSERT OR UPDATE OR DELETE (row), TRUNCATE (statement) */
Datum
millrace_models_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_data(fcinfo);

	CacheInvalidateRelcacheByRelid(RelationGetRelid(trigger->tg_relation));
	return PointerGetDatum(NULL);
}

/*
 * BEFORE UPDATE OR DELETE, row.  Only metrics and retired_at of a version may
 * change; of its bytes, nothing.  The row of a version is never deleted: other
 * tables name it without a foreign key.
 */
Datum
millrace_models_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_data(fcinfo);
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);

	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("rows of \"%s\" are not deleted: predictions keep their origin",
						RelationGetRelationName(trigger->tg_relation)),
				 errhint("millrace.drop_model() deletes the bytes of a version and retires it.")));
	if (!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this trigger fires before UPDATE or DELETE of a row only")));
	for (int i = 1; i <= desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i - 1);
		bool		old_null;
		bool		new_null;
		Datum		old_value;
		Datum		new_value;

		if (att->attisdropped ||
			strcmp(NameStr(att->attname), "metrics") == 0 ||
			strcmp(NameStr(att->attname), "retired_at") == 0)
			continue;
		old_value = heap_getattr(trigger->tg_trigtuple, i, desc, &old_null);
		new_value = heap_getattr(trigger->tg_newtuple, i, desc, &new_null);
		if (old_null != new_null ||
			(!old_null && !datum_image_eq(old_value, new_value, att->attbyval, att->attlen)))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("column \"%s\" of \"%s\" cannot be changed: model versions are immutable",
							NameStr(att->attname), RelationGetRelationName(trigger->tg_relation)),
					 errhint("Register a new version with millrace.import_model() or millrace.train_model().")));
	}
	return PointerGetDatum(trigger->tg_newtuple);
}
