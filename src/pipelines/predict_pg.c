/*
 * predict_pg.c
 *	  millrace.predict_with_profile(): one row of numbers, classified with a
 *	  profile of a pipeline of photos, as JSON text.
 *
 * What POST /predict calls, so nothing of it reads a table twice: the profiles of
 * a pipeline are kept until its table changes, whose trigger sends a relcache
 * invalidation (millrace.rows_changed()); models are the registry's cache.
 *
 * Memory: profiles lie in a context under CacheMemoryContext, one a pipeline,
 * freed when they are read again.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "core/compat.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "registry/kind.h"
#include "registry/run.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(millrace_predict_with_profile);

#define DEFAULT_PROFILE "balanced"

typedef struct profile
{
	char	   *name;
	text	   *model;
} profile;

typedef struct pipeline
{
	Oid			namespace;		/* key */
	Oid			table;
	bool		valid;			/* no invalidation since its rows were read */
	MemoryContext cxt;			/* of what follows; NULL: never read */
	int			n;				/* enabled ones, by name */
	profile    *profiles;
	const profile *preferred;	/* NULL: there is none */
} pipeline;

static HTAB *pipelines;

/* Profiles of a pipeline changed, or something may have.  Frees nothing: somebody may be reading them. */
static void
relation_changed(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS seq;
	pipeline   *p;

	hash_seq_init(&seq, pipelines);
	while ((p = hash_seq_search(&seq)) != NULL)
		if (relid == InvalidOid || relid == p->table)
			p->valid = false;
}

static void
make_cache(void)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(pipeline),.hcxt = CacheMemoryContext};

	pipelines = hash_create("millrace profiles", 8, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
}

static AttrNumber
column_of(Relation rel, const char *name, Oid type)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped && TupleDescAttr(desc, i)->atttypid == type &&
			strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return i + 1;
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("table \"%s\" has no column \"%s\" of type %s", RelationGetRelationName(rel), name, format_type_be(type))));
	return 0;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const profile *) a)->name, ((const profile *) b)->name);
}

/*
 * Read the table as it is now, not as the statement sees it: what is kept must not
 * be older than the invalidations that have come, all of which the lock has taken in.
 */
static void
read_profiles(pipeline *p, const char *schema)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace profiles", ALLOCSET_SMALL_SIZES);
	Oid			table = get_relname_relid("profiles", p->namespace);
	Relation	rel;
	AttrNumber	name,
				model,
				enabled;
	Snapshot	snapshot;
	TupleTableSlot *slot;
	TableScanDesc scan;
	profile    *all;
	const profile *preferred = NULL;
	int			n = 0,
				room = 8;

	if (!OidIsValid(table) || get_rel_relkind(table) != RELKIND_RELATION)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("schema \"%s\" is no pipeline of kind \"images\": it has no table of profiles", schema)));
	rel = table_open(table, AccessShareLock);
	name = column_of(rel, "profile", TEXTOID);
	model = column_of(rel, "model", TEXTOID);
	enabled = column_of(rel, "enabled", BOOLOID);
	if (p->cxt)
		MemoryContextDelete(p->cxt);
	p->cxt = NULL;
	p->table = table;
	p->valid = true;
	all = MemoryContextAlloc(cxt, room * sizeof(profile));
	slot = table_slot_create(rel, NULL);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = table_beginscan(rel, snapshot, 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old;
		bool		isnull[3];
		Datum		value[3] = {slot_getattr(slot, name, &isnull[0]), slot_getattr(slot, model, &isnull[1]), slot_getattr(slot, enabled, &isnull[2])};

		CHECK_FOR_INTERRUPTS();
		if (isnull[0] || isnull[1] || isnull[2] || !DatumGetBool(value[2]))
			continue;
		old = MemoryContextSwitchTo(cxt);
		if (n == room)
			all = repalloc(all, (room *= 2) * sizeof(profile));
		all[n].name = TextDatumGetCString(value[0]);
		all[n++].model = DatumGetTextPCopy(value[1]);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	qsort(all, n, sizeof(profile), by_name);
	for (int i = 0; i < n; i++)
		if (strcmp(all[i].name, DEFAULT_PROFILE) == 0)
			preferred = &all[i];
	if (preferred == NULL && n > 0)
		preferred = all;
	MemoryContextSetParent(cxt, CacheMemoryContext);
	p->n = n;
	p->profiles = all;
	p->preferred = preferred;
	p->cxt = cxt;
	table_close(rel, AccessShareLock);
}

