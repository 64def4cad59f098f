/*
 * validator_pg.c
 *	  Options of millrace_kafka servers and user mappings: an allow-list.
 *
 * Secrets belong into user mappings, which only their owner and superusers see;
 * on a server anyone who may use it would read them.  What reads the server's
 * files or weakens TLS is a superuser's to set.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "stream/kafka_options.h"
#include "stream/stream.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(millrace_kafka_validator);

static const kfk_option *
find_option(const char *name)
{
	for (int i = 0; i < KFK_N_OPTIONS; i++)
		if (strcmp(kfk_options[i].name, name) == 0)
			return &kfk_options[i];
	return NULL;
}

/* The names allowed at a place, for a hint. */
static char *
names_at(kfk_option_place place)
{
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < KFK_N_OPTIONS; i++)
		if (kfk_options[i].place == place)
			appendStringInfo(&out, "%s%s", out.len ? ", " : "", kfk_options[i].name);
	return out.data;
}

bool
kfk_is_one_of(const char *word, const char *alternatives)
{
	size_t		n = strlen(word);

	for (const char *p = alternatives; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
		if (strncmp(p, word, n) == 0 && (p[n] == '|' || p[n] == '\0'))
			return true;
	return false;
}

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
check_option(const DefElem *def, kfk_option_place place)
{
	const kfk_option *option = find_option(def->defname);
	const char *where = place == KFK_ON_SERVER ? "a server" : "a user mapping";

	if (option == NULL || option->place != place)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"%s\" is not allowed on %s of wrapper millrace_kafka", def->defname, where),
				 option && option->place == KFK_ON_MAPPING ?
				 errhint("It belongs into CREATE USER MAPPING, where only its owner and superusers see it.") :
				 errhint("Options there: %s.", names_at(place))));
	if (option->superuser && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set option \"%s\"", def->defname),
				 errdetail("Only a superuser may let a server read files or accept unverified certificates.")));
	if (option->values && !kfk_is_one_of(defGetString((DefElem *) def), option->values))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value \"%s\" for option \"%s\"", defGetString((DefElem *) def), def->defname),
				 errhint("Allowed are %s.", option->values)));
	if (*defGetString((DefElem *) def) == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("option \"%s\" must not be empty", def->defname)));
	if (strcmp(def->defname, "schema_registry") == 0)
		check_url(defGetString((DefElem *) def));
}

/* millrace.kafka_validator(text[], oid) -> void */
Datum
millrace_kafka_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	bool		brokers = false;
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (catalog == ForeignServerRelationId)
			check_option(def, KFK_ON_SERVER);
		else if (catalog == UserMappingRelationId)
			check_option(def, KFK_ON_MAPPING);
		else
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("option \"%s\" is not allowed here", def->defname),
					 errhint("Wrapper millrace_kafka has options on servers and user mappings only.")));
		brokers = brokers || strcmp(def->defname, "brokers") == 0;
	}
	if (catalog == ForeignServerRelationId && !brokers)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("option \"brokers\" is missing"),
				 errhint("For example OPTIONS (brokers 'host1:9092,host2:9092').")));
	PG_RETURN_VOID();
}
