/*
 * figures_pg.c
 *	  What went wrong in each pipeline and is still there, for metrics and millrace.status().
 *
 * Read as each pipeline's owner, in a subtransaction: one that lacks a table, or whose
 * table is locked, is told to be unreadable, and costs the others nothing.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "core/compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pipelines/pipelines.h"
#include "utils/builtins.h"
#include "utils/resowner.h"

PG_FUNCTION_INFO_V1(millrace_pipeline_figures);

typedef struct kind_figures
{
	const char *kind;
	const char *statement;		/* gives figure, value */
} kind_figures;

/* Counts end somewhere: tables of failures are kept for people, and nobody needs to know more. */
#define FAILURES(table, at) \
	"SELECT f.figure, f.value FROM (SELECT pg_catalog.count(*) AS total, " \
	"pg_catalog.count(*) FILTER (WHERE l.at > pg_catalog.clock_timestamp() - interval '1 hour') AS recent " \
	"FROM (SELECT " at " AS at FROM @S@." table " LIMIT 10000) l) n, " \
	"LATERAL (VALUES ('failures', n.total), ('failures_1h', n.recent)) f(figure, value)"

static const kind_figures figures[] = {
	{"images", FAILURES("failures", "failed_at")},
	{"events", FAILURES("failures", "failed_at")},
	{"answers", FAILURES("failed_questions", "failed_at")},
	{"tabular", FAILURES("runs WHERE state = 'failed'", "finished_at")},
	/* an audit has counted its findings by kind */
	{"datasets", "SELECT s.severity, COALESCE(pg_catalog.sum(f.n), 0)::pg_catalog.int8 "
		"FROM (VALUES ('blocking'), ('warning'), ('info')) s(severity) LEFT JOIN ("
		"SELECT COALESCE(r.options #>> ARRAY['severity', k.kind], k.severity) AS severity, c.value::pg_catalog.int8 AS n "
		"FROM (SELECT DISTINCT ON (dataset) dataset, figures, options FROM @S@.runs WHERE activity = 'audit' AND ended_at IS NOT NULL "
		"ORDER BY dataset, run_id DESC) r, "
		"pg_catalog.jsonb_each_text(COALESCE(r.figures -> 'kinds', '{}')) c(kind, value) JOIN @S@.kinds k ON k.kind = c.kind "
		"WHERE NOT EXISTS (SELECT FROM @S@.waivers w WHERE w.dataset = r.dataset AND w.kind = c.kind)) f ON f.severity = s.severity "
		"GROUP BY s.severity"},
};

typedef struct known
{
	char	   *name;
	char	   *kind;
} known;

static void
put(ReturnSetInfo *out, const known *p, Datum figure, Datum value)
{
	Datum		values[] = {CStringGetTextDatum(p->name), CStringGetTextDatum(p->kind), figure, value};
	bool		nulls[lengthof(values)] = {0};

	tuplestore_putvalues(out->setResult, out->setDesc, values, nulls);
}

static void
read_one(ReturnSetInfo *out, const known *p, const char *statement, Oid namespace)
{
	pip_scope	scope;

	pip_enter(&scope, namespace, InvalidOid);
	(void) pip_run(&scope, statement, 0, NULL, NULL, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		char	   *figure = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);

		put(out, p, CStringGetTextDatum(figure), SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
	}
	pip_leave(&scope);
}

/* The same; whatever is wrong with the pipeline is its own affair. */
static void
read_safely(ReturnSetInfo *out, const known *p, const char *statement)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Oid			namespace = get_namespace_oid(p->name, true);

	if (!OidIsValid(namespace))
		return;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		read_one(out, p, statement, namespace);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		put(out, p, CStringGetTextDatum("unreadable"), Int64GetDatum(1));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
}

/* millrace.pipeline_figures() -> setof (pipeline, kind, figure, value) */
Datum
millrace_pipeline_figures(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *out = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext cxt = CurrentMemoryContext;
	known	   *all;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	if (SPI_execute("SELECT name, kind FROM millrace.pipelines ORDER BY name", true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read millrace.pipelines");
	n = (int) SPI_processed;
	all = MemoryContextAlloc(cxt, sizeof(known) * (Size) Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		all[i].name = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
		all[i].kind = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2));
	}
	SPI_finish();
	for (int i = 0; i < n; i++)
		for (int k = 0; k < (int) lengthof(figures); k++)
			if (strcmp(figures[k].kind, all[i].kind) == 0)
				read_safely(out, &all[i], figures[k].statement);
	return (Datum) 0;
}
