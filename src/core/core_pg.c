/*
 * core_pg.c
 *	  The core room's own SQL functions and settings.
 */
#include "postgres.h"

#include "core/core_pg.h"
#include "core/shared_pg.h"
#include "core/mapfile_int.h"
#include "core/mapfile_pg.h"
#include "core/meter_pg.h"
#include "core/series_pg.h"
#include "fmgr.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(millrace_version);

void
core_init(void)
{
	mr_shared_init();
	mr_meter_init();
	mr_series_init();
	mr_map_init();
	mr_checked_init();
}

/* millrace.version() -> text */
Datum
millrace_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(MILLRACE_VERSION));
}
