/*
 * lanes.h
 *	  How many processes each role's tasks of lane sql have: for the supervisor.
 */
#ifndef MILLRACE_STREAM_LANES_H
#define MILLRACE_STREAM_LANES_H

#include "postgres.h"

#define MR_TASK_WORKERS 32		/* of one role, at most; see alter_task_pool() */

/* In the order of a supervisor's turn. */

/*
 * Look at the workers there are.  For those roles whose workers are all busy: owners (text[]), and up to which transaction one of
 * them has considered what was put into the queue (xid8[]): arguments of millrace.task_lanes().
 */
extern void mr_lanes_begin(Datum *owners, Datum *upto);

/* Bits of the processes that a role whose lane has something to do shall have, from low to high of them; waiting: its workers are not enough. */
extern uint32 mr_lane_workers(const char *owner, int low, int high, bool waiting);

#endif							/* MILLRACE_STREAM_LANES_H */
