/*
 * target_pg.c
 *	  The table a source is read into: its map, kept up to date, and one INSERT
 *	  for many messages.
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

#include "access/table.h"
#include "catalog/namespace.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"
#include "utils/varlena.h"

#include "stream/worker/row.h"

static kfk_target *current = NULL;
static uint64 versions = 0;
static bool stale = true;

static void
target_invalidated(Datum arg, Oid relation)
{
	if (current == NULL || relation == InvalidOid || relation == current->relation || relation == current->argument_relation ||
		(current->select != NULL && list_member_oid(current->select->relations, relation)))
		stale = true;
}

/* A function was made anew, perhaps the transform or one that it calls. */
static void
function_invalidated(Datum arg, int cache, uint32 hash)
{
	if (current != NULL && current->transform != NULL)
		stale = true;
}

static SPIPlanPtr
prepare(const char *sql)
{
	SPIPlanPtr	plan = SPI_prepare(sql, 0, NULL);

	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	return plan;
}

static kfk_target *
make_target(const kfk_source *source, Oid relation)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace target", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Relation	rel = table_open(relation, NoLock);
	kfk_target *target = palloc0(sizeof(*target));
	char	   *insert;
	char	   *delete;
	char	   *transform = NULL;
	Bitmapset  *primary;
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
	(void) set_config_option("search_path", KFK_SELECT_PATH, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	primary = kfk_target_key(source, rel);
	if (source->transform != NULL)
		kfk_find_transform(target, source, rel, primary);
	kfk_map_target(target, source, rel, primary);
	if (source->transform != NULL)
		transform = target->select ? target->select->sql : kfk_transform_sql(target, rel);
	insert = kfk_insert_sql(target, source, rel);
	delete = source->tombstones == KFK_DELETE ? kfk_delete_sql(target, rel) : NULL;
	table_close(rel, NoLock);
	MemoryContextSwitchTo(old);

	SPI_connect();
	if (SPI_register_relation(target->out->enr) != SPI_OK_REL_REGISTER)
		elog(ERROR, "SPI_register_relation failed: %s", SPI_result_code_string(SPI_result));
	if (transform && SPI_register_relation(target->in.enr) != SPI_OK_REL_REGISTER)
		elog(ERROR, "SPI_register_relation failed: %s", SPI_result_code_string(SPI_result));
	target->transform = transform ? prepare(transform) : NULL;
	target->insert = prepare(insert);
	target->delete = delete ? prepare(delete) : NULL;
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
		CacheRegisterSyscacheCallback(PROCOID, function_invalidated, 0);
		registered = true;
	}
	if (current != NULL && (stale || current->relation != relation))
	{
		SPI_freeplan(current->insert);
		if (current->delete)
			SPI_freeplan(current->delete);
		if (current->transform)
			SPI_freeplan(current->transform);
		MemoryContextDelete(current->cxt);
		current = NULL;
	}
	if (current == NULL)
	{
		stale = false;
		current = make_target(source, relation);
	}
	current->transformed = NULL;	/* of a transaction that failed */
	return current;
}

/*
 * Tuples of a shape from the items: tombstones that delete, rows, or both.  How
 * many there are, and *deleted of them tombstones.
 */
int64
kfk_put_rows(Tuplestorestate *store, const kfk_shape *shape, const kfk_item *items, int n, bool deletes, bool rows, int64 *deleted)
{
	int64		put = 0;

	for (int i = 0; i < n; i++)
	{
		int64		place = (int64) i << 32;

		if (items[i].sqlstate != NULL || items[i].skipped || !(items[i].deletes ? deletes : rows))
			continue;
		for (kfk_row *row = items[i].rows; row != NULL; row = row->next)
		{
			if (shape->place >= 0)
			{
				row->values[shape->place] = Int64GetDatum(place++);
				row->values[shape->place + 1] = BoolGetDatum(items[i].deletes);
			}
			tuplestore_putvalues(store, shape->desc, row->values, row->nulls);
			put++;
		}
		*deleted += items[i].deletes;
	}
	return put;
}

static void
execute(SPIPlanPtr plan, int expected)
{
	int			result = SPI_execute_plan(plan, NULL, NULL, false, 0);

	if (result != expected)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(result));
}

/*
 * The items that are rows into the target by one INSERT; before it, by one
 * DELETE, the rows of all keys that have a tombstone: the INSERT leaves out what
 * came before a key's last one.
 */
void
kfk_target_insert(kfk_target *target, kfk_item *items, int n)
{
	Tuplestorestate *store = target->transformed;
	int64		deleted = 0;
	int64		rows;

	if (store == NULL)
	{
		store = tuplestore_begin_heap(false, false, Max(work_mem, 1024 * 1024));
		rows = kfk_put_rows(store, target->out, items, n, true, true, &deleted);
	}
	else
	{
		rows = tuplestore_tuple_count(store);
		for (int i = 0; i < n; i++)
			deleted += items[i].sqlstate == NULL && items[i].deletes;
	}

	if (rows > 0)
	{
		EphemeralNamedRelation enr = target->out->enr;

		SPI_connect();
		enr->reldata = store;
		enr->md.enrtuples = (double) rows;
		SPI_register_relation(enr);
		if (deleted > 0)
			execute(target->delete, SPI_OK_DELETE);
		if (rows > deleted)
			execute(target->insert, SPI_OK_INSERT);
		SPI_finish();
	}
	tuplestore_end(store);
	target->transformed = NULL;
}
