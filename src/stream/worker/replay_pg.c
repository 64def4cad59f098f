/*
 * replay_pg.c
 *	  Replays: sources that read their partitions up to an offset, and are
 *	  finished when all have been read as far.
 *
 * Where a partition ends is settled at its first claim and stands in
 * source_offsets.to_offset: what was asked for, and never beyond what the
 * partition held at that time.  Past it, a message counts as the partition's end,
 * so that one whose last offsets hold no message (compaction, transactions)
 * comes to its end, too.
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "core/spi_pg.h"

/* Set the end of a partition that is claimed for the first time, and where it begins beside it. */
void
kfk_bound_replay(const kfk_source *source, int32 partition, int64 end)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, INT4OID, INT8OID};
	Datum		args[] = {CStringGetTextDatum(source->name), Int32GetDatum(partition), Int64GetDatum(end)};

	mr_prepare(&plan, "UPDATE millrace.source_offsets SET to_offset = $3, from_offset = least(coalesce(from_offset, next_offset), $3) "
			   "WHERE source OPERATOR(pg_catalog.=) $1 AND partition OPERATOR(pg_catalog.=) $2 AND owner_pid IS NULL", 3, types);
	SPI_execute_plan(plan, args, NULL, false, 0);
}

/*
 * A message or an end at or past where the partition is to end becomes its end
 * there, once, and no more is fetched of it.  False: it is not of the replay at
 * all, and released.
 */
bool
kfk_cut_message(kfk_client *client, const kfk_source *source, kfk_partition *p, kfk_message *m)
{
	if (m->offset < p->end)
		return true;
	kfk_release(m, 1);
	memset(m, 0, sizeof(*m));
	m->partition = p->partition;
	m->offset = p->end;
	m->end = true;
	if (!p->left)
		kfk_leave(client, source->topic, p->partition);
	p->left = true;
	return p->taken < p->end;
}

/*
 * Is the replay over: are all these partitions at their ends, and those of the
 * other workers?  Then it is marked as finished.  Outside a transaction.
 */
bool
kfk_replay_over(const kfk_source *source, const kfk_partition *partitions, int n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, INT8OID};
	Datum		args[] = {CStringGetTextDatum(source->name), Int64GetDatum(source->generation)};
	mr_owner_save save;
	bool		over;

	if (!source->replay)
		return false;
	for (int i = 0; i < n; i++)
		if (partitions[i].next_offset < partitions[i].end)
			return false;
	mr_begin("finish the replay");
	mr_spi_begin(&save);
	mr_prepare(&plan, "UPDATE millrace.sources s SET state = 'finished', state_since = pg_catalog.now(), generation = generation OPERATOR(pg_catalog.+) 1 "
			   "WHERE name OPERATOR(pg_catalog.=) $1 AND generation OPERATOR(pg_catalog.=) $2 AND state OPERATOR(pg_catalog.=) 'running' "
			   "AND NOT EXISTS (SELECT FROM millrace.source_offsets o WHERE o.source OPERATOR(pg_catalog.=) $1 "
			   "AND (o.owner_pid IS NULL OR o.next_offset OPERATOR(pg_catalog.<) o.to_offset))", 2, types);
	SPI_execute_plan(plan, args, NULL, false, 0);
	over = SPI_processed > 0;
	mr_spi_end(&save);
	mr_commit();
	return over;
}
