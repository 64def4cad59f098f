/*
 * enqueue_pg.c
 *	  fetch_object() and put_object(): requests appended to millrace.http_requests,
 *	  in the caller's transaction.
 *
 * A request belongs to the current user, so within a SECURITY DEFINER function
 * to its owner; that role's worker carries it out and calls the function that
 * is to be told, with that role's rights.  Workers are never superusers: what a
 * superuser asks for belongs to the server's owner.
 *
 * Memory: the caller's context.  Locks: none beyond those of an INSERT.
 */
#include "postgres.h"

#include <ctype.h>

#include "access/detoast.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"

#include "core/compat.h"
#include "core/shared_pg.h"
#include "core/spi_pg.h"
#include "task/http.h"
#include "task/requests.h"

PG_FUNCTION_INFO_V1(millrace_fetch_object);
PG_FUNCTION_INFO_V1(millrace_put_object);

/* Whom a request of the current user belongs to. */
static Oid
owner_of(const ForeignServer *server)
{
	Oid			owner = superuser() ? server->owner : GetUserId();

	if (superuser_arg(owner))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_ROLE_SPECIFICATION),
				 errmsg("superuser \"%s\" cannot own a request", GetUserNameFromId(owner, false)),
				 errdetail("Workers, and what they set off, would run with every right."),
				 errhint("SET ROLE to another role first, or give the server an owner that is no superuser.")));
	if (compat_server_aclcheck(server->serverid, owner, ACL_USAGE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, server->servername);
	return owner;
}

/* What stands against there being an object "bucket/key" of this name; NULL: nothing. */
static const char *
against_path(const char *path)
{
	size_t		bucket = strcspn(path, "/");

	if (bucket < 3 || bucket > 63 || strspn(path, "abcdefghijklmnopqrstuvwxyz0123456789.-") != bucket ||
		!isalnum((unsigned char) path[0]) || !isalnum((unsigned char) path[bucket - 1]) || memmem(path, bucket, "..", 2) != NULL)
		return "a path is bucket/key or s3://bucket/key, with a bucket of 3 to 63 lower-case letters, digits, dots and dashes";
	if (path[bucket] == '\0' || path[bucket + 1] == '\0')
		return "a path is bucket/key or s3://bucket/key; there is no key";
	if (strlen(path + bucket + 1) > TSK_MAX_KEY)
		return psprintf("keys have %d bytes at most", TSK_MAX_KEY);
	for (const char *p = path; *p; p++)
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			return "it contains a control character";
	return NULL;
}

/* The qualified name of a function that can be told; ERROR unless owner may call it. */
static char *
check_deliver(const char *name, Oid owner)
{
	static const Oid types[] = {TEXTARRAYOID, TEXTARRAYOID, BYTEAARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
	Oid			function = LookupFuncName(CompatQualifiedName(name), lengthof(types), types, true);

	if (!OidIsValid(function) || get_func_prokind(function) != PROKIND_FUNCTION)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s(text[], text[], bytea[], text[], text[]) does not exist", name),
				 errdetail("It is told tags, paths, contents, SQLSTATEs and errors of finished requests.")));
	if (compat_function_aclcheck(function, owner, ACL_EXECUTE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, name);
	return quote_qualified_identifier(get_namespace_name(get_func_namespace(function)), get_func_name(function));
}

