/*
 * score_catalog_pg.c
 *	  Rows that scores depend on, read by index scans as the registry reads its
 *	  own: no SPI, no privilege of the caller, fine in parallel workers.
 *
 * Locks: AccessShareLock on the tables, kept to the end of the transaction.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "registry/catalog_pg.h"
#include "text/score_pg.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Column numbers: the order in tables_score.sql, which may only grow at the end. */
enum
{
	idf_name = 1,
	idf_model,
	idf_vocabulary,
	idf_documents,
	idf_token_ids,
	idf_counts
};
enum
{
	baselines_name = 1,
	baselines_version,
	baselines_layer,
	baselines_precision,
	baselines_recall,
	baselines_f1
};
enum
{
	calibrations_name = 1,
	calibrations_version,
	calibrations_layer,
	calibrations_idf,
	calibrations_raw = 8,
	calibrations_calibrated
};
enum
{
	phrases_phrase = 1,
	phrases_refuses
};

/* The row of a primary key, copied, and its descriptor; NULL: none. */
static HeapTuple
read_row(const char *table, const char *index, int nkeys, ScanKey keys, TupleDesc *desc)
{
	Relation	rel = table_open(reg_relation_oid(table), AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, reg_relation_oid(index), true,
										  ActiveSnapshotSet() ? GetActiveSnapshot() : NULL, nkeys, keys);
	HeapTuple	tuple = systable_getnext(scan);

	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	*desc = CreateTupleDescCopy(RelationGetDescr(rel));
	systable_endscan(scan);
	table_close(rel, NoLock);
	return tuple;
}

static Datum
column(HeapTuple tuple, TupleDesc desc, int attno)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, attno, desc, &isnull);

	if (isnull)
		elog(ERROR, "column %d is null", attno);
	return value;
}

/* Elements of an array without nulls, of one fixed-size type. */
static void *
elements(HeapTuple tuple, TupleDesc desc, int attno, Oid type, int *n)
{
	ArrayType  *array = DatumGetArrayTypeP(column(tuple, desc, attno));

	if (ARR_NDIM(array) > 1 || ARR_HASNULL(array) || ARR_ELEMTYPE(array) != type)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("an array of millrace's own is damaged")));
	*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	return ARR_DATA_PTR(array);
}

bool
txt_read_idf(const char *name, txt_idf *out, char **model, int *vocabulary)
{
	ScanKeyData key;
	TupleDesc	desc;
	HeapTuple	tuple;
	const int32 *id,
			   *count;
	float	   *weight;
	double		documents;
	int			n,
				n_counts;

	ScanKeyInit(&key, idf_name, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(name));
	tuple = read_row("score_idf", "score_idf_pkey", 1, &key, &desc);
	if (tuple == NULL)
		return false;
	*model = text_to_cstring(DatumGetTextPP(column(tuple, desc, idf_model)));
	*vocabulary = DatumGetInt32(column(tuple, desc, idf_vocabulary));
	documents = (double) DatumGetInt64(column(tuple, desc, idf_documents));
	id = elements(tuple, desc, idf_token_ids, INT4OID, &n);
	count = elements(tuple, desc, idf_counts, INT4OID, &n_counts);
	out->n = *vocabulary;
	out->unseen = (float) log(documents + 1);
	out->weight = weight = palloc(Max(out->n, 1) * sizeof(float));
	for (int i = 0; i < out->n; i++)
		weight[i] = out->unseen;
	for (int i = 0; i < Min(n, n_counts); i++)
		if (id[i] >= 0 && id[i] < out->n)
			weight[id[i]] = (float) log((documents + 1) / (count[i] + 1.0));
	return true;
}

static void
model_keys(ScanKey keys, const char *name, int version, int layer)
{
	ScanKeyInit(&keys[0], baselines_name, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(name));
	ScanKeyInit(&keys[1], baselines_version, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(version));
	ScanKeyInit(&keys[2], baselines_layer, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(layer));
}

bool
txt_read_baseline(const char *name, int version, int layer, txt_score *out)
{
	ScanKeyData keys[3];
	TupleDesc	desc;
	HeapTuple	tuple;

	model_keys(keys, name, version, layer);
	tuple = read_row("score_baselines", "score_baselines_pkey", 3, keys, &desc);
	if (tuple == NULL)
		return false;
	*out = (txt_score) {
		(float) DatumGetFloat8(column(tuple, desc, baselines_precision)),
			(float) DatumGetFloat8(column(tuple, desc, baselines_recall)),
			(float) DatumGetFloat8(column(tuple, desc, baselines_f1))
	};
	return true;
}

bool
txt_read_scale(const char *name, int version, int layer, const char *idf, txt_scale *out)
{
	ScanKeyData keys[4];
	TupleDesc	desc;
	HeapTuple	tuple;
	const double *raw,
			   *calibrated;
	int			n;

	model_keys(keys, name, version, layer);
	ScanKeyInit(&keys[3], calibrations_idf, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(idf));
	tuple = read_row("score_calibrations", "score_calibrations_pkey", 4, keys, &desc);
	if (tuple == NULL)
		return false;
	raw = elements(tuple, desc, calibrations_raw, FLOAT8OID, &out->n);
	calibrated = elements(tuple, desc, calibrations_calibrated, FLOAT8OID, &n);
	if (n != out->n || n > TXT_MAX_KNOTS)
		out->n = 0;
	memcpy(out->raw, raw, out->n * sizeof(double));
	memcpy(out->calibrated, calibrated, out->n * sizeof(double));
	if (!txt_scale_is_valid(out))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the calibration of model \"%s:%d\" in millrace.score_calibrations is damaged", name, version)));
	return true;
}

int
txt_read_refusal_phrases(char ***phrase, bool **refuses)
{
	Relation	rel = table_open(reg_relation_oid("refusal_phrases"), AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, ActiveSnapshotSet() ? GetActiveSnapshot() : NULL, 0, NULL);
	HeapTuple	tuple;
	int			n = 0,
				size = 16;

	*phrase = palloc(size * sizeof(char *));
	*refuses = palloc(size * sizeof(bool));
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (n == size)
		{
			size *= 2;
			*phrase = repalloc(*phrase, size * sizeof(char *));
			*refuses = repalloc(*refuses, size * sizeof(bool));
		}
		(*phrase)[n] = text_to_cstring(DatumGetTextPP(column(tuple, RelationGetDescr(rel), phrases_phrase)));
		(*refuses)[n++] = DatumGetBool(column(tuple, RelationGetDescr(rel), phrases_refuses));
	}
	systable_endscan(scan);
	table_close(rel, NoLock);
	return n;
}
