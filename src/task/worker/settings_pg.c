/*
 * settings_pg.c
 *	  A foreign server of wrapper millrace_http and the current user's mapping, as a worker needs them.
 *
 * Strings lie in a context of their own; what was secret in it is wiped before
 * it is reset.  Changes of servers and mappings are heard by invalidation.
 */
#include "postgres.h"

#include "task/worker/worker.h"

#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "core/address.h"
#include "core/compat.h"
#include "task/http.h"

#define BODY_BUDGET (256 << 20) /* bytes of answers kept at once; one larger than what is left waits in the network */

static bool stale = true;

static void
note_change(Datum arg, int cache, uint32 hash)
{
	stale = true;
}

bool
tsk_settings_stale(void)
{
	return stale;
}

/* Options of the current user's mapping, or of everybody's; NIL if there is none. */
static List *
mapping_options(const ForeignServer *server)
{
	if (!SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(GetUserId()), ObjectIdGetDatum(server->serverid)) &&
		!SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid), ObjectIdGetDatum(server->serverid)))
		return NIL;
	return GetUserMapping(GetUserId(), server->serverid)->options;
}

/* Value of an option, what stands for it where it is not given, or NULL. */
static const char *
text_option(List *from, const char *name)
{
	ListCell   *lc;

	foreach(lc, from)
		if (strcmp(lfirst_node(DefElem, lc)->defname, name) == 0)
			return defGetString(lfirst_node(DefElem, lc));
	for (int i = 0; i < TSK_N_OPTIONS; i++)
		if (strcmp(tsk_options[i].name, name) == 0)
			return tsk_options[i].fallback;
	return NULL;
}

static int64
number_option(List *from, const char *name)
{
	return pg_strtoint64(text_option(from, name));
}

static bool
is_true(List *from, const char *name)
{
	return strcmp(text_option(from, name), "true") == 0;
}

static void
wipe(const char *secret)
{
	if (secret)
		explicit_bzero(unconstify(char *, secret), strlen(secret));
}

static char *
keep(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

void
tsk_load_settings(const char *name, tsk_settings *s)
{
	static bool listening = false;
	ForeignServer *server;
	List	   *mapping;
	MemoryContext old;

	if (!listening)
	{
		CacheRegisterSyscacheCallback(FOREIGNSERVEROID, note_change, (Datum) 0);
		CacheRegisterSyscacheCallback(USERMAPPINGOID, note_change, (Datum) 0);
		listening = true;
	}
	stale = false;
	server = GetForeignServerByName(name, false);
	if (strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, "millrace_http") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" does not belong to foreign-data wrapper millrace_http", name)));
	if (compat_server_aclcheck(server->serverid, GetUserId(), ACL_USAGE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, name);
	mapping = mapping_options(server);

	wipe(s->store.secret_key);
	wipe(s->store.session_token);
	memset(&s->store, 0, sizeof(s->store));
	MemoryContextReset(s->cxt);
	old = MemoryContextSwitchTo(s->cxt);
	s->store.url = keep(text_option(server->options, "url"));
	s->store.region = keep(text_option(server->options, "region"));
	s->store.virtual_hosts = strcmp(text_option(server->options, "addressing"), "virtual") == 0;
	s->store.access_key = keep(text_option(mapping, "access_key"));
	s->store.secret_key = keep(text_option(mapping, "secret_key"));
	s->store.session_token = keep(text_option(mapping, "session_token"));
	s->concurrency = (int) number_option(server->options, "concurrency");
	s->max_attempts = (int) number_option(server->options, "max_attempts");
	s->backoff_ms = (int) number_option(server->options, "backoff_ms");
	s->batch_timeout_ms = (int) number_option(server->options, "batch_timeout_ms");
	memset(&s->net, 0, sizeof(s->net));
	s->net.connections = s->concurrency;
	s->net.connect_timeout_ms = (int) number_option(server->options, "connect_timeout_ms");
	s->net.timeout_ms = (int) number_option(server->options, "timeout_ms");
	s->net.low_speed_bytes = number_option(server->options, "low_speed_bytes");
	s->net.low_speed_ms = (int) number_option(server->options, "low_speed_ms");
	s->net.max_bytes = number_option(server->options, "max_bytes");
	s->net.budget = BODY_BUDGET;
	s->net.ca_pem = keep(text_option(server->options, "ssl_ca_pem"));
	s->net.ca_location = keep(text_option(server->options, "ssl_ca_location"));
	s->net.verify = is_true(server->options, "ssl_verify");
	if (!superuser_arg(server->owner) && !is_true(server->options, "allow_private"))
		s->net.refuses = mr_private_address;
	MemoryContextSwitchTo(old);
}
