/*
 * policy_pg.c
 *	  Retry policies in SQL: error_class(), next_attempt(), and the trigger that
 *	  looks after millrace.retry_policies.
 *
 * The functions are the workers' own arithmetic, with time and chance as
 * arguments: what would happen can be asked, and tested, without waiting.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/shared_pg.h"
#include "core/spi_pg.h"
#include "task/policy_load_pg.h"

PG_FUNCTION_INFO_V1(millrace_error_class);
PG_FUNCTION_INFO_V1(millrace_next_attempt);
PG_FUNCTION_INFO_V1(millrace_retry_policies_changed);

static void
load(tsk_policies *policies)
{
	mr_owner_save save;

	mr_spi_begin(&save);
	tsk_load_policies(policies);
	mr_spi_end(&save);
}

/* millrace.error_class(status int, sqlstate text) -> text */
Datum
millrace_error_class(PG_FUNCTION_ARGS)
{
	tsk_policies policies;

	load(&policies);
	PG_RETURN_TEXT_P(cstring_to_text(policies.policy[tsk_classify(&policies, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0),
																   PG_ARGISNULL(1) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(1)))].name));
}

static const tsk_policy *
find_class(const tsk_policies *policies, const char *name)
{
	for (int i = 0; i < policies->n; i++)
		if (strcmp(policies->policy[i].name, name) == 0)
			return &policies->policy[i];
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("error class \"%s\" does not exist", name),
			 errhint("Classes are the rows of millrace.retry_policies.")));
}

/* millrace.next_attempt(class text, failed int, attempts int, max_attempts int, chance float8, now timestamptz, retry_after interval) -> (verdict text, due_at timestamptz) */
Datum
millrace_next_attempt(PG_FUNCTION_ARGS)
{
	static const char *const words[] = {"again", "wait", "exhausted", "capped"};
	tsk_policies policies;
	TupleDesc	type;
	Datum		values[2];
	bool		nulls[2] = {false, false};
	double		chance;
	int64		retry_after_us = 0;
	int64_t		due;
	tsk_verdict verdict;

	for (int i = 0; i < 6; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("only retry_after may be null")));
	chance = PG_GETARG_FLOAT8(4);
	if (PG_GETARG_INT32(1) < 1 || PG_GETARG_INT32(2) < 1 || !(chance >= 0 && chance < 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("failed and attempts begin with 1, chance lies within [0, 1)")));
	if (!PG_ARGISNULL(6))
	{
		const Interval *i = PG_GETARG_INTERVAL_P(6);

		retry_after_us = i->time + (i->day + INT64CONST(30) * i->month) * USECS_PER_DAY;
	}
	if (get_call_result_type(fcinfo, NULL, &type) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "next_attempt must return a row");
	load(&policies);
	verdict = tsk_after_failure(find_class(&policies, text_to_cstring(PG_GETARG_TEXT_PP(0))), PG_GETARG_INT32(1), PG_GETARG_INT32(2),
								PG_GETARG_INT32(3), chance, PG_GETARG_TIMESTAMPTZ(5), retry_after_us, &due);
	values[0] = CStringGetTextDatum(words[verdict]);
	values[1] = TimestampTzGetDatum(due);
	nulls[1] = verdict != TSK_AGAIN;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(type), values, nulls)));
}

/*
 * Triggers on millrace.retry_policies.  After each statement: what is there must be of use, and workers look again.
 * Before a row: a changed one is no longer the shipped one, and one that is inserted takes the place of a shipped one, for so dumps restore it.
 */
Datum
millrace_retry_policies_changed(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple	row;
	Datum		value;
	bool		null;
	int			built_in,
				class;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("millrace.retry_policies_changed() must be called as a trigger")));
	if (TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event))
	{
		tsk_policies policies;

		load(&policies);
		mr_change_at_commit(MR_CHANGE_TASKS, MyDatabaseId);
		PG_RETURN_POINTER(NULL);
	}
	row = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple : trigger->tg_trigtuple;
	built_in = SPI_fnumber(RelationGetDescr(trigger->tg_relation), "built_in");
	value = BoolGetDatum(false);
	null = false;
	row = heap_modify_tuple_by_cols(row, RelationGetDescr(trigger->tg_relation), 1, &built_in, &value, &null);
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
	{
		mr_owner_save save;

		class = SPI_fnumber(RelationGetDescr(trigger->tg_relation), "class");
		value = SPI_getbinval(row, RelationGetDescr(trigger->tg_relation), class, &null);
		mr_spi_begin(&save);
		if (!null)
			mr_run(&plan, "DELETE FROM millrace.retry_policies WHERE class = $1 AND built_in", 1, (Oid[]) {TEXTOID}, &value);
		mr_spi_end(&save);
	}
	return PointerGetDatum(row);
}
