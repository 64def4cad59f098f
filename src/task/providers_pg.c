/*
 * providers_pg.c
 *	  pause_provider, resume_provider, and what shared memory says of a provider.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/compat.h"
#include "core/server_pg.h"
#include "core/shared_pg.h"
#include "core/spi_pg.h"
#include "task/limits.h"

PG_FUNCTION_INFO_V1(millrace_pause_provider);
PG_FUNCTION_INFO_V1(millrace_resume_provider);
PG_FUNCTION_INFO_V1(millrace_provider_limits);

/* Write whether it is paused, for its owner and members of millrace_admin; false: it was so already. */
static bool
set_paused(FunctionCallInfo fcinfo, bool paused, Datum reason)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, BOOLOID, TEXTOID};
	ForeignServer *server = mr_find_server(text_to_cstring(PG_GETARG_TEXT_PP(0)), "millrace_http");
	Datum		args[] = {0, BoolGetDatum(paused), reason};
	mr_owner_save save;
	bool		changed;

	if (!has_privs_of_role(GetUserId(), server->owner) && !has_privs_of_role(GetUserId(), get_role_oid("millrace_admin", false)))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_FOREIGN_SERVER, server->servername);
	mr_spi_begin(&save);
	args[0] = CStringGetTextDatum(server->servername);
	changed = mr_run(&plan, "INSERT INTO millrace.provider_states AS s (server, paused, reason, since) VALUES ($1, $2, $3, millrace.task_now()) "
					 "ON CONFLICT (server) DO UPDATE SET paused = EXCLUDED.paused, reason = EXCLUDED.reason, since = EXCLUDED.since "
					 "WHERE s.paused <> EXCLUDED.paused OR s.reason IS DISTINCT FROM EXCLUDED.reason", 3, types, args) == 1;
	mr_spi_end(&save);
	mr_change_at_commit(MR_CHANGE_TASKS, MyDatabaseId);
	mr_change_at_commit(MR_CHANGE_CALLS, MyDatabaseId);
	return changed;
}

/* millrace.pause_provider(provider text, reason text = NULL) -> boolean */
Datum
millrace_pause_provider(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the provider to be paused must not be null")));
	PG_RETURN_BOOL(set_paused(fcinfo, true, PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1)));
}

/* millrace.resume_provider(provider text) -> boolean */
Datum
millrace_resume_provider(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(set_paused(fcinfo, false, (Datum) 0));
}

/* millrace.provider_limits(provider oid, tenant text) -> (calls, requests, tokens, rate, breaker, until); NULL: nothing is known */
Datum
millrace_provider_limits(PG_FUNCTION_ARGS)
{
	static const char *const breakers[] = {"closed", "open", "half-open"};
	tsk_limits_state s;
	TupleDesc	desc;
	Datum		values[6];
	bool		nulls[6] = {0};

	if (!tsk_limits_look(PG_GETARG_OID(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), &s))
		PG_RETURN_NULL();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int32GetDatum(s.calls);
	values[1] = Int64GetDatum(s.requests);
	values[2] = Int64GetDatum(s.tokens);
	values[3] = Float8GetDatum(s.rate);
	values[4] = CStringGetTextDatum(breakers[s.breaker]);
	values[5] = TimestampTzGetDatum(s.until);
	nulls[5] = s.until == 0;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
