/*
 * validator_pg.c
 *	  Options of millrace_http servers and user mappings: the list of http.h,
 *	  checked by core/server_pg.c, and what is particular to some.
 */
#include "postgres.h"

#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "fmgr.h"

#include "task/http.h"

PG_FUNCTION_INFO_V1(millrace_http_validator);

/* "http://host", "https://host:port", and nothing that would mean more than that. */
static bool
is_url(const char *url)
{
	const char *rest = strncmp(url, "http://", 7) == 0 ? url + 7 : strncmp(url, "https://", 8) == 0 ? url + 8 : "";
	size_t		host = strcspn(rest, "/");

	return host > 0 && strlen(url) <= 1024 && (rest[host] == '\0' || rest[host + 1] == '\0') &&
		strspn(rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]") == host;
}

static void
check_value(const mr_option *option, const char *value)
{
	bool		good = *value != '\0';

	/* It ends in a header, or in what is signed. */
	for (const char *p = value; *p && strcmp(option->name, "ssl_ca_pem") != 0; p++)
		good = good && (unsigned char) *p >= ' ' && *p != 0x7f;
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("option \"%s\" must not be empty or contain control characters", option->name)));
	if (strcmp(option->name, "url") == 0 && !is_url(value))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value \"%s\" for option \"url\"", value),
				 errhint("Allowed is http:// or https:// and a host, with a port if need be: https://minio.example:9000.")));
	if (strcmp(option->name, "region") == 0 &&
		(strlen(value) > 64 || strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != strlen(value)))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value \"%s\" for option \"region\"", value)));
}

static bool
has(List *options, const char *name)
{
	return mr_option_value(options, name) != NULL;
}

/* millrace.http_validator(text[], oid) -> void */
Datum
millrace_http_validator(PG_FUNCTION_ARGS)
{
	static const mr_wrapper wrapper = {"millrace_http", tsk_options, TSK_N_OPTIONS, check_value};
	Oid			catalog = PG_GETARG_OID(1);
	List	   *options = mr_check_options(&wrapper, PG_GETARG_DATUM(0), catalog);

	if (catalog == ForeignServerRelationId && (!has(options, "api") || !has(options, "url")))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("option \"%s\" is missing", has(options, "api") ? "url" : "api"),
				 errhint("For example OPTIONS (api 's3', url 'https://minio.example:9000').")));
	if (catalog == UserMappingRelationId && has(options, "access_key") != has(options, "secret_key"))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("options \"access_key\" and \"secret_key\" go together")));
	PG_RETURN_VOID();
}
