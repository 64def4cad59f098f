/*
 * gateway_pg.c
 *	  The gateway's settings; what its tables' triggers and its administration
 *	  need of C.
 *
 * The settings may stand in postgresql.conf or be set for a database; the supervisor
 * reads them (millrace.gateway_settings()), and starts the gateway anew when one changed.
 */
#include "postgres.h"

#include <limits.h>

#include "commands/trigger.h"
#include "common/base64.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "gateway/gateway.h"
#include "gateway/listen.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

PG_FUNCTION_INFO_V1(millrace_gateway_changed);
PG_FUNCTION_INFO_V1(millrace_random_token);
PG_FUNCTION_INFO_V1(millrace_request_role);

#define TOKEN_BYTES 32

static bool
check_listen(char **value, void **extra, GucSource source)
{
	gw_listen	address[GW_MAX_LISTEN];
	const char *wrong;

	if (gw_listen_parse(*value, address, &wrong) >= 0)
		return true;
	GUC_check_errdetail("%s", wrong);
	GUC_check_errhint("For example 127.0.0.1:8432, or 127.0.0.1:8432, answers=127.0.0.1:8433: the second for one pipeline alone.");
	return false;
}

void
gateway_init(void)
{
	/* read by name: in workers, and by the supervisor */
	static char *listen,
			   *anonymous,
			   *certificate,
			   *key,
			   *origin;
	static int	executors,
				connections,
				per_address,
				queue,
				max_body,
				max_response,
				timeout,
				header_timeout,
				idle_timeout,
				streams;

	mr_shared_reserve(sizeof(gw_anchor));
	DefineCustomStringVariable("millrace.http_listen",
							   "Addresses on which this database answers HTTP requests.",
							   "address:port, comma separated; pipeline=address:port serves that pipeline alone, without a prefix. Empty: none.",
							   &listen, "", PGC_SUSET, GUC_LIST_INPUT, check_listen, NULL, NULL);
	DefineCustomIntVariable("millrace.http_executors",
							"Processes that run the functions of requests.",
							NULL, &executors, 2, 1, GW_MAX_EXECUTORS, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("millrace.http_anonymous",
							   "Role of requests that carry no token.",
							   "Empty: they are refused, but for routes that are open.",
							   &anonymous, "", PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("millrace.http_tls_certificate",
							   "File of the certificate and its chain, PEM; requests then come over TLS.",
							   "In the data directory unless absolute. Empty: no TLS.",
							   &certificate, "", PGC_SUSET, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("millrace.http_tls_key",
							   "File of the certificate's private key, PEM.",
							   "In the data directory unless absolute.",
							   &key, "", PGC_SUSET, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("millrace.http_allow_origin",
							   "Origin whose pages may call from a browser (CORS), or *.",
							   "Empty: none but our own.",
							   &origin, "", PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.http_max_connections",
							"Open connections at most.",
							"More wait in the listening socket's queue.", &connections, 1000, 1, 100000, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.http_max_connections_per_address",
							"Open connections of one client address at most.",
							"0: any number.", &per_address, 0, 0, 100000, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.http_queue",
							"Requests that may wait for an executor; more are answered by 503.",
							NULL, &queue, 200, 1, 100000, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.http_max_body",
							"Largest body of a request, unless its route says otherwise.",
							NULL, &max_body, 8 * 1024, 1, 1024 * 1024, PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.http_max_response",
							"Largest result of a function; a larger one is an error.",
							NULL, &max_response, 64 * 1024, 1, 1024 * 1024, PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.http_timeout",
							"A function that runs longer is cancelled, unless its route says otherwise.",
							NULL, &timeout, 30000, 1, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.http_header_timeout",
							"A request's head, and its body at 16 kB/s at least, must have come within so long.",
							NULL, &header_timeout, 10000, 100, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.http_idle_timeout",
							"A connection without a request is closed after so long.",
							NULL, &idle_timeout, 60000, 100, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.http_max_streams",
							"Streams of events at most.",
							NULL, &streams, 100, 0, 10000, PGC_SUSET, 0, NULL, NULL, NULL);
}

/* Statement trigger on routes and tokens. */
Datum
millrace_gateway_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("millrace.gateway_changed() must be called as a trigger")));
	mr_change_at_commit(MR_CHANGE_GATEWAY, MyDatabaseId);
	PG_RETURN_POINTER(NULL);
}

/* millrace.random_token() -> text */
Datum
millrace_random_token(PG_FUNCTION_ARGS)
{
	char		bits[TOKEN_BYTES];
	char		text[64] = "mr_";
	int			n;

	if (!pg_strong_random(bits, sizeof(bits)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not get random bits")));
	n = pg_b64_encode((const void *) bits, TOKEN_BYTES, text + 3, sizeof(text) - 4);
	/* the alphabet of URLs, without padding */
	for (char *p = text + 3; p < text + 3 + n; p++)
		*p = *p == '+' ? '-' : *p == '/' ? '_' : *p == '=' ? '\0' : *p;
	PG_RETURN_TEXT_P(cstring_to_text(text));
}

/* millrace.request_role() -> name */
Datum
millrace_request_role(PG_FUNCTION_ARGS)
{
	Oid			role = (Oid) (uintptr_t) *find_rendezvous_variable(GW_REQUEST_ROLE);
	Name		name = palloc0(sizeof(NameData));

	namestrcpy(name, GetUserNameFromId(OidIsValid(role) ? role : GetSessionUserId(), false));
	PG_RETURN_NAME(name);
}
