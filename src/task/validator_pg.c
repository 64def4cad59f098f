/*
 * validator_pg.c
 *	  Options of millrace_http servers and user mappings: the list of http.h.
 *
 * Secrets belong into user mappings, which only their owner and superusers see;
 * on a server anyone who may use it would read them.  What opens private
 * networks, reads the server's files or weakens TLS is a superuser's to set.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "task/http.h"

PG_FUNCTION_INFO_V1(millrace_http_validator);

static const tsk_option *
find_option(const char *name)
{
	for (int i = 0; i < TSK_N_OPTIONS; i++)
		if (strcmp(tsk_options[i].name, name) == 0)
			return &tsk_options[i];
	return NULL;
}

/* The names allowed at a place, for a hint. */
static char *
names_at(tsk_place place)
{
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < TSK_N_OPTIONS; i++)
		if (tsk_options[i].place == place)
			appendStringInfo(&out, "%s%s", out.len ? ", " : "", tsk_options[i].name);
	return out.data;
}

static bool
is_one_of(const char *word, const char *alternatives)
{
	size_t		n = strlen(word);

	for (const char *p = alternatives; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
		if (strncmp(p, word, n) == 0 && (p[n] == '|' || p[n] == '\0'))
			return true;
	return false;
}

/* "http://host", "https://host:port", and nothing that would mean more than that. */
static bool
is_url(const char *url)
{
	const char *rest = strncmp(url, "http://", 7) == 0 ? url + 7 : strncmp(url, "https://", 8) == 0 ? url + 8 : "";
	size_t		host = strcspn(rest, "/");

	return host > 0 && strlen(url) <= 1024 && (rest[host] == '\0' || rest[host + 1] == '\0') &&
		strspn(rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]") == host;
}

/* Its value, for messages: none of a secret. */
static void
check_value(const tsk_option *option, const char *value)
{
	bool		good = *value != '\0';

	/* It ends in a header, or in what is signed. */
	for (const char *p = value; *p && strcmp(option->name, "ssl_ca_pem") != 0; p++)
		good = good && (unsigned char) *p >= ' ' && *p != 0x7f;
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("option \"%s\" must not be empty or contain control characters", option->name)));
	if (option->words && !is_one_of(value, option->words))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value \"%s\" for option \"%s\"", value, option->name),
				 errhint("Allowed are %s.", option->words)));
	if (option->low < option->high)
	{
		char	   *end;
		int64		n = strtoi64(value, &end, 10);

		if (*end != '\0' || n < option->low || n > option->high || strspn(value, "0123456789") > 18)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
					 errmsg("invalid value \"%s\" for option \"%s\"", value, option->name),
					 errhint("Allowed is a whole number from " INT64_FORMAT " to " INT64_FORMAT ".", (int64) option->low, (int64) option->high)));
	}
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

static void
check_option(DefElem *def, tsk_place place)
{
	const tsk_option *option = find_option(def->defname);
	const char *where = place == TSK_ON_SERVER ? "a server" : "a user mapping";

	if (option == NULL || option->place != place)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"%s\" is not allowed on %s of wrapper millrace_http", def->defname, where),
				 option && option->place == TSK_ON_MAPPING ?
				 errhint("It belongs into CREATE USER MAPPING, where only its owner and superusers see it.") :
				 errhint("Options there: %s.", names_at(place))));
	if (option->superuser && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set option \"%s\"", def->defname),
				 errdetail("Only a superuser may let a server reach private networks, read files or accept unverified certificates.")));
	check_value(option, defGetString(def));
}

static bool
has(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
		if (strcmp(lfirst_node(DefElem, lc)->defname, name) == 0)
			return true;
	return false;
}

/* millrace.http_validator(text[], oid) -> void */
Datum
millrace_http_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (catalog == ForeignServerRelationId)
			check_option(def, TSK_ON_SERVER);
		else if (catalog == UserMappingRelationId)
			check_option(def, TSK_ON_MAPPING);
		else
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("option \"%s\" is not allowed here", def->defname),
					 errhint("Wrapper millrace_http has options on servers and user mappings only.")));
	}
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
