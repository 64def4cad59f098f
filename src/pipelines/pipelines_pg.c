/*
 * pipelines_pg.c
 *	  The pipelines room's settings and SQL functions.
 */
#include "postgres.h"

#include "core/core_pg.h"

void
pipelines_init(void)
{
}
