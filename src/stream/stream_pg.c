/*
 * stream_pg.c
 *	  The stream room's settings and SQL functions.
 */
#include "postgres.h"

#include "core/core_pg.h"

void
stream_init(void)
{
}
