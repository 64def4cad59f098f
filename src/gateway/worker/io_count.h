/*
 * io_count.h
 *	  What is counted of a request that is over.
 */
#ifndef MILLRACE_GATEWAY_IO_COUNT_H
#define MILLRACE_GATEWAY_IO_COUNT_H

#include "gateway/worker/io.h"

/* route 0: no route's.  Raises no ERROR. */
extern void gw_count(int64_t route, int status, int64_t us, uint64_t in, uint64_t out);

static inline void
gwi_count(const gwi_request *r)
{
	gw_count(r->route ? r->route->id : 0, r->status, gwi_now_us() - r->came_us, r->received, r->answer_len);
}

#endif							/* MILLRACE_GATEWAY_IO_COUNT_H */
