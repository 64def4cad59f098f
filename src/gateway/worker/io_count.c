/*
 * io_count.c
 *	  Which series and which event a request is counted in.
 */
#include "gateway/worker/io_count.h"

uint64_t	gwi_events[GWI_N_EVENTS];

void
gwi_count(const gwi_request *r)
{
	static const char *const classes[] = {"1xx", "2xx", "3xx", "4xx", "5xx"};
	int			class = r->status / 100 - 1;

	gwi_events[GWI_BYTES_IN] += r->received;
	gwi_events[GWI_BYTES_OUT] += r->answer_len;
	switch (r->status)
	{
		case 401:
			gwi_events[GWI_UNAUTHORIZED]++;
			break;
		case 403:
			gwi_events[GWI_FORBIDDEN]++;
			break;
		case 413:
			gwi_events[GWI_CUT_SIZE]++;
			break;
		case 429:
			gwi_events[GWI_LIMITED]++;
			break;
		case 499:
			gwi_events[GWI_CANCELLED]++;
			break;
	}
	gwi_count_seconds(r->route ? r->route->label : r->work ? "(none)" : "(head)", r->head ? "HEAD" : gw_method_name(r->method),
					  classes[class < 0 ? 0 : class > 4 ? 4 : class], (double) (gwi_now_us() - r->came_us) / 1e6);
}
