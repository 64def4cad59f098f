/*
 * worker_pg.c
 *	  A worker's own slot: claimed at its start, freed at its end.
 */
#include "postgres.h"

#include "core/shared_int_pg.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/timestamp.h"

StaticAssertDecl(sizeof(mr_worker_args) <= BGW_EXTRALEN, "bgw_extra is too small for mr_worker_args");

static mr_worker_args my_args;	/* of this worker, if it is one */
static int	my_slot = -1;		/* claimed by this process */
static uint64 seen_sources;
static uint64 seen_workers;

static void
slot_release(int code, Datum arg)
{
	mr_slot    *s;
	int			parent;
	PGPROC	   *proc;

	if (my_slot < 0)
		return;
	s = &mr_shared->slot[my_slot];
	my_slot = -1;
	LWLockAcquire(&mr_shared->lock, LW_EXCLUSIVE);
	parent = s->parent;
	proc = parent ? BackendPidGetProc(parent) : NULL;
	if (s->i.pid == MyProcPid)
	{
		/* Last words stay, while there is a parent to clear them. */
		s->i.state = proc && s->i.reason[0] && !mr_held_locked(s->i.database) ? MR_SLOT_WAITING : MR_SLOT_FREE;
		s->i.pid = 0;
		mr_text_set(s->i.text, sizeof(s->i.text), "waiting");
	}
	LWLockRelease(&mr_shared->lock);
	if (proc)
		SetLatch(&proc->procLatch);
}

static void
claim_locked(mr_slot *s)
{
	s->i.state = MR_SLOT_RUNNING;
	s->i.pid = MyProcPid;
	s->i.since = MyStartTimestamp;
	my_slot = s->i.slot;
}

const mr_worker_args *
mr_worker_begin(const char *appname)
{
	bool		mine = false;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	memcpy(&my_args, MyBgworkerEntry->bgw_extra, sizeof(my_args));
	if (my_args.magic != MR_ARGS_MAGIC || my_args.slot < 0 || my_args.slot >= MR_MAX_SLOTS)
		ereport(FATAL,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("millrace worker was started without its arguments")));
	mr_shared_attach();
	before_shmem_exit(slot_release, (Datum) 0);
	LWLockAcquire(&mr_shared->lock, LW_EXCLUSIVE);
	if (mr_shared->slot[my_args.slot].i.generation == my_args.generation &&
		mr_shared->slot[my_args.slot].i.state == MR_SLOT_STARTING)
	{
		claim_locked(&mr_shared->slot[my_args.slot]);
		mine = !mr_shared->slot[my_args.slot].i.stopping && !mr_held_locked(my_args.database);
	}
	LWLockRelease(&mr_shared->lock);
	if (!mine)
		proc_exit(0);

	BackgroundWorkerInitializeConnectionByOid(my_args.database, my_args.role, 0);
	pgstat_report_appname(appname);
	seen_sources = mr_change_count(MR_CHANGE_SOURCES, my_args.database);
	seen_workers = mr_change_count(MR_CHANGE_WORKERS, my_args.database);
	mr_worker_state("running", NULL);
	return &my_args;
}

bool
mr_launcher_begin(Oid connected_to)
{
	TimestampTz now = GetCurrentTimestamp();
	mr_slot    *s;
	bool		mine = false;

	mr_shared_attach();
	before_shmem_exit(slot_release, (Datum) 0);
	LWLockAcquire(&mr_shared->lock, LW_EXCLUSIVE);
	s = mr_slot_find_locked(MR_LAUNCHER, connected_to, "", 0);
	if (s == NULL && !mr_held_locked(connected_to) &&
		(s = mr_slot_take_locked(MR_LAUNCHER, connected_to, "", 0, now)) != NULL)
	{
		claim_locked(s);
		s->parent = 0;
		mr_text_set(s->i.text, sizeof(s->i.text), "running");
		mine = true;
	}
	LWLockRelease(&mr_shared->lock);
	return mine;
}

bool
mr_worker_should_stop(void)
{
	return ProcDiePending || my_slot < 0 || mr_shared->slot[my_slot].i.stopping;
}

void
mr_worker_state(const char *text, const char *reason)
{
	mr_slot_info *i;

	if (my_slot < 0)
		return;
	i = &mr_shared->slot[my_slot].i;
	/* Only we write these two, so they may be read without the lock. */
	if (strncmp(i->text, text, sizeof(i->text) - 1) == 0 &&
		strncmp(i->reason, reason ? reason : "", sizeof(i->reason) - 1) == 0)
		return;
	LWLockAcquire(&mr_shared->lock, LW_EXCLUSIVE);
	mr_text_set(i->text, sizeof(i->text), text);
	mr_text_set(i->reason, sizeof(i->reason), reason);
	i->since = GetCurrentTimestamp();
	LWLockRelease(&mr_shared->lock);
}

bool
mr_worker_changed(void)
{
	uint64		sources = mr_change_count(MR_CHANGE_SOURCES, my_args.database);
	uint64		workers = mr_change_count(MR_CHANGE_WORKERS, my_args.database);
	bool		changed = sources != seen_sources || workers != seen_workers;

	seen_sources = sources;
	seen_workers = workers;
	return changed;
}

void
mr_worker_count(mr_count what, uint64 n)
{
	if (my_slot >= 0)
		pg_atomic_fetch_add_u64(&mr_shared->slot[my_slot].counts[what], n);
}

void
mr_worker_gauge(mr_gauge what, int64 value)
{
	if (my_slot >= 0)
		pg_atomic_write_u64(&mr_shared->slot[my_slot].gauges[what], (uint64) value);
}

const char *
mr_worker_name(mr_worker_kind *kind)
{
	if (my_slot < 0)
		return NULL;
	*kind = mr_shared->slot[my_slot].i.kind;
	return my_args.name;
}

const char *
mr_kind_name(mr_worker_kind kind)
{
	static const char *const names[] = {"?", "launcher", "supervisor", "source", "outbox", "http", "tasks", "calls", "gateway", "executor"};

	return names[kind];
}
