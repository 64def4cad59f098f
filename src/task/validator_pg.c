/*
 * validator_pg.c
 *	  Options of millrace_http servers and user mappings: the list of http.h,
 *	  checked by core/server_pg.c, and what is particular to some.
 */
#include "postgres.h"

#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "fmgr.h"
#include "utils/regproc.h"

#include "core/compat.h"
#include "task/http.h"
#include "task/settings.h"

PG_FUNCTION_INFO_V1(millrace_http_validator);

/* Options that only servers of some apis have; all others have any that is not local. */
static const struct
{
	const char *option;
	const char *apis;
}			only[] = {
	{"region", "s3"}, {"addressing", "s3"}, {"max_attempts", "s3"}, {"backoff_ms", "s3"}, {"batch_timeout_ms", "s3"},
	{"model", "ollama|openai"}, {"embedding_model", "ollama|openai"}, {"stream", "ollama|openai"},
	{"requests_per_minute", "ollama|openai"}, {"tokens_per_minute", "ollama|openai"},
	{"cost_per_minute", "ollama|openai"}, {"cost_per_1k", "ollama|openai"},
	{"tenant_requests_per_minute", "ollama|openai"}, {"tenant_tokens_per_minute", "ollama|openai"}, {"tenant_cost_per_minute", "ollama|openai"},
	{"function", "local"}, {"timeout_ms", "s3|ollama|openai|local"}, {"api", "s3|ollama|openai|local"}
};

static const char *
apis_of(const char *option)
{
	for (size_t i = 0; i < lengthof(only); i++)
		if (strcmp(only[i].option, option) == 0)
			return only[i].apis;
	return "s3|ollama|openai";
}

static void
invalid_value(const char *option, const char *value, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("invalid value \"%s\" for option \"%s\"", value, option),
			 hint ? errhint("%s", hint) : 0));
}

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

/* "http://host", "https://host:port", where it may be a path, and nothing that would mean more than that. */
static bool
is_url(const char *url, bool path)
{
	const char *rest = strncmp(url, "http://", 7) == 0 ? url + 7 : strncmp(url, "https://", 8) == 0 ? url + 8 : "";
	size_t		host = strcspn(rest, "/");

	if (host == 0 || strlen(url) > 1024 || strspn(rest, LETTERS ".-_:[]") != host)
		return false;
	rest += host;
	if (!path)
		return rest[0] == '\0' || rest[1] == '\0';
	return strspn(rest, LETTERS "/.-_~") == strlen(rest) && strstr(rest, "//") == NULL && strstr(rest, "/.") == NULL;
}

/* "0.002": digits, with a point if need be. */
static bool
is_amount(const char *value)
{
	size_t		whole = strspn(value, "0123456789");
	size_t		part = value[whole] == '.' ? strspn(value + whole + 1, "0123456789") : 0;

	return whole > 0 && whole <= 12 && part <= 12 && value[whole + (part ? part + 1 : 0)] == '\0';
}

static void
check_value(const mr_option *option, const char *value)
{
	const char *name = option->name;
	bool		good = *value != '\0';

	/* It ends in a header, or in what is signed. */
	for (const char *p = value; *p && strcmp(name, "ssl_ca_pem") != 0; p++)
		good = good && (unsigned char) *p >= ' ' && *p != 0x7f;
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("option \"%s\" must not be empty or contain control characters", name)));
	if (strcmp(name, "region") == 0 && (strlen(value) > 64 || strspn(value, LETTERS "-_") != strlen(value)))
		invalid_value(name, value, NULL);
	if (strncmp(name, "cost_", 5) == 0 || strcmp(name, "tenant_cost_per_minute") == 0)
		if (!is_amount(value) || (strcmp(name, "cost_per_1k") != 0 && strtod(value, NULL) <= 0))
			invalid_value(name, value, "Allowed is a number like 0.002.");
	if (strcmp(name, "secret_file") == 0 && (value[0] == '.' || strlen(value) > 255 || strspn(value, LETTERS ".-_") != strlen(value)))
		invalid_value(name, value, "It is the name of a file in the folder of setting " TSK_SECRET_DIRECTORY ": letters, digits, dots, dashes, no dot in front.");
	if (strcmp(name, "function") == 0 && (strchr(value, '.') == NULL || list_length(CompatQualifiedName(value)) != 2))
		invalid_value(name, value, "It is the name of a function with its schema: app.answer.");
}

static bool
has(List *options, const char *name)
{
	return mr_option_value(options, name) != NULL;
}

static void
missing(const char *option, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
			 errmsg("option \"%s\" is missing", option),
			 errhint("%s", hint)));
}

static void
check_server(List *options)
{
	const char *api = mr_option_value(options, "api");
	bool		local;
	ListCell   *lc;

	if (api == NULL)
		missing("api", "For example OPTIONS (api 's3', url 'https://minio.example:9000').");
	local = strcmp(api, "local") == 0;
	foreach(lc, options)
	{
		const char *name = lfirst_node(DefElem, lc)->defname;

		if (!mr_is_one_of(api, apis_of(name)))
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("option \"%s\" is not allowed on a server of api %s", name, api),
					 errhint("It belongs to: %s.", apis_of(name))));
	}
	if (!has(options, local ? "function" : "url"))
		missing(local ? "function" : "url", local ? "For example OPTIONS (api 'local', function 'app.answer')." :
				"For example OPTIONS (api 's3', url 'https://minio.example:9000').");
	if (!local && !is_url(mr_option_value(options, "url"), strcmp(api, "s3") != 0))
		invalid_value("url", mr_option_value(options, "url"),
					  strcmp(api, "s3") == 0 ? "Allowed is http:// or https:// and a host, with a port if need be: https://minio.example:9000." :
					  "Allowed is http:// or https:// and a host, with a port and a path if need be: https://llm.example:8000/v1.");
	if (!has(options, "cost_per_1k") && (has(options, "cost_per_minute") || has(options, "tenant_cost_per_minute")))
		missing("cost_per_1k", "Without a price nothing can be said of costs.");
}

static void
check_mapping(List *options)
{
	if (has(options, "secret_file") && (has(options, "secret_key") || has(options, "api_key")))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"secret_file\" stands for \"%s\"", has(options, "api_key") ? "api_key" : "secret_key"),
				 errhint("Give one of them.")));
	if (has(options, "secret_key") ? !has(options, "access_key") : has(options, "access_key") && !has(options, "secret_file"))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("options \"access_key\" and \"secret_key\" go together")));
}

/* millrace.http_validator(text[], oid) -> void */
Datum
millrace_http_validator(PG_FUNCTION_ARGS)
{
	static const mr_wrapper wrapper = {"millrace_http", tsk_options, TSK_N_OPTIONS, check_value};
	Oid			catalog = PG_GETARG_OID(1);
	List	   *options = mr_check_options(&wrapper, PG_GETARG_DATUM(0), catalog);

	if (catalog == ForeignServerRelationId)
		check_server(options);
	else if (catalog == UserMappingRelationId)
		check_mapping(options);
	PG_RETURN_VOID();
}
