/*
 * registry_pg.c
 *	  The registry room's settings and SQL functions.
 */
#include "postgres.h"

#include "core/core_pg.h"

void
registry_init(void)
{
}
