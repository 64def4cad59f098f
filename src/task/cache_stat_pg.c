/*
 * cache_stat_pg.c
 *	  Hits and misses of caches, in shared memory of fixed size.
 *
 * A lookup writes nothing, so that it works in read-only transactions and on
 * standbys and leaves no dead rows; what it counts stays whatever becomes of its transaction.
 * When all entries are taken, the one used longest ago makes room.
 *
 * Lock: the block's LWLock, exclusively, for a scan of the entries.
 */
#include "postgres.h"

#include "core/compat.h"
#include "core/shared_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "task/cache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(millrace_cache_statistics);

#define MAX_CACHES 64

typedef struct stat_entry
{
	Oid			database;		/* 0: free */
	int32		cache;
	TimestampTz since;
	TimestampTz last_used;
	tsk_cache_counts counts;
} stat_entry;

typedef struct stat_block
{
	mr_shared_head head;
	stat_entry	entry[MAX_CACHES];
} stat_block;

StaticAssertDecl(sizeof(stat_block) < 10 * 1024, "the block must fit into the slack of shared memory");

static stat_block *block;

void
tsk_cache_stat_init(void)
{
	if (process_shared_preload_libraries_in_progress)
		mr_shared_reserve(sizeof(stat_block));
}

static void
attach(void)
{
	if (block == NULL)
		block = mr_shared_block("millrace caches", sizeof(stat_block));
}

/* The entry of a cache, made if new; the lock is held. */
static stat_entry *
entry_of(int32 cache, TimestampTz now)
{
	stat_entry *oldest = &block->entry[0];

	for (int i = 0; i < MAX_CACHES; i++)
	{
		stat_entry *e = &block->entry[i];

		if (e->database == MyDatabaseId && e->cache == cache)
			return e;
		if (oldest->database != 0 && (e->database == 0 || e->last_used < oldest->last_used))
			oldest = e;
	}
	*oldest = (stat_entry) {.database = MyDatabaseId, .cache = cache, .since = now};
	return oldest;
}

void
tsk_cache_count(int32 cache, const tsk_cache_counts *more)
{
	TimestampTz now = GetCurrentTimestamp();
	stat_entry *e;

	attach();
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	e = entry_of(cache, now);
	e->last_used = now;
	e->counts.exact += more->exact;
	e->counts.semantic += more->semantic;
	e->counts.missed += more->missed;
	e->counts.guarded += more->guarded;
	e->counts.sampled += more->sampled;
	e->counts.put += more->put;
	e->counts.evicted += more->evicted;
	e->counts.cleared += more->cleared;
	e->counts.cost_saved += more->cost_saved;
	e->counts.ms_saved += more->ms_saved;
	e->counts.lookup_us += more->lookup_us;
	LWLockRelease(&block->head.lock);
}

void
tsk_cache_count_anew(int32 cache)
{
	attach();
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_CACHES; i++)
		if (block->entry[i].database == MyDatabaseId && block->entry[i].cache == cache)
			block->entry[i] = (stat_entry) {0};
	LWLockRelease(&block->head.lock);
}

/* millrace.cache_statistics() -> setof record: this database's caches */
Datum
millrace_cache_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	stat_entry *copy = palloc(sizeof(block->entry));

	InitMaterializedSRF(fcinfo, 0);
	attach();
	LWLockAcquire(&block->head.lock, LW_SHARED);
	memcpy(copy, block->entry, sizeof(block->entry));
	LWLockRelease(&block->head.lock);
	for (int i = 0; i < MAX_CACHES; i++)
	{
		const tsk_cache_counts *c = &copy[i].counts;
		Datum		values[] = {
			Int32GetDatum(copy[i].cache), Int64GetDatum(c->exact), Int64GetDatum(c->semantic), Int64GetDatum(c->missed),
			Int64GetDatum(c->guarded), Int64GetDatum(c->sampled), Int64GetDatum(c->put), Int64GetDatum(c->evicted), Int64GetDatum(c->cleared),
			Float8GetDatum(c->cost_saved), Float8GetDatum(c->ms_saved), Float8GetDatum((double) c->lookup_us / 1000.0),
			TimestampTzGetDatum(copy[i].since)
		};
		bool		nulls[lengthof(values)] = {false};

		if (copy[i].database == MyDatabaseId)
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
