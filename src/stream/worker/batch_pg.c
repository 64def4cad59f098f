/*
 * batch_pg.c
 *	  One transaction for a run of messages: their rows, their dead letters and
 *	  their offsets commit together or not at all.  Messages may be dead letters
 *	  that are redriven (item->letter): then the letters' own rows, instead of offsets.
 *
 * Order within it: the extension is locked so that it cannot be dropped under
 * us (not waited for: DROP EXTENSION goes first), the target is locked,
 * messages are decoded and transformed, offsets move on under the fence, dead letters and rows
 * are written, deferred constraints are checked.
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "core/failpoint.h"
#include "core/meter_pg.h"
#include "core/shared_pg.h"
#include "core/spi_pg.h"

/* What the items add up to, per partition. */
static void
add_up(kfk_partition *partitions, int n_partitions, const kfk_item *items, int n)
{
	for (int i = 0; i < n_partitions; i++)
	{
		kfk_partition *p = &partitions[i];

		p->new_offset = p->next_offset;
		p->rows = p->bytes = p->dead = p->skipped = p->deleted = 0;
		p->last = -1;
		p->redriven = false;
	}
	for (int i = 0; i < n; i++)
	{
		const kfk_item *item = &items[i];
		kfk_partition *p = item->partition;

		if (item->message.end)
		{
			p->new_offset = Max(p->new_offset, item->message.offset);
			continue;
		}
		if (item->letter != 0)
		{
			/* Its offset and bytes were counted when it died. */
			p->redriven = true;
			if (item->sqlstate)
				continue;
			p->dead--;
		}
		else
		{
			p->new_offset = item->message.offset + 1;
			p->last = i;
			p->bytes += (int64) (item->message.key_len + item->message.value_len);
		}
		if (item->sqlstate)
			p->dead++;
		else if (item->skipped || item->passed_over)
			p->skipped++;
		else if (item->deletes)
			p->deleted++;
		else
			p->rows++;
	}
}

