/*
 * flat_check_pg.c
 *	  millrace.flat_check(index): does a millrace_flat index say what its table says?
 *
 * Of each place of each sign page: counts, TIDs, signs.  Of each row that the caller's snapshot
 * sees: its vector's codes are made again and compared, byte for byte.  Reads the table twice.
 * Expressions of the index run as the table's owner.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/index.h"
#include "core/compat.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "text/flat_pg.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(millrace_flat_check);

/* In the order of the columns. */
typedef struct flat_findings
{
	int64		vectors,		/* places with a TID */
				room,			/* places that were emptied */
				rows,			/* rows the snapshot sees through the index */
				missing,		/* rows with a vector that it does not */
				doubled,		/* TIDs that stand twice */
				wrong,			/* rows with other codes than their vectors' */
				damaged;		/* places and pages that contradict themselves */
} flat_findings;

typedef struct flat_found
{
	ItemPointerData tid;
	uint32		number;
} flat_found;

/* What a check works with. */
typedef struct flat_checker
{
	Relation	index,
				heap;
	flat_layout l;
	IndexInfo  *info;
	EState	   *estate;
	ExprState  *predicate;
	TupleTableSlot *slot;
	flat_findings f;
	flat_found *found;
	size_t		n;
	char	   *block[2];		/* for the comparison of signs */
	char	   *code;
} flat_checker;

/* The places of all sign pages. */
static void
check_pages(flat_checker *c)
{
	uint32		sign_pages = flat_meta_read(c->index).sign_pages;
	size_t		room = (size_t) sign_pages * c->l.places;

	c->found = MemoryContextAllocHuge(CurrentMemoryContext, (room + 1) * sizeof *c->found);
	for (uint32 s = 0; s < sign_pages; s++)
	{
		Buffer		buffer = ReadBuffer(c->index, flat_sign_block(&c->l, s));
		Page		page = BufferGetPage(buffer);
		flat_tail  *tail;
		int			live = 0;

		CHECK_FOR_INTERRUPTS();
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		tail = flat_page_tail(page);
		if (PageIsNew(page) || tail->kind != FLAT_SIGNS || tail->used > c->l.places)
		{
			c->f.damaged++;
			UnlockReleaseBuffer(buffer);
			continue;
		}
		for (int i = 0; i < c->l.places; i++)
		{
			ItemPointer tid = &flat_tids(&c->l, page)[i];
			bool		there = ItemPointerIsValid(tid);

			if (there == sim_block_empty(flat_block(&c->l, page, i), c->l.sim.n, i % SIM_BLOCK) || (there && i >= tail->used))
				c->f.damaged++;
			if (there)
				c->found[c->n++] = (flat_found) {*tid, s * (uint32) c->l.places + i};
			live += there;
		}
		c->f.damaged += live != tail->live;
		c->f.vectors += live;
		c->f.room += tail->used - live;
		UnlockReleaseBuffer(buffer);
	}
}

static int
by_tid(const void *a, const void *b)
{
	return ItemPointerCompare((ItemPointer) a, (ItemPointer) b);
}

/* The vector of the row in the slot, or NULL: it has none, or is not in a partial index. */
static const float *
row_vector(flat_checker *c, int *n)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];
	ExprContext *econtext = GetPerTupleExprContext(c->estate);
	MemoryContext caller = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
	const float *vector = NULL;

	econtext->ecxt_scantuple = c->slot;
	if (!c->predicate || ExecQual(c->predicate, econtext))
	{
		FormIndexDatum(c->info, c->slot, c->estate, values, isnull);
		if (!isnull[0])
			vector = flat_vector(values[0], n);
	}
	MemoryContextSwitchTo(caller);
	return vector;
}

