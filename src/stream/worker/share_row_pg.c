/*
 * share_row_pg.c
 *	  Rows of source_shares: read, and moved on to what the control topic says.
 *
 * Every change begins by share-locking the source's row at our generation: the
 * functions of share_pg.c, which lock it for update and raise the generation,
 * come before it or after it.
 *
 * Memory: the caller's context.  Locks: the source's row, then those of
 * source_offsets and source_shares, until the end of each function.
 */
#include "postgres.h"

#include "stream/worker/share.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "core/spi_pg.h"

/* A column of the last statement's first row as bigint. */
static int64
number(uint64 row, int column, int64 if_null)
{
	bool		null;
	Datum		d = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &null);

	return null ? if_null : DatumGetInt64(d);
}

/*
 * One statement about a partition ($1 source, $2 partition, $3 and $4 numbers, $5 and $6 texts; NULL where the text is),
 * and whether it found its row.  In a transaction that change() has begun.
 */
static bool
run(SPIPlanPtr *plan, const char *sql, const kfk_source *source, const kfk_share *s, int64 a, int64 b, const char *text, const char *other)
{
	static const Oid types[] = {TEXTOID, INT4OID, INT8OID, INT8OID, TEXTOID, TEXTOID};
	Datum		args[] = {CStringGetTextDatum(source->name), Int32GetDatum(s->partition), Int64GetDatum(a), Int64GetDatum(b),
	mr_text(text), mr_text(other)};

	return mr_run(plan, sql, lengthof(types), types, args) > 0;
}

/* Begin a change of a source's shares.  False: the source is no longer what we know. */
static bool
change(const kfk_source *source, mr_owner_save *save)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, INT8OID};
	Datum		args[] = {CStringGetTextDatum(source->name), Int64GetDatum(source->generation)};

	mr_begin("change who reads a partition");
	mr_spi_begin(save);
	return mr_run(&plan, "SELECT FROM millrace.sources WHERE name OPERATOR(pg_catalog.=) $1 AND generation OPERATOR(pg_catalog.=) $2 FOR SHARE", 2, types, args) == 1;
}

static bool
end_change(const mr_owner_save *save, bool done)
{
	mr_spi_end(save);
	mr_commit();
	return done;
}

#define OF_IT "WHERE source OPERATOR(pg_catalog.=) $1 AND partition OPERATOR(pg_catalog.=) $2 "
#define IS_IN(state) "AND state OPERATOR(pg_catalog.=) '" state "'"
#define ENTER(state) "UPDATE millrace.source_shares SET state = '" state "', since = pg_catalog.now(), "

/*
 * The worker's shares: of the partitions listed every workers-th, which get rows
 * where they have none; and of those given up what the control topic must be told.
 */
