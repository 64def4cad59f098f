/*
 * admin_pg.c
 *	  create_source, pause_source, resume_source, rewind_source, drop_source.
 *
 * Who may: a member of the source's owner role.  What is written, millrace.sources
 * and millrace.source_offsets, belongs to the extension's owner and is written as
 * him.  Every change raises the row's generation, so that a worker that holds the
 * old one ends, and the epoch of its partitions, so that it can commit nothing
 * more: that UPDATE waits for the batch in progress, hence when pause_source's
 * transaction commits, nothing moves any longer.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/server_pg.h"
#include "core/spi_pg.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "stream/admin.h"
#include "stream/options.h"
#include "stream/stream.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(millrace_create_source);
PG_FUNCTION_INFO_V1(millrace_pause_source);
PG_FUNCTION_INFO_V1(millrace_resume_source);
PG_FUNCTION_INFO_V1(millrace_rewind_source);
PG_FUNCTION_INFO_V1(millrace_drop_source);

uint64
kfk_run(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls, int expected)
{
	int			ret = SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);

	if (ret != expected)
		elog(ERROR, "unexpected SPI result %d from: %s", ret, sql);
	return SPI_processed;
}

/* ---- who may ---- */

/* Whom a source belongs to if nobody is named: the caller; for a superuser the target's owner. */
static Oid
default_owner(Oid target)
{
	HeapTuple	row;
	Oid			owner;

	if (!superuser())
		return GetUserId();
	row = SearchSysCache1(RELOID, ObjectIdGetDatum(target));
	if (!HeapTupleIsValid(row))
		elog(ERROR, "cache lookup failed for relation %u", target);
	owner = ((Form_pg_class) GETSTRUCT(row))->relowner;
	ReleaseSysCache(row);
	return owner;
}

/* The role whose rights a worker gets. */
void
kfk_check_owner(Oid owner, ForeignServer *server, const char *what)
{
	HeapTuple	row = SearchSysCache1(AUTHOID, ObjectIdGetDatum(owner));
	bool		login = ((Form_pg_authid) GETSTRUCT(row))->rolcanlogin;
	char	   *name = GetUserNameFromId(owner, false);

	ReleaseSysCache(row);
	if (superuser_arg(owner))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_ROLE_SPECIFICATION),
				 errmsg("superuser \"%s\" cannot own %s", name, what),
				 errdetail("Its workers, and what they set off, would run with every right."),
				 errhint("Name another role: options => '{\"owner\": \"role\"}'.")));
	if (!login)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_ROLE_SPECIFICATION),
				 errmsg("role \"%s\" cannot own %s: it cannot log in", name, what),
				 errdetail("Its workers connect as this role."),
				 errhint("ALTER ROLE %s LOGIN CONNECTION LIMIT 0 keeps people out and lets workers in.", quote_identifier(name))));
	if (compat_server_aclcheck(server->serverid, owner, ACL_USAGE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, server->servername);
}

/* And it must be able to write to the target. */
void
kfk_check_may_insert(Oid owner, Oid target)
{
	if (pg_class_aclcheck(target, owner, ACL_INSERT) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s", get_rel_name(target)),
				 errdetail("Role \"%s\", which the source's workers connect as, lacks INSERT on it.", GetUserNameFromId(owner, false))));
}

void
kfk_check_target(Oid target)
{
	char		kind = get_rel_relkind(target);

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", get_rel_name(target))));
	if (get_rel_persistence(target) == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("temporary table \"%s\" cannot be the target of a source", get_rel_name(target)),
				 errdetail("Workers have sessions of their own.")));
}

void
kfk_lock_source(const char *name, Oid caller)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(name)};
	char	   *owner;
	Oid			role;

	if (kfk_run("SELECT owner FROM millrace.sources WHERE name = $1 FOR NO KEY UPDATE", 1, types, values, NULL, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("source \"%s\" does not exist", name),
				 errhint("SELECT name FROM millrace.sources lists them.")));
	owner = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	role = get_role_oid(owner, true);
	/* The owner may have been dropped: then a superuser cleans up. */
	if (OidIsValid(role) ? !has_privs_of_role(caller, role) : !superuser_arg(caller))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for source \"%s\"", name),
				 errdetail("It belongs to role \"%s\".", owner)));
}

void
kfk_lock_offsets(const char *name)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(name)};

	kfk_run("SELECT FROM millrace.source_offsets WHERE source = $1 ORDER BY partition FOR NO KEY UPDATE", 1, types, values, NULL, SPI_OK_SELECT);
}

