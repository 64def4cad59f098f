/*
 * claim_pg.c
 *	  Rows of source_offsets and source_workers: partitions claimed, moved on,
 *	  reported about.
 *
 * A claim raises the epoch; a batch's UPDATE names the epoch and the offset it
 * started from.  Whoever holds an older epoch matches no row and commits
 * nothing.  READ COMMITTED looks at the WHERE again after waiting for the row's
 * lock, so there is no window (RELIABILITY C1).
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/failpoint.h"
#include "core/shared_pg.h"
#include "core/spi_pg.h"

#define LOCK_TIMEOUT_MS "10000" /* a claim waits this long for an open batch */
#define ASK_MS 1000				/* a broker has this long to answer; SIGTERM waits as long */

static int64
int8_column(uint64 row, int column, int64 if_null)
{
	bool		null;
	Datum		d = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &null);

	return null ? if_null : DatumGetInt64(d);
}

/* What the offsets table knows of the source before the claim. */
typedef struct known
{
	int32		partition;
	int64		rewind_ms;		/* rewind to this time, -1: no */
	TimestampTz rewind_to;
	bool		unbound;		/* of a replay, and never claimed: it ends at ... */
	int64		to_offset;		/* ... this offset, if it is not -1, or ... */
	int64		to_ms;			/* ... this time */
	int64		stands;			/* of a replay: the source it was made from has read as far; 0: it is gone */
} known;

/* A time as Kafka's milliseconds, those before 1970 as 0. */
static int64
unix_ms(TimestampTz time)
{
	return Max(time / 1000 + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000), 0);
}

static List *
known_partitions(const kfk_source *source)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID};
	Datum		args[] = {CStringGetTextDatum(source->name)};
	MemoryContext caller = CurrentMemoryContext;
	List	   *list = NIL;
	mr_owner_save save;

	mr_spi_begin(&save);
	mr_prepare(&plan, "SELECT o.partition::pg_catalog.int8, o.rewind_to, o.to_offset, o.to_time, o.owner_pid::pg_catalog.int8, l.next_offset "
			   "FROM millrace.source_offsets o JOIN millrace.sources r ON r.name OPERATOR(pg_catalog.=) o.source "
			   "LEFT JOIN millrace.source_offsets l ON l.source OPERATOR(pg_catalog.=) r.replay_of AND l.partition OPERATOR(pg_catalog.=) o.partition "
			   "WHERE o.source OPERATOR(pg_catalog.=) $1", 1, types);
	SPI_execute_plan(plan, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		known	   *k = MemoryContextAllocZero(caller, sizeof(*k));
		MemoryContext old = MemoryContextSwitchTo(caller);
		bool		null;
		Datum		d = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &null);

		k->partition = (int32) int8_column(i, 1, 0);
		k->rewind_to = null ? 0 : DatumGetTimestampTz(d);
		k->rewind_ms = null ? -1 : unix_ms(k->rewind_to);
		k->to_offset = int8_column(i, 3, -1);
		k->to_ms = unix_ms(int8_column(i, 4, 0));
		k->stands = int8_column(i, 6, 0);
		k->unbound = source->replay && int8_column(i, 5, 0) == 0;
		list = lappend(list, k);
		MemoryContextSwitchTo(old);
	}
	mr_spi_end(&save);
	return list;
}

static const known *
find_known(List *rows, int32 partition)
{
	ListCell   *lc;

	foreach(lc, rows)
		if (((known *) lfirst(lc))->partition == partition)
			return lfirst(lc);
	return NULL;
}

/* Remember the cluster and the number of partitions, if they are news. */
static void
note_topic(const kfk_source *source, const char *cluster_id, int partitions)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID, INT4OID};
	Datum		args[] = {CStringGetTextDatum(source->name), cluster_id ? CStringGetTextDatum(cluster_id) : 0, Int32GetDatum(partitions)};
	mr_owner_save save;

	mr_spi_begin(&save);
	mr_prepare(&plan, "UPDATE millrace.sources SET cluster_id = coalesce(cluster_id, $2), partitions = coalesce(partitions, $3) "
			   "WHERE name OPERATOR(pg_catalog.=) $1", 3, types);
	SPI_execute_plan(plan, args, cluster_id ? NULL : " n ", false, 0);
	mr_spi_end(&save);
}