static void
roll_back(void)
{
	disable_timeout(STATEMENT_TIMEOUT, false);
	AbortOutOfAnyTransaction();	/* AbortCurrentTransaction() would end no more than a subtransaction */
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Deferred constraints are checked now, and from now on at the end of each statement. */
static void
check_constraints(void)
{
	ConstraintsSetStmt *immediate = makeNode(ConstraintsSetStmt);

	immediate->constraints = NIL;
	immediate->deferred = false;
	AfterTriggerSetState(immediate);
}

/* Are the items' partitions ours?  Nobody takes them until the transaction ends. */
static bool
hold(const kfk_source *source, kfk_partition *partitions, int n_partitions, const kfk_item *items, int n)
{
	mr_owner_save save;
	bool		ours = true;

	add_up(partitions, n_partitions, items, n);
	mr_spi_begin(&save);
	for (int i = 0; i < n_partitions && ours; i++)
		if (partitions[i].new_offset != partitions[i].next_offset || partitions[i].redriven)
			ours = kfk_hold(source, &partitions[i]);
	mr_spi_end(&save);
	return ours;
}

static kfk_outcome
transact(const kfk_source *source, kfk_partition *partitions, int n_partitions, kfk_item *items, int n, bool in_pieces,
		 MemoryContext cxt, kfk_failure *failure)
{
	kfk_target *target;
	mr_owner_save save;
	MemoryContext caller = CurrentMemoryContext;
	bool		any = false;
	bool		ours = true;

	if (!mr_try_begin(psprintf("%d messages of source %s into %s", n, source->name, source->target)))
		return KFK_GONE;
	enable_timeout_after(STATEMENT_TIMEOUT, source->batch_timeout_ms);
	MR_FAILPOINT("source.begin");
	MemoryContextSwitchTo(TopTransactionContext);
	target = kfk_target_prepare(source);
	kfk_target_decode(target, source, items, n, cxt);
	if (in_pieces)
	{
		if (!hold(source, partitions, n_partitions, items, n))
		{
			roll_back();
			return KFK_FENCED;
		}
		check_constraints();
		kfk_insert_in_pieces(source, target, items, n, cxt, failure);
	}
	failure->fit = kfk_letters_allowed(source, items, n);
	if (failure->fit < n)
	{
		roll_back();
		return KFK_FULL;
	}
	if (source->transform != NULL && !in_pieces)
	{
		failure->stage = KFK_AT_TRANSFORM;
		kfk_target_transform(target, items, n);
	}
	failure->stage = KFK_AT_TARGET;
	add_up(partitions, n_partitions, items, n);

	MR_FAILPOINT("source.before_fence");
	mr_spi_begin(&save);
	for (int i = 0; i < n_partitions && ours; i++)
	{
		kfk_partition *p = &partitions[i];

		if (p->new_offset != p->next_offset || p->redriven)
			ours = kfk_fence(source, p, p->last >= 0 ? &items[p->last] : NULL);
	}
	MR_FAILPOINT("source.after_fence");
	for (int i = 0; i < n && ours; i++)
	{
		if (items[i].letter != 0)
			ours = kfk_settle_letter(&items[i]);
		else if (items[i].sqlstate)
			kfk_bury(source, &items[i]);
		any = any || !(items[i].sqlstate || items[i].skipped || items[i].passed_over);
	}
	mr_spi_end(&save);
	if (!ours)
	{
		roll_back();
		return KFK_FENCED;
	}

	MR_FAILPOINT("source.before_insert");
	if (!in_pieces && (any || source->transform != NULL))
		kfk_target_insert(target, items, n);	/* or ends what the transform began */
	MR_FAILPOINT("source.after_insert");
	if (any && !in_pieces)
		check_constraints();
	disable_timeout(STATEMENT_TIMEOUT, false);
	CHECK_FOR_INTERRUPTS();
	MemoryContextSwitchTo(caller);
	if (!kfk_share_may_commit(source, partitions, n_partitions))
	{
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(caller);
		pgstat_report_activity(STATE_IDLE, NULL);
		return KFK_FENCED;
	}
	MR_FAILPOINT("source.before_commit");
	mr_commit();
	MR_FAILPOINT("source.after_commit");
	return KFK_COMMITTED;
}

/* What has just been committed: partitions stand behind it, counters and meter know it. */
static void
count(kfk_partition *partitions, int n_partitions, TimestampTz begun)
{
	mr_work		work = {.batches = 1,.busy_us = (uint64) Max(GetCurrentTimestamp() - begun, 0)};
	int64		messages = 0;

	mr_worker_count(MR_COUNT_BATCHES, 1);
	for (int i = 0; i < n_partitions; i++)
	{
		kfk_partition *p = &partitions[i];

		p->next_offset = p->new_offset;
		messages += p->rows + p->dead + p->skipped + p->deleted;	/* letters redriven add nothing: dead - 1, rows + 1 */
		work.bytes += (uint64) p->bytes;
		mr_worker_count(MR_COUNT_ROWS, (uint64) p->rows);
		mr_worker_count(MR_COUNT_BYTES, (uint64) p->bytes);
		mr_worker_count(MR_COUNT_DEAD, (uint64) Max(p->dead, 0));	/* less than 0 by letters redriven */
	}
	work.messages = (uint64) messages;
	mr_meter_add(&work);
}

/*
 * One transaction for these items, which follow each other.  After
 * KFK_COMMITTED the partitions stand behind them; after anything else nothing
 * has changed, and *failure says why.  In pieces: items that the target refuses
 * are rejected, and committed as dead letters with the others.  Its error, and memory of decoded messages,
 * come from cxt.
 */
kfk_outcome
kfk_run_slice(const kfk_source *source, kfk_partition *partitions, int n_partitions,
		  kfk_item *items, int n, bool in_pieces, MemoryContext cxt, kfk_failure *failure)
{
	MemoryContext caller = CurrentMemoryContext;
	TimestampTz begun = GetCurrentTimestamp();
	volatile kfk_outcome outcome;

	*failure = (kfk_failure) {NULL, KFK_AT_VALUE, 0};
	PG_TRY();
	{
		outcome = transact(source, partitions, n_partitions, items, n, in_pieces, cxt, failure);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		failure->error = CopyErrorData();
		FlushErrorState();
		roll_back();
		QueryCancelPending = false; /* it has been obeyed */
		outcome = mr_is_data_error(failure->error->sqlerrcode) ? KFK_BAD_DATA : KFK_TROUBLE;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	if (outcome == KFK_COMMITTED)
	{
		kfk_note_letters(source, items, n);
		count(partitions, n_partitions, begun);
	}
	return outcome;
}
