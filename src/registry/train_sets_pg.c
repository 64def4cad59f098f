/*
 * train_sets_pg.c
 *	  Queries that models are trained and evaluated with may read a data set of a
 *	  pipeline of kind "datasets" by its training_images() only, which refuses
 *	  those that have blocking findings.
 *
 * The rewritten query is walked, so views are seen through; what a function
 * reads inside is not seen.  Memory: the caller's context.
 */
#include "postgres.h"

#include "core/spi_pg.h"
#include "executor/spi.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "registry/train_data.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#define ALLOWED "training_"		/* functions that ask refuse_blocked() */

typedef struct set_search
{
	List	   *schemas;		/* of pipelines of that kind */
	char	   *found;			/* what the query reads, NULL: nothing */
	Oid			schema;			/* in which */
} set_search;

static void
look_at_function(set_search *s, Oid function)
{
	Oid			schema = get_func_namespace(function);
	char	   *name;

	if (!list_member_oid(s->schemas, schema))
		return;
	name = get_func_name(function);
	if (name == NULL || strncmp(name, ALLOWED, strlen(ALLOWED)) == 0)
		return;
	s->found = psprintf("%s()", name);
	s->schema = schema;
}

static bool
check_function(Oid function, void *context)
{
	look_at_function(context, function);
	return ((set_search *) context)->found != NULL;
}

static bool
walk(Node *node, set_search *s)
{
	if (node == NULL || s->found != NULL)
		return s->found != NULL;
	if (check_functions_in_node(node, check_function, s))
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, walk, s, QTW_EXAMINE_RTES_BEFORE);
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION && list_member_oid(s->schemas, get_rel_namespace(rte->relid)))
		{
			s->found = get_rel_name(rte->relid);
			s->schema = get_rel_namespace(rte->relid);
			return true;
		}
		return false;			/* the query's walker goes on within it */
	}
	return expression_tree_walker(node, walk, s);
}

/* Schemas of pipelines of kind "datasets". */
static List *
data_set_schemas(void)
{
	List	   *schemas = NIL;
	MemoryContext caller = CurrentMemoryContext;

	if (SPI_execute("SELECT n.oid FROM millrace.pipelines p JOIN pg_catalog.pg_namespace n ON n.nspname OPERATOR(pg_catalog.=) p.name WHERE p.kind OPERATOR(pg_catalog.=) 'datasets'",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read millrace.pipelines");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Oid			schema = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		MemoryContext old = MemoryContextSwitchTo(caller);

		schemas = lappend_oid(schemas, schema);
		MemoryContextSwitchTo(old);
	}
	SPI_freetuptable(SPI_tuptable);
	return schemas;
}

void
train_refuse_data_sets(List *queries)
{
	set_search	s = {.schemas = data_set_schemas()};
	ListCell   *lc;

	if (s.schemas == NIL)
		return;
	foreach(lc, queries)
		walk(lfirst(lc), &s);
	if (s.found != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("query must not read \"%s\" of data sets pipeline \"%s\" by itself", s.found, get_namespace_name(s.schema)),
				 errdetail("Data sets with blocking findings are not for training, nor for evaluation."),
				 errhint("Read the data set by %s.training_images('name').", quote_identifier(get_namespace_name(s.schema)))));
}