/* The row version that the last statement's RETURNING ctid (its column) made. */
static void
note_version(kfk_partition *p, int column)
{
	bool		null;
	Datum		d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &null);

	p->version = *(ItemPointer) DatumGetPointer(d);
}

/* Raise the epoch of one partition, making its row if there is none. */
static void
claim_row(const kfk_source *source, kfk_partition *p, int64 first_offset, const known *rewinds, int64 rewind_offset)
{
	static SPIPlanPtr insert = NULL;
	static SPIPlanPtr rewind = NULL;
	static SPIPlanPtr update = NULL;
	static const Oid insert_types[] = {TEXTOID, INT4OID, INT8OID};
	static const Oid rewind_types[] = {TEXTOID, INT4OID, INT8OID, TIMESTAMPTZOID};
	static const Oid update_types[] = {TEXTOID, INT4OID, INT4OID, INT8OID};
	Datum		name = CStringGetTextDatum(source->name);
	Datum		insert_args[] = {name, Int32GetDatum(p->partition), Int64GetDatum(first_offset)};
	Datum		rewind_args[] = {name, Int32GetDatum(p->partition), Int64GetDatum(rewind_offset), TimestampTzGetDatum(rewinds ? rewinds->rewind_to : 0)};
	Datum		update_args[] = {name, Int32GetDatum(p->partition), Int32GetDatum(MyProcPid), Int64GetDatum(p->high)};

	mr_prepare(&insert, "INSERT INTO millrace.source_offsets (source, partition, next_offset) "
			   "SELECT name, $2, $3 FROM millrace.sources WHERE name OPERATOR(pg_catalog.=) $1 FOR KEY SHARE "
			   "ON CONFLICT (source, partition) DO NOTHING", 3, insert_types);
	mr_prepare(&rewind, "UPDATE millrace.source_offsets SET next_offset = $3, rewind_to = NULL, last_offset = NULL, last_time = NULL, last_crc = NULL "
			   "WHERE source OPERATOR(pg_catalog.=) $1 AND partition OPERATOR(pg_catalog.=) $2 AND rewind_to OPERATOR(pg_catalog.=) $4", 4, rewind_types);
	mr_prepare(&update, "UPDATE millrace.source_offsets SET epoch = epoch OPERATOR(pg_catalog.+) 1, owner_pid = $3, claimed_at = pg_catalog.now(), high_watermark = $4 "
			   "WHERE source OPERATOR(pg_catalog.=) $1 AND partition OPERATOR(pg_catalog.=) $2 "
			   "RETURNING next_offset, epoch, CASE WHEN last_offset OPERATOR(pg_catalog.<) next_offset THEN last_offset END, last_crc, last_time, ctid, to_offset", 4, update_types);
	SPI_execute_plan(insert, insert_args, NULL, false, 0);
	if (rewinds)
		SPI_execute_plan(rewind, rewind_args, NULL, false, 0);
	if (p->end != PG_INT64_MAX)
		kfk_bound_replay(source, p->partition, p->end);
	SPI_execute_plan(update, update_args, NULL, false, 0);
	if (SPI_processed != 1)
		elog(ERROR, "partition %d of source \"%s\" could not be claimed", p->partition, source->name);
	p->next_offset = int8_column(0, 1, 0);
	p->epoch = int8_column(0, 2, 0);
	p->check_offset = int8_column(0, 3, -1);
	p->check_crc = (uint32) int8_column(0, 4, 0);
	p->check_time = int8_column(0, 5, PG_INT64_MIN);
	note_version(p, 6);
	p->end = int8_column(0, 7, PG_INT64_MAX);
}

/* Where a partition seen for the first time is read from. */
static int64
first_offset(const kfk_source *source, int partition, int64 low, int64 high, int64 at_time)
{
	/* A partition added later: whatever is in it came after the source. */
	if (source->partitions > 0 && partition >= source->partitions)
		return low;
	if (source->start == KFK_START_EARLIEST)
		return low;
	if (source->start == KFK_START_LATEST)
		return high;
	return source->start == KFK_START_TIME ? at_time : source->start;
}