kfk_share *
kfk_load_shares(const kfk_source *source, int *n)
{
	static SPIPlanPtr insert = NULL;
	static SPIPlanPtr read = NULL;
	static const Oid types[] = {TEXTOID, INT4ARRAYOID, INT4OID, INT4OID};
	Bitmapset  *mine = kfk_my_partitions(source);
	Datum	   *numbers = palloc(sizeof(Datum) * (size_t) (bms_num_members(mine) + 1));
	Datum		args[] = {CStringGetTextDatum(source->name), 0, Int32GetDatum(source->worker), Int32GetDatum(source->workers)};
	MemoryContext caller = CurrentMemoryContext;
	kfk_share  *shares;
	mr_owner_save save;
	int			listed = 0;

	for (int p = -1; (p = bms_next_member(mine, p)) >= 0;)
		numbers[listed++] = Int32GetDatum(p);
	args[1] = PointerGetDatum(construct_array(numbers, listed, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	mr_begin("read who reads a partition");
	mr_spi_begin(&save);
	mr_prepare(&insert, "INSERT INTO millrace.source_shares (source, partition) SELECT s.name, p FROM millrace.sources s, pg_catalog.unnest($2) p "
			   "WHERE s.name OPERATOR(pg_catalog.=) $1 ON CONFLICT DO NOTHING", 4, types);
	SPI_execute_plan(insert, args, NULL, false, 0);
	mr_prepare(&read, "SELECT s.partition::pg_catalog.int8, s.epoch, s.claim_epoch, s.from_offset, o.next_offset, s.take_over::pg_catalog.int4::pg_catalog.int8, "
			   "s.accept_duplicates::pg_catalog.int4::pg_catalog.int8, s.state, s.identity, (s.claim_offset IS NOT NULL)::pg_catalog.int4::pg_catalog.int8, s.reason FROM millrace.source_shares s "
			   "LEFT JOIN millrace.source_offsets o ON o.source OPERATOR(pg_catalog.=) s.source AND o.partition OPERATOR(pg_catalog.=) s.partition "
			   "WHERE s.source OPERATOR(pg_catalog.=) $1 AND (s.partition OPERATOR(pg_catalog.=) ANY ($2) OR "
			   "s.state IN ('releasing', 'released') AND s.partition OPERATOR(pg_catalog.%) $4 OPERATOR(pg_catalog.=) $3) ORDER BY 1", 4, types);
	SPI_execute_plan(read, args, NULL, false, 0);	/* sees what was inserted */
	*n = (int) SPI_processed;
	shares = MemoryContextAllocZero(caller, sizeof(*shares) * (size_t) (*n + 1));
	for (int i = 0; i < *n; i++)
	{
		kfk_share  *s = &shares[i];
		char	   *state = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 8);
		char	   *identity = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 9);

		s->partition = (int32) number(i, 1, 0);
		s->epoch = number(i, 2, 0);
		s->claim_epoch = number(i, 3, 0);
		s->from_offset = number(i, 4, -1);
		s->next_offset = number(i, 5, -1);
		s->take_over = number(i, 6, 0) != 0;
		s->accept_duplicates = number(i, 7, 0) != 0;
		s->state = strcmp(state, "owned") == 0 ? KFK_OWNED : strcmp(state, "releasing") == 0 ? KFK_RELEASING :
			strcmp(state, "released") == 0 ? KFK_RELEASED : strcmp(state, "lost") == 0 ? KFK_LOST : KFK_TAKING;
		s->pending = number(i, 10, 0) != 0;
		if (s->state == KFK_LOST && SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 11))
			strlcpy(s->reason, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 11), sizeof(s->reason));
		s->identity = identity ? MemoryContextStrdup(caller, identity) : NULL;
		s->next_start = -1;
	}
	mr_spi_end(&save);
	mr_commit();
	return shares;
}

/* What we are about to claim: a claim that the database does not know is not ours. */
bool
kfk_note_claim(const kfk_source *source, const kfk_share *s, int64 epoch, int64 start, const char *doubled)
{
	static SPIPlanPtr plan = NULL;
	mr_owner_save save;

	return end_change(&save, change(source, &save) &&
					  run(&plan, "UPDATE millrace.source_shares SET claim_epoch = $3, claim_offset = $4, doubled = $5::pg_catalog.int8range, missing = NULL, held_by = $6 "
						  OF_IT IS_IN("taking"), source, s, epoch, start, doubled, s->known ? s->ruling.owner : NULL));
}

/* The partition is ours: read from where the tenure starts, unless it is the one we had. */
bool
kfk_note_owned(const kfk_source *source, const kfk_share *s, const char *identity)
{
	static SPIPlanPtr own = NULL;
	static SPIPlanPtr place = NULL;
	static SPIPlanPtr unmark = NULL;
	mr_owner_save save;
	bool		ours = change(source, &save) &&
		run(&own, ENTER("owned") "epoch = $3, start_offset = $4, identity = $5, held_by = $5, reason = NULL, claim_offset = NULL, take_over = false, from_offset = NULL, accept_duplicates = false "
			OF_IT IS_IN("taking"), source, s, s->ruling.epoch, s->ruling.start, identity, NULL);

	if (ours && s->ruling.epoch != s->epoch)
	{
		run(&place, "INSERT INTO millrace.source_offsets AS o (source, partition, next_offset) VALUES ($1, $2, $4) ON CONFLICT (source, partition) DO UPDATE "
			"SET next_offset = $4, epoch = o.epoch OPERATOR(pg_catalog.+) 1, rewind_to = NULL, "
			"last_offset = CASE WHEN o.next_offset OPERATOR(pg_catalog.=) $4 THEN o.last_offset END", source, s, 0, s->ruling.start, NULL, NULL);
		run(&unmark, "UPDATE millrace.dead_letters SET redrive_at = NULL " OF_IT "AND redrive_at IS NOT NULL AND \"offset\" OPERATOR(pg_catalog.>=) $4",
			source, s, 0, s->ruling.start, NULL, NULL);
	}
	return end_change(&save, ours);
}

