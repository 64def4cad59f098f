/*
 * admin_pg.c
 *	  promote_model(), rollback_model(), drop_alias(), drop_model().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "registry/write.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(millrace_promote_model);
PG_FUNCTION_INFO_V1(millrace_rollback_model);
PG_FUNCTION_INFO_V1(millrace_drop_alias);
PG_FUNCTION_INFO_V1(millrace_drop_model);

static char *
text_argument(FunctionCallInfo fcinfo, int argno, const char *what)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what)));
	return text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

/* Raises 42704 unless the version is there and alive.  Within reg_write_begin(). */
static void
check_alive(const char *name, int version)
{
	static const Oid types[] = {TEXTOID, INT4OID};
	Datum		values[] = {CStringGetTextDatum(name), Int32GetDatum(version)};
	bool		isnull;
	Datum		retired;

	if (reg_execute("SELECT retired_at FROM millrace.models WHERE name = $1 AND version = $2",
					2, types, values, NULL, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model \"%s\" has no version %d", name, version)));
	retired = reg_result(0, 1, &isnull);
	if (!isnull)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model \"%s:%d\" was dropped", name, version),
				 errdetail("It was dropped at %s.", timestamptz_to_str(DatumGetTimestampTz(retired)))));
}

/* millrace.promote_model(name text, version int, alias text, reason text) */
Datum
millrace_promote_model(PG_FUNCTION_ARGS)
{
	char	   *name = text_argument(fcinfo, 0, "name");
	char	   *alias = text_argument(fcinfo, 2, "alias");
	char	   *reason = PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3));
	reg_write	w;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("version must not be null")));
	reg_check_name(name, "model name");
	reg_check_name(alias, "alias");
	reg_write_begin(&w, "promote_model()");
	reg_lock_name(name);
	check_alive(name, PG_GETARG_INT32(1));
	reg_set_alias(&w, name, alias, PG_GETARG_INT32(1), reason);
	reg_write_end(&w);
	PG_RETURN_VOID();
}

/*
 * What an alias went back to if it were rolled back; 0: nothing.  Its history
 * is read as a stack: a version set anew lies on top; one set again takes with
 * it what was put above it, so that rolling back twice goes two steps back.  A
 * removed alias goes back to what it stood for.  Dropped versions are skipped.
 * Within reg_write_begin().
 */
static int
version_before(const char *name, const char *alias)
{
	static const Oid types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name), CStringGetTextDatum(alias)};
	int			n = (int) reg_execute("SELECT h.version, m.retired_at IS NULL FROM millrace.alias_history h "
									  "LEFT JOIN millrace.models m ON m.name = h.name AND m.version = h.version "
									  "WHERE h.name = $1 AND h.alias = $2 ORDER BY h.id",
									  2, types, values, NULL, SPI_OK_SELECT);
	struct
	{
		int			version;
		bool		alive;
	}		   *stack = palloc(Max(n, 1) * sizeof(*stack));
	int			depth = 0;
	bool		standing = false;

	for (int i = 0; i < n; i++)
	{
		bool		removed,
					isnull;
		int			version = DatumGetInt32(reg_result(i, 1, &removed)),
					d = 0;

		standing = !removed;
		if (removed)
			continue;
		while (d < depth && stack[d].version != version)
			d++;
		stack[d].version = version;
		stack[d].alive = DatumGetBool(reg_result(i, 2, &isnull));
		depth = d + 1;
	}
	for (int d = depth - 1 - standing; d >= 0; d--)
		if (stack[d].alive)
			return stack[d].version;
	return 0;
}

/* millrace.rollback_model(name text, alias text, reason text) -> int, the version that stands now */
Datum
millrace_rollback_model(PG_FUNCTION_ARGS)
{
	char	   *name = text_argument(fcinfo, 0, "name");
	char	   *alias = text_argument(fcinfo, 1, "alias");
	char	   *reason = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	int			version;
	reg_write	w;

	reg_write_begin(&w, "rollback_model()");
	reg_lock_name(name);
	version = version_before(name, alias);
	if (version == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("alias \"%s\" of model \"%s\" has no earlier version to go back to", alias, name),
				 errhint("SELECT * FROM millrace.model_history WHERE name = '%s' shows what it stood for.", name)));
	reg_set_alias(&w, name, alias, version, reason ? reason : "rollback");
	reg_write_end(&w);
	PG_RETURN_INT32(version);
}

/* millrace.drop_alias(name text, alias text, reason text) */
Datum
millrace_drop_alias(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {TEXTOID, TEXTOID};
	char	   *name = text_argument(fcinfo, 0, "name");
	char	   *alias = text_argument(fcinfo, 1, "alias");
	char	   *reason = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	Datum		values[] = {CStringGetTextDatum(name), CStringGetTextDatum(alias)};
	reg_write	w;

	reg_write_begin(&w, "drop_alias()");
	reg_lock_name(name);
	if (reg_execute("SELECT 1 FROM millrace.model_aliases WHERE name = $1 AND alias = $2",
					2, types, values, NULL, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model \"%s\" has no alias \"%s\"", name, alias)));
	reg_set_alias(&w, name, alias, 0, reason);
	reg_write_end(&w);
	PG_RETURN_VOID();
}

