/*
 * init_pg.c
 *	  _PG_init: one line per room, in the order of the Makefile's ROOMS.
 *
 * Runs in the postmaster when preloaded, else in each backend that loads the
 * library.  Nothing here may start a thread, open a file or be slow.
 */
#include "postgres.h"

#include "core/compat.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	core_init();
	image_init();
	nn_init();
	learn_init();
	registry_init();
	text_init();
	stream_init();
	task_init();
	quality_init();
	gateway_init();
	pipelines_init();
	MarkGUCPrefixReserved("millrace");
}
