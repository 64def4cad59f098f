/*
 * owner_pg.c
 *	  The extension's owner, and our own statements run as that role.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "core/owner_pg.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* Oid of our table millrace.sources, InvalidOid if there is none of ours. */
static Oid
sources_table(Oid extension)
{
	Oid			schema = get_namespace_oid("millrace", true);
	Oid			table = OidIsValid(schema) ? get_relname_relid("sources", schema) : InvalidOid;

	if (!OidIsValid(table) || get_rel_relkind(table) != RELKIND_RELATION ||
		getExtensionOfObject(RelationRelationId, table) != extension)
		return InvalidOid;
	return table;
}

bool
mr_extension_ready(Oid *owner, const char **why)
{
	Oid			extension = get_extension_oid("millrace", true);
	const char *reason = NULL;
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	if (!OidIsValid(extension))
	{
		if (why)
			*why = "extension millrace is not installed in this database";
		return false;
	}
	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (!HeapTupleIsValid(tuple))
		reason = "extension millrace is being dropped";
	else
	{
		bool		null;
		Datum		version = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel), &null);

		if (owner)
			*owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
		if (null || strcmp(TextDatumGetCString(version), MILLRACE_VERSION) != 0)
			reason = "the extension's version is not the library's (" MILLRACE_VERSION
				"): ALTER EXTENSION millrace UPDATE, or restart the server with the new library";
		else if (!OidIsValid(sources_table(extension)))
			reason = "millrace.sources is missing or not the extension's own table";
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (why)
		*why = reason;
	return reason == NULL;
}

void
mr_owner_begin(mr_owner_save *save)
{
	Oid			owner;
	const char *why;

	if (!mr_extension_ready(&owner, &why))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s", why)));
	GetUserIdAndSecContext(&save->user, &save->context);
	save->nest = NewGUCNestLevel();
	SetUserIdAndSecContext(owner, save->context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
mr_owner_end(const mr_owner_save *save)
{
	AtEOXact_GUC(true, save->nest);
	SetUserIdAndSecContext(save->user, save->context);
}

char *
mr_source_binding(void)
{
	return psprintf(UINT64_FORMAT "/%u/%u", GetSystemIdentifier(), MyDatabaseId,
					sources_table(get_extension_oid("millrace", true)));
}
