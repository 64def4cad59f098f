/*
 * outcome.c
 *	  What an answer means.  See outcome.h.
 */
#include "task/worker/outcome.h"

#include <stdio.h>
#include <string.h>

#include "task/worker/s3.h"

#define PAUSE_MAX_MS 60000
#define RETRY_AFTER_MAX_S 3600

static void
set(tsk_outcome *o, tsk_fault fault, const char *sqlstate, bool again)
{
	o->fault = fault;
	o->sqlstate = sqlstate;
	o->again = again;
}

/* Refusals of who is asking, not of what is asked for. */
static bool
is_about_keys(const char *code)
{
	static const char *const codes[] = {"SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
	"RequestTimeTooSkewed", "InvalidSecurity", "AuthorizationHeaderMalformed", "XMinioInvalidAccessKeyId"};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (strcmp(code, codes[i]) == 0)
			return true;
	return false;
}

static void
judge_status(const tsk_transfer *t, tsk_outcome *o)
{
	char		code[64];
	char		message[256];

	tsk_s3_element(t->body, t->len, "Code", code, sizeof(code));
	tsk_s3_element(t->body, t->len, "Message", message, sizeof(message));
	snprintf(o->error, sizeof(o->error), "the server answered %d%s%s%s%s%s", t->status, code[0] ? " " : "", code, message[0] ? ": " : "", message,
			 t->status >= 300 && t->status < 400 ? ", which is not followed" : "");
	switch (t->status)
	{
		case 404:
		case 410:
			set(o, TSK_F_MISSING, "58P01", false);
			break;
		case 401:
			set(o, TSK_F_UNKNOWN, "28000", false);
			break;
		case 403:
			if (is_about_keys(code))
				set(o, TSK_F_UNKNOWN, "28000", false);
			else
				set(o, TSK_F_FORBIDDEN, "42501", false);
			break;
		case 429:
		case 503:
		case 529:
			set(o, TSK_F_OVERLOADED, "53000", true);
			break;
		case 408:
		case 409:
		case 425:
			set(o, TSK_F_SERVER, "58000", true);
			break;
		default:
			if (t->status >= 500 && t->status != 501 && t->status != 505)
				set(o, TSK_F_SERVER, "58000", true);
			else if (is_about_keys(code))
				set(o, TSK_F_UNKNOWN, "28000", false);
			else
				set(o, TSK_F_REFUSED, "08004", false);
	}
}

void
tsk_judge(const tsk_transfer *t, tsk_outcome *o)
{
	snprintf(o->error, sizeof(o->error), "%s", t->error);
	switch (t->cut)
	{
		case TSK_WHOLE:
			if (t->status >= 200 && t->status <= 299)
				set(o, TSK_FINE, "", false);
			else
				judge_status(t, o);
			break;
		case TSK_UNCONNECTED:
			set(o, TSK_F_UNCONNECTED, "08001", true);
			snprintf(o->error, sizeof(o->error), "no connection: %s", t->error);
			break;
		case TSK_REFUSED:
			set(o, TSK_F_REFUSED, "42501", false);
			break;
		case TSK_LOST:
			set(o, TSK_F_LOST, "08006", true);
			snprintf(o->error, sizeof(o->error), "connection lost: %s", t->error);
			break;
		case TSK_TRUNCATED:
			set(o, TSK_F_TRUNCATED, "08P01", true);
			snprintf(o->error, sizeof(o->error), "truncated: %s", t->error);
			break;
		case TSK_SLOW:
			set(o, TSK_F_SLOW, "HYT00", true);
			snprintf(o->error, sizeof(o->error), "too slow: %s", t->error);
			break;
		case TSK_LARGE:
			set(o, TSK_F_LARGE, "54000", false);
			snprintf(o->error, sizeof(o->error), "too large: %s", t->error);
			break;
		case TSK_NO_HTTP:
			set(o, TSK_F_REFUSED, "08P01", false);
			snprintf(o->error, sizeof(o->error), "no HTTP: %s", t->error);
			break;
		case TSK_MEMORY:
			set(o, TSK_F_LOST, "53200", true);
			break;
	}
}

int64_t
tsk_pause_ms(int n, int64_t base_ms, double chance, int64_t retry_after_s)
{
	int64_t		most = base_ms;
	int64_t		floor = (retry_after_s < RETRY_AFTER_MAX_S ? retry_after_s : RETRY_AFTER_MAX_S) * 1000;
	int64_t		pause;

	for (int i = 1; i < n && most < PAUSE_MAX_MS; i++)
		most *= 2;
	pause = (int64_t) (chance * (double) (most < PAUSE_MAX_MS ? most : PAUSE_MAX_MS > base_ms ? PAUSE_MAX_MS : base_ms));
	return pause > floor ? pause : floor;
}

int
tsk_latency_class(int64_t us, int n_classes)
{
	int			k = 0;

	/* element k + 1 of the array: from 2^(k / 2) up; halves of powers by squares */
	while (k + 1 < n_classes && (k + 1) / 2 < 31)
	{
		double		bound = (double) (INT64_C(1) << ((k + 1) / 2)) * ((k + 1) % 2 ? 1.4142135623730951 : 1.0);

		if ((double) us < bound)
			break;
		k++;
	}
	return k;
}