/* The same, asking the brokers; outside a transaction.  False, with the reason, if they do not say now. */
bool
kfk_start_of(const kfk_source *source, kfk_client *client, int partition, int64 *start, char *error, size_t error_size)
{
	int64		low,
				high,
				at_time = 0;
	int			total;

	if (!kfk_describe(client, source->topic, ASK_MS, &total, error, error_size))
		return false;
	if (partition >= total)
	{
		snprintf(error, error_size, "it does not exist yet");
		return false;
	}
	if (!kfk_watermarks(client, source->topic, partition, ASK_MS, &low, &high, error, error_size) ||
		(source->start == KFK_START_TIME && !kfk_offset_at(client, source->topic, partition, source->start_ms, ASK_MS, &at_time, error, error_size)))
		return false;
	*start = first_offset(source, partition, low, high, at_time);
	return true;
}

/*
 * The partitions of a source that several servers share which this worker reads,
 * in the current context: of those listed every workers-th.  NULL: the source is not shared.
 */
Bitmapset *
kfk_my_partitions(const kfk_source *source)
{
	Bitmapset  *mine = NULL;
	int			rank = 0;

	for (int p = -1; source->shared && (p = bms_next_member(source->only, p)) >= 0; rank++)
		if (rank % source->workers == source->worker)
			mine = bms_add_member(mine, p);
	return mine;
}

/* The one after partition p (-1: the first) that this worker reads; a negative number: there is none. */
static int
next_partition(const kfk_source *source, const Bitmapset *mine, int p)
{
	if (source->shared)
	{
		do
			p = bms_next_member(mine, p);
		while (p >= 0 && source->control_topic && !kfk_share_owns(p));
		return p;
	}
	return p < 0 ? source->worker : p + source->workers;
}

/*
 * Claim the worker's partitions.  Outside a transaction; *claimed in the current context, *total the
 * partitions of the topic.  False, with the reason in error, if that is not
 * possible now.  Halts the source where going on would lose or repeat messages.
 */
bool
kfk_claim(const kfk_source *source, kfk_client *client, kfk_partition **claimed, int *n, int *total, char *error, size_t error_size)
{
	char	   *cluster_id;
	List	   *rows;
	ListCell   *lc;
	kfk_partition *p;
	int64	   *low;
	int64	   *rewound;		/* offset of rewind_to; of a partition never seen, that of option start's time */
	const known **rewinds;
	Bitmapset  *my_partitions;
	int			mine = 0;

	if (!kfk_describe(client, source->topic, ASK_MS, total, error, error_size))
		return false;
	CHECK_FOR_INTERRUPTS();
	cluster_id = kfk_cluster_id(client, ASK_MS);
	if (cluster_id != NULL)
	{
		char	   *copy = pstrdup(cluster_id);

		free(cluster_id);
		cluster_id = copy;
		if (source->cluster_id != NULL && strcmp(cluster_id, source->cluster_id) != 0)
			kfk_halt(source, "the brokers belong to Kafka cluster %s, the offsets to cluster %s", cluster_id, source->cluster_id);
	}

	p = palloc0(sizeof(*p) * (size_t) *total);
	low = palloc0(sizeof(*low) * (size_t) *total);
	rewound = palloc0(sizeof(*rewound) * (size_t) *total);
	rewinds = palloc0(sizeof(*rewinds) * (size_t) *total);

	mr_begin("look up offsets");
	rows = known_partitions(source);
	mr_commit();
	foreach(lc, rows)
	{
		const known *k = lfirst(lc);

		if (source->replay && k->partition >= *total)
			kfk_halt(source, "partition %d does not exist any more: the topic was made anew", k->partition);
	}

	/* Ask the brokers first: no transaction is open while we wait for them. */
	my_partitions = kfk_my_partitions(source);
	for (int i = -1; (i = next_partition(source, my_partitions, i)) >= 0 && i < *total;)
	{
		kfk_partition *one = &p[mine];
		const known *k = find_known(rows, i);

		if (source->replay && k == NULL)
			continue;
		one->partition = i;
		one->end = PG_INT64_MAX;
		if (!kfk_watermarks(client, source->topic, i, ASK_MS, &low[mine], &one->high, error, error_size))
			return false;
		CHECK_FOR_INTERRUPTS();
		rewound[mine] = low[mine];
		rewinds[mine] = k != NULL && k->rewind_ms >= 0 ? k : NULL;
		if (rewinds[mine] && k->rewind_ms > 0 &&
			!kfk_offset_at(client, source->topic, i, k->rewind_ms, ASK_MS, &rewound[mine], error, error_size))
			return false;
		if (k == NULL && source->start == KFK_START_TIME &&
			!kfk_offset_at(client, source->topic, i, source->start_ms, ASK_MS, &rewound[mine], error, error_size))
			return false;
		if (k != NULL && k->unbound)
		{
			if (k->stands > one->high)
				kfk_halt(source, "the source has read partition %d up to offset " INT64_FORMAT ", but it ends before " INT64_FORMAT ": the topic was made anew or truncated",
						 i, k->stands, one->high);
			one->end = k->to_offset;
			if (one->end < 0 && !kfk_offset_at(client, source->topic, i, k->to_ms, ASK_MS, &one->end, error, error_size))
				return false;
			one->end = Min(one->end, one->high);
		}
		mine++;
	}

	MR_FAILPOINT("source.before_claim");
	mr_begin("claim partitions");
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT_MS, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	if ((cluster_id != NULL && source->cluster_id == NULL) || source->partitions == 0)
		note_topic(source, cluster_id, *total);
	{
		mr_owner_save save;

		mr_spi_begin(&save);
		for (int i = 0; i < mine; i++)
			claim_row(source, &p[i], first_offset(source, p[i].partition, low[i], p[i].high, rewound[i]), rewinds[i], rewound[i]);
		mr_spi_end(&save);
	}
	MR_FAILPOINT("source.claimed");
	mr_commit();
	MR_FAILPOINT("source.after_claim");

	for (int i = 0; i < mine; i++)
	{
		if (p[i].next_offset >= p[i].end)
			continue;			/* a replay has read it */
		if (p[i].next_offset < low[i])
			kfk_halt(source, "offset " INT64_FORMAT " of partition %d is next, but the broker keeps only those from " INT64_FORMAT " on",
					 p[i].next_offset, p[i].partition, low[i]);
		if (p[i].next_offset > p[i].high && p[i].check_offset < 0)
			kfk_halt(source, "offset " INT64_FORMAT " of partition %d was asked for, but the partition ends before " INT64_FORMAT,
					 p[i].next_offset, p[i].partition, p[i].high);
		if (p[i].next_offset > p[i].high)
			kfk_halt(source, "offset " INT64_FORMAT " of partition %d is next, but the partition ends before " INT64_FORMAT ": the topic was made anew or truncated",
					 p[i].next_offset, p[i].partition, p[i].high);
		if (p[i].check_offset < low[i])
			p[i].check_offset = -1;
	}
	*claimed = p;
	*n = mine;
	return true;
}

