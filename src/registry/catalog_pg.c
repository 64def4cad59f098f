/*
 * catalog_pg.c
 *	  Index scans over the registry's tables.  See catalog_pg.h.
 *
 * Locks: AccessShareLock on table and index, kept to the end of the statement's
 * transaction like any reader's, so that DROP EXTENSION waits for us.
 */
#include "postgres.h"

#include "registry/catalog_pg.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* Column numbers: the order in tables.sql, which may only grow at the end. */
enum
{
	models_name = 1,
	models_version,
	models_kind,
	models_sha256,
	models_size,
	models_spec,
	models_labels,
	models_metrics,
	models_n_inputs,
	models_n_outputs,
	models_origin,
	models_training,
	models_created_at,
	models_created_by,
	models_retired_at
};
enum
{
	files_sha256 = 1,
	files_path,
	files_chunk_no,
	files_bytes
};
enum
{
	aliases_name = 1,
	aliases_alias,
	aliases_version
};

Oid
reg_relation_oid(const char *relation)
{
	Oid			schema = get_namespace_oid("millrace", true);
	Oid			oid = OidIsValid(schema) ? get_relname_relid(relation, schema) : InvalidOid;

	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"millrace.%s\" does not exist", relation),
				 errhint("Run CREATE EXTENSION millrace in this database.")));
	return oid;
}

Oid
reg_models_oid(void)
{
	return reg_relation_oid("models");
}

Oid
reg_aliases_oid(void)
{
	return reg_relation_oid("model_aliases");
}

/* A copied value of the tuple's column, detoasted; NULL for null. */
static void *
column(HeapTuple tuple, Relation rel, int attno)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, attno, RelationGetDescr(rel), &isnull);

	return isnull ? NULL : PG_DETOAST_DATUM_COPY(value);
}

static Datum
fixed_column(HeapTuple tuple, Relation rel, int attno, bool *isnull)
{
	return heap_getattr(tuple, attno, RelationGetDescr(rel), isnull);
}

static void
fill_row(HeapTuple tuple, Relation rel, reg_row *row)
{
	bool		isnull;
	bytea	   *sha = column(tuple, rel, models_sha256);

	row->name = text_to_cstring(column(tuple, rel, models_name));
	row->version = DatumGetInt32(fixed_column(tuple, rel, models_version, &isnull));
	row->kind = text_to_cstring(column(tuple, rel, models_kind));
	memcpy(row->sha256, VARDATA(sha), sizeof(row->sha256));
	row->spec = column(tuple, rel, models_spec);
	row->labels = column(tuple, rel, models_labels);
	row->n_inputs = DatumGetInt32(fixed_column(tuple, rel, models_n_inputs, &isnull));
	row->n_outputs = DatumGetInt32(fixed_column(tuple, rel, models_n_outputs, &isnull));
	row->retired_at = DatumGetTimestampTz(fixed_column(tuple, rel, models_retired_at, &isnull));
	row->retired = !isnull;
}

bool
reg_read_version(const char *name, int version, Snapshot snapshot, reg_row *row)
{
	Relation	rel = table_open(reg_models_oid(), AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], models_name, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(name));
	ScanKeyInit(&keys[1], models_version, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(version));
	scan = systable_beginscan(rel, reg_relation_oid("models_pkey"), true, snapshot, 2, keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		fill_row(tuple, rel, row);
	systable_endscan(scan);
	table_close(rel, NoLock);
	return HeapTupleIsValid(tuple);
}

bool
reg_read_newest(const char *name, Snapshot snapshot, reg_row *row, bool *any)
{
	Relation	rel = table_open(reg_models_oid(), AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	int			newest = 0;

	*any = false;
	ScanKeyInit(&key, models_name, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(name));
	scan = systable_beginscan(rel, reg_relation_oid("models_pkey"), true, snapshot, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		alive;
		bool		isnull;
		int			version = DatumGetInt32(fixed_column(tuple, rel, models_version, &isnull));

		(void) fixed_column(tuple, rel, models_retired_at, &alive);
		*any = true;
		if (alive && version > newest)
			newest = version;
	}
	systable_endscan(scan);
	table_close(rel, NoLock);
	return newest > 0 && reg_read_version(name, newest, snapshot, row);
}

int
reg_read_alias(const char *name, const char *alias, Snapshot snapshot)
{
	Relation	rel = table_open(reg_aliases_oid(), AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	int			version = 0;
	bool		isnull;

	ScanKeyInit(&keys[0], aliases_name, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(name));
	ScanKeyInit(&keys[1], aliases_alias, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(alias));
	scan = systable_beginscan(rel, reg_relation_oid("model_aliases_pkey"), true, snapshot, 2, keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		version = DatumGetInt32(fixed_column(tuple, rel, aliases_version, &isnull));
	systable_endscan(scan);
	table_close(rel, NoLock);
	return version;
}

bool
reg_read_bytes(const uint8 sha256[32], Snapshot snapshot, uint8 **bytes, size_t *size)
{
	Relation	rel = table_open(reg_relation_oid("model_files"), AccessShareLock);
	Relation	index = index_open(reg_relation_oid("model_files_pkey"), AccessShareLock);
	bytea	   *sha = palloc(VARHDRSZ + 32);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	size_t		capacity = 0;
	int			chunk = 0;

	SET_VARSIZE(sha, VARHDRSZ + 32);
	memcpy(VARDATA(sha), sha256, 32);
	*bytes = NULL;
	*size = 0;
	ScanKeyInit(&keys[0], files_sha256, BTEqualStrategyNumber, F_BYTEAEQ, PointerGetDatum(sha));
	ScanKeyInit(&keys[1], files_path, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(""));
	scan = systable_beginscan_ordered(rel, index, snapshot, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection)))
	{
		bool		isnull;
		Datum		value;
		bytea	   *part;
		size_t		n;

		CHECK_FOR_INTERRUPTS();
		if (DatumGetInt32(fixed_column(tuple, rel, files_chunk_no, &isnull)) != chunk++)
			break;				/* a chunk is missing: the caller's check of the sha tells */
		value = fixed_column(tuple, rel, files_bytes, &isnull);
		part = DatumGetByteaPP(value);
		n = VARSIZE_ANY_EXHDR(part);
		if (*size + n > capacity)
		{
			capacity = Max(*size + n, *size * 2);
			*bytes = *bytes ? repalloc_huge(*bytes, capacity) :
				MemoryContextAllocHuge(CurrentMemoryContext, capacity);
		}
		memcpy(*bytes + *size, VARDATA_ANY(part), n);
		*size += n;
		if ((Pointer) part != DatumGetPointer(value))
			pfree(part);
	}
	systable_endscan_ordered(scan);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return *bytes != NULL;
}
