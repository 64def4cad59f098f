/*
 * exec_run_pg.c
 *	  One request: its transaction, as the token's role.
 *
 * The role is set as security-definer functions do it, so that SET ROLE and SET SESSION
 * AUTHORIZATION are refused, and stays until the commit is done.  A nest level of settings
 * around all of it is taken back before the commit; so that nothing of a user's runs behind that,
 * deferred triggers are fired and cursors closed before.  What a session keeps beyond its transactions is
 * forgotten, also after an error: temporary tables, prepared statements, cursors, advisory
 * locks, sequences' last values.  The I/O worker gave the request so long; when that is over
 * it is cancelled, and where a function catches that, the process ends a few seconds later.
 *
 * Memory: the caller's context gets the answer.  Locks: those of the user's function, until commit.
 */
#include "postgres.h"

#include "gateway/worker/exec_int.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "core/compat.h"
#include "core/process_pg.h"

#define TRIES 3					/* of a transaction that others came in the way of */
#define OVERTIME_MS 1000		/* a function that catches its cancellation is cancelled again after so long, … */
#define OVERTIMES 5				/* … so often; then the process ends */

static TimeoutId time_is_up;
static volatile sig_atomic_t overtime;	/* times it went off */

static void
end_of_time(void)
{
	if (++overtime > OVERTIMES)
		ProcDiePending = true;
	else
		QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

void
gw_run_init(void)
{
	time_is_up = RegisterTimeout(USER_TIMEOUT, end_of_time);
}

/* ---- what is set for a request, and undone */

static void
set(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* From the beginning of the request. */
static void
limit_time(gw_turn *turn, int limit_ms)
{
	turn->limit_ms = limit_ms;
	if (limit_ms > 0)
		enable_timeout_every(time_is_up, TimestampTzPlusMilliseconds(turn->begun, limit_ms), OVERTIME_MS);
}

static char *
text_of(const gw_request *request, gw_slice slice)
{
	return gw_from_client(gw_text(request, slice), slice.len);
}

/* Forget what a session keeps beyond the transaction; cheap where there is nothing. */
static void
forget(void)
{
	DropAllPreparedStatements();
	ResetSequenceCaches();
	LockReleaseSession(USER_LOCKMETHOD);
	gw_set_request_role(InvalidOid);
}

/* ---- the transaction */

static void
call_function(gw_turn *turn, gw_answer *answer)
{
	const gw_request *request = turn->request;
	char	   *text = text_of(request, request->function);
	uint64		given[GW_MASK_WORDS] = {0};
	Datum		values[FUNC_MAX_ARGS];
	bool		nulls[FUNC_MAX_ARGS];
	Oid			types[FUNC_MAX_ARGS];
	gw_function *f;
	SPIPlanPtr	plan;
	ParamListInfo params;
	int			n = 0;

	turn->stage = GW_FIND;
	f = gw_find_function(text, request->role);
	turn->stage = GW_BIND;
	gw_bind(turn, f, given, values, nulls);
	turn->argument = NULL;
	turn->stage = GW_FIND;
	plan = gw_function_plan(f, given, &n, types);
	params = makeParamList(n);
	for (int i = 0, k = 0; i < f->n; i++)
		if (gw_is_given(given, i))
			params->params[k++] = (ParamExternData)
			{
				.value = values[i],.isnull = nulls[i],.pflags = PARAM_FLAG_CONST,.ptype = f->param[i].type
			};
	turn->stage = GW_RUN;
	gw_run_plan(turn, f, plan, params, answer);
}

/* Let everything of a user's run that the commit would run else. */
static void
finish_early(gw_turn *turn)
{
	turn->stage = GW_RUN;
	PortalHashTableDeleteAll();
	AfterTriggerFireDeferred();
	PortalHashTableDeleteAll();
	if (MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE)
		ResetTempTableNamespace();
}

static void
attempt(gw_turn *turn, gw_answer *answer)
{
	const gw_request *request = turn->request;
	MemoryContext caller = CurrentMemoryContext;
	int			nest;
	int			commit_how;
	int			usual_how = synchronous_commit;
	Oid			user;
	int			context;

	turn->stage = GW_BEGIN;
	turn->argument = NULL;
	StartTransactionCommand();
	MemoryContextSwitchTo(caller);
	GetUserIdAndSecContext(&user, &context);
	XactIsoLevel = XACT_READ_COMMITTED;
	XactReadOnly = request->read_only;
	gw_check_role(request->role);
	nest = NewGUCNestLevel();
	SetUserIdAndSecContext(request->role, SECURITY_LOCAL_USERID_CHANGE);
	gw_apply_settings(request->role);
	if (StatementTimeout > 0 && StatementTimeout < turn->limit_ms)
		limit_time(turn, StatementTimeout);
	set("search_path", "pg_catalog, pg_temp");
	set("request.method", text_of(request, request->method_name));
	set("request.path", text_of(request, request->path));
	set("request.headers", text_of(request, request->headers));
	gw_set_request_role(request->role);
	PushActiveSnapshot(GetTransactionSnapshot());
	call_function(turn, answer);
	finish_early(turn);
	CHECK_FOR_INTERRUPTS();
	turn->stage = GW_COMMIT;
	PopActiveSnapshot();
	commit_how = synchronous_commit;
	AtEOXact_GUC(false, nest);
	synchronous_commit = commit_how;	/* for this commit only */
	CommitTransactionCommand();
	synchronous_commit = usual_how;
	SetUserIdAndSecContext(user, context);
	MemoryContextSwitchTo(caller);
}

/* An error, over; the answer says so.  True: it may be tried again. */
static bool
recover(gw_turn *turn, MemoryContext caller, gw_answer *answer)
{
	ErrorData  *error;

	MemoryContextSwitchTo(caller);
	error = CopyErrorData();
	turn->timed_out = overtime > 0;
	if (gw_error_answer(turn, error, answer))
		EmitErrorReport();
	FlushErrorState();
	AbortOutOfAnyTransaction();
	MemoryContextSwitchTo(caller);
	return (error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE || error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED) && overtime == 0;
}

void
gw_carry_out(const gw_request *request, gw_answer *answer)
{
	MemoryContext caller = CurrentMemoryContext;
	gw_turn		turn = {.request = request,.begun = GetCurrentTimestamp()};
	int			usual_how = synchronous_commit;
	char		activity[256];

	snprintf(activity, sizeof(activity), "%.*s %.*s", (int) request->method_name.len, gw_text(request, request->method_name),
			 (int) Min(request->path.len, 200), gw_text(request, request->path));
	for (char *c = activity; *c; c++)
		if (IS_HIGHBIT_SET(*c))
			*c = '?';
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, activity);
	debug_query_string = activity;
	overtime = 0;
	limit_time(&turn, request->timeout_ms);
	for (volatile int try = 1;; try++)
	{
		volatile bool again = false;

		PG_TRY();
		{
			memset(answer, 0, sizeof(*answer));
			attempt(&turn, answer);
		}
		PG_CATCH();
		{
			again = recover(&turn, caller, answer);
			synchronous_commit = usual_how;
		}
		PG_END_TRY();
		forget();
		if (!again || try == TRIES)
			break;
	}
	disable_timeout(time_is_up, false);
	QueryCancelPending = false;
	debug_query_string = NULL;
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}
