/*
 * failpoint.h
 *	  Named places where the fault suite makes a worker fail.
 *
 * MR_FAILPOINT("room.place") is nothing, except in the library that the suite
 * builds for itself (build/faults, -DMR_FAILPOINTS).  There the place does what
 * the file failpoints/room.place in the data directory says, once; see
 * t/failpoint/failpoint_pg.c and t/lib/faults.py.  Workers only: backends that
 * serve users have none.
 */
#ifndef MILLRACE_FAILPOINT_H
#define MILLRACE_FAILPOINT_H

#ifdef MR_FAILPOINTS
extern void mr_failpoint(const char *name);
#define MR_FAILPOINT(name) mr_failpoint(name)
#else
#define MR_FAILPOINT(name) ((void) 0)
#endif

#endif							/* MILLRACE_FAILPOINT_H */
