/*
 * call_settings_pg.c
 *	  The foreign server of a provider and the role's mapping there, as lane call needs them.
 *
 * A server that is not to be used (dropped, no right to it, a secret that is
 * not there) makes its tasks fail with the reason, so that they go on to their
 * next provider; it holds up nobody else.
 *
 * Memory: strings in the provider's context; what was secret in it is wiped
 * before it is reset.  Changes of servers and mappings are heard by
 * invalidation.
 */
#include "postgres.h"

#include "task/worker/call.h"

#include "access/xact.h"
#include "commands/defrem.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

#include "task/http.h"
#include "task/worker/options_pg.h"
#include "task/worker/secret_pg.h"

#define ANSWER_BYTES (8 << 20)	/* of a model's answer, where max_bytes is not given */
#define BODY_BUDGET (64 << 20)	/* of answers kept at once, a provider; one larger than what is left waits in the network */

static bool stale = true;

static void
note_change(Datum arg, int cache, uint32 hash)
{
	stale = true;
}

void
tsk_doubt_providers(void)
{
	stale = true;
}

/* Since the last call: may any have changed? */
bool
tsk_providers_stale(void)
{
	static bool listening = false;
	bool		was = stale;

	if (!listening)
	{
		CacheRegisterSyscacheCallback(FOREIGNSERVEROID, note_change, (Datum) 0);
		CacheRegisterSyscacheCallback(USERMAPPINGOID, note_change, (Datum) 0);
		listening = true;
	}
	stale = false;
	return was;
}

static double
real_option(List *from, const char *name)
{
	const char *value = tsk_option(from, name);

	return value ? strtod(value, NULL) : 0;
}

static void
forget(tsk_provider *p)
{
	tsk_wipe(p->api_key);
	tsk_wipe_store(&p->store);
	memset(&p->net, 0, sizeof(p->net));
	memset(&p->limits, 0, sizeof(p->limits));
	p->api_key = p->model = p->embedding_model = p->error = NULL;
	p->server = InvalidOid;
	MemoryContextReset(p->cxt);
}

/* A number that differs where any of this does. */
static uint64
add_text(uint64 version, const char *text)
{
	return text ? hash_bytes_extended((const unsigned char *) text, (int) strlen(text), version) : hash_combine64(version, 1);
}

static uint64
add_options(uint64 version, List *options)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		version = add_text(add_text(version, def->defname), defGetString(def));
	}
	return version;
}

/* Has it changed since it was read?  Then forget what was. */
static void
read_server(tsk_provider *p)
{
	ForeignServer *server = mr_use_server(p->queue->name, "millrace_http");
	List	   *options = server->options;
	List	   *mapping = mr_mapping_options(server);
	const char *api = tsk_option(options, "api");
	bool		private = mr_private_allowed(server);
	char	   *api_key = tsk_secret(mapping, "api_key");
	char	   *secret_key = tsk_secret(mapping, "secret_key");
	uint64		version = add_options(add_options(hash_combine64(server->serverid, private), options), mapping);
	MemoryContext old;

	version = add_text(add_text(version, api_key), secret_key); /* files may have changed */
	if (OidIsValid(p->server) && p->version == version)
	{
		tsk_wipe(api_key);
		tsk_wipe(secret_key);
		return;
	}
	tsk_retire_link(p);
	forget(p);
	old = MemoryContextSwitchTo(p->cxt);
	if (api == NULL || strcmp(api, "local") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is not called over HTTP: its api is %s", p->queue->name, api ? api : "not given")));
	p->stores = strcmp(api, "s3") == 0;
	p->api = strcmp(api, "openai") == 0 ? TSK_API_OPENAI : TSK_API_OLLAMA;
	tsk_read_store(options, mapping, tsk_keep(secret_key), &p->store);
	p->api_key = tsk_keep(api_key);
	tsk_wipe(api_key);
	tsk_wipe(secret_key);
	p->model = tsk_keep(tsk_option(options, "model"));
	p->embedding_model = tsk_keep(tsk_option(options, "embedding_model"));
	p->stream = strcmp(tsk_option(options, "stream"), "true") == 0;

	p->limits.concurrency = (int) tsk_whole_option(options, "concurrency");
	p->limits.requests_per_minute = tsk_whole_option(options, "requests_per_minute");
	p->limits.tokens_per_minute = tsk_whole_option(options, "tokens_per_minute");
	p->limits.cost_per_minute = real_option(options, "cost_per_minute");
	p->limits.cost_per_1k = real_option(options, "cost_per_1k");
	p->limits.tenant_requests_per_minute = tsk_whole_option(options, "tenant_requests_per_minute");
	p->limits.tenant_tokens_per_minute = tsk_whole_option(options, "tenant_tokens_per_minute");
	p->limits.tenant_cost_per_minute = real_option(options, "tenant_cost_per_minute");

	p->net.connections = p->limits.concurrency;
	p->net.budget = BODY_BUDGET;
	tsk_read_net(server, &p->net);
	/* A model thinks before it says its first word, and says less than objects have. */
	if (!p->stores && mr_option_value(options, "low_speed_bytes") == NULL)
		p->net.low_speed_bytes = 0;
	if (!p->stores && mr_option_value(options, "max_bytes") == NULL)
		p->net.max_bytes = ANSWER_BYTES;
	p->version = version;
	p->server = server->serverid;
	MemoryContextSwitchTo(old);
}

/* Read the server; calls under way end as they began. */
void
tsk_load_provider(tsk_provider *p)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		read_server(p);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(old);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		CurrentResourceOwner = owner;
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			ReThrowError(error);
		tsk_retire_link(p);
		forget(p);
		strlcpy(p->sqlstate, unpack_sql_state(error->sqlerrcode), sizeof(p->sqlstate));
		p->error = MemoryContextStrdup(p->cxt, error->message ? error->message : "unknown error");
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
}