/* Have the client read claimed partitions from where they stand.  False, with the reason in error, if it cannot. */
bool
kfk_follow(const kfk_source *source, kfk_client *client, const kfk_partition *p, int n, char *error, size_t error_size)
{
	int32	   *numbers = palloc(sizeof(*numbers) * (size_t) (n + 1));
	int64	   *offsets = palloc(sizeof(*offsets) * (size_t) (n + 1));
	int			assigned = 0;

	for (int i = 0; i < n; i++)
	{
		if (p[i].next_offset >= p[i].end)
			continue;			/* a replay has read it */
		numbers[assigned] = p[i].partition;
		offsets[assigned++] = p[i].check_offset >= 0 ? p[i].check_offset : p[i].next_offset;
	}
	return kfk_assign(client, source->topic, assigned, numbers, offsets, error, error_size);
}

/*
 * After a claim ran into the lock timeout: end the process that holds the
 * partitions, if it is a source worker of this database.  In a transaction.
 */
void
kfk_evict(const kfk_source *source)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, INT4OID, INT4OID, INT4OID, INT4ARRAYOID};
	Bitmapset  *mine = kfk_my_partitions(source);
	int			n = 0;
	Datum	   *numbers = palloc(sizeof(Datum) * (size_t) (bms_num_members(mine) + 1));
	Datum		args[] = {CStringGetTextDatum(source->name), Int32GetDatum(source->worker), Int32GetDatum(source->workers), Int32GetDatum(MyProcPid), 0};
	mr_owner_save save;

	for (int p = -1; (p = bms_next_member(mine, p)) >= 0;)
		numbers[n++] = Int32GetDatum(p);
	args[4] = PointerGetDatum(construct_array(numbers, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	mr_spi_begin(&save);
	mr_prepare(&plan, "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a WHERE a.backend_type OPERATOR(pg_catalog.=) 'millrace source' "
			   "AND a.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() AND a.pid OPERATOR(pg_catalog.<>) $4 "
			   "AND a.pid OPERATOR(pg_catalog.=) ANY (SELECT o.owner_pid FROM millrace.source_offsets o WHERE o.source OPERATOR(pg_catalog.=) $1 "
			   "AND CASE WHEN $5 IS NULL THEN o.partition OPERATOR(pg_catalog.%) $3 OPERATOR(pg_catalog.=) $2 ELSE o.partition OPERATOR(pg_catalog.=) ANY ($5) END)", 5, types);
	SPI_execute_plan(plan, args, source->shared ? NULL : "    n", false, 0);
	mr_spi_end(&save);
}

#define FENCE_SQL "UPDATE millrace.source_offsets SET next_offset = $5, rows = rows OPERATOR(pg_catalog.+) $6, bytes = bytes OPERATOR(pg_catalog.+) $7, " \
	"dead = greatest(dead OPERATOR(pg_catalog.+) $8, 0), skipped = skipped OPERATOR(pg_catalog.+) $9, " \
	"deleted = deleted OPERATOR(pg_catalog.+) $14, batches = batches OPERATOR(pg_catalog.+) 1, " \
	"last_offset = coalesce($10, last_offset), last_time = CASE WHEN $10 IS NULL THEN last_time ELSE $11 END, last_crc = coalesce($12, last_crc), " \
	"high_watermark = coalesce($13, high_watermark), last_batch_at = pg_catalog.now() " \
	"WHERE %s source OPERATOR(pg_catalog.=) $1 AND partition OPERATOR(pg_catalog.=) $2 " \
	"AND epoch OPERATOR(pg_catalog.=) $3 AND next_offset OPERATOR(pg_catalog.=) $4 RETURNING ctid"

/*
 * Move a partition on by what the transaction holds for it, if it is still
 * ours and stands where we think.  Within mr_spi_begin().  False: fenced.
 *
 * The row is looked for where we left it and only then by its key: as long as
 * somebody holds an old snapshot, the index leads through every version since.
 */
bool
kfk_fence(const kfk_source *source, kfk_partition *p, const kfk_item *last)
{
	static SPIPlanPtr by_version = NULL;
	static SPIPlanPtr by_key = NULL;
	static const Oid types[] = {TEXTOID, INT4OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
	INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, TIDOID};
	Datum		args[] = {CStringGetTextDatum(source->name), Int32GetDatum(p->partition), Int64GetDatum(p->epoch),
		Int64GetDatum(p->next_offset), Int64GetDatum(p->new_offset), Int64GetDatum(p->rows), Int64GetDatum(p->bytes),
	Int64GetDatum(p->dead), Int64GetDatum(p->skipped), 0, 0, 0, Int64GetDatum(p->high), Int64GetDatum(p->deleted), PointerGetDatum(&p->version)};
	char		nulls[] = "         nnn   ";

	if (last != NULL)
	{
		const kfk_message *m = &last->message;

		args[9] = Int64GetDatum(m->offset);
		args[10] = TimestampTzGetDatum(kfk_time(m->time_ms));
		args[11] = Int64GetDatum((int64) kfk_message_crc(m));
		nulls[9] = nulls[11] = ' ';
		nulls[10] = m->time_ms >= 0 ? ' ' : 'n';
	}
	if (p->high < 0)
		nulls[12] = 'n';
	if (by_key == NULL)
	{
		mr_prepare(&by_version, psprintf(FENCE_SQL, "ctid OPERATOR(pg_catalog.=) $15 AND"), 15, types);
		mr_prepare(&by_key, psprintf(FENCE_SQL, ""), 14, types);
	}
	SPI_execute_plan(by_version, args, nulls, false, 0);
	if (SPI_processed != 1)
		SPI_execute_plan(by_key, args, nulls, false, 0);
	if (SPI_processed != 1)
		return false;
	note_version(p, 1);
	return true;
}

/*
 * Ask the same of a partition's row, and lock it until the transaction ends;
 * kfk_fence() moves it on then.  Within mr_spi_begin().
 */
bool
kfk_hold(const kfk_source *source, kfk_partition *p)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, INT4OID, INT8OID, INT8OID};
	Datum		args[] = {CStringGetTextDatum(source->name), Int32GetDatum(p->partition), Int64GetDatum(p->epoch), Int64GetDatum(p->next_offset)};

	mr_prepare(&plan, "SELECT ctid FROM millrace.source_offsets WHERE source OPERATOR(pg_catalog.=) $1 AND partition OPERATOR(pg_catalog.=) $2 "
			   "AND epoch OPERATOR(pg_catalog.=) $3 AND next_offset OPERATOR(pg_catalog.=) $4 FOR NO KEY UPDATE", 4, types);
	SPI_execute_plan(plan, args, NULL, false, 0);
	if (SPI_processed != 1)
		return false;
	note_version(p, 1);
	return true;
}

