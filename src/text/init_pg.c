/*
 * init_pg.c
 *	  The text room's start.
 */
#include "postgres.h"

#include "core/core_pg.h"
#include "text/flat_pg.h"

void
text_init(void)
{
	flat_init();
}