static void
unknown_profile(const pipeline *p, const char *schema, const char *wanted)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < p->n; i++)
		appendStringInfo(&names, "%s%s", i ? ", " : "", p->profiles[i].name);
	if (wanted)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("pipeline \"%s\" has no profile \"%s\"", schema, wanted),
				 p->n ? errhint("Its profiles are %s.", names.data) : 0));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("pipeline \"%s\" has no profile that is enabled", schema)));
}

/* The model's reference. */
static text *
model_of(const char *schema, const char *wanted)
{
	Oid			namespace = LookupExplicitNamespace(schema, false); /* checks USAGE */
	pipeline   *p;
	bool		found;

	if (pipelines == NULL)
		make_cache();
	AcceptInvalidationMessages();
	p = hash_search(pipelines, &namespace, HASH_ENTER, &found);
	if (!found)
		memset((char *) p + sizeof(Oid), 0, sizeof(pipeline) - sizeof(Oid));
	if (!p->valid || p->cxt == NULL)
		read_profiles(p, schema);
	if (wanted == NULL)
	{
		if (p->preferred == NULL)
			unknown_profile(p, schema, NULL);
		return p->preferred->model;
	}
	for (int i = 0; i < p->n; i++)
		if (strcmp(p->profiles[i].name, wanted) == 0)
			return p->profiles[i].model;
	unknown_profile(p, schema, wanted);
	return NULL;
}

/* A model that is gone is the pipeline's fault, not the request's. */
static const reg_model *
resolve(FunctionCallInfo fcinfo, text *reference)
{
	MemoryContext cxt = CurrentMemoryContext;
	const reg_model *volatile m = NULL;

	PG_TRY();
	{
		m = reg_resolve_site(&fcinfo->flinfo->fn_extra, fcinfo->flinfo->fn_mcxt, reference, REG_CLASSIFY);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		if (geterrcode() != ERRCODE_UNDEFINED_OBJECT)
			PG_RE_THROW();
		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
		error->sqlerrcode = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
		ReThrowError(error);
	}
	PG_END_TRY();
	return m;
}

/* millrace.predict_with_profile(pipeline text, descriptors real[], profile text) -> json */
Datum
millrace_predict_with_profile(PG_FUNCTION_ARGS)
{
	const reg_model *m;
	const float *row;
	int64		rows;
	int			columns;
	int32		label;
	float		confidence;
	char		number[FLOAT_SHORTEST_DECIMAL_LEN];
	instr_time	start,
				end;
	StringInfoData out;

	INSTR_TIME_SET_CURRENT(start);
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("pipeline must not be null")));
	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("descriptors must not be null")));
	m = resolve(fcinfo, model_of(text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2))));
	reg_stat_ask(m);
	row = reg_floats(PG_GETARG_ARRAYTYPE_P(1), 1, !reg_takes_missing(m), "descriptors", &rows, &columns);
	reg_classify(m, row, 1, columns, &label, &confidence);
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);

	number[float_to_shortest_decimal_bufn(confidence, number)] = '\0';
	initStringInfo(&out);
	appendStringInfoString(&out, "{\"label\":");
	escape_json(&out, m->labels[label]);
	appendStringInfo(&out, ",\"confidence\":%s,\"model\":", number);
	escape_json(&out, m->reference);
	appendStringInfo(&out, ",\"latency_ms\":%.3f}", INSTR_TIME_GET_MILLISEC(end));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
