/*
 * transform_pg.c
 *	  Option transform: a function of the users', or a SELECT, between messages
 *	  and target.
 *
 * Messages become tuples of the ephemeral relation "millrace_messages", which
 * one prepared SELECT turns into those of "millrace_batch".  It runs as the
 * source's owner, like everything of the target, in the transaction of
 * the rows; before the fence, since what it passes over is counted there.  Its
 * errors are treated as those of the INSERT.
 *
 * Each tuple that comes out carries the place of its message; its own is
 * that and how many of the message came before it.
 */
#include "postgres.h"

#include "stream/worker/row.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#include "stream/columns.h"

/* The source's function; ERROR if it is not one that takes one argument and returns rows of the target. */
static void
find_function(kfk_target *target, const kfk_source *source, Relation rel)
{
	Datum		name = CStringGetDatum(source->transform);
	HeapTuple	row;
	Form_pg_proc form;
	bool		fits;

	target->function = DatumGetObjectId(DirectFunctionCall1(regprocedurein, name));
	row = SearchSysCache1(PROCOID, ObjectIdGetDatum(target->function));
	if (!HeapTupleIsValid(row))
		elog(ERROR, "cache lookup failed for function %u", target->function);
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
}

/* Look up the source's transform, and note in target what it takes; primary as of kfk_target_key(). */
void
kfk_find_transform(kfk_target *target, const kfk_source *source, Relation rel, const Bitmapset *primary)
{
	if (!kfk_is_select(source->transform))
	{
		find_function(target, source, rel);
		return;
	}
	target->select = palloc0(sizeof(*target->select));
	kfk_read_select(target->select, source->transform, source->message_type, rel, primary);
	target->argument_relation = target->select->row_type;
}

/* Takes tuples of the shape, with their message's place, and puts them where they are inserted from. */
typedef struct receiver
{
	DestReceiver pub;
	Tuplestorestate *store;
	const kfk_shape *shape;
	kfk_item   *items;
	int			n;
	int64	   *rows;			/* that each item has given */
	Datum	   *values;			/* of the tuple at hand */
} receiver;

/* What the plan gives is what the INSERT will read, even after objects below it have changed. */
static void
begin_rows(DestReceiver *self, int operation, TupleDesc given)
{
	const kfk_shape *shape = ((receiver *) self)->shape;
	bool		same = given->natts == shape->width;

	for (int i = 0; same && i < given->natts; i++)
		same = TupleDescAttr(given, i)->atttypid == TupleDescAttr(shape->desc, i)->atttypid;
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the transform's rows have changed their types")));
}

static bool
take_row(TupleTableSlot *slot, DestReceiver *self)
{
	receiver   *r = (receiver *) self;
	int			place = r->shape->place;
	int64		item;

	slot_getallattrs(slot);
	item = DatumGetInt64(slot->tts_values[place]) >> 32;
	if (slot->tts_isnull[place] || item < 0 || item >= r->n)
		elog(ERROR, "a transformed row has no place");
	memcpy(r->values, slot->tts_values, sizeof(Datum) * (size_t) r->shape->width);
	r->values[place] = Int64GetDatum(item << 32 | r->rows[item]++);
	tuplestore_putvalues(r->store, r->shape->desc, r->values, slot->tts_isnull);
	r->items[item].passed_over = false;
	return true;
}

static void
no_more(DestReceiver *self)
{
}

/*
 * Make rows of the decoded items by the source's transform, for
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

	for (int i = 0; i < n; i++)
		items[i].passed_over = items[i].sqlstate == NULL && !items[i].skipped && !items[i].deletes;
	if (kfk_put_rows(messages, &target->in, items, n, false, true, &deleted) > 0)
	{
		receiver	r = {{take_row, begin_rows, no_more, no_more, DestTuplestore}, store, target->out, items, n,
		palloc0(sizeof(int64) * (size_t) n), palloc(sizeof(Datum) * (size_t) target->out->width)};
		SPIExecuteOptions options = {.tcount = 0,.dest = &r.pub};
		int			result;

		SPI_connect();
		enr->reldata = messages;	/* its plan is for any number of tuples */
		SPI_register_relation(enr);
		result = SPI_execute_plan_extended(target->transform, &options);
		if (result != SPI_OK_SELECT)
			elog(ERROR, "SPI_execute_plan_extended failed: %s", SPI_result_code_string(result));
		SPI_finish();
	}
	tuplestore_end(messages);
	kfk_put_rows(store, target->out, items, n, true, false, &deleted);
	target->transformed = store;
}
