/*
 * queue_pg.c
 *	  pause_requests, resume_requests, cancel_requests, retry_requests.
 *
 * Each is about the queues of one server, as far as they belong to roles that
 * the caller is a member of; of a role that is gone, to superusers.  What is
 * written is written as the extension's owner.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "core/compat.h"
#include "core/server_pg.h"
#include "core/shared_pg.h"
#include "core/spi_pg.h"
#include "task/requests.h"

PG_FUNCTION_INFO_V1(millrace_pause_requests);
PG_FUNCTION_INFO_V1(millrace_resume_requests);
PG_FUNCTION_INFO_V1(millrace_cancel_requests);
PG_FUNCTION_INFO_V1(millrace_retry_requests);

/* Queues of server $1 that are the business of role $2. */
#define MINE \
	"(SELECT q.id FROM millrace.http_queues q LEFT JOIN pg_roles o ON o.rolname = q.owner, pg_roles c " \
	"WHERE q.server = $1 AND c.oid = $2 AND CASE WHEN o.oid IS NULL THEN c.rolsuper ELSE pg_has_role(c.oid, o.oid, 'USAGE') END)"

/* One statement about the queues MINE; $3 is the function's second argument.  How many rows it was about. */
static int64
run(FunctionCallInfo fcinfo, const char *sql, Oid type)
{
	Oid			types[] = {TEXTOID, OIDOID, type};
	Datum		values[] = {0, ObjectIdGetDatum(GetUserId()), 0};
	char		nulls[] = "  n";
	mr_owner_save save;
	int64		n;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the server whose requests are meant must not be null")));
	values[0] = PG_GETARG_DATUM(0);
	if (PG_NARGS() > 1 && !PG_ARGISNULL(1))
	{
		values[2] = PG_GETARG_DATUM(1);
		nulls[2] = ' ';
	}
	mr_spi_begin(&save);
	if (SPI_execute_with_args(sql, 3, types, values, nulls, false, 0) < 0)
		elog(ERROR, "a statement about requests failed");
	n = (int64) SPI_processed;
	mr_spi_end(&save);
	return n;
}

/* millrace.pause_requests(server text, reason text = NULL) -> bigint */
Datum
millrace_pause_requests(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(run(fcinfo, "UPDATE millrace.http_queues SET state = 'paused', reason = $3, state_since = now(), generation = generation + 1 "
						"WHERE id IN " MINE, TEXTOID));
}

/* millrace.resume_requests(server text) -> bigint */
Datum
millrace_resume_requests(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(run(fcinfo, "UPDATE millrace.http_queues SET state = 'running', reason = NULL, state_since = now(), generation = generation + 1, "
						"bound_to = millrace.source_binding() WHERE id IN " MINE, TEXTOID));
}

/* millrace.cancel_requests(server text, ids bigint[] = NULL) -> bigint */
Datum
millrace_cancel_requests(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(run(fcinfo, "DELETE FROM millrace.http_requests WHERE queue IN " MINE " AND ($3 IS NULL OR id = ANY ($3))", INT8ARRAYOID));
}

/* millrace.retry_requests(server text, ids bigint[] = NULL) -> bigint */
Datum
millrace_retry_requests(PG_FUNCTION_ARGS)
{
	int64		n;

	if (!PG_ARGISNULL(0))
		(void) mr_find_server(text_to_cstring(PG_GETARG_TEXT_PP(0)), "millrace_http");
	/* Queues that a restored database has not got. */
	(void) run(fcinfo, "WITH q AS (INSERT INTO millrace.http_queues (server, owner, bound_to) "
			   "SELECT DISTINCT f.server, f.owner, millrace.source_binding() FROM millrace.http_failures f JOIN pg_roles o ON o.rolname = f.owner "
			   "WHERE f.server = $1 AND ($3 IS NULL OR f.id = ANY ($3)) AND pg_has_role($2, o.oid, 'USAGE') "
			   "ON CONFLICT (server, owner) DO NOTHING RETURNING id) INSERT INTO millrace.http_progress (queue) SELECT id FROM q", INT8ARRAYOID);
	n = run(fcinfo, "WITH f AS (DELETE FROM millrace.http_failures d USING millrace.http_queues q "
			"WHERE d.server = $1 AND q.server = d.server AND q.owner = d.owner AND q.id IN " MINE " AND ($3 IS NULL OR d.id = ANY ($3)) "
			"RETURNING d.*, q.id AS queue) "
			"INSERT INTO millrace.http_requests (id, queue, method, path, content, content_type, deliver, tag, created_at) "
			"SELECT id, queue, method, path, content, content_type, deliver, tag, created_at FROM f", INT8ARRAYOID);
	mr_change_at_commit(MR_CHANGE_HTTP, MyDatabaseId);
	PG_RETURN_INT64(n);
}