int64
tsk_enqueue(const tsk_request *r, const char *server, const char *owner)
{
	static SPIPlanPtr plan = NULL;
	static const char append[] = "INSERT INTO millrace.http_requests (queue, method, path, content, content_type, deliver, tag, sqlstate, error) "
		"SELECT q.id, $3, $4, $5, $6, $7, $8, CASE WHEN $9 IS NOT NULL THEN '22023' END, $9 "
		"FROM millrace.http_queues q WHERE q.server = $1 AND q.owner = $2 RETURNING id";
	static const Oid types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, BYTEAOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		args[] = {CStringGetTextDatum(server), CStringGetTextDatum(owner), CStringGetTextDatum(r->method), CStringGetTextDatum(r->path),
	r->content, r->content_type, mr_text(r->deliver), r->tag, mr_text(r->fault)};
	bool		null;

	if (mr_run(&plan, append, lengthof(types), types, args) == 0)
	{
		Oid			queue_types[] = {TEXTOID, TEXTOID, TEXTOID};
		Datum		queue[] = {args[0], args[1], CStringGetTextDatum(mr_source_binding())};

		/* Of two at once the second waits for the first. */
		SPI_execute_with_args("WITH q AS (INSERT INTO millrace.http_queues (server, owner, bound_to) VALUES ($1, $2, $3) "
							  "ON CONFLICT (server, owner) DO NOTHING RETURNING id) INSERT INTO millrace.http_progress (queue) SELECT id FROM q",
							  3, queue_types, queue, NULL, false, 0);
		if (mr_run(&plan, append, lengthof(types), types, args) != 1)
			elog(ERROR, "a request could not be appended to its queue");
	}
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
}

/* Check what was asked for, and append it. */
static int64
ask(FunctionCallInfo fcinfo, tsk_request *r, int deliver)
{
	ForeignServer *server;
	Oid			owner;
	const char *given,
			   *against;
	mr_owner_save save;
	int64		id;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("server of a request must not be null")));
	server = mr_find_server(text_to_cstring(PG_GETARG_TEXT_PP(0)), "millrace_http");
	owner = owner_of(server);
	given = PG_ARGISNULL(1) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(1));
	r->path = strncmp(given, "s3://", 5) == 0 ? given + 5 : given;
	against = against_path(r->path);
	if (against)
	{
		/* Who fetches, a trigger perhaps, is told of this as of all else that is wrong with an object. */
		r->fault = psprintf("invalid path \"%s\": %s", given, against);
		if (strcmp(r->method, "GET") != 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", r->fault)));
	}
	r->deliver = PG_ARGISNULL(deliver) ? NULL : check_deliver(text_to_cstring(PG_GETARG_TEXT_PP(deliver)), owner);
	r->tag = PG_ARGISNULL(deliver + 1) ? (Datum) 0 : PG_GETARG_DATUM(deliver + 1);
	mr_spi_begin(&save);
	id = tsk_enqueue(r, server->servername, GetUserNameFromId(owner, false));
	mr_spi_end(&save);
	mr_change_at_commit(MR_CHANGE_HTTP, MyDatabaseId);
	return id;
}

/* millrace.fetch_object(server text, path text, deliver text, tag text = NULL) -> bigint */
Datum
millrace_fetch_object(PG_FUNCTION_ARGS)
{
	tsk_request r = {.method = "GET"};

	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("function \"deliver\", which is told what was fetched, must not be null")));
	PG_RETURN_INT64(ask(fcinfo, &r, 2));
}

/* millrace.put_object(server text, path text, content bytea, content_type text = NULL, deliver text = NULL, tag text = NULL) -> bigint */
Datum
millrace_put_object(PG_FUNCTION_ARGS)
{
	tsk_request r = {.method = "PUT"};

	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("content of an object must not be null")));
	r.content = PG_GETARG_DATUM(2);
	if ((int64) toast_raw_datum_size(r.content) - VARHDRSZ > TSK_MAX_CONTENT)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("content of an object is larger than " INT64_FORMAT " bytes", (int64) TSK_MAX_CONTENT)));
	if (!PG_ARGISNULL(3))
	{
		r.content_type = PG_GETARG_DATUM(3);
		for (const char *p = text_to_cstring(PG_GETARG_TEXT_PP(3)); *p; p++)
			if ((unsigned char) *p < ' ' || (unsigned char) *p >= 0x7f)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("a content type contains a character that no header may have")));
	}
	PG_RETURN_INT64(ask(fcinfo, &r, 4));
}
