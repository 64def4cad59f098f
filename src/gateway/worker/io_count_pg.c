/*
 * io_count_pg.c
 *	  What is counted of requests.  Raises no ERROR: it is called within libmicrohttpd.
 */
#include "postgres.h"

#include "gateway/worker/io_count.h"

#include "core/shared_pg.h"

void
gw_count(int64_t route, int status, int64_t us, uint64_t in, uint64_t out)
{
	mr_worker_count(MR_COUNT_ROWS, 1);
	mr_worker_count(MR_COUNT_BYTES, in + out);
	if (status >= 500)
		mr_worker_count(MR_COUNT_ERRORS, 1);
}
