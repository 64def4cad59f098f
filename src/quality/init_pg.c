/*
 * init_pg.c
 *	  What the quality room does when the library is loaded.
 */
#include "postgres.h"

#include "core/core_pg.h"
#include "quality/cache_pg.h"

void
quality_init(void)
{
	qlt_cache_init();
}