/* Kafka's milliseconds since 1970 as a timestamp; one before them all if there is none. */
TimestampTz
kfk_time(int64 ms)
{
	if (ms < 0)
		return PG_INT64_MIN;
	if (ms > INT64CONST(250000000000000))
		return DT_NOEND;
	return (ms - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000)) * 1000;
}

/* CRC-32C of a message's key and value. */
uint32
kfk_message_crc(const kfk_message *m)
{
	return kfk_crc32c(kfk_crc32c(0, m->key, m->key_len), m->value, m->value_len);
}

static int64 errors = 0;			/* told of since the worker started */

static void
write_state(const void *subject, const char *state, const char *sqlstate, const char *reason)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, INT4OID, INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, INT8OID};
	const kfk_source *source = subject;
	Datum		args[] = {CStringGetTextDatum(source->name), Int32GetDatum(source->worker), Int32GetDatum(source->workers),
		Int32GetDatum(MyProcPid), CStringGetTextDatum(state), mr_text(reason), mr_text(sqlstate), Int64GetDatum(errors)};
	mr_owner_save save;

	mr_spi_begin(&save);
	mr_run(&plan, "INSERT INTO millrace.source_workers AS w (source, worker, workers, pid, state, reason, sqlstate, errors, last_error, last_error_at) "
		   "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $7 IS NOT NULL THEN $6 END, CASE WHEN $7 IS NOT NULL THEN pg_catalog.now() END) "
		   "ON CONFLICT (source, worker) DO UPDATE SET workers = $3, pid = $4, state = $5, reason = $6, sqlstate = $7, errors = $8, "
		   "since = CASE WHEN w.state OPERATOR(pg_catalog.=) $5 AND w.pid OPERATOR(pg_catalog.=) $4 THEN w.since ELSE pg_catalog.now() END, "
		   "last_error = coalesce(excluded.last_error, w.last_error), last_error_at = coalesce(excluded.last_error_at, w.last_error_at)", lengthof(types), types, args);
	mr_spi_end(&save);
}

