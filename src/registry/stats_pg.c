/*
 * stats_pg.c
 *	  What models do: calls, rows, seconds, in shared memory of fixed size.
 *
 * A backend counts in its own reg_loaded.  At the end of a transaction, and
 * during a long one after a tenth of a second of work, the sums go into the
 * shared entry of (database, name, version).  A call that has asked for a model
 * and was not through when its (sub)transaction ended is an error of it.  When all entries are taken, the
 * one used longest ago makes room.  Single-row calls of learners take less than
 * reading the clock twice, so one in SAMPLE is timed and counts for all; the
 * CPU's clock is a system call, so one in CPU_SAMPLE.  Those timed also make the
 * histogram of the model's version (core/series_pg.h).
 *
 * Lock: the block's LWLock, exclusively, for a scan of the entries.
 */
#include "postgres.h"

#include <time.h>

#include "access/xact.h"
#include "core/compat.h"
#include "core/shared_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "registry/model.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(millrace_stat_models);
PG_FUNCTION_INFO_V1(millrace_stat_models_reset);

#define MAX_STATS 96
#define SAMPLE 16
#define CPU_SAMPLE 256			/* a multiple */
#define MANY_ROWS 64			/* always timed */
#define FLUSH_US 100000

typedef struct stat_entry
{
	Oid			database;		/* 0: free */
	int32		version;
	char		name[REG_NAME_SIZE];
	reg_counts	counts;
	uint64		file_bytes;
	uint64		work_bytes;
	TimestampTz last_used;
} stat_entry;

typedef struct stat_block
{
	mr_shared_head head;
	TimestampTz reset;
	stat_entry	entry[MAX_STATS];
} stat_block;

StaticAssertDecl(sizeof(stat_block) < 28 * 1024, "the block must fit into the slack of shared memory");

static stat_block *block;
static instr_time started;		/* of the run at hand */
static uint64 cpu_started;
static int	cpu_timed;			/* weight of the run at hand; 0: not timed */

const reg_model *reg_stat_asked = NULL;

/* Nanoseconds of CPU that this thread has used. */
static uint64
cpu_ns(void)
{
	struct timespec t;

	(void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64) t.tv_sec * UINT64CONST(1000000000) + (uint64) t.tv_nsec;
}

void
reg_stat_failed(void)
{
	if (reg_stat_asked)
		reg_stat_asked->loaded->counts.errors++;
	reg_stat_asked = NULL;
}

/* An error that somebody catches. */
static void
subtransaction_ended(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		reg_stat_failed();
}

void
reg_stat_init(void)
{
	if (process_shared_preload_libraries_in_progress)
		mr_shared_reserve(sizeof(stat_block));
	RegisterSubXactCallback(subtransaction_ended, NULL);
}

static void
attach(void)
{
	if (block)
		return;
	block = mr_shared_block("millrace model statistics", sizeof(stat_block));
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	if (block->reset == 0)
		block->reset = GetCurrentTimestamp();
	LWLockRelease(&block->head.lock);
}

void
reg_stat_start(const reg_model *m, int64 rows)
{
	static uint32 tick = 0;

	if (m->kind == REG_ONNX || m->kind >= REG_ROOM || rows >= MANY_ROWS)
		m->loaded->timed = cpu_timed = 1;
	else
	{
		tick++;
		m->loaded->timed = tick % SAMPLE == 0 ? SAMPLE : 0;
		cpu_timed = tick % CPU_SAMPLE == 0 ? CPU_SAMPLE : 0;
	}
	if (m->loaded->timed)
	{
		mr_series_attach();		/* may throw, which reg_stat_flush() may not */
		INSTR_TIME_SET_CURRENT(started);
	}
	if (cpu_timed)
		cpu_started = cpu_ns();
	reg_stat_asked = m;
}

void
reg_stat_end(const reg_model *m, int64 rows)
{
	reg_counts *c = &m->loaded->counts;
	instr_time	now;
	size_t		work;

	if (m->loaded->timed)
	{
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, started);
		c->ns += (uint64) (INSTR_TIME_GET_DOUBLE(now) * 1e9) * m->loaded->timed;
		m->loaded->bucket[mr_bucket(MR_MODEL_SECONDS, INSTR_TIME_GET_DOUBLE(now))] += m->loaded->timed;
	}
	if (cpu_timed)
		c->cpu_ns += (cpu_ns() - cpu_started) * cpu_timed;
	work = reg_scratch_taken();
	c->peak_work = Max(c->peak_work, work);
	reg_stat_asked = NULL;
	c->calls++;
	c->rows += rows;
	if (c->ns > FLUSH_US * UINT64CONST(1000))
		reg_stat_flush(m);
}

