/*
 * server_pg.c
 *	  Foreign servers and user mappings of our wrappers: an allow-list of options,
 *	  and reading them.
 *
 * Secrets belong into user mappings, which only their owner and superusers see;
 * on a server anyone who may use it would read them.  What opens private
 * networks, reads the server's files or weakens TLS is a superuser's to set.
 *
 * Memory: the caller's context.  Locks: none but the catalogs'.
 */
#include "postgres.h"

#include "core/server_pg.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "core/compat.h"

static const mr_option *
find_option(const mr_wrapper *wrapper, const char *name)
{
	for (int i = 0; i < wrapper->n_options; i++)
		if (strcmp(wrapper->options[i].name, name) == 0)
			return &wrapper->options[i];
	return NULL;
}

/* The names allowed at a place, for a hint. */
static char *
names_at(const mr_wrapper *wrapper, mr_option_place place)
{
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < wrapper->n_options; i++)
		if (wrapper->options[i].place == place)
			appendStringInfo(&out, "%s%s", out.len ? ", " : "", wrapper->options[i].name);
	return out.data;
}

bool
mr_is_one_of(const char *word, const char *alternatives)
{
	size_t		n = strlen(word);

	for (const char *p = alternatives; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
		if (strncmp(p, word, n) == 0 && (p[n] == '|' || p[n] == '\0'))
			return true;
	return false;
}

static void
check_number(const mr_option *option, const char *value)
{
	char	   *end;
	int64		n = strtoi64(value, &end, 10);

	if (*end != '\0' || n < option->low || n > option->high || strspn(value, "0123456789") > 18)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value \"%s\" for option \"%s\"", value, option->name),
				 errhint("Allowed is a whole number from " INT64_FORMAT " to " INT64_FORMAT ".", option->low, option->high)));
}

static void
check_option(const mr_wrapper *wrapper, DefElem *def, mr_option_place place)
{
	const mr_option *option = find_option(wrapper, def->defname);
	const char *where = place == MR_ON_SERVER ? "a server" : "a user mapping";
	const char *value;

	if (option == NULL || option->place != place)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"%s\" is not allowed on %s of wrapper %s", def->defname, where, wrapper->name),
				 option && option->place == MR_ON_MAPPING ?
				 errhint("It belongs into CREATE USER MAPPING, where only its owner and superusers see it.") :
				 errhint("Options there: %s.", names_at(wrapper, place))));
	if (option->superuser && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set option \"%s\"", def->defname),
				 errdetail("Only a superuser may let a server reach private networks, read files or accept unverified certificates.")));
	value = defGetString(def);
	wrapper->check_value(option, value);
	if (option->words && !mr_is_one_of(value, option->words))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value \"%s\" for option \"%s\"", value, option->name),
				 errhint("Allowed are %s.", option->words)));
	if (option->low < option->high)
		check_number(option, value);
}

List *
mr_check_options(const mr_wrapper *wrapper, Datum options, Oid catalog)
{
	List	   *list = untransformRelOptions(options);
	ListCell   *lc;

	foreach(lc, list)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (catalog == ForeignServerRelationId)
			check_option(wrapper, def, MR_ON_SERVER);
		else if (catalog == UserMappingRelationId)
			check_option(wrapper, def, MR_ON_MAPPING);
		else
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("option \"%s\" is not allowed here", def->defname),
					 errhint("Wrapper %s has options on servers and user mappings only.", wrapper->name)));
	}
	return list;
}

const char *
mr_option_value(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
		if (strcmp(lfirst_node(DefElem, lc)->defname, name) == 0)
			return defGetString(lfirst_node(DefElem, lc));
	return NULL;
}

ForeignServer *
mr_find_server(const char *name, const char *wrapper)
{
	ForeignServer *server = GetForeignServerByName(name, false);

	if (strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, wrapper) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is not a server of wrapper %s", name, wrapper)));
	return server;
}

ForeignServer *
mr_use_server(const char *name, const char *wrapper)
{
	ForeignServer *server = mr_find_server(name, wrapper);

	if (compat_server_aclcheck(server->serverid, GetUserId(), ACL_USAGE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, name);
	return server;
}

List *
mr_mapping_options(const ForeignServer *server)
{
	if (!SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(GetUserId()), ObjectIdGetDatum(server->serverid)) &&
		!SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid), ObjectIdGetDatum(server->serverid)))
		return NIL;
	return GetUserMapping(GetUserId(), server->serverid)->options;
}

/* Nobody but a superuser may use us to look around in our network. */
bool
mr_private_allowed(const ForeignServer *server)
{
	const char *said = mr_option_value(server->options, "allow_private");

	return superuser_arg(server->owner) || (said != NULL && strcmp(said, "true") == 0);
}
