/*
 * nn_pg.c
 *	  The nn room's settings and SQL functions.
 */
#include "postgres.h"

#include "core/core_pg.h"

void
nn_init(void)
{
}
