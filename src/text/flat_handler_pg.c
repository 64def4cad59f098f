/*
 * flat_handler_pg.c
 *	  millrace_flat: what it can do, its options, what a search costs.
 *
 * One column, of type real[]; searches in the order of the distance to a vector, nothing else.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_opclass.h"
#include "commands/vacuum.h"
#include "core/compat.h"
#include "nodes/pathnodes.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "text/flat_pg.h"
#include "utils/catcache.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/selfuncs.h"
#include "utils/spccache.h"
#include "utils/syscache.h"

#define FLAT_DEFAULT_CANDIDATES	600
#define FLAT_MAX_CANDIDATES		1000000
#define FULL_DIM				512 /* from here on the candidates are as many as is said */

PG_FUNCTION_INFO_V1(millrace_flat_handler);

static int	candidates_setting = FLAT_DEFAULT_CANDIDATES;
static relopt_kind relopts;

void
flat_init(void)
{
	DefineCustomIntVariable("millrace.flat_candidates",
							"Vectors that a search by a millrace_flat index looks at closely before it gives out the first.",
							"More find the nearest more surely and take longer. Of vectors of fewer than 512 dimensions more are taken in proportion. An index's option \"candidates\" goes before.",
							&candidates_setting, FLAT_DEFAULT_CANDIDATES, 1, FLAT_MAX_CANDIDATES,
							PGC_USERSET, 0, NULL, NULL, NULL);
	relopts = add_reloption_kind();
	add_int_reloption(relopts, "dimensions", "numbers of a vector; 0: as many as the first row has",
					  0, 0, SIM_MAX_DIM, AccessExclusiveLock);
	add_int_reloption(relopts, "candidates", "vectors that a search looks at closely; 0: millrace.flat_candidates",
					  0, 0, FLAT_MAX_CANDIDATES, ShareUpdateExclusiveLock);
}

/*
 * The fewer dimensions a vector has the less its signs say: sums of fewer errors.  MiniLM's vectors
 * cut to 128, 64 and 32 dimensions need 3, 4 and 10 times as many candidates for the same recall;
 * their bytes are fewer, so that a search reads about as much.
 */
uint64
flat_candidates(Relation index, int dim)
{
	flat_options *options = (flat_options *) index->rd_options;
	uint64		candidates = options && options->candidates > 0 ? options->candidates : candidates_setting;

	return dim > 0 && dim < FULL_DIM ? candidates * FULL_DIM / dim : candidates;
}

static bytea *
flat_read_options(Datum reloptions, bool validate)
{
	static const relopt_parse_elt table[] = {
		{.optname = "dimensions", .opttype = RELOPT_TYPE_INT, .offset = offsetof(flat_options, dimensions)},
		{.optname = "candidates", .opttype = RELOPT_TYPE_INT, .offset = offsetof(flat_options, candidates)},
	};

	return (bytea *) build_reloptions(reloptions, validate, relopts, sizeof(flat_options), table, lengthof(table));
}

/* An operator family has one operator, for ordering, whose number names the metric. */
static bool
flat_validate(Oid opclass)
{
	HeapTuple	tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(opclass));
	Oid			family;
	CatCList   *operators;
	bool		valid;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator class %u", opclass);
	family = ((Form_pg_opclass) GETSTRUCT(tuple))->opcfamily;
	ReleaseSysCache(tuple);
	operators = SearchSysCacheList1(AMOPSTRATEGY, ObjectIdGetDatum(family));
	valid = operators->n_members == 1;
	for (int i = 0; i < operators->n_members; i++)
	{
		Form_pg_amop form = (Form_pg_amop) GETSTRUCT(&operators->members[i]->tuple);

		valid = valid && form->amoppurpose == AMOP_ORDER;
	}
	if (!valid)
		ereport(INFO,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("an operator family of millrace_flat has one operator, FOR ORDER BY")));
	ReleaseSysCacheList(operators);
	return valid;
}

/*
 * The first row costs all signs and the bytes of the candidates, all rows cost all bytes.  Pages
 * count as sequential ones, and those of signs as half: the index is meant to lie in shared
 * buffers, and the planner overrates reading the whole table in the same way.
 */
void
flat_cost(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup, Cost *total,
		  Selectivity *selectivity, double *correlation, double *pages)
{
	IndexOptInfo *info = path->indexinfo;
	Relation	index;
	flat_layout l;
	double		page_cost,
				sign_pages = 1,
				code_pages = 1,
				candidates;

	*selectivity = 1;
	*correlation = 0;
	*pages = info->pages;
	if (path->indexorderbys == NIL)
	{
		*startup = *total = get_float8_infinity();
		flat_disable(path);
		return;
	}
	index = index_open(info->indexoid, NoLock);
	l = flat_layout_get(index);
	candidates = Min(flat_candidates(index, l.sim.n), info->tuples);
	index_close(index, NoLock);
	if (l.sim.n > 0)
	{
		sign_pages = ceil(info->tuples / l.places);
		code_pages = ceil(info->tuples / l.codes);
	}
	get_tablespace_page_costs(info->reltablespace, NULL, &page_cost);
	*startup = (sign_pages / 2 + Min(candidates, code_pages)) * page_cost + candidates * cpu_index_tuple_cost +
		info->tuples * cpu_operator_cost / 32;
	*total = *startup + code_pages * page_cost + info->tuples * cpu_index_tuple_cost;
}

Datum
millrace_flat_handler(PG_FUNCTION_ARGS)
{
	IndexAmRoutine *am = makeNode(IndexAmRoutine);

	am->amstrategies = SIM_INNER;
	am->amcanorderbyop = true;
	am->amoptionalkey = true;
	am->amparallelvacuumoptions = VACUUM_OPTION_PARALLEL_BULKDEL | VACUUM_OPTION_PARALLEL_COND_CLEANUP;
	am->ambuild = flat_build;
	am->ambuildempty = flat_build_empty;
	am->aminsert = flat_insert;
	am->ambulkdelete = flat_bulk_delete;
	am->amvacuumcleanup = flat_vacuum_cleanup;
	am->amcostestimate = flat_cost;
	am->amoptions = flat_read_options;
	am->amvalidate = flat_validate;
	am->ambeginscan = flat_begin_scan;
	am->amrescan = flat_rescan;
	am->amgettuple = flat_get_tuple;
	am->amendscan = flat_end_scan;
	PG_RETURN_POINTER(am);
}