/* No worker that runs now can commit any more. */
void
kfk_fence_source(const char *name)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(name)};

	kfk_lock_offsets(name);
	kfk_run("UPDATE millrace.source_offsets SET epoch = epoch + 1 WHERE source = $1", 1, types, values, NULL, SPI_OK_UPDATE);
}

/* ---- the functions ---- */

/* millrace.create_source(name text, server text, topic text, target regclass, options jsonb = '{}') -> void */
Datum
millrace_create_source(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *server_name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *topic = text_to_cstring(PG_GETARG_TEXT_PP(2));
	Oid			target = PG_GETARG_OID(3);
	Jsonb	   *options = PG_GETARG_JSONB_P(4);
	ForeignServer *server = mr_find_server(server_name, "millrace_kafka");
	Oid			caller = GetUserId();
	Oid			owner;
	char	   *owner_name;
	char	   *qualified;
	mr_owner_save save;

	if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid source name \"%s\"", name),
				 errdetail("It must have 1 to %d bytes.", NAMEDATALEN - 1)));
	if (topic[0] == '\0' || strlen(topic) > 249)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid topic \"%s\"", topic),
				 errdetail("A Kafka topic has 1 to 249 bytes.")));
	if (get_rel_name(target) == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", target)));
	kfk_check_target(target);
	owner_name = kfk_check_options(&options, target);
	if (owner_name == NULL)
		owner = default_owner(target);
	else
	{
		owner = get_role_oid(owner_name, false);
		if (!has_privs_of_role(caller, owner))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("must be a member of role \"%s\" to create a source for it", owner_name)));
	}
	kfk_check_owner(owner, server, "a source");
	kfk_check_may_insert(owner, target);
	kfk_check_letter_topic(options, server_name, topic, owner);
	kfk_check_select(options, target, owner);
	qualified = quote_qualified_identifier(get_namespace_name(get_rel_namespace(target)), get_rel_name(target));

	mr_spi_begin(&save);
	{
		Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID};
		Datum		values[] = {CStringGetTextDatum(name), CStringGetTextDatum(server_name), CStringGetTextDatum(topic),
			CStringGetTextDatum(qualified), CStringGetTextDatum(GetUserNameFromId(owner, false)),
		JsonbPGetDatum(options), CStringGetTextDatum(mr_source_binding())};

		if (kfk_run("INSERT INTO millrace.sources (name, server, topic, target, owner, options, bound_to) "
				"VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO NOTHING",
				lengthof(types), types, values, NULL, SPI_OK_INSERT) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("source \"%s\" already exists", name)));
	}
	mr_spi_end(&save);
	PG_RETURN_VOID();
}

/* pause and resume: set the state of a source, and fence its workers. */
static void
set_state(const char *name, const char *state, const char *reason)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name), CStringGetTextDatum(state),
	reason ? CStringGetTextDatum(reason) : (Datum) 0, CStringGetTextDatum(mr_source_binding())};
	Oid			caller = GetUserId();
	mr_owner_save save;

	mr_spi_begin(&save);
	kfk_lock_source(name, caller);
	kfk_run("UPDATE millrace.sources SET state = $2, reason = $3, sqlstate = NULL, state_since = pg_catalog.now(), "
		"generation = generation + 1, bound_to = CASE WHEN $2 = 'running' THEN $4 ELSE bound_to END WHERE name = $1",
		lengthof(types), types, values, reason ? NULL : "  n ", SPI_OK_UPDATE);
	kfk_fence_source(name);
	mr_spi_end(&save);
}

/* millrace.pause_source(name text, reason text = NULL) -> void */
Datum
millrace_pause_source(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("name of a source must not be null")));
	set_state(text_to_cstring(PG_GETARG_TEXT_PP(0)), "paused",
			  PG_ARGISNULL(1) ? "paused by a user" : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_RETURN_VOID();
}

/* millrace.resume_source(name text) -> void */
Datum
millrace_resume_source(PG_FUNCTION_ARGS)
{
	set_state(text_to_cstring(PG_GETARG_TEXT_PP(0)), "running", NULL);
	PG_RETURN_VOID();
}

/*
 * Tell what happens to messages whose rows are there already, before the
 * offsets move; arguments as those of rewind_source.  An upsert just repeats them.
 */