/* The entry of a model, made if new; the lock is held. */
static stat_entry *
entry_of(const reg_model *m)
{
	stat_entry *oldest = &block->entry[0];

	for (int i = 0; i < MAX_STATS; i++)
	{
		stat_entry *e = &block->entry[i];

		if (e->database == MyDatabaseId && e->version == m->version && strcmp(e->name, m->name) == 0)
			return e;
		if (oldest->database != 0 && (e->database == 0 || e->last_used < oldest->last_used))
			oldest = e;
	}
	memset(oldest, 0, sizeof(*oldest));
	oldest->database = MyDatabaseId;
	oldest->version = m->version;
	strlcpy(oldest->name, m->name, sizeof(oldest->name));
	return oldest;
}

void
reg_stat_flush(const reg_model *m)
{
	reg_counts *c = &m->loaded->counts;
	stat_entry *e;
	char		version[16];

	if (c->calls == 0 && c->loads == 0 && c->errors == 0)
		return;
	attach();
	if (c->ns > 0)
	{
		snprintf(version, sizeof(version), "%d", m->version);
		mr_observe_many(MR_MODEL_SECONDS, m->name, version, NULL, m->loaded->bucket, 1e-9 * (double) c->ns);
		memset(m->loaded->bucket, 0, sizeof(m->loaded->bucket));
	}
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	e = entry_of(m);
	e->counts.calls += c->calls;
	e->counts.rows += c->rows;
	e->counts.ns += c->ns;
	e->counts.cpu_ns += c->cpu_ns;
	e->counts.errors += c->errors;
	e->counts.peak_work = Max(e->counts.peak_work, c->peak_work);
	e->counts.loads += c->loads;
	e->counts.builds += c->builds;
	e->last_used = GetCurrentTimestamp();
	if (m->loaded->file_bytes)
		e->file_bytes = m->loaded->file_bytes;
	if (m->kind == REG_ONNX && m->loaded->mapped)
		e->work_bytes = nn_workspace(&m->loaded->nn);
	LWLockRelease(&block->head.lock);
	memset(c, 0, sizeof(*c));
}

/* millrace.model_statistics() -> setof record: this database's entries */
Datum
millrace_stat_models(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	stat_entry *copy = palloc(sizeof(stat_entry) * MAX_STATS);
	TimestampTz reset;

	InitMaterializedSRF(fcinfo, 0);
	attach();
	LWLockAcquire(&block->head.lock, LW_SHARED);
	memcpy(copy, block->entry, sizeof(stat_entry) * MAX_STATS);
	reset = block->reset;
	LWLockRelease(&block->head.lock);
	for (int i = 0; i < MAX_STATS; i++)
	{
		stat_entry *e = &copy[i];
		Datum		values[] = {
			CStringGetTextDatum(e->name), Int32GetDatum(e->version),
			Int64GetDatum(e->counts.calls), Int64GetDatum(e->counts.rows),
			Float8GetDatum(1e-9 * (double) e->counts.ns),
			Int64GetDatum(e->counts.loads), Int64GetDatum(e->counts.builds),
			Int64GetDatum(e->file_bytes), Int64GetDatum(e->work_bytes),
			Int64GetDatum(e->counts.errors), Float8GetDatum(1e-9 * (double) e->counts.cpu_ns),
			Int64GetDatum(e->file_bytes + Max(e->work_bytes, e->counts.peak_work)),
			TimestampTzGetDatum(e->last_used), TimestampTzGetDatum(reset)
		};
		bool		nulls[lengthof(values)] = {false};

		if (e->database == MyDatabaseId)
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* millrace.stat_models_reset() -> void: this database's entries */
Datum
millrace_stat_models_reset(PG_FUNCTION_ARGS)
{
	attach();
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_STATS; i++)
		if (block->entry[i].database == MyDatabaseId)
			memset(&block->entry[i], 0, sizeof(stat_entry));
	block->reset = GetCurrentTimestamp();
	LWLockRelease(&block->head.lock);
	PG_RETURN_VOID();
}
