/*
 * validator_pg.c
 *	  Options of millrace_kafka servers and user mappings: the list of
 *	  kafka_options.h, checked by core/server_pg.c, and what is particular to some.
 */
#include "postgres.h"

#include "catalog/pg_foreign_server.h"
#include "fmgr.h"

#include "stream/kafka_options.h"

PG_FUNCTION_INFO_V1(millrace_kafka_validator);

/* "http://host" or "https://host:port/path", and nothing that would mean more than that. */
static void
check_url(const char *url)
{
	const char *rest = strncmp(url, "http://", 7) == 0 ? url + 7 : strncmp(url, "https://", 8) == 0 ? url + 8 : "";

	if (*rest == '\0' || *rest == '/' || strlen(url) > 1024 ||
		strspn(rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_~:/[]") != strlen(rest))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value \"%s\" for option \"schema_registry\"", url),
				 errhint("For example https://registry:8081; who we are belongs into CREATE USER MAPPING: registry_username, registry_password.")));
}

static void
check_value(const mr_option *option, const char *value)
{
	if (*value == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("option \"%s\" must not be empty", option->name)));
	if (strcmp(option->name, "schema_registry") == 0)
		check_url(value);
}

/* millrace.kafka_validator(text[], oid) -> void */
Datum
millrace_kafka_validator(PG_FUNCTION_ARGS)
{
	static const mr_wrapper wrapper = {"millrace_kafka", kfk_options, KFK_N_OPTIONS, check_value};
	Oid			catalog = PG_GETARG_OID(1);
	List	   *options = mr_check_options(&wrapper, PG_GETARG_DATUM(0), catalog);

	if (catalog == ForeignServerRelationId && mr_option_value(options, "brokers") == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("option \"brokers\" is missing"),
				 errhint("For example OPTIONS (brokers 'host1:9092,host2:9092').")));
	PG_RETURN_VOID();
}
