/*
 * pieces_pg.c
 *	  Rows of a batch into the target where some are expected to be refused: in
 *	  pieces, each a subtransaction, so that an error undoes one of them.
 *
 * All within the transaction of the batch.  A piece that fails is taken apart
 * until one message is left, alone; it is the one that is rejected, so that a
 * wrong guess costs time and never a message.  The guess is where the executor
 * stood: a row that is refused while it is inserted (checks, unique keys, row
 * triggers) is the one after those inserted; one that a row trigger refuses
 * afterwards (foreign keys) the one after those that the trigger has seen, which
 * EXPLAIN ANALYZE's counts of trigger calls tell.
 *
 * Who has what rejects had before it (hint_pg.c) is tried alone at once.
 *
 * How long a piece is, follows from how far apart rejects have been: a piece
 * costs about PIECE_COST rows to begin and end, and an error about half of its
 * rows, so sqrt(2 * PIECE_COST * gap) costs least.
 *
 * Memory: a context a piece; errors in the batch's.  Locks: the target's.
 */
#include "postgres.h"

#include "stream/worker/row.h"

#include <math.h>

#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/memutils.h"

#include "core/failpoint.h"

#define PIECE_COST 1.5
#define FAR 1e12				/* gap when nothing has been refused yet */
#define PIECES 60				/* of a transaction: more subtransactions than 64 burden every snapshot */

/* Messages from one reject to the next, lately: from any, and from one that nobody expected (hint_pg.c). */
static double gap_any = FAR;
static double gap = FAR;
static int64 since_any = 0;
static int64 since_reject = 0;

/* The statement that moves a piece, while it runs; what it was about to do when it failed. */
static bool watching = false;
static QueryDesc *watched = NULL;
static ExecutorStart_hook_type next_start = NULL;

static void
start(QueryDesc *query, int flags)
{
	if (watching)
	{
		watching = false;
		watched = query;
		query->instrument_options |= INSTRUMENT_ROWS;
	}
	if (next_start)
		next_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
}

static int
piece_length(double messages)
{
	return (int) Max(Min(sqrt(2 * PIECE_COST * messages), 1e6), 1);
}

/*
 * How many items a transaction that is to commit n should take: pieces of it
 * must not become too many.  *in_pieces: rejects are to be expected among them,
 * so that to try them as a whole would cost more than pieces do.
 */
int
kfk_expect_rejects(int n, bool *in_pieces)
{
	*in_pieces = piece_length(gap_any) < (n > 8 ? n / 2 : n);
	return *in_pieces ? Min(n, (int) (PIECES / (1.0 / piece_length(gap) + 1.0 / Max(gap_any, 1))) + 1) : n;
}

/* n items failed as a whole, and nobody knows how many of them are at fault: next time in pieces. */
void
kfk_note_failure(int n)
{
	gap = Min(gap, n / 8.0);
	gap_any = Min(gap_any, gap);
	since_any = since_reject = 0;
}

/* n items went well. */
void
kfk_note_good(int n)
{
	since_any += n;
	since_reject += n;
	gap_any = Max(gap_any, (double) since_any);
	gap = Max(gap, (double) since_reject);
}

static void
note_reject(bool expected)
{
	gap_any = (3 * gap_any + (double) since_any) / 4;
	since_any = 0;
	if (expected)
		return;
	gap = (3 * gap + (double) since_reject) / 4;
	since_reject = 0;
}

/*
 * The row that an AFTER ROW trigger was at, by the calls of unconditional ones
 * that have ended: the fewest of any.  If those are the foreign keys' and the
 * error is none of theirs, another trigger raised it, behind them at the row
 * before.  -1: not known.
 */
static double
triggers_at(int sqlerrcode)
{
	List	   *relations = watched->estate->es_opened_result_relations;
	ResultRelInfo *rel = list_length(relations) == 1 ? linitial(relations) : NULL;
	double		done = -1;
	bool		foreign_keys = true;

	if (rel == NULL || rel->ri_TrigDesc == NULL || rel->ri_TrigInstrument == NULL)
		return -1;
	for (int i = 0; i < rel->ri_TrigDesc->numtriggers; i++)
	{
		const Trigger *t = &rel->ri_TrigDesc->triggers[i];

		if (TRIGGER_TYPE_MATCHES(t->tgtype, TRIGGER_TYPE_ROW, TRIGGER_TYPE_AFTER, TRIGGER_TYPE_INSERT) && t->tgqual == NULL &&
			t->tgenabled != TRIGGER_DISABLED)
		{
			done = done < 0 ? rel->ri_TrigInstrument[i].tuplecount : Min(done, rel->ri_TrigInstrument[i].tuplecount);
			foreign_keys = foreign_keys && t->tgisinternal;
		}
	}
	return foreign_keys && sqlerrcode != ERRCODE_FOREIGN_KEY_VIOLATION ? done - 1 : done;
}

