/*
 * io_count.h
 *	  What is counted: requests that are over, and what happened to those that are refused.
 *
 * All of it may be called within libmicrohttpd: it raises no ERROR.
 */
#ifndef MILLRACE_GATEWAY_IO_COUNT_H
#define MILLRACE_GATEWAY_IO_COUNT_H

#include "gateway/worker/io.h"

typedef enum gwi_event
{
	GWI_CONNECTIONS,
	GWI_REFUSED_FULL,			/* the queue, or memory */
	GWI_CUT_SLOW,
	GWI_CUT_SIZE,
	GWI_UNAUTHORIZED,
	GWI_FORBIDDEN,
	GWI_LIMITED,				/* too many a minute */
	GWI_CANCELLED,				/* the client went away */
	GWI_BYTES_IN,
	GWI_BYTES_OUT,
	GWI_N_EVENTS
} gwi_event;

extern uint64_t gwi_events[GWI_N_EVENTS];	/* since they were told */

/* A request is over: its seconds, and the event that its status is. */
extern void gwi_count(const gwi_request *r);

/* io_count_pg.c */
extern void gwi_count_open(void);
extern void gwi_count_seconds(const char *route, const char *method, const char *status, double seconds);
extern void gwi_count_events(void); /* tell them */

#endif							/* MILLRACE_GATEWAY_IO_COUNT_H */
