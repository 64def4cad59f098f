/*
 * learn_pg.c
 *	  The learning room's settings.  Training in SQL is in registry/train_pg.c.
 */
#include "postgres.h"

#include <limits.h>

#include "core/core_pg.h"
#include "learn/settings.h"
#include "utils/guc.h"

int			lrn_train_memory_kb = 1024 * 1024;

void
learn_init(void)
{
	DefineCustomIntVariable("millrace.train_memory",
							"Most memory that one training may take: its data and its work.",
							"Checked while the query is read and before the algorithm starts.",
							&lrn_train_memory_kb, 1024 * 1024, 1024, MAX_KILOBYTES,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
}