/* Index of the item that the statement was at when it failed; -1: unknown. */
static int
guess(const kfk_source *source, const kfk_item *items, int n, int sqlerrcode)
{
	double		row;
	double		rows = 0;

	/* Of one statement alone, whose rows are the items' in order; it has not ended, so it is still there. */
	if (source->transform != NULL || source->on_conflict != KFK_REFUSE || watched == NULL || watched->estate == NULL)
		return -1;
	for (int i = 0; i < n; i++)
		if (items[i].sqlstate == NULL && !items[i].skipped)
			for (const kfk_row *r = items[i].rows; r != NULL; r = r->next)
				rows++;
	row = (double) watched->estate->es_processed;
	if (row >= rows)
		row = triggers_at(sqlerrcode);
	if (row < 0 || row >= rows)
		return -1;
	for (int i = 0; i < n; i++)
		if (items[i].sqlstate == NULL && !items[i].skipped)
			for (const kfk_row *r = items[i].rows; r != NULL; r = r->next)
				if (row-- == 0)
					return i;
	return -1;
}

/* Insert items.  False: failure says why, *at which of them perhaps; nothing has changed. */
static bool
insert_piece(const kfk_source *source, kfk_target *target, kfk_item *items, int n, MemoryContext cxt, kfk_failure *failure, int *at)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext piece = AllocSetContextCreate(caller, "millrace piece", ALLOCSET_DEFAULT_SIZES);
	volatile bool good = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(piece);
	PG_TRY();
	{
		watched = NULL;
		if (source->transform != NULL)
		{
			failure->stage = KFK_AT_TRANSFORM;
			kfk_target_transform(target, items, n);
		}
		failure->stage = KFK_AT_TARGET;
		watching = true;
		kfk_target_insert(target, items, n);
		watching = false;
		watched = NULL;
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		watching = false;
		MemoryContextSwitchTo(cxt);
		failure->error = CopyErrorData();
		if (!mr_is_data_error(failure->error->sqlerrcode))
			PG_RE_THROW();
		*at = guess(source, items, n, failure->error->sqlerrcode);
		FlushErrorState();
		watched = NULL;
		RollbackAndReleaseCurrentSubTransaction();
		target->transformed = NULL;
		good = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	MemoryContextDelete(piece);
	return good;
}

/*
 * Insert the items that are rows; those that the target refuses are rejected.
 * Deferred constraints are immediate already.  In the batch's transaction.
 */
void
kfk_insert_in_pieces(const kfk_source *source, kfk_target *target, kfk_item *items, int n, MemoryContext cxt, kfk_failure *failure)
{
	static bool hooked = false;
	int			done = 0;
	int			suspect = 0;	/* a piece up to here failed: the culprit is before it */
	int			limit = piece_length(gap);
	bool		to_guess = false;	/* the piece ends where the guess of the last failure was */

	if (!hooked)
	{
		next_start = ExecutorStart_hook;
		ExecutorStart_hook = start;
		hooked = true;
	}
	while (done < n)
	{
		int			len = Min(n - done, limit);
		int			at = -1;
		bool		expected = kfk_is_suspect(target, &items[done], false);

		/* A suspect is a piece of its own. */
		for (int i = 1; i < len; i++)
			if (expected || kfk_is_suspect(target, &items[done + i], false))
				len = i;
		CHECK_FOR_INTERRUPTS();
		if (insert_piece(source, target, items + done, len, cxt, failure, &at))
		{
			kfk_note_good(len);
			if (expected)
				(void) kfk_is_suspect(target, &items[done], true);
			done += len;
			if (done >= suspect)
				limit = piece_length(gap);
			else
				limit = to_guess ? 1 : Max((suspect - done) / 2, 1);
			to_guess = false;
		}
		else if (len == 1)
		{
			kfk_reject(&items[done], failure, cxt);
			MR_FAILPOINT("source.reject");
			note_reject(expected);
			kfk_learn_reject(target, items, n, done);
			done++;
			suspect = 0;
			to_guess = false;
			limit = piece_length(gap);
		}
		else
		{
			suspect = done + len;

			to_guess = at > 0;
			limit = at > 0 ? at : at == 0 ? 1 : len / 2;
		}
	}
}