bool
kfk_note_released(const kfk_source *source, const kfk_share *s)
{
	static SPIPlanPtr plan = NULL;
	mr_owner_save save;

	return end_change(&save, change(source, &save) &&
					  run(&plan, ENTER("released") "reason = NULL, held_by = $5, epoch = GREATEST(epoch, claim_epoch) " OF_IT IS_IN("releasing"),
						  source, s, 0, 0, s->ruling.owner, NULL));
}

/* This server was a standby of the one that held the partition: it goes on for it, where its own rows end. */
bool
kfk_note_promoted(const kfk_source *source, const kfk_share *s)
{
	static SPIPlanPtr plan = NULL;
	mr_owner_save save;

	return end_change(&save, change(source, &save) &&
					  run(&plan, ENTER("taking") "take_over = true, accept_duplicates = true, from_offset = $3 " OF_IT IS_IN("owned"),
						  source, s, s->next_offset, 0, NULL, NULL));
}

/* A range of offsets as text, NULL if it is empty. */
static char *
range(int64 from, int64 to)
{
	return from < to ? psprintf("[" INT64_FORMAT "," INT64_FORMAT ")", from, to) : NULL;
}

bool
kfk_note_lost(const kfk_source *source, const kfk_share *s)
{
	static SPIPlanPtr lose = NULL;
	static SPIPlanPtr ranges = NULL;
	static SPIPlanPtr fence = NULL;
	mr_owner_save save;
	bool		ours = change(source, &save) &&
		run(&lose, ENTER("lost") "held_by = $5, reason = $6, take_over = false, from_offset = NULL " OF_IT "AND state IN ('owned', 'taking')",
			source, s, 0, 0, s->known ? s->ruling.owner : NULL, s->reason);

	if (ours && s->next_start >= 0 && s->next_offset >= 0)
		run(&ranges, "UPDATE millrace.source_shares SET doubled = $5::pg_catalog.int8range, missing = $6::pg_catalog.int8range " OF_IT,
			source, s, 0, 0, range(s->next_start, s->next_offset), range(s->next_offset, s->next_start));
	if (ours)
		run(&fence, "UPDATE millrace.source_offsets SET epoch = epoch OPERATOR(pg_catalog.+) 1, owner_pid = NULL, high_watermark = NULL " OF_IT,
			source, s, 0, 0, NULL, NULL);
	return end_change(&save, ours);
}

/* Is nothing left to the source, over all its workers? */
bool
kfk_all_lost(const kfk_source *source)
{
	static SPIPlanPtr plan = NULL;
	static const kfk_share none = {0};
	mr_owner_save save;

	return end_change(&save, change(source, &save) &&
					  !run(&plan, "SELECT FROM millrace.source_shares WHERE source OPERATOR(pg_catalog.=) $1 AND state NOT IN ('lost', 'released') LIMIT 1",
						   source, &none, 0, 0, NULL, NULL));
}

/* What it waits for; who holds it meanwhile. */
void
kfk_note_reason(const kfk_source *source, const kfk_share *s)
{
	static SPIPlanPtr plan = NULL;
	mr_owner_save save;

	(void) end_change(&save, change(source, &save) &&
					  run(&plan, "UPDATE millrace.source_shares SET reason = $5, held_by = $6 " OF_IT "AND (reason, held_by) IS DISTINCT FROM ($5, $6)",
						  source, s, 0, 0, s->reason[0] ? s->reason : NULL, s->known ? s->ruling.owner : NULL));
}
