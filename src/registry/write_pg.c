/*
 * write_pg.c
 *	  The frame in which the registry's tables are written.  See write.h.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "registry/write.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

static Oid
owner_of_registry(void)
{
	Relation	rel = relation_open(reg_models_oid(), AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;

	relation_close(rel, NoLock);
	return owner;
}

void
reg_write_begin(reg_write *w, const char *what)
{
	Oid			owner;

	PreventCommandIfReadOnly(what);
	PreventCommandIfParallelMode(what);
	owner = owner_of_registry();
	GetUserIdAndSecContext(&w->user, &w->sec_context);
	w->caller = GetUserNameFromId(w->user, false);
	w->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SetUserIdAndSecContext(owner, w->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	SPI_connect();
}

void
reg_write_end(reg_write *w)
{
	SPI_finish();
	SetUserIdAndSecContext(w->user, w->sec_context);
	AtEOXact_GUC(false, w->guc_level);
}

uint64
reg_execute(const char *sql, int nargs, const Oid *types, const Datum *values,
			const char *nulls, int expected)
{
	int			rc = SPI_execute_with_args(sql, nargs, (Oid *) types, (Datum *) values, nulls, false, 0);

	if (rc != expected)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("registry statement failed: %s", SPI_result_code_string(rc)),
				 errdetail("The statement was: %s", sql)));
	return SPI_processed;
}

Datum
reg_result(int row, int column, bool *isnull)
{
	*isnull = true;
	if (SPI_tuptable == NULL || (uint64) row >= SPI_processed)
		return (Datum) 0;
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

/* Names and contents as objects of class millrace.models; a collision of the
 * hash only makes somebody wait. */
void
reg_lock_name(const char *name)
{
	LockDatabaseObject(reg_models_oid(), hash_bytes((const unsigned char *) name, strlen(name)) | 1, 1, ExclusiveLock);
}

void
reg_lock_bytes(const uint8 sha256[32])
{
	LockDatabaseObject(reg_models_oid(), hash_bytes(sha256, 32) | 1, 2, ExclusiveLock);
}

bytea *
reg_bytea(const void *data, size_t size)
{
	bytea	   *b;

	if (!AllocSizeIsValid(VARHDRSZ + size))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a model of %zu bytes is more than a bytea can hold", size)));
	b = palloc(VARHDRSZ + size);
	SET_VARSIZE(b, VARHDRSZ + size);
	memcpy(VARDATA(b), data, size);
	return b;
}

/*
 * When a change of an alias takes place.  Rows of the history never go back in
 * time, though the clock may; and those of one transaction have one time, since
 * others see the last of them only.
 */
static TimestampTz
time_of_change(const Datum *name_and_alias)
{
	static const Oid types[] = {TEXTOID, TEXTOID};
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz last;
	bool		isnull;

	if (reg_execute("SELECT set_at, xmin FROM millrace.alias_history WHERE name = $1 AND alias = $2 ORDER BY id DESC LIMIT 1",
					2, types, name_and_alias, NULL, SPI_OK_SELECT) == 0)
		return now;
	last = DatumGetTimestampTz(reg_result(0, 1, &isnull));
	if (TransactionIdIsCurrentTransactionId(DatumGetTransactionId(reg_result(0, 2, &isnull))))
		return last;
	return Max(now, last);
}

void
reg_set_alias(const reg_write *w, const char *name, const char *alias, int version, const char *reason)
{
	static const Oid types[] = {TEXTOID, TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[lengthof(types)] = {CStringGetTextDatum(name), CStringGetTextDatum(alias), Int32GetDatum(version)};
	char		nulls[lengthof(types) + 1] = "       ";
	bool		isnull;
	int			previous;

	reg_execute("SELECT version FROM millrace.model_aliases WHERE name = $1 AND alias = $2",
				2, types, values, NULL, SPI_OK_SELECT);
	previous = DatumGetInt32(reg_result(0, 1, &isnull));
	if (isnull)
		previous = 0;
	if (previous == version)
		return;
	values[3] = Int32GetDatum(previous);
	values[4] = CStringGetTextDatum(w->caller);
	values[5] = reason ? CStringGetTextDatum(reason) : (Datum) 0;
	values[6] = TimestampTzGetDatum(time_of_change(values));
	nulls[2] = version ? ' ' : 'n';
	nulls[3] = previous ? ' ' : 'n';
	nulls[5] = reason ? ' ' : 'n';
	if (version == 0)
		reg_execute("DELETE FROM millrace.model_aliases WHERE name = $1 AND alias = $2",
					2, types, values, NULL, SPI_OK_DELETE);
	else
	{
		static const Oid upsert_types[] = {TEXTOID, TEXTOID, INT4OID, TEXTOID, TIMESTAMPTZOID};
		Datum		upsert[] = {values[0], values[1], values[2], values[4], values[6]};

		reg_execute("INSERT INTO millrace.model_aliases (name, alias, version, set_by, set_at) VALUES ($1, $2, $3, $4, $5) "
					"ON CONFLICT (name, alias) DO UPDATE SET version = excluded.version, set_at = excluded.set_at, set_by = excluded.set_by",
					5, upsert_types, upsert, NULL, SPI_OK_INSERT);
	}
	reg_execute("INSERT INTO millrace.alias_history (name, alias, version, previous_version, set_by, reason, set_at) "
				"VALUES ($1, $2, $3, $4, $5, $6, $7)", 7, types, values, nulls, SPI_OK_INSERT);
}
