/*
 * io_count_pg.c
 *	  Counts told to the series in shared memory.  See io_count.h.
 */
#include "postgres.h"

#include "gateway/worker/io_count.h"

#include "core/series_pg.h"
#include "core/shared_pg.h"

void
gwi_count_open(void)
{
	mr_series_attach();
}

void
gwi_count_seconds(const char *route, const char *method, const char *status, double seconds)
{
	mr_observe(MR_HTTP_SECONDS, route, method, status, seconds);
	mr_worker_count(MR_COUNT_ROWS, 1);
	if (status[0] == '5')
		mr_worker_count(MR_COUNT_ERRORS, 1);
}

void
gwi_count_events(void)
{
	static const char *const names[] = {"connections", "refused_full", "cut_slow", "cut_size", "unauthorized", "forbidden", "limited", "cancelled",
	"bytes_in", "bytes_out"};

	StaticAssertStmt(lengthof(names) == GWI_N_EVENTS, "one name per event");
	mr_worker_count(MR_COUNT_BYTES, gwi_events[GWI_BYTES_IN] + gwi_events[GWI_BYTES_OUT]);
	for (int e = 0; e < GWI_N_EVENTS; e++)
		if (gwi_events[e] > 0)
		{
			mr_tally(MR_GATEWAY_EVENTS, names[e], NULL, NULL, gwi_events[e]);
			gwi_events[e] = 0;
		}
}
