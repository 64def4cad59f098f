/*
 * train_query_pg.c
 *	  A query that is only read: one SELECT that neither writes nor locks rows.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "registry/train_data.h"
#include "utils/plancache.h"

void
train_check_query(SPIPlanPtr plan)
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