static void
warn_of_rows_again(const char *name, int nargs, Oid *types, Datum *values, const char *nulls)
{
	bool		null;

	if (kfk_run("SELECT EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = pg_catalog.to_regclass(s.target) AND indisunique) FROM millrace.sources s "
				"WHERE name = $1 AND NOT options ? 'on_conflict' AND pg_catalog.to_regclass(s.target) IS NOT NULL "
				"AND EXISTS (SELECT FROM millrace.source_offsets o WHERE o.source = s.name AND ($4 IS NULL OR o.partition = $4) AND (o.next_offset > $2 OR o.last_time >= $3))",
				nargs, types, values, nulls, SPI_OK_SELECT) == 0)
		return;
	ereport(NOTICE,
			(errmsg("source \"%s\" will read messages again", name),
			 DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null)) ?
			 errdetail("Its table has a unique key: a message whose row is still there becomes a dead letter.") :
			 errdetail("Its table has no unique key: rows that are still there will be there twice."),
			 errhint("Delete those rows before the source goes on, or read into another table with millrace.replay().")));
}

/*
 * millrace.rewind_source(name text, to_offset bigint = NULL, to_time timestamptz = NULL, partition int = NULL,
 *						  other_cluster bool = false) -> void
 *
 * Exactly one of offset and time.  A partition never read yet gets its row at
 * the first claim; to move it, it must have one.
 */
Datum
millrace_rewind_source(PG_FUNCTION_ARGS)
{
	char	   *name;
	Oid			types[] = {TEXTOID, INT8OID, TIMESTAMPTZOID, INT4OID, BOOLOID};
	Datum		values[5];
	char		nulls[6] = "     ";
	Oid			caller = GetUserId();
	mr_owner_save save;
	uint64		moved;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) == PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("rewind_source needs a source and either an offset or a time"),
				 errhint("For example millrace.rewind_source('s', to_time => now() - interval '1 hour').")));
	if (!PG_ARGISNULL(1) && PG_GETARG_INT64(1) < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("offset must not be negative")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	values[0] = CStringGetTextDatum(name);
	for (int i = 1; i < 5; i++)
	{
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}

	mr_spi_begin(&save);
	kfk_lock_source(name, caller);
	warn_of_rows_again(name, lengthof(types), types, values, nulls);
	kfk_lock_offsets(name);
	moved = kfk_run("UPDATE millrace.source_offsets SET epoch = epoch + 1, next_offset = COALESCE($2, next_offset), rewind_to = $3, "
				"last_offset = NULL, last_time = NULL, last_crc = NULL "
				"WHERE source = $1 AND ($4 IS NULL OR partition = $4)",
				lengthof(types), types, values, nulls, SPI_OK_UPDATE);
	if (moved == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("source \"%s\" has no such partition yet", name),
				 errhint("Partitions appear in millrace.source_offsets once a worker has claimed them; for a new source use option start.")));
	kfk_unmark_letters(name);	/* messages behind the new offset will be read again */
	kfk_run("UPDATE millrace.sources SET generation = generation + 1, cluster_id = CASE WHEN $5 THEN NULL ELSE cluster_id END, "
		"state = CASE WHEN state IN ('halted', 'finished') THEN 'running' ELSE state END, reason = CASE WHEN state = 'halted' THEN NULL ELSE reason END, "
		"sqlstate = NULL WHERE name = $1",
		lengthof(types), types, values, nulls, SPI_OK_UPDATE);
	mr_spi_end(&save);
	PG_RETURN_VOID();
}

/* millrace.drop_source(name text) -> void */
Datum
millrace_drop_source(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(name)};
	Oid			caller = GetUserId();
	mr_owner_save save;

	mr_spi_begin(&save);
	kfk_lock_source(name, caller);
	/* A claim in progress holds the source's row: past this line its offsets can be seen. */
	kfk_run("DELETE FROM millrace.sources WHERE name = $1", 1, types, values, NULL, SPI_OK_DELETE);
	kfk_lock_offsets(name);
	kfk_run("DELETE FROM millrace.source_offsets WHERE source = $1", 1, types, values, NULL, SPI_OK_DELETE);
	kfk_run("DELETE FROM millrace.source_workers WHERE source = $1", 1, types, values, NULL, SPI_OK_DELETE);
	kfk_run("DELETE FROM millrace.source_shares WHERE source = $1", 1, types, values, NULL, SPI_OK_DELETE);
	kfk_unmark_letters(name);
	mr_spi_end(&save);
	PG_RETURN_VOID();
}