/* A version about to be dropped. */
typedef struct victim
{
	int			version;
	uint8		sha256[32];
	reg_kind	kind;
	bool		bytes_gone;
} victim;

/* The live versions meant; their bytes are locked. */
static int
find_victims(const char *name, int version, victim **out)
{
	static const Oid types[] = {TEXTOID, INT4OID};
	Datum		values[] = {CStringGetTextDatum(name), Int32GetDatum(version)};
	int			n;
	bool		isnull;

	n = (int) reg_execute("SELECT version, sha256, kind FROM millrace.models "
						  "WHERE name = $1 AND retired_at IS NULL AND $2 IN (0, version) ORDER BY version",
						  2, types, values, NULL, SPI_OK_SELECT);
	*out = palloc0(Max(n, 1) * sizeof(victim));
	for (int i = 0; i < n; i++)
	{
		victim	   *v = &(*out)[i];
		char	   *kind;

		v->version = DatumGetInt32(reg_result(i, 1, &isnull));
		memcpy(v->sha256, VARDATA_ANY(DatumGetByteaPP(reg_result(i, 2, &isnull))), 32);
		kind = TextDatumGetCString(reg_result(i, 3, &isnull));
		if (!reg_kind_by_name(kind, &v->kind))
			v->kind = REG_ONNX;
	}
	for (int i = 0; i < n; i++)
		reg_lock_bytes((*out)[i].sha256);
	return n;
}

/* Aliases that stand for the one version, models that run on any of them. */
static void
check_unused(const char *name, int version)
{
	static const Oid types[] = {TEXTOID, INT4OID};
	Datum		values[] = {CStringGetTextDatum(name), Int32GetDatum(version)};
	bool		isnull;

	if (version && reg_execute("SELECT alias FROM millrace.model_aliases WHERE name = $1 AND version = $2 ORDER BY alias",
							   2, types, values, NULL, SPI_OK_SELECT) > 0)
	{
		char	   *alias = TextDatumGetCString(reg_result(0, 1, &isnull));

		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("model \"%s:%d\" is what alias \"%s\" stands for", name, version, alias),
				 errhint("Promote another version first, or remove the alias with millrace.drop_alias().")));
	}
	if (reg_execute("SELECT m.name || ':' || m.version, l.parent_version FROM millrace.model_lineage l "
					"JOIN millrace.models m ON m.name = l.name AND m.version = l.version "
					"WHERE l.parent_name = $1 AND $2 IN (0, l.parent_version) AND l.role = 'backbone' AND m.retired_at IS NULL "
					"ORDER BY m.name, m.version", 2, types, values, NULL, SPI_OK_SELECT) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("model \"%s:%d\" is the backbone of model \"%s\"", name,
						DatumGetInt32(reg_result(0, 2, &isnull)),
						TextDatumGetCString(reg_result(0, 1, &isnull))),
				 errhint("Drop that model first.")));
}

/*
 * millrace.drop_model(name text, version int)
 *
 * The rows stay, with retired_at set: what was predicted with a version keeps
 * its origin.  Bytes that no live version has are deleted.
 */
Datum
millrace_drop_model(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {TEXTOID, INT4OID};
	static const Oid bytea_type[] = {BYTEAOID};
	char	   *name = text_argument(fcinfo, 0, "name");
	int			version = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);
	Datum		values[] = {CStringGetTextDatum(name), Int32GetDatum(version)};
	victim	   *victims;
	int			n;
	reg_write	w;
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext old;

	reg_write_begin(&w, "drop_model()");
	reg_lock_name(name);
	n = find_victims(name, version, &victims);
	if (n == 0 && version)
		check_alive(name, version);
	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model \"%s\" does not exist", name)));
	check_unused(name, version);
	if (version == 0)
	{
		uint64		aliases = reg_execute("SELECT alias FROM millrace.model_aliases WHERE name = $1 ORDER BY alias",
										  1, types, values, NULL, SPI_OK_SELECT);
		SPITupleTable *list = SPI_tuptable;

		for (uint64 i = 0; i < aliases; i++)
			reg_set_alias(&w, name, SPI_getvalue(list->vals[i], list->tupdesc, 1), 0, "the model was dropped");
	}
	reg_execute("UPDATE millrace.models SET retired_at = clock_timestamp() "
				"WHERE name = $1 AND retired_at IS NULL AND $2 IN (0, version)",
				2, types, values, NULL, SPI_OK_UPDATE);
	for (int i = 0; i < n; i++)
	{
		Datum		sha = PointerGetDatum(reg_bytea(victims[i].sha256, 32));

		victims[i].bytes_gone =
			reg_execute("DELETE FROM millrace.model_files f WHERE f.sha256 = $1 AND NOT EXISTS "
						"(SELECT 1 FROM millrace.models m WHERE m.sha256 = $1 AND m.retired_at IS NULL)",
						1, bytea_type, &sha, NULL, SPI_OK_DELETE) > 0;
	}
	old = MemoryContextSwitchTo(caller);
	for (int i = 0; i < n; i++)
		if (victims[i].bytes_gone)
			reg_discard_files(victims[i].sha256);
	MemoryContextSwitchTo(old);
	reg_write_end(&w);
	PG_RETURN_VOID();
}
