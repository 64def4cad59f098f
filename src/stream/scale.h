/*
 * scale.h
 *	  How many workers each source has: for the supervisor.
 */
#ifndef MILLRACE_STREAM_SCALE_H
#define MILLRACE_STREAM_SCALE_H

#include "core/shared_pg.h"

extern double mr_max_load;		/* GUC millrace.max_load */

/* In the order of a supervisor's turn, in its transaction, as the extension's owner within SPI. */

/* Read what the table says of sources that run. */
extern void mr_scale_begin(void);

/* Processes a source is to have: those in force, and those that are being added. */
extern int	mr_scale_workers(const char *source);

/* What became of a child: its process is there; or max_worker_processes left no room for it. */
extern void mr_scale_child(mr_worker_kind kind, const char *name, int index, bool running, bool no_room);

/* Decide, and write what was decided. */
extern void mr_scale_end(void);

#endif							/* MILLRACE_STREAM_SCALE_H */
