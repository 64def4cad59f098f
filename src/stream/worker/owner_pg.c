/*
 * owner_pg.c
 *	  Becoming the extension's owner for a statement.  See owner.h.
 */
#include "postgres.h"

#include "stream/worker/owner.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* Who owns the tables: the role that created the extension. */
static Oid
tables_owner(void)
{
	Oid			schema = get_namespace_oid("millrace", true);
	Oid			table = OidIsValid(schema) ? get_relname_relid("source_offsets", schema) : InvalidOid;
	HeapTuple	row = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid			owner;

	if (!HeapTupleIsValid(row))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table millrace.source_offsets does not exist")));
	owner = ((Form_pg_class) GETSTRUCT(row))->relowner;
	ReleaseSysCache(row);
	return owner;
}

void
kfk_owner_begin(kfk_owner *save)
{
	Oid			owner = tables_owner();

	GetUserIdAndSecContext(&save->user, &save->context);
	save->guc_level = NewGUCNestLevel();
	SetUserIdAndSecContext(owner, save->context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
kfk_owner_end(kfk_owner *save)
{
	SPI_finish();
	AtEOXact_GUC(false, save->guc_level);
	SetUserIdAndSecContext(save->user, save->context);
}
