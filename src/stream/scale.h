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

/* What became of a child that is wanted. */
typedef enum mr_place
{
	MR_AWAY,					/* it ended, and will be started again */
	MR_NO_ROOM,					/* max_worker_processes leaves none for it */
	MR_PLACED,					/* the postmaster is to start it */
	MR_RUNS
} mr_place;
extern void mr_scale_child(mr_worker_kind kind, const char *name, int index, mr_place place);

/* Decide, and write what was decided. */
extern void mr_scale_end(void);

#endif							/* MILLRACE_STREAM_SCALE_H */
