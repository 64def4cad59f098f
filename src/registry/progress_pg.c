/*
 * progress_pg.c
 *	  Slots in shared memory for trainings at work.  See progress.h.
 *
 * A slot is claimed by its process, written by it alone and read by anybody,
 * all under the block's LWLock, which is held for plain stores and copies.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "core/compat.h"
#include "core/shared_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "registry/catalog_pg.h"
#include "registry/progress.h"
#include "storage/ipc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(millrace_training_activity);

#define MAX_TRAININGS 32
#define STEP_US 20000			/* between two writes of one process */

static const char *const phase_name[] = {"reading", "training", "evaluating", "tuning", "storing"};

typedef struct training_slot
{
	int			pid;			/* 0: free */
	int			leader;			/* 0: not a worker of a tuning */
	Oid			database;
	Oid			role;
	int			phase;
	char		command[24];
	char		algorithm[32];
	char		model[REG_NAME_SIZE];
	int64		rows;
	int64		done;
	int64		total;			/* 0: not known */
	double		loss;			/* NaN: none */
	TimestampTz started;
	TimestampTz phase_started;
} training_slot;

typedef struct training_block
{
	mr_shared_head head;
	training_slot slot[MAX_TRAININGS];
} training_block;

StaticAssertDecl(sizeof(training_block) < 12 * 1024, "the block must fit into the slack of shared memory");

static training_block *block;
static training_slot *mine;		/* claimed by this process */
static SubTransactionId began_in;
static instr_time last_step;

static void
attach(void)
{
	if (block == NULL)
		block = mr_shared_block("millrace trainings", sizeof(training_block));
}

void
reg_progress_end(void)
{
	if (mine == NULL)
		return;
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	mine->pid = 0;
	LWLockRelease(&block->head.lock);
	mine = NULL;
}

static void
transaction_ended(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_PARALLEL_PRE_COMMIT &&
		event != XACT_EVENT_PRE_PREPARE)
		reg_progress_end();
}

/* An error that somebody catches. */
static void
subtransaction_ended(SubXactEvent event, SubTransactionId mine_id, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && mine_id == began_in)
		reg_progress_end();
}

static void
process_ended(int code, Datum arg)
{
	reg_progress_end();
}

void
reg_progress_init(void)
{
	if (process_shared_preload_libraries_in_progress)
		mr_shared_reserve(sizeof(training_block));
	RegisterXactCallback(transaction_ended, NULL);
	RegisterSubXactCallback(subtransaction_ended, NULL);
}

void
reg_progress_begin(const char *command, const char *model, const char *algorithm, int leader)
{
	static bool watching = false;

	attach();
	reg_progress_end();
	if (!watching)
		before_shmem_exit(process_ended, (Datum) 0);
	watching = true;
	began_in = GetCurrentSubTransactionId();
	INSTR_TIME_SET_ZERO(last_step);
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_TRAININGS && mine == NULL; i++)
		if (block->slot[i].pid == 0)
			mine = &block->slot[i];
	if (mine)
	{
		memset(mine, 0, sizeof(*mine));
		mine->pid = MyProcPid;
		mine->leader = leader;
		mine->database = MyDatabaseId;
		mine->role = GetUserId();
		mine->phase = REG_PHASE_READING;
		mine->loss = NAN;
		mine->started = mine->phase_started = GetCurrentTimestamp();
		strlcpy(mine->command, command, sizeof(mine->command));
		strlcpy(mine->model, model, sizeof(mine->model));
		strlcpy(mine->algorithm, algorithm ? algorithm : "", sizeof(mine->algorithm));
	}
	LWLockRelease(&block->head.lock);
}

void
reg_progress_phase(reg_phase phase)
{
	if (mine == NULL)
		return;
	INSTR_TIME_SET_ZERO(last_step);
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	mine->phase = phase;
	mine->done = mine->total = 0;
	mine->loss = NAN;
	mine->phase_started = GetCurrentTimestamp();
	LWLockRelease(&block->head.lock);
}

void
reg_progress_rows(int64 rows)
{
	if (mine == NULL)
		return;
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	mine->rows = rows;
	LWLockRelease(&block->head.lock);
}

void
reg_progress_step(void *unused, int64_t done, int64_t total, double loss)
{
	instr_time	now,
				since;

	if (mine == NULL)
		return;
	INSTR_TIME_SET_CURRENT(now);
	since = now;
	INSTR_TIME_SUBTRACT(since, last_step);
	if (INSTR_TIME_GET_MICROSEC(since) < STEP_US && done != total)
		return;
	last_step = now;
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	mine->done = done;
	mine->total = total;
	if (!isnan(loss))
		mine->loss = loss;
	LWLockRelease(&block->head.lock);
}

/* A role sees its own and those of roles it is a member of; a monitor, all. */
static bool
may_see(const training_slot *s)
{
	return has_privs_of_role(GetUserId(), s->role) ||
		has_privs_of_role(GetUserId(), get_role_oid("millrace_monitor", false)) ||
		has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
}

/* millrace.training_activity() -> setof record: those of this database */
Datum
millrace_training_activity(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	training_slot *copy = palloc(sizeof(block->slot));

	InitMaterializedSRF(fcinfo, 0);
	attach();
	LWLockAcquire(&block->head.lock, LW_SHARED);
	memcpy(copy, block->slot, sizeof(block->slot));
	LWLockRelease(&block->head.lock);
	for (int i = 0; i < MAX_TRAININGS; i++)
	{
		const training_slot *s = &copy[i];
		char	   *user;
		Datum		values[14];
		bool		nulls[14] = {false};

		if (s->pid == 0 || s->database != MyDatabaseId || !may_see(s))
			continue;
		user = GetUserNameFromId(s->role, true);
		values[0] = Int32GetDatum(s->pid);
		values[1] = Int32GetDatum(s->leader);
		nulls[1] = s->leader == 0;
		values[2] = user ? CStringGetTextDatum(user) : (Datum) 0;
		nulls[2] = user == NULL;
		values[3] = CStringGetTextDatum(s->command);
		values[4] = CStringGetTextDatum(s->model);
		values[5] = CStringGetTextDatum(s->algorithm);
		nulls[5] = s->algorithm[0] == '\0';
		values[6] = CStringGetTextDatum(phase_name[s->phase]);
		values[7] = Int64GetDatum(s->rows);
		values[8] = Int64GetDatum(s->done);
		values[9] = Int64GetDatum(s->total);
		nulls[8] = nulls[9] = s->total == 0;
		values[10] = Float8GetDatum(s->loss);
		nulls[10] = isnan(s->loss);
		values[11] = TimestampTzGetDatum(s->started);
		values[12] = TimestampTzGetDatum(s->phase_started);
		/* As long for each iteration to come as for those done. */
		nulls[13] = s->total == 0 || s->done == 0;
		values[13] = Float8GetDatum(nulls[13] ? 0 :
									1e-6 * (double) (GetCurrentTimestamp() - s->phase_started) *
									(double) (s->total - s->done) / (double) s->done);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
