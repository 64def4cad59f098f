/*
 * transform_pg.c
 *	  Option transform: a function of the users' between messages and target.
 *
 * Messages become tuples of the ephemeral relation "millrace_messages", which
 * one prepared SELECT turns into those of "millrace_batch".  The function runs
 * as the source's owner, like everything of the target, in the transaction of
 * the rows; before the fence, since what it passes over is counted there.  Its
 * errors are treated as those of the INSERT.
 */
#include "postgres.h"

#include "stream/worker/row.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/tstoreReceiver.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#include "stream/columns.h"

/*
 * The source's function, with the type of its argument noted in target; ERROR
 * if it is not one that takes one argument and returns rows of the target.
 */
Oid
kfk_find_transform(kfk_target *target, const kfk_source *source, Relation rel)
{
	Datum		name = CStringGetDatum(source->transform);
	Oid			function = DatumGetObjectId(DirectFunctionCall1(regprocedurein, name));
	HeapTuple	row = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	bool		fits;

	if (!HeapTupleIsValid(row))
		elog(ERROR, "cache lookup failed for function %u", function);
	form = (Form_pg_proc) GETSTRUCT(row);
	fits = form->prokind == PROKIND_FUNCTION && form->pronargs == 1 && kfk_returns_rows_of(form->prorettype, RelationGetRelid(rel));
	target->argument = form->pronargs == 1 ? form->proargtypes.values[0] : InvalidOid;
	ReleaseSysCache(row);
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("function %s cannot be the transform of source \"%s\"", source->transform, source->name),
				 errdetail("It must take one argument and return %s or a set of it.", format_type_be(rel->rd_rel->reltype))));
	target->argument_relation = get_typ_typrelid(target->argument);
	return function;
}

/* Which items the rows in store are of; the others with rows are passed over. */
static void
note_passed_over(Tuplestorestate *store, const kfk_shape *shape, kfk_item *items, int n)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(shape->desc, &TTSOpsMinimalTuple);

	for (int i = 0; i < n; i++)
		items[i].passed_over = items[i].sqlstate == NULL && !items[i].skipped && !items[i].deletes;
	while (tuplestore_gettupleslot(store, true, false, slot))
	{
		bool		null;
		int64		item = DatumGetInt64(slot_getattr(slot, shape->place + 1, &null)) >> 32;

		if (null || item < 0 || item >= n)
			elog(ERROR, "a transformed row has no place");
		items[item].passed_over = false;
	}
	ExecDropSingleTupleTableSlot(slot);
}

/*
 * Make rows of the decoded items by the source's function, for
 * kfk_target_insert() in the same transaction; notes which items gave none.
 */
void
kfk_target_transform(kfk_target *target, kfk_item *items, int n)
{
	int			kb = Max(work_mem, 1024 * 1024);
	Tuplestorestate *messages = tuplestore_begin_heap(false, false, kb);
	Tuplestorestate *store = tuplestore_begin_heap(false, false, kb);
	EphemeralNamedRelation enr = target->in.enr;
	int64		deleted = 0;
	int64		rows = kfk_put_rows(messages, &target->in, items, n, false, true, &deleted);

	if (rows > 0)
	{
		DestReceiver *dest = CreateDestReceiver(DestTuplestore);
		SPIExecuteOptions options = {.tcount = 0,.dest = dest};
		int			result;

		SetTuplestoreDestReceiverParams(dest, store, CurrentMemoryContext, false, NULL, NULL);
		SPI_connect();
		enr->reldata = messages;
		enr->md.enrtuples = (double) rows;
		SPI_register_relation(enr);
		result = SPI_execute_plan_extended(target->transform, &options);
		if (result != SPI_OK_SELECT)
			elog(ERROR, "SPI_execute_plan_extended failed: %s", SPI_result_code_string(result));
		SPI_finish();
		dest->rDestroy(dest);
	}
	tuplestore_end(messages);
	note_passed_over(store, target->out, items, n);
	kfk_put_rows(store, target->out, items, n, true, false, &deleted);
	target->transformed = store;
}
