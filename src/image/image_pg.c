/*
 * image_pg.c
 *	  The image room's settings and SQL functions.
 */
#include "postgres.h"

#include "core/core_pg.h"

void
image_init(void)
{
}
