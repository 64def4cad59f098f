/*
 * train_query_pg.c
 *	  A query that is only read: one SELECT that neither writes nor locks rows.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "registry/train_data.h"
#include "utils/plancache.h"

static void
check_query(SPIPlanPtr plan)
{
	ListCell   *lc;

	if (!SPI_is_cursor_plan(plan))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query must be a single statement that returns rows"),
				 errhint("Write a SELECT.")));
	foreach(lc, SPI_plan_get_plan_sources(plan))
	{
		CachedPlanSource *source = lfirst(lc);
		ListCell   *q;

		foreach(q, source->query_list)
		{
			Query	   *query = lfirst_node(Query, q);

			if (query->commandType != CMD_SELECT || query->hasModifyingCTE || query->rowMarks != NIL)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("query must be a SELECT that neither writes nor locks rows")));
		}
	}
}

SPIPlanPtr
train_prepare(const char *query, int nargs, const Oid *types)
{
	SPIPlanPtr	plan = SPI_prepare(query, nargs, unconstify(Oid *, types));

	if (plan == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query cannot be prepared: %s", SPI_result_code_string(SPI_result))));
	check_query(plan);
	return plan;
}

static Portal
open_plan(SPIPlanPtr plan)
{
	Portal		portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);

	SPI_freeplan(plan);			/* the portal has a copy */
	return portal;
}

Portal
train_open(const char *query)
{
	return open_plan(train_prepare(query, 0, NULL));
}

Portal
train_open_data(const char *query)
{
	SPIPlanPtr	plan = train_prepare(query, 0, NULL);
	ListCell   *lc;

	foreach(lc, SPI_plan_get_plan_sources(plan))
		train_refuse_data_sets(((CachedPlanSource *) lfirst(lc))->query_list);
	return open_plan(plan);
}

static void
tell_read_only(void *unused)
{
	if (geterrcode() == ERRCODE_READ_ONLY_SQL_TRANSACTION)
		errhint("The query is only read: neither it nor a function that it calls may write.");
}

void
train_guard_begin(train_guard *guard)
{
	guard->was_read_only = XactReadOnly;
	guard->told = (ErrorContextCallback) {error_context_stack, tell_read_only, NULL};
	error_context_stack = &guard->told;
	XactReadOnly = true;
}

void
train_guard_end(train_guard *guard)
{
	XactReadOnly = guard->was_read_only;
	error_context_stack = guard->told.previous;
}
