/*
 * exec_role_pg.c
 *	  The role of a request, and what ALTER ROLE set for it.
 *
 * A session of the role would begin with those settings; so does a request, but for search_path, which is the same for
 * all.  The catalogue they stand in tells nobody of changes: it is read anew every few seconds.
 *
 * Memory: a table of roles in TopMemoryContext, emptied when it has grown.
 */
#include "postgres.h"

#include "gateway/worker/exec_int.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_db_role_setting.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#define READ_AGAIN_MS 5000
#define MAX_ROLES 1000

typedef struct role_settings
{
	Oid			role;
	TimestampTz read_at;
	int			n;
	char	  **setting;		/* name=value, in the order they are made */
} role_settings;

static MemoryContext roles_cxt;
static HTAB *roles;

/* Those of one row, in roles_cxt. */
static void
read_row(role_settings *s, Oid database)
{
	Relation	rel = table_open(DbRoleSettingRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	row;

	ScanKeyInit(&keys[0], Anum_pg_db_role_setting_setdatabase, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(database));
	ScanKeyInit(&keys[1], Anum_pg_db_role_setting_setrole, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(s->role));
	scan = systable_beginscan(rel, DbRoleSettingDatidRolidIndexId, true, NULL, lengthof(keys), keys);
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		bool		null;
		Datum		config = heap_getattr(row, Anum_pg_db_role_setting_setconfig, RelationGetDescr(rel), &null);
		Datum	   *texts;
		int			n;

		if (null)
			continue;
		deconstruct_array(DatumGetArrayTypeP(config), TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &n);
		s->setting = s->setting ? repalloc(s->setting, sizeof(char *) * (s->n + n)) : MemoryContextAlloc(roles_cxt, sizeof(char *) * Max(n, 1));
		for (int i = 0; i < n; i++)
			s->setting[s->n++] = MemoryContextStrdup(roles_cxt, TextDatumGetCString(texts[i]));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static role_settings *
find_settings(Oid role)
{
	TimestampTz now = GetCurrentTransactionStartTimestamp();
	role_settings *s;
	bool		found;

	if (roles && hash_get_num_entries(roles) >= MAX_ROLES)
	{
		MemoryContextDelete(roles_cxt);
		roles = NULL;
	}
	if (roles == NULL)
	{
		HASHCTL		how = {.keysize = sizeof(Oid),.entrysize = sizeof(role_settings)};

		roles_cxt = AllocSetContextCreate(TopMemoryContext, "millrace roles", ALLOCSET_SMALL_SIZES);
		how.hcxt = roles_cxt;
		roles = hash_create("millrace roles", 32, &how, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	s = hash_search(roles, &role, HASH_ENTER, &found);
	if (found && s->read_at != 0 && now - s->read_at < READ_AGAIN_MS * INT64CONST(1000))
		return s;
	if (found && s->setting)
	{
		for (int i = 0; i < s->n; i++)
			pfree(s->setting[i]);
		pfree(s->setting);
	}
	s->read_at = 0;				/* an ERROR: not read */
	s->n = 0;
	s->setting = NULL;
	read_row(s, InvalidOid);
	read_row(s, MyDatabaseId);
	s->read_at = now;
	return s;
}

void
gw_check_role(Oid role)
{
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)) || superuser_arg(role))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("the token's role is gone or a superuser")));
}

/* In the request's nest of settings, as the role.  What cannot be set now, or not by a function (role), is left out. */
void
gw_apply_settings(Oid role)
{
	const role_settings *s = find_settings(role);

	for (int i = 0; i < s->n; i++)
	{
		char	   *name;
		char	   *value;

		ParseLongOption(s->setting[i], &name, &value);
		if (value)
			(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, DEBUG1, false);
		free(name);
		free(value);
	}
}