/* Has the vector of this number the codes that belong to this vector? */
static bool
same_codes(flat_checker *c, uint32 number, const float *vector)
{
	int			place = number % c->l.places;
	int			in_block = place % SIM_BLOCK;
	sim_signs	signs;
	Buffer		buffer;
	bool		same;

	c->l = flat_layout_get(c->index);	/* its centre may have moved */
	sim_encode(&c->l.sim, vector, &signs, c->code);
	for (int i = 0; i < 2; i++)
		sim_block_clear(c->block[i], c->l.sim.n);
	sim_block_put(c->block[0], c->l.sim.n, in_block, &signs);

	buffer = ReadBuffer(c->index, flat_sign_block(&c->l, number / c->l.places));
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	sim_block_copy(c->block[1], in_block, flat_block(&c->l, BufferGetPage(buffer), place), in_block, c->l.sim.n);
	UnlockReleaseBuffer(buffer);

	buffer = ReadBuffer(c->index, flat_code_block(&c->l, number));
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	same = memcmp(c->block[0], c->block[1], c->l.block_size) == 0 && !PageIsNew(BufferGetPage(buffer)) &&
		memcmp(c->code, (char *) BufferGetPage(buffer) + flat_code_at(&c->l, number), c->l.code_size) == 0;
	UnlockReleaseBuffer(buffer);
	return same;
}

/* From the index to its rows. */
static void
check_entries(flat_checker *c, Snapshot snapshot)
{
	IndexFetchTableData *fetch = table_index_fetch_begin(c->heap);

	qsort(c->found, c->n, sizeof *c->found, by_tid);
	for (size_t i = 0; i < c->n; i++)
	{
		ItemPointerData tid = c->found[i].tid;
		bool		again = false,
					dead = false;
		const float *vector;
		int			n;

		CHECK_FOR_INTERRUPTS();
		c->f.doubled += i > 0 && ItemPointerEquals(&tid, &c->found[i - 1].tid);
		if (!table_index_fetch_tuple(fetch, &tid, snapshot, c->slot, &again, &dead))
			continue;
		c->f.rows++;
		vector = row_vector(c, &n);
		c->f.wrong += !vector || n != c->l.sim.n || !same_codes(c, c->found[i].number, vector);
		ResetPerTupleExprContext(c->estate);
	}
	table_index_fetch_end(fetch);
}

/* From the rows: how many have no entry. */
static void
check_rows(flat_checker *c, Snapshot snapshot)
{
	TableScanDesc scan = table_beginscan(c->heap, snapshot, 0, NULL);
	int64		rows = 0;
	int			n;

	while (table_scan_getnextslot(scan, ForwardScanDirection, c->slot))
	{
		CHECK_FOR_INTERRUPTS();
		rows += row_vector(c, &n) != NULL;
		ResetPerTupleExprContext(c->estate);
	}
	table_endscan(scan);
	c->f.missing = rows - c->f.rows;
}

static void
check(flat_checker *c)
{
	Snapshot	snapshot = GetActiveSnapshot();

	c->info = BuildIndexInfo(c->index);
	c->estate = CreateExecutorState();
	c->slot = table_slot_create(c->heap, NULL);
	c->predicate = ExecPrepareQual(c->info->ii_Predicate, c->estate);
	c->l = flat_layout_get(c->index);
	if (c->l.sim.n > 0)
	{
		c->block[0] = palloc(c->l.block_size);
		c->block[1] = palloc(c->l.block_size);
		c->code = palloc(c->l.code_size);
		check_pages(c);
		check_entries(c, snapshot);
	}
	check_rows(c, snapshot);
	ExecDropSingleTupleTableSlot(c->slot);
	FreeExecutorState(c->estate);
}

Datum
millrace_flat_check(PG_FUNCTION_ARGS)
{
	Oid			index = PG_GETARG_OID(0);
	Oid			table = IndexGetRelation(index, true);
	flat_checker c = {0};
	TupleDesc	desc;
	Datum		values[7];
	bool		nulls[7] = {0};
	Oid			caller;
	int			security,
				nest;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != lengthof(values))
		elog(ERROR, "return type must be a row of %d", (int) lengthof(values));
	if (OidIsValid(table))
	{
		c.heap = table_open(table, AccessShareLock);
		c.index = index_open(index, AccessShareLock);
	}
	if (!c.index || c.index->rd_indam->ambuild != flat_build)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("relation %u is not an index of access method millrace_flat", index)));

	GetUserIdAndSecContext(&caller, &security);
	SetUserIdAndSecContext(c.heap->rd_rel->relowner, security | SECURITY_RESTRICTED_OPERATION);
	nest = NewGUCNestLevel();
	check(&c);
	AtEOXact_GUC(false, nest);
	SetUserIdAndSecContext(caller, security);

	index_close(c.index, AccessShareLock);
	table_close(c.heap, AccessShareLock);
	for (size_t i = 0; i < lengthof(values); i++)
		values[i] = Int64GetDatum(((int64 *) &c.f)[i]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