/* Say in source_workers what this worker is doing, and why; outside a transaction. */
void
kfk_report(const kfk_source *source, const char *state, const char *sqlstate, const char *reason)
{
	errors += sqlstate != NULL;
	mr_tell(psprintf("source \"%s\", worker %d", source->name, source->worker),
			psprintf("millrace source %s/%d", source->name, source->worker), source, write_state, state, sqlstate, reason);
}

/*
 * Halt the source, with the reason for its users, and end this worker; sqlstate
 * may be NULL.  Outside a transaction.
 */
void
kfk_stop(const kfk_source *source, const char *sqlstate, const char *reason)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID, INT8OID, TEXTOID};
	Datum		args[] = {CStringGetTextDatum(source->name), CStringGetTextDatum(reason), Int64GetDatum(source->generation), mr_text(sqlstate)};
	mr_owner_save save;

	mr_begin("halt");
	mr_spi_begin(&save);
	mr_run(&plan, "UPDATE millrace.sources SET state = 'halted', reason = $2, sqlstate = $4, state_since = pg_catalog.now(), generation = generation OPERATOR(pg_catalog.+) 1 "
		   "WHERE name OPERATOR(pg_catalog.=) $1 AND generation OPERATOR(pg_catalog.=) $3 AND state OPERATOR(pg_catalog.=) 'running'", lengthof(types), types, args);
	mr_spi_end(&save);
	mr_commit();
	kfk_report(source, "stopped", sqlstate ? sqlstate : "55000", reason);
	proc_exit(0);
}

void
kfk_halt(const kfk_source *source, const char *fmt,...)
{
	va_list		list;
	char		reason[1024];

	va_start(list, fmt);
	vsnprintf(reason, sizeof(reason), fmt, list);
	va_end(list);
	kfk_stop(source, NULL, reason);
}
