/*
 * learn_pg.c
 *	  The learn room's settings and SQL functions.
 */
#include "postgres.h"

#include "core/core_pg.h"

void
learn_init(void)
{
}
